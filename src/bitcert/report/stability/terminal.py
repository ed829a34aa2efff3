"""A stability profile for a terminal: one sentence, a table of the layers, and which hypotheses hold.

Text of the profile is shown as text: no markup is read in it and no control character reaches the terminal. It shows
what the profile says and does NOT check it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bitcert.report.stability.words import headline, hypothesis_word, measured_on, short, strip_dot
from bitcert.report.text import clean, number

if TYPE_CHECKING:
    from bitcert.stability.profile import StabilityProfile
from bitcert.stability.reduction import SmoothnessSummary

__all__ = ["stability_summary"]

MOST_ROWS = 60
MOST_LINES = 12
MAX_NAME = 28


def stability_summary(profile: StabilityProfile) -> Group:
    """The sentence, the layers with their worst cushions and effective parameters, smoothness and hypotheses.

    >>> from rich.console import Console
    >>> Console().print(stability_summary(profile))  # doctest: +SKIP
    """
    parts: list[RenderableType] = [Text(headline(profile), style="bold"), Text(f"Measured on {measured_on(profile)}.")]
    if profile.layers:
        parts.append(Padding(_layers(profile), (1, 0, 1, 2)))
    if profile.smoothness is not None and profile.smoothness.value is not None:
        parts.append(Text(_smoothness(profile.smoothness)))
    for hypothesis in profile.hypotheses[:MOST_LINES]:
        holds = hypothesis_word(hypothesis.holds)
        style = "yellow" if hypothesis.holds is False else ""
        line = f"{clean(hypothesis.name, 80)}: {holds} ({strip_dot(hypothesis.detail)})"
        parts.append(Text(line, style=style))
    parts.extend(Text(f"note: {clean(note)}", style="dim") for note in profile.notes[:MOST_LINES])
    if len(profile.notes) > MOST_LINES:
        parts.append(Text(f"{number(len(profile.notes) - MOST_LINES)} more notes are in the report", style="dim"))
    parts.append(Text("These are measures: they explain, they never prove.", style="dim"))
    return Group(*parts)


def _smoothness(summary: SmoothnessSummary) -> str:
    noise = summary.median_relative_noise
    size = "" if noise is None else f", noise {short(100 * noise)} % of the signal"
    return f"interlayer smoothness 1/ρ: {short(summary.value)} ({number(summary.draws)} draws{size})"


def _layers(profile: StabilityProfile) -> Table:
    table = Table.grid(padding=(0, 2))
    titles = ("", "layer", "weights", "cushion", "interlayer", "contract.", "effective", "%")
    for title in titles:
        named = title == "layer"
        justify: JustifyMethod = "left" if title in ("", "layer") else "right"
        # only the name may be cut short on a narrow terminal
        table.add_column(justify=justify, no_wrap=not named, overflow="ellipsis", min_width=6 if named else None)
    table.add_row(*(Text(title, style="dim") for title in titles))
    for row in profile.layers[:MOST_ROWS]:
        cushions = (row.layer_cushion, row.minimal_cushion, row.contraction)
        values = (value.worst for value in (*cushions, row.effective_parameters, row.compression_percent))
        cells = (str(row.index), clean(row.node, MAX_NAME), number(math.prod(row.shape)), *map(short, values))
        table.add_row(*(Text(cell) for cell in cells))
    if len(profile.layers) > MOST_ROWS:
        table.add_row(Text(""), Text(f"and {number(len(profile.layers) - MOST_ROWS)} more"))
    return table
