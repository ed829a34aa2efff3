import numpy as np
import pytest
import torch

from bitcert.decoder.transforms.base import Draws
from bitcert.decoder.transforms.signs import block_indices, inner_products, num_lookups, sign_array, weighted_sum

DRAWS = Draws(3, "layer")


@pytest.fixture
def restore_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def arrays(count, size):
    return np.stack([sign_array(DRAWS, j, size) for j in range(count)])


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
