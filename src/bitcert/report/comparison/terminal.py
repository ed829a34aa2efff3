"""A comparison, and a single compression, for a terminal: sentences and a small table.

Text is shown as text: no markup is read in it and no control character reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bitcert.report.comparison.words import compared_on, headline, message_rows, refusals, short
from bitcert.report.text import clean, group_sections, number, percent, share

if TYPE_CHECKING:
    from bitcert.comparison.records import Comparison, Measured, Spread
    from bitcert.theory.prediction import Theory

__all__ = ["comparison_summary", "compression_summary"]

COLUMNS = (0, 1, 2, 3, 4, 5, 8, 14)
TITLES = ("codec", "bits", "numbers", "training", "held out", "bound", "max dev.", "s")
MOST_ROWS = 120
MOST_SECTIONS = 12
MAX_NAME = 40


def comparison_summary(comparison: Comparison) -> Group:
    """What it says, a row for each message, and why the others have none.

    >>> from rich.console import Console
    >>> Console().print(comparison_summary(comparison))  # doctest: +SKIP
    """
    parts: list[RenderableType] = [Text(headline(comparison), style="bold"), Text(f"On {compared_on(comparison)}.")]
    parts.append(Padding(_messages(comparison), (1, 0, 1, 2)))
    parts += [Text(clean(sentence)) for sentence in comparison.conclusions]
    parts += [Text(f"no message, {label}: {sentence}", style="yellow") for label, sentence in refusals(comparison)]
    return Group(*parts)


def _messages(comparison: Comparison) -> Table:
    table = Table.grid(padding=(0, 2))
    for title in TITLES:
        named = title == "codec"
        justify: JustifyMethod = "left" if named else "right"
        table.add_column(justify=justify, no_wrap=not named, overflow="fold", min_width=8 if named else None)
    table.add_row(*(Text(title, style="dim") for title in TITLES))
    rows = message_rows(comparison)
    for row in rows[:MOST_ROWS]:
        cells = [row[column].replace(" (hold-out)", "*") for column in COLUMNS]
        table.add_row(*(Text(clean(cell, MAX_NAME)) for cell in cells))
    if len(rows) > MOST_ROWS:
        table.add_row(Text(f"and {number(len(rows) - MOST_ROWS)} more"))
    if comparison.original.holdout is not None:
        table.add_row(Text("* by holding out", style="dim"))
    return table


def compression_summary(
    label: str, sections: Sequence[tuple[str, int]], measured: Measured, counts: Mapping[str, int], theory: Theory
) -> Group:
    """One message: bits by section, numbers, errors, deviations, and what the paper predicts.

    Args:
        label: of the codec.
        sections: bits of the message.
        measured: the message's counts.
        counts: ``parameters`` and ``nonzero`` of the original network.
        theory: the paper's prediction.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    plain = 32 * counts["parameters"]
    _row(table, "message", f"{number(measured.message_bits)} bits", f"{share(measured.message_bits, plain)} of float32")
    shown, rest = group_sections(sections, MOST_SECTIONS)
    for name, bits in shown + ([rest] if rest else []):
        _row(table, f"  {clean(name, MAX_NAME)}", f"{number(bits)} bits", share(bits, measured.message_bits))
    note = f"{number(counts['nonzero'])} of {number(counts['parameters'])} in the original are not 0"
    _row(table, "numbers in it", number(measured.parameters), note)
    predicted = "" if theory.parameters is None else number(round(theory.parameters))
    if predicted:
        _row(table, "numbers by the paper", predicted, clean(theory.source, 120))
    _row(table, "errors on the training set", percent(measured.rate), f"{number(measured.errors)} examples")
    _deviation(table, "largest deviation of a logit", measured.deviation.entrywise)
    _deviation(table, "deviation of the output, l2", measured.deviation.l2)
    if theory.error is not None:
        _row(table, "predicted error", short(theory.error), clean(theory.error_means, 160))
    lines: list[RenderableType] = [Text(f"Compressed with {clean(label, 120)}.", style="bold")]
    lines.append(Padding(table, (1, 0, 1, 2)))
    for condition in theory.conditions:
        if condition.holds is False:
            text = f"condition not met: {condition.name} ({condition.detail})"
            lines.append(Text(clean(text), style="yellow"))
    return Group(*lines)


def _deviation(table: Table, name: str, spread: Spread) -> None:
    _row(table, name, short(spread.maximum), f"median {short(spread.median)}, 99 % {short(spread.upper)}")


def _row(table: Table, label: str, value: str, note: str = "") -> None:
    table.add_row(Text(label), Text(value), Text(note))
