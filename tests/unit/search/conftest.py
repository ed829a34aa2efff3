"""A clock that tests move by hand, and contenders whose messages are known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

from bitcert import Compressed, Helper, Role, Run, Sample
from bitcert.counting import count_errors
from bitcert.decoder import decode_message
from bitcert.decoder import head as bank_head
from bitcert.search import Contender


class Clock:
    """In place of :func:`bitcert.clock.seconds`."""

    def __init__(self):
        self.now = 1000.0

    def seconds(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("bitcert.clock.seconds", clock.seconds)
    return clock


@pytest.fixture
def steps(monkeypatch):
    """A clock that moves a hundredth of a second at every look: a budget is a number of looks."""
    looks = itertools.count()
    monkeypatch.setattr("bitcert.clock.seconds", lambda: next(looks) / 100)


@pytest.fixture(scope="session")
def points():
    """2,000 points [3]; the class is the sign of the first number."""
    inputs = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
    return Sample(inputs, (inputs[:, 0] > 0).astype(np.int64), 2, Role.TRAIN, "points")


def head_message(slope: int, tilt: int, helper: Helper) -> bytes:
    """A head that looks at the first number ``slope`` times and, wrongly, at the second ``tilt`` times."""
    weights = np.zeros((4, 2), np.int64)
    weights[:2, 1] = slope, tilt
    return bank_head.write(None, weights, helper)[0]


@dataclass
class Fake:
    """A contender that gets better by steps: after ``at`` seconds of its own its tilt is ``tilts[at]``.

    It continues from its checkpoint if ``continues``, and otherwise reaches a tilt only in one go.
    """

    clock: Clock
    tilts: dict[float, int]
    continues: bool = True
    attempts: list[float] = field(default_factory=list)
    steps: int = 0
    kill_at: float = np.inf
    known: dict[tuple, tuple] = field(default_factory=dict)

    def __call__(self, sample: Sample, helper: Helper, run: Run) -> Compressed:
        self.attempts.append(run.budget_seconds)
        state = run.checkpoint.load() if run.checkpoint is not None else None
        if state is not None:
            run.spent_before(float(state[0]["seconds"]))
        best = None
        while True:
            tilt = next(t for s, t in sorted(self.tilts.items(), reverse=True) if run.seconds >= s)
            message, errors = self.counted(tilt, sample, helper)
            candidate = run.consider(f"tilt {tilt}", errors, len(sample), 8 * len(message))
            best = min(best or (candidate.bound, message), (candidate.bound, message))
            if run.fraction >= 1.0:
                return Compressed(best[1], decode_message(best[1], helper).ledger, helper, tuple(run.candidates))
            self.clock.now += 1.0
            self.steps += 1
            if run.checkpoint is not None:
                run.checkpoint.save({"seconds": run.seconds}, {})
            if run.seconds >= self.kill_at:
                raise KeyboardInterrupt
            run.progress("training", run.fraction)

    def counted(self, tilt: int, sample: Sample, helper: Helper) -> tuple[bytes, int]:
        """The message of a tilt and its errors, counted once for one sample and helper."""
        key = (tilt, id(sample), id(helper))
        if key not in self.known:
            message = head_message(1, tilt, helper)
            errors = count_errors(decode_message(message, helper).classifier, sample).errors
            self.known[key] = message, errors, sample, helper  # the last two, so that no other takes their place
        return self.known[key][:2]

    def contender(self, name: str, sample: Sample, **options) -> Contender:
        return Contender(name, bank_head.FAMILY, self, Helper.for_sample(sample), self.continues, **options)


@pytest.fixture
def fake(clock):
    """``fake(tilts, continues=True)`` makes a contender."""
    return lambda tilts, continues=True: Fake(clock, tilts, continues)


@pytest.fixture(scope="session")
def message_of():
    """``message_of(slope, tilt, helper)``."""
    return head_message
