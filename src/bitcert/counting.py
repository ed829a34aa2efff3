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

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.data import Sample
from bitcert.decision import DecisionRule as DecisionRule
from bitcert.decision import ErrorCount as ErrorCount
from bitcert.decision import Level as Level
from bitcert.errors import InputError
from bitcert.network.checks import OF_TWO
from bitcert.shards import Executor, Here, in_shards
from bitcert.shards import Progress as Progress

Seen = TypeVar("Seen")
Values = NDArray[np.generic]
Labels = NDArray[np.int64]

Classifier = Callable[[Values], torch.Tensor]
"""Maps raw inputs ``[batch, ...]`` to logits ``[batch, classes]``."""


class FloatClassifier(ABC):
    """A classifier that computes in float32 when it is called, and in float64 on request; what decoders return."""

    @abstractmethod
    def logits(self, inputs: Values, dtype: torch.dtype) -> torch.Tensor:
        """Logits ``[batch, classes]`` of raw inputs, computed in ``dtype`` throughout from the same float32 weights."""

    def __call__(self, inputs: Values) -> torch.Tensor:
        """Logits ``[batch, classes]`` of raw inputs ``[batch, ...]``, float32."""
        return self.logits(inputs, torch.float32)


class SummingClassifier(FloatClassifier):
    """A classifier whose logits are sums of terms that lose almost nothing to rounding."""

    @abstractmethod
    def with_terms(self, inputs: Values) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 logits ``[batch, classes]``, and the largest sum of their terms' absolute values ``[batch]``.

        The rounding error of a logit is a small multiple of float32's precision times that sum, however much cancels.
        """


class TensorClassifier(FloatClassifier):
    """A classifier made of tensors and a fixed function of them: what a message decodes to."""

    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All numbers that the message says, and public ones that it uses, by name."""

    @abstractmethod
    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits ``[batch, classes]`` of raw inputs ``[batch, ...]`` with these tensors, computed in ``dtype``."""

    def logits(self, inputs: Values | torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Logits ``[batch, classes]`` of raw inputs, computed in ``dtype`` throughout."""
        return self.compute(inputs, self.tensors, dtype)


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

    def __add__(self, other: LossCount) -> LossCount:
        totals = tuple(map(operator.add, self.totals, other.totals))
        return LossCount(self.errors + other.errors, totals, self.double and other.double)


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
        do += f"; {OF_TWO}" if logits.shape[1:] == (1,) and sample.num_classes == 2 else ""
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


Ways = Callable[[Values], TwoWays]
"""Raw inputs -> their logits in the two ways."""


def one_way(classifier: Classifier, sample: Sample) -> Ways:
    """Raw inputs of ``sample`` -> logits, in float32 alone."""
    return lambda inputs: TwoWays.once(check_logits(classifier(inputs), inputs, sample))


def second_way(classifier: Classifier, inputs: Values, double: bool) -> torch.Tensor:
    """Logits of raw inputs as float64 numbers, computed in float64 if ``double``."""
    if double:
        assert isinstance(classifier, FloatClassifier)
        return classifier.logits(inputs, torch.float64)
    return classifier(inputs).double()


def both_ways(classifier: Classifier, sample: Sample, double: bool) -> Ways:
    """Raw inputs of ``sample`` -> logits in the two ways; ``double`` is whether the second is float64."""

    def evaluate(inputs: Values) -> TwoWays:
        single = check_logits(classifier(inputs), inputs, sample).double()
        half = max(2, -(-len(inputs) // 2))  # some networks fail on a batch of one
        halves = (inputs[start : start + half] for start in range(0, len(inputs), half))
        parts = [second_way(classifier, each, double) for each in halves]
        return TwoWays(single, check_logits(torch.cat(parts), inputs, sample))

    return evaluate


def one_pass(
    evaluations: Sequence[Callable[[Values], Seen]],
    sample: Sample,
    batch_size: int,
    task: str = "counting errors",
    progress: Progress | None = None,
    within: tuple[int, int] | None = None,
) -> Iterator[tuple[list[Seen], Labels]]:
    """What each evaluation makes of the raw inputs of a sample as given (never augmented), batch by batch.

    The labels ``[batch]`` come with it: zeros where there are none. ``within`` is the range of examples, else all.
    """
    start, stop = within or (0, len(sample))
    done = start
    for inputs, labels in sample.batches(batch_size, start, stop):
        with torch.no_grad():
            seen = [evaluate(inputs) for evaluate in evaluations]
        # outside the block: a generator that yields inside it would leave gradients off in its caller
        yield seen, labels if len(labels) else np.zeros(len(inputs), np.int64)
        done += len(inputs)
        if progress is not None:
            progress(task, (done - start) / (stop - start))


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
    return count_losses(classifier, sample, rule or DecisionRule(), progress=progress, ways=None)[0].errors


def count_losses(
    classifier: Classifier,
    sample: Sample,
    rule: DecisionRule,
    losses: Sequence[Summed] = (),
    levels: Sequence[Level] = (Level.CERTIFIED,),
    progress: Progress | None = None,
    ways: Callable[[Classifier, Sample, bool], Ways] | None = both_ways,
) -> tuple[LossCount, ...]:
    """Errors and losses on the whole sample as given, one count for each level, in shards (:mod:`bitcert.shards`).

    ``ways`` is how logits are computed; with ``None`` in float32 alone, and such quick counts stay in this process.

    Raises:
        InputError: the classifier does not return one logit per class, or a loss is outside [0, 1].
    """
    double = ways is not None and runs_in_double(classifier, sample)
    evaluate = one_way(classifier, sample) if ways is None else ways(classifier, sample, double)

    def count(start: int, stop: int) -> list[LossCount]:
        found = [LossCount(ErrorCount(0, 0, 0), (0,) * len(losses), double) for _ in levels]
        for (logits,), labels in one_pass((evaluate,), sample, rule.batch_size, within=(start, stop)):
            target = torch.tensor(labels)
            for place, level in enumerate(levels):
                totals = tuple(loss.total(logits, target, rule, level) for loss in losses)
                found[place] += LossCount(logits.count(labels, rule, level), totals, double)
        return found

    executor: Executor | None = Here() if ways is None else None
    parts = in_shards(count, len(sample), rule.batch_size, "counting errors", progress, executor)
    return tuple(reduce(operator.add, each) for each in zip(*parts, strict=True))


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
    pair = [both_ways(each, unlabelled, runs_in_double(each, unlabelled)) for each in (original, compressed)]

    def count(start: int, stop: int) -> list[int]:
        totals = [0] * len(levels)
        for (first, second), _ in one_pass(pair, unlabelled, rule.batch_size, within=(start, stop)):
            same = first.double.argmax(1) == second.double.argmax(1)
            for place, level in enumerate(levels):
                totals[place] += int((~(same & first.clear(rule, level) & second.answers(rule, level))).sum())
        return totals

    parts = in_shards(count, len(unlabelled), rule.batch_size, "counting disagreements", progress)
    return tuple(Disagreement(sum(each), len(unlabelled)) for each in zip(*parts, strict=True))
