"""The best of several messages, and of several codecs, on one network: decode, count errors, keep the smallest bound.

Every message tried is a word of one prefix code, so choosing among them after seeing the errors costs nothing
(docs/theory.md section 2; the union bound is over all messages). :class:`Search` is the book that every search of this
package keeps, with its checkpoint; :func:`encode_best` and :class:`PlainCodecs` try one codec after the other. Not
guaranteed: that any message found has a bound below one, or that there is time for all codecs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from bitcert.codecs.base import Codec
from bitcert.coding import MessageReader
from bitcert.counting import DecisionRule, count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message, network_head
from bitcert.decoder.tensors import FAMILY, Base, ComposedMessage, read_codes, write
from bitcert.errors import BitcertError, InputError
from bitcert.network import Network, OpaqueModel, Predictor
from bitcert.run import Best, Candidate, Compressed, Run, message_tensor
from bitcert.shards import Here, Shard, executor_for, over_ranges


@dataclass(frozen=True, eq=False)
class State:
    """What a checkpoint holds: JSON values and tensors."""

    values: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Search(Best):
    """The best message so far of codecs on one network.

    Args:
        sample, helper, run: as :class:`~bitcert.run.Best`.
        errors_first: whether of two messages with one bound (as where every bound is 1) that with fewer errors is the
            better one; else the shorter one is.
    """

    def __init__(self, sample: Sample, helper: Helper, run: Run, errors_first: bool = False) -> None:
        super().__init__(sample, helper, run)
        self.errors_first, self.seconds_of_a_count = errors_first, 0.0

    def book(self, name: str, compressed: Compressed) -> Candidate:
        """Decode the message, count its errors on the whole sample, and keep it if its bound is the smallest."""
        started = self.run.seconds
        errors = _errors(compressed, self.sample, self.run)
        self.seconds_of_a_count = self.run.seconds - started
        return self._keep(name, compressed, errors)

    def _keep(self, name: str, compressed: Compressed, errors: int) -> Candidate:
        candidate = self.run.consider(name, errors, len(self.sample), 8 * len(compressed.message))
        self.offer(candidate, compressed)
        return candidate

    def rank(self, candidate: Candidate) -> tuple[float, ...]:
        """By the bound, then by errors or bits."""
        return candidate.bound, candidate.errors if self.errors_first else 0, candidate.message_bits

    def try_each(
        self, codecs: Sequence[Codec], network: Network, task: str = "trying codecs", *, timed: bool = False
    ) -> Compressed:
        """Book the message of one codec after the other, the first one at least, until the run is stopped.

        In this process each has an equal share of the time that is left, and no checkpoint. Those that train nothing
        are tried wherever passes over examples run, and booked in their order; there each may use all that is left.

        Args:
            codecs: at least one; what a codec refuses for this network is skipped while another one works.
            network: captured, with its trained values.
            task: reported as progress when a message is booked.
            timed: also end when the time is over, and keep a checkpoint: the next codec starts where the last share
                of time ended.

        Raises:
            BitcertError: every codec refuses this network; the first refusal is told.
        """
        run, sample, helper = self.run, self.sample, self.helper
        state = self.resume() if timed else None
        first = done = 0 if state is None else int(state.values["done"])
        executor = Here() if any(map(is_trained, codecs)) else executor_for(len(codecs) - first)
        waiting, refusals = dict[int, Outcome](), list[BitcertError]()

        def part(place: int) -> Run:
            return run.share(max(1.0, (run.budget_seconds - run.seconds) / (len(codecs) - place)))

        def check_time() -> None:
            if self.best is not None and (run.stopped or (timed and run.fraction >= 1.0)):
                raise _OutOfTime

        def keep(shard: Shard, outcome: Outcome) -> None:
            nonlocal done
            waiting[shard[0]] = outcome
            while done in waiting:
                found = waiting.pop(done)
                if isinstance(found, BitcertError):
                    refusals.append(found)
                else:
                    self._keep(codecs[done].label, *found)
                done += 1
                if timed and self.best is not None:
                    self.save(State({"done": done}))
                check_time()

        apart = Run(run.seed, max(1.0, run.budget_seconds - run.seconds), run.delta)  # a worker has nobody to tell
        given = part if isinstance(executor, Here) else lambda place: apart
        places = [(place, place + 1) for place in range(first, len(codecs))]
        with suppress(_OutOfTime):
            check_time()
            over_ranges(
                lambda k, _: _attempt(codecs[k], network, sample, helper, given(k)),
                *(places, keep, task, run.progress, executor),
            )
        if self.best is None:
            raise refusals[0]
        return self.result()

    @property
    def predictor(self) -> Predictor:
        """The network's structure, for codecs that train.

        Raises:
            InputError: the helper has none.
        """
        if self.helper.predictor is None:
            raise InputError("a helper with the network's architecture", "none", "pass Helper(predictor=...)")
        return self.helper.predictor

    @property
    def device(self) -> str:
        """Where to train: the run's device, for what was captured."""
        return "cpu" if isinstance(self.predictor, OpaqueModel) else self.run.device

    def propose(self, name: str, message: ComposedMessage) -> Candidate:
        """Write the message and book it."""
        self.run.progress("judging a candidate", 0.0)
        return self.book(name, Compressed(*write(self.helper, message), self.helper))

    def save(self, state: State) -> None:
        """Write the run's checkpoint, if it has one: this state, and what was found."""
        if self.run.checkpoint is None:
            return
        values = dict(state.values) | {
            "search": {
                "seconds_of_a_count": self.seconds_of_a_count,
                "best": None if self.best is None else asdict(self.best.candidates[0]),
                "candidates": [asdict(candidate) for candidate in self.run.candidates],
                "seconds": self.run.seconds,
            }
        }
        best = message_tensor(b"" if self.best is None else self.best.message)
        self.run.checkpoint.save(values, {**state.tensors, "search/best": best})

    def resume(self) -> State | None:
        """Go on from the run's checkpoint: candidates, best message and seconds are restored, the rest is returned."""
        loaded = self.run.checkpoint.load() if self.run.checkpoint is not None else None
        if loaded is None:
            return None
        values: Any = loaded[0]
        found, message = values["search"], loaded[1]["search/best"].numpy().tobytes()
        self.run.candidates[:] = [Candidate(**candidate) for candidate in found["candidates"]]
        self.seconds_of_a_count = float(found["seconds_of_a_count"])
        if message:
            ledger = decode_message(message, self.helper).ledger
            self.best = Compressed(message, ledger, self.helper, (Candidate(**found["best"]),))
        self.run.spent_before(float(found["seconds"]))
        return State(values, loaded[1])


class _OutOfTime(Exception):
    """No further codec is tried."""


Outcome = tuple[Compressed, int] | BitcertError
"""A message with its errors on the sample, or why there is none."""


def _attempt(codec: Codec, network: Network, sample: Sample, helper: Helper, run: Run) -> Outcome:
    try:
        compressed = codec.encode(network, sample, helper=helper, run=run)
        return compressed, _errors(compressed, sample, run)
    except BitcertError as error:
        return error


def _errors(compressed: Compressed, sample: Sample, run: Run) -> int:
    classifier = decode_message(compressed.message, compressed.helper).classifier
    return count_errors(classifier, sample, DecisionRule(compressed.helper.batch_size), run.progress).errors


def is_trained(codec: Codec | type[Codec]) -> bool:
    """Whether encoding trains on the sample for as long as its run allows."""
    return bool(getattr(codec, "trained", False))


def encode_best(codecs: Sequence[Codec], network: Network, sample: Sample, helper: Helper, run: Run) -> Compressed:
    """The message with the smallest bound among the codecs' messages; ``run.candidates`` lists all that were tried.

    Codecs that train nothing come first; those that train share what is left of the time budget.

    Args:
        codecs: at least one.
        network: captured, with its trained values.
        sample: the training sample, on which errors are counted.
        helper: fixed before the data were seen; public weights in it that the best message does not use are left out.
        run: seed, time budget for the codecs that train, delta, progress; its checkpoint is used by a lone codec.

    Raises:
        BitcertError: as :meth:`Search.try_each`.
    """
    if len(codecs) == 1 and is_trained(codecs[0]):
        return without_unused_weights(codecs[0].encode(network, sample, helper=helper, run=run))
    ordered = sorted(codecs, key=is_trained)
    return without_unused_weights(Search(sample, helper, run).try_each(ordered, network))


def without_unused_weights(compressed: Compressed) -> Compressed:
    """The same message without public weights in the helper, if no tensor refers to them."""
    if compressed.helper.weights is None:
        return compressed
    reader = MessageReader(compressed.message)
    if reader.family == network_head.FAMILY:
        return compressed
    codes = read_codes(reader, compressed.helper).codes.values() if reader.family == FAMILY else ()
    if any(code.base is Base.FILE for code in codes):
        return compressed
    return replace(compressed, helper=replace(compressed.helper, weights=None))


@dataclass(frozen=True, eq=False)
class PlainCodecs:
    """The compressor of a given network by codecs that train nothing; it continues from its checkpoint."""

    codecs: Sequence[Codec]
    network: Network

    def __call__(self, sample: Sample, helper: Helper, run: Run) -> Compressed:
        """The best message of as many codecs as there is time for, see :meth:`Search.try_each`."""
        return Search(sample, helper, run, errors_first=True).try_each(self.codecs, self.network, timed=True)
