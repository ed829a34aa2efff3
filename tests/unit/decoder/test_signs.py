import math
import threading

import numpy as np
import pytest
import torch

from bitcert.decoder.transforms import signs
from bitcert.decoder.transforms.base import Draws
from bitcert.decoder.transforms.signs import (
    block_indices,
    edge_ratio,
    inner_products,
    least_norm,
    num_lookups,
    num_steps,
    weighted_sum,
)
from bitcert.errors import DecodeError
from tests.reference.projection_naive import sign_array

DRAWS = Draws(3, "layer")


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def arrays(count, size):
    return np.stack([sign_array(DRAWS, j, size) for j in range(count)])


@pytest.mark.parametrize(
    ("threads", "blocks", "size", "shares"),
    [
        (1, 3, 1 << 15, [[0, 1, 2]]),
        (3, 7, 1 << 15, [[0, 3, 6], [1, 4], [2, 5]]),
        (3, 7, (1 << 15) - 1, [[0, 1, 2, 3, 4, 5, 6]]),
        (3, 2, 1 << 15, [[0], [1]]),
        (3, 0, 1 << 15, [[]]),
        (9, 5, 1 << 15, [[0, 4], [1], [2], [3]]),
    ],
)
def test_blocks_of_large_tensors_are_shared_among_the_threads(threads, blocks, size, shares, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    here = threading.current_thread()
    found = signs._in_parts(lambda own: (list(own), threading.current_thread() is here), range(blocks), size)
    assert found == [(share, len(shares) == 1) for share in shares]


def test_steps_end_where_the_error_is_reached():
    assert edge_ratio(9, 64) == 0.5
    assert num_steps(9, 64) == 13, "2 / 2^13 is 2^-12"


def test_the_unit_of_least_squares_leaves_room_for_the_largest_sum():
    for count, size, largest in [(1, 10, 3), (3, 40, 3), (3, 50, 4), (9, 100, 90), (16, 100, 1 << 20)]:
        integers = np.zeros(count, dtype=np.int64)
        integers[0] = -largest
        growth = size * (math.isqrt(count) + 1) * math.ceil((1 - edge_ratio(count, size)) ** -2)
        scale = 2.0 ** (51 - growth.bit_length() - largest.bit_length())
        assert least_norm(DRAWS, integers, size)[1] == 1 / (scale * size)
    solution, unit = least_norm(DRAWS, np.zeros(3, dtype=np.int64), 20)
    assert (solution.tolist(), unit) == ([0] * 20, 1.0)


@pytest.mark.parametrize("product", [np.nan, np.inf, -1e60])
def test_an_iteration_that_does_not_converge_is_refused(product, monkeypatch):
    monkeypatch.setattr(signs, "inner_products", lambda draws, values, count: np.append(product, np.zeros(count - 1)))
    monkeypatch.setattr(signs, "weighted_sum", lambda draws, solution, size: np.zeros(size, dtype=np.int64))
    with pytest.raises(DecodeError, match="coefficients that some tensor has"):
        least_norm(DRAWS, np.array([3, 1]), 20)


def test_sums_that_are_not_exact_are_refused():
    assert signs._exact(np.array([(1 << 52), 1 - (1 << 52)])).tolist() == [2.0**52, 1 - 2.0**52]
    with pytest.raises(DecodeError, match="coefficients that some tensor has"):
        signs._exact(np.array([(1 << 52), -(1 << 52)]))


@pytest.mark.parametrize(("count", "size"), [(1, 1), (16, 4), (17, 5), (53, 1003), (18, 32769)])
def test_products_equal_those_with_stored_arrays(count, size):
    generator, signs = np.random.default_rng(count), arrays(count, size)
    values, coefficients = generator.standard_normal(size), generator.integers(-90, 90, count)
    np.testing.assert_allclose(inner_products(DRAWS, values, count), signs @ values, atol=1e-12 * size)
    np.testing.assert_array_equal(weighted_sum(DRAWS, coefficients, size), coefficients @ signs)


@pytest.mark.parametrize("largest", [1, 2**31 // 40 - 1, 2**31 // 40 + 1, 2**30, 2**50])
def test_sums_are_exact_on_both_sides_of_32_bits(largest):
    signs = arrays(40, 50).astype(object)
    coefficients = np.full(40, largest)
    coefficients[::3] *= -1
    expected = coefficients.astype(object) @ signs
    assert weighted_sum(DRAWS, coefficients, 50).tolist() == expected.tolist()


def test_integer_inner_products_are_exact():
    values = np.random.default_rng(0).integers(-(2**44), 2**44, 200)
    expected = arrays(20, 200).astype(object) @ values.astype(object)
    assert inner_products(DRAWS, values.astype(np.float64), 20).tolist() == [float(x) for x in expected]


def test_large_arrays_are_looked_up_in_chunks():
    size = (1 << 18) + 7
    coefficients = np.arange(-3, 17)
    total = weighted_sum(DRAWS, coefficients, size)
    for n in (0, (1 << 18) - 1, 1 << 18, size - 1):
        bits = [block_indices(DRAWS, block, size)[n] >> i & 1 for block in (0, 1) for i in range(16)]
        assert total[n] == sum(c * (2 * int(b) - 1) for c, b in zip(coefficients, bits, strict=False))


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("size", [999, 33_333])
def test_the_number_of_threads_changes_nothing(size):
    values, coefficients = np.random.default_rng(1).standard_normal(size), np.arange(100)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append((inner_products(DRAWS, values, 100).tobytes(), weighted_sum(DRAWS, coefficients, size).tobytes()))
    assert len(set(found)) == 1


def test_signs_are_fair_and_independent():
    signs = arrays(64, 1024).astype(np.float64)
    gram = signs @ signs.T / 1024
    off = gram[~np.eye(64, dtype=bool)]
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
    assert abs(off.std() * np.sqrt(1024) - 1) < 0.1  # entries of correlated arrays would spread more
    assert np.abs(off).max() < 5.5 / np.sqrt(1024)
    columns = signs.T @ signs / 64
    assert abs(columns[~np.eye(1024, dtype=bool)].std() * 8 - 1) < 0.02


def test_another_seed_or_tensor_has_other_signs():
    first = sign_array(DRAWS, 0, 256)
    for other in (Draws(4, "layer"), Draws(3, "other")):
        assert 80 < int((first == sign_array(other, 0, 256)).sum()) < 176


def test_cost_counts_tables_and_positions():
    assert num_lookups(17, 1000) == 2 * (2 * (1000 + 256) + 4096)
    assert num_lookups(17, 40_000) == 2 * (40_000 + 65536 + 4096)
    assert num_lookups(1, 1 << 15) == (1 << 15) + 65536 + 4096, "wide tables from 2^15 entries"
    assert num_lookups(1, (1 << 15) - 1) == 2 * ((1 << 15) - 1 + 256) + 4096


def test_a_sum_of_2_to_the_31_does_not_fit_in_32_bits():
    sums = weighted_sum(DRAWS, np.array([1 << 31]), 50)
    assert set(sums.tolist()) == {1 << 31, -(1 << 31)}


@pytest.mark.parametrize(("size", "words"), [(1, 1), (4, 1), (5, 2), (13, 4)])
def test_a_block_takes_no_more_words_than_it_fills(size, words, monkeypatch):
    asked = []
    monkeypatch.setattr(Draws, "words", lambda self, purpose, count: asked.append(count) or np.zeros(count, np.uint64))
    assert block_indices(DRAWS, 0, size).tolist() == [0] * size
    assert asked == [words]
