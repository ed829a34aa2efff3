import numpy as np
import pytest
from scipy.linalg import hadamard as dense

from bitcert.decoder.transforms.base import Draws
from bitcert.decoder.transforms.hadamard import diagonal, distinct_rows, padded_size, rows_with_replacement, transform

DRAWS = Draws(1, "layer")


@pytest.mark.parametrize("bits", range(12))
def test_transform_equals_the_matrix(bits):
    size = 1 << bits
    values = np.random.default_rng(bits).integers(-(2**30), 2**30, (3, size)).astype(np.float64)
    np.testing.assert_array_equal(transform(values), values @ dense(size))


def test_transform_twice_is_n_times_the_identity_exactly():
    values = np.random.default_rng(0).integers(-(2**18), 2**18, 1 << 16).astype(np.float64)
    np.testing.assert_array_equal(transform(transform(values)), values * (1 << 16))


@pytest.mark.parametrize(("size", "padded"), [(1, 1), (2, 2), (3, 4), (1024, 1024), (1025, 2048)])
def test_padding_goes_to_the_next_power_of_two(size, padded):
    assert padded_size(size) == padded


@pytest.mark.parametrize("count", [1, 5, 31, 32, 33, 60, 63, 64])
def test_distinct_rows_are_a_set(count):
    rows = distinct_rows(DRAWS, count, 64)
    assert len(np.unique(rows)) == count
    assert rows.min() >= 0
    assert rows.max() < 64
    assert (np.diff(rows) > 0).all()


def naive_rows(draws, count, size):
    """The first different rows of the stream; for more than half, those that are left by the others."""
    if 2 * count > size:
        return sorted(set(range(size)) - set(naive_rows(draws, size - count, size)))
    found = []
    for word in draws.words("hadamard rows", 1000).tolist():
        if len(found) < count and word % size not in found:
            found.append(word % size)
    return sorted(found)


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (1, 2), (2, 2), (4, 8), (5, 8), (8, 8), (20, 64), (32, 64), (33, 64), (64, 128)]
)
def test_distinct_rows_are_the_first_different_ones_of_the_stream(count, size):
    for seed in range(3):
        assert distinct_rows(Draws(seed, "t"), count, size).tolist() == naive_rows(Draws(seed, "t"), count, size)


@pytest.mark.parametrize("count", [3, 6])
def test_every_set_of_rows_is_equally_likely(count):
    seen = np.zeros(8)
    pairs = np.zeros((8, 8))
    for seed in range(4000):
        rows = distinct_rows(Draws(seed, "t"), count, 8)
        seen[rows] += 1
        pairs[np.ix_(rows, rows)] += 1
    expected = 4000 * count / 8
    assert np.abs(seen - expected).max() < 4.5 * np.sqrt(expected * (1 - count / 8))
    both = 4000 * count * (count - 1) / 56
    assert np.abs(pairs[~np.eye(8, dtype=bool)] - both).max() < 4.5 * np.sqrt(both)


def test_rows_with_replacement_are_uniform():
    rows = rows_with_replacement(DRAWS, 40_000, 16)
    counts = np.bincount(rows, minlength=16)
    assert np.abs(counts - 2500).max() < 4.5 * 50


def test_diagonal_is_fair_and_of_signs():
    signs = diagonal(DRAWS, 10_001)
    assert signs.shape == (10_001,)
    assert set(signs) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.05
