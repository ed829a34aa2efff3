"""docs/studies.md names every study, and the results that are kept there can be read and belong to a study."""

from pathlib import Path

import pytest

from bitcert.report import render_studies
from bitcert.studies import STUDIES, Size, StudyResult

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


def test_kept_results_are_of_studies():
    results = [StudyResult.from_json(path.read_text()) for path in KEPT]
    assert [result.study for result in results] == [path.stem for path in KEPT]
    assert {result.study for result in results} <= set(STUDIES)
    assert results[-1].study in render_studies(results[-1:])
