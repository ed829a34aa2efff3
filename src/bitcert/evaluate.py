"""Counting errors of a decoded classifier with a fixed decision rule.

An example counts as an error unless the logit of its label exceeds every other by more than a tolerance relative to
the largest logit: ties are errors (THEORY section 1), and so are near-ties, whose winner might change with the
machine, the thread count or the batch size. Logits that are not finite are errors too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.data import Sample
from bitcert.errors import InputError

Classifier = Callable[[NDArray[np.generic]], torch.Tensor]
"""Maps raw inputs ``[batch, ...]`` to logits ``[batch, classes]``."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done."""


@dataclass(frozen=True)
class DecisionRule:
    """How logits become a decision: float32 in batches, gaps within ``tolerance`` count as errors.

    Args:
        batch_size: examples evaluated at a time.
        tolerance: a top-two gap of at most ``tolerance * max |logit|`` is a near-tie.
    """

    batch_size: int = 1000
    tolerance: float = 1e-4
    dtype: str = "float32"


@dataclass(frozen=True)
class ErrorCount:
    """Errors of a classifier on a sample (near-ties included), and how many near-ties there were."""

    errors: int
    near_ties: int
    samples: int

    def __add__(self, other: ErrorCount) -> ErrorCount:
        return ErrorCount(self.errors + other.errors, self.near_ties + other.near_ties, self.samples + other.samples)

    @property
    def rate(self) -> float:
        """Fraction of errors."""
        return self.errors / self.samples


def margins(logits: torch.Tensor, labels: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Margin of the label, gap between the two largest logits and largest ``|logit|``, each ``[batch]`` float64."""
    logits = logits.double()
    target = torch.tensor(labels)[:, None]
    own = logits.gather(1, target)[:, 0]
    others = logits.scatter(1, target, -torch.inf).amax(1)
    top = logits.topk(2, dim=1).values
    return own - others, top[:, 0] - top[:, 1], logits.abs().amax(1)


def count_batch(logits: torch.Tensor, labels: NDArray[np.int64], tolerance: float) -> ErrorCount:
    """Errors and near-ties of one batch of logits ``[batch, classes]``."""
    margin, gap, size = margins(logits, labels)
    finite = torch.isfinite(logits).all(1)
    correct = (margin > tolerance * size) & finite
    near_tie = (gap <= tolerance * size) | ~finite
    return ErrorCount(int((~correct).sum()), int(near_tie.sum()), len(labels))


def check_logits(logits: torch.Tensor, labels: NDArray[np.int64], sample: Sample) -> torch.Tensor:
    """The logits, if there is one for each class of ``sample`` and each of ``labels``.

    Raises:
        InputError: they have another shape.
    """
    if logits.shape != (len(labels), sample.num_classes):
        expected = f"{sample.num_classes} logits for each example of {sample.name}"
        do = "use a network whose output width is the number of classes"
        raise InputError(expected, f"an output of shape {list(logits.shape)}", do)
    return logits


def count_errors(
    classifier: Classifier,
    sample: Sample,
    rule: DecisionRule | None = None,
    progress: Progress | None = None,
) -> ErrorCount:
    """Errors of ``classifier`` on the whole sample as given (never augmented), streamed in batches.

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
