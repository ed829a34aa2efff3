"""Bounds as a self-contained HTML page, as a section of a certificate's report, as a series, and on a terminal.

All of them show what the table says, and of every row whether it proves anything; they do NOT check it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from bitcert.errors import listed
from bitcert.report import text as words
from bitcert.report.bounds import words as bounds_words
from bitcert.report.bounds.figures import (
    MOST_BARS,
    drawn_rows,
    plot_bars,
    plot_effective_parameters,
    rows_with_layers,
    size_log10,
)
from bitcert.report.bounds.series import differences, plot_series, series_json, series_rows, sort_series
from bitcert.report.bounds.words import facts, gap_text, headline, order_text, papers, power, status_text, value_text
from bitcert.report.model import Picture, Table, detail_rows, page_files, render, section_page
from bitcert.report.text import clean, number
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import Kind, Unit

SERIES_JSON = "series.json"
MOST_ROWS = 300
MOST_REASONS = 100
MOST_SERIES_ROWS = 200
MOST_DETAILS = 200

TITLES = ("  bound", "value", "log10", "err./gap", "conditions")
WIDTHS = (9, 6, 9, 20)
PADDING, MIN_NAME = 2, 12
MOST_TERMINAL_REASONS = 60
MOST_NAMES = 100
MAX_NAME = 44
MAX_REASON = 200


def render_bounds(table: BoundTable) -> str:
    """The table as the text of one HTML file, the same for the same table."""
    return _page(table, _drawings(table))


def bounds_section(table: BoundTable, certified: float | None = None) -> Markup:
    """The table as the inside of a page: pictures, rows with their sentences, and why some have no value.

    Args:
        table: of the network.
        certified: bound of the certificate whose report it stands in.
    """
    return _section(table, _drawings(table, certified))


def bounds_files(table: BoundTable) -> dict[str, bytes]:
    """``report.html`` and the pictures as SVG files, by name; what has no value has no picture."""
    drawn = _drawings(table)
    return page_files(_page(table, drawn), drawn)


def series_files(
    tables: Sequence[BoundTable], over: str = "width", at: Sequence[float] | None = None
) -> dict[str, bytes]:
    """``report.html``, ``series.svg`` and ``series.json`` of several networks; arguments as in ``plot_series``.

    Raises:
        InputError: as :func:`bitcert.report.bounds.series.plot_series`.
    """
    placed = sort_series(tables, over, at)
    caption = (
        "Above: bounds on a logarithmic axis; a capacity is drawn as the gap that follows from it. Below, where "
        "held-out labels are known: the real gap, and one bound moved and stretched to the same range, so that only "
        "its shape can be compared. Solid lines are guarantees of every network, broken lines measures. "
    )
    caption = (caption + differences(tables)).strip()
    title = f"Bounds against {clean(over, 40)}"
    picture = Picture.of("series", title, caption, partial(plot_series, tables, over, at))
    rows = [(name, *map(power, logs)) for name, logs in series_rows(placed).items()][:MOST_SERIES_ROWS]
    names = ("network", *(clean(table.network["name"], 40) for _, table in placed))
    gaps = ("real gap", *(words.percent(table.gap) for _, table in placed))
    page = render(
        "bounds_series.html.j2",
        title=f"bounds against {over}",
        lead="bitcert bounds --series",
        headline=f"Bounds of {number(len(placed))} networks against {over}",
        picture=picture,
        table=Table((over, *(f"{place:g}" for place, _ in placed)), (names, gaps, *rows), total=1),
    )
    return {**page_files(page, [picture]), SERIES_JSON: series_json(placed, over).encode()}


def _drawings(table: BoundTable, certified: float | None = None) -> list[Picture]:
    pictures = []
    if certified or drawn_rows(table):
        title, plot = "Every bound beside the real gap", partial(plot_bars, table, certified)
        pictures.append(Picture.of("bounds", title, _bars_caption(table), plot, "bounds-"))
    if rows_with_layers(table) and table.layers:
        title = "Effective and actual parameters, layer by layer"
        caption = (
            "The ring is the number of weights of the layer; the other marks are how many parameters a bound counts in "
            "it, constants and logarithms dropped. Far left of the ring: the layer could be compressed by far."
        )
        plot = partial(plot_effective_parameters, table)
        pictures.append(Picture.of("effective-parameters", title, caption, plot, "bounds-"))
    return pictures


def _bars_caption(table: BoundTable) -> str:
    caption = (
        "On a logarithmic axis. Filled: a guarantee, with every constant. Hatched: a measure, with constants and "
        "logarithms left out, drawn as the gap sqrt(value / m) that would follow from it. Dashed frame: a condition "
        "fails or is not known. Right of the dashed line a bound says nothing."
    )
    shown = len(drawn_rows(table))
    sized = sum(size_log10(row) is not None for row in table.rows)
    plain = sum(row.unit == Unit.PLAIN for row in table.rows)
    missing = {
        "quantities that only compare networks": plain,
        "rows without a value, or with 0": len(table.rows) - plain - sized,
        f"bars beyond {MOST_BARS}": sized - shown,
    }
    told = [f"{what} ({number(count)})" for what, count in missing.items() if count]
    return f"{caption} Not drawn: {', '.join(told)}." if told else caption


def _page(table: BoundTable, drawn: Sequence[Picture]) -> str:
    return section_page(f"bitcert bounds · {table.sample['name']}", headline(table), _section(table, drawn))


def _section(table: BoundTable, drawn: Sequence[Picture]) -> Markup:
    groups = {
        "network": table.network,
        "sample": table.sample,
        "held-out labels": table.holdout or {},
        "setting": table.settings,
        "seconds": table.seconds,
        "version": table.versions,
    }
    ordered = {group: dict(sorted(entries.items())) for group, entries in groups.items()}
    return render(
        "bounds.html.j2",
        facts=facts(table),
        pictures=drawn,
        papers=[(heading, [_row(row) for row in rows]) for heading, rows in papers(table.rows[:MOST_ROWS])],
        left_out=max(len(table.rows) - MOST_ROWS, 0),
        reasons=[(why, ", ".join(names)) for why, names in bounds_words.reasons(table)[:MOST_REASONS]],
        details_rows=detail_rows(ordered, bounds_words.ingredient)[:MOST_DETAILS],
    )


def _row(row: BoundRow) -> dict[str, Any]:
    """Everything that the page says of one row, as text."""
    value, printed = value_text(row), row.printed_log10
    return {
        "row": row,
        "cells": {
            "value": value + (" samples" if row.unit == Unit.SAMPLES and value != words.UNKNOWN else ""),
            "log10": order_text(row),
            "error or gap": _gap(row),
        },
        "kind": bounds_words.kind_text(row),
        "status": status_text(row),
        "verdict": bounds_words.verdict(row),
        "facts": {
            "Computed:": clean(row.formula, 1000),
            "Dropped:": row.dropped,
            "As the paper prints it:": "" if printed is None else f"{power(printed)} (an erratum changes it)",
            "The claim holds with probability at least": "" if row.probability is None else number(row.probability),
        },
        "conditions": bounds_words.condition_lines(row),
        "ingredients": bounds_words.ingredient_lines(row),
        "layers": Table(("layer", "effective", "actual"), bounds_words.layers_text(row)),
        "notes": row.notes[: bounds_words.MOST_ENTRIES],
    }


def _gap(row: BoundRow) -> str:
    return "" if row.unit == Unit.PLAIN else gap_text(row)


def bounds_summary(table: BoundTable) -> Group:
    """The sentence, the facts, every row by paper, and each reason for a missing value once.

    >>> from rich.console import Console
    >>> Console().print(bounds_summary(table))  # doctest: +SKIP
    """
    found = bounds_words.reasons(table)
    parts: list[RenderableType] = [Text(f"{headline(table)}.", style="bold")]
    parts += [Text(f"{term}: {sentence}") for term, sentence in facts(table)]
    parts.append(Padding(_Rows(table), (1, 0, 1, 0)))
    for why, names in found[:MOST_TERMINAL_REASONS]:
        parts.append(Text(f"{listed(names, MOST_NAMES)}: {clean(why, MAX_REASON)}", style="dim"))
    if len(found) > MOST_TERMINAL_REASONS:
        text = f"{number(len(found) - MOST_TERMINAL_REASONS)} more reasons are in the report"
        parts.append(Text(text, style="dim"))
    parts.append(
        Text(
            "* guarantee: proved, with every constant. All else are measures: constants and logarithms are left out. "
            "Value: a capacity in samples (as a gap sqrt(value / m)), a bound on error or gap, or, without a gap, a "
            "quantity that only compares networks. Vacuous: 1 or more, which says nothing of any network.",
            style="dim",
        )
    )
    return Group(*parts)


@dataclass(frozen=True)
class _Rows:
    """One grid for each paper, all of the same column widths; on a narrow terminal only names are folded."""

    table: BoundTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self.table.rows[:MOST_ROWS]
        widest = max((len(clean(row.name, MAX_NAME)) for row in shown), default=0) + 2
        room = options.max_width - sum(WIDTHS) - len(WIDTHS) * PADDING
        name = max(MIN_NAME, min(widest, room))
        yield _grid(name, [[Text(title, style="dim") for title in TITLES]])
        for heading, rows in papers(shown):
            yield Text(heading, style="bold")
            yield _grid(name, [_cells(row) for row in rows])
        if len(self.table.rows) > MOST_ROWS:
            yield Text(f"and {number(len(self.table.rows) - MOST_ROWS)} more rows are in the report")


def _grid(name: int, rows: list[list[Text]]) -> Grid:
    grid = Grid.grid(padding=(0, PADDING))
    grid.add_column(width=name, overflow="fold")
    for title, width in zip(TITLES[1:], WIDTHS, strict=True):
        grid.add_column(justify="left" if title == TITLES[-1] else "right", width=width, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _cells(row: BoundRow) -> list[Text]:
    proved = row.kind == Kind.GUARANTEE
    name = f"{'*' if proved else ' '} {clean(row.name, MAX_NAME)}"
    style = "bold" if proved and not row.vacuous else ("dim" if row.log10 is None else "")
    conditions = status_text(row).removeprefix("conditions ").replace("no conditions", "none")
    return [Text(cell, style=style) for cell in (name, value_text(row), order_text(row), _gap(row), conditions)]
