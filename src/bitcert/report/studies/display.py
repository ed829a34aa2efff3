"""Results of studies as tables (Markdown, CSV, terminal), SVG figures and HTML pages. Displays, never computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from rich.console import Group
from rich.text import Text

from bitcert.report.model import Picture, Table, detail_rows, page_files, render, rows_grid
from bitcert.report.studies.figure import plot_study
from bitcert.report.text import UNKNOWN, clean, number, percent
from bitcert.studies.result import Row, StudyResult, Trained
from bitcert.theory.survey_table import as_csv

TITLES = ("quantity", "paper", "ours", "ratio or difference", "comment")
SIZES = {"quick": "--quick", "default": "the default size", "full": "--full"}


def said(value: float | None, unit: str = "") -> str:
    """A number of a table with its unit, or a dash.

    >>> said(22735.09), said(0.963, "%"), said(None), said(1e18)
    ('22,735', '0.963 %', '–', '1e+18')
    """
    if value is None:
        return UNKNOWN
    whole = 1000 <= abs(value) < 1e12
    text = f"{value:,.0f}" if whole else f"{value:.4g}"
    return f"{text} {unit}".strip()


def cells(row: Row) -> list[str]:
    """A row under :data:`TITLES`."""
    numbers = (said(row.paper, row.unit), said(row.ours, row.unit))
    return [clean(row.quantity), *numbers, row.compared or UNKNOWN, clean(row.comment)]


def table_markdown(result: StudyResult) -> str:
    """The table and what was found, as Markdown."""
    lines = [f"# {clean(result.study)}: {clean(result.title)}", "", f"{clean(result.printed)} {run_as(result)}", ""]
    rows = [TITLES, ("---",) + ("---:",) * 3 + ("---",), *map(cells, result.outcome.rows)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += ["", *(f"- {clean(sentence)}" for sentence in sentences(result))]
    return "\n".join(lines) + "\n"


def table_csv(result: StudyResult) -> str:
    """The table with plain numbers, as CSV."""
    rows = [(_cell(row.quantity), row.unit, row.paper, row.ours, _cell(row.comment)) for row in result.outcome.rows]
    return as_csv(("quantity", "unit", "paper", "ours", "comment"), rows)


def _cell(text: str) -> str:
    """Never a formula, wherever the file is opened."""
    safe = clean(text)
    return f"'{safe}" if safe[:1] in ("=", "+", "-", "@") else safe


def run_as(result: StudyResult) -> str:
    """How it was run, one sentence."""
    cores = f"{result.cores} thread{'s' if result.cores != 1 else ''}"
    return f"Run as {SIZES.get(result.size, clean(result.size))}, seed {result.seed}, {result.seconds:,.0f} s, {cores}."


def sentences(result: StudyResult) -> list[str]:
    """What was found, what was scaled, what was trained."""
    outcome = result.outcome
    told = list(outcome.findings)
    if outcome.scaled:
        told.append(f"Scaled: {outcome.scaled}")
    return told + [_trained(each) for each in outcome.trained]


def _trained(each: Trained) -> str:
    test = "" if each.test_error is None else f", {percent(each.test_error)} on the test set"
    return (
        f"Trained: {each.name}, {number(each.parameters)} parameters, {each.epochs} epochs in {each.seconds:,.0f} s on "
        f"{each.cores} thread{'s' if each.cores != 1 else ''}; wrong: {percent(each.train_error)} of the training "
        f"examples{test} ({each.settings})."
    )


def _pictures(result: StudyResult, prefix: str = "") -> list[Picture]:
    names = ["figure", *(f"figure-{k}" for k in range(2, 10))]
    figures = zip(names, result.outcome.figures, strict=False)
    return [
        Picture.of(name, figure.title, figure.caption, partial(plot_study, figure), prefix) for name, figure in figures
    ]


def _section(result: StudyResult, prefix: str = "") -> Mapping[str, object]:
    groups = {
        "study": {"size": result.size, "seed": result.seed, "seconds": result.seconds, "threads": result.cores},
        "setting": result.outcome.settings,
        "version": result.versions,
    }
    return {
        "name": result.study,
        "title": result.title,
        "printed": result.printed,
        "run_as": run_as(result),
        "pictures": _pictures(result, prefix),
        "table": Table(TITLES, [cells(row) for row in result.outcome.rows], texts=1),
        "sentences": sentences(result),
        "details_rows": detail_rows(groups),
    }


def study_files(result: StudyResult) -> dict[str, bytes]:
    """``result.json``, the table as Markdown and CSV, the figures, and a page of its own, by name."""
    page = render_studies([result])
    return {
        "result.json": result.to_json().encode(),
        "table.md": table_markdown(result).encode(),
        "table.csv": table_csv(result).encode(),
        **page_files(page, _pictures(result)),
    }


def render_studies(results: Sequence[StudyResult]) -> str:
    """One self-contained page of these results."""
    prefixes = [f"s{k}-" if len(results) > 1 else "" for k in range(len(results))]
    sections = [_section(result, prefix) for result, prefix in zip(results, prefixes, strict=True)]
    one = clean(results[0].title) if len(results) == 1 else "The papers' tables and figures, and ours"
    names = ", ".join(dict.fromkeys(result.study.partition(".")[0] for result in results))
    return render("studies.html.j2", lead=f"bitcert study · {clean(names)}", headline=one, sections=sections)


def study_summary(result: StudyResult) -> Group:
    """The table and what was found, for a terminal."""
    rows = [[clean(cell, 40) for cell in cells(row)[:4]] for row in result.outcome.rows]
    return Group(
        Text(clean(f"{result.study}: {result.title}"), style="bold"),
        Text(run_as(result)),
        rows_grid(list(TITLES[:4]), rows, "quantity", "fold"),
        *(Text(clean(sentence)) for sentence in sentences(result)),
    )
