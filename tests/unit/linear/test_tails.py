"""Power-law fits: known exponents, the package's own search, erratum 13, degenerate data, no traces left."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from bitcert.linear import eigenvalue_tail, fit_tail, weight_tail
from bitcert.linear.tails import MAX_POINTS, _find_xmin
from tests.reference import linear_naive as naive


def samples(name: str, count: int) -> np.ndarray:
    generator = np.random.default_rng(7)
    made = {
        "student": lambda: np.abs(generator.standard_t(3, size=count)),
        "normal": lambda: 1e-3 * np.abs(generator.normal(size=count)),
        "ties": lambda: np.round(generator.pareto(1.0, size=count) + 1, 1),
        "pareto": lambda: 1e-6 * (generator.pareto(2.0, size=count) + 1),
    }
    return made[name]()


@pytest.mark.parametrize("name", ["student", "normal", "ties", "pareto"])
def test_xmin_is_the_one_a_full_search_finds(name):
    values = samples(name, 150)
    xmin, distance = naive.ks_search(values)
    assert _find_xmin(np.sort(values)) == xmin
    assert fit_tail(values).fit.ks_distance == pytest.approx(distance, abs=1e-5)


@pytest.mark.parametrize("name", ["student", "normal", "ties"])
def test_the_fit_is_the_packages_own(name):
    import powerlaw

    values = samples(name, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = powerlaw.Fit(values, parameter_ranges={"alpha": [1, None]}, verbose=0)
        ratio, p_value = theirs.distribution_compare("power_law", "exponential")
    ours = fit_tail(values).fit
    assert ours.xmin == theirs.xmin
    assert ours.density_exponent == pytest.approx(theirs.power_law.alpha, abs=1e-3)
    assert ours.ks_distance == pytest.approx(theirs.power_law.D, abs=1e-4)
    assert ours.num_tail == theirs.n_tail
    assert ours.compared["exponential"][0] == pytest.approx(ratio, abs=1e-2)
    assert ours.compared["exponential"][1] == pytest.approx(p_value, abs=1e-3)


@pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0, 7.0])
def test_a_known_exponent_is_recovered(alpha):
    uniform = np.random.default_rng(1).uniform(size=20000)
    fit = fit_tail(0.02 * uniform ** (-1 / (alpha - 1))).fit
    assert abs(fit.density_exponent - alpha) < 4 * (fit.density_exponent - 1) / fit.num_tail**0.5
    assert fit.ks_distance < 0.05
    assert fit.compared["exponential"][0] > 0
    assert fit.num_tail <= MAX_POINTS


def test_a_lognormal_is_told_from_a_power_law():
    fit = fit_tail(np.exp(np.random.default_rng(2).normal(size=4000))).fit
    assert fit.compared["lognormal"][0] < 0


def test_signed_weights_are_fitted_by_their_size():
    """docs/theory.md, erratum 13: the power law lives on positive values, so both signs count."""
    values = np.random.default_rng(3).pareto(2.0, size=1500) + 1
    signs = np.random.default_rng(4).choice([-1.0, 1.0], size=1500)
    weight = torch.from_numpy(signs * values).reshape(30, 50)
    assert weight_tail(weight) == fit_tail(values)
    pruned = weight * (torch.arange(1500).reshape(30, 50) % 2)
    assert weight_tail(pruned) == fit_tail(values[1::2])


def test_eigenvalues_that_are_rounding_are_left_out():
    values = np.sort(np.random.default_rng(5).pareto(1.0, size=200) + 1)[::-1]
    assert eigenvalue_tail(np.concatenate([values, np.full(40, 1e-9)])) == fit_tail(values**2)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros(100), "only 0 distinct"),
        (np.full(100, 3.0), "only 1 distinct positive value,"),
        (np.repeat(np.arange(1.0, 50.0), 9), "only 49 distinct"),
        (np.array([1.0, np.nan]), "not finite"),
        (np.empty(0), "only 0 distinct"),
    ],
)
def test_degenerate_data_have_no_fit_but_a_reason(values, reason):
    result = fit_tail(values)
    assert result.fit is None
    assert reason in result.reason
    assert eigenvalue_tail(np.empty(0)).fit is None


def test_nothing_is_printed_warned_or_changed(capfd):
    filters, errors = list(warnings.filters), np.geterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit_tail(samples("ties", 300))
        fit_tail(samples("normal", 300))
    assert not caught
    assert capfd.readouterr() == ("", "")
    assert (list(warnings.filters), np.geterr()) == (filters, errors)


def test_powerlaw_is_loaded_only_by_a_fit():
    code = "import sys, bitcert.linear; sys.exit('powerlaw' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
