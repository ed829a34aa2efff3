"""Exact discrete descent on an integer head: single weights, then pairs of weights of one class.

Single changes alone stall: correlated features must move together. Pairs (move a weight to another feature, trade one
against another) are ranked with the class's Hessian, ``g.d + d.H d / 2 + rate * bits``, over a shortlist of features,
and each is accepted only if the objective truly falls (:meth:`HeadObjective.attempt`). A global minimum is not
guaranteed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bitcert.search.plain_objective import LIMIT, HeadObjective

_SINGLE_STEPS = (-3, -2, -1, 1, 2, 3)
_PAIR_STEPS = (-2, -1, 1, 2)
_SINGLES_PER_ROUND = 48
_PAIRS_PER_ROUND = 40
_PAIRS_PER_CLASS = 300
_FIRST_MOVES = 600
_SHORTLIST = 400
_MIN_PREDICTED_GAIN = 0.5

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Stop = Callable[[], bool]


def _bounded(weights: Integers, steps: Integers) -> Integers:
    return np.clip(weights + steps, -LIMIT, LIMIT) - weights


def _predict(objective: HeadObjective, weights: Integers, slope: Floats, bend: Floats, steps: Integers) -> Floats:
    predicted = slope * steps + 0.5 * bend * steps * steps + objective.price(weights, steps)
    return np.where(steps == 0, np.inf, predicted)


def descend_singles(objective: HeadObjective, should_stop: Stop, max_rounds: int = 400) -> int:
    """Change single weights until none helps; returns how many changes were made."""
    total = 0
    for _ in range(max_rounds):
        if should_stop():
            break
        objective.refresh()
        slope, bend, weights = objective.gradient(), objective.curvature(), objective.weights
        best, best_steps = np.full(weights.shape, np.inf), np.zeros_like(weights)
        for proposal in (-weights, *(np.full_like(weights, step) for step in _SINGLE_STEPS)):
            steps = _bounded(weights, proposal)
            predicted = _predict(objective, weights, slope, bend, steps)
            better = predicted < best
            best[better], best_steps[better] = predicted[better], steps[better]
        accepted = 0
        for flat in np.argsort(best, axis=None)[:_SINGLES_PER_ROUND]:
            row, label = np.unravel_index(flat, best.shape)
            if best[row, label] >= 0:
                break
            accepted += objective.attempt(int(label), ((int(row), int(best_steps[row, label])),))
        total += accepted
        if not accepted:
            break
    return total


def _shortlist(objective: HeadObjective, slope: Floats, bend: Floats, label: int) -> NDArray[np.intp]:
    """The features worth pairing: those in use and those with the largest predicted loss reduction."""
    weights = objective.weights[:, label]
    gain = slope[:, label] ** 2 / np.maximum(bend[:, label], 1e-12)
    gain[weights != 0] = np.inf
    return np.sort(np.argsort(-gain)[:_SHORTLIST])


def _pair_proposals(
    objective: HeadObjective, label: int, rows: NDArray[np.intp], hessian: NDArray[np.float32], slope: Floats
) -> list[tuple[float, int, tuple[tuple[int, int], tuple[int, int]]]]:
    weights = objective.weights[rows, label]
    bend = np.diag(hessian).astype(np.float64)
    proposals = (-weights, -2 * weights, *(np.full_like(weights, step) for step in _PAIR_STEPS))
    steps = np.stack([_bounded(weights, proposal) for proposal in proposals], 1)
    costs = np.stack([_predict(objective, weights, slope[rows, label], bend, column) for column in steps.T], 1)
    owner = np.repeat(np.arange(len(rows)), steps.shape[1])
    flat_steps, flat_costs = steps.ravel(), costs.ravel().astype(np.float32)
    first = np.argsort(flat_costs)[:_FIRST_MOVES]
    cross = hessian[np.ix_(owner[first], owner)] * np.outer(flat_steps[first], flat_steps).astype(np.float32)
    joint = flat_costs[first][:, None] + flat_costs[None] + cross
    joint[owner[first][:, None] == owner[None]] = np.inf
    kept = np.argpartition(joint, min(_PAIRS_PER_CLASS, joint.size - 1), axis=None)[:_PAIRS_PER_CLASS]
    found = []
    for flat in kept:
        a, b = np.unravel_index(flat, joint.shape)
        if joint[a, b] < -_MIN_PREDICTED_GAIN:
            one, two = first[a], b
            pair = tuple((int(rows[owner[i]]), int(flat_steps[i])) for i in (one, two))
            found.append((float(joint[a, b]), label, pair))
    return found


def descend_pairs(objective: HeadObjective, should_stop: Stop, max_rounds: int = 10) -> int:
    """Change pairs of weights until none of the proposals helps; returns how many pairs were changed."""
    objective.refresh()
    slope, bend = objective.gradient(), objective.curvature()
    shortlists = [_shortlist(objective, slope, bend, label) for label in range(objective.num_classes)]
    hessians = [objective.class_hessian(label, rows) for label, rows in enumerate(shortlists)]
    total = 0
    for _ in range(max_rounds):
        if should_stop():
            break
        objective.refresh()
        slope = objective.gradient()
        proposals = []
        for label, (rows, hessian) in enumerate(zip(shortlists, hessians, strict=True)):
            proposals += _pair_proposals(objective, label, rows, hessian, slope)
        used: set[tuple[int, int]] = set()
        accepted = tried = 0
        for _, label, pair in sorted(proposals):
            touched = {(label, row) for row, _ in pair}
            if used & touched:
                continue
            used |= touched
            accepted += objective.attempt(label, pair)
            tried += 1
            if tried == _PAIRS_PER_ROUND:
                break
        total += accepted
        if not accepted:
            break
    return total
