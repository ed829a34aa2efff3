"""Histograms of the per-sample quantities of a stability profile, and one picture of all of them by layer.

The style is Arora et al. 2018, Figure 2: the network as trained in front, its untrained twin (same architecture,
initial weights) behind it. A histogram shows the samples that were measured; the value marked is the one the theory
uses (minimum of a cushion, maximum of a contraction, over all samples). It does NOT say anything of other samples.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bitcert.errors import InputError
from bitcert.report.drawing import (
    ACCENT,
    INK,
    MUTED,
    SECOND,
    label_text,
    legend_below,
    line_values,
    log_axis,
    log_if_wide,
    new_figure,
    plain,
    style,
    write_on,
)
from bitcert.report.stability.words import short
from bitcert.stability.profile import LayerRow, StabilityProfile
from bitcert.stability.reduction import Distribution, Histogram

QUANTITIES = {
    "layer_cushion": "layer cushion",
    "minimal_interlayer_cushion": "minimal interlayer cushion (clipped)",
    "minimal_interlayer_cushion_unclipped": "minimal interlayer cushion (unclipped)",
    "interlayer_cushion": "interlayer cushion",
    "jacobian_norm": "Frobenius norm of the Jacobian",
    "jacobian_spread": "spread of the Jacobian, β",
    "contraction": "activation contraction",
    "smoothness": "interlayer smoothness, 1/ρ",
    "smoothness_gaussian": "interlayer smoothness, Gaussian noise",
    "smoothness_noise": "relative noise of the projected layers",
    "noise_sensitivity": "noise sensitivity, ψ",
    "margin": "margin",
    "margin_normalised": "margin / ‖f(x)‖",
    "margin_spectral": "margin / (‖x‖ · product of spectral norms)",
    "output_norm": "‖f(x)‖",
    "input_norm": "‖x‖",
}
"""Names that the axes bear."""

_LOG_RATIO = 50.0
"""Values that span more than this factor are shown on a logarithmic axis."""


def plot_distribution(profile: StabilityProfile, quantity: str, label: str | int | None = None) -> tuple[Figure, Axes]:
    """Histogram of one per-sample quantity, the untrained twin's behind it where the profile has one.

    Args:
        profile: of the network.
        quantity: a key of ``profile.distributions``.
        label: which of its distributions: its label, a layer's number, ``"i,j"`` for a pair; the first by default.

    Raises:
        InputError: no such quantity or label.
    """
    measured = profile.distributions.get(quantity)
    own = measured[0] if measured and label is None else profile.distribution(quantity, label)
    with style():
        figure, (axes,) = new_figure(height=3.2)
        _draw_pair(axes, profile, own)
        title = QUANTITIES.get(quantity, quantity.replace("_", " "))
        axes.set_xlabel(label_text(title, 60), parse_math=False)
        if own.label:
            axes.set_title(_in_words(own.label), loc="left", parse_math=False)
        legend_below(figure, axes, 2, least=2, reverse=True)
    return figure, axes


def plot_four_distributions(profile: StabilityProfile, layer: int) -> tuple[Figure, NDArray[np.object_]]:
    """Layer cushion, minimal interlayer cushion, contraction and smoothness of one layer, one below the other.

    The interlayer cushion is the unclipped one, with the clip at ``1/sqrt(channels)`` marked; the smoothness is that
    of the pair that begins at this layer and is worst; the contraction is of what lies before the layer.

    Args:
        profile: of the network.
        layer: its number, from 1.

    Returns:
        The figure and its four axes, from top to bottom.

    Raises:
        InputError: no such layer.
    """
    row = find_layer(profile, layer)
    with style():
        figure, axes = new_figure(height=7.6, rows=4, sharex=False)
        figure.suptitle(label_text(f"layer {row.index}: {row.node}", 60), x=0.02, ha="left", fontsize=11)
        panels = ("layer_cushion", "minimal_interlayer_cushion_unclipped", "contraction", "smoothness")
        for panel, quantity in zip(axes, panels, strict=True):
            own = _of_layer(profile, quantity, layer)
            panel.set_xlabel(QUANTITIES[quantity], parse_math=False)
            if own is None:
                _nothing(panel)
                continue
            _draw_pair(panel, profile, own)
            if quantity == "contraction":
                panel.set_xlabel(f"{QUANTITIES[quantity]}, before the layer", parse_math=False)
            if quantity == "smoothness":
                panel.set_xlabel(f"{QUANTITIES[quantity]}, {_in_words(own.label)}", parse_math=False)
            if quantity == "minimal_interlayer_cushion_unclipped":
                _mark(panel, 1 / math.sqrt(row.channels), "clip at 1/√h", MUTED)
        legend_below(figure, axes[0], 2, least=2, reverse=True)
    return figure, np.array(axes, dtype=object)


def plot_cushions(profile: StabilityProfile) -> tuple[Figure, NDArray[np.object_]]:
    """The four quantities of every layer: 10 % to 90 % of the samples as a bar, the median, and the worst value.

    Returns:
        The figure and its four axes: layer cushion, minimal interlayer cushion (clipped), contraction, smoothness.
    """
    panels = ("layer_cushion", "minimal_interlayer_cushion", "contraction", "smoothness")
    series = network_and_twin(profile)
    shifts = (-0.16,) if len(series) == 1 else (-0.2, 0.2)
    with style():
        figure, axes = new_figure(height=8.4, rows=4, sharex=False)
        for panel, quantity in zip(axes, panels, strict=True):
            for shift, (shown, colour, _) in zip(shifts, series, strict=False):
                _draw_ranges(panel, shown, quantity, colour, shift)
            _range_axis(panel, quantity, profile)
        handles = [axes[0].plot([], [], color=c, linewidth=5, alpha=0.45, label=name)[0] for _, c, name in series]
        handles.append(axes[0].plot([], [], "D", color=MUTED, markersize=4, label="worst sample")[0])
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure, np.array(axes, dtype=object)


def find_layer(profile: StabilityProfile, layer: int) -> LayerRow:
    """The row of the layer with this number.

    Raises:
        InputError: no such layer.
    """
    for row in profile.layers:
        if row.index == layer:
            return row
    raise InputError(f"a layer between 1 and {len(profile.layers)}", str(layer), "see profile.layers")


def _of_layer(profile: StabilityProfile, quantity: str, layer: int) -> Distribution | None:
    """The distribution of a layer; of the smoothness, that of its worst pair among those that begin at it."""
    found = profile.distributions.get(quantity, ())
    if quantity == "smoothness":
        pairs = zip(profile.pairs, found, strict=False)
        own = [d for (i, _), d in pairs if i == layer and d.worst is not None]
        return max(own, key=lambda d: d.worst or 0.0, default=None)
    return found[layer - 1] if layer <= len(found) else None


def network_and_twin(profile: StabilityProfile) -> list[tuple[StabilityProfile, str, str]]:
    """The network, and its untrained twin where the profile has one, with the colour and name of each."""
    own = [(profile, ACCENT, "network")]
    return own if profile.twin is None else [*own, (profile.twin, SECOND, "untrained twin")]


def _draw_pair(axes: Axes, profile: StabilityProfile, own: Distribution) -> None:
    """The histogram as a density, the untrained twin's behind it, and the worst value of the network's marked."""
    shown = [
        (d.histogram, colour, name)
        for each, colour, name in network_and_twin(profile)
        for d in each.distributions.get(own.name, ())
        if d.label == own.label and d.histogram is not None
    ]
    if not shown:
        _nothing(axes)
        return
    low, high = min(h.edges[0] for h, _, _ in shown), max(h.edges[-1] for h, _, _ in shown)
    logarithmic = low > 0 and high / low > _LOG_RATIO
    if logarithmic:
        log_axis(axes.xaxis, plain, 6)
    for histogram, colour, name in reversed(shown):
        _draw_histogram(axes, histogram, colour, name, logarithmic)
    axes.set_ylim(bottom=0)
    if own.reduction is not None:
        _mark(axes, own.worst, f"worst: {short(own.worst)}", INK)
    axes.set_yticks([])
    axes.set_ylabel("density")


def _draw_histogram(axes: Axes, histogram: Histogram, colour: str, name: str, logarithmic: bool) -> None:
    edges, counts = histogram.edges, histogram.counts
    places = [math.log(edge) for edge in edges] if logarithmic else edges
    widths = [right - left for left, right in pairwise(places)]
    if not widths or min(widths) <= 0:
        # all samples have one value, or values too near each other for their bins to have a width
        axes.axvline(edges[0], color=colour, linewidth=4, alpha=0.7, label=name)
        return
    total = sum(counts) or 1
    density = [count / total / width for count, width in zip(counts, widths, strict=True)]
    axes.stairs(density, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
    axes.stairs(density, edges, color=colour, linewidth=1.6, label=name)


def _mark(axes: Axes, value: float | None, text: str, colour: str) -> None:
    if value is None or not math.isfinite(value):
        return
    axes.axvline(value, color=colour, linewidth=1, linestyle=(0, (2, 2)))
    low, high = axes.get_xlim()
    logarithmic = axes.get_xscale() == "log"
    middle = math.sqrt(low * high) if logarithmic and low > 0 else (low + high) / 2
    right = value > middle
    where = {"ha": "right" if right else "left", "va": "top", "color": colour, "xycoords": ("data", "axes fraction")}
    write_on(axes, text, (value, 1.0), (-4 if right else 4, -3 if colour == INK else -17), **where)


def _in_words(label: str) -> str:
    # the figures' font has no arrow
    return label_text(label.replace("→", " to "), 40)


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)


def _draw_ranges(axes: Axes, profile: StabilityProfile, quantity: str, colour: str, shift: float) -> None:
    for row in profile.layers:
        own, place = _of_layer(profile, quantity, row.index), row.index + shift
        if own is None:
            continue
        low, middle, high = (own.quantiles.get(q, math.nan) for q in (0.1, 0.5, 0.9))
        if not all(map(math.isfinite, (low, middle, high))):
            continue
        axes.plot([place] * 2, [low, high], color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt")
        axes.plot([place], [middle], "_", color=colour, markersize=7, markeredgewidth=2)
        if own.worst is not None and math.isfinite(own.worst):
            axes.plot([place], [own.worst], "D", color=colour, markersize=3.5)


def _range_axis(axes: Axes, quantity: str, profile: StabilityProfile) -> None:
    below = {"contraction": "before layer", "smoothness": "from layer (its worst pair)"}
    short = {"minimal_interlayer_cushion": "minimal interlayer\ncushion (clipped)", "smoothness": "smoothness 1/ρ"}
    axes.set_xlabel(below.get(quantity, "layer"))
    axes.set_ylabel(short.get(quantity, QUANTITIES[quantity].replace(" ", "\n", 1)))
    axes.set_xlim(0.4, max(len(profile.layers), 1) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.grid(False, axis="x")
    if not line_values(axes):
        _nothing(axes)
    elif not log_if_wide(axes, 10):
        axes.set_ylim(bottom=0)
