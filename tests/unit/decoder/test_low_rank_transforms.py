"""Factors and separators: exact sums, hostile settings, the same weights in a fresh process with other threads."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MAX_MAGNITUDE
from bitcert.decoder.transforms import separator
from bitcert.decoder.transforms.base import Coefficients, Draws, Target
from bitcert.decoder.transforms.exact import exact_product
from bitcert.decoder.transforms.factors import Factors
from bitcert.decoder.transforms.normal import UNIT, normal_integers
from bitcert.decoder.transforms.separator import Separator, SeparatorProjection, projections
from bitcert.errors import DecodeError

KERNEL = Target("conv.weight", (6, 4, 3, 3), "weight")
LINE = Target("line.weight", (2, 50), "weight")
DRAWS = Draws(3, "line.weight")


def python_product(left, right) -> list[list[int]]:
    left, right = left.tolist(), right.tolist()
    return [[sum(a * b[j] for a, b in zip(row, right, strict=True)) for j in range(len(right[0]))] for row in left]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([3, 1 << 12, MAX_MAGNITUDE]), st.sampled_from([3, MAX_MAGNITUDE]))
def test_integer_products_are_those_of_whole_numbers(seed, large_left, large_right):
    rng = np.random.default_rng(seed)
    left = rng.integers(-large_left, large_left + 1, (3, 40))
    right = rng.integers(-large_right, large_right + 1, (40, 5))
    assert exact_product(left, right).tolist() == python_product(left, right)


def test_the_largest_products_are_exact_where_floats_would_round():
    left = np.full((1, 37), MAX_MAGNITUDE)
    right = np.full((37, 1), MAX_MAGNITUDE)
    assert exact_product(left, right).item() == 37 * MAX_MAGNITUDE**2
    assert exact_product(-left, right).item() == -37 * MAX_MAGNITUDE**2
    assert 37 * MAX_MAGNITUDE**2 > 1 << 53


def test_products_that_do_not_fit_are_refused():
    left = np.full((1, 4), 1 << 31)
    with pytest.raises(DecodeError, match="below 2\\^63"):
        exact_product(left, left.T)


def test_factors_make_a_kernel_of_their_product():
    rng = np.random.default_rng(0)
    left, right = rng.integers(-9, 10, (6, 2)), rng.integers(-9, 10, (2, 36))
    assert Factors().shapes(KERNEL, (2,)) == ((6, 2), (2, 36))
    made = Factors().expand(KERNEL, (2,), (Coefficients(left, -3), Coefficients(right, 5)), DRAWS)
    assert made.shape == KERNEL.shape
    np.testing.assert_allclose(made.reshape(6, 36), left @ right * 2.0 ** (2 / 4), rtol=1e-15)


@pytest.mark.parametrize("rank", [0, 7, 1 << 40])
def test_ranks_that_a_matrix_cannot_have_are_refused(rank):
    with pytest.raises(DecodeError, match="rank between 1 and 6"):
        Factors().shapes(KERNEL, (rank,))


def test_settings_are_a_rank_or_a_number_of_projections_or_none():
    assert [each.num_settings for each in (Factors(), SeparatorProjection(), Separator())] == [1, 1, 0]


@pytest.mark.parametrize("rank", [1, 6])
def test_the_smallest_and_the_largest_rank_are_accepted(rank):
    assert Factors().shapes(KERNEL, (rank,)) == ((6, rank), (rank, 36))
    assert Factors().operations(KERNEL, (rank,)) == 216 * rank // 4


def test_factors_that_take_minutes_are_refused():
    with pytest.raises(DecodeError, match="operations to decode"):
        Factors().shapes(Target("w", (1 << 13, 1 << 13), "weight"), (1 << 12,))


def test_a_separator_is_a_vector_and_its_opposite():
    integers = np.arange(-25, 25)
    made = Separator().expand(LINE, (), (Coefficients(integers, -4),), DRAWS)
    assert np.array_equal(made, np.stack([-integers * 0.5, integers * 0.5]))


@pytest.mark.parametrize("shape", [(3, 50), (2,), (2, 5, 5), (50, 2)])
@pytest.mark.parametrize(("transform", "given"), [(Separator(), ()), (SeparatorProjection(), (5,))])
def test_separators_are_for_two_rows(transform, given, shape):
    with pytest.raises(DecodeError, match="a separator for a weight \\[2, n\\]"):
        transform.shapes(Target("w", shape, "weight"), given)


def test_projections_that_take_minutes_or_are_none_are_refused():
    assert SeparatorProjection().shapes(LINE, (7,)) == ((7,),)
    assert SeparatorProjection().shapes(LINE, (1,)) == ((1,),)
    assert SeparatorProjection().operations(LINE, (7,)) == 64 * 50 * 7
    with pytest.raises(DecodeError, match="at least one projection"):
        SeparatorProjection().shapes(LINE, (0,))
    with pytest.raises(DecodeError, match="operations to decode"):
        SeparatorProjection().shapes(LINE, (1 << 31,))


def whole_projections(count: int, width: int) -> np.ndarray:
    words = DRAWS.words("projections", -(-count * width // 4))
    return normal_integers(words)[: count * width].reshape(count, width)


@pytest.mark.parametrize(("count", "width"), [(1, 3), (7, 50), (13, 1), (9, 33)])
def test_projections_in_blocks_are_those_of_one_stream(monkeypatch, count, width):
    monkeypatch.setattr(separator, "_BLOCK", 4 * width)
    blocks = list(projections(DRAWS, count, width))
    assert len(blocks) == -(-count // 4)
    assert np.array_equal(np.concatenate([normals for _, normals in blocks]), whole_projections(count, width))


@pytest.mark.parametrize(
    ("count", "width", "rows"),
    [(70, 3, [32, 32, 6]), (150, 1, [100, 50]), (9, 1000, [4, 4, 1]), (101, 0, [100, 1])],
)
def test_blocks_are_as_many_whole_words_as_the_memory_allows(monkeypatch, count, width, rows):
    monkeypatch.setattr(separator, "_BLOCK", 100)
    blocks = list(projections(DRAWS, count, width))
    assert [normals.shape for _, normals in blocks] == [(n, width) for n in rows]
    assert [(part.start, part.stop) for part, _ in blocks] == [
        (sum(rows[:k]), sum(rows[: k + 1])) for k in range(len(rows))
    ]


def test_blocks_are_short_enough_for_exact_sums():
    largest = max(part.stop - part.start for part, _ in projections(DRAWS, 9000, 1))
    assert largest == 4096
    assert largest * (1 << 15) * MAX_MAGNITUDE < 1 << 53
    assert separator._BLOCK == 1 << 20


@pytest.mark.parametrize("largest", [5, MAX_MAGNITUDE])
def test_a_projected_separator_is_the_mean_of_its_projections(largest):
    rng = np.random.default_rng(1)
    integers = rng.integers(-largest, largest + 1, 9)
    made = SeparatorProjection().expand(LINE, (9,), (Coefficients(integers, 1),), DRAWS)
    sums = python_product(integers[None], whole_projections(9, 50))[0]
    expected = np.array([float(total) for total in sums]) * (2.0**0.25 * UNIT / 9)
    np.testing.assert_array_equal(made[1], expected)
    np.testing.assert_array_equal(made[0], -expected)


def fingerprint() -> str:
    """Hash of what the transforms make; run again in a fresh process with other threads."""
    rng = np.random.default_rng(5)
    digest = hashlib.sha256()
    target = Target("w", (300, 40, 3, 3), "weight")
    for large in (100, MAX_MAGNITUDE):
        arrays = rng.integers(-large, large + 1, (300, 200)), rng.integers(-large, large + 1, (200, 360))
        digest.update(Factors().expand(target, (200,), tuple(Coefficients(a, -7) for a in arrays), DRAWS).tobytes())
    line = Target("w", (2, 784), "weight")
    z = rng.integers(-(10**4), 10**4, 3001)
    digest.update(SeparatorProjection().expand(line, (3001,), (Coefficients(z, -9),), DRAWS).tobytes())
    return digest.hexdigest()


def test_a_fresh_process_with_other_threads_makes_the_same_weights():
    code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['fingerprint']())"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "3")
    done = subprocess.run(
        [sys.executable, "-c", code, __file__],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == fingerprint()
