"""The divergence of Gaussians: never below the exact one, hardly above it, and broken twins that are below."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from bitcert.errors import InputError
from bitcert.proof import gaussian_kl
from bitcert.random import stream


def cases():
    """Means, deviations, prior means and prior deviations, many of them nearly the prior."""
    rng = stream(0, "test gaussian")
    for spread in (0.0, 1e-9, 1e-4, 1.0, 30.0):
        for count in (1, 40):
            prior = np.exp(rng.normal(size=count))
            center = rng.normal(size=count)
            yield (
                center + spread * rng.normal(size=count),
                prior * np.exp(spread * rng.normal(size=count)),
                center,
                prior,
            )


def exact(mean, std, prior_mean, prior_std):
    """At 60 digits: ``ln(lambda/sigma) + (sigma^2 + (w - w_0)^2) / (2 lambda^2) - 1/2``."""
    with mp.workdps(60):
        total = mp.mpf(0)
        for w, s, c, p in zip(
            *(map(mp.mpf, map(float, each)) for each in (mean, std, prior_mean, prior_std)), strict=True
        ):
            total += mp.log(p / s) + (s**2 + (w - c) ** 2) / (2 * p**2) - mp.mpf(1) / 2
        return total


def check_is_never_below(divergence):
    for case in cases():
        assert divergence(*case) >= exact(*case), "below the exact divergence"


def to_nearest(mean, std, prior_mean, prior_std):
    """The formula as it is printed, in float64."""
    ratio, away = std / prior_std, mean - prior_mean
    return float((ratio**2 / 2 - 0.5 - np.log(ratio) + away**2 / (2 * prior_std**2)).sum())


def the_other_way_round(mean, std, prior_mean, prior_std):
    """``KL(P||Q)``."""
    return gaussian_kl(prior_mean, prior_std, mean, std)


def without_the_means(mean, std, prior_mean, prior_std):
    return gaussian_kl(prior_mean, std, prior_mean, prior_std)


def test_it_is_never_below_the_exact_divergence_and_hardly_above():
    check_is_never_below(gaussian_kl)
    for case in cases():
        assert gaussian_kl(*case) <= float(exact(*case)) * (1 + 1e-12) + 1e-14 * len(case[0])


@pytest.mark.parametrize("broken", [to_nearest, the_other_way_round, without_the_means])
def test_the_broken_twins_are_below(broken):
    with pytest.raises(AssertionError, match="below the exact divergence"):
        check_is_never_below(broken)


def test_one_prior_serves_many_numbers():
    assert gaussian_kl(np.ones((2, 3)), np.ones((2, 3)), 0.0, 1.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (([0.0, np.nan], 1.0, 0.0, 1.0), "mean of finite numbers"),
        (([0.0, 0.0], [1.0, 0.0], 0.0, 1.0), "std of positive numbers"),
        (([0.0, 0.0], [1.0, -1.0], 0.0, 1.0), "std of positive numbers"),
        ((0.0, 1.0, np.inf, 1.0), "prior_mean of finite numbers"),
        (([0.0, 0.0], 1.0, 0.0, [1.0, -1.0]), "prior_std of positive numbers"),
        ((0.0, 1.0, 0.0, np.inf), "prior_std of positive numbers"),
        (([0.0, 1e200], 1.0, 0.0, 1.0), "a divergence that is a finite number"),
        (([0.0, 1.0], [1.0, 1.0, 1.0], 0.0, 1.0), r"deviations and a prior that broadcast to the shape \(2,\)"),
        ((0.0, [1.0, 1.0], 0.0, 1.0), r"deviations and a prior that broadcast to the shape \(\)"),
        (([0.0, 1.0], 1.0, [[0.0], [1.0]], 1.0), r"deviations and a prior that broadcast to the shape \(2,\)"),
        (([[0.0], [1.0, 2.0]], 1.0, 0.0, 1.0), "mean of numbers"),
        (("many", 1.0, 0.0, 1.0), "mean of numbers"),
    ],
)
def test_what_is_no_gaussian_is_refused(arguments, reason):
    with pytest.raises(InputError, match=f"^expected {reason}, got"):
        gaussian_kl(*arguments)
