"""A comparison as one self-contained HTML page and its figure as an SVG file.

Names come from a stranger's file or network: the template escapes all of it, and the page's content security policy
forbids anything that would have to be loaded or run, as in :mod:`bitcert.report.certificate.page`. The page shows what
the comparison says; it does NOT check it, and it says which sentences are proved and which are measured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from markupsafe import Markup

from bitcert.report import text as words
from bitcert.report.comparison import words as comparison_words
from bitcert.report.comparison.figure import plot_comparison
from bitcert.report.drawing import draw, for_file, for_page
from bitcert.report.templating import Picture, get_template

if TYPE_CHECKING:
    from bitcert.comparison.records import Comparison

__all__ = ["comparison_files", "render_comparison"]

REPORT_FILE = "report.html"
FIGURE_FILE = "comparison.svg"
TITLE = "Bound and training error against message length"
CAPTION = (
    "Each mark is one message, joined along the strengths of its codec. Above, the certified bound on the error of the "
    "decoded network; below, its training errors, on a logarithmic scale where no error stands as half an error."
)
MOST_ROWS = 400
MOST_LINES = 100


def render_comparison(comparison: Comparison) -> str:
    """The comparison as the text of one HTML file, the same for the same comparison."""
    return _page(comparison, _drawn(comparison))


def comparison_files(comparison: Comparison) -> dict[str, bytes]:
    """``report.html`` and, where there is a message, ``comparison.svg``, by name."""
    drawn = _drawn(comparison)
    files = {REPORT_FILE: _page(comparison, drawn).encode()}
    if drawn is not None:
        files[FIGURE_FILE] = for_file(drawn, f"{TITLE}. {CAPTION}").encode()
    return files


def _drawn(comparison: Comparison) -> str | None:
    return draw(plot_comparison(comparison)[0]) if comparison.messages else None


def _page(comparison: Comparison, drawn: str | None) -> str:
    picture = None
    if drawn is not None:
        picture = Picture(TITLE, Markup(for_page(drawn, "comparison", f"{TITLE}. {CAPTION}")), CAPTION)
    rows = comparison_words.message_rows(comparison)
    theory = comparison_words.theory_rows(comparison)
    return get_template("comparison.html.j2").render(
        comparison=comparison,
        headline=comparison_words.headline(comparison),
        compared_on=comparison_words.compared_on(comparison),
        words=words,
        picture=picture,
        message_titles=comparison_words.MESSAGE_TITLES,
        messages=rows[:MOST_ROWS],
        more=max(len(rows) - MOST_ROWS, 0),
        theory_titles=comparison_words.THEORY_TITLES,
        theory=theory[:MOST_ROWS],
        notes=[(name, lines[:MOST_LINES]) for name, lines in comparison_words.theory_notes(comparison)[:MOST_LINES]],
        refusals=comparison_words.refusals(comparison)[:MOST_LINES],
        details=_details(comparison),
    )


def _details(comparison: Comparison) -> list[tuple[str, str]]:
    groups = {
        "network": comparison.network,
        "sample": comparison.sample,
        "held-out data": comparison.holdout or {},
        "helper": comparison.helper,
        "setting": comparison.settings,
        "version": comparison.versions,
    }
    rows = [(f"{group}: {key}", value) for group, content in groups.items() for key, value in content.items()]
    return [(key, value if isinstance(value, str) else json.dumps(value, default=str)) for key, value in rows]
