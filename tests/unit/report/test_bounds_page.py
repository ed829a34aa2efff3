"""Page, section and terminal table of bounds: what they show, names given by strangers, every row kept."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bitcert.folder import BOUNDS_FILES, SERIES_FILES
from bitcert.report import render_report
from bitcert.report.bounds import display as module
from bitcert.report.bounds.display import bounds_files, bounds_summary, render_bounds, series_files
from bitcert.theory.registry import all_bounds
from bitcert.theory.table import BoundTable
from bitcert.theory.value import Condition, LayerValue

from .bounds_fakes import make_absent, make_row, make_table, make_usual
from .test_page import HOSTILE, Page, assert_self_contained, show


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return bounds_files(make_usual())


@pytest.fixture(scope="module")
def text(files) -> str:
    return files["report.html"].decode()


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without pictures, for tests of their words."""
    monkeypatch.setattr(module, "_drawings", lambda table, certified=None: [])


def hostile_table() -> BoundTable:
    row = replace(
        make_row("a", 3.0, conditions=(Condition(HOSTILE, False, HOSTILE),), notes=(HOSTILE,)),
        name=HOSTILE,
        title=HOSTILE,
        source=HOSTILE,
        sentence=HOSTILE,
        dropped=HOSTILE,
        why=HOSTILE,
        ingredients={HOSTILE: HOSTILE},
        layers=(LayerValue(HOSTILE, float("inf"), 3), LayerValue("0.weight", 2.0, 3)),
    )
    table = make_table(row, make_absent("b", HOSTILE)).named(HOSTILE)
    sample = {**table.sample, "name": HOSTILE}
    holdout = {"name": HOSTILE, "errors": 1, "samples": 9}
    return replace(table, sample=sample, holdout=holdout, gamma_rule=HOSTILE, settings={HOSTILE: [HOSTILE]})


# Page


def test_the_page_is_self_contained(files, text):
    assert set(files) | {"bounds.json"} == BOUNDS_FILES
    page = Page(text)
    assert_self_contained(page)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http-equiv", "")
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 2
    assert all(attributes["aria-label"] for attributes in pictures)
    assert "var(--ink)" in text
    bars, _ = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert not re.findall(r"(?:fill|stroke): #", bars), "colours follow the page's scheme"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name in files:
        if name.endswith(".svg"):
            ElementTree.fromstring(files[name])


def test_the_same_table_makes_the_same_bytes(files):
    again = BoundTable.from_json(make_usual().to_json())
    assert bounds_files(again) == files


def test_every_row_is_there_with_its_sentence(text):
    page, table = Page(text), make_usual()
    for row in table.rows:
        assert [cells for cells in page.rows if cells[0] == row.name], row.name
    (found,) = [cells for cells in page.rows if cells[0] == "arora2018-thm4.1"]
    assert found == ["arora2018-thm4.1", "177,828 samples", "5.2", "4.22", "conditions fail, vacuous"]
    (proved,) = [cells for cells in page.rows if cells[0] == "occam-binomial"]
    assert proved[1:] == ["41.00 %", "-0.4", "41.00 %", "conditions hold"]
    assert page.text.count("So many examples would do.") == 12


def test_a_row_can_be_recomputed_from_the_page(text):
    said = Page(text).text
    for line in (
        "mu = 0.5, 0.25, –",
        "m = 10,000",
        "Dropped: logarithms of m, d and h",
        "As the paper prints it: 10,000 (an erratum changes it)",
        "The claim holds with probability at least 0.75",
        "Condition: rho >= 3d: fails (rho = 0.8, 3d = 9)",
        "Note: mu is the smallest over the sample",
    ):
        assert line in said
    rows = [[cell.strip() for cell in cells] for cells in Page(text).rows]
    assert ["0.weight", "100,000", "78,400"] in rows


def test_it_says_what_proves_and_what_is_missing(text):
    page = Page(text)
    assert "Only a guarantee proves anything." in page.text
    needs = "needs --init: the initial weights of the network"
    assert [needs, "bartlett2017-distance, neyshabur2018-distance-two"] in page.rows
    assert "Not drawn: quantities that only compare networks (1), rows without a value, or with 0 (4)." in page.text
    assert "γ = 1.25 (5 % quantile of the training margins)" in page.text


def test_hostile_names_are_text(undrawn):
    page = Page(render_bounds(hostile_table()))
    assert_self_contained(page)
    assert "{{ 7*7 }}" in page.text
    assert "\x1b" not in show(bounds_summary(hostile_table().named("a\x1b[31m")))


def test_hostile_names_can_be_drawn():
    files = bounds_files(hostile_table())
    assert_self_contained(Page(files["report.html"].decode()))
    for name, content in files.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(content)


def test_a_table_without_values_has_a_page():
    files = bounds_files(make_table(make_absent("a", "needs --init: the initial weights of the network")))
    assert set(files) == {"report.html"}
    assert "0 of 1 bounds computed for nets:mlp: no guarantee is below 100 %" in files["report.html"].decode()


def test_rows_beyond_the_limit_are_counted(undrawn, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    assert "12 more rows are in the file of the table" in Page(render_bounds(make_usual())).text


def test_bounds_beside_a_certificate(make_certificate, monkeypatch):
    certificate = make_certificate()
    drawn = []
    monkeypatch.setattr(module, "_drawings", lambda table, certified=None: drawn.append(certified) or [])
    without = render_report(certificate)
    page = Page(render_report(certificate, bounds=make_usual()))
    assert "What other bounds say" in page.text
    assert "What other bounds say" not in without
    assert drawn == [certificate.bound], "the certificate stands on the same axis"


def test_the_certificate_is_a_bar_of_the_section(make_certificate):
    text = render_report(make_certificate(), bounds=make_usual())
    page = Page(text)
    assert_self_contained(page)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_docs_name_every_row():
    docs = (Path(__file__).resolve().parents[3] / "docs" / "bounds.md").read_text()
    named = re.findall(r"^\| `([^`]+)` \| (\w+)", docs[docs.index("## Every row") :], re.MULTILINE)
    assert sorted(named) == sorted((bound.name, str(bound.unit)) for bound in all_bounds())


# Series


def test_files_of_a_series():
    tables = [make_usual(), make_usual()]
    files = series_files(tables, "epoch", [1.0, 5.0])
    assert set(files) == SERIES_FILES
    page = Page(files["report.html"].decode())
    assert_self_contained(page)
    assert ["epoch", "1", "5"] in page.rows
    assert ["real gap", "1.50 %", "1.50 %"] in page.rows
    assert ["occam-binomial", "0.41", "0.41"] in page.rows
    ElementTree.fromstring(files["series.svg"])


def test_a_hostile_series():
    files = series_files([hostile_table(), hostile_table()], HOSTILE, [1.0, 5.0])
    assert_self_contained(Page(files["report.html"].decode()))
    ElementTree.fromstring(files["series.svg"])


# Terminal


def test_the_summary_for_a_terminal():
    shown = show(bounds_summary(make_usual()))
    assert "at most 3.32 % errors are proved (holdout), the real gap is 1.50 %." in shown
    assert re.search(r"  arora2018-thm4\.1\s+177,828\s+5\.2\s+4\.22\s+fail, vacuous", shown)
    assert re.search(r"\* occam-binomial\s+41\.00 %\s+-0\.4\s+41\.00 %\s+hold\s", shown)
    assert re.search(r"  arora2018-thm2\.1\s+20\.00 %", shown), "a condition fails: no guarantee"
    assert re.search(r"bartlett2017-distance\s+–\s+–\s+–\s+needs --init", shown)
    assert re.search(r"jiang2020-log-prod-of-fro\s+31\.6\s+1\.5\s+hold", shown)
    assert "bartlett2017-distance, neyshabur2018-distance-two: needs --init: the initial weights" in shown
    assert "Arora, Ge, Neyshabur & Zhang 2018" in shown
    for row in make_usual().rows:
        assert row.name in shown
    assert "* guarantee: proved, with every constant." in " ".join(shown.split())


def test_a_narrow_terminal_keeps_the_numbers():
    shown = show(bounds_summary(make_usual()), width=80)
    assert all(len(line) <= 80 for line in shown.splitlines())
    for number in ("177,828", "1.8e+18", "1.0e+1200", "3.32 %"):
        assert number in shown


def test_markup_in_names_is_not_read():
    table = make_table(make_row("[bold]x[/bold]", 3.0)).named("[red]name[/red]")
    shown = show(bounds_summary(table))
    assert "[bold]x[/bold]" in shown
    assert "[red]name[/red]" in shown
