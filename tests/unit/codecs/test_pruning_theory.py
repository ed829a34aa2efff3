"""Guha 2023, sections 4 and D: every formula against Monte Carlo or quadrature; what is printed wrongly fails.

Seeds are fixed; tolerances are four standard errors of the simulation.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betainc

from bitcert.errors import InputError
from bitcert.random import stream
from bitcert.theory.formulas.pruning_theory import (
    at_least,
    check_strength,
    discretisation_step,
    fourth_moment,
    keep_probability,
    naive_bits,
    output_bound,
    prunable_probability,
    second_moment,
    spectral_bound,
    union_deviation,
)

PSI = 0.3


def draws(purpose: str) -> np.random.Generator:
    return stream(0, f"test pruning theory/{purpose}")


def pruned_part(rng: np.random.Generator, shape: tuple[int, ...], d: float) -> np.ndarray:
    """``Delta``: the entries that Algorithm 1 removes, off the diagonal."""
    a = math.sqrt(PSI) * rng.normal(size=shape)
    return np.where(rng.random(shape) < np.exp(-(a**2) / (d * PSI)), a, 0.0)


def off_by(samples: np.ndarray, claim: float) -> float:
    """Distance of a mean from a claim in standard errors."""
    return abs(samples.mean() - claim) / (samples.std() / math.sqrt(samples.size))


@pytest.mark.parametrize("d", [0.1, 1.0, 7.0])
def test_moments_and_keep_probability_hold(d):
    delta = pruned_part(draws("moments"), (400_000,), d)
    assert off_by(delta, 0.0) < 4
    assert off_by((delta == 0).astype(float), keep_probability(d)) < 4
    assert off_by(delta**2, second_moment(d, PSI)) < 4
    assert off_by(delta**4, fourth_moment(d, PSI)) < 4


@pytest.mark.parametrize("d", [0.1, 7.0])
def test_what_is_printed_of_the_moments_fails(d):
    """Erratum 7: ``d_2^(3/2)`` with the width ``d_2``; and equations 9-11 call chi the prune probability."""
    delta = pruned_part(draws("moments"), (400_000,), d)
    width = 50
    assert off_by(delta**2, width**1.5 * PSI / (d + 2) ** 1.5) > 20
    assert off_by(delta**4, 3 * width**2.5 * PSI**2 / (d + 2) ** 2.5) > 20
    assert off_by((delta != 0).astype(float), keep_probability(d)) > 20


def test_a_fourth_moment_without_its_three_would_be_seen():
    delta = pruned_part(draws("moments"), (400_000,), 1.0)
    assert off_by(delta**4, fourth_moment(1.0, PSI) / 3) > 20


@pytest.mark.parametrize(("shape", "d"), [((30, 60), 0.2), ((50, 50), 5.0)])
def test_gamma_with_constant_one_bounds_the_spectral_norm_of_gaussian_layers(shape, d):
    """Lemma 4.2; the factor one half fails, so the bound is within 2 of the truth."""
    rng = draws("norms")
    norms = [np.linalg.norm(pruned_part(rng, shape, d), 2) for _ in range(40)]
    gamma = spectral_bound(shape, d, PSI)
    assert np.mean(norms) < gamma
    assert np.mean(norms) > gamma / 2
    epsilon = 1.5
    assert np.mean(np.array(norms) > epsilon * gamma) <= 1 / epsilon
    assert spectral_bound(shape, d, PSI, 3.0) == pytest.approx(3 * gamma)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_condition_of_lemma_4_4_leaves_next_to_nothing_to_prune(depth):
    """With C = 1, epsilon > L and Gaussian layers, rho > 0 needs ``d < 2 / (L^(8/3) - 1)``: few entries are pruned."""
    shape = (300, 400)
    norm = math.sqrt(PSI) * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    limit = 2 / (depth ** (8 / 3) - 1)
    gamma = spectral_bound(shape, limit, PSI)
    assert discretisation_step(norm, depth, depth * gamma, 1000) < 0
    allowed = limit
    while discretisation_step(norm, depth, depth * spectral_bound(shape, allowed, PSI), 1000) <= 0:
        allowed *= 0.9
    assert keep_probability(allowed) > 0.6


def relu_chain(matrices: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for k, matrix in enumerate(matrices):
        x = matrix @ (np.maximum(x, 0) if k else x)
    return x


def test_the_output_bound_holds_where_its_condition_does():
    rng = draws("outputs")
    for _ in range(20):
        matrices = [rng.normal(size=s) for s in ((7, 5), (6, 7), (3, 6))]
        norms = tuple(float(np.linalg.norm(m, 2)) for m in matrices)
        changes = []
        for m, norm in zip(matrices, norms, strict=True):
            u = rng.normal(size=m.shape)
            changes.append(u / np.linalg.norm(u, 2) * norm / 3 * rng.random())
        x = rng.normal(size=(5, 40)) * 10
        bound = output_bound(
            float(np.linalg.norm(x, axis=0).max()), norms, tuple(float(np.linalg.norm(c, 2)) for c in changes)
        )
        changed = relu_chain([m + c for m, c in zip(matrices, changes, strict=True)], x)
        assert np.linalg.norm(changed - relu_chain(matrices, x), axis=0).max() <= bound


def test_the_input_dimension_is_no_bound_on_the_input():
    """Erratum 8: ``d_1^0`` in place of ``max ||x||`` fails for pixels of size 255."""
    x, change = np.full(4, 255.0), 0.5 * np.eye(4)
    true = float(np.linalg.norm(change @ x))
    assert true <= output_bound(float(np.linalg.norm(x)), (1.0,), (0.5,))
    assert true > output_bound(4.0, (1.0,), (0.5,))


def test_rounding_to_the_step_of_lemma_4_4_stays_within_its_bound():
    a = draws("rounding").normal(size=(20, 30))
    step = 0.7
    rounded = step * np.rint(a / step)
    assert np.linalg.norm(a - rounded, 2) <= step * a.size
    assert np.linalg.norm(a - rounded, 2) <= step / 2 * math.sqrt(a.size)


def test_the_naive_count_is_the_number_of_sparse_matrices():
    exact = math.log2(math.comb(50, 7) * 16**7)
    assert naive_bits(50, 7, 16) == pytest.approx(exact)
    assert naive_bits(50, 43, 16) != pytest.approx(exact)  # erratum 10: alpha compressed instead of kept
    assert naive_bits(10, 0, 0) == 0


@pytest.mark.parametrize(("kappa", "d", "tau"), [(0.5, 1.0, 12), (0.8, 4.0, 15)])
def test_lemma_d2_counts_entries_that_are_likely_pruned(kappa, d, tau):
    """The probability of at least ``tau``; what is printed is that of more than ``tau``."""
    size, rng = 20, draws("d2")
    a = rng.normal(size=(40_000, size))
    counts = (np.exp(-(a**2) / d) >= kappa).sum(1)
    p = prunable_probability(kappa, d)
    assert off_by((counts >= tau).astype(float), at_least(tau, size, p)) < 4
    printed = 1 - betainc(size - tau, 1 + tau, 1 - p)
    assert off_by((counts >= tau).astype(float), float(printed)) > 8
    assert off_by((counts > tau).astype(float), float(printed)) < 4


@pytest.mark.parametrize(("kappa", "tau", "alpha"), [(0.3, 12, 4), (0.9, 8, 8)])
def test_lemma_d3_counts_pruned_entries(kappa, tau, alpha):
    pruned = (draws("d3").random((40_000, tau)) < kappa).sum(1)
    assert off_by((pruned >= alpha).astype(float), at_least(alpha, tau, kappa)) < 4
    if alpha < tau:
        printed = 1 - betainc(tau - alpha, alpha + 1, 1 - kappa)
        assert off_by((pruned >= alpha).astype(float), float(printed)) > 8


def test_at_least_at_its_ends():
    assert at_least(0, 5, 0.1) == 1
    assert at_least(6, 5, 0.9) == 0
    assert at_least(5, 5, 0.5) == pytest.approx(0.5**5)


def test_lemma_e1_fails_where_there_are_about_as_many_balls_as_bins():
    """At most 3N/n in any bin with probability ``1 - n^(-1/3)``: false, so Lemma 5.1 is not used for anything."""
    n, rng = 1000, draws("balls")
    held = [np.bincount(rng.integers(n, size=n), minlength=n).max() <= 3 for _ in range(100)]
    assert np.mean(held) < 0.1 < 1 - n ** (-1 / 3)


def test_lemma_5_1_forgets_the_diagonal():
    """A 100 x 100 layer pruned hard: the bound is below the one entry of the diagonal that every row keeps.

    Lemma 5.1 has ``3 lambda max(d1, d2) chi`` for the non-zeros of any row or column.
    """
    assert 3.0 * 2.0 * 100 * keep_probability(1e4) < 1


@pytest.mark.parametrize("num_samples", [50, 400])
def test_theorem_d1_with_its_square_holds_and_without_fails(num_samples):
    """Erratum 11: ``J exp(-2 tau n) = delta`` gives a much smaller, false tau."""
    delta = 0.05
    means = draws("d1").binomial(num_samples, 0.5, size=40_000) / num_samples
    tau = union_deviation(0.0, num_samples, delta)
    assert np.mean(0.5 - means >= tau) <= delta
    without_square = -math.log(delta) / (2 * num_samples)
    assert np.mean(0.5 - means >= without_square) > 2 * delta
    assert union_deviation(10.0, num_samples, delta) == pytest.approx(
        math.sqrt(math.log(math.sqrt(1024 / delta)) / num_samples)
    )


@pytest.mark.parametrize("d", [0.0, -1.0, math.nan, math.inf])
def test_strengths_that_make_no_sense_are_refused(d):
    with pytest.raises(InputError, match="strength"):
        check_strength(d)


def test_other_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="kappa"):
        prunable_probability(1.5, 1.0)
    with pytest.raises(InputError, match="delta"):
        union_deviation(1.0, 0, 0.5)
