"""The objective of an integer linear head: total cross-entropy plus the price of its code.

``J(W) = sum_i CE(s features_i W, y_i) + rate * ln2 * bits(W)``, with ``W [features, classes]`` integer and ``s`` a
temperature that only the training knows. Changing column ``c`` of ``W`` by ``u`` on the logits multiplies the
probabilities of sample ``i`` by known factors (``lse`` grows by ``log1p(p_ic expm1(u_i))``), so one change is
evaluated exactly in ``O(m)``. The proposals are ranked by gradient and curvature; only the exact difference decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.coding import UNARY_MAGNITUDES, integer_code_bits, marginal_bits

LIMIT = UNARY_MAGNITUDES
"""Largest magnitude the descent uses."""

_MIN_GAIN_NATS = 1e-3
_NEGLIGIBLE_CURVATURE = 3e-3
_SCALE_STEP = 1.05
_ROWS_AT_ONCE = 64

Move = tuple[int, int]
"""A feature index and the change of its weight."""


@dataclass(eq=False)
class HeadObjective:
    """The state of a descent.

    Args:
        features_t: ``[features, m]`` float32.
        labels: ``[m]`` int64.
        weights: ``[features, classes]`` int64, changed in place.
        scale: temperature ``s``.
        rate: price of a bit relative to ``ln 2`` nats of loss.
        loss_weight: how many training examples each of the ``m`` stands for.
    """

    features_t: Tensor
    labels: Tensor
    weights: NDArray[np.int64]
    scale: float
    rate: float = 1.5
    loss_weight: float = 1.0
    loss: float = field(init=False)
    _probabilities_t: Tensor = field(init=False)
    _is_label: Tensor = field(init=False)
    _bits: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        classes = torch.arange(self.num_classes)[:, None]
        self._is_label = self.labels[None] == classes
        self.refresh()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.weights.shape[1]

    def logits_t(self) -> Tensor:
        """Unscaled logits ``[classes, m]``."""
        return torch.from_numpy(self.weights).float().T @ self.features_t

    def _loss_of(self, logits_t: Tensor) -> float:
        own = logits_t.gather(0, self.labels[None])[0]
        return self.loss_weight * float((torch.logsumexp(logits_t, 0) - own).double().sum())

    def refresh(self) -> None:
        """Recompute everything from the weights (the incremental updates drift in float32)."""
        logits_t = self.scale * self.logits_t()
        self.loss = self._loss_of(logits_t)
        self._probabilities_t = torch.softmax(logits_t, 0)
        self._bits = marginal_bits(self.weights)

    def fit_scale(self) -> None:
        """Move the temperature to a local minimum of the loss on a 5 % grid; it costs no bits."""
        logits_t = self.logits_t()
        loss = self._loss_of(self.scale * logits_t)
        for factor in (_SCALE_STEP, 1 / _SCALE_STEP):
            while (other := self._loss_of(self.scale * factor * logits_t)) < loss:
                self.scale, loss = self.scale * factor, other
        self.refresh()

    def code_bits(self) -> float:
        """Ideal code length of the weights."""
        return integer_code_bits(self.weights)

    def price(self, weights: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Change of the rate term, in nats, when each of ``weights`` moves by its step."""
        before, after = weights + LIMIT, weights + steps + LIMIT
        return self.rate * math.log(2) * (self._bits[after] - self._bits[before])

    def gradient(self) -> NDArray[np.float64]:
        """``dJ/dW`` of the loss term for unit changes, ``[features, classes]``."""
        residual = self._probabilities_t - self._is_label.float()
        gradient = self.features_t @ residual.T
        return gradient.double().numpy() * (self.scale * self.loss_weight)

    def curvature(self) -> NDArray[np.float64]:
        """Diagonal of the Hessian of the loss term, ``[features, classes]``."""
        spread = (self._probabilities_t * (1 - self._probabilities_t)).T.contiguous()
        rows = [block.square() @ spread for block in self.features_t.split(_ROWS_AT_ONCE)]
        return torch.cat(rows).double().numpy() * (self.scale**2 * self.loss_weight)

    def class_hessian(self, label: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Hessian of the loss in the weights ``rows`` of one class, ``[len(rows), len(rows)]``.

        Examples of negligible weight ``p (1 - p)`` are left out: it ranks proposals only.
        """
        spread = self._probabilities_t[label] * (1 - self._probabilities_t[label])
        matter = torch.nonzero(spread > _NEGLIGIBLE_CURVATURE)[:, 0]
        chosen = self.features_t[torch.from_numpy(rows)][:, matter]
        hessian = (chosen * spread[matter]) @ chosen.T
        return hessian.numpy() * np.float32(self.scale**2 * self.loss_weight)

    def _own(self, label: int, u: Tensor) -> float:
        """Sum of ``u [m]`` over the examples of a class."""
        return float(u[self._is_label[label]].double().sum())

    def attempt(self, label: int, moves: tuple[Move, ...]) -> bool:
        """Change weights of one class if the objective really falls; returns whether it did."""
        u = sum(self.features_t[row] * (self.scale * step) for row, step in moves)
        assert isinstance(u, Tensor)
        growth = torch.log1p(self._probabilities_t[label] * torch.expm1(u))
        change = float(growth.double().sum()) - self._own(label, u)
        rows = np.array([row for row, _ in moves])
        steps = np.array([step for _, step in moves])
        price = float(self.price(self.weights[rows, label], steps).sum())
        if not self.loss_weight * change + price < -_MIN_GAIN_NATS:
            return False
        self.weights[rows, label] += steps
        self._probabilities_t *= torch.exp(-growth)
        self._probabilities_t[label] *= torch.exp(u)
        self._bits = marginal_bits(self.weights)
        self.loss += self.loss_weight * change
        return True
