"""Transforms ``signs``, ``hadamard`` and ``filter projection``: against naive twins, against their laws, hostile."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch

from bitcert.codecs.convolution_project import location_error
from bitcert.decoder.transforms import filter_projection
from bitcert.decoder.transforms.base import Coefficients, Draws, Target
from bitcert.decoder.transforms.filter_projection import FilterProjection, shorten
from bitcert.decoder.transforms.hadamard import Hadamard, hadamard_coefficients
from bitcert.decoder.transforms.signs import (
    AVERAGE,
    LEAST_SQUARES,
    Signs,
    edge_ratio,
    inner_products,
    least_norm,
    num_steps,
    solvable,
)
from bitcert.errors import DecodeError
from tests.reference import projection_naive as naive

EXPONENT = -80
"""Steps of 2^-20: quantisation is far below every tolerance."""


def quantised(values, exponent=EXPONENT):
    return Coefficients(np.rint(values * 2.0 ** (-exponent / 4)).astype(np.int64), exponent)


def weight(*shape, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape)
    return values / np.linalg.norm(values)


def expand(transform, target, settings, values, seed=0):
    """Encode exactly, then decode."""
    draws = Draws(seed, target.name)
    if isinstance(transform, Signs):
        coefficients = inner_products(draws, values, settings[0])
    else:
        decoder = settings[1] if isinstance(transform, Hadamard) else LEAST_SQUARES
        (shape,) = transform.shapes(target, settings)
        coefficients = hadamard_coefficients(draws, values, shape[0], decoder)
    return transform.expand(target, settings, (quantised(coefficients),), draws)


def matrix(rows, columns):
    return Target("layer", (rows, columns), "weight")


FILTER = Target("filter", (3, 2, 2, 3), "weight", (1, 2))


# Against naive twins


@pytest.mark.parametrize("decoder", [AVERAGE, LEAST_SQUARES])
@pytest.mark.parametrize(("transform", "count"), [(Signs(), 9), (Signs(), 30), (Hadamard(), 9), (Hadamard(), 40)])
def test_expansion_equals_the_naive_twin(transform, count, decoder):
    target, draws = matrix(8, 11), Draws(5, "layer")
    code = quantised(np.random.default_rng(1).standard_normal(count))
    found = transform.expand(target, (count, decoder), (code,), draws)
    if isinstance(transform, Signs):
        arrays, full = naive.sign_arrays(draws, count, 88), 88
    else:
        arrays, full = naive.hadamard_arrays(draws, count, 88, distinct=decoder == LEAST_SQUARES)
    solve = naive.average if decoder == AVERAGE else naive.least_norm
    expected = solve(arrays, code.values)[:88]
    assert arrays.shape == (count, full)
    tolerance = 2.0**-11 if isinstance(transform, Signs) and decoder == LEAST_SQUARES else 1e-12
    assert np.linalg.norm(found.ravel() - expected) <= tolerance * np.linalg.norm(expected)


def test_filters_equal_the_naive_twin():
    draws = Draws(2, "filter")
    code = quantised(np.random.default_rng(0).standard_normal(12), -32)
    found = FilterProjection().expand(FILTER, (4, 3), (code,), draws)
    expected = naive.location_filters(draws, 4, 3, 36, 2, code.values)
    assert found.shape == (2, 3, 2, 2, 3)
    np.testing.assert_allclose(found.reshape(2, 36), expected, rtol=2e-5, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("size", "count"), [(5, 1), (10, 2), (17, 4), (64, 10), (1000, 30), (400, 200), (200, 150)])
def test_least_squares_reaches_its_stated_accuracy(size, count):
    draws = Draws(count, "w")
    integers = np.random.default_rng(size).integers(-20, 20, count)
    solution, unit = least_norm(draws, integers, size)
    expected = naive.least_norm(naive.sign_arrays(draws, count, size), integers.astype(np.float64))
    assert np.linalg.norm(solution * unit - expected) <= 2.0**-12 * np.linalg.norm(expected)


def test_steps_of_least_squares_follow_from_the_sizes():
    assert [num_steps(k, 10**6) for k in (33_333, 250_000, 500_000)] == [6, 14, 27]
    assert 2 * edge_ratio(500, 1000) ** num_steps(500, 1000) <= 2.0**-12
    assert solvable(700, 1000)
    assert not solvable(1000, 1000)


def test_all_coefficients_of_an_orthogonal_transform_give_the_tensor_back():
    values = weight(9, 13)
    found = expand(Hadamard(), matrix(9, 13), (128, LEAST_SQUARES), values)
    np.testing.assert_allclose(found, values, atol=1e-5)


@pytest.mark.parametrize("transform", [Signs(), Hadamard()])
def test_projecting_twice_changes_nothing(transform):
    target, settings = matrix(8, 8), (20, LEAST_SQUARES)
    once = expand(transform, target, settings, weight(8, 8))
    np.testing.assert_allclose(expand(transform, target, settings, once), once, atol=2e-3)


@pytest.mark.parametrize("transform", [Signs(), Hadamard()])
def test_zeros_stay_zeros(transform):
    for decoder in (AVERAGE, LEAST_SQUARES):
        assert not expand(transform, matrix(8, 8), (20, decoder), np.zeros((8, 8))).any()


# Laws, by Monte Carlo


@functools.cache
def errors(kind, decoder, count, draws=1500):
    transform, values = {"signs": Signs(), "hadamard": Hadamard()}[kind], weight(3, 4, seed=7)
    found = [expand(transform, matrix(3, 4), (count, decoder), values, seed) - values for seed in range(draws)]
    return values, np.stack(found)


@pytest.mark.parametrize("kind", ["signs", "hadamard"])
def test_the_average_is_unbiased_with_the_derived_variance(kind):
    values, found = errors(kind, AVERAGE, 6)
    variance = (1 - values**2) / 6
    deviation = np.sqrt(variance / len(found))
    assert np.abs(found.mean(0) / deviation).max() < 4
    # relative standard error of a variance estimate: sqrt(kurtosis - 1) / sqrt(draws), kurtosis here below 6
    np.testing.assert_allclose((found**2).mean(0), variance, rtol=4 * np.sqrt(5 / len(found)))
    np.testing.assert_allclose((found**2).sum((1, 2)).mean(), 11 / 6, rtol=0.08)


@pytest.mark.parametrize("kind", ["signs", "hadamard"])
def test_a_bilinear_form_has_the_derived_variance(kind):
    values, found = errors(kind, AVERAGE, 6)
    generator = np.random.default_rng(3)
    u, v = generator.standard_normal(3), generator.standard_normal(4)
    form = np.outer(u, v) / np.linalg.norm(u) / np.linalg.norm(v)
    for other in (form, values, np.eye(3, 4)):
        squared, product = float((other**2).sum()), float((other * values).sum())
        variance = (squared + product**2 - 2 * float(((other * values) ** 2).sum())) / 6
        deviations = (found * other).sum((1, 2))
        assert abs(deviations.mean()) < 4 * np.sqrt(variance / len(found))
        np.testing.assert_allclose((deviations**2).mean(), variance, rtol=0.2)


def test_least_squares_with_hadamard_rows_has_the_derived_mean_and_variance():
    values, found = errors("hadamard", LEAST_SQUARES, 6)
    full, count = 16, 6
    np.testing.assert_allclose(found.mean(0), (count / full - 1) * values, atol=4 * 0.15 / np.sqrt(len(found)))
    variance = count * (full - count) / (full**2 * (full - 1)) * (1 - values**2)
    np.testing.assert_allclose(found.var(0), variance, rtol=0.2)


def test_least_squares_with_signs_leaves_one_minus_k_over_n():
    values = weight(20, 20)
    found = [expand(Signs(), matrix(20, 20), (100, LEAST_SQUARES), values, seed) - values for seed in range(20)]
    assert np.mean([np.sum(e**2) for e in found]) == pytest.approx(0.75, abs=0.02)


@functools.cache
def filter_errors(count, copies, draws=2000):
    values = weight(*FILTER.shape, seed=3)
    settings = (count, copies)
    found = [expand(FilterProjection(), FILTER, settings, values, seed) - values for seed in range(draws)]
    return values.ravel(), np.stack(found).reshape(draws, 2, -1)


def test_filters_are_unbiased_with_the_derived_variance_and_covariance():
    (count, copies), size, full = (3, 4), 36, 64
    values, found = filter_errors(count, copies)
    dimension = count * copies
    common = (full - dimension) / (dimension * (full - 1))
    variance = (1 + values**2) / count + common * (1 + 1 / count) * (1 - values**2)
    assert np.abs(found.mean((0, 1)) / np.sqrt(variance / len(found))).max() < 4.5
    np.testing.assert_allclose((found**2).sum(2).mean(), variance.sum(), rtol=0.08)
    shared = (found[:, 0] * found[:, 1]).sum(1)
    error = shared.std() / np.sqrt(len(found))
    assert abs(shared.mean() - common * (size - 1)) < 4 * error
    np.testing.assert_allclose((found**2).mean((0, 1)), variance, rtol=0.35)


def test_locations_correlate_far_less_than_with_a_shared_filter():
    for copies in (2, 4):
        _, found = filter_errors(3, copies)
        correlation = (found[:, 0] * found[:, 1]).sum() / (found**2).sum((0, 2)).mean()
        own, shared = location_error(3, copies, 36)
        assert correlation == pytest.approx(shared / own, abs=0.04)
        assert correlation < 1 / (copies + 1)  # one shared filter would have 1


# Hostile settings


@pytest.mark.parametrize(
    ("transform", "target", "settings"),
    [
        (Signs(), matrix(8, 8), (0, 0)),
        (Signs(), matrix(8, 8), (10, 2)),
        (Signs(), matrix(8, 8), (2**60, 0)),
        (Signs(), matrix(8, 8), (64, 1)),
        (Signs(), matrix(8, 8), (63, 1)),
        (Signs(), matrix(2048, 4096), (2**20, 0)),
        (Signs(), matrix(2048, 1024), (1_900_000, 1)),
        (Signs(), matrix(2**13, 2**13), (1, 0)),
        (Hadamard(), matrix(8, 8), (0, 0)),
        (Hadamard(), matrix(8, 8), (10, 7)),
        (Hadamard(), matrix(8, 8), (2**40, 0)),
        (Hadamard(), matrix(8, 8), (65, 1)),
        (Hadamard(), matrix(2**13, 2**13), (1, 0)),
        (FilterProjection(), matrix(8, 8), (2, 2)),
        (FilterProjection(), FILTER, (0, 2)),
        (FilterProjection(), FILTER, (2, 0)),
        (FilterProjection(), FILTER, (13, 5)),
        (FilterProjection(), FILTER, (2**40, 2**40)),
        (FilterProjection(), Target("f", (64, 64, 3, 3), "weight", (100, 100)), (2, 2)),
        (FilterProjection(), Target("f", (64, 64, 3, 3), "weight", (20, 20)), (8192, 4)),
        (FilterProjection(), Target("f", (4, 4, 3), "weight", (10,)), (2, 2)),
    ],
)
def test_hostile_settings_are_refused_before_anything_is_allocated(transform, target, settings):
    with pytest.raises(DecodeError) as caught:
        transform.shapes(target, settings)
    assert "\n" not in str(caught.value)


def test_the_largest_coefficients_are_decoded_or_refused_without_overflow():
    largest = np.full(400, 2**24 - 1)
    found = Signs().expand(matrix(32, 32), (400, LEAST_SQUARES), (Coefficients(largest, 0),), Draws(0, "layer"))
    assert np.isfinite(found).all()
    code = Coefficients(np.full(64, 2**24 - 1), 240)
    assert np.isfinite(FilterProjection().expand(FILTER, (16, 4), (code,), Draws(0, "filter"))).all()


# The same everywhere


def fingerprint():
    import hashlib

    digest = hashlib.sha256()
    for transform, settings in ((Signs(), (50, 0)), (Signs(), (50, 1)), (Hadamard(), (50, 0)), (Hadamard(), (50, 1))):
        code = Coefficients(np.arange(-25, 25), 3)
        digest.update(transform.expand(matrix(12, 17), settings, (code,), Draws(1, "layer")).tobytes())
    code = Coefficients(np.arange(-25, 25), 3)
    digest.update(FilterProjection().expand(FILTER, (10, 5), (code,), Draws(1, "filter")).tobytes())
    return digest.hexdigest()


EXPECTED = "b9dadbf1cb0339ca0d4229329e1da4df1cd802b68e7bdbee4e046cf8ee288d29"
"""Decoded bytes are a format: another value here would decode old messages to other networks."""


def test_decoded_values_never_change():
    assert fingerprint() == EXPECTED


def test_threads_change_nothing():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            assert fingerprint() == EXPECTED
    finally:
        torch.set_num_threads(before)


def test_a_fresh_process_decodes_the_same():
    code = f"import sys; sys.path.insert(0, {str(__import__('pathlib').Path(__file__).parents[3])!r})\n" + (
        "import torch; torch.set_num_threads(2)\n"
        "from tests.unit.decoder.test_projection_transforms import fingerprint; print(fingerprint())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == EXPECTED


def test_the_size_of_chunks_changes_nothing(monkeypatch):
    for chunk in (1, 60, 100):
        monkeypatch.setattr("bitcert.decoder.transforms.filter_projection._CHUNK_NUMBERS", chunk)
        monkeypatch.setattr("bitcert.decoder.transforms.filter_projection._BATCH_ENTRIES", chunk)
        assert fingerprint() == EXPECTED


@pytest.mark.parametrize(
    ("count", "coordinates"),
    [(6, [1, 2]), (6, [1, 1]), (7, [3, 4, 0]), (6, [100, 7]), (1000, [4096]), (30, [5, -9, 2])],
)
@pytest.mark.parametrize("chunk", [40, 1 << 18])
def test_products_of_a_location_are_shortened_by_the_length_of_the_coordinates(count, coordinates, chunk, monkeypatch):
    monkeypatch.setattr(filter_projection, "_CHUNK_NUMBERS", chunk)
    draws, c = Draws(0, "filter"), np.array(coordinates)
    tensors = draws.normal("location/3", count * len(c)).reshape(count, len(c))
    bits = -(-int(c @ c).bit_length() // 2)
    expected = np.rint(tensors @ c / 2.0**bits) @ tensors
    more = max(0, int(np.abs(expected).max()).bit_length() - 30)
    weights, shift = filter_projection._location_weights(draws, 3, count, c.astype(np.float64))
    assert shift == bits + more
    np.testing.assert_array_equal(weights, np.rint(expected / 2.0**more))
    assert (more > 0) == (count == 1000)


def test_coordinates_of_filters_are_taken_to_twenty_bits(monkeypatch):
    taken, whole = [], filter_projection._location_weights

    def noted(draws, location, count, coordinates):
        taken.append(coordinates.tolist())
        return whole(draws, location, count, coordinates)

    monkeypatch.setattr(filter_projection, "_location_weights", noted)
    integers = np.array([16_000_000, -7_654_321, 12_345, -99, 8, 7])
    FilterProjection().expand(FILTER, (2, 3), (Coefficients(integers, 0),), Draws(0, "filter"))
    assert taken == [[1_000_000, -478_395, 772, -6, 0, 0]] * 2


def test_shorten_keeps_what_fits():
    values = np.array([3.0, -7.0, 0.0])
    found, shift = shorten(values, 3)
    assert (found.tolist(), shift) == (values.tolist(), 0)
    found, shift = shorten(np.array([2.0**40, 2.0**20 * 3]), 20)
    assert (found.tolist(), shift) == ([2.0**19, 2.0], 21)
