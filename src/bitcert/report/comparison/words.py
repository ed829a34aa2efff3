"""The rows of a comparison as text: one form for the terminal, the page and the file. Displays, never computes."""

from __future__ import annotations

from collections.abc import Sequence

from bitcert.comparison.records import (
    Comparison,
    DeviationRow,
    HoldoutCount,
    TheoryRow,
)
from bitcert.report.model import Columns, Table
from bitcert.report.text import UNKNOWN, clean, number, percent, percent_up, share
from bitcert.theory.value import Condition

Cells = list[str]


def headline(comparison: Comparison) -> str:
    """The page's title: the best message."""
    name = clean(comparison.network.get("name", "network"), 80)
    best = comparison.best
    if best is None or best.measured is None:
        return f"No codec made a message for {name}"
    count = len({row.codec for row in comparison.rows})
    codecs = "1 codec" if count == 1 else f"{number(count)} codecs"
    if best.measured.bound >= comparison.guessing:
        return f"{codecs} on {name}: no bound below the {percent(comparison.guessing)} of guessing a class"
    return f"{codecs} on {name}: the best bound is {percent_up(best.measured.bound)} ({clean(best.label, 60)})"


def compared_on(comparison: Comparison) -> str:
    """The data."""
    sample = comparison.sample
    return f"{number(sample.get('num_samples'))} training examples of {clean(sample.get('name', 'a sample'), 80)}"


def short(value: float | None) -> str:
    """Three digits, or a dash.

    >>> short(0.12345), short(None), short(123456.0)
    ('0.123', '–', '1.23e+05')
    """
    return UNKNOWN if value is None else f"{value:.3g}"


def message_rows(comparison: Comparison) -> list[Cells]:
    """Cells of :data:`MESSAGE_COLUMNS`: the original network first, then every message; refused rows are not here."""
    original = comparison.original
    held = original.holdout
    bound = UNKNOWN if held is None or held.bound is None else f"{percent_up(held.bound)} (hold-out)"
    first = [
        *("original network", UNKNOWN, number(original.nonzero), percent(original.rate), _holdout(held), bound),
        *([UNKNOWN] * 8),
        short(original.seconds),
    ]
    return [first, *([cell(each) for _, cell in MESSAGE_COLUMNS] for each in comparison.messages)]


MESSAGE_COLUMNS: Columns = (
    ("codec", lambda each: clean(each[0].label)),
    ("bits", lambda each: number(each[1].message_bits)),
    ("numbers", lambda each: number(each[1].parameters)),
    ("training errors", lambda each: percent(each[1].rate)),
    ("held-out errors", lambda each: _holdout(each[1].holdout)),
    ("bound", lambda each: percent_up(each[1].bound)),
    ("entrywise, median", lambda each: short(each[1].deviation.entrywise.median)),
    ("99 %", lambda each: short(each[1].deviation.entrywise.upper)),
    ("max", lambda each: short(each[1].deviation.entrywise.maximum)),
    ("l2, median", lambda each: short(each[1].deviation.l2.median)),
    ("99 %", lambda each: short(each[1].deviation.l2.upper)),
    ("max", lambda each: short(each[1].deviation.l2.maximum)),
    ("other label", lambda each: share(each[1].deviation.disagreements, each[1].samples)),
    ("margin loss", lambda each: _margin_loss(each[1].deviation)),
    ("seconds", lambda each: short(each[0].seconds + each[1].count_seconds)),
)
"""Of a message: its row, and what was measured of it."""


def _margin_loss(deviation: DeviationRow) -> str:
    losses = [loss for loss in (deviation.margin_loss, deviation.margin_loss_l2) if loss is not None]
    return percent(min(losses)) if losses else UNKNOWN


def _holdout(held: HoldoutCount | None) -> str:
    return UNKNOWN if held is None else percent(held.rate)


def theory_table(comparison: Comparison) -> Table:
    """Every prediction beside what was measured, of the refused rows too."""
    theories = [(row, row.theory) for row in comparison.rows if row.theory is not None]
    told = [row for row, theory in theories if theory.source and not theory.problem]
    return Table.of(THEORY_COLUMNS, told, texts=1)


THEORY_COLUMNS: Columns = (
    ("codec", lambda row: clean(row.label)),
    ("numbers, paper", lambda row: _count(row.theory.parameters)),
    ("numbers, here", lambda row: UNKNOWN if row.measured is None else number(row.measured.parameters)),
    ("predicted error", lambda row: short(row.theory.error)),
    ("with probability", lambda row: short(row.theory.probability)),
    (
        "relative deviation, max",
        lambda row: UNKNOWN if row.measured is None else short(row.measured.deviation.relative.maximum),
    ),
    ("conditions met", lambda row: _conditions(row.theory.conditions)),
    ("source", lambda row: clean(row.theory.source, 200)),
)


def _count(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return number(round(value)) if abs(value) < 1e15 else short(value)


def _conditions(conditions: Sequence[Condition]) -> str:
    if not conditions:
        return UNKNOWN
    met = sum(condition.holds is True for condition in conditions)
    unknown = sum(condition.holds is None for condition in conditions)
    return f"{met} of {len(conditions)}" + (f", {unknown} unknown" if unknown else "")


def theory_notes(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """For each codec what its paper says: statement, meaning of the error, conditions and notes, of its first row."""
    found: dict[str, list[str]] = {}
    for row in comparison.rows:
        if row.theory is not None and row.codec not in found:
            found[row.codec] = _theory_lines(row.label, row.theory)
    return list(found.items())


def _theory_lines(label: str, theory: TheoryRow) -> list[str]:
    if theory.problem:
        return [f"No prediction: {theory.problem}"]
    lines = [f"{theory.source}: {theory.statement}."]
    if theory.error_means:
        lines.append(f"Predicted error: {theory.error_means}.")
    words = {True: "holds", False: "does not hold", None: "cannot be told"}
    lines += [f"Condition ({label}): {c.name}: {words[c.holds]} ({c.detail})" for c in theory.conditions]
    return [*lines, *(f"Note: {note}" for note in theory.notes)]


def refusals(comparison: Comparison) -> list[tuple[str, str]]:
    """Label and sentence of every row without a message; settings of one codec with the same sentence are one."""
    labels: dict[tuple[str, str], list[str]] = {}
    for row in comparison.rows:
        if row.measured is None:
            labels.setdefault((row.codec, row.refusal), []).append(row.label)
    return [
        (clean(names[0] if len(names) == 1 else f"{codec} ({len(names)} settings)"), clean(refusal))
        for (codec, refusal), names in labels.items()
    ]
