"""Draw the figure of a study: panels below each other, what the paper prints in a colour of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from bitcert.report.drawing import (
    INK,
    MUTED,
    SECOND,
    compact,
    label_text,
    log_axis,
    new_figure,
    ramp,
    style,
)
from bitcert.studies import result as data

MARKS = ("o", "s", "D", "^", "v", "P", "X")
MOST_CURVES = 40
_PANEL, _LEGEND_LINE, _NAMES, _TITLE = 2.7, 0.2, 0.9, 60
_LOOKS: dict[str, dict[str, Any]] = {
    "line": {"linestyle": "-"},
    "both": {"linestyle": "-", "linewidth": 1.2},
    "points": {"linestyle": "none"},
    "dashed": {"linestyle": (0, (5, 2))},
    "steps": {"drawstyle": "steps-post"},
}


def plot_study(figure: data.Figure) -> tuple[Figure, list[Axes]]:
    """The panels of a figure, each with its own legend below it."""
    named = [len(_named(panel)) for panel in figure.panels]
    height = sum(_PANEL + _LEGEND_LINE * math.ceil(count / 2) for count in named)
    height += _NAMES * sum(bool(panel.names) for panel in figure.panels)
    with style():
        drawn, axes = new_figure(height=height, rows=len(figure.panels), sharex=False)
        for panel, own in zip(figure.panels, axes, strict=True):
            _draw_panel(own, panel)
    return drawn, axes


def _named(panel: data.Panel) -> list[str]:
    return list(dict.fromkeys(curve.label for curve in panel.curves[:MOST_CURVES] if curve.label))


def _draw_panel(axes: Axes, panel: data.Panel) -> None:
    curves = panel.curves[:MOST_CURVES]
    seen: set[str] = set()
    for place, curve in enumerate(curves):
        look = dict(_LOOKS[curve.look])
        look["color"] = SECOND if curve.paper else ramp(place, max(len(curves), 2))
        if curve.look in ("points", "both"):
            look |= {"marker": MARKS[place % len(MARKS)], "markersize": 5.5}
        if curve.look == "dashed" and not curve.paper:
            look |= {"color": MUTED, "linewidth": 1.3}
        if curve.label and curve.label not in seen:
            look["label"] = label_text(curve.label, 44)
            seen.add(curve.label)
        axes.plot(_known(curve.x, panel.log_x), _known(curve.y, panel.log_y), **look)
    if panel.field is not None:
        _draw_field(axes, panel.field)
    if panel.title:
        axes.set_title(label_text(panel.title, _TITLE), loc="left", parse_math=False)
    for axis, name, wide in ((axes.xaxis, panel.x, panel.log_x), (axes.yaxis, panel.y, panel.log_y)):
        axis.set_label_text(label_text(name, 48), parse_math=False)
        if wide:
            log_axis(axis, compact, 8)
            axis.set_minor_formatter(NullFormatter())
    numbers = [value for curve in curves for value in curve.x if value is not None]
    if not panel.log_x and all(value == round(value) for value in numbers):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if panel.names:
        names = [label_text(name, 24) for name in panel.names]
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8, parse_math=False)
    if seen:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": min(2, len(seen))}
        axes.legend(**({"loc": "best"} if panel.names else below))


def _known(values: data.Numbers, logarithmic: bool) -> list[float]:
    """What an axis has a place for; the rest is a gap."""
    return [math.nan if value is None or (logarithmic and value <= 0) else value for value in values]


def _draw_field(axes: Axes, field: data.Field) -> None:
    heights = np.array([[math.nan if value is None else value for value in row] for row in field.values])
    lines = axes.contour(field.x, field.y, heights, levels=sorted(field.levels), colors=[INK], linewidths=1.1)
    axes.clabel(lines, fontsize=8.5)
