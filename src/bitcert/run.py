"""What every compressor shares: its result, its best message so far, its budget, its checkpoints, how it is stopped.

A search gives each of its compressors a part of its run, with a clock and a checkpoint of its own: :meth:`Run.share`.
:meth:`Run.stop` ends a run and all its parts early, as if their time were over; compressors watch ``run.fraction`` (or
``run.stopped`` where they follow a time fixed beforehand) and return the best message they have. Checkpoints are
safetensors files (no pickle) written under a temporary name and renamed, so that a killed run leaves a whole checkpoint
or none, and a rerun goes on from it. :class:`Best` keeps the best message of a search, books every candidate, looks at
the clock, and writes and reads the checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bitcert import clock
from bitcert.coding import Ledger
from bitcert.counting import Progress
from bitcert.data import Sample
from bitcert.decoder import Decoded, Helper, decode_message
from bitcert.errors import DecodeError, InputError
from bitcert.locking import replacing
from bitcert.proof import occam_bound


@dataclass(frozen=True)
class Candidate:
    """One message that was tried: selection among them costs nothing, each is a word of one prefix code.

    ``bound`` is the binomial bound at the search's delta; ``seconds`` the time since the run began. Where ``estimated``
    the errors are those on a part of the sample, scaled up, or a disagreement was predicted: a certificate counts.
    ``abstains`` is the exponent of the threshold that a surrogate abstains at, where one was chosen
    (:mod:`bitcert.decoder.abstaining`); its bits are counted.
    """

    name: str
    errors: int
    message_bits: int
    bound: float
    seconds: float
    estimated: bool = False
    abstains: int | None = None

    @property
    def rank(self) -> tuple[float, int, int]:
        """Smaller is better; where every bound is 1, fewer errors still are."""
        return self.bound, self.errors, self.message_bits


@dataclass(frozen=True, eq=False)
class Compressed:
    """The outcome of a compression: the message, its ledger, the helper it needs, and how it was found.

    A search that had a choice names what the message is of (``option``), gives the best message of every other option,
    best first (``others``), and says of the options that have none why (``missing``).
    """

    message: bytes
    ledger: Ledger
    helper: Helper
    candidates: tuple[Candidate, ...] = ()
    option: str = ""
    others: tuple[Compressed, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def bound(self) -> float:
        """Of the best candidate; 1 where none is known."""
        return min((candidate.bound for candidate in self.candidates), default=1.0)


@dataclass
class Checkpoint:
    """A file of tensors and JSON values that survives a killed process.

    Args:
        path: the safetensors file.
        identity: hash of everything the run depends on; a file of another identity is ignored.
    """

    path: Path
    identity: str

    def save(self, values: Mapping[str, object], tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the checkpoint by these JSON-able values and tensors.

        Raises:
            OSError: when the disk is full or fails; the last checkpoint is then still there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"identity": self.identity, "values": json.dumps(dict(values))}
        whole = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        with replacing(self.path) as partial:
            try:
                save_file(whole, partial, metadata)
            except SafetensorError as error:
                raise OSError(f"no checkpoint at {partial}: {error}") from error

    def load(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """The last saved state, or ``None`` when there is none of this identity that can be read."""
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("identity") != self.identity:
                    return None
                values = json.loads(metadata["values"])
                return values, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError):
            return None

    def remove(self) -> None:
        """Delete the file, if any."""
        self.path.unlink(missing_ok=True)

    def part(self, name: str) -> Checkpoint:
        """The checkpoint beside this one of a part of the run with this name; any name will do."""
        short = hashlib.sha256(name.encode()).hexdigest()[:12]
        return Checkpoint(self.path.with_name(f"{self.path.stem}.{short}{self.path.suffix}"), f"{self.identity}/{name}")


def check_seed(seed: int) -> None:
    """Refuse a negative seed.

    Raises:
        InputError: it is negative.
    """
    if seed < 0:
        raise InputError("a --seed of 0 or more", str(seed), "give e.g. 0")


@dataclass
class Run:
    """One compression run: seed, time budget, device, where to report progress and keep checkpoints.

    Args:
        seed: for the named random streams.
        budget_seconds: the search stops after this long and the best message so far is used.
        delta: at which candidates are compared (the certificate's own).
        device: ``"cpu"`` or ``"cuda"``, for training only; errors are counted on the CPU.
        progress: called with the task and the fraction done.
        checkpoint: where to keep the state, or ``None``.
        watch: called with every candidate that is booked.

    Raises:
        InputError: a negative seed.

    Attributes:
        candidates: what was booked so far.
        stopped: whether :meth:`stop` was called, here or on the run this one is a part of.
    """

    seed: int = 0
    budget_seconds: float = 300.0
    delta: float = 0.05
    device: str = "cpu"
    progress: Progress = lambda task, fraction: None
    checkpoint: Checkpoint | None = None
    candidates: list[Candidate] = field(default_factory=list)
    watch: Callable[[Candidate], None] = lambda candidate: None
    stopped: bool = field(default=False, init=False)
    _parts: list[Run] = field(default_factory=list, init=False, repr=False)
    _started: float = field(default_factory=lambda: clock.seconds())

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    def seconds(self) -> float:
        """Seconds since the run began (earlier, interrupted sittings included)."""
        return clock.seconds() - self._started

    def spent_before(self, seconds: float) -> None:
        """Count the seconds an interrupted run had already used."""
        self._started = clock.seconds() - seconds

    @property
    def fraction(self) -> float:
        """Fraction of the time budget used, at most 1; 1 once the run is stopped."""
        return 1.0 if self.stopped else min(1.0, self.seconds / self.budget_seconds)

    def stop(self) -> None:
        """End this run and its parts now, from any thread or signal handler: their time counts as used."""
        self.stopped = True
        # Some compressors plan with the seconds themselves.
        self.budget_seconds = max(1e-9, min(self.budget_seconds, self.seconds))
        for part in list(self._parts):
            part.stop()

    def share(self, seconds: float, name: str = "") -> Run:
        """A part of this run: a budget and a clock of its own, and it stops when this run is stopped.

        With a name its candidates are booked here too, under that name, its progress is shown as that of the name,
        and it has a checkpoint of its own if this run has one. Without a name it has no checkpoint, what it books
        stays with it, and its progress is reported as it comes.
        """
        part = Run(self.seed, seconds, self.delta, self.device, self.progress)
        if name:
            part.progress = lambda task, fraction: self.progress(name, part.fraction)
            part.checkpoint = self.checkpoint.part(name) if self.checkpoint is not None else None
            part.watch = lambda candidate: self._book(
                replace(candidate, name=f"{name}: {candidate.name}", seconds=self.seconds)
            )
        self._parts.append(part)
        if self.stopped:
            part.stop()
        return part

    def consider(self, name: str, errors: int, samples: int, message_bits: int, estimated: bool = False) -> Candidate:
        """Book a candidate message and return it with its bound."""
        bound = occam_bound(errors, samples, message_bits, self.delta).binomial
        candidate = Candidate(name, errors, message_bits, bound, self.seconds, estimated)
        self._book(candidate)
        return candidate

    def _book(self, candidate: Candidate) -> None:
        self.candidates.append(candidate)
        self.watch(candidate)


def message_tensor(message: bytes) -> torch.Tensor:
    """The bytes of a message as a tensor ``[bytes]`` for a checkpoint; ``.numpy().tobytes()`` gives them back."""
    return torch.from_numpy(np.frombuffer(message, dtype=np.uint8).copy())


class Best:
    """The best message so far of one search, with its clock and its checkpoint.

    A search makes words of one prefix code, books each with its errors on the whole sample, and keeps the best one;
    choosing costs nothing (docs/theory.md section 2). Subclasses make the words.

    Args:
        sample: the training sample.
        helper: what the messages are decoded with.
        run: seed, budget, progress and checkpoint.

    Attributes:
        best: the best message with its candidate, or ``None`` before there is one.
    """

    def __init__(self, sample: Sample, helper: Helper, run: Run) -> None:
        self.sample, self.helper, self.run = sample, helper, run
        self.best: Compressed | None = None

    @property
    def bound(self) -> float:
        """Of the best message; infinite before there is one."""
        return math.inf if self.best is None else self.rank(self.best.candidates[0])[0]

    def out_of_time(self, until: float = 1.0, task: str = "training") -> bool:
        """Whether that fraction of the budget is used; tells the progress."""
        self.run.progress(task, self.run.fraction)
        return self.run.fraction >= until

    def consider(self, name: str, errors: int, message: bytes, ledger: Ledger, estimated: bool = False) -> Candidate:
        """Book a message with its errors on the whole sample, or an estimate of them; keep it if it is the best one."""
        candidate = self.run.consider(name, errors, len(self.sample), 8 * len(message), estimated)
        self.offer(candidate, Compressed(message, ledger, self.helper))
        return candidate

    def offer(self, candidate: Candidate, compressed: Compressed) -> None:
        """Keep a message that was booked, if it is the best one."""
        if self.best is None or self.rank(candidate) < self.rank(self.best.candidates[0]):
            self.best = replace(compressed, candidates=(candidate,))

    def rank(self, candidate: Candidate) -> tuple[float, ...]:
        """Smaller is better; of equals the first one is kept."""
        return (candidate.bound,)

    def is_best(self, candidate: Candidate) -> bool:
        """Whether the best message is the one that was booked as this candidate."""
        return self.best is not None and self.best.candidates[0] is candidate

    def result(self) -> Compressed:
        """The best message (at least one must have been booked), and all candidates."""
        assert self.best is not None
        return replace(self.best, candidates=tuple(self.run.candidates))

    def write_checkpoint(self, **values: object) -> None:
        """Write the run's checkpoint, if it has one: the best message, and the values that the search needs besides."""
        if self.run.checkpoint is None or self.best is None:
            return
        kept = {**values, "best": asdict(self.best.candidates[0]), "seconds": self.run.seconds}
        self.run.checkpoint.save(kept, {"message": message_tensor(self.best.message)})

    def read_checkpoint(self) -> tuple[Mapping[str, Any], Decoded] | None:
        """Restore the best message and the seconds from the run's checkpoint; the values, and the message decoded.

        ``None`` where there is no checkpoint, or none that the present program can decode.
        """
        state = self.run.checkpoint.load() if self.run.checkpoint is not None else None
        if state is None or "best" not in state[0]:
            return None
        values, message = state[0], state[1]["message"].numpy().tobytes()
        try:
            decoded = decode_message(message, self.helper)
        except DecodeError:
            return None
        self.run.spent_before(float(values["seconds"]))
        self.best = Compressed(message, decoded.ledger, self.helper, (Candidate(**values["best"]),))
        return values, decoded
