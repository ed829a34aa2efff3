"""Errors and output deviations of one message in a single pass over the data.

Errors are counted as :func:`bitcert.counting.count_errors` counts them, batch by batch with the same rule, so that a
certificate of the same message has the same count. The original's logits are computed once and kept where they fit.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import MessageReader
from bitcert.comparison.plan import MOST_LOGITS
from bitcert.comparison.records import DeviationRow, HoldoutCount, Measured, Spread
from bitcert.counting import Classifier, DecisionRule, ErrorCount, Progress, count_batch, count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.network import QuantisedNetwork, base_value
from bitcert.decoder.tensors import FAMILY, read_codes
from bitcert.deviation import DeviationDistribution, OutputDeviation, original_classifier, output_deviation
from bitcert.network import Network
from bitcert.proof import occam_bound

UPPER = 0.99


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
        kept = len(sample) * sample.num_classes <= MOST_LOGITS
        recorder = _Recorder(self.original)
        self.original_count = count_errors(recorder if kept else self.original, sample, self.rule, progress)
        self._logits = torch.cat(recorder.batches) if kept else None

    def holdout(self, classifier: Classifier, holdout: Sample | None) -> HoldoutCount | None:
        """Errors on held-out labels."""
        if holdout is None:
            return None
        count = count_errors(classifier, holdout, self.rule)
        return HoldoutCount(count.errors, count.samples)

    def count(self, classifier: Classifier) -> tuple[ErrorCount, OutputDeviation]:
        """Errors and deviations on the training sample."""
        counting = _Counting(classifier, self.sample, self.rule)
        original = self.original if self._logits is None else _Replay(self._logits)
        deviation = output_deviation(original, counting, self.sample, self.rule.batch_size, self.progress)
        return counting.total, deviation

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


class _Recorder:
    """A classifier that keeps its logits."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.batches: list[torch.Tensor] = []

    def __call__(self, inputs: NDArray[np.generic]) -> torch.Tensor:
        logits = self.classifier(inputs)
        self.batches.append(logits.detach().float().cpu())
        return logits


class _Replay:
    """Logits that were kept, in the order of the sample."""

    def __init__(self, logits: torch.Tensor) -> None:
        self._logits, self._done = logits, 0

    def __call__(self, inputs: NDArray[np.generic]) -> torch.Tensor:
        start, self._done = self._done, self._done + len(inputs)
        return self._logits[start : self._done]


class _Counting:
    """A classifier that counts its errors while it is compared, in the order of the sample."""

    def __init__(self, classifier: Classifier, sample: Sample, rule: DecisionRule) -> None:
        self._classifier, self._labels, self._rule = classifier, sample.labels, rule
        self.total = ErrorCount(0, 0, 0)

    def __call__(self, inputs: NDArray[np.generic]) -> torch.Tensor:
        logits = self._classifier(inputs)
        start = self.total.samples
        labels = self._labels[start : start + len(inputs)]
        self.total = self.total + count_batch(logits, labels, self._rule.tolerance)
        return logits


def numbers_in(message: bytes, helper: Helper) -> int | None:
    """Non-zero numbers that a message holds: integers and coefficients; ``None`` where the family is not known.

    Raises:
        DecodeError: the message cannot be decoded.
    """
    reader = MessageReader(message)
    if reader.family == FAMILY:
        codes = read_codes(reader, helper)
        arrays = [c.integers for code in codes.codes.values() for c in code.coefficients]
        if codes.subspace is not None:
            arrays += [c.integers for c in codes.subspace.coefficients]
        return sum(int(np.count_nonzero(array)) for array in arrays)
    classifier = decode_message(message, helper).classifier
    if not isinstance(classifier, QuantisedNetwork):
        return None
    kinds = {spec.name: spec.kind for spec in classifier.predictor.parameters}
    return sum(int((value != base_value(kinds[name])).sum()) for name, value in classifier.weights.items())


def _deviation_row(deviation: OutputDeviation) -> DeviationRow:
    margins = deviation.compressibility
    return DeviationRow(
        entrywise=_spread(deviation.entrywise),
        l2=_spread(deviation.l2),
        relative=_spread(deviation.relative),
        disagreements=deviation.disagreements,
        margin_loss=None if margins is None else finite(margins.margin_loss),
        margin_loss_l2=None if margins is None else finite(margins.margin_loss_l2),
    )


def _spread(distribution: DeviationDistribution) -> Spread:
    quantiles = distribution.quantiles
    return Spread(finite(quantiles[0.5]), finite(quantiles[UPPER]), finite(distribution.maximum))


def finite(value: float | None) -> float | None:
    """``None`` instead of a number that is not finite.

    >>> finite(float("inf")), finite(2)
    (None, 2.0)
    """
    return None if value is None or not math.isfinite(value) else float(value)
