"""Counting on a sample, in ONE pass: errors, losses, disagreements; every count of the program is made here.

An example counts as an error unless the logit of its label exceeds every other by more than a tolerance relative to
the largest logit: ties are errors (docs/theory.md section 1), and so are near-ties, whose winner might change with the
machine, the thread count or the batch size. Logits that are not finite are errors too.

A certificate counts in two ways (docs/theory.md section 5, rounding): float32 in batches, and float64 in half
batches. An example is right only if it is right in both ways, by more than the tolerance and by more than
``rounding`` times the largest difference between its logits in the two ways. An ill-conditioned network, whose float32
logits are mostly rounding error, loses the examples that another machine might decide otherwise. A search counts in one
way: the two ways are then the same.

A reviewer's machine rounds differently, so a claim is checked between two counts (:class:`Level`): what is wrong there
beyond doubt, and what might be. NOT guaranteed: that code outside the program (an opaque module) computes the same
function in both precisions; where it cannot run in float64 the second way is float32 in another batch size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.data import Sample
from bitcert.errors import InputError

Seen = TypeVar("Seen")
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
        abstains_within: a surrogate of an original network abstains where its top-two gap is clearly smaller.
    """

    batch_size: int = 1000
    tolerance: float = 1e-4
    dtype: str = "float32"
    rounding: float = 16.0
    abstains_within: float = 0.0

    def describe(self, double: bool) -> dict[str, object]:
        """What a certificate says of the rule; ``double`` is whether the second way is float64."""
        return {
            **({"abstains_within": self.abstains_within} if self.abstains_within else {}),
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

    @property
    def tolerances(self) -> float:
        """How many times the tolerance a gap must exceed in float64."""
        return {Level.LENIENT: 0.5, Level.CERTIFIED: 1.0, Level.STRICT: 2.0}[self]

    @property
    def roundings(self) -> float:
        """How much larger than here the rounding error of one example may be on the machine that is allowed for."""
        return {Level.LENIENT: 0.0, Level.CERTIFIED: 1.0, Level.STRICT: 16.0}[self]


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

    @classmethod
    def once(cls, logits: torch.Tensor) -> TwoWays:
        """Of logits that were computed in one way: both are the same, and nothing is lost to rounding."""
        both = logits.double()
        return cls(both, both)

    def each(self, measured: Callable[[torch.Tensor], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """What is measured of the logits of each way; once, where both are the same."""
        single = measured(self.single)
        return single, single if self.double is self.single else measured(self.double)

    @cached_property
    def finite(self) -> torch.Tensor:
        """Whether all logits of both ways are numbers, ``[batch]``."""
        return torch.logical_and(*self.each(lambda logits: torch.isfinite(logits).all(1)))

    @cached_property
    def size(self) -> torch.Tensor:
        """Largest ``|logit|`` of either way, ``[batch]``."""
        return torch.maximum(*self.each(_size))

    @cached_property
    def difference(self) -> torch.Tensor:
        """Largest difference between the ways, ``[batch]``; infinite where a logit is not finite."""
        return (self.single - self.double).abs().amax(1).nan_to_num(nan=torch.inf, posinf=torch.inf)

    @cached_property
    def gaps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gap between the two largest logits in each way, ``[batch]``."""
        return self.each(_gap)

    def slack(self, rule: DecisionRule, level: Level) -> torch.Tensor:
        """By how much a logit must exceed another to count as larger in both ways, ``[batch]``."""
        near = level.tolerances * (rule.tolerance * self.size)
        if level is Level.LENIENT:
            return near
        return torch.maximum(near, level.roundings * (rule.rounding * self.difference))

    def exceeds(self, gaps: tuple[torch.Tensor, torch.Tensor], rule: DecisionRule, level: Level) -> torch.Tensor:
        """Whether gaps ``[batch]`` of the two ways are clear; at ``LENIENT`` float32 must only have the same sign."""
        slack = self.slack(rule, level)
        least_single = torch.zeros_like(slack) if level is Level.LENIENT else slack
        return (gaps[0] > least_single) & (gaps[1] > slack) & self.finite

    def clear(self, rule: DecisionRule, level: Level) -> torch.Tensor:
        """Whether both ways put the same class clearly first, ``[batch]``."""
        same = torch.eq(*self.each(lambda logits: logits.argmax(1)))
        return same & self.exceeds(self.gaps, rule, level)

    def answers(self, rule: DecisionRule, level: Level) -> torch.Tensor:
        """Whether the first place is clear and the gap is clearly not one to abstain at, ``[batch]``."""
        gaps = self.gaps[0] - rule.abstains_within, self.gaps[1] - rule.abstains_within
        return self.clear(rule, level) & self.exceeds(gaps, rule, level)

    def abstains(self, rule: DecisionRule, level: Level) -> torch.Tensor:
        """Whether the gap is clearly one to abstain at, ``[batch]``."""
        return self.exceeds((rule.abstains_within - self.gaps[0], rule.abstains_within - self.gaps[1]), rule, level)

    def count(self, labels: Labels, rule: DecisionRule, level: Level) -> ErrorCount:
        """Errors and near-ties of the batch; abstaining is no error."""
        target = torch.tensor(labels)
        correct = self.exceeds(self.each(lambda logits: lead(logits, target)), rule, level)
        correct, clear = correct | self.abstains(rule, level), self.clear(rule, level)
        rounding = ~clear & self.finite & (self.gaps[1] > rule.tolerance * level.tolerances * _size(self.double))
        return ErrorCount(int((~correct).sum()), int((~clear).sum()), len(labels), int(rounding.sum()))


def _size(logits: torch.Tensor) -> torch.Tensor:
    return logits.abs().amax(1)


def _gap(logits: torch.Tensor) -> torch.Tensor:
    top = logits.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def lead(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """By how much the label's logit exceeds every other, ``[batch]``."""
    target = labels[:, None]
    return logits.gather(1, target)[:, 0] - logits.scatter(1, target, -torch.inf).amax(1)


def margins(logits: torch.Tensor, labels: Labels) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Margin of the label, gap between the two largest logits and largest ``|logit|``, each ``[batch]`` float64."""
    logits = logits.double()
    return lead(logits, torch.tensor(labels)), _gap(logits), _size(logits)


def count_batch(logits: torch.Tensor, labels: Labels, tolerance: float) -> ErrorCount:
    """Errors and near-ties of one batch of logits ``[batch, classes]``, computed in one way."""
    return TwoWays.once(logits).count(labels, DecisionRule(tolerance=tolerance), Level.CERTIFIED)


class Summed(Protocol):
    """What is added up over a sample beside the errors: a loss (:class:`bitcert.losses.Loss`)."""

    def total(self, ways: TwoWays, labels: torch.Tensor, rule: DecisionRule, level: Level) -> int:
        """The sum over a batch, at a level of strictness."""


@dataclass(frozen=True)
class LossCount:
    """Errors of the classifier and the totals of further losses, in the order they were asked for.

    ``double`` says whether the second way of counting was float64.
    """

    errors: ErrorCount
    totals: tuple[int, ...]
    double: bool


@dataclass(frozen=True)
class Disagreement:
    """On how many of how many unlabelled examples two networks disagree, near-ties of either included."""

    disagreements: int
    samples: int


def check_logits(logits: torch.Tensor, rows: Labels | Values, sample: Sample) -> torch.Tensor:
    """The logits, if there is one for each class of ``sample`` and each of ``rows``.

    Raises:
        InputError: they have another shape.
    """
    if logits.shape != (len(rows), sample.num_classes):
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


def one_way(classifier: Classifier, sample: Sample) -> Callable[[Values], TwoWays]:
    """Raw inputs of ``sample`` -> logits, in float32 alone."""
    return lambda inputs: TwoWays.once(check_logits(classifier(inputs), inputs, sample))


def both_ways(classifier: Classifier, sample: Sample, double: bool) -> Callable[[Values], TwoWays]:
    """Raw inputs of ``sample`` -> logits in the two ways; ``double`` is whether the second is float64."""

    def second(inputs: Values) -> torch.Tensor:
        if double:
            assert isinstance(classifier, FloatClassifier)
            return classifier.logits(inputs, torch.float64)
        return classifier(inputs).double()

    def evaluate(inputs: Values) -> TwoWays:
        single = check_logits(classifier(inputs), inputs, sample).double()
        half = max(2, -(-len(inputs) // 2))  # some networks fail on a batch of one
        parts = [second(inputs[start : start + half]) for start in range(0, len(inputs), half)]
        return TwoWays(single, check_logits(torch.cat(parts), inputs, sample))

    return evaluate


def one_pass(
    evaluations: Sequence[Callable[[Values], Seen]],
    sample: Sample,
    batch_size: int,
    task: str = "counting errors",
    progress: Progress | None = None,
) -> Iterator[tuple[list[Seen], Labels]]:
    """What each evaluation makes of the raw inputs of a sample as given (never augmented), batch by batch.

    The labels ``[batch]`` come with it: zeros where there are none.
    """
    done = 0
    for inputs, labels in sample.batches(batch_size):
        with torch.no_grad():
            seen = [evaluate(inputs) for evaluate in evaluations]
        # outside the block: a generator that yields inside it would leave gradients off in its caller
        yield seen, labels if len(labels) else np.zeros(len(inputs), np.int64)
        done += len(inputs)
        if progress is not None:
            progress(task, done / len(sample))


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
    return count_losses(classifier, sample, rule or DecisionRule(), progress=progress, quick=True)[0].errors


def count_losses(
    classifier: Classifier,
    sample: Sample,
    rule: DecisionRule,
    losses: Sequence[Summed] = (),
    levels: Sequence[Level] = (Level.CERTIFIED,),
    progress: Progress | None = None,
    quick: bool = False,
) -> tuple[LossCount, ...]:
    """Errors and losses on the whole sample as given, one count for each level.

    They are counted in both ways, or, if the count shall be quick, in float32 alone.

    Raises:
        InputError: the classifier does not return one logit per class, or a loss is outside [0, 1].
    """
    double = not quick and runs_in_double(classifier, sample)
    evaluate = one_way(classifier, sample) if quick else both_ways(classifier, sample, double)
    errors = [ErrorCount(0, 0, 0) for _ in levels]
    totals = [[0] * len(losses) for _ in levels]
    for (ways,), labels in one_pass((evaluate,), sample, rule.batch_size, progress=progress):
        target = torch.tensor(labels)
        for index, level in enumerate(levels):
            errors[index] += ways.count(labels, rule, level)
            for place, loss in enumerate(losses):
                totals[index][place] += loss.total(ways, target, rule, level)
    return tuple(LossCount(count, tuple(total), double) for count, total in zip(errors, totals, strict=True))


def count_disagreements(
    original: Classifier,
    compressed: Classifier,
    unlabelled: Sample,
    rule: DecisionRule,
    levels: Sequence[Level] = (Level.CERTIFIED,),
    progress: Progress | None = None,
) -> tuple[Disagreement, ...]:
    """Disagreements of two classifiers by both ways of counting, one count for each level; abstaining is one.

    Raises:
        InputError: a classifier does not return one logit per class.
    """
    totals = [0] * len(levels)
    pair = [both_ways(each, unlabelled, runs_in_double(each, unlabelled)) for each in (original, compressed)]
    for (first, second), _ in one_pass(pair, unlabelled, rule.batch_size, "counting disagreements", progress):
        same = first.double.argmax(1) == second.double.argmax(1)
        for index, level in enumerate(levels):
            totals[index] += int((~(same & first.clear(rule, level) & second.answers(rule, level))).sum())
    return tuple(Disagreement(total, len(unlabelled)) for total in totals)
