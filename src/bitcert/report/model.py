"""What every report is made of, whatever it is about: pictures, tables, details; rows and sentences of a terminal.

On a page everything that is put into a template is escaped and cleaned, unless it is markup of ours, and the page's
content security policy forbids anything that would have to be loaded or run: text may come from a stranger. On a
terminal all text is shown as text: no markup is read in it. What is said is NOT checked here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import OverflowMethod
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from bitcert.certificates.certification import REPORT_FILE
from bitcert.report import text as words
from bitcert.report.drawing import draw, for_file, for_page
from bitcert.report.text import Sections, clean, group_sections, number, share

MAX_NAME = 40
Plot = Callable[[], tuple[Figure, Any]]
Columns = Sequence[tuple[str, Callable[[Any], str]]]
"""Title of each column, and what it says of an entry."""


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when it is first asked for and then kept.

    Attributes:
        name: of its file, without ``.svg``.
        title: what it shows.
        caption: what is said below it.
        drawing: what matplotlib writes of it.
        prefix: of its ids in a page, before its name.
    """

    name: str
    title: str
    caption: str
    drawing: Callable[[], str]
    prefix: str = ""

    @classmethod
    def of(
        cls, name: str, title: str, caption: str, plot: Callable[[], tuple[Figure, Any]], prefix: str = ""
    ) -> Picture:
        """A picture of what ``plot`` returns."""
        return cls(name, title, caption, cache(lambda: draw(plot()[0])), prefix)

    @property
    def svg(self) -> Markup:
        """As an element of a page."""
        return Markup(for_page(self.drawing(), self.prefix + self.name, f"{self.title}. {self.caption}"))

    @property
    def file(self) -> bytes:
        """As a file of its own."""
        return for_file(self.drawing(), f"{self.title}. {self.caption}").encode()


@dataclass(frozen=True)
class Table:
    """Rows of a page under their titles: names in front, then numbers.

    Attributes:
        titles: of the columns.
        rows: cells of text.
        names: how many columns in front are names.
        total: place of the row that stands out.
        texts: how many columns at the end are sentences rather than numbers.
        caption: above it.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    total: int | None = None
    texts: int = 0
    caption: str = ""

    @classmethod
    def of(cls, columns: Columns, entries: Iterable[Any], **look: Any) -> Table:
        """A row for each entry; ``look`` is anything else that a table has."""
        rows = [[cell(entry) for _, cell in columns] for entry in entries]
        return cls([title for title, _ in columns], rows, **look)


class Fact(NamedTuple):
    """A row of a terminal: what it is, its value, and what else is to be said."""

    label: str
    value: str
    note: str = ""
    style: str = ""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bitcert.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else words.clean(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["words"] = words
    return environment


def render(template: str, **content: object) -> Markup:
    """A template of this package, with escaping switched on and undefined names refused."""
    return Markup(_environment().get_template(template).render(content))


def section_page(lead: str, headline: str, section: Markup) -> str:
    """A page of one section."""
    return render("page.html.j2", lead=lead, headline=headline, section=section)


def page_files(page: str, pictures: Iterable[Picture]) -> dict[str, bytes]:
    """``report.html`` and the pictures as SVG files, by name."""
    return {REPORT_FILE: page.encode(), **{f"{picture.name}.svg": picture.file for picture in pictures}}


def said_as_json(value: object) -> str:
    """Text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def detail_rows(
    groups: Mapping[str, Mapping[str, Any]], said: Callable[[object], str] = said_as_json
) -> list[tuple[str, str]]:
    """Settings, hashes and versions by group and name."""
    return [(f"{group}: {key}", said(value)) for group, entries in groups.items() for key, value in entries.items()]


def facts_grid(facts: Iterable[Fact], below: int = 0) -> Padding:
    """Facts for a terminal; values are never folded."""
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(overflow="fold")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold", style="dim")
    for label, value, note, style in facts:
        grid.add_row(Text(label, style=style), Text(value, style=style), Text(note))
    return Padding(grid, (1, 0, below, 2))


def message_facts(bits: int, sections: Sections, most: int, note: str = "") -> Iterator[Fact]:
    """Length of a message and its largest sections."""
    yield Fact("message", f"{number(bits)} bits", note)
    for name, size in group_sections(sections, most):
        yield Fact(f"  {clean(name, MAX_NAME)}", f"{number(size)} bits", share(size, bits))


def rows_grid(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    name: str,
    overflow: OverflowMethod,
    closing: Iterable[Sequence[Text]] = (),
) -> Padding:
    """Rows for a terminal under dim titles: on a narrow one only the column ``name`` gives way.

    Args:
        titles: of the columns.
        rows: their cells.
        name: title of the column of names.
        overflow: what becomes of names that are too long.
        closing: rows that end it.
    """
    grid = Grid.grid(padding=(0, 2))
    for title in titles:
        named = title == name
        justify = "left" if title in ("", name) else "right"
        grid.add_column(justify=justify, no_wrap=not named, overflow=overflow, min_width=6 if named else None)
    grid.add_row(*(Text(title, style="dim") for title in titles))
    for cells in rows:
        grid.add_row(*map(Text, cells))
    for texts in closing:
        grid.add_row(*texts)
    return Padding(grid, (1, 0, 1, 2))
