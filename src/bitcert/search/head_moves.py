"""Moves of the descent on a head that selects rows of a bank: single entries, whole rows, pairs, replacements.

A row that is not used costs more to begin than an entry, so rows are begun for all classes at once; a row that is used
may have become superfluous beside better ones, so each is taken out in turn and the best row in its place is sought
(backfitting). Every move is accepted on the exact objective; gradient and curvature only rank the proposals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from bitcert.search.head_objective import LIMIT, BankObjective, Floats, Integers, Rows, Saved

Stop = Callable[[], bool]

_STEPS = (-3, -2, -1, 1, 2, 3)
_PAIR_STEPS = (-2, -1, 1, 2)
_PROPOSALS = 40
_BEGINNINGS = 10
_MIN_GAIN = 0.5
_INSERTIONS = 12
_INSERTION_SLACK = 60.0
_REPLACEMENTS = 5
_CURVATURE_EVERY = 8
_REFINEMENTS = 12
_FIRST_MOVES = 600
_PAIRS_PER_CLASS = 300
_SHORTLIST = 400
_PAIR_ROUNDS, _FEW_PAIR_ROUNDS = 10, 4
_ALWAYS = -np.inf


@dataclass(frozen=True, eq=False)
class _Proposal:
    """A change of rows and what it is predicted to do to the objective."""

    gain: float
    rows: Rows
    steps: Integers


def _entry_costs(objective: BankObjective, before: Integers, after: Integers) -> Floats:
    entries = objective.prices.entries
    return objective.bit_price * (entries[after + LIMIT] - entries[before + LIMIT])


def _best_steps(objective: BankObjective, weights: Integers, slopes: Floats, bends: Floats) -> tuple[Floats, Integers]:
    """For each entry the best predicted change and its step, as if its row stays used."""
    best, best_steps = np.full(weights.shape, np.inf), np.zeros_like(weights)
    for proposal in (*_STEPS, None):
        after = np.zeros_like(weights) if proposal is None else np.clip(weights + proposal, -LIMIT, LIMIT)
        steps = after - weights
        predicted = slopes * steps + 0.5 * bends * steps * steps + _entry_costs(objective, weights, after)
        better = (predicted < best) & (steps != 0)
        best[better], best_steps[better] = predicted[better], steps[better]
    return best, best_steps


def _beginnings(objective: BankObjective, best: Floats, best_steps: Integers) -> tuple[Floats, Integers]:
    """Predicted change and steps of beginning each row; infinite for rows that are used."""
    steps = np.where(best < 0, best_steps, 0)
    prices = objective.prices
    row = prices.used - prices.unused + objective.num_classes * prices.entries[LIMIT]
    gain = np.minimum(best, 0).sum(1) + objective.bit_price * row
    taken = (objective.weights != 0).any(1) | (objective.model.groups < 0) | ~steps.any(1)
    gain[taken] = np.inf
    return gain, steps


def _one_entry(objective: BankObjective, column: int, step: int) -> Integers:
    steps = np.zeros((1, objective.num_classes), dtype=np.int64)
    steps[0, column] = step
    return steps


def _proposals(objective: BankObjective) -> list[_Proposal]:
    best, best_steps = _best_steps(objective, objective.weights, objective.slopes(), objective.bends())
    gain, steps = _beginnings(objective, best, best_steps)
    found = [
        _Proposal(float(gain[row]), np.array([row]), steps[row][None])
        for row in np.argsort(gain)[:_BEGINNINGS]
        if gain[row] < 0
    ]
    there = (objective.weights != 0).any(1) | (objective.model.groups < 0)
    singles = np.where(there[:, None], best, np.inf)
    for flat in np.argsort(singles, axis=None)[:_PROPOSALS]:
        row, column = divmod(int(flat), objective.num_classes)
        if singles[row, column] < 0:
            step = _one_entry(objective, column, int(best_steps[row, column]))
            found.append(_Proposal(float(singles[row, column]), np.array([row]), step))
    return sorted(found, key=lambda proposal: proposal.gain)


def descend(objective: BankObjective, should_stop: Stop, rounds: int, tolerance: float) -> None:
    """Change entries and begin rows until a round gains less than ``tolerance`` or nothing is accepted."""
    for _ in range(rounds):
        if should_stop():
            return
        objective.refresh()
        before = objective.value()
        accepted = sum(objective.attempt(p.rows, p.steps) for p in _proposals(objective))
        if not accepted or (accepted < 3 and before - objective.value() < tolerance):
            return


def delete_rows(objective: BankObjective) -> None:
    """Try to do without each used row."""
    for row in objective.used_rows():
        one = np.array([row])
        objective.attempt(one, -objective.weights[one])


def _refine(objective: BankObjective, row: Rows) -> None:
    """Best single changes of one row, while they help."""
    for _ in range(_REFINEMENTS):
        slopes, bends = objective.slopes(row), objective.bends(row)
        best, steps = _best_steps(objective, objective.weights[row], slopes, bends)
        column = int(best[0].argmin())
        if best[0, column] >= -_MIN_GAIN:
            return
        if not objective.attempt(row, _one_entry(objective, column, int(steps[0, column]))):
            return


def insert_rows(objective: BankObjective) -> int:
    """Begin promising rows and refine each before it is judged; returns how many stay."""
    objective.refresh()
    best, best_steps = _best_steps(objective, objective.weights, objective.slopes(), objective.bends())
    gain, steps = _beginnings(objective, best, best_steps)
    kept = 0
    for row in np.argsort(gain)[:_INSERTIONS]:
        if gain[row] > _INSERTION_SLACK:
            break
        one = np.array([row])
        saved = objective.save(one)
        before = objective.loss + objective.cost(one)
        objective.attempt(one, steps[one], _ALWAYS)
        _refine(objective, one)
        if objective.loss + objective.cost(one) < before - _MIN_GAIN:
            kept += 1
        else:
            objective.restore(saved)
    return kept


def replace_rows(objective: BankObjective, should_stop: Stop, order: np.random.Generator) -> int:
    """Take out each used row in turn and put the best one in its place, or none; returns how many changed."""
    objective.refresh()
    rows = objective.used_rows()
    order.shuffle(rows)
    changed, bends = 0, None
    for index, row in enumerate(rows):
        if should_stop():
            break
        one = np.array([row])
        if not objective.weights[one].any():
            continue
        if index % _CURVATURE_EVERY == 0:
            bends = objective.bends()
        assert bends is not None
        changed += _replace(objective, one, bends)
    return changed


def _replace(objective: BankObjective, one: Rows, bends: Floats) -> bool:
    whole = objective.save(one)
    before = objective.loss + objective.cost(one)
    objective.attempt(one, -objective.weights[one], _ALWAYS)
    without = objective.loss + objective.cost(one)
    best, best_steps = _best_steps(objective, objective.weights, objective.slopes(), bends)
    gain, steps = _beginnings(objective, best, best_steps)
    empty = objective.save(np.array([], dtype=np.intp))
    reached = before - _MIN_GAIN
    found: Saved | None = None
    if without < reached:
        reached, found = without, empty
    for row in np.argsort(gain)[:_REPLACEMENTS]:
        if gain[row] > max(0.0, before - without + _INSERTION_SLACK):
            break
        other = np.array([row])
        saved = objective.save(other)
        absent = objective.cost(other)
        objective.attempt(other, steps[other], _ALWAYS)
        _refine(objective, other)
        value = without + (objective.loss - saved.loss) + objective.cost(other) - absent
        if value < reached:
            reached, found = value, objective.save(other)
        objective.restore(saved)
    objective.restore(found if found is not None else whole)
    return found is not None


def _shortlists(objective: BankObjective, beyond: bool) -> list[Rows]:
    """For each class the rows worth pairing: those in use, and if ``beyond`` those with the largest predicted gain."""
    used = (objective.weights != 0).any(1) | (objective.model.groups < 0)
    if not beyond:
        return [np.flatnonzero(used)] * objective.num_classes
    gains = objective.slopes() ** 2 / objective.bends()
    gains[used] = np.inf
    return [np.sort(np.argsort(-gain, kind="stable")[:_SHORTLIST]) for gain in gains.T]


def _single_costs(
    objective: BankObjective, rows: Rows, label: int, slopes: Floats, bends: Floats
) -> tuple[Floats, Integers]:
    """Predicted change ``[rows, steps]`` of each single step of one class; an unused row pays for its beginning."""
    weights = objective.weights[rows, label]
    after = [np.clip(weights + step, -LIMIT, LIMIT) for step in _PAIR_STEPS]
    steps = np.stack([*(a - weights for a in after), -weights, -2 * weights], 1)
    costs = slopes[rows, label, None] * steps + 0.5 * bends[:, None] * steps * steps
    costs += _entry_costs(objective, np.broadcast_to(weights[:, None], steps.shape), weights[:, None] + steps)
    prices = objective.prices
    unused = ~(objective.weights[rows] != 0).any(1) & (objective.model.groups[rows] >= 0)
    begin = prices.used[rows] - prices.unused[rows] + objective.num_classes * prices.entries[LIMIT]
    costs += np.where(unused, objective.bit_price * begin, 0.0)[:, None]
    costs[steps == 0] = np.inf
    return costs, steps


def _pair_proposals(
    objective: BankObjective, rows: Rows, label: int, hessian: Floats, slopes: Floats
) -> list[_Proposal]:
    costs, steps = _single_costs(objective, rows, label, slopes, np.maximum(np.diag(hessian), 1e-12))
    owner = np.repeat(np.arange(len(rows)), steps.shape[1])
    flat, flat_costs = steps.ravel(), costs.ravel()
    first = np.argsort(flat_costs, kind="stable")[:_FIRST_MOVES]
    joint = flat_costs[first][:, None] + flat_costs[None]
    joint = joint + hessian[np.ix_(owner[first], owner)] * np.outer(flat[first], flat)
    joint[owner[first][:, None] == owner[None]] = np.inf
    found = []
    kept = np.argpartition(joint, min(_PAIRS_PER_CLASS, joint.size - 1), axis=None)[:_PAIRS_PER_CLASS]
    for index in kept:
        a, b = np.unravel_index(index, joint.shape)
        if joint[a, b] < -_MIN_GAIN:
            change = np.zeros((2, objective.num_classes), dtype=np.int64)
            change[:, label] = flat[first[a]], flat[b]
            found.append(_Proposal(float(joint[a, b]), rows[[owner[first[a]], owner[b]]], change))
    return found


def descend_pairs(objective: BankObjective, should_stop: Stop, beyond: bool) -> None:
    """Change two entries of one class at a time.

    Args:
        objective: changed in place.
        should_stop: ends it between rounds.
        beyond: whether promising rows are looked at besides those in use, in more rounds; several times as long.
    """
    objective.refresh()
    lists, features = _shortlists(objective, beyond), objective.examples.features_t
    hessians = [objective.class_hessian(c, features[torch.from_numpy(rows)]) for c, rows in enumerate(lists)]
    rows = np.unique(np.concatenate(lists))
    for _ in range(_PAIR_ROUNDS if beyond else _FEW_PAIR_ROUNDS):
        if should_stop():
            return
        objective.refresh()
        slopes = np.zeros(objective.weights.shape)
        slopes[rows] = objective.slopes(rows)
        found: list[_Proposal] = []
        for label, (chosen, hessian) in enumerate(zip(lists, hessians, strict=True)):
            found += _pair_proposals(objective, chosen, label, hessian, slopes)
        if not _attempt_apart(objective, found):
            return


def _attempt_apart(objective: BankObjective, proposals: list[_Proposal]) -> int:
    """Attempt the best proposals of which no two change the same entry."""
    used: set[tuple[int, int]] = set()
    accepted = tried = 0
    for proposal in sorted(proposals, key=lambda p: p.gain):
        row_places, columns = np.nonzero(proposal.steps)
        touched = {(int(proposal.rows[r]), int(c)) for r, c in zip(row_places, columns, strict=True)}
        if used & touched:
            continue
        used |= touched
        accepted += objective.attempt(proposal.rows, proposal.steps)
        tried += 1
        if tried == _PROPOSALS:
            break
    return accepted


def kick(objective: BankObjective, share: float, order: np.random.Generator) -> None:
    """Drop a random share of the used rows (at least one), so that the next descent finds another way."""
    rows = objective.used_rows()
    if len(rows):
        count = max(1, round(share * len(rows)))
        for row in order.choice(rows, size=min(count, len(rows)), replace=False):
            one = np.array([row])
            objective.attempt(one, -objective.weights[one], _ALWAYS)
