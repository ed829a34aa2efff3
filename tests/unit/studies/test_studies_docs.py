"""docs/studies.md names every study, and the results that are kept there can be read and belong to a study."""

from pathlib import Path

import pytest

from bitcert.report import render_studies
from bitcert.studies import STUDIES, StudyResult

DOCS = Path(__file__).parents[3] / "docs"
KEPT = sorted((DOCS / "results-studies").glob("*.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_says_what_was_found(name):
    assert f"`{name}" in (DOCS / "studies.md").read_text()


def test_kept_results_are_of_studies():
    results = [StudyResult.from_json(path.read_text()) for path in KEPT]
    assert [result.study for result in results] == [path.stem for path in KEPT]
    assert {result.study for result in results} <= set(STUDIES)
    assert results[-1].study in render_studies(results[-1:])
