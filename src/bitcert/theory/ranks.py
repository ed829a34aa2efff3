"""How well a measure orders networks by their generalization gap (Jiang et al. 2020, Section 5).

Of networks ``t`` with measure ``mu(t)``, gap ``g(t)`` and hyperparameters ``h(t)``:

- Kendall's tau-b and Spearman's rho of ``(mu, g)``, with the two-sided p-value of no association (scipy).
- The granulated coefficient (their eq. 5 and 6): ``psi_i`` is the mean of ``tau = sum_{s != t} sign(mu(s) - mu(t))
  sign(g(s) - g(t)) / (n (n - 1))`` over the groups of networks that differ in hyperparameter ``i`` alone, and ``Psi``
  the mean of the ``psi_i``. A measure that only tells deep networks from shallow ones is good in one ``psi_i``.
- The conditional one (their eq. 8 to 10): over ordered pairs ``s != t``, with ``V_mu = sign(mu(s) - mu(t))``, ``V_g``
  alike and ``U_S = (h_i(s), h_i(t) for i in S)``, the smallest of ``I(V_mu; V_g | U_S) / H(V_g | U_S)`` over the sets
  ``S`` of at most two hyperparameters. 1: whatever is known of two hyperparameters, the measure tells which gap is
  larger; 0: it tells nothing that they do not tell.

Entropies are those of the observed frequencies: with few networks in a group the conditional coefficient comes out too
high, and a group of a single pair counts as told perfectly. Nothing here is corrected for the number of measures that
are looked at, and none of it shows a cause.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata, spearmanr

MOST_CONDITIONS = 2
"""Hyperparameters that are held fixed at once, as in Jiang et al."""

Hyperparameters = Sequence[Mapping[str, Hashable]]
"""Of each network its hyperparameters by name; all have the same names."""


@dataclass(frozen=True)
class Association:
    """A rank correlation in [-1, 1] and the two-sided p-value of none; not corrected for how many are looked at."""

    value: float
    p_value: float


def kendall(measures: Sequence[float], gaps: Sequence[float]) -> Association | None:
    """Kendall's tau-b; ``None`` for fewer than two networks or if all are equal in one of the two.

    >>> kendall([1.0, 2.0, 3.0], [0.1, 0.2, 0.3])
    Association(value=1.0, p_value=0.3333333333333333)
    """
    return _association(kendalltau, measures, gaps)


def spearman(measures: Sequence[float], gaps: Sequence[float]) -> Association | None:
    """Spearman's rho; ``None`` as for :func:`kendall`."""
    return _association(spearmanr, measures, gaps)


def _association(function: object, measures: Sequence[float], gaps: Sequence[float]) -> Association | None:
    if len(set(measures)) < 2 or len(set(gaps)) < 2:
        return None
    # ranks: a value of exactly 0 has the logarithm -inf
    found = function(rankdata(measures), rankdata(gaps))  # type: ignore[operator]
    p_value = float(found.pvalue)
    return Association(float(found.statistic), 1.0 if math.isnan(p_value) else p_value)


def granulated(
    measures: Sequence[float], gaps: Sequence[float], hyperparameters: Hyperparameters
) -> dict[str, float | None]:
    """``psi_i`` of each hyperparameter; ``None`` where no two networks differ in it alone.

    >>> granulated([1.0, 2.0], [0.1, 0.2], [{"width": 8, "lr": 0.1}, {"width": 16, "lr": 0.1}])
    {'width': 1.0}
    """
    found: dict[str, float | None] = {}
    for axis in names_of(hyperparameters):
        groups: dict[tuple[Hashable, ...], list[int]] = {}
        for k, own in enumerate(hyperparameters):
            groups.setdefault(tuple(value for name, value in own.items() if name != axis), []).append(k)
        taus = [
            _tau([measures[k] for k in group], [gaps[k] for k in group])
            for group in groups.values()
            if len({hyperparameters[k][axis] for k in group}) > 1
        ]
        found[axis] = math.fsum(taus) / len(taus) if taus else None
    return found


def _tau(measures: Sequence[float], gaps: Sequence[float]) -> float:
    """``sum_{s != t} sign(mu(s) - mu(t)) sign(g(s) - g(t)) / (n (n - 1))``: a tie counts as 0."""
    count = len(measures)
    return float((_signs(measures) * _signs(gaps)).sum()) / (count * (count - 1))


def _signs(values: Sequence[float]) -> NDArray[np.float64]:
    """``[n, n]``: the sign of every difference, -1, 0 or 1."""
    ranks = rankdata(values)
    return np.asarray(np.sign(ranks[:, None] - ranks[None, :]), np.float64)


def conditional(
    measures: Sequence[float], gaps: Sequence[float], hyperparameters: Hyperparameters
) -> tuple[float, tuple[str, ...]] | None:
    """The smallest normalised conditional information, and the hyperparameters that it is conditioned on.

    Sets on which the gap's order has no entropy left say nothing and are passed over; ``None`` if that is so of all.

    >>> conditional([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], [{}, {}, {}])
    (1.0, ())
    """
    count = len(measures)
    left, right = np.nonzero(~np.eye(count, dtype=bool))
    first, second = (_signs(values)[left, right].astype(int).tolist() for values in (measures, gaps))
    values = {name: [own[name] for own in hyperparameters] for name in names_of(hyperparameters)}
    found = []
    for size in range(min(MOST_CONDITIONS, len(values)) + 1):
        for chosen in itertools.combinations(values, size):
            given = [
                tuple((values[name][s], values[name][t]) for name in chosen)
                for s, t in zip(left.tolist(), right.tolist(), strict=True)
            ]
            share = _normalised(first, second, given)
            if share is not None:
                found.append((share, chosen))
    return min(found, key=lambda entry: (entry[0], len(entry[1]))) if found else None


def _normalised(first: Sequence[int], second: Sequence[int], given: Sequence[Hashable]) -> float | None:
    """``I(first; second | given) / H(second | given)``, or ``None`` without entropy."""
    known = _entropy(given)
    alone = _entropy(list(zip(second, given, strict=True))) - known
    if alone <= 1e-12:
        return None
    with_first = _entropy(list(zip(first, second, given, strict=True))) - _entropy(list(zip(first, given, strict=True)))
    return min(1.0, max(0.0, (alone - with_first) / alone))


def _entropy(outcomes: Sequence[Hashable]) -> float:
    """In nats, of the observed frequencies."""
    total = len(outcomes)
    return math.log(total) - math.fsum(n * math.log(n) for n in Counter(outcomes).values()) / total if total else 0.0


def names_of(hyperparameters: Hyperparameters) -> list[str]:
    """Those that differ between the networks."""
    names = list(hyperparameters[0]) if hyperparameters else []
    return [name for name in names if len({own[name] for own in hyperparameters}) > 1]
