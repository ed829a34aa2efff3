"""Counts of messages beside the original network: errors, deviations of the outputs, held-out errors.

Errors are counted as :func:`bitcert.counting.count_errors` counts them, batch by batch with the same rule, so that a
certificate of the same message has the same count. The original's logits are computed once and kept where they fit.
Deviations are those of :mod:`bitcert.comparison.deviation`.
"""

from __future__ import annotations

import hashlib
import operator
from functools import partial, reduce
from typing import Any

import torch

from bitcert.canonical import finite
from bitcert.comparison.deviation import (
    UPPER,
    Columns,
    DeviationDistribution,
    OutputDeviation,
    original_classifier,
    paired_outputs,
)
from bitcert.comparison.plan import MOST_LOGITS
from bitcert.comparison.records import DeviationRow, HoldoutCount, Measured, Spread, numbers_in
from bitcert.counting import (
    Classifier,
    DecisionRule,
    ErrorCount,
    Level,
    Progress,
    count_batch,
    count_errors,
    one_pass,
    one_way,
)
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.network import Network
from bitcert.proof import occam_bound
from bitcert.shards import Part, Task, in_shards


class Counter:
    """The original's outputs on a sample, and counts of messages beside them.

    Args:
        network: the original.
        sample: the training sample.
        helper: of all messages.
        progress: called with the task and the fraction done.
    """

    def __init__(self, network: Network, sample: Sample, helper: Helper, progress: Progress | None = None) -> None:
        self.sample, self.helper, self.progress = sample, helper, progress
        self.rule = DecisionRule(helper.batch_size)
        self.original: Classifier = original_classifier(network, helper)
        self._kept = len(sample) * sample.num_classes <= MOST_LOGITS
        counts, logits = zip(*self._in_shards(self._count_original), strict=True)
        self.original_count = reduce(operator.add, counts)
        self._logits = torch.cat(logits) if self._kept else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "progress": None}  # which stays in this process

    def _in_shards(self, task: Task[Part]) -> list[Part]:
        return in_shards(task, len(self.sample), self.rule.batch_size, "comparing outputs", self.progress)

    def _count_original(self, start: int, stop: int) -> tuple[ErrorCount, torch.Tensor]:
        """Errors of the original, and its logits if they are kept."""
        total, kept = ErrorCount(0, 0, 0), [torch.empty(0, self.sample.num_classes)]
        evaluate = one_way(self.original, self.sample)
        for (ways,), labels in one_pass([evaluate], self.sample, self.rule.batch_size, within=(start, stop)):
            total = total + ways.count(labels, self.rule, Level.CERTIFIED)
            kept += [ways.single.float()] if self._kept else []
        return total, torch.cat(kept)

    def holdout(self, classifier: Classifier, holdout: Sample | None) -> HoldoutCount | None:
        """Errors on held-out labels."""
        if holdout is None:
            return None
        count = count_errors(classifier, holdout, self.rule)
        return HoldoutCount(count.errors, count.samples)

    def count(self, classifier: Classifier) -> tuple[ErrorCount, OutputDeviation]:
        """Errors and deviations on the training sample."""
        counts, columns = zip(*self._in_shards(partial(self._count, classifier)), strict=True)
        return reduce(operator.add, counts), Columns.joined(columns).summary()

    def _count(self, classifier: Classifier, start: int, stop: int) -> tuple[ErrorCount, Columns]:
        original = self.original
        if self._logits is not None:
            kept = iter(torch.split(self._logits[start:stop], self.rule.batch_size))
            original = lambda _: next(kept)  # noqa: E731
        total, parts = ErrorCount(0, 0, 0), []
        for f, g, labels in paired_outputs((original, classifier), self.sample, self.rule.batch_size, start, stop):
            total = total + count_batch(g, labels, self.rule.tolerance)
            parts.append(Columns.of(f, g, labels, self.sample.has_labels))
        return total, Columns.joined(parts)

    def measure(self, message: bytes, delta: float, holdout: Sample | None) -> Measured:
        """Everything that is counted of a message; its seconds are filled in by the caller.

        Raises:
            DecodeError: the message cannot be decoded.
        """
        classifier = decode_message(message, self.helper).classifier
        count, deviation = self.count(classifier)
        bits = 8 * len(message)
        return Measured(
            message_bits=bits,
            message_sha256=hashlib.sha256(message).hexdigest(),
            parameters=numbers_in(message, self.helper),
            errors=count.errors,
            near_ties=count.near_ties,
            samples=count.samples,
            bound=occam_bound(count.errors, count.samples, bits, delta).binomial,
            holdout=self.holdout(classifier, holdout),
            deviation=_deviation_row(deviation),
            count_seconds=0.0,
        )


def _deviation_row(deviation: OutputDeviation) -> DeviationRow:
    whole = deviation.compressibility
    return DeviationRow(
        entrywise=_spread(deviation.entrywise),
        l2=_spread(deviation.l2),
        relative=_spread(deviation.relative),
        disagreements=deviation.disagreements,
        margin_loss=None if whole is None else finite(whole.margin_loss),
        margin_loss_l2=None if whole is None else finite(whole.margin_loss_l2),
    )


def _spread(distribution: DeviationDistribution) -> Spread:
    quantiles = distribution.quantiles
    return Spread(finite(quantiles[0.5]), finite(quantiles[UPPER]), finite(distribution.maximum))
