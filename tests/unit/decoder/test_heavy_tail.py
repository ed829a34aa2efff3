"""The heavy-tail transform: its slow twin, mean and variance of the noise, hostile settings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MAX_MAGNITUDE
from bitcert.decoder.transforms import normal
from bitcert.decoder.transforms.base import Coefficients, Draws, Target
from bitcert.decoder.transforms.heavy_tail import MAX_DRAW, HeavyTail
from bitcert.decoder.transforms.normal import variance
from bitcert.decoder.transforms.registry import NUMBERS, TRANSFORMS
from bitcert.errors import DecodeError
from tests.reference import heavy_tail_naive as naive

TRANSFORM = HeavyTail()


def target(*shape: int) -> Target:
    return Target("layer.weight", shape, "weight")


def moments(mean: int, std: int, exponent: int = -20) -> Coefficients:
    return Coefficients(np.array([mean, std], dtype=np.int64), exponent)


def nothing_kept(*shape: int) -> Coefficients:
    return Coefficients(np.zeros(shape, dtype=np.int64), -12)


def test_number_13():
    assert NUMBERS["heavy tail"] == 13
    assert isinstance(TRANSFORMS[13], HeavyTail)


@settings(max_examples=50, deadline=None)
@given(
    mean=st.integers(-MAX_MAGNITUDE, MAX_MAGNITUDE),
    std=st.integers(0, MAX_MAGNITUDE),
    exponents=st.tuples(st.integers(-40, 8), st.integers(-40, 8)),
    draw=st.integers(0, 3),
    kept=st.lists(st.integers(-9, 9), min_size=6, max_size=6),
)
def test_equals_its_slow_twin_to_the_last_bit(mean, std, exponents, draw, kept):
    shape, draws = (2, 3), Draws(7, "layer.weight")
    arrays = moments(mean, std, exponents[0]), Coefficients(np.reshape(kept, shape), exponents[1])
    values = TRANSFORM.expand(target(*shape), (draw,), arrays, draws)
    words = [int(word) for word in draws.words(f"heavy tail {draw}", 2)]
    wanted = naive.expand([mean, std], arrays[0].step, kept, arrays[1].step, naive.noise(words, 6))
    # a step of a quarter octave is itself a rounded number, so the product is rounded once here too
    assert values.ravel().tolist() == wanted


def test_another_table_of_normal_numbers_is_refused(monkeypatch):
    monkeypatch.setattr(normal, "_TABLE_HASH", "0" * 64)
    normal._table.cache_clear()
    with pytest.raises(DecodeError, match="the table of normal numbers"):
        Draws(0, "w").normal("test", 4)
    monkeypatch.undo()
    assert len(Draws(0, "w").normal("test", 4)) == 4


def test_mean_and_variance_of_the_noise_over_draws():
    """E = mean, Var = std^2 times the grid's variance, entries uncorrelated: within 5 standard errors."""
    count, shape, step = 400, (8, 25), moments(0, 0).step
    many = (
        np.stack(
            [
                TRANSFORM.expand(
                    target(*shape), (d,), (moments(40, 256), nothing_kept(*shape)), Draws(0, "layer.weight")
                )
                for d in range(count)
            ]
        ).reshape(count, -1)
        / step
    )
    total = many.size
    assert abs(many.mean() - 40) < 5 * 256 / np.sqrt(total)
    wanted = 256**2 * variance()
    assert abs(np.mean((many - 40) ** 2) - wanted) < 5 * wanted * np.sqrt(2 / total)
    neighbours = np.mean((many[:, 1:] - 40) * (many[:, :-1] - 40)) / wanted
    assert abs(neighbours) < 5 / np.sqrt(total)
    per_entry = many.mean(0) - 40
    assert np.abs(per_entry).max() < 5 * 256 / np.sqrt(count)


def test_bilinear_forms_of_the_replaced_matrix_are_unbiased_with_the_derived_variance():
    """``E u^T W(t) v = u^T (B + mean 1_A) v`` and ``Var = std^2 sum over replaced of u_i^2 v_j^2``."""
    rng, shape, count = np.random.default_rng(0), (6, 9), 3000
    kept = np.where(rng.random(shape) < 0.3, rng.integers(1, 9, shape), 0)
    u, v = rng.normal(size=6), rng.normal(size=9)
    arrays = moments(-30, 200, -24), Coefficients(kept, -4)
    found = np.array(
        [u @ TRANSFORM.expand(target(*shape), (d,), arrays, Draws(0, "layer.weight")) @ v for d in range(count)]
    )
    step = arrays[0].step
    mean = u @ np.where(kept != 0, kept * arrays[1].step, -30 * step) @ v
    wanted = (200 * step) ** 2 * variance() * float(np.sum(np.outer(u**2, v**2)[kept == 0]))
    assert abs(found.mean() - mean) < 4.5 * np.sqrt(wanted / count)
    assert abs(found.var() - wanted) < 4.5 * wanted * np.sqrt(2 / count)


def test_draws_and_seeds_and_tensors_differ_and_repeat():
    def noise(seed: int, name: str, draw: int) -> bytes:
        arrays = moments(0, 256), nothing_kept(4, 4)
        return TRANSFORM.expand(target(4, 4), (draw,), arrays, Draws(seed, name)).tobytes()

    choices = [(seed, name, draw) for seed in (0, 1) for name in ("a", "b") for draw in (0, 1)]
    assert len({noise(*choice) for choice in choices}) == len(choices)
    assert noise(0, "a", 1) == noise(0, "a", 1)


def test_everything_kept_and_nothing_kept():
    full = Coefficients(np.arange(1, 7).reshape(2, 3), 0)
    assert TRANSFORM.expand(target(2, 3), (0,), (moments(5, 5), full), Draws(0, "w")).tolist() == [[1, 2, 3], [4, 5, 6]]
    zeros = TRANSFORM.expand(target(2, 3), (0,), (moments(0, 0), nothing_kept(2, 3)), Draws(0, "w"))
    assert not zeros.any()


def test_hostile_settings_are_refused():
    assert MAX_DRAW == 0xFFFF_FFFF, "a number of 32 bits"
    assert TRANSFORM.shapes(target(2, 3), (MAX_DRAW,)) == ((2,), (2, 3))
    with pytest.raises(DecodeError, match="draw"):
        TRANSFORM.shapes(target(2, 3), (MAX_DRAW + 1,))
    with pytest.raises(DecodeError, match="operations"):
        TRANSFORM.shapes(target(1 << 20, 1 << 20), (0,))
    with pytest.raises(DecodeError, match="standard deviation"):
        TRANSFORM.expand(target(2, 3), (0,), (moments(3, -1), nothing_kept(2, 3)), Draws(0, "w"))
