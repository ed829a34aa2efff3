"""``compare``: every codec at several strengths on one network, one row each, finished rows kept.

A codec that does not suit the network costs its row, not the comparison: the row then says why. Each message is decoded
from its bytes and counted on the whole training sample. All bounds hold at once with probability ``1 - delta``, because
all messages are words of one prefix code and the helper is the same (docs/theory.md section 2); choosing among them is
free. Not claimed: that a codec's author would not have found better settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from bitcert import clock
from bitcert.canonical import finite, hash_of
from bitcert.certificates.certification import check_holdout, versions
from bitcert.codecs.base import Codec, check_finite, network_helper
from bitcert.codecs.best import is_trained
from bitcert.codecs.registry import options_of
from bitcert.comparison.conclusions import conclude
from bitcert.comparison.counting import Counter
from bitcert.comparison.plan import CompareSettings, Entry, plan_comparison
from bitcert.comparison.records import Comparison, ComparisonRow, Measured, Original, TheoryRow, sizes
from bitcert.counting import Progress
from bitcert.data import Sample
from bitcert.decoder import Helper, as_network
from bitcert.errors import BitcertError
from bitcert.folder import RowStore
from bitcert.network import Network
from bitcert.proof import holdout_bound
from bitcert.random import stream
from bitcert.run import Checkpoint, Run
from bitcert.shards import Here, executor_for, over_ranges
from bitcert.stability.measurement import network_hash
from bitcert.theory.value import Condition

MAX_TEXT = 1000
MOST_NOTES = 20


def compare(
    network: Network | nn.Module,
    sample: Sample,
    settings: CompareSettings | None = None,
    *,
    codecs: Sequence[Codec | str] | None = None,
    holdout: Sample | None = None,
    helper: Helper | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Every codec at several strengths on one network.

    Args:
        network: captured, with its trained values, or a module, which is captured with the first examples.
        sample: the training sample; errors are counted on all of it.
        settings: delta, seed, time for training.
        codecs: names, whose strengths are tried, or codecs with their settings; all of the registry by default.
        holdout: labels never used, to set the bounds beside.
        helper: of all messages, fixed before the data were seen; the usual one of the sample by default.
        folder: where finished rows are kept, so that the same call goes on after an interruption.
        progress: called with the task and the fraction done.

    Raises:
        InputError: the network holds numbers that are not finite, a codec is unknown, or data do not fit.
        SampleReuseError: ``holdout`` shares its examples with ``sample``.
    """
    settings = settings or CompareSettings()
    network = as_network(network, sample, None if helper is None else helper.preprocessing)
    helper = network_helper(network, sample, helper)
    check_finite(network)
    if holdout is not None:
        check_holdout(sample, holdout)
    plan = plan_comparison(network, sample, settings, codecs, holdout)
    started = clock.seconds()
    counter = Counter(network, sample, helper, progress)
    seconds, store = clock.seconds() - started, RowStore(folder, ComparisonRow)
    work = _Work(network, sample, settings, holdout, counter, seconds, store)
    work.add(plan.entries)
    comparison = work.comparison()
    return replace(comparison, conclusions=tuple(conclude(comparison)))


@dataclass(frozen=True, eq=False)
class _Work:
    """The rows so far, and what all of them share; ``seconds`` is what counting the original took.

    ``resumes`` is whether trainings leave checkpoints in the folder of the store.
    """

    network: Network
    sample: Sample
    settings: CompareSettings
    holdout: Sample | None
    counter: Counter
    seconds: float
    store: RowStore[ComparisonRow]
    rows: list[ComparisonRow] = field(default_factory=list)
    resumes: bool = True

    def key(self, entry: Entry) -> str:
        """Hash of everything that determines a row."""
        held = None if self.holdout is None else self.holdout.content_hash
        helper, settings = self.counter.helper, self.settings
        parts = [
            *(versions(), network_hash(self.network), self.sample.content_hash, helper.content_hash, held),
            *(settings.delta, settings.seed, settings.theory_samples, settings.device),
            *(entry.codec.name, repr(entry.codec), entry.seconds),
        ]
        return hash_of(parts)

    def theory_sample(self) -> Sample:
        """Examples shown to the papers' formulas."""
        count = self.settings.theory_samples
        if count >= len(self.sample):
            return self.sample
        chosen = np.sort(stream(self.settings.seed, "compare/theory").permutation(len(self.sample))[:count])
        labels = self.sample.labels[chosen]
        if (labels == labels[0]).all():
            return self.sample  # a training sample is of two classes at least
        return self.sample.take(chosen, f"{self.sample.name} ({count:,} drawn)")

    def add(self, entries: Sequence[Entry]) -> None:
        """The rows of all entries, each computed wherever passes over examples run and kept here as it comes."""
        executor, work = executor_for(len(entries), self.settings.device), self
        if not isinstance(executor, Here):  # a copy of the counter has no progress to tell
            work = replace(self, counter=copy(self.counter), resumes=executor.shares_disk)
        rows = over_ranges(
            lambda place, _: work.made(entries[place]),
            [(place, place + 1) for place in range(len(entries))],
            lambda _, made: self._keep(made),
            *("comparing codecs", self.counter.progress, executor),
        )
        self.rows[:] = chain.from_iterable(rows)

    def made(self, entry: Entry) -> dict[str, ComparisonRow]:
        """The rows of an entry by key, finished ones of an earlier sitting or new ones, until one has a message."""
        found = {}
        for codec in (entry.codec, *entry.instead):
            each = Entry(codec, entry.seconds)
            key = self.key(each)
            row = found[key] = self.store.get(key) or self._new_row(each, key)
            if row.measured is not None:
                break
        return found

    def _keep(self, made: Mapping[str, ComparisonRow]) -> list[ComparisonRow]:
        for key, row in made.items():
            if self.store.get(key) is None:
                self.store.put(key, row)
            checkpoint = self.store.checkpoint(key)
            if checkpoint is not None:
                checkpoint.unlink(missing_ok=True)
            self.rows.append(row)
        return list(made.values())

    def _new_row(self, entry: Entry, key: str) -> ComparisonRow:
        codec, settings = entry.codec, self.settings
        checkpoint = self.store.checkpoint(key) if self.resumes else None
        run = Run(settings.seed, entry.seconds or settings.budget_seconds, settings.delta, settings.device)
        if self.counter.progress is not None:
            run.progress = self.counter.progress
        if checkpoint is not None and is_trained(codec):
            run.checkpoint = Checkpoint(checkpoint, key)
        started = clock.seconds()
        measured: Measured | None = None
        refusal, encoded = "", started
        try:
            message = codec.encode(self.network, self.sample, helper=self.counter.helper, run=run).message
            encoded = clock.seconds()
            measured = self._measured(message)
            measured = replace(measured, count_seconds=round(clock.seconds() - encoded, 3))
        except BitcertError as error:
            refusal, encoded = str(error), max(encoded, clock.seconds())
        return ComparisonRow(
            codec=codec.name,
            label=_short(codec.label),
            options={name: _short(text) for name, text in options_of(codec).items()},
            trained=is_trained(codec),
            budget_seconds=float(entry.seconds),
            seconds=round(encoded - started, 3),
            measured=measured,
            refusal=_short(refusal),
            theory=self._theory(codec),
        )

    def _measured(self, message: bytes) -> Measured:
        """Counts of a message; two strengths that write the same bytes are counted once."""
        digest = hashlib.sha256(message).hexdigest()
        for row in self.rows:
            if row.measured is not None and row.measured.message_sha256 == digest:
                return row.measured
        return self.counter.measure(message, self.settings.delta, self.holdout)

    def _theory(self, codec: Codec) -> TheoryRow:
        try:
            theory = codec.theory(self.network, self.theory_sample())
        except BitcertError as error:
            return TheoryRow("", "", None, None, "", None, problem=_short(str(error)))
        told = {f.name: _short(getattr(theory, f.name)) for f in fields(theory) if f.name != "layers"}
        return TheoryRow(**told)

    def comparison(self) -> Comparison:
        """All rows, without conclusions."""
        network, sample, holdout, delta = self.network, self.sample, self.holdout, self.settings.delta
        held = self.counter.holdout(self.counter.original, holdout)
        if held is not None:
            held = replace(held, bound=holdout_bound(held.errors, held.samples, delta))
        count, counts = self.counter.original_count, sizes(network)
        return Comparison(
            network={"name": "network", "content_hash": network_hash(network), "num_parameters": counts["parameters"]},
            sample={
                "name": sample.name,
                "content_hash": sample.content_hash,
                "num_samples": len(sample),
                "num_classes": sample.num_classes,
            },
            helper={"content_hash": self.counter.helper.content_hash},
            holdout=None if holdout is None else {"name": holdout.name, "content_hash": holdout.content_hash},
            delta=delta,
            settings=asdict(self.settings),
            original=Original(
                **counts,
                errors=count.errors,
                near_ties=count.near_ties,
                samples=count.samples,
                holdout=held,
                seconds=round(self.seconds, 3),
            ),
            rows=tuple(self.rows),
            conclusions=(),
            versions=versions(),
        )


def _short(value: Any) -> Any:
    """A text cut to :data:`MAX_TEXT`, a tuple to :data:`MOST_NOTES`; a number that is not finite is ``None``."""
    if isinstance(value, Condition):
        return Condition(_short(value.name), value.holds, _short(value.detail))
    if isinstance(value, tuple):
        return tuple(map(_short, value[:MOST_NOTES]))
    return value[:MAX_TEXT] if isinstance(value, str) else finite(value)
