"""The pictures of a survey: measures against the generalization gap, and how well each measure orders the networks.

Every call returns ``(figure, axes)``. A point is one network. Measures are drawn by their base-10 logarithms, so that
products over fifty layers have a place; a value of exactly 0 has none and is left out of the picture.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bitcert.errors import InputError
from bitcert.report.bounds.figures import within_axis
from bitcert.report.drawing import ACCENT, INK, MUTED, SECOND, label_text, legend_below, power_tick, style
from bitcert.theory.survey_table import Correlation, Survey

MOST_PANELS = 8
MOST_MEASURES = 80
_NARROW = 1.0
"""Decades below which an axis of logarithms names values instead of powers."""


def plot_scatter(survey: Survey, names: list[str] | None = None) -> tuple[Figure, list[Axes]]:
    """The gap of every network against its measures, two panels a row.

    Args:
        survey: with held-out labels.
        names: measures; by default the eight that order the gaps best, the best first.

    Raises:
        InputError: an unknown measure, or none with a coefficient.
    """
    known = {each.measure: each for each in survey.correlations() if each.kendall is not None}
    chosen = survey.distinct(list(known))[:MOST_PANELS] if names is None else names
    if not chosen or any(name not in known for name in chosen):
        raise InputError("measures of at least three networks with gaps", ", ".join(chosen) or "none", "see why not")
    rows = math.ceil(len(chosen) / 2)
    with style():
        figure = Figure(figsize=(5.0, 0.4 + 2.1 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, sharey=True, squeeze=False)
        axes = list(grid.flat)
        for panel, name in zip(axes, chosen, strict=False):
            _draw(panel, survey, known[name])
        for panel in axes[len(chosen) :]:
            panel.set_axis_off()
        for panel in axes[: len(chosen) : 2]:
            panel.set_ylabel("gap (%)")
    return figure, axes[: len(chosen)]


def _draw(axes: Axes, survey: Survey, found: Correlation) -> None:
    pairs = [(order, gap) for order, gap, _ in survey.pairs(found.measure) if math.isfinite(order)]
    places, heights = [within_axis(order) for order, _ in pairs], [100 * gap for _, gap in pairs]
    axes.plot(places, heights, "o", color=ACCENT, markersize=4.5, alpha=0.75, markeredgewidth=0)
    axes.margins(0.08)
    assert found.kendall is not None
    axes.set_title(f"{label_text(found.measure, 30)}\nτ = {found.kendall.value:.2f}", loc="left", fontsize=8.5)
    narrow = max(places) - min(places) < _NARROW
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=not narrow))
    axes.xaxis.set_major_formatter(FuncFormatter(_value_tick if narrow else power_tick))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=8.5)


def _value_tick(value: float, _position: object = None) -> str:
    """A base-10 logarithm on an axis, as the value.

    >>> _value_tick(2.0), _value_tick(-0.5), _value_tick(7.3)
    ('100', '0.316', '2e7')
    """
    if abs(value) > 5:
        return f"{10 ** (value - math.floor(value)):.2g}e{math.floor(value)}"
    return f"{10**value:.3g}"


def plot_correlations(survey: Survey) -> tuple[Figure, Axes]:
    """Kendall's tau of every measure with the gap and, where hyperparameters are known, the granulated one.

    Raises:
        InputError: no measure has a coefficient.
    """
    found = [each for each in survey.correlations() if each.kendall is not None][:MOST_MEASURES]
    if not found:
        raise InputError("measures of at least three networks with gaps", "none", "see why not")
    with style():
        figure = Figure(figsize=(5.0, 1.3 + 0.22 * len(found)), layout="constrained")
        axes = figure.subplots()
        places = range(len(found))
        axes.axvline(0.0, color=MUTED, linewidth=1.2)
        values = [each.kendall.value if each.kendall else math.nan for each in found]
        axes.plot(values, places, "o", color=ACCENT, markersize=5.5, label="Kendall's τ with the gap")
        inner = [math.nan if each.granulated is None else each.granulated for each in found]
        if any(map(math.isfinite, inner)):
            label = "granulated: among networks that differ in one hyperparameter"
            axes.plot(inner, places, "D", color=SECOND, markersize=4, markerfacecolor="none", label=label)
        axes.set_yticks(places, [label_text(each.measure, 34) for each in found], fontsize=8, parse_math=False)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(found) - 0.4, -0.6)
        axes.set_xlim(-1.05, 1.05)
        legend_below(figure, axes, 1)
    return figure, axes
