"""How figures look, and how they become SVG that can stand inside a page: same bytes for the same certificate.

Letters are drawn as outlines, so that a figure needs no font; colours are handed to the page's style sheet, so that
they follow its light or dark scheme. No state of ``matplotlib.pyplot`` is read or changed, and the user's matplotlib
settings are put back. Not for use from several threads at once: matplotlib's settings are one dictionary.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from io import StringIO

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.text import Text

from bitcert.report.words import clean

__all__ = [
    "ACCENT",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "SECOND",
    "compact",
    "label_text",
    "new_figure",
    "style",
    "to_svg",
]

INK, MUTED, GRID, ACCENT, SECOND, PAPER = "#1b1f24", "#57606b", "#d0d7de", "#0a62b8", "#a84300", "#fdfeff"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ACCENT: "--accent",
    SECOND: "--second",
    PAPER: "--paper",
}
# The outlines come from DejaVu Sans, which has every letter below this code point; a box would stand for any other.
_LAST_DRAWN = 0x530

_STYLE = {
    "svg.hashsalt": "bitcert",
    "svg.fonttype": "path",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 2.0,
}


def style() -> AbstractContextManager[None]:
    """matplotlib's defaults with this package's changes, for as long as a figure is made or written."""
    return context(["default", _STYLE])


def new_figure(height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure 5 inches wide (so that its letters can be read on a phone) and ``height`` high; one column of axes."""
    figure = Figure(figsize=(5.0, height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, [row[0] for row in axes]


def label_text(text: object, limit: int) -> str:
    """``text`` with only letters that the figure's font has, at most ``limit`` of them, its middle left out."""
    safe = "".join(c if ord(c) < _LAST_DRAWN else "?" for c in clean(text))
    if len(safe) <= limit:
        return safe
    tail = (limit - 1) // 2
    return f"{safe[: limit - 1 - tail]}…{safe[-tail:]}"


def compact(value: float, _position: object = None) -> str:
    """A number of bits short enough for an axis.

    >>> [compact(value) for value in (0, 950, 1500, 20_000, 10_000_000)]
    ['0', '950', '1.5k', '20k', '10M']
    """
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def to_svg(figure: Figure, name: str, description: str) -> str:
    """``figure`` as one ``<svg>`` element for a page.

    Args:
        figure: made under :func:`style`.
        name: prefix of its ids, unique in the page; lower-case letters.
        description: what it shows, for readers who do not see it; HTML-escaped here.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    buffer = StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_page(buffer.getvalue(), name, description)


def _for_page(svg: str, name: str, description: str) -> str:
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="[-0-9. ]+"', body)
    if box is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    inside = body[body.index(">") + 1 :]
    namespace = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {box[0]} {namespace} role="img" aria-label="{_attribute(description)}">{inside}'


def _attribute(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text
