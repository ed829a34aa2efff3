"""Counting errors of a decoded classifier with a fixed decision rule.

An example counts as an error unless the logit of its label exceeds every other by more than a tolerance relative to
the largest logit: ties are errors (docs/theory.md section 1), and so are near-ties, whose winner might change with the
machine, the thread count or the batch size. Logits that are not finite are errors too.

A certificate counts in two ways (docs/theory.md section 5, rounding): float32 in batches, and float64 in half
batches. An example is right only if it is right in both ways, by more than the tolerance and by more than
``rounding`` times the largest difference between its logits in the two ways. An ill-conditioned network, whose float32
logits are mostly rounding error, loses the examples that another machine might decide otherwise.

A reviewer's machine rounds differently, so a claim is checked between two counts (:class:`Level`): what is wrong there
beyond doubt, and what might be. NOT guaranteed: that code outside the program (an opaque module) computes the same
function in both precisions; where it cannot run in float64 the second way is float32 in another batch size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.data import Sample
from bitcert.errors import InputError

Values = NDArray[np.generic]
Labels = NDArray[np.int64]

Classifier = Callable[[Values], torch.Tensor]
"""Maps raw inputs ``[batch, ...]`` to logits ``[batch, classes]``."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done."""


class FloatClassifier(ABC):
    """A classifier that computes in float32 when it is called, and in float64 on request; what decoders return."""

    @abstractmethod
    def logits(self, inputs: Values, dtype: torch.dtype) -> torch.Tensor:
        """Logits ``[batch, classes]`` of raw inputs, computed in ``dtype`` throughout from the same float32 weights."""

    def __call__(self, inputs: Values) -> torch.Tensor:
        """Logits ``[batch, classes]`` of raw inputs ``[batch, ...]``, float32."""
        return self.logits(inputs, torch.float32)


@dataclass(frozen=True)
class DecisionRule:
    """How logits become a decision: float32 in batches, gaps within ``tolerance`` count as errors.

    Args:
        batch_size: examples evaluated at a time.
        tolerance: a top-two gap of at most ``tolerance * max |logit|`` is a near-tie.
        rounding: so is one of at most ``rounding`` times the largest difference between the two ways of counting.
    """

    batch_size: int = 1000
    tolerance: float = 1e-4
    dtype: str = "float32"
    rounding: float = 16.0

    def describe(self, double: bool) -> dict[str, object]:
        """What a certificate says of the rule; ``double`` is whether the second way is float64."""
        return {
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "tolerance": self.tolerance,
            "second_dtype": "float64" if double else self.dtype,
            "second_batches": "halves of the first",
            "rounding": self.rounding,
        }


class Level(Enum):
    """How strictly an example is judged.

    A certificate counts at ``CERTIFIED``. Another machine's logits differ by rounding, so a reviewer counts at the
    other two: ``LENIENT`` finds only errors beyond doubt (half the tolerance in float64, or decided otherwise in
    float32), ``STRICT`` whatever any machine may have counted (twice the tolerance, sixteen times the rounding).
    """

    LENIENT = "lenient"
    CERTIFIED = "certified"
    STRICT = "strict"


_STRICT_ROUNDING = 16.0
"""How much larger than here another machine's rounding error of one example may be."""


@dataclass(frozen=True)
class ErrorCount:
    """Errors of a classifier on a sample (near-ties included), and how many near-ties there were.

    ``rounding`` of the near-ties have a clear gap in float64: they are counted because float32 might decide otherwise.
    """

    errors: int
    near_ties: int
    samples: int
    rounding: int = 0

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(
            self.errors + other.errors,
            self.near_ties + other.near_ties,
            self.samples + other.samples,
            self.rounding + other.rounding,
        )

    @property
    def rate(self) -> float:
        """Fraction of errors."""
        return self.errors / self.samples


@dataclass(frozen=True, eq=False)
class TwoWays:
    """Logits ``[batch, classes]`` of one batch computed in two ways, both as float64 numbers.

    Attributes:
        single: computed in float32.
        double: computed in float64 (or in float32 in other batches, where float64 is not to be had).
    """

    single: torch.Tensor
    double: torch.Tensor

    @property
    def finite(self) -> torch.Tensor:
        """Whether all logits of both ways are numbers, ``[batch]``."""
        return torch.isfinite(self.single).all(1) & torch.isfinite(self.double).all(1)

    @property
    def size(self) -> torch.Tensor:
        """Largest ``|logit|`` of either way, ``[batch]``."""
        return torch.maximum(self.single.abs().amax(1), self.double.abs().amax(1))

    @property
    def difference(self) -> torch.Tensor:
        """Largest difference between the ways, ``[batch]``; infinite where a logit is not finite."""
        return (self.single - self.double).abs().amax(1).nan_to_num(nan=torch.inf, posinf=torch.inf)

    def slack(self, rule: DecisionRule, level: Level) -> torch.Tensor:
        """By how much a logit must exceed another to count as larger in both ways, ``[batch]``."""
        near = rule.tolerance * self.size
        if level is Level.LENIENT:
            return 0.5 * near
        rounding = rule.rounding * self.difference
        if level is Level.CERTIFIED:
            return torch.maximum(near, rounding)
        return torch.maximum(2.0 * near, _STRICT_ROUNDING * rounding)

    def exceeds(self, single: torch.Tensor, double: torch.Tensor, rule: DecisionRule, level: Level) -> torch.Tensor:
        """Whether gaps ``[batch]`` of the two ways are clear; at ``LENIENT`` float32 must only have the same sign."""
        slack = self.slack(rule, level)
        least_single = torch.zeros_like(slack) if level is Level.LENIENT else slack
        return (single > least_single) & (double > slack) & self.finite


def margins(logits: torch.Tensor, labels: Labels) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Margin of the label, gap between the two largest logits and largest ``|logit|``, each ``[batch]`` float64."""
    logits = logits.double()
    target = torch.tensor(labels)[:, None]
    own = logits.gather(1, target)[:, 0]
    others = logits.scatter(1, target, -torch.inf).amax(1)
    top = logits.topk(2, dim=1).values
    return own - others, top[:, 0] - top[:, 1], logits.abs().amax(1)


def count_batch(logits: torch.Tensor, labels: Labels, tolerance: float) -> ErrorCount:
    """Errors and near-ties of one batch of logits ``[batch, classes]``, computed in one way."""
    margin, gap, size = margins(logits, labels)
    finite = torch.isfinite(logits).all(1)
    correct = (margin > tolerance * size) & finite
    near_tie = (gap <= tolerance * size) | ~finite
    return ErrorCount(int((~correct).sum()), int(near_tie.sum()), len(labels))


def clear_first_place(ways: TwoWays, rule: DecisionRule, level: Level) -> torch.Tensor:
    """Whether both ways put the same class clearly first, ``[batch]``."""
    gaps = [top[:, 0] - top[:, 1] for top in (way.topk(2, dim=1).values for way in (ways.single, ways.double))]
    same = ways.single.argmax(1) == ways.double.argmax(1)
    return same & ways.exceeds(gaps[0], gaps[1], rule, level)


def count_both(ways: TwoWays, labels: Labels, rule: DecisionRule, level: Level) -> ErrorCount:
    """Errors and near-ties of one batch by both ways of counting."""
    single, double = margins(ways.single, labels)[0], margins(ways.double, labels)
    correct = ways.exceeds(single, double[0], rule, level)
    clear = clear_first_place(ways, rule, level)
    tolerance = rule.tolerance * {Level.LENIENT: 0.5, Level.CERTIFIED: 1.0, Level.STRICT: 2.0}[level]
    rounding = ~clear & ways.finite & (double[1] > tolerance * double[2])
    return ErrorCount(int((~correct).sum()), int((~clear).sum()), len(labels), int(rounding.sum()))


def check_logits(logits: torch.Tensor, labels: Labels, sample: Sample) -> torch.Tensor:
    """The logits, if there is one for each class of ``sample`` and each of ``labels``.

    Raises:
        InputError: they have another shape.
    """
    if logits.shape != (len(labels), sample.num_classes):
        expected = f"{sample.num_classes} logits for each example of {sample.name}"
        do = "use a network whose output width is the number of classes"
        raise InputError(expected, f"an output of shape {list(logits.shape)}", do)
    return logits


def runs_in_double(classifier: Classifier, sample: Sample) -> bool:
    """Whether the classifier can be evaluated in float64: what this program decodes can, a user's code may not."""
    if not isinstance(classifier, FloatClassifier):
        return False
    try:
        with torch.no_grad():
            return classifier.logits(sample.inputs[:2], torch.float64).dtype == torch.float64
    except (RuntimeError, TypeError, ValueError, InputError):
        return False


def both_ways(
    classifier: Classifier, sample: Sample, rule: DecisionRule, double: bool
) -> Iterator[tuple[TwoWays, Labels]]:
    """Logits of the whole sample in the two ways, batch by batch, with the labels (zeros where there are none).

    Args:
        classifier: raw inputs -> logits.
        sample: as given, never augmented.
        rule: its batch size is the first way's.
        double: whether the second way is float64, see :func:`runs_in_double`.

    Raises:
        InputError: the classifier does not return one logit per class.
    """

    def second(inputs: Values) -> torch.Tensor:
        if double:
            assert isinstance(classifier, FloatClassifier)
            return classifier.logits(inputs, torch.float64)
        return classifier(inputs).double()

    for inputs, labels in sample.batches(rule.batch_size):
        rows = labels if len(labels) else np.zeros(len(inputs), np.int64)
        half = max(2, -(-len(inputs) // 2))  # some networks fail on a batch of one
        with torch.no_grad():
            single = check_logits(classifier(inputs), rows, sample).double()
            parts = [second(inputs[start : start + half]) for start in range(0, len(inputs), half)]
        # outside the block: a generator that yields inside it would leave gradients off in its caller
        yield TwoWays(single, check_logits(torch.cat(parts), rows, sample)), rows


def count_errors(
    classifier: Classifier,
    sample: Sample,
    rule: DecisionRule | None = None,
    progress: Progress | None = None,
) -> ErrorCount:
    """Errors of ``classifier`` on the whole sample as given (never augmented), in float32, streamed in batches.

    This is the quick count that searches compare candidates by; a certificate counts in two ways.

    Raises:
        InputError: when the classifier does not return one logit per class.
    """
    rule = rule or DecisionRule()
    return count_errors_at(classifier, sample, rule.batch_size, (rule.tolerance,), progress)[0]


def count_errors_at(
    classifier: Classifier,
    sample: Sample,
    batch_size: int,
    tolerances: tuple[float, ...],
    progress: Progress | None = None,
) -> tuple[ErrorCount, ...]:
    """Like :func:`count_errors` for several tolerances in one pass over the data."""
    totals = tuple(ErrorCount(0, 0, 0) for _ in tolerances)
    for inputs, labels in sample.batches(batch_size):
        with torch.no_grad():
            logits = classifier(inputs)
        check_logits(logits, labels, sample)
        totals = tuple(t + count_batch(logits, labels, tol) for t, tol in zip(totals, tolerances, strict=True))
        if progress is not None:
            progress("counting errors", totals[0].samples / len(sample))
    return totals
