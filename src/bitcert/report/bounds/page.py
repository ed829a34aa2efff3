"""Bounds as a self-contained HTML page, as a section of a certificate's report, and several tables as a series.

Text of a table may come from a stranger: the templates escape all of it and the page's content security policy forbids
anything that would have to be loaded or run, as in :mod:`bitcert.report.certificate.page`. The page shows what the
table says; it does NOT check it, and it says of every row whether it proves anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.figure import Figure

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
from bitcert.report.drawing import draw, for_file, for_page
from bitcert.report.templating import Picture, get_template
from bitcert.theory.value import Unit

if TYPE_CHECKING:
    from bitcert.theory.table import BoundRow, BoundTable

__all__ = ["bounds_files", "bounds_section", "render_bounds", "series_files"]

REPORT_FILE = "report.html"
BARS_FILE = "bounds.svg"
LAYERS_FILE = "effective-parameters.svg"
SERIES_FILE = "series.svg"
SERIES_JSON = "series.json"
MOST_ROWS = 300
MOST_REASONS = 100
MOST_SERIES_ROWS = 200

Drawn = list[tuple[str, str, str, str]]
"""Name, drawing, title and caption of each picture."""


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
    files = {REPORT_FILE: _page(table, drawn).encode()}
    for name, drawing, title, caption in drawn:
        files[f"{name}.svg"] = for_file(drawing, f"{title}. {caption}").encode()
    return files


def series_files(
    tables: Sequence[BoundTable], over: str = "width", at: Sequence[float] | None = None
) -> dict[str, bytes]:
    """``report.html``, ``series.svg`` and ``series.json`` of several networks; arguments as in ``plot_series``.

    Raises:
        InputError: as :func:`bitcert.report.bounds.series.plot_series`.
    """
    placed = sort_series(tables, over, at)
    title = f"Bounds against {words.clean(over, 40)}"
    caption = (
        "Above: bounds on a logarithmic axis; a capacity is drawn as the gap that follows from it. Below, where "
        "held-out labels are known: the real gap, and one bound moved and stretched to the same range, so that only "
        "its shape can be compared. Solid lines are guarantees of every network, broken lines measures. "
    )
    caption = (caption + differences(tables)).strip()
    drawn = draw(plot_series(tables, over, at)[0])
    rows = series_rows(placed)
    picture = Picture(title, Markup(for_page(drawn, "series", f"{title}. {caption}")), caption)
    page = get_template("bounds_series.html.j2").render(
        over=over,
        picture=picture,
        words=words,
        networks=[(f"{place:g}", table.network["name"], table.gap) for place, table in placed],
        rows=[(name, [bounds_words.power(log) for log in logs]) for name, logs in rows.items()][:MOST_SERIES_ROWS],
    )
    return {
        REPORT_FILE: page.encode(),
        SERIES_FILE: for_file(drawn, f"{title}. {caption}").encode(),
        SERIES_JSON: series_json(placed, over).encode(),
    }


def _drawings(table: BoundTable, certified: float | None = None) -> Drawn:
    pictures: list[tuple[str, Figure, str, str]] = []
    if certified or drawn_rows(table):
        figure = plot_bars(table, certified)[0]
        pictures.append(("bounds", figure, "Every bound beside the real gap", _bars_caption(table)))
    if rows_with_layers(table) and table.layers:
        figure = plot_effective_parameters(table)[0]
        title = "Effective and actual parameters, layer by layer"
        caption = (
            "The ring is the number of weights of the layer; the other marks are how many parameters a bound counts in "
            "it, constants and logarithms dropped. Far left of the ring: the layer could be compressed by far."
        )
        pictures.append(("effective-parameters", figure, title, caption))
    return [(name, draw(figure), title, caption) for name, figure, title, caption in pictures]


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
    told = [f"{what} ({words.number(count)})" for what, count in missing.items() if count]
    return f"{caption} Not drawn: {', '.join(told)}." if told else caption


def _page(table: BoundTable, drawn: Drawn) -> str:
    template = get_template("bounds_page.html.j2")
    return template.render(table=table, headline=bounds_words.headline(table), section=_section(table, drawn))


def _section(table: BoundTable, drawn: Drawn) -> Markup:
    shown = table.rows[:MOST_ROWS]
    pictures = [
        Picture(title, Markup(for_page(drawing, f"bounds-{name}", f"{title}. {caption}")), caption)
        for name, drawing, title, caption in drawn
    ]
    text = get_template("bounds.html.j2").render(
        words=words,
        facts=bounds_words.facts(table),
        pictures=pictures,
        papers=[(heading, [_cells(row) for row in rows]) for heading, rows in bounds_words.papers(shown)],
        more=max(len(table.rows) - MOST_ROWS, 0),
        reasons=bounds_words.reasons(table)[:MOST_REASONS],
        details=bounds_words.details(table),
    )
    return Markup(text)  # the template has escaped all of the table's text


def _cells(row: BoundRow) -> dict[str, Any]:
    """Everything that the page says of one row, as text."""
    printed = row.printed_log10
    return {
        "name": row.name,
        "title": row.title,
        "source": row.source,
        "value": bounds_words.value_text(row),
        "unit": bounds_words.unit_text(row),
        "order": bounds_words.order_text(row),
        "gap": "" if row.unit == Unit.PLAIN else bounds_words.gap_text(row),
        "kind": bounds_words.kind_text(row),
        "status": bounds_words.status_text(row),
        "sentence": row.sentence,
        "verdict": bounds_words.verdict(row),
        "dropped": row.dropped,
        "formula": words.clean(row.formula, 1000),
        "printed": "" if printed is None else bounds_words.power(printed),
        "probability": "" if row.probability is None else words.number(row.probability),
        "conditions": bounds_words.condition_lines(row),
        "ingredients": bounds_words.ingredient_lines(row),
        "layers": bounds_words.layers_text(row),
        "notes": row.notes[: bounds_words.MOST_ENTRIES],
    }
