"""Fit a mixture of linear regressions by expectation maximisation (Shin 2021, Figure 3; De Veaux 1989).

Each point ``(x, y)`` comes from one of ``k`` lines: ``y = intercept_j + slope_j x + sigma_j g`` with probability
``weight_j``, ``g`` standard normal. EM raises the likelihood at every step and ends at one of its many local maxima, so
it starts from several partitions (k-means of the standardised points, and random lines through two points), and the
likeliest end is kept. The number of lines is the one of smallest BIC, ``(4 k - 1) ln n - 2 ln L``.

The likelihood has no maximum without a lower limit on ``sigma_j``, because a line through two points fits them
exactly: no ``sigma_j`` falls below ``FLOOR`` times that of the single line. NOT promised: that the global maximum was
found, or that there are as many groups as lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import InputError
from bitcert.random import stream

FLOOR = 0.03
"""Least standard deviation of a line's residuals, relative to that of the single line."""

STARTS = 24
_SHORT, _KEPT, _STEPS, _GAIN = 20, 3, 500, 1e-8
"""Steps of EM from every start, how many of the likeliest go on, steps at most, and the relative gain that ends it."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mixture:
    """``k`` lines, from the smallest slope to the largest.

    Attributes:
        weights, slopes, intercepts, deviations: ``[k]``; the weights sum to 1.
        log_likelihood: natural logarithm, of all points.
        bic: ``(4 k - 1) ln n - 2 log_likelihood``; smaller is better.
        memberships: ``[n, k]``, probability that a point is of each line.
    """

    weights: Array
    slopes: Array
    intercepts: Array
    deviations: Array
    log_likelihood: float
    bic: float
    memberships: Array

    @property
    def labels(self) -> NDArray[np.int64]:
        """The likeliest line of each point, ``[n]``."""
        labels: NDArray[np.int64] = self.memberships.argmax(1)
        return labels


def fit_mixture(x: Array, y: Array, lines: int, *, starts: int = STARTS, seed: int = 0) -> Mixture:
    """The likeliest mixture of this many lines that EM finds.

    Args:
        x, y: ``[n]``, finite.
        lines: ``k``, at least 1; there must be ``4 k`` points.
        starts: of EM; half of them by k-means, half by random lines.
        seed: of the random starts.

    Raises:
        InputError: too few points, values that are not finite, or ``x`` that is constant.

    >>> x = np.arange(8.0)
    >>> fit = fit_mixture(x, 2 * x + np.array([1, -1] * 4), 1)
    >>> round(float(fit.slopes[0]), 3), round(float(fit.intercepts[0]), 3)
    (1.905, 0.333)
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if lines < 1 or x.ndim != 1 or x.shape != y.shape or len(x) < 4 * lines:
        got = f"{lines} lines, shapes {x.shape} and {y.shape}"
        raise InputError("1 line or more and at least 4 points for each", got, "give more points, or fewer lines")
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0:
        raise InputError("finite points with more than one x", "others", "leave such points out")
    design = np.stack([np.ones_like(x), x], axis=1)
    single = _regress(design, y, np.ones((len(x), 1)), 0.0)
    floor = FLOOR * float(single[2][0]) or 1e-300
    begun = [np.ones((len(x), 1))] if lines == 1 else _starts(x, y, lines, starts, seed)
    short = sorted((_climb(design, y, start, floor, _SHORT) for start in begun), key=lambda fit: -fit.log_likelihood)
    ends = (_climb(design, y, fit.memberships, floor, _STEPS) for fit in short[:_KEPT])
    return max(ends, key=lambda fit: fit.log_likelihood)


def choose_mixture(x: Array, y: Array, *, most: int = 4, starts: int = STARTS, seed: int = 0) -> tuple[Mixture, ...]:
    """The best mixtures of 1, 2, ... lines (as many as the points allow), that of smallest BIC first."""
    counts = range(1, max(1, min(most, len(x) // 4)) + 1)
    return tuple(sorted((fit_mixture(x, y, k, starts=starts, seed=seed) for k in counts), key=lambda fit: fit.bic))


def _starts(x: Array, y: Array, lines: int, count: int, seed: int) -> list[Array]:
    from scipy.cluster.vq import kmeans2  # takes a quarter of a second to load

    rng = stream(seed, f"mixture of {lines} regressions")
    points = np.stack([x, y], axis=1)
    points = (points - points.mean(0)) / np.maximum(points.std(0), 1e-300)
    found = []
    for k in range(count):
        if k % 2:
            pairs = np.stack([rng.choice(len(x), size=2, replace=False) for _ in range(lines)])
            gaps = np.where(x[pairs[:, 1]] == x[pairs[:, 0]], np.inf, x[pairs[:, 1]] - x[pairs[:, 0]])
            slopes = (y[pairs[:, 1]] - y[pairs[:, 0]]) / gaps
            labels = np.abs(y[:, None] - y[pairs[:, 0]] - slopes * (x[:, None] - x[pairs[:, 0]])).argmin(1)
        else:
            _, labels = kmeans2(points, lines, minit="++", seed=rng)
        found.append(np.eye(lines)[labels] * 0.9 + 0.1 / lines)
    return found


def _regress(design: Array, y: Array, shares: Array, floor: float) -> tuple[Array, Array, Array]:
    """The M step: weights ``[k]``, coefficients ``[2, k]`` and deviations ``[k]`` of weighted least squares."""
    totals = np.maximum(shares.sum(0), 1e-12)
    centre = shares.T @ design[:, 1] / totals
    away = design[:, 1][:, None] - centre
    spread = (shares * away**2).sum(0)
    mean = shares.T @ y / totals
    slopes = (shares * away * (y[:, None] - mean)).sum(0) / np.maximum(spread, 1e-300)
    lines = np.stack([mean - slopes * centre, slopes])
    squares = (shares * (y[:, None] - design @ lines) ** 2).sum(0) / totals
    return totals / len(y), lines, np.maximum(np.sqrt(squares), floor)


def _climb(design: Array, y: Array, shares: Array, floor: float, steps: int) -> Mixture:
    """EM from these memberships."""
    before = -math.inf
    for _ in range(steps):
        weights, lines, deviations = _regress(design, y, shares, floor)
        logs = np.log(weights) - np.log(deviations) - 0.5 * math.log(2 * math.pi)
        logs = logs - 0.5 * ((y[:, None] - design @ lines) / deviations) ** 2
        top = logs.max(1, keepdims=True)
        shares = np.exp(logs - top)
        total = shares.sum(1, keepdims=True)
        shares, likelihood = shares / total, float((np.log(total) + top).sum())
        if likelihood - before < _GAIN * abs(likelihood):
            break
        before = likelihood
    order = np.argsort(lines[1], kind="stable")
    bic = (4 * len(order) - 1) * math.log(len(y)) - 2 * likelihood
    return Mixture(
        weights[order], lines[1][order], lines[0][order], deviations[order], likelihood, bic, shares[:, order]
    )
