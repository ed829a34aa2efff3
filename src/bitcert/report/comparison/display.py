"""A comparison as a self-contained HTML page, as an SVG file and on a terminal; a single compression on a terminal.

The page shows what the comparison says, and which sentences are proved and which are measured; it does NOT check it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.text import Text

from bitcert.comparison.records import Comparison, Measured, Spread
from bitcert.report.comparison import words
from bitcert.report.comparison.figure import plot_comparison
from bitcert.report.comparison.words import compared_on, headline, message_rows, refusals, short
from bitcert.report.model import (
    MAX_NAME,
    Fact,
    Picture,
    Table,
    detail_rows,
    facts_grid,
    message_facts,
    page_files,
    render,
    rows_grid,
)
from bitcert.report.text import Sections, clean, number, percent, share
from bitcert.theory.value import Theory

TITLE = "Bound and training error against message length"
CAPTION = (
    "Each mark is one message, joined along the strengths of its codec. Above, the certified bound on the error of the "
    "decoded network; below, its training errors, on a logarithmic scale where no error stands as half an error."
)
MOST_ROWS = 400
MOST_LINES = 100
TERMINAL_COLUMNS = dict(
    zip(("codec", "bits", "numbers", "training", "held out", "bound", "max dev.", "s"), (*range(6), 8, 14), strict=True)
)
"""Title on the terminal, and which cell of a row it shows."""
MOST_TERMINAL_ROWS = 120
MOST_SECTIONS = 12


def render_comparison(comparison: Comparison) -> str:
    """The comparison as the text of one HTML file, the same for the same comparison."""
    return _page(comparison, _pictures(comparison))


def comparison_files(comparison: Comparison) -> dict[str, bytes]:
    """``report.html`` and, where there is a message, ``comparison.svg``, by name."""
    pictures = _pictures(comparison)
    return page_files(_page(comparison, pictures), pictures)


def _pictures(comparison: Comparison) -> list[Picture]:
    picture = Picture.of("comparison", TITLE, CAPTION, lambda: plot_comparison(comparison))
    return [picture] if comparison.messages else []


def _page(comparison: Comparison, pictures: list[Picture]) -> str:
    rows = message_rows(comparison)
    titles = [title for title, _ in words.MESSAGE_COLUMNS]
    theory = words.theory_table(comparison)
    groups = {
        "network": comparison.network,
        "sample": comparison.sample,
        "held-out data": comparison.holdout or {},
        "helper": comparison.helper,
        "setting": comparison.settings,
        "version": comparison.versions,
    }
    return render(
        "comparison.html.j2",
        lead=f"bitcert compare · {comparison.sample['name']}",
        comparison=comparison,
        headline=headline(comparison),
        compared_on=compared_on(comparison),
        pictures=pictures,
        messages=Table(titles, rows[:MOST_ROWS], total=0),
        left_out=max(len(rows) - MOST_ROWS, 0),
        theory=replace(theory, rows=theory.rows[:MOST_ROWS]),
        notes=[(name, lines[:MOST_LINES]) for name, lines in words.theory_notes(comparison)[:MOST_LINES]],
        refusals=refusals(comparison)[:MOST_LINES],
        details_rows=detail_rows(groups),
    )


def comparison_summary(comparison: Comparison) -> Group:
    """What it says, a row for each message, and why the others have none.

    >>> from rich.console import Console
    >>> Console().print(comparison_summary(comparison))  # doctest: +SKIP
    """
    rows = message_rows(comparison)
    shown = [[row[k].replace(" (hold-out)", "*") for k in TERMINAL_COLUMNS.values()] for row in rows]
    closing = [[Text(f"and {number(len(rows) - MOST_TERMINAL_ROWS)} more")]] if len(rows) > MOST_TERMINAL_ROWS else []
    if comparison.original.holdout is not None:
        closing.append([Text("* by holding out", style="dim")])
    cells = ([clean(cell, MAX_NAME) for cell in row] for row in shown[:MOST_TERMINAL_ROWS])
    return Group(
        Text(headline(comparison), style="bold"),
        Text(f"On {compared_on(comparison)}."),
        rows_grid(list(TERMINAL_COLUMNS), cells, "codec", "fold", closing),
        *(Text(clean(sentence)) for sentence in comparison.conclusions),
        *(Text(f"no message, {label}: {sentence}", style="yellow") for label, sentence in refusals(comparison)),
    )


def compression_summary(
    label: str, sections: Sections, measured: Measured, counts: Mapping[str, int], theory: Theory
) -> Group:
    """One message: bits by section, numbers, errors, deviations, and what the paper predicts.

    Args:
        label: of the codec.
        sections: bits of the message.
        measured: the message's counts.
        counts: ``parameters`` and ``nonzero`` of the original network.
        theory: the paper's prediction.
    """
    lines: list[RenderableType] = [Text(f"Compressed with {clean(label, 120)}.", style="bold")]
    lines.append(facts_grid(_facts(sections, measured, counts, theory), below=1))
    for condition in theory.conditions:
        if condition.holds is False:
            lines.append(Text(clean(f"condition not met: {condition.name} ({condition.detail})"), style="yellow"))
    return Group(*lines)


def _facts(sections: Sections, measured: Measured, counts: Mapping[str, int], theory: Theory) -> Iterator[Fact]:
    bits, parameters = measured.message_bits, counts["parameters"]
    yield from message_facts(bits, sections, MOST_SECTIONS, f"{share(bits, 32 * parameters)} of float32")
    note = f"{number(counts['nonzero'])} of {number(parameters)} in the original are not 0"
    yield Fact("numbers in it", number(measured.parameters), note)
    if theory.parameters is not None:
        yield Fact("numbers by the paper", number(round(theory.parameters)), clean(theory.source, 120))
    yield Fact("errors on the training set", percent(measured.rate), f"{number(measured.errors)} examples")
    yield _deviation("largest deviation of a logit", measured.deviation.entrywise)
    yield _deviation("deviation of the output, l2", measured.deviation.l2)
    if theory.error is not None:
        yield Fact("predicted error", short(theory.error), clean(theory.error_means, 160))


def _deviation(name: str, spread: Spread) -> Fact:
    return Fact(name, short(spread.maximum), f"median {short(spread.median)}, 99 % {short(spread.upper)}")
