"""Reductions over the sample against naive loops: quantiles, ζ outliers, minimal cushions, 1/ρ; errata 2 and 14."""

import math

import numpy as np
import pytest

from bitcert.stability.reduction import (
    MAX_LISTED,
    QUANTILES,
    attenuation_point,
    dropped_by,
    maximum_over_pairs,
    minimal_cushions,
    nan_mean,
    num_dropped,
    order_index,
    quantile_over_draws,
    reduce_values,
    summarise_draws,
)

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=200).astype(np.float32) ** 2
VALUES[[3, 50]] = np.nan


def naive_quantile(values: list[float], numerator: int, denominator: int) -> float:
    """The least value with at least this fraction of the values at or below it."""
    for value in sorted(values):
        if sum(other <= value for other in values) * denominator >= numerator * len(values):
            return value
    raise AssertionError


def test_moments_and_extremes():
    d = reduce_values(VALUES, "layer_cushion", "layer 1")
    known = [float(v) for v in VALUES if not math.isnan(v)]
    assert (d.count, d.skipped, d.infinite) == (198, 2, 0)
    assert (d.minimum, d.maximum) == (min(known), max(known))
    assert d.mean == pytest.approx(math.fsum(known) / 198, rel=1e-12)
    assert d.std == pytest.approx(math.sqrt(math.fsum((v - d.mean) ** 2 for v in known) / 198), rel=1e-12)
    assert d.label == "layer 1"


@pytest.mark.parametrize("count", [1, 2, 3, 10, 19, 20, 30, 100])
def test_quantiles_are_values_that_occur(count):
    values = RNG.normal(size=count)
    d = reduce_values(values, "margin")
    for q in QUANTILES:
        assert d.quantiles[q] == naive_quantile(values.tolist(), round(100 * q), 100)


@pytest.mark.parametrize("name", ["layer_cushion", "contraction"])
@pytest.mark.parametrize("zeta", [0.0, 0.05, 0.29, 0.999])
def test_zeta_value_is_the_worst_of_the_rest(name, zeta):
    sign = 1 if name == "layer_cushion" else -1
    d = reduce_values(VALUES, name, zeta=zeta)
    order = sorted((k for k in range(200) if not math.isnan(VALUES[k])), key=lambda k: (sign * VALUES[k], k))
    k = math.floor(round(1000 * zeta) * 198 / 1000)
    assert d.zeta_dropped == tuple(order[:k])
    assert d.zeta_dropped_count == k
    assert d.zeta_value == float(VALUES[order[k]])
    assert d.worst == float(VALUES[order[0]])
    assert d.worst_index == order[0]


def test_products_with_fractions_are_decimal():
    assert 0.07 * 100 > 7
    assert 0.29 * 100 < 29
    assert order_index(0.07, 100) == 6
    assert num_dropped(0.29, 100) == 29


def test_many_dropped_examples_are_counted_and_a_thousand_listed():
    d = reduce_values(np.arange(5000.0), "margin", zeta=0.5)
    assert d.zeta_dropped_count == 2500
    assert d.zeta_dropped == tuple(range(MAX_LISTED))
    assert d.zeta_value == 2500.0


def test_ties_are_dropped_in_the_order_of_the_sample():
    d = reduce_values(np.array([1.0, 0.0, 0.0, 0.0]), "margin", zeta=0.5)
    assert d.zeta_dropped == (1, 2)
    assert (d.worst_index, d.zeta_value) == (1, 0.0)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_nothing_left(values):
    d = reduce_values(np.array(values), "contraction", zeta=0.5)
    assert (d.count, d.skipped) == (0, len(values))
    assert d.worst is d.mean is d.zeta_value is d.histogram is None
    assert d.quantiles == {}


def test_infinite_values_are_values():
    d = reduce_values(np.array([1.0, np.inf, 2.0, np.nan]), "contraction", zeta=0.4)
    assert (d.count, d.infinite, d.skipped) == (3, 1, 1)
    assert (d.worst, d.worst_index, d.zeta_value) == (math.inf, 1, 2.0)
    assert d.mean is None
    assert sum(d.histogram.counts) == 2


@pytest.mark.parametrize(
    "values", [[5.0], [0.0, 0.0], [-1e30, -1e30], [1.0, 1.0 + 1e-13], [-1e300, 1e300], [1e-320, 0]]
)
def test_histograms_hold_every_value(values):
    h = reduce_values(np.array(values), "margin").histogram
    assert len(h.edges) == 41
    assert len(h.counts) == 40
    assert sum(h.counts) == len(values)
    assert all(a < b for a, b in zip(h.edges, h.edges[1:], strict=False))


def test_histogram_counts():
    h = reduce_values(VALUES, "margin").histogram
    known = VALUES[~np.isnan(VALUES)]
    for k, count in enumerate(h.counts):
        last = k == 39
        inside = (known >= h.edges[k]) & ((known <= h.edges[k + 1]) if last else (known < h.edges[k + 1]))
        assert count == inside.sum()


def test_order_of_the_sample_changes_no_number():
    shuffled = VALUES[RNG.permutation(200)]
    one, other = reduce_values(VALUES, "layer_cushion", zeta=0.1), reduce_values(shuffled, "layer_cushion", zeta=0.1)
    for field in ("mean", "std", "worst", "zeta_value", "quantiles", "histogram"):
        assert getattr(one, field) == getattr(other, field)


def test_relative_errors_of_estimates():
    d = reduce_values(np.array([2.0, 4.0, np.nan]), "jacobian_norm", errors=np.array([0.2, 0.04, 1.0]))
    assert d.median_error == pytest.approx(0.01)
    assert d.maximum_error == pytest.approx(0.1)
    assert reduce_values(np.array([2.0]), "jacobian_norm").median_error is None


def test_joint_outliers_are_the_union():
    low, high = np.array([0.0, 1, 2, 3]), np.array([0.0, 1, 2, 9])
    assert dropped_by([("layer_cushion", low), ("contraction", high)], 0.25).tolist() == [0, 3]


PAIRS = ((1, 2), (1, 3), (2, 3))


def naive_minimal(cushions, channels):
    clipped, unclipped = np.full((len(cushions), 3), np.nan), np.full((len(cushions), 3), np.nan)
    for n, row in enumerate(cushions):
        for i in (1, 2, 3):
            known = [v for v, (low, _) in zip(row, PAIRS, strict=True) if low == i and not math.isnan(v)]
            own = 1 / math.sqrt(channels[i - 1])
            if known:
                unclipped[n, i - 1] = min(known)
                clipped[n, i - 1] = min(own, *known)
            elif i == 3:
                clipped[n, i - 1] = own
    return clipped, unclipped


def test_minimal_interlayer_cushions():
    cushions = np.abs(RNG.normal(size=(50, 3)))
    cushions[4, 1] = cushions[5, :] = np.nan  # a pair that is dead, and an example that is
    clipped, unclipped = minimal_cushions(cushions, PAIRS, (4, 9, 2))
    expected = naive_minimal(cushions, (4, 9, 2))
    np.testing.assert_allclose(clipped, expected[0], rtol=1e-15)
    np.testing.assert_allclose(unclipped, expected[1], rtol=1e-15)


def test_erratum_2_cushions_are_minima_over_the_sample():
    """Arora 2018 Def. 4 and 5 take the minimum over S; Zhang 2020 Def. 5.4 and 5.5 print the maximum.

    A cushion enters the bound as 1/mu^2 and must hold for every example: the maximum would claim too much.
    """
    cushions = np.array([0.2, 0.5, 0.9])
    ours, printed = reduce_values(cushions, "layer_cushion").worst, cushions.max()
    assert ours == 0.2
    assert printed == 0.9
    # what the definition promises: the worst value is at most the cushion of each example
    assert all(ours <= c for c in cushions)
    assert not all(printed <= c for c in cushions)
    for name in ("interlayer_cushion", "minimal_interlayer_cushion"):
        assert reduce_values(cushions, name).worst == 0.2


def test_erratum_2_contraction_is_at_least_one_for_relu():
    """Arora 2018 Def. 6: c = max ||x|| / ||phi(x)||; Zhang 2020 Def. 5.6 prints the inverse, which is at most 1."""
    x = RNG.normal(size=(40, 7))
    x[:, 0] = np.abs(x[:, 0])  # no example is dead behind the activation
    phi = np.maximum(x, 0)
    ratio = np.linalg.norm(x, axis=1) / np.linalg.norm(phi, axis=1)
    d = reduce_values(ratio, "contraction")
    assert d.worst == ratio.max() >= 1
    assert d.minimum >= 1
    inverse = 1 / ratio
    assert inverse.max() <= 1
    # ||phi(x)|| >= ||x|| / c must hold on every example: true for ours, false for the inverted reading
    norms, images = np.linalg.norm(x, axis=1), np.linalg.norm(phi, axis=1)
    assert (images >= norms / d.worst * (1 - 1e-12)).all()
    assert not (images >= norms / inverse.max()).all()


def test_erratum_2_own_cushion_is_one_over_root_h():
    """mu_{i,i} = ||I x|| / (||I||_F ||x||) = 1 / sqrt(h); Zhang 2020 prints sqrt(h), which no cushion can be."""
    height, x = 9, RNG.normal(size=9)
    by_definition = np.linalg.norm(np.eye(height) @ x) / (np.linalg.norm(np.eye(height)) * np.linalg.norm(x))
    assert by_definition == pytest.approx(1 / math.sqrt(height))
    assert by_definition != pytest.approx(math.sqrt(height))
    # a layer that feeds no other, and a layer whose pair has a larger cushion, fall back on it
    clipped, unclipped = minimal_cushions(np.array([[0.9]]), ((1, 2),), (height, 4))
    np.testing.assert_allclose(clipped, [[1 / 3, 1 / 2]])
    np.testing.assert_allclose(unclipped, [[0.9, np.nan]])


def test_quantile_over_draws_is_an_order_statistic_of_each_example():
    values = RNG.random((20, 7, 3))
    values[3, :4, 1] = np.nan
    values[4, :, 2] = np.nan
    for delta in (0.05, 0.3, 0.5):
        got = quantile_over_draws(values, delta)
        for n in range(20):
            for p in range(3):
                known = [v for v in values[n, :, p] if not math.isnan(v)]
                if known:
                    assert got[n, p] == naive_quantile(known, round(100 * (1 - delta)), 100)
                else:
                    assert math.isnan(got[n, p])


def test_erratum_14_one_over_rho_is_the_quantile_of_the_maximum():
    """rho_delta is the LARGEST number for which the inequality holds: 1/rho bounds every pair and example.

    Shin 2021 App. C calls it the smallest, whose inverse would be the minimum of the ratios.
    """
    ratios = RNG.random((30, 4, 3))
    maxima = maximum_over_pairs(ratios)
    value, per_draw = summarise_draws(maxima, 0.25, 0.0)
    naive = [max(float(v) for v in ratios[:, t].ravel()) for t in range(4)]
    assert list(per_draw) == naive
    assert value == sorted(naive)[2]  # the third of four draws: three quarters of the draws lie within it
    inside = [all(v <= value for v in ratios[:, t].ravel()) for t in range(4)]
    assert sum(inside) == 3
    assert not any(all(v <= ratios.min() for v in ratios[:, t].ravel()) for t in range(4))


def test_outliers_of_the_smoothness_are_dropped_in_each_draw():
    maxima = np.array([[1.0, 5.0], [9.0, 2.0], [3.0, 3.0], [np.nan, 1.0]])
    assert summarise_draws(maxima, 0.05, 0.0) == (9.0, (9.0, 5.0))
    assert summarise_draws(maxima, 0.05, 0.34) == (3.0, (3.0, 3.0))
    assert summarise_draws(np.full((2, 1), np.nan), 0.05, 0.0) == (None, (None,))


def test_maximum_over_pairs_skips_dead_pairs():
    values = np.array([[[1.0, np.nan], [np.nan, np.nan]]])
    np.testing.assert_array_equal(maximum_over_pairs(values), [[1.0, np.nan]])
    assert np.isnan(maximum_over_pairs(np.empty((2, 3, 0)))).all()


def test_nan_mean():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(nan_mean(values, 0), [2.0, np.nan])


def test_attenuation_points():
    mean, lower, median, upper, skipped = attenuation_point(np.array([*range(1, 11), np.nan], float))
    assert (mean, lower, median, upper, skipped) == (5.5, 1.0, 5.0, 9.0, 1)
