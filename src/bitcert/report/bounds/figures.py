"""The pictures of a table of bounds; every call returns ``(figure, axes)`` of matplotlib's object API.

All bounds against the real gap are Arora et al. 2018, Figure 3 (left) and Guha et al. 2023, Figure 1a/b; effective
parameters by layer are Arora's Table 1 and Zhang 2020, Figure 2. Heights are logarithms from start to end, so that
products over fifty layers can be drawn. A bar shows what its row says; a measure's bar does NOT prove anything, however
short it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bitcert.errors import InputError
from bitcert.report.bounds.words import power, value_text
from bitcert.report.drawing import (
    ACCENT,
    INK,
    MUTED,
    SECOND,
    label_text,
    legend_below,
    new_figure,
    power_axis,
    ramp,
    style,
    write_on,
)
from bitcert.report.text import percent, percent_up
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import Kind, Status, Unit

MOST_BARS = 90
MOST_LAYERS = 60
MOST_BOUNDS = 5
MAX_LABEL = 60
MARKS = ("D", "s", "^", "v", "P", "X", "<", ">", "p", "h", "*", "d")
VARIANTS = ("zeta", "init", "printed", "collection", "distance", "constants", "original", "message")
"""Last words of names that are variants of the row before them, left out where only some rows can be drawn."""

USUAL_LAYERS = ("arora2018-table1", "arora2018-thm4.1", "arora2018-thm5.1", "guha2023-thm5.2", "shin2021-thm2")
"""Effective parameters that the papers print or that stand nearest to them."""

_FARTHEST = 20_000.0
"""Logarithms beyond this are drawn at it; only a file that was tampered with has them."""
_SHORTEST_AXIS, _MOST_MEDIANS = 12.0, 3.0
DASHED: Final = "--"
DOTTED: Final = ":"
_LOOKS: dict[str, dict[str, Any]] = {
    "guarantee": {"facecolor": ACCENT, "edgecolor": ACCENT},
    "measure": {"facecolor": "none", "edgecolor": SECOND, "hatch": "////"},
    "open": {"facecolor": "none", "edgecolor": MUTED, "linestyle": DASHED},
}
_MEANINGS = {
    "guarantee": "guarantee: proved, every constant present",
    "measure": "measure: its conditions hold, constants dropped",
    "open": "conditions fail or are not known",
}


@dataclass(frozen=True)
class _Bar:
    """One bar: its label, base-10 logarithm and look."""

    label: str
    log10: float
    look: str


def size_log10(row: BoundRow) -> float | None:
    """Base-10 logarithm of what the row says of errors: the gap of a capacity, else the probability; ``None`` if none.

    Quantities by which networks are only compared have none.
    """
    found = {Unit.SAMPLES: row.gap_log10, Unit.PLAIN: None}.get(Unit(row.unit), row.log10)
    return found if found is not None and math.isfinite(found) else None


def within_axis(log10: float) -> float:
    """The logarithm, or the farthest that is drawn."""
    return max(-_FARTHEST, min(_FARTHEST, log10))


def distinct(logs: Mapping[str, Sequence[float | None]]) -> list[str]:
    """The names without those whose numbers an earlier name has.

    Two names for the same numbers (Theorem 5.1 of a dense network is 4.1) would hide each other.
    """
    found: dict[tuple[float | None, ...], str] = {}
    for name, values in logs.items():
        found.setdefault(tuple(None if value is None else round(value, 9) for value in values), name)
    return list(found.values())


def drawn_rows(table: BoundTable) -> list[BoundRow]:
    """Rows that have a bar, the smallest first; of too many, variants of other rows and then the largest go."""
    rows = [row for row in table.rows if size_log10(row) is not None]
    if len(rows) > MOST_BARS:
        rows = _without_variants(rows)
    return sorted(rows, key=lambda row: size_log10(row) or 0.0)[:MOST_BARS]


def _without_variants(rows: Sequence[BoundRow]) -> list[BoundRow]:
    return [row for row in rows if not set(row.name.split("-")[1:]) & set(VARIANTS)]


def plot_bars(table: BoundTable, certified: float | None = None) -> tuple[Figure, Axes]:
    """Every bound on one logarithmic axis, the tightest on top, with the real gap where held-out labels are known.

    A capacity is drawn as the gap ``sqrt(value / m)`` that follows from it; the axis above says how many samples that
    is. Quantities by which networks are only compared have no bar, nor have rows without a value.

    Args:
        table: of the network.
        certified: bound of a certificate of this network, drawn as a guarantee of its own.

    Raises:
        InputError: no row has a value.
    """
    bars = [_bar(row) for row in drawn_rows(table)]
    if certified is not None and certified > 0:
        bars.append(_Bar(f"this certificate: {percent_up(certified)}", math.log10(certified), "guarantee"))
    if not bars:
        raise InputError("a table with at least one bound that has a value", "none", "see why each row has none")
    bars.sort(key=lambda bar: bar.log10)
    with style():
        figure, (axes,) = new_figure(height=2.3 + 0.31 * len(bars))
        places = [within_axis(bar.log10) for bar in bars]
        gap = math.log10(table.gap) if table.gap is not None and table.gap > 0 else None
        low = math.floor(min([*places, 0.0, *([] if gap is None else [gap])]) - 0.4)
        high = _end_of_axis(places)
        axes.set_xlim(low, high + 0.04 * (high - low))
        for place, (bar, end) in enumerate(zip(bars, places, strict=True)):
            axes.barh(place, min(end, high) - low, left=low, height=0.3, linewidth=1.0, **_LOOKS[bar.look])
            # Above its bar, not beside it: names are long and phones are narrow. Reference lines pass behind it.
            write_on(axes, bar.label, (low, place - 0.16), (3, 0.5), pad=0.3, alpha=1.0, fontsize=8.5, zorder=4)
            if end > high:
                axes.plot([high], [place], ">", color=INK, markersize=7, clip_on=False, zorder=5)
        axes.axvline(0.0, color=INK, linewidth=1.3, linestyle=DASHED, zorder=3)
        if gap is not None:
            axes.axvline(gap, color=INK, linewidth=1.8, linestyle=DOTTED, zorder=3)
        _bar_axes(axes, table, len(bars))
        figure.legend(handles=_legend(bars, table, gap), loc="outside lower center", ncols=1)
    return figure, axes


def _end_of_axis(places: Sequence[float]) -> float:
    """Where the axis ends: at the longest bar, unless few bars are so long that the others could not be told apart."""
    longest = max([*places, 0.0])
    limit = max(_SHORTEST_AXIS, _MOST_MEDIANS * sorted(places)[len(places) // 2])
    return min(longest, limit)


def _bar(row: BoundRow) -> _Bar:
    size = size_log10(row)
    assert size is not None
    if row.kind == Kind.GUARANTEE:
        look = "guarantee"
    else:
        look = "measure" if row.status == Status.HOLDS else "open"
    text = value_text(row) if row.unit != Unit.SAMPLES else f"{power(row.log10)} samples"
    return _Bar(f"{label_text(row.name, MAX_LABEL - len(text) - 2)}: {text}", size, look)


def _bar_axes(axes: Axes, table: BoundTable, count: int) -> None:
    axes.set_ylim(count - 0.5, -0.9)
    axes.set_yticks([])
    axes.grid(False, axis="y")
    power_axis(axes.xaxis)
    axes.set_xlabel("bound on the gap, or on the error")
    samples = math.log10(table.sample["num_samples"])

    ways = (lambda gap: 2 * gap + samples), (lambda log10: (log10 - samples) / 2)
    above = axes.secondary_xaxis("top", functions=ways)
    power_axis(above.xaxis)
    above.set_xlabel("the same as a capacity in samples")


def _legend(bars: Sequence[_Bar], table: BoundTable, gap: float | None) -> list[Patch | Line2D]:
    looks = {bar.look for bar in bars}
    handles: list[Patch | Line2D] = [
        Patch(label=meaning, **_LOOKS[look]) for look, meaning in _MEANINGS.items() if look in looks
    ]
    if max(bar.log10 for bar in bars) > _end_of_axis([bar.log10 for bar in bars]):
        handles.append(Line2D([], [], color=INK, marker=">", linestyle="none", label="longer than is drawn"))
    label = "1: from here on a bound says nothing"
    handles.append(Line2D([], [], color=INK, linewidth=1.3, linestyle=DASHED, label=label))
    if gap is not None:
        label = f"real gap: {percent(table.gap)}"
        handles.append(Line2D([], [], color=INK, linewidth=1.8, linestyle=DOTTED, label=label))
    elif table.gap is not None:
        label = f"real gap: {percent(table.gap)}, not above 0, so not on this axis"
        handles.append(Line2D([], [], linestyle="none", label=label))
    return handles


def rows_with_layers(table: BoundTable) -> list[BoundRow]:
    """Rows that are sums over layers and have a value: the usual ones first, variants last, no numbers twice."""
    rows = [row for row in table.rows if any(math.isfinite(part.log) for part in row.layers)]
    base = _without_variants(rows)
    usual = [row for name in USUAL_LAYERS for row in base if row.name == name]
    ordered = {row.name: row for row in [*usual, *base, *rows]}
    return [ordered[name] for name in distinct({name: [p.log for p in row.layers] for name, row in ordered.items()})]


def plot_effective_parameters(table: BoundTable, names: Sequence[str] | None = None) -> tuple[Figure, Axes]:
    """The parameters that bounds count in every layer beside the layer's actual number, constants dropped.

    Args:
        table: of the network.
        names: rows to draw, at most twelve; the first five that are sums over layers by default.

    Raises:
        InputError: an unknown row, one that is no sum over layers, or none at all.
    """
    rows = rows_with_layers(table)[:MOST_BOUNDS] if names is None else [table.row(name) for name in names[: len(MARKS)]]
    without = [row.name for row in rows if not row.layers]
    if not rows or without:
        got = f"{without[0][:100]!r}, which has no layers" if without else "none"
        raise InputError("rows that are sums over layers", got, "choose among those with layers")
    layers = list(table.layers)[:MOST_LAYERS]
    if not layers:
        raise InputError("a table with layers", "none", "use a table of bitcert bounds")
    with style():
        figure, (axes,) = new_figure(height=1.9 + 0.22 * len(rows) + 0.32 * len(layers))
        axes.plot(
            [math.log10(max(weights, 1)) for _, weights in layers],
            range(len(layers)),
            "o",
            markerfacecolor="none",
            markeredgecolor=INK,
            markersize=9,
            zorder=5,
            label="actual number of weights",
        )
        for k, row in enumerate(rows):
            _draw_layers(axes, [name for name, _ in layers], row, ramp(k, len(rows)), MARKS[k])
        axes.set_yticks(range(len(layers)), [label_text(name, 26) for name, _ in layers], parse_math=False)
        axes.set_ylim(len(layers) - 0.4, -0.6)
        if len(layers) < len(table.layers):
            axes.set_title(f"the first {len(layers)} of {len(table.layers):,} layers", loc="left", parse_math=False)
        power_axis(axes.xaxis)
        axes.margins(x=0.06)
        axes.set_xlabel("parameters (constants dropped)")
        legend_below(figure, axes, 1)
    return figure, axes


def _draw_layers(axes: Axes, names: Sequence[str], row: BoundRow, colour: str, mark: str) -> None:
    known = {part.layer: part.log / math.log(10) for part in row.layers if math.isfinite(part.log)}
    places = [(within_axis(known[name]), k) for k, name in enumerate(names) if name in known]
    xs, ys = [x for x, _ in places], [y for _, y in places]
    axes.plot(xs, ys, mark, color=colour, markersize=5.5, alpha=0.9, label=label_text(row.name, MAX_LABEL))
