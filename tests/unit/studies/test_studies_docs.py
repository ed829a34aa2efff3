"""docs/studies.md names every study, and the results that are kept there can be read and belong to a study."""

from pathlib import Path

import pytest

from bitcert.report import render_studies
from bitcert.studies import STUDIES, Size, StudyResult
from bitcert.studies.guha_readings import COLUMNS, PAPER

DOCS = Path(__file__).parents[3] / "docs"
KEPT = sorted((DOCS / "results-studies").glob("*.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_says_what_was_found(name):
    assert f"`{name}" in (DOCS / "studies.md").read_text()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_size_and_time_of_what_is_kept_are_on_the_page_and_no_more_than_the_listing_promises(path):
    result = StudyResult.from_json(path.read_text())
    (row,) = [line for line in (DOCS / "studies.md").read_text().splitlines() if line.startswith(f"| `{path.stem}`")]
    assert f"| {result.size}, {result.seconds:,.0f} s |" in row
    assert result.seconds <= STUDIES[result.study].cost(Size(result.size)).seconds


@pytest.mark.parametrize("path", sorted((DOCS / "results-studies" / "full-width").glob("*.json")), ids=lambda p: p.stem)
def test_the_network_of_full_width_is_on_the_page(path):
    (trained,) = StudyResult.from_json(path.read_text()).outcome.trained
    page = (DOCS / "studies.md").read_text()
    assert f"({trained.parameters:,} parameters)" in page
    assert f"took {trained.seconds:,.0f} s on a busy machine (`--stop-after {trained.epochs}`)" in page
    errors = (
        f"{100 * trained.train_error:.1f} % of the training images and {100 * trained.test_error:.1f} % of the test"
    )
    assert errors in page.replace("\n", " ")


def test_the_page_of_guhas_table_quotes_the_stored_study():
    result = StudyResult.from_json((DOCS / "results-studies" / "guha2023.table1.json").read_text())
    page = (DOCS / "guha-table.md").read_text().replace("−", "-")
    rows = {row.quantity: row for row in result.outcome.rows}
    gaps = [rows[f"width 784: {column}, ln of the gap"] for column in COLUMNS]
    for column, row in zip(COLUMNS, gaps, strict=True):
        assert f"| {column} | {row.paper:.2f} | {row.ours:.2f} |" in page
    for width in PAPER:
        fits = [rows[f"width {width}: {column}, ln"] for column in COLUMNS[:3]]
        cells = [*fits, rows[f"width {width}: {COLUMNS[3]}, ln of the gap"]]
        assert " | ".join([f"| {width}", *(f"{row.paper:.2f} | {row.ours:.2f}" for row in cells)]) in page


def test_kept_results_are_of_studies():
    results = [StudyResult.from_json(path.read_text()) for path in KEPT]
    assert [result.study for result in results] == [path.stem for path in KEPT]
    assert {result.study for result in results} <= set(STUDIES)
    assert results[-1].study in render_studies(results[-1:])
