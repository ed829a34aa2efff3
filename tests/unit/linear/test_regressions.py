"""Mixtures of linear regressions: one line in closed form, the likelihood by hand, synthetic mixtures, refusals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bitcert.errors import InputError
from bitcert.linear import choose_mixture, fit_mixture
from bitcert.linear.regressions import FLOOR
from bitcert.random import stream


def drawn(lines, count, noise, seed=0):
    rng = stream(seed, "test mixtures")
    x, which = rng.uniform(1, 6, count), rng.integers(0, len(lines), count)
    slopes, intercepts = np.array(lines).T
    return x, intercepts[which] + slopes[which] * x + noise * rng.standard_normal(count), which


def log_likelihood(x, y, weights, slopes, intercepts, deviations):
    """Point by point, without the library."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        density = 0.0
        for w, s, i, d in zip(weights, slopes, intercepts, deviations, strict=True):
            density += w * math.exp(-(((b - i - s * a) / d) ** 2) / 2) / (d * math.sqrt(2 * math.pi))
        total += math.log(density)
    return total


def test_one_line_is_least_squares():
    x, y, _ = drawn([(0.7, 1.0)], 30, 0.4)
    fit = fit_mixture(x, y, 1)
    slope, intercept = np.polyfit(x, y, 1)
    assert (fit.slopes[0], fit.intercepts[0]) == pytest.approx((slope, intercept))
    sigma = math.sqrt(np.mean((y - slope * x - intercept) ** 2))
    assert fit.deviations[0] == pytest.approx(sigma)
    assert fit.log_likelihood == pytest.approx(-30 * (math.log(sigma) + 0.5 * math.log(2 * math.pi) + 0.5))
    assert fit.bic == pytest.approx(3 * math.log(30) - 2 * fit.log_likelihood)


def test_the_likelihood_is_that_of_the_lines_and_better_than_every_partition_of_few_points():
    x, y, _ = drawn([(1.0, 0.0), (-1.0, 9.0)], 10, 0.3)
    fit = fit_mixture(x, y, 2)
    own = log_likelihood(x, y, fit.weights, fit.slopes, fit.intercepts, fit.deviations)
    assert fit.log_likelihood == pytest.approx(own, rel=1e-6)
    slope, intercept = np.polyfit(x, y, 1)
    floor = FLOOR * math.sqrt(np.mean((y - slope * x - intercept) ** 2))
    best = -math.inf
    for part in itertools.product((False, True), repeat=9):  # the first point is in the first group
        second = np.array((False, *part))
        if not 3 <= second.sum() <= 7:
            continue
        lines = [np.polyfit(x[g], y[g], 1) for g in (~second, second)]
        spread = [
            max(floor, float(np.std(y[g] - np.polyval(line, x[g]))))
            for g, line in zip((~second, second), lines, strict=True)
        ]
        parts = np.array(lines).T
        best = max(best, log_likelihood(x, y, ((~second).mean(), second.mean()), *parts, spread))
    assert fit.log_likelihood >= best - 1e-6


@pytest.mark.parametrize(
    ("lines", "noise"),
    [([(0.8, 1.0)], 0.5), ([(0.5, 1.0), (-1.2, 9.0)], 0.25), ([(0.2, 0.0), (1.5, 0.0), (-1.0, 12.0)], 0.2)],
)
def test_synthetic_mixtures_are_found(lines, noise):
    x, y, which = drawn(lines, 90, noise)
    fit, *others = choose_mixture(x, y, most=3, starts=8)
    assert len(fit.slopes) == len(lines)
    assert all(fit.bic < other.bic for other in others)
    order = np.argsort([slope for slope, _ in lines])
    true = np.array(lines)[order]
    assert fit.slopes == pytest.approx(true[:, 0], abs=0.15)
    assert fit.intercepts == pytest.approx(true[:, 1], abs=0.5)
    assert fit.deviations == pytest.approx(noise, rel=0.35)
    assert np.mean(np.argsort(order)[which] == fit.labels) > 0.85
    assert fit.memberships.sum(1) == pytest.approx(1)
    assert fit.weights.sum() == pytest.approx(1)


def test_points_on_a_line_end_at_the_floor_and_not_at_infinity():
    x = np.arange(20.0)
    y = np.where(np.arange(20) % 2, 2 * x, 50 - x)
    fit = fit_mixture(x, y, 2)
    assert fit.slopes == pytest.approx([-1, 2], abs=0.01)
    line = np.polyfit(x, y, 1)
    assert fit.deviations == pytest.approx(FLOOR * np.std(y - np.polyval(line, x)))


def test_same_seed_same_lines():
    x, y, _ = drawn([(0.5, 1.0), (-1.2, 9.0)], 40, 0.4)
    assert np.array_equal(fit_mixture(x, y, 2, starts=4, seed=3).slopes, fit_mixture(x, y, 2, starts=4, seed=3).slopes)


@pytest.mark.parametrize(
    ("x", "y", "lines"), [([1, 2, 3], [1, 2, 3], 1), ([1] * 9, [1] * 9, 1), ([1, 2, 3, math.nan], [1, 2, 3, 4], 1)]
)
def test_what_cannot_be_fitted_is_refused(x, y, lines):
    with pytest.raises(InputError):
        fit_mixture(np.array(x, dtype=float), np.array(y, dtype=float), lines)
