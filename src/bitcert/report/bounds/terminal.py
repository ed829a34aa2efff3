"""A table of bounds for a terminal: sentences, then the rows of each paper, then why some have no value.

Text of the table is shown as text: no markup is read in it and no control character reaches the terminal. It shows what
the table says and does NOT check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bitcert.report.bounds.words import facts, gap_text, headline, order_text, papers, reasons, status_text, value_text
from bitcert.report.text import clean, number
from bitcert.theory.value import Kind, Unit

if TYPE_CHECKING:
    from bitcert.theory.table import BoundRow, BoundTable

__all__ = ["bounds_summary"]

TITLES = ("  bound", "value", "log10", "err./gap", "conditions")
WIDTHS = (9, 6, 9, 20)
PADDING, MIN_NAME = 2, 12
MOST_ROWS = 300
MOST_REASONS = 60
MOST_NAMES = 100
MAX_NAME = 44
MAX_REASON = 200


def bounds_summary(table: BoundTable) -> Group:
    """The sentence, the facts, every row by paper, and each reason for a missing value once.

    >>> from rich.console import Console
    >>> Console().print(bounds_summary(table))  # doctest: +SKIP
    """
    parts: list[RenderableType] = [Text(f"{headline(table)}.", style="bold")]
    parts += [Text(f"{term}: {sentence}") for term, sentence in facts(table)]
    parts.append(Padding(_Rows(table), (1, 0, 1, 0)))
    found = reasons(table)
    parts += [Text(f"{_names(names)}: {clean(why, MAX_REASON)}", style="dim") for why, names in found[:MOST_REASONS]]
    if len(found) > MOST_REASONS:
        parts.append(Text(f"{number(len(found) - MOST_REASONS)} more reasons are in the report", style="dim"))
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


def _grid(name: int, rows: list[list[Text]]) -> Table:
    grid = Table.grid(padding=(0, PADDING))
    grid.add_column(width=name, overflow="fold")
    for title, width in zip(TITLES[1:], WIDTHS, strict=True):
        justify: JustifyMethod = "left" if title == TITLES[-1] else "right"
        grid.add_column(justify=justify, width=width, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _cells(row: BoundRow) -> list[Text]:
    proved = row.kind == Kind.GUARANTEE
    gap = "" if row.unit == Unit.PLAIN else gap_text(row)
    name = f"{'*' if proved else ' '} {clean(row.name, MAX_NAME)}"
    style = "bold" if proved and not row.vacuous else ("dim" if row.log10 is None else "")
    return [Text(cell, style=style) for cell in (name, value_text(row), order_text(row), gap, _conditions(row))]


def _conditions(row: BoundRow) -> str:
    return status_text(row).removeprefix("conditions ").replace("no conditions", "none")


def _names(names: list[str]) -> str:
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMES])} and {number(len(names) - MOST_NAMES)} more"
