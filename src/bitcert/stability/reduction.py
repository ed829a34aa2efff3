"""From every example's value to what is reported: extremes, exact quantiles, histograms, values after ζ outliers.

A column holds one number for each of ``n`` examples. NaN marks a dead input (0/0): it is skipped and counted
(docs/theory.md section 3.1). The worst value is the minimum or the maximum, whichever the quantity's bound uses; the
ζ-value is the one that holds once the ``floor(ζ n)`` worst examples are dropped, whose positions are named. Quantiles
are order statistics (value number ``ceil(q n)`` of the sorted values, one that occurs). Sums run over sorted values, so
that neither the order of the examples nor the sharding changes any number.

NOT promised: that one set of ``floor(ζ n)`` examples serves several columns. A bound that uses the ζ-values of
several layers drops the union of their outliers; :func:`dropped_by` gives it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
Worst = Literal["min", "max"]

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
NUM_BINS = 40
MAX_LISTED = 1000
"""Most positions of dropped examples that a distribution lists; their number is always given."""


@dataclass(frozen=True)
class Quantity:
    """Where a quantity has distributions, and which extreme of them the theory uses.

    Attributes:
        place: there is one for every ``"layer"``, ``"pair"`` or ``"injection"``, or one for the ``"network"``; of a
            ``"curve"`` only points are shown.
        worst: the extreme, or ``None`` where the theory uses none.
        stored: the array that is reduced, where it is derived from several draws; else the quantity's own.
    """

    place: Literal["layer", "pair", "injection", "network", "curve"]
    worst: Worst | None
    stored: str = ""


QUANTITY: Mapping[str, Quantity] = {
    "layer_cushion": Quantity("layer", "min"),
    "minimal_interlayer_cushion": Quantity("layer", "min"),
    "minimal_interlayer_cushion_unclipped": Quantity("layer", "min"),
    "contraction": Quantity("layer", "max"),
    "smoothness_noise": Quantity("layer", None, "smoothness_noise_mean"),
    "interlayer_cushion": Quantity("pair", "min"),
    "jacobian_norm": Quantity("pair", None),
    "jacobian_spread": Quantity("pair", "max"),
    "smoothness": Quantity("pair", "max", "smoothness_quantile"),
    "smoothness_gaussian": Quantity("pair", "max", "smoothness_gaussian_quantile"),
    "noise_sensitivity": Quantity("injection", "max"),
    "margin": Quantity("network", "min"),
    "output_norm": Quantity("network", "max"),
    "input_norm": Quantity("network", "max"),
    "margin_normalised": Quantity("network", "min"),
    "margin_spectral": Quantity("network", "min"),
    "attenuation": Quantity("curve", "max"),
}
"""Every quantity that is reduced over the sample; normalised margins are computed from others and stored nowhere."""


@dataclass(frozen=True)
class Histogram:
    """Counts of the finite values between 41 equidistant edges, from the least to the greatest."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Distribution:
    """One quantity at one place (a layer, a pair, an injection) over the sample; ``None`` where nothing was left.

    Attributes:
        name: the quantity, e.g. ``"layer_cushion"``.
        label: the place, e.g. ``"layer 3"``, ``"1→4"``, ``""`` for the whole network.
        count: examples with a value (infinite ones included).
        skipped: examples without one: dead inputs (0/0), or not measured.
        infinite: examples whose value is infinite (a layer's output is zero, its input is not).
        minimum, maximum: over the values.
        mean, std: ``std`` divides by ``count``; both ``None`` as soon as a value is infinite.
        quantiles: order statistics at :data:`QUANTILES`.
        reduction: ``"min"``, ``"max"`` or ``None``: the extreme that the theory uses.
        worst, worst_index: that extreme, and the first example where it is attained.
        zeta_value: the extreme over all but the ``zeta_dropped_count`` worst examples.
        zeta_dropped: positions of the dropped ones, worst first, at most :data:`MAX_LISTED`.
        histogram: of the finite values.
        median_error, maximum_error: relative standard errors over the sample of values that are estimates.
    """

    name: str
    label: str
    count: int
    skipped: int
    infinite: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    quantiles: Mapping[float, float]
    reduction: str | None
    worst: float | None
    worst_index: int | None
    zeta_value: float | None
    zeta_dropped: tuple[int, ...]
    zeta_dropped_count: int
    histogram: Histogram | None
    median_error: float | None = None
    maximum_error: float | None = None


@dataclass(frozen=True)
class AttenuationCurve:
    """Relative error ``‖x̂^j − x^j‖/‖x^j‖`` along the layers for noise injected at one place (Arora 2018, Fig. 1).

    Attributes:
        level: norm of the noise relative to the value it was added to.
        injection: 0 for the network's input, else the layer ``i`` whose ``x^i`` got the noise (with noise at inputs:
            the layer before the one whose input got it).
        targets: layers ``j`` downstream of the injection (from ``i`` itself), the x-axis of the curve.
        mean, lower, median, upper: over the sample, one for each target; lower and upper are 10 and 90 % quantiles.
        skipped: dead examples (``x^j = 0``) at each target.
    """

    level: float
    injection: int
    targets: tuple[int, ...]
    mean: tuple[float | None, ...]
    lower: tuple[float | None, ...]
    median: tuple[float | None, ...]
    upper: tuple[float | None, ...]
    skipped: tuple[int, ...]


@dataclass(frozen=True)
class SmoothnessSummary:
    """``1/ρ_δ`` of the network: the ``1 − δ`` quantile over noise draws of the maximum over pairs and examples.

    docs/theory.md section 3.1 with erratum 14: ``ρ_δ`` is the largest number for which the inequality holds with
    probability ``1 − δ``, so ``1/ρ_δ`` is that quantile. Of ``draws`` draws it is number ``order = ceil((1 − δ)
    draws)`` in increasing order; with fewer than ``1/δ`` draws that is the largest one, and no draw lies beyond it.

    Attributes:
        delta, draws, order: as above.
        projections: numbers that Matrix-Project kept of each layer, or ``None`` where they are not known.
        value, gaussian: ``1/ρ_δ`` with the noise of projected layers, and with Gaussian noise of the same norm.
        zeta_value, gaussian_zeta_value: the same with the worst ``floor(ζ n)`` examples of each draw dropped.
        per_draw: the maximum of each draw, in the order of the draws.
        median_relative_noise: median over the examples of each one's median of ``‖η‖/‖x^i‖`` over draws and layers.
    """

    delta: float
    draws: int
    order: int
    projections: tuple[int, ...] | None
    value: float | None
    gaussian: float | None
    zeta_value: float | None
    gaussian_zeta_value: float | None
    per_draw: tuple[float | None, ...]
    median_relative_noise: float | None


def stored_as(quantity: str) -> str:
    """Name of the array that a quantity's distributions are of."""
    return QUANTITY[quantity].stored or quantity


def order_index(fraction: float, count: int) -> int:
    """Position (from 0) of the order statistic number ``ceil(fraction * count)``, at least the first.

    The product is formed in decimal: 0.07 of 100 values is value number 7, which binary rounding would make 8.

    >>> order_index(0.07, 100), order_index(0.95, 3), order_index(0.5, 4)
    (6, 2, 1)
    """
    return max(1, math.ceil(Decimal(repr(float(fraction))) * count)) - 1


def num_dropped(zeta: float, count: int) -> int:
    """``floor(ζ count)``, in decimal.

    >>> num_dropped(0.29, 100), num_dropped(0.05, 19)
    (29, 0)
    """
    return math.floor(Decimal(repr(float(zeta))) * count)


def worst_first(values: Values, worst: Worst) -> NDArray[np.int64]:
    """Positions of the values that are not NaN, worst first; equal values in the order of the sample."""
    order = np.argsort(values if worst == "min" else -values, kind="stable")  # NaN comes last
    return order[: len(values) - np.count_nonzero(np.isnan(values))].astype(np.int64, copy=False)


def _relative(values: Values, errors: Values) -> tuple[float | None, float | None]:
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.asarray(errors, np.float64) / np.abs(np.asarray(values, np.float64))
    relative = np.sort(relative[np.isfinite(relative)])
    if not len(relative):
        return None, None
    return float(relative[order_index(0.5, len(relative))]), float(relative[-1])


def _histogram(finite: Values) -> Histogram | None:
    """``finite`` is sorted."""
    if not len(finite):
        return None
    low, high = float(finite[0]), float(finite[-1])
    # One value, or values closer than the edges could be told apart: a bin of its own width around them.
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        pad = max(abs(low), abs(high), 1e-300) * 1e-3
        low, high = low - pad, high + pad
    edges = low + (high - low) * (np.arange(NUM_BINS + 1) / NUM_BINS)
    edges[-1] = high
    counts = np.histogram(finite, edges)[0]
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))


def reduce_values(
    values: Values, name: str, label: str = "", *, zeta: float = 0.0, errors: Values | None = None
) -> Distribution:
    """The distribution of one column.

    Args:
        values: ``[n]``; NaN is skipped.
        name: the quantity; :data:`QUANTITY` says which extreme counts.
        label: the place.
        zeta: fraction of the examples with a value that may be dropped, in [0, 1).
        errors: ``[n]`` standard errors of values that are estimates.

    >>> d = reduce_values(np.array([3.0, np.nan, 1.0, 2.0]), "layer_cushion", zeta=0.34)
    >>> d.worst, d.worst_index, d.zeta_value, d.zeta_dropped, d.skipped
    (1.0, 2, 2.0, (2,), 1)
    """
    worst = QUANTITY[name].worst if name in QUANTITY else None
    # a column of all examples is large: it is copied as seldom as can be
    ordered = values[~np.isnan(values)].astype(np.float64)
    ordered.sort()
    count = len(ordered)
    finite = ordered[np.isfinite(ordered)] if count and np.isinf(ordered[[0, -1]]).any() else ordered
    mean = std = None
    if count and len(finite) == count:
        scale = float(np.abs(finite).max()) or 1.0  # so that squares of large numbers do not overflow
        mean = float(np.mean(finite / scale)) * scale
        squares = finite - mean
        squares /= scale
        np.square(squares, out=squares).sort()
        std = float(np.sqrt(np.mean(squares))) * scale
        del squares
    index, dropped, zeta_value = None, np.empty(0, np.int64), None
    if worst is not None and count:
        ranked = worst_first(values, worst)
        index, dropped = int(ranked[0]), ranked[: num_dropped(zeta, count)]
        zeta_value = float(values[ranked[len(dropped)]])
    median_error, maximum_error = (None, None) if errors is None else _relative(values, errors)
    return Distribution(
        name=name,
        label=label,
        count=count,
        skipped=len(values) - count,
        infinite=count - len(finite),
        minimum=float(ordered[0]) if count else None,
        maximum=float(ordered[-1]) if count else None,
        mean=mean,
        std=std,
        quantiles={q: float(ordered[order_index(q, count)]) for q in QUANTILES} if count else {},
        reduction=worst,
        worst=None if index is None else float(values[index]),
        worst_index=index,
        zeta_value=zeta_value,
        zeta_dropped=tuple(map(int, dropped[:MAX_LISTED])),
        zeta_dropped_count=len(dropped),
        histogram=_histogram(finite),
        median_error=median_error,
        maximum_error=maximum_error,
    )


def dropped_by(columns: Iterable[tuple[str, Values]], zeta: float) -> NDArray[np.int64]:
    """Positions that the ζ-values of these ``(quantity, column)`` drop together, sorted; what a joint bound drops."""
    dropped: set[int] = set()
    for name, values in columns:
        worst = QUANTITY[name].worst
        assert worst is not None
        ranked = worst_first(values, worst)
        dropped.update(map(int, ranked[: num_dropped(zeta, len(ranked))]))
    return np.array(sorted(dropped), np.int64)


def minimal_cushions(
    cushions: Values, pairs: Sequence[tuple[int, int]], channels: Sequence[int]
) -> tuple[Values, Values]:
    """Minimal interlayer cushions ``μ_{i→}`` of every layer, each ``[n, d]``: clipped at ``1/√h_i``, and unclipped.

    docs/theory.md section 3.1: ``μ_{i→} = min_{i ≤ j ≤ d} μ_{i,j}`` with ``μ_{i,i} = 1/√h_i`` (not ``√h_i``, erratum
    2); unclipped is the minimum over ``j > i`` only. A pair that is dead for an example is left out of its minimum; an
    example whose pairs are all dead has none (NaN). A layer that feeds no other keeps ``1/√h_i``, unclipped NaN.

    Args:
        cushions: ``[n, P]``.
        pairs: ``(i, j)``, numbered from 1, one for each column.
        channels: ``h_i`` of every layer.
    """
    shape = (len(cushions), len(channels))
    unclipped = np.full(shape, np.nan, cushions.dtype)
    clipped = np.full(shape, np.nan, cushions.dtype)
    for layer, height in enumerate(channels, start=1):
        own = 1 / math.sqrt(height)
        mine = [k for k, (i, _) in enumerate(pairs) if i == layer]
        if not mine:
            clipped[:, layer - 1] = own
            continue
        unclipped[:, layer - 1] = np.fmin.reduce(cushions[:, mine], axis=1)
        clipped[:, layer - 1] = np.minimum(unclipped[:, layer - 1], own)
    return clipped, unclipped


def quantile_over_draws(values: Values, delta: float) -> Values:
    """``[n, T, P] -> [n, P]``: order statistic number ``ceil((1 − δ) T)`` over the draws; NaN draws are left out."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.count_nonzero(~np.isnan(values), axis=1)
    table = np.array([order_index(complement(delta), max(1, k)) for k in range(values.shape[1] + 1)])
    return np.take_along_axis(ordered, table[count][:, None, :], axis=1)[:, 0]


def complement(delta: float) -> float:
    """``1 − δ``, subtracted in decimal."""
    return float(Decimal(1) - Decimal(repr(float(delta))))


def nan_mean(values: Values, axis: int) -> Values:
    """Mean over an axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        result: Values = np.where(known, values, 0).sum(axis) / known.sum(axis)
    return result.astype(values.dtype)


def maximum_over_pairs(values: Values) -> Values:
    """``[n, T, P] -> [n, T]``: maximum over the pairs that are not dead; NaN where all are (or there are none)."""
    result: Values = np.fmax.reduce(values, axis=2, initial=np.nan)
    return result


def summarise_draws(maxima: Values, delta: float, zeta: float) -> tuple[float | None, tuple[float | None, ...]]:
    """``1/ρ_δ`` and the maximum of each draw, from ``[n, T]`` maxima over pairs, after ``floor(ζ n)`` outliers each."""
    per_draw: list[float | None] = []
    for column in maxima.T:
        ranked = worst_first(column, "max")
        per_draw.append(float(column[ranked[num_dropped(zeta, len(ranked))]]) if len(ranked) else None)
    known = sorted(value for value in per_draw if value is not None)
    value = known[order_index(complement(delta), len(known))] if known else None
    return value, tuple(per_draw)


def attenuation_point(values: Values) -> tuple[float | None, float | None, float | None, float | None, int]:
    """Mean, 10 % quantile, median, 90 % quantile and number of skipped examples of one column ``[n]``."""
    d = reduce_values(values, "attenuation")
    lower, median, upper = (d.quantiles.get(q) for q in (0.1, 0.5, 0.9))
    return d.mean, lower, median, upper, d.skipped
