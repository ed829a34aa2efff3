"""Heads on the features of a helper network, by the row descent of the banks (:mod:`bitcert.search.head`).

The head grows from nothing while the price of a bit falls, is polished on cross-entropy, and ends on a loss close to
the 0/1 error; then a share of its rows is dropped and sought anew, until that no longer pays. What is booked is decided
by the owner of the search. Nothing is promised beyond what is booked: each is a message with its own bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.counting import DecisionRule, count_batch
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.features.banks import Bank
from bitcert.run import Run
from bitcert.search import head as bank_head
from bitcert.search.head_objective import BankObjective, Examples
from bitcert.search.head_start import begin_convex
from bitcert.search.judging import errors_per_bit

Book = Callable[[str, NDArray[np.int64], int], float]
"""Books a head by stage and errors on the whole sample, and returns its bound."""


def examples_of(
    features_t: Tensor, labels: Tensor, num_classes: int, weight: float, *others: Tensor | None
) -> Examples:
    """The examples in the order of their labels.

    Args:
        features_t: ``[features, m]``.
        labels: ``[m]``.
        num_classes: number of classes.
        weight: how many training examples each stands for.
        others: ``[m, classes]`` soft labels, or ``None``; then a fixed part of the logits, or ``None``.
    """
    order = torch.argsort(labels, stable=True)
    counts = np.bincount(labels.numpy(), minlength=num_classes)
    more = (None if values is None else values[order].T.contiguous() for values in others)
    return Examples(features_t[:, order].contiguous(), counts, weight, *more)


class RowDescent(bank_head.BankSearch):
    """The search of the banks on one given matrix of features."""

    def __init__(self, sample: Sample, helper: Helper, run: Run, empty: BankObjective, book: Book) -> None:
        super().__init__(sample, helper, run, None)
        self.empty, self.book_head, self.begun = empty, book, run.fraction
        self.idle_kicks = bank_head.IDLE_KICKS  # there are other matrices to come

    def resume(self) -> bool:
        """The checkpoint is the owner's."""
        return False

    def is_affordable(self, bank: object) -> bool:
        """Of many examples the head grows."""
        del bank
        return False

    def begin(self, bank: Bank | None, objective: BankObjective) -> None:
        """Where the time for growing is over already, a convex start is better than nothing."""
        if self.growth_is_over() and objective.examples.offset_t is None:
            begin_convex(objective, self.best.unit, self.tolerance, lambda: False, 10)
        else:
            super().begin(bank, objective)

    def screen(self) -> list[Bank | None]:
        """There is one matrix only."""
        return [None]

    def objective(self, bank: object, most: int) -> BankObjective:
        """A head without weights; there is one matrix only, whatever the bank."""
        del bank, most
        return replace(self.empty, weights=np.zeros_like(self.empty.weights))

    def book(self, name: str, bank: object, objective: BankObjective) -> float:
        """Hand the head to the owner, and remember the best."""
        del bank
        count = count_batch(objective.logits_t().T, objective.examples.labels.numpy(), DecisionRule().tolerance)
        errors = round(count.errors * len(self.sample) / count.samples)
        bound = self.book_head(name, objective.weights, errors)
        if bound < self.best.bound:
            unit = errors_per_bit(errors / len(self.sample), bound)
            self.best = bank_head._Best(bound, None, objective.weights.copy(), objective.scale, unit)
            self.found = self.run.seconds
        return bound

    def growth_is_over(self) -> bool:
        """Whether growth has used its share of the time since the features were known."""
        return self.out_of_time() or self.run.fraction > self.begun + 0.6 * (1 - self.begun)
