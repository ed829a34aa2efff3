"""How figures look, and how they become SVG that can stand inside a page: same bytes for the same certificate.

Letters are drawn as outlines, so that a figure needs no font; colours are handed to the page's style sheet, so that
they follow its light or dark scheme. No state of ``matplotlib.pyplot`` is read or changed, and the user's matplotlib
settings are put back. Not for use from several threads at once: matplotlib's settings are one dictionary.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import StringIO
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.style import context
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from bitcert.report.text import clean

INK, MUTED, GRID, ACCENT, SECOND, PAPER = "#1b1f24", "#57606b", "#d0d7de", "#0a62b8", "#a84300", "#fdfeff"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ACCENT: "--accent",
    SECOND: "--second",
    PAPER: "--paper",
}
_DARK = {
    INK: "#e8ecf0",
    MUTED: "#a3adb8",
    GRID: "#363d46",
    ACCENT: "#6cb2ff",
    SECOND: "#ffa25e",
    PAPER: "#14181d",
}
# Of about equal lightness, so that every colour between two of them can be read on both papers.
_RAMP = ("#0a84a8", "#2b7de0", "#8a55d8", "#c23fa0", "#d2463c", "#b8620a")
# The outlines come from DejaVu Sans, which has every letter below this code point; a box would stand for any other.
_LAST_DRAWN = 0x530

_BOX = r'viewBox="[-0-9. ]+"'
_SIZE = r'width="[0-9.]+pt" height="[0-9.]+pt"'

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


def new_figure(height: float, rows: int = 1, *, sharex: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure 5 inches wide (so that its letters can be read on a phone) and ``height`` high; one column of axes."""
    figure = Figure(figsize=(5.0, height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=sharex, squeeze=False)
    return figure, [row[0] for row in axes]


def ramp(index: int, count: int) -> str:
    """Colour ``index`` of ``count`` that run from blue to brown, readable on light and on dark paper.

    >>> ramp(0, 20), ramp(19, 20), ramp(0, 1)
    ('#0a84a8', '#b8620a', '#0a84a8')
    """
    position = (len(_RAMP) - 1) * index / max(count - 1, 1)
    left = min(int(position), len(_RAMP) - 2)
    ends = ([int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in _RAMP[left : left + 2])
    mixed = (round(a + (position - left) * (b - a)) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def label_text(text: object, limit: int) -> str:
    """``text`` with only letters that the figure's font has, at most ``limit`` of them, its middle left out."""
    safe = "".join(c if ord(c) < _LAST_DRAWN else "?" for c in clean(text))
    if len(safe) <= limit:
        return safe
    tail = (limit - 1) // 2
    return f"{safe[: limit - 1 - tail]}…{safe[-tail:]}"


_LARGEST_WITH_UNIT = 1e12
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def compact(value: float, _position: object = None) -> str:
    """A number of bits short enough for an axis.

    >>> [compact(value) for value in (0, 950, 1500, 20_000, 10_000_000, 1e21)]
    ['0', '950', '1.5k', '20k', '10M', '1e21']
    """
    if abs(value) >= _LARGEST_WITH_UNIT:
        return f"{value:.3g}".replace("e+", "e")
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def line_values(axes: Axes) -> list[float]:
    """Every finite height of the lines that were drawn."""
    heights = (float(value) for line in axes.lines for value in np.asarray(line.get_ydata(), dtype=float).ravel())
    return [height for height in heights if math.isfinite(height)]


def plain(value: float, _position: object = None) -> str:
    """A number on an axis, without powers.

    >>> plain(0.001), plain(100.0), plain(1e-7)
    ('0.001', '100', '1e-07')
    """
    return f"{value:.4g}"


def log_axis(axis: Axis, said: Callable[[float, object], str], most: int, subs: tuple[int, ...] = (1,)) -> None:
    """Make an axis logarithmic, with at most about ``most`` ticks at ``subs`` times powers of 10."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(10, subs=subs, numticks=most))
    axis.set_major_formatter(FuncFormatter(said))
    axis.set_minor_formatter(NullFormatter())


def log_if_wide(axes: Axes, ratio: float) -> bool:
    """Make the heights logarithmic if the lines that were drawn span more than this factor; whether they do."""
    heights = line_values(axes)
    wide = bool(heights) and min(heights) > 0 and max(heights) / min(heights) > ratio
    if wide:
        log_axis(axes.yaxis, plain, 8, (1, 2, 5))
    return wide


def power_axis(axis: Axis, most: int = 6) -> None:
    """Say what stands on an axis of base-10 logarithms as powers."""
    axis.set_major_locator(MaxNLocator(most, integer=True))
    axis.set_major_formatter(FuncFormatter(power_tick))


def power_tick(value: float, _position: object = None) -> str:
    """A base-10 logarithm on an axis.

    >>> power_tick(18.0), power_tick(0.0), power_tick(-2.0), power_tick(0.5)
    ('10¹⁸', '1', '10⁻²', '')
    """
    if abs(value - round(value)) > 1e-6:
        return ""
    return "1" if round(value) == 0 else f"10{str(round(value)).translate(_SUPERSCRIPTS)}"


def write_on(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    shift: tuple[float, float],
    *,
    pad: float = 0.5,
    **look: Any,
) -> None:
    """Write text on paper of its own, so that it can be read over what is drawn; dollars in it are no formula.

    Args:
        axes: where.
        text: what.
        at: the point that it belongs to.
        shift: from there, in points.
        pad: of the paper around it.
        look: anything else that ``Axes.annotate`` takes.
    """
    paper = {"facecolor": PAPER, "edgecolor": "none", "alpha": look.pop("alpha", 0.85), "pad": pad}
    look = {"textcoords": "offset points", "va": "bottom", "fontsize": 9.5, "color": INK, **look}
    axes.annotate(text, at, xytext=shift, bbox=paper, parse_math=False, **look)


def legend_below(
    figure: Figure, axes: Axes, columns: int, *, least: int = 1, reverse: bool = False, **more: Any
) -> None:
    """Name below the figure what was drawn in ``axes``, if it is at least ``least`` things."""
    handles, labels = axes.get_legend_handles_labels()
    if reverse:
        handles, labels = handles[::-1], labels[::-1]
    if len(handles) >= least:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, **more)


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, the first and the last among them, evenly apart.

    >>> spread(20, 5), spread(3, 5)
    ([0, 5, 10, 14, 19], [0, 1, 2])
    """
    if count <= most:
        return list(range(count))
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)})


def draw(figure: Figure) -> str:
    """What matplotlib writes of a figure that was made under :func:`style`: the same text for the same figure."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    buffer = StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return buffer.getvalue()


def for_page(drawn: str, name: str, description: str) -> str:
    """A drawing as one ``<svg>`` element for a page.

    Args:
        drawn: from :func:`draw`.
        name: prefix of its ids, unique in the page; lower-case letters.
        description: what it shows, for readers who do not see it; HTML-escaped here.
    """
    body = _named(drawn, name)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    namespace = 'xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {_find(_BOX, body)} {namespace} role="img" aria-label="{_attribute(description)}">{_inside(body)}'


def for_file(drawn: str, description: str) -> str:
    """A drawing as the text of an SVG file: plain colours on no paper, and dark ones where a dark scheme is asked for.

    Args:
        drawn: from :func:`draw`.
        description: as in :func:`for_page`.
    """
    body = _named(drawn, "figure")
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    dark = "".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {shade} !important }}\n'
        for light, shade in _DARK.items()
        for kind in ("fill", "stroke")
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        f'<svg {namespaces} {_find(_BOX, body)} {_find(_SIZE, body)} role="img" '
        f'aria-label="{_attribute(description)}">\n<style>\n'
        "* { stroke-linejoin: round; stroke-linecap: butt }\n"
        f"@media (prefers-color-scheme: dark) {{\nsvg {{ background: {_DARK[PAPER]} }}\n{dark}}}\n</style>"
        f"{_inside(body)}"
    )


def _named(svg: str, name: str) -> str:
    """The element alone, without comments and style sheet, its ids beginning with ``name``."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    return body.replace("url(#", f"url(#{name}-")


def _find(pattern: str, body: str) -> str:
    found = re.search(pattern, body)
    if found is None:
        raise ValueError("matplotlib wrote an SVG without a size")
    return found[0]


def _inside(body: str) -> str:
    return body[body.index(">") + 1 :]


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})
