"""Steps are the correctly rounded ``2^(e/4)``, and both directions agree."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest

from bitcert.coding.steps import MAX_EXPONENT, nearest_exponent, step_size
from bitcert.errors import DecodeError

EXPONENTS = range(-MAX_EXPONENT, MAX_EXPONENT + 1)


def test_every_step_is_correctly_rounded() -> None:
    with mp.workdps(60):
        for exponent in EXPONENTS:
            exact, step = mp.mpf(2) ** (mp.mpf(exponent) / 4), step_size(exponent)
            neighbours = (math.nextafter(step, 0), math.nextafter(step, math.inf))
            assert all(abs(step - exact) < abs(other - exact) for other in neighbours), exponent


def test_whole_octaves_are_exact() -> None:
    assert all(step_size(exponent) == math.ldexp(1.0, exponent // 4) for exponent in EXPONENTS if exponent % 4 == 0)


def test_nearest_exponent_inverts_and_takes_the_nearest() -> None:
    for exponent in EXPONENTS:
        assert nearest_exponent(step_size(exponent)) == exponent
    for exponent in EXPONENTS[:-1]:
        step = step_size(exponent)
        assert nearest_exponent(step * 2**0.12) == exponent
        assert nearest_exponent(step * 2**0.13) == exponent + 1
    assert nearest_exponent(1e-300) == -MAX_EXPONENT
    assert nearest_exponent(1e300) == MAX_EXPONENT


def test_largest_and_smallest_weights_are_finite_and_normal_float32() -> None:
    largest = np.float32(step_size(MAX_EXPONENT) * ((1 << 24) - 1))
    smallest = np.float32(step_size(-MAX_EXPONENT))
    assert np.isfinite(largest)
    assert smallest >= np.finfo(np.float32).tiny


@pytest.mark.parametrize("exponent", [MAX_EXPONENT + 1, -MAX_EXPONENT - 1, 1 << 61, -(1 << 61)])
def test_absurd_exponents_are_refused(exponent: int) -> None:
    with pytest.raises(DecodeError):
        step_size(exponent)
