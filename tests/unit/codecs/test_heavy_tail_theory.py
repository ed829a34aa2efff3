"""Shin's propositions: the sparsity bound by simulation; the printed error fails (erratum 12), the proved one holds."""

from __future__ import annotations

import json
import math

import numpy as np
import powerlaw
import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.codecs.base import Selection
from bitcert.codecs.heavy_tail import HeavyTail
from bitcert.theory.formulas.heavy_tail_theory import (
    Reading,
    layer_sparsity,
    replacement_error,
    sparsity_bound,
    sparsity_log_probability,
)
from tests.reference import heavy_tail_naive as naive


def power_law(alpha: float, size: int, seed: int = 0) -> np.ndarray:
    """Density ``alpha w^-(alpha+1)`` on ``w >= 1``, with random signs."""
    rng = np.random.default_rng(seed)
    return rng.random(size) ** (-1 / alpha) * rng.choice([-1.0, 1.0], size)


@pytest.mark.parametrize(("n", "p"), [(30, 0.1), (200, 0.03), (50, 0.6), (10, 1e-6)])
def test_prop_1_2_is_above_the_exact_binomial_tail(n, p):
    for k in range(n + 1):
        exact = naive.binomial_tail(k, n, p)
        bound = math.exp(sparsity_log_probability(k, n, p))
        assert exact <= bound * (1 + 1e-12)
        if k > n * p and 0 < k < n:
            printed = (n * p / k) ** k * ((1 - p) / (1 - k / n)) ** (n - k)
            assert bound == pytest.approx(printed, rel=1e-9)
    assert sparsity_log_probability(n + 1, n, p) == -math.inf


@pytest.mark.parametrize(("n", "p", "eta"), [(30, 0.1, 0.05), (1000, 0.01, 1e-6), (5, 0.9, 0.01), (100, 1.0, 0.5)])
def test_sparsity_bound_is_the_smallest_k(n, p, eta):
    k = sparsity_bound(n, p, eta)
    assert n * p < k <= n + 1
    assert sparsity_log_probability(k, n, p) <= math.log(eta)
    assert sparsity_log_probability(k - 1, n, p) > math.log(eta)


def test_the_sparsity_bound_holds_for_weights_of_a_true_power_law():
    """Known law: the rate at which the count reaches k is at most eta, and k is not far above the counts."""
    n, alpha, tau, eta, trials = 2000, 1.5, 6.0, 0.05, 2000
    p = tau**-alpha
    k = sparsity_bound(n, p, eta)
    rng = np.random.default_rng(1)
    counts = (rng.random((trials, n)) ** (-1 / alpha) > tau).sum(1)
    assert np.mean(counts >= k) <= eta
    assert np.mean(counts >= n * p) > 0.4  # the bound is not passed because counts are small
    assert k < n * p + 4 * math.sqrt(n * p)


def test_the_fitted_law_predicts_the_count():
    """Signed weights are fitted by |w| (erratum 13), and the density's exponent is alpha + 1."""
    weight = power_law(1.8, 4000).reshape(40, 100)
    found = layer_sparsity(weight, 8.0, 0.01)
    assert found.fit is not None
    assert found.fit.density_exponent - 1 == pytest.approx(1.8, abs=0.15)
    assert found.num_above == np.count_nonzero(np.abs(weight) > 8.0)
    assert found.num_above == pytest.approx(found.num_tail * found.p, rel=0.25)
    assert found.num_above < found.k < 2 * found.num_above
    assert found.power_law_holds is None
    below = layer_sparsity(weight, 0.5, 0.01)
    assert "not above w_m" in below.reason
    assert math.isnan(below.k)


def test_a_gaussian_is_not_taken_for_a_power_law():
    weight = np.random.default_rng(0).normal(size=(60, 60))
    assert layer_sparsity(weight, 1.0, 0.05).power_law_holds is False or layer_sparsity(weight, 1.0, 0.05).reason
    assert layer_sparsity(np.zeros((9, 9)), 1.0, 0.05).power_law_holds is False


@pytest.mark.parametrize("reading", Reading)
def test_prop_1_1_fails_as_printed_whatever_the_constant(reading):
    """Erratum 12: weights just below tau and constant u, v; the left side is tau sqrt(N1 N2) at every draw."""
    shape, tau, std, eta = (30, 40), 1.0, 0.5, 0.1
    epsilon = reading.epsilon(tau**2 + std**2, eta)
    a = np.full(shape, 0.999 * tau)
    u, v = np.full(shape[0], shape[0] ** -0.5), np.full(shape[1], shape[1] ** -0.5)
    rng = np.random.default_rng(0)
    errors = [abs(u @ (a - std * rng.normal(size=shape)) @ v) for _ in range(200)]
    assert min(errors) > 5 * epsilon
    assert max(errors) <= replacement_error(a, std, 1e-6)


def test_the_proved_error_holds_for_any_fixed_vectors():
    """Both for random vectors and for the singular vectors of what is replaced, where it is nearly reached."""
    rng, eta, trials = np.random.default_rng(2), 0.1, 3000
    difference = np.where(rng.random((12, 15)) < 0.7, rng.normal(size=(12, 15)), 0.0)
    replaced = difference != 0
    left, _, right = np.linalg.svd(difference)
    bound = replacement_error(difference, 0.8, eta)
    for u, v in ((left[:, 0], right[0]), (np.full(12, 12**-0.5), np.full(15, 15**-0.5))):
        noise = np.where(replaced, 0.8 * rng.normal(size=(trials, 12, 15)), 0.0)
        errors = np.abs(np.einsum("i,tij,j->t", u, difference - noise, v))
        assert np.mean(errors > bound) <= eta
    assert replacement_error(np.zeros((3, 3)), 0.0, eta) == 0


def test_the_three_readings_are_the_printed_equations():
    squares, eta = 0.7, 0.02
    logarithm = math.log(3 / eta)
    epsilon = {reading: reading.epsilon(squares, eta) for reading in Reading}
    assert 2 / squares == pytest.approx(2 * logarithm / epsilon[Reading.PROPOSITION] ** 2)
    assert 2 / squares == pytest.approx(logarithm / epsilon[Reading.APPENDIX] ** 2)
    assert 3 * math.exp(-(epsilon[Reading.TAIL] ** 2) / (2 * squares)) == pytest.approx(eta)


def test_theory_counts_and_describes():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 5))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor(power_law(1.5, 2560)).view(40, 64))
    network = capture(net, torch.rand(2, 64))
    codec = HeavyTail(tau=5.0, compare="magnitude", selection=Selection(layers=("1.weight",)))
    theory = codec.theory(network)
    (row,) = theory.layers
    weight = network.parameters["1.weight"].numpy()
    assert row.parameters == np.count_nonzero(np.abs(weight) > 5) == row.details["above tau"]
    assert theory.parameters == row.parameters + 200
    assert row.details["k"] > row.parameters
    assert row.error == pytest.approx(math.sqrt((25 + weight.astype(float).var()) * math.log(60)))
    assert {c.name: c.holds for c in theory.conditions}["tau above w_m"] is True
    json.dumps(theory.describe(), allow_nan=False)
    json.dumps(HeavyTail(quantile=0.0).theory(network).describe(), allow_nan=False)


def dense(matrix: np.ndarray):
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(matrix).float())
    return capture(layer, torch.ones(2, matrix.shape[1]))


def test_erratum_20_the_exponent_is_the_densitys_as_the_package_returns_it():
    """Table 1 of the paper shows what powerlaw returns; its formulas have that less one."""
    matrix = power_law(1.8, 3000).reshape(50, 60)
    (layer,) = HeavyTail(deviations=1.0).theory(dense(matrix)).layers
    theirs = powerlaw.Fit(np.abs(matrix).flatten(), parameter_ranges={"alpha": [1, None]}, verbose=0)
    assert layer.details["density exponent"] == pytest.approx(theirs.power_law.alpha, rel=1e-4)
    assert layer.details["density exponent"] == pytest.approx(2.8, abs=0.15)
    assert "alpha" not in layer.details
    assert layer.details["p"] == pytest.approx(
        (layer.details["w_m"] / layer.details["tau"]) ** (layer.details["density exponent"] - 1), rel=1e-4
    )


def test_nothing_replaced_makes_no_error():
    matrix = np.array([[1.0, -2.0, 3.0], [-1.5, 2.5, -3.5]])
    (layer,) = HeavyTail(tau=0.0, compare="magnitude").theory(dense(matrix)).layers
    assert (layer.details["kept"], layer.details["proved error"]) == (6.0, 0.0)
