"""Quantisers: at most half a step of error, dead zones, extreme scales, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bitcert.codecs.quantiser import Uniform, at_exponent, finer_exponent
from bitcert.coding import MAX_MAGNITUDE, step_size
from bitcert.errors import InputError

NUMBERS = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-9)


@given(
    values=arrays(np.float64, st.integers(0, 30), elements=NUMBERS), fraction=st.sampled_from([1 / 32, 0.25, 1.0, 4.0])
)
def test_no_coefficient_moves_by_more_than_half_a_step(values, fraction):
    coefficients = Uniform(fraction)(values)
    assert coefficients.integers.dtype == np.int64
    assert np.abs(coefficients.integers).max(initial=0) <= MAX_MAGNITUDE
    assert np.all(np.abs(coefficients.values - values) <= 0.5 * coefficients.step * (1 + 1e-12))


@given(st.floats(1e-17, 1e17))
def test_the_finer_step_is_the_next_one_below(step):
    exponent = finer_exponent(step)
    assert step_size(exponent) <= step < step_size(exponent + 1) * (1 + 1e-12)


def test_the_step_follows_the_scale_of_the_non_zero_coefficients():
    rng = np.random.default_rng(0)
    values = rng.normal(size=1000)
    sparse = np.where(rng.random(1000) < 0.9, 0.0, values)
    assert Uniform(0.25)(values).exponent == Uniform(0.25)(1000 * values).exponent - 40
    assert abs(Uniform(0.25)(sparse).exponent - Uniform(0.25)(values).exponent) <= 1
    assert Uniform(0.25)(values).step == pytest.approx(0.25, rel=0.15)


def test_a_dead_zone_prunes_and_moves_nothing_else():
    values = np.array([0.2, 0.7, 0.95, 1.2, -0.8, -2.6])
    assert at_exponent(values, 0, 0.9).integers.tolist() == [0, 0, 1, 1, 0, -3]
    assert at_exponent(values, 0).integers.tolist() == [0, 1, 1, 1, -1, -3]


def test_one_giant_among_dwarfs_still_fits():
    values = np.full(10_000, 1e-12)
    values[0] = 1e6
    coefficients = Uniform(1e-6)(values)
    assert abs(coefficients.values[0] - 1e6) <= coefficients.step


def test_zeros_stay_zeros():
    coefficients = Uniform()(np.zeros((2, 3)))
    assert not coefficients.integers.any()
    assert coefficients.integers.shape == (2, 3)


@pytest.mark.parametrize("values", [[np.nan], [np.inf, 1.0]])
def test_weights_that_are_not_finite_are_refused(values):
    with pytest.raises(InputError, match="finite weights"):
        Uniform()(np.array(values))
    with pytest.raises(InputError, match="finite weights"):
        at_exponent(np.array(values), 0)


@pytest.mark.parametrize("fraction", [0.0, -1.0, np.nan, np.inf])
def test_a_fraction_that_is_no_positive_number_is_refused(fraction):
    with pytest.raises(InputError, match="quantisation fraction"):
        Uniform(fraction)


def test_too_fine_a_step_is_refused():
    with pytest.raises(InputError, match="coarser quantiser"):
        at_exponent(np.array([1e9]), 0)
