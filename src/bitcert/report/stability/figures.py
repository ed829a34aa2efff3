"""The pictures of a stability profile, one call each; every call returns ``(figure, axes)`` of matplotlib's object API.

Attenuation is Arora et al. 2018, Figure 1; distributions their Figure 2; singular values Figure 4 of the notes of
2019; effective parameters their Table 1; measures over the epochs of a training run, as a tracker recorded them, their
Figure 3 right. Every picture shows what was measured on the samples of the profile or of the tracker. They explain why
a network can be compressed; they do NOT prove that it generalises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from bitcert.errors import InputError, unknown_name
from bitcert.report.drawing import (
    ACCENT,
    MUTED,
    compact,
    label_text,
    legend_below,
    log_axis,
    log_if_wide,
    new_figure,
    plain,
    ramp,
    spread,
    style,
    write_on,
)
from bitcert.report.stability.distributions import QUANTITIES, find_layer, network_and_twin
from bitcert.report.stability.words import short
from bitcert.stability.profile import LayerRow, StabilityProfile
from bitcert.stability.reduction import AttenuationCurve, Distribution
from bitcert.stability.tracker import Tracker

MOST_BANDS = 5
MOST_CURVES = 120
MOST_SINGULAR_VALUES = 400
SHOWN_MARGIN_QUANTILES = (0.05, 0.5)


_TITLES = {
    "frobenius": "Frobenius norm",
    "spectral_reshaped": "spectral norm (reshaped)",
    "norm_21": "2,1 norm",
    "stable_rank": "stable rank",
    "effective_parameters": "effective parameters",
    "effective_parameters_total": "effective parameters, all layers",
}
_STATISTICS = {
    "worst": "worst example",
    "median": "median",
    "mean": "mean",
    "low": "10 % quantile",
    "high": "90 % quantile",
}
_LOG_RATIO = 20.0
"""Values that span more than this factor over the epochs are shown on a logarithmic axis."""


def _one_of(place: int, count: int, name: str, width: float = 2.0) -> dict[str, Any]:
    """How a line looks that is one of ``count``: its colour says its place; at most five are thick and named."""
    named = place in spread(count, MOST_BANDS)
    label = name if named else f"_{name}"
    return {"color": ramp(place, count), "linewidth": width if named else width / 2, "label": label}


def plot_attenuation(profile: StabilityProfile, level: float | None = None) -> tuple[Figure, Axes]:
    """How far noise of relative norm ``level``, injected at one layer, is felt at the layers above it.

    One curve an injection, from blue (the input) to brown (the last layer); it begins with a dot where the noise is
    injected. The mean over the samples; for at most five injections also the band from their 10 % to 90 % quantile.

    Args:
        profile: of the network.
        level: norm of the noise over that of what it is added to; the first measured one by default.

    Raises:
        InputError: that level was not measured.
    """
    levels = list(dict.fromkeys(curve.level for curve in profile.attenuation))
    level = levels[0] if level is None and levels else level
    curves = [curve for curve in profile.attenuation if level is not None and math.isclose(curve.level, level)]
    if not curves or level is None:
        known = ", ".join(f"{known:g}" for known in levels) or "none"
        raise InputError(f"a measured noise level ({known})", f"{level}", "pass one of these or measure it")
    curves = [curves[k] for k in spread(len(curves), MOST_CURVES)]
    with style():
        figure, (axes,) = new_figure(height=4.4)
        for k, curve in enumerate(curves):
            name = "the input" if curve.injection == 0 else f"layer {curve.injection}"
            _draw_attenuation(axes, curve, _one_of(k, len(curves), name, 2.2))
        axes.axhline(100 * level, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
        log_axis(axes.yaxis, plain, 12, (1, 2, 5))
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "input" if value == 0 else f"{value:g}"))
        axes.set_xlim(-0.3, len(profile.layers) + 0.3)
        axes.set_xlabel("layer")
        axes.set_ylabel("relative error (%)")
        legend_below(figure, axes, 2, title="noise injected at")
    return figure, axes


def _draw_attenuation(axes: Axes, curve: AttenuationCurve, look: dict[str, Any]) -> None:
    points = [
        (target, 100 * mean, 100 * (lower or 0.0), 100 * (upper or 0.0))
        for target, mean, lower, upper in zip(curve.targets, curve.mean, curve.lower, curve.upper, strict=True)
        if _positive(mean)
    ]
    if not points:
        return
    targets, means, lowers, uppers = zip(*points, strict=True)
    axes.plot(targets, means, **look)
    colour, emphasised = look["color"], not look["label"].startswith("_")
    start = (curve.injection, 100 * curve.level)
    if curve.injection == 0:
        axes.plot([0, targets[0]], [start[1], means[0]], color=colour, linewidth=1, linestyle=(0, (1, 1.5)))
    axes.plot(*[[value] for value in start], "o", color=colour, markersize=5 if emphasised else 3.5, zorder=4)
    if emphasised and all(map(_positive, (*lowers, *uppers))):
        axes.fill_between(targets, lowers, uppers, color=colour, alpha=0.13, linewidth=0)


def _positive(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value) and value > 0


def plot_singular_values(profile: StabilityProfile, layer: int | None = None) -> tuple[Figure, Axes]:
    """Singular values by rank: of one layer, the untrained twin's beside them, or of all layers over the largest.

    Args:
        profile: of the network.
        layer: its number, from 1; all layers by default.

    Raises:
        InputError: no such layer, or singular values that were not measured.
    """
    if not profile.spectra:
        raise InputError("a profile with singular values", "none", "measure the spectra")
    with style():
        figure, (axes,) = new_figure(height=4.0 if layer is None else 3.6)
        if layer is None:
            _all_spectra(axes, profile)
        else:
            row = find_layer(profile, layer)
            for shown, colour, name in network_and_twin(profile):
                values = _singular_values(shown, layer)
                axes.plot(*_ranked(values), color=colour, label=name)
            stable = f"stable rank {short(row.stable_rank)}" if _positive(row.stable_rank) else ""
            _mark_rank(axes, row.stable_rank, stable)
            axes.set_title(label_text(f"layer {row.index}: {row.node}", 60), loc="left", parse_math=False)
            axes.set_ylabel("singular value")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        legend_below(figure, axes, 3, least=2)
    return figure, axes


def _all_spectra(axes: Axes, profile: StabilityProfile) -> None:
    for k, row in enumerate(profile.layers):
        values = _singular_values(profile, row.index)
        top = max([value for value in values if _positive(value)], default=1.0)
        ranks, heights = _ranked(values)
        places = [rank / max(len(values), 1) for rank in ranks]
        look = _one_of(k, len(profile.layers), f"layer {row.index}")
        axes.plot(places, [height / top for height in heights], **look)
    axes.set_xlabel("rank / number of singular values")
    axes.set_ylabel("singular value / largest")


def _ranked(values: Sequence[float]) -> tuple[list[int], list[float]]:
    kept = spread(len(values), MOST_SINGULAR_VALUES)
    ordered = sorted(values, reverse=True)
    return [k + 1 for k in kept], [ordered[k] for k in kept]


def _singular_values(profile: StabilityProfile, layer: int) -> tuple[float, ...]:
    found = (spectrum.singular_values for spectrum in profile.spectra if spectrum.index == layer)
    return next(found, ())


def _mark_rank(axes: Axes, rank: float | None, text: str) -> None:
    axes.set_xlabel("rank of the singular value")
    if rank is None or not _positive(rank):
        return
    axes.axvline(rank, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
    write_on(axes, text, (rank, 1.0), (4, -3), xycoords=("data", "axes fraction"), va="top")


def plot_margins(profile: StabilityProfile) -> tuple[Figure, NDArray[np.object_]]:
    """The share of samples with at most a given margin: as it is, over the output's norm, over the spectral product.

    The dashed line is margin 0: what lies left of it is wrong. Quantiles at 5 % and 50 % are named.

    Returns:
        The figure and its three axes, from top to bottom.
    """
    panels = [name for name in ("margin", "margin_normalised", "margin_spectral") if profile.distributions.get(name)]
    if not panels:
        raise InputError("a profile with margins", "none", "measure them")
    with style():
        figure, axes = new_figure(height=0.4 + 2.3 * len(panels), rows=len(panels), sharex=False)
        for panel, name in zip(axes, panels, strict=True):
            for shown, colour, legend in reversed(network_and_twin(profile)):
                found = shown.distributions.get(name, ())
                if found:
                    _draw_cumulative(panel, found[0], colour, legend)
            panel.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (2, 2)))
            panel.set_xlabel(QUANTITIES[name], parse_math=False)
            panel.set_ylabel("samples below (%)")
            panel.set_ylim(0, 104)
            panel.xaxis.set_major_locator(MaxNLocator(6))
        legend_below(figure, axes[0], 2, least=2, reverse=True)
    return figure, np.array(axes, dtype=object)


def _draw_cumulative(axes: Axes, distribution: Distribution, colour: str, legend: str) -> None:
    if distribution.histogram is None:
        return
    counts = distribution.histogram.counts
    total = sum(counts) or 1
    shares = [0.0, *(100 * float(share) / total for share in np.cumsum(counts))]
    axes.plot(distribution.histogram.edges, shares, color=colour, label=legend)
    if colour != ACCENT:
        return
    for quantile in SHOWN_MARGIN_QUANTILES:
        value = distribution.quantiles.get(quantile)
        if value is None or not math.isfinite(value):
            continue
        axes.plot([value], [100 * quantile], "o", color=colour, markersize=5, zorder=4)
        low, high = axes.get_xlim()
        left = value > (low + high) / 2
        text = f"{100 * quantile:g} %: {short(value)}"
        write_on(axes, text, (value, 100 * quantile), (-7 if left else 7, 2), ha="right" if left else "left")


def plot_effective_parameters(profile: StabilityProfile) -> tuple[Figure, Axes]:
    """The paper's effective parameters of every layer beside the actual count (Arora Table 1, constants dropped).

    A line joins the two; the effective number is the one with the worst values over the samples.
    """
    rows = list(profile.layers)
    with style():
        figure, (axes,) = new_figure(height=1.5 + 0.34 * max(len(rows), 1))
        for place, row in enumerate(rows):
            effective = row.effective_parameters.worst
            if effective is not None and _positive(effective):
                axes.plot([row.parameters, effective], [place, place], color=MUTED, linewidth=1)
                axes.plot([effective], [place], "D", color=ACCENT, markersize=6, zorder=3)
            axes.plot([row.parameters], [place], "o", color=MUTED, markersize=6, zorder=3)
        axes.plot([], [], "D", color=ACCENT, label="effective (constants dropped)")
        axes.plot([], [], "o", color=MUTED, label="actual")
        log_axis(axes.xaxis, compact, 6)
        axes.set_yticks(range(len(rows)), [label_text(_row_name(row), 26) for row in rows], parse_math=False)
        axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        axes.grid(False, axis="y")
        axes.set_xlabel("parameters")
        legend_below(figure, axes, 2)
    return figure, axes


def _row_name(row: LayerRow) -> str:
    percent = row.compression_percent.worst
    return f"{row.index} ({short(percent)} %)" if _positive(percent) else str(row.index)


def plot_track(tracker: Tracker, measure: str, statistic: str = "median") -> tuple[Figure, Axes]:
    """A measure over the recorded epochs, one line for each layer (pair, injection).

    Args:
        tracker: whose records are drawn.
        measure: a key of its ``labels``.
        statistic: over the examples: ``worst``, ``median``, ``mean``, ``low`` or ``high`` (10 and 90 % quantiles);
            measures that are one number have no choice.

    Raises:
        InputError: an unknown measure or statistic, or no records.
    """
    history, labels = tracker.history(), tracker.labels
    if measure not in labels:
        raise unknown_name("tracked measure", measure, labels)
    if not history:
        raise InputError("at least one recorded epoch", "none", "call update first")
    first = history[0].values[measure]
    statistic = "value" if "value" in first else statistic
    if statistic not in first:
        raise unknown_name("statistic", statistic, first)
    places, epochs = labels[measure], [record.epoch for record in history]
    with style():
        figure, (axes,) = new_figure(height=3.8)
        for k, place in enumerate(places):
            found = (record.values[measure][statistic][k] for record in history)
            values = [math.nan if value is None else value for value in found]
            look = _one_of(k, len(places), label_text((place or measure).replace("→", " to "), 24))
            axes.plot(epochs, values, marker="o" if len(epochs) < 30 else None, markersize=3.5, **look)
        title = _TITLES.get(measure) or QUANTITIES.get(measure, measure.replace("_", " "))
        axes.set_ylabel(title + (f"\n{_STATISTICS[statistic]}" if statistic in _STATISTICS else ""), parse_math=False)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        log_if_wide(axes, _LOG_RATIO)
        legend_below(figure, axes, 3, least=2)
    return figure, axes
