"""The objective of a head on a bank of features: a loss that can be close to the 0/1 error, plus the price of its code.

``J(W) = sum_i L(p_i) + rate * ln2 * bits(W)`` with ``p_i`` the softmax probability of example ``i``'s label under
``s features_i W`` and ``L(p) = (1 - p^q) / q`` (generalised cross-entropy, Zhang & Sabuncu 2018): cross-entropy at
``q = 0``, the probability of an error at ``q = 1``. What a certificate pays for are errors; cross-entropy spends bits
on examples that are right already. With soft targets ``t`` the log-probability is ``sum_c t_c log p_c``.

``bits`` are those of the row code (:mod:`bitcert.coding.rows`), at prices that are refreshed between rounds. A change
of few rows is evaluated exactly in ``O(m)``; proposals are ranked by gradient and curvature, and only the exact
difference decides. Nothing here bounds the distance from a global minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.coding import UNARY_MAGNITUDES, RowModel, RowPrices

LIMIT = UNARY_MAGNITUDES
"""Largest magnitude the descent uses."""

LN2 = math.log(2)
_SCALE_STEP = 1.05
_ROWS_AT_ONCE = 32
_CANCELLED = 1e-2
_MIN_CURVATURE = 1e-9

Rows = NDArray[np.intp]
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Examples:
    """What is trained on: features, labels sorted in increasing order, and soft targets if there are any.

    Args:
        features_t: ``[features, m]`` float32.
        counts: ``[classes]`` examples of each label; the examples stand in the order of their labels.
        loss_weight: how many training examples each of the ``m`` stands for.
        targets_t: ``[classes, m]`` float32 probabilities, or ``None`` for the labels themselves.
        offset_t: ``[classes, m]`` float32, a fixed part of the unscaled logits, or ``None``.
    """

    features_t: Tensor
    counts: Integers
    loss_weight: float = 1.0
    targets_t: Tensor | None = None
    offset_t: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """``[m]`` int64."""
        return torch.from_numpy(np.repeat(np.arange(len(self.counts)), self.counts))

    @property
    def blocks(self) -> list[slice]:
        """Where the examples of each label stand."""
        ends = np.cumsum(self.counts)
        return [slice(int(end - count), int(end)) for end, count in zip(ends, self.counts, strict=True)]

    def part(self, most: int, order: np.random.Generator) -> Examples:
        """At most ``most`` of them, chosen at random."""
        labels = self.labels
        if len(labels) <= most:
            return self
        chosen = torch.from_numpy(np.sort(order.permutation(len(labels))[:most]))
        targets, offset = (None if x is None else x[:, chosen] for x in (self.targets_t, self.offset_t))
        counts = np.bincount(labels[chosen].numpy(), minlength=len(self.counts))
        return Examples(self.features_t[:, chosen], counts, self.loss_weight * len(labels) / most, targets, offset)


@dataclass(frozen=True, eq=False)
class Saved:
    """A state to go back to."""

    log_probabilities: Tensor
    probabilities: Tensor
    own: Tensor
    loss: float
    rows: Rows
    values: Integers


@dataclass(eq=False)
class BankObjective:
    """The state of a descent.

    Args:
        examples: features and labels.
        model: of the row code.
        weights: ``[features, classes]`` int64, changed in place.
        scale: temperature ``s``; decoding does not need it.
        rate: price of a bit relative to ``ln 2`` units of loss.
        power: ``q`` of the loss.
        soft: whether the soft targets are used, if there are any.
    """

    examples: Examples
    model: RowModel
    weights: Integers
    scale: float
    rate: float = 3.0
    power: float = 0.0
    soft: bool = True
    loss: float = field(init=False)
    prices: RowPrices = field(init=False)
    _log: Tensor = field(init=False)
    _probabilities: Tensor = field(init=False)
    _own: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._labels, self._blocks = self.examples.labels, self.examples.blocks
        self.refresh()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.weights.shape[1]

    @property
    def bit_price(self) -> float:
        """Price of a bit in units of loss."""
        return self.rate * LN2

    def used_rows(self) -> Rows:
        """Optional rows with an entry other than zero."""
        return np.flatnonzero((self.weights != 0).any(1) & (self.model.groups >= 0))

    def logits_t(self) -> Tensor:
        """Unscaled logits ``[classes, m]``."""
        rows = np.flatnonzero((self.weights != 0).any(1))
        logits = torch.from_numpy(self.weights[rows]).float().T @ self.examples.features_t[torch.from_numpy(rows)]
        return logits if self.examples.offset_t is None else logits + self.examples.offset_t

    def _targets(self) -> Tensor | None:
        return self.examples.targets_t if self.soft else None

    def _own_of(self, log_probabilities: Tensor) -> Tensor:
        targets = self._targets()
        if targets is not None:
            return (targets * log_probabilities).sum(0)
        return log_probabilities.gather(0, self._labels[None])[0].clone()

    def _loss_of(self, own: Tensor) -> float:
        if self.power == 0:
            return -self.examples.loss_weight * float(own.double().sum())
        losses = (1 - torch.exp(self.power * own.double())) / self.power
        return self.examples.loss_weight * float(losses.sum())

    def refresh(self) -> None:
        """Recompute everything from the weights (the incremental updates drift in float32), prices included."""
        self._log = torch.log_softmax(self.scale * self.logits_t(), 0)
        self._probabilities = self._log.exp()
        self._own = self._own_of(self._log)
        self.loss = self._loss_of(self._own)
        self.prices = self.model.prices(self.weights)

    def fit_scale(self) -> None:
        """Move the temperature to a local minimum of the loss on a 5 % grid; it costs no bits."""
        logits_t = self.logits_t()

        def loss(scale: float) -> float:
            return self._loss_of(self._own_of(torch.log_softmax(scale * logits_t, 0)))

        least = loss(self.scale)
        for factor in (_SCALE_STEP, 1 / _SCALE_STEP):
            while (other := loss(self.scale * factor)) < least:
                self.scale, least = self.scale * factor, other
        self.refresh()

    def code_bits(self) -> float:
        """Ideal code length of the weights."""
        return self.model.code_bits(self.weights)

    def value(self) -> float:
        """``J``."""
        return self.loss + self.bit_price * self.code_bits()

    def cost(self, rows: Rows) -> float:
        """Price of what stands in these rows, in units of loss."""
        return self.bit_price * float(self.prices.of(rows, self.weights[rows], self.model).sum())

    def slopes(self, rows: Rows | None = None) -> Floats:
        """Derivative of the loss for unit changes of ``rows`` (all if ``None``), ``[rows, classes]``."""
        features = self._features(rows)
        gradient = features @ self._residual(self._weighting()).T
        return gradient.double().numpy() * (self.scale * self.examples.loss_weight)

    def bends(self, rows: Rows | None = None) -> Floats:
        """Second derivatives of the loss for unit changes, at least a tiny positive number, ``[rows, classes]``."""
        weighting = self._weighting()
        spread = self._probabilities * (1 - self._probabilities) * weighting
        if self.power:
            spread -= self.power * weighting * self._residual(None).square()
        spread = spread.T.contiguous()
        parts = [block.square() @ spread for block in self._features(rows).split(_ROWS_AT_ONCE)]
        bends = torch.cat(parts).double().numpy() * (self.scale**2 * self.examples.loss_weight)
        return np.maximum(bends, _MIN_CURVATURE)

    def class_hessian(self, label: int, features: Tensor) -> Floats:
        """Approximate Hessian in the weights of one class for ``features [k, m]``; it ranks proposals only."""
        spread = self._probabilities[label] * (1 - self._probabilities[label]) * self._weighting()
        matter = torch.nonzero(spread > 3e-3)[:, 0]
        chosen = features[:, matter]
        hessian = (chosen * spread[matter]) @ chosen.T
        return np.asarray(hessian.double().numpy() * (self.scale**2 * self.examples.loss_weight))

    def _features(self, rows: Rows | None) -> Tensor:
        return self.examples.features_t if rows is None else self.examples.features_t[torch.from_numpy(rows)]

    def _weighting(self) -> Tensor:
        return torch.exp(self.power * self._own)

    def _residual(self, weighting: Tensor | None) -> Tensor:
        targets = self._targets()
        if targets is not None:
            residual = self._probabilities - targets
        else:
            residual = self._probabilities.clone()
            for label, block in enumerate(self._blocks):
                residual[label, block] -= 1
        return residual if weighting is None else residual * weighting

    def save(self, rows: Rows) -> Saved:
        """The state, as far as changes of ``rows`` can alter it (they replace tensors, never write into them)."""
        return Saved(self._log, self._probabilities, self._own, self.loss, rows, self.weights[rows].copy())

    def restore(self, saved: Saved) -> None:
        """Go back."""
        self._log, self._probabilities, self._own = saved.log_probabilities, saved.probabilities, saved.own
        self.loss = saved.loss
        self.weights[saved.rows] = saved.values

    def attempt(self, rows: Rows, steps: Integers, least_gain: float = 1e-3) -> bool:
        """Add ``steps [k, classes]`` to ``rows [k]`` if the objective falls by ``least_gain``; whether it did.

        ``least_gain = -inf`` makes the change in any case (unless the loss is no number).
        """
        after = self.weights[rows] + steps
        if np.abs(after).max(initial=0) > LIMIT:
            return False
        labels = np.flatnonzero(steps.any(0))
        columns = torch.from_numpy(steps[:, labels]).float() * self.scale
        moved = columns.T @ self._features(rows)
        growth = self._growth(labels, moved)
        own = self._own - growth
        targets = self._targets()
        for row, label in zip(moved, labels, strict=True):
            if targets is not None:
                own += targets[label] * row
            else:
                own[self._blocks[label]] += row[self._blocks[label]]
        loss = self._loss_of(own)
        price = self.prices.of(rows, after, self.model) - self.prices.of(rows, self.weights[rows], self.model)
        if not loss - self.loss + self.bit_price * float(price.sum()) < -least_gain:
            return False
        self.weights[rows] = after
        self._log = self._log - growth
        self._log[torch.from_numpy(labels)] += moved
        self._probabilities = self._log.exp()
        self._own, self.loss = own, loss
        return True

    def _growth(self, labels: Rows, moved: Tensor) -> Tensor:
        """By how much the log-normaliser grows when the logits of ``labels`` move by ``moved [k, m]``."""
        index = torch.from_numpy(labels)
        total = 1 + (self._probabilities[index] * torch.expm1(moved)).sum(0)
        cancelled = torch.nonzero(total < _CANCELLED)[:, 0]
        growth = total.log()
        if len(cancelled):
            logits = self._log[:, cancelled]
            logits[index] += moved[:, cancelled]
            growth[cancelled] = torch.logsumexp(logits, 0)
        return growth
