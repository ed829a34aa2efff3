"""Shin 2021, section 5: densities by Fourier inversion and closed forms, brackets, rows and spikes by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from bitcert.errors import InputError
from bitcert.random import stream
from bitcert.theory.formulas import stable_laws as laws

X = np.array([-3.0, -0.7, 0.0, 0.4, 2.5])


def inverted(x, alpha, scale):
    """The density as the cosine transform of the characteristic function."""
    return quad(lambda u: math.cos(u * x) * math.exp(-((scale * u) ** alpha)) / math.pi, 0, 60, limit=400)[0]


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_normal_and_cauchy_are_special_cases(scale):
    normal = np.exp(-((X / scale) ** 2) / 4) / (2 * scale * math.sqrt(math.pi))
    assert laws.stable_density(X, 2.0, scale) == pytest.approx(normal, rel=1e-8)
    # the paper's footnote 2 prints (x - x0)^2 / gamma for ((x - x0) / gamma)^2, which is no density for gamma != 1
    cauchy = 1 / (math.pi * scale * (1 + (X / scale) ** 2))
    assert laws.stable_density(X, 1.0, scale) == pytest.approx(cauchy, rel=1e-8)


@pytest.mark.parametrize("alpha", [0.8, 1.5, 1.9])
def test_other_densities_by_fourier_inversion(alpha):
    expected = [inverted(x, alpha, 1.3) for x in X]
    assert laws.stable_density(X, alpha, 1.3) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.6])
def test_the_tail_is_equation_12(alpha):
    c, far = 1.3, np.array([400.0])
    printed = alpha * c**alpha * laws.tail_constant(alpha) * far ** -(alpha + 1)
    assert laws.stable_density(far, alpha, c) == pytest.approx(printed, rel=0.02)


def test_equation_14_is_the_integral_of_equation_12_and_only_far_out_that_of_the_law():
    c, alpha = 1.3, 1.5
    for i in (0, 3):
        tail = quad(lambda w: alpha * c**alpha * laws.tail_constant(alpha) * w ** -(alpha + 1), c**i, c ** (i + 1))[0]
        assert laws.bracket_tail_probability(alpha, i, c) == pytest.approx(tail)
        law = quad(lambda w: inverted(w, alpha, c), c**i, c ** (i + 1))[0]
        assert laws.bracket_probability(alpha, i, c) == pytest.approx(law, rel=1e-4)
    ratio = [laws.bracket_tail_probability(alpha, i, c) / laws.bracket_probability(alpha, i, c) for i in (0, 20)]
    assert ratio[0] > 1.5
    assert ratio[1] == pytest.approx(1, abs=0.02)


def test_a_path_is_a_binomial_tail():
    found = laws.path(p=0.02, i=2, c=1.3, top=5, row=64)
    k = 1.3**3
    assert found.k == pytest.approx(k)
    printed = (64 * 0.02 / k) ** k * ((1 - 0.02) / (1 - k / 64)) ** (64 - k)
    assert math.exp(found.log_printed) == pytest.approx(printed)
    assert found.log_bound == pytest.approx(found.log_printed)
    exact = sum(binom.pmf(j, 64, 0.02) for j in range(3, 65))
    assert math.exp(found.log_exact) == pytest.approx(exact)
    rng = stream(0, "test paths")
    share = np.mean((rng.random((40_000, 64)) < 0.02).sum(1) >= k)
    assert share == pytest.approx(exact, abs=0.01)
    assert exact <= math.exp(found.log_bound)


def test_where_the_bound_says_nothing_the_printed_expression_falls_below_the_probability():
    found = laws.path(p=0.2, i=5, c=1.3, top=5, row=64)
    assert found.log_bound == 0
    assert found.log_printed < -5  # and the probability is nearly 1
    assert math.exp(found.log_exact) > 0.999
    assert laws.path(p=0.1, i=0, c=4.0, top=5, row=64).log_printed == -math.inf  # more entries than there are


@pytest.mark.parametrize("p", [0.001, 0.03, 0.4])
@pytest.mark.parametrize("i", [0, 1.5, 4])
def test_the_bound_holds(p, i):
    found = laws.path(p=p, i=i, c=1.3, top=5, row=64)
    assert found.log_exact <= found.log_bound + 1e-12


@pytest.mark.parametrize("signed", [True, False])
def test_the_energy_of_the_spikes_by_monte_carlo(signed):
    rng = stream(0, "test spikes")
    x, tau, w_m, alpha = np.array([1.0, 2.0, 0.5, 1.5]), 0.6, 0.4, 6.0
    w = w_m * rng.random((200_000, 4)) ** (-1 / alpha)
    kept = np.where(w > tau, w, 0.0)
    if signed:
        kept *= rng.choice([-1.0, 1.0], size=kept.shape)
    simulated = np.mean((kept @ x) ** 2)
    assert laws.spike_energy(x, tau, w_m, alpha, signed=signed) == pytest.approx(simulated, rel=0.02)
    # as printed, with positive entries: the cross terms are missing
    printed = laws.spike_energy(x, tau, w_m, alpha, signed=True)
    assert (abs(printed / simulated - 1) < 0.02) == signed


def test_the_energy_by_hand_and_without_a_second_moment():
    # E[w^2; w > 1] = 4 * 0.5^4 * 1^-2 / 2 = 1/8
    assert laws.spike_energy(np.array([2.0]), 1.0, 0.5, 4.0, signed=True) == pytest.approx(4 / 8)
    assert laws.spike_energy(np.ones(3), 1.0, 0.5, 2.0, signed=True) == math.inf


def test_every_entry_is_in_one_part():
    rng = stream(0, "test brackets")
    weight = laws_sample(rng)
    found = laws.power_brackets(weight, 1.3, 5)
    naive = [[sum(1.3**i < w <= 1.3 ** (i + 1) for w in row) for i in range(6)] for row in weight]
    assert found.counts.tolist() == naive
    assert found.counts.sum() + found.above + found.small + found.negative == weight.size
    assert found.negative > 0


def laws_sample(rng):
    return 1.3 * np.tan(math.pi * (rng.random((5, 64)) - 0.5))  # Cauchy


@pytest.mark.parametrize(
    "call",
    [
        lambda: laws.stable_density(X, 2.5),
        lambda: laws.stable_density(X, 1.0, 0.0),
        lambda: laws.bracket_probability(1.0, 1, 1.0),
        lambda: laws.spike_energy(np.ones(2), 0.5, 0.5, 3.0, signed=True),
    ],
)
def test_what_has_no_meaning_is_refused(call):
    with pytest.raises(InputError):
        call()
