"""Where a head that selects rows of a bank begins: from a rounded convex solution, or grown from nothing.

The convex solution is that of l1-penalised softmax regression, ``min_W sum_i CE(features_i W, y_i) + l1 ||W||_1``, by
FISTA (Beck & Teboulle 2009). It sees all features at once and so wins where examples are few; where they are many it
uses nearly every row, and growth while the price of a bit falls gives shorter messages. Either is only where the
descent begins (:mod:`bitcert.search.head_moves`); nothing here bounds the distance from an optimum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bitcert.random import torch_stream
from bitcert.search.head_moves import Stop, delete_rows, descend, descend_pairs, insert_rows
from bitcert.search.head_objective import LIMIT, BankObjective

CROSS_ENTROPY = 3.3
"""What a bit costs on cross-entropy, relative to its price on the 0/1 error."""

GROWTH = (0.5, 0.35, 0.5, 0.7, 1.0)
"""Prices during the growth, relative to the final one: rows found while bits are cheap are given up only if useless."""

SHORT_GROWTH = (4.0, 2.0, 1.0)
_CONVEX_UNIT = 0.3
_CONVEX_L1 = 100 / 60_000
_CONVEX_ITERATIONS = 80
_LOOK_EVERY = 20
_POWER_ITERATIONS = 12
_ROUNDS = 60


def convex_operations(size: int) -> int:
    """Floating-point operations of a convex start; ``size`` is examples times features times classes."""
    return 4 * _CONVEX_ITERATIONS * size


def begin_convex(
    objective: BankObjective, unit: float, tolerance: float, should_stop: Stop, rounds: int = _ROUNDS
) -> None:
    """The rounded solution, and the best single changes of it.

    Args:
        objective: whose weights are replaced.
        unit: price of a bit on the 0/1 error.
        tolerance: a round of changes that gains less is the last.
        should_stop: ends it early.
        rounds: of single changes, at most.
    """
    examples = objective.examples
    l1 = _CONVEX_L1 * len(examples.labels)
    start = sparse_softmax(examples.features_t, examples.labels, objective.num_classes, l1, should_stop)
    objective.weights[:] = torch.round(start / _CONVEX_UNIT).clamp(-LIMIT, LIMIT).long().numpy()
    objective.power, objective.soft, objective.scale = 0.0, True, _CONVEX_UNIT
    objective.rate = CROSS_ENTROPY * unit
    objective.refresh()
    objective.fit_scale()
    descend(objective, should_stop, rounds, tolerance)


def grow(
    objective: BankObjective, unit: float, tolerance: float, should_stop: Stop, factors: tuple[float, ...], beyond: bool
) -> None:
    """From what is there, usually nothing, on cross-entropy, while the price of a bit moves to ``unit``.

    Args:
        objective: as for :func:`begin_convex`, like the other arguments.
        unit: price of a bit on the 0/1 error.
        tolerance: a round of changes that gains less is the last.
        should_stop: ends it early.
        factors: prices relative to ``unit``.
        beyond: whether pairs look beyond the rows in use.
    """
    objective.power, objective.soft = 0.0, True
    for factor in factors:
        objective.rate = CROSS_ENTROPY * unit * factor
        descend(objective, should_stop, _ROUNDS, tolerance)
        if factor < 2:
            descend_pairs(objective, should_stop, beyond)
        delete_rows(objective)
        if should_stop():
            break
        insert_rows(objective)
        objective.fit_scale()
    objective.refresh()


def _lipschitz(features_t: Tensor) -> float:
    """Half the largest eigenvalue of ``features_t features_t^T`` (the softmax Hessian is at most 1/2)."""
    v = torch.randn(len(features_t), generator=torch_stream(0, "power iteration"))
    norm = 1.0
    for _ in range(_POWER_ITERATIONS):
        v = features_t @ (v @ features_t)
        norm = float(v.norm())
        v = v / max(norm, 1e-30)
    return norm / 2


def sparse_softmax(features_t: Tensor, labels: Tensor, num_classes: int, l1: float, should_stop: Stop) -> Tensor:
    """Approximate minimiser ``[features, classes]``, from ``features_t [features, m]`` and ``labels [m]``."""
    step = 1 / max(_lipschitz(features_t), 1e-30)
    is_label = (labels[None] == torch.arange(num_classes)[:, None]).float()
    weights = torch.zeros(len(features_t), num_classes)
    ahead, momentum = weights, 1.0
    for iteration in range(_CONVEX_ITERATIONS):
        if iteration % _LOOK_EVERY == 0 and should_stop():
            break
        residual = torch.softmax(ahead.T @ features_t, 0) - is_label
        moved = ahead - step * (features_t @ residual.T)
        shrunk = moved.sign() * (moved.abs() - step * l1).clamp_min(0)
        following = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = shrunk + (momentum - 1) / following * (shrunk - weights)
        weights, momentum = shrunk, following
    return weights
