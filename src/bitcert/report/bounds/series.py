"""Bounds of several networks against their width, depth or epoch (Guha 2023, Figures 1c and 2; Arora 2018, Figure 3).

The upper panel shows bounds on a logarithmic axis; the lower one the real gap of each network beside one bound that is
moved and stretched to the range of the gaps, as Arora's Figure 3 (right) does: there only its shape means anything. Two
curves that rise together do NOT show that one explains the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from bitcert.errors import InputError
from bitcert.report.bounds.figures import DASHED, DOTTED, MARKS, distinct, size_log10, within_axis
from bitcert.report.drawing import INK, MUTED, compact, label_text, log_axis, new_figure, power_axis, ramp, style
from bitcert.report.text import clean
from bitcert.theory.table import BoundTable
from bitcert.theory.value import Kind, Unit

AXES: dict[str, Callable[[BoundTable], float]] = {
    "width": lambda table: float(table.network["width"]),
    "depth": lambda table: float(table.network["depth"]),
    "parameters": lambda table: float(table.network["num_parameters"]),
    "samples": lambda table: float(table.sample["num_samples"]),
}
"""What a table itself says of its network; of anything else (an epoch) the values are given."""

RESCALED = ("arora2018-thm4.1", "arora2018-thm5.1", "arora2018-thm2.2")
"""The bound whose shape is set beside the gap's: the first of these that there is, else the first that is drawn."""

USUAL = (
    *("neyshabur2015-frobenius", "neyshabur2018-spec-fro", "bartlett2017-spec-l12", "arora2018-thm4.1"),
    *("arora2018-thm5.1", "guha2023-thm5.2", "shin2021-thm2", "parameters"),
)
"""What Guha et al. 2023, Figures 1 and 2, and Arora et al. 2018, Figure 3, plot."""

MOST_CURVES = 10
MOST_TABLES = 200
_LOG_RATIO = 15.0
_MOST_TICKS = 6

Placed = list[tuple[float, "BoundTable"]]


def sort_series(tables: Sequence[BoundTable], over: str = "width", at: Sequence[float] | None = None) -> Placed:
    """Each table with its place on the axis, from left to right.

    Args:
        tables: at least two.
        over: ``"width"``, ``"depth"``, ``"parameters"`` or ``"samples"``; any other word needs ``at``.
        at: one finite number for each table, e.g. its epoch.

    Raises:
        InputError: fewer than two tables, an unknown axis without values, or values that do not fit.
    """
    if not 2 <= len(tables) <= MOST_TABLES:
        raise InputError(
            f"2 to {MOST_TABLES} tables for a series", str(len(tables)), "run bitcert bounds on each network"
        )
    if at is None and over not in AXES:
        known = ", ".join(AXES)
        raise InputError(f"one of {known}, or values for {clean(over, 60)!r}", "no values", "give one number a table")
    places = [AXES[over](table) for table in tables] if at is None else [float(value) for value in at]
    if len(places) != len(tables) or not all(map(math.isfinite, places)):
        raise InputError(f"{len(tables)} finite numbers, one for each table", str(list(at or ()))[:100], "list them")
    order = sorted(range(len(tables)), key=lambda k: places[k])
    return [(places[k], tables[k]) for k in order]


def series_rows(placed: Placed, names: Sequence[str] | None = None) -> dict[str, list[float | None]]:
    """Base-10 logarithms by bound, one for each table, of what the bound says of errors.

    Args:
        placed: from :func:`sort_series`.
        names: rows; by default every row that has a value in at least two tables.

    Raises:
        InputError: a row that no table has.
    """
    sizes = [{row.name: size_log10(row) for row in table.rows} for _, table in placed]
    for name in names or ():
        if all(name not in own for own in sizes):
            placed[0][1].row(name)  # refuses, naming what there is
    wanted = dict.fromkeys(names if names is not None else [name for own in sizes for name in own])
    found = {name: [own.get(name) for own in sizes] for name in wanted}
    if names is not None:
        return found
    return {name: logs for name, logs in found.items() if sum(value is not None for value in logs) >= 2}


def _usual(placed: Placed, rows: dict[str, list[float | None]]) -> list[str]:
    """The rows that the papers plot, then guarantees, then the first of each other paper, as far as there is room."""
    kinds = {row.name: row.theorem_kind for _, table in placed for row in table.rows}
    plotted = [name for name in USUAL if name in rows]
    proved = [name for name in rows if kinds.get(name) == Kind.GUARANTEE]
    papers = {name.partition("-")[0] for name in [*plotted, *proved]}
    others: dict[str, str] = {}
    for name in rows:
        if name.partition("-")[0] not in papers:
            others.setdefault(name.partition("-")[0], name)
    return distinct({name: rows[name] for name in [*plotted, *proved[:2], *others.values(), *proved[2:]]})[:MOST_CURVES]


def plot_series(
    tables: Sequence[BoundTable],
    over: str = "width",
    at: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[Figure, list[Axes]]:
    """Bounds over the networks and, where held-out labels are known of two or more, the real gap below.

    Args:
        tables: at least two.
        over: as in :func:`sort_series`.
        at: as in :func:`sort_series`.
        names: rows to draw; by default the first of each paper, and guarantees.

    Returns:
        The figure and its one or two axes.

    Raises:
        InputError: as :func:`sort_series` and :func:`series_rows`; or no row with a value in two tables.
    """
    placed = sort_series(tables, over, at)
    rows = series_rows(placed, names)
    chosen = _usual(placed, rows) if names is None else list(rows)[: len(MARKS)]
    if not any(value is not None for name in chosen for value in rows[name]):
        raise InputError("a bound with a value in at least two tables", "none", "see why each row has none")
    places = [place for place, _ in placed]
    gaps = [table.gap for _, table in placed]
    with_gaps = sum(gap is not None for gap in gaps) >= 2
    with style():
        height = 4.0 + (2.4 if with_gaps else 0.0) + 0.2 * len(chosen)
        figure, axes = new_figure(height=height, rows=2 if with_gaps else 1)
        for k, name in enumerate(chosen):
            proved = all(table.row(name).kind == Kind.GUARANTEE for _, table in placed if _has(table, name))
            look = {"color": ramp(k, len(chosen)), "marker": MARKS[k % len(MARKS)]}
            # a measure is no bound: its line is thin and broken
            look |= {"linewidth": 2.2} if proved else {"linewidth": 1.1, "linestyle": (0, (6, 2))}
            _draw(axes[0], places, rows[name], look, label_text(f"{name}{' (guarantee)' if proved else ''}", 56))
        _bound_axis(axes[0], places, gaps)
        if with_gaps:
            _draw_gaps(axes[1], places, gaps, {name: rows[name] for name in chosen})
        _place_axis(axes[-1], places, over)
        named: dict[str, Artist] = {}
        for panel in axes:
            handles, labels = panel.get_legend_handles_labels()
            named.update(zip(labels, handles, strict=True))
        figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=1)
    return figure, axes


def _has(table: BoundTable, name: str) -> bool:
    return any(row.name == name for row in table.rows)


def differences(tables: Sequence[BoundTable]) -> str:
    """One sentence about what else differs between the networks of a series; empty if nothing does.

    A curve over the width says little if the data change with it.
    """
    parts = {
        "training samples": {table.sample["content_hash"] for table in tables},
        "numbers of training examples": {table.sample["num_samples"] for table in tables},
        "numbers of classes": {table.sample["num_classes"] for table in tables},
        "rules for the margin": {table.gamma_rule for table in tables},
        "deltas": {table.delta for table in tables},
    }
    told = [name for name, values in parts.items() if len(values) > 1]
    same = len({table.network["content_hash"] for table in tables}) < len(tables)
    sentences = [f"The networks have different {', '.join(told)}."] if told else []
    return " ".join(sentences + (["One network occurs more than once."] if same else []))


def _draw(axes: Axes, places: list[float], logs: Sequence[float | None], look: Mapping[str, Any], label: str) -> None:
    heights = [math.nan if value is None else within_axis(value) for value in logs]
    axes.plot(places, heights, markersize=5.5, label=label, **look)


def _bound_axis(axes: Axes, places: list[float], gaps: Sequence[float | None]) -> None:
    logs = [math.log10(gap) if gap is not None and gap > 0 else math.nan for gap in gaps]
    if any(map(math.isfinite, logs)):
        axes.plot(places, logs, "o", color=INK, linestyle=DOTTED, linewidth=1.8, markersize=5, label="real gap")
    axes.axhline(0.0, color=MUTED, linewidth=1.2, linestyle=DASHED, label="1: from here on a bound says nothing")
    power_axis(axes.yaxis, 8)
    axes.set_ylabel("bound on the gap or error")


def _draw_gaps(
    axes: Axes, places: list[float], gaps: Sequence[float | None], rows: dict[str, list[float | None]]
) -> None:
    """The real gaps in percent, and one bound in their range."""
    known = [math.nan if gap is None else 100 * gap for gap in gaps]
    axes.plot(places, known, "o", color=INK, linestyle=DOTTED, linewidth=1.8, markersize=5, label="real gap")
    name = next((name for name in (*RESCALED, *rows) if name in rows and _spread(rows[name])), None)
    axes.set_ylabel("real gap (%)")
    if name is None:
        return
    curve = rescaled(rows[name], known)
    label = f"below: {label_text(name, 30)}, rescaled to the gap's range"
    axes.plot(places, curve, "D", color=MUTED, linestyle="-", linewidth=1.3, markersize=4.5, label=label)


def _spread(logs: Sequence[float | None]) -> bool:
    known = [value for value in logs if value is not None]
    return len(known) >= 2 and max(known) > min(known)


def rescaled(logs: Sequence[float | None], gaps: Sequence[float]) -> list[float]:
    """Values ``10^logs``, moved and stretched so that they span what the gaps span.

    >>> rescaled([2.0, 3.0], [1.0, 5.0])
    [1.0, 5.0]
    """
    known = [value for value in logs if value is not None]
    top = max(known)
    shares = [math.nan if value is None else 10 ** (value - top) for value in logs]
    low, high = 10 ** (min(known) - top), 1.0
    finite = [gap for gap in gaps if math.isfinite(gap)]
    start, span = min(finite), max(finite) - min(finite)
    return [start + span * (share - low) / (high - low) for share in shares]


def _place_axis(axes: Axes, places: list[float], over: str) -> None:
    axes.set_xlabel(label_text(over, 40), parse_math=False)
    if min(places) > 0 and max(places) / min(places) > _LOG_RATIO:
        log_axis(axes.xaxis, compact, 8, (1, 2, 5))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, min_n_ticks=1))
    if len(set(places)) <= _MOST_TICKS:
        axes.xaxis.set_major_locator(FixedLocator(sorted(set(places))))
    axes.xaxis.set_major_formatter(FuncFormatter(compact))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def series_json(placed: Placed, over: str) -> str:
    """The series as a JSON list with one object for each network, for scripts.

    Keys: ``over``, ``at``, ``network``, ``gap`` (``null`` without held-out labels), ``margin_loss``, ``log10`` (by row,
    as the table has it) and ``gap_log10`` (by row, what it says of errors).
    """
    content: list[dict[str, Any]] = [
        {
            "over": over,
            "at": place,
            "network": clean(table.network["name"], 200),
            "gap": table.gap,
            "margin_loss": table.margin_loss,
            "log10": {row.name: row.log10 for row in table.rows},
            "gap_log10": {row.name: size_log10(row) for row in table.rows if Unit(row.unit) is not Unit.PLAIN},
        }
        for place, table in placed
    ]
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False) + "\n"
