"""Figure, page and terminal table of a comparison: what they show, and names given by strangers."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bitcert.errors import InputError
from bitcert.folder import COMPARE_FILES
from bitcert.report import comparison_files, comparison_summary, compression_summary, plot_comparison, render_comparison
from bitcert.report.comparison import display as module
from bitcert.report.comparison.words import headline, message_rows, refusals, theory_notes, theory_table
from bitcert.theory.value import Condition, Theory

from ..comparison.makers import make_comparison, make_measured, make_refused, make_row, make_theory, make_usual
from .test_page import HOSTILE, Page, assert_self_contained, show


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return comparison_files(make_usual())


@pytest.fixture(scope="module")
def text(files) -> str:
    return files["report.html"].decode()


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without the picture, for tests of their words."""
    monkeypatch.setattr(module, "_pictures", lambda comparison: [])


# Figure


def test_points_are_the_messages():
    comparison = make_usual()
    figure, (bound, error) = plot_comparison(comparison)
    lines = {line.get_label(): line for line in bound.lines}
    assert list(lines["svd"].get_xdata()) == [1000, 4000], "sorted by length, whatever the order of the rows"
    assert list(lines["svd"].get_ydata()) == pytest.approx([95.0, 100.0])
    assert list(lines["tuned"].get_ydata()) == pytest.approx([41.0])
    errors = {line.get_label(): list(line.get_ydata()) for line in error.lines}
    assert errors["svd"] == pytest.approx([20.0, 1.2])
    looks = {(line.get_color(), line.get_marker()) for label, line in lines.items() if line.get_marker() != "None"}
    assert len(looks) == 4, "one look for each codec with a message"
    assert "sketch" not in lines
    assert figure.legends


def test_axes_are_labelled_and_logarithmic():
    _, (bound, error) = plot_comparison(make_usual())
    assert bound.get_ylabel() == "bound on the error (%)"
    assert error.get_ylabel() == "training errors (%)"
    assert error.get_xlabel() == "message length (bits)"
    assert error.get_xscale() == bound.get_xscale() == "log"
    assert error.get_yscale() == "log"
    assert bound.get_title(loc="left") == "best: 41.00 %, tuned 300, 300 bits"


def test_lines_to_hold_the_messages_against():
    _, (bound, error) = plot_comparison(make_usual())
    heights = {line.get_label(): line.get_ydata()[0] for line in bound.lines}
    assert heights["guessing a class"] == pytest.approx(90.0)
    assert heights["holding out 100: 6.16 %"] == pytest.approx(6.16)
    assert {line.get_label(): line.get_ydata()[0] for line in error.lines}["original network"] == pytest.approx(1.0)
    _, (bound, _) = plot_comparison(make_comparison(make_row("svd", 10, 1, 0.5), held=False))
    assert not [line for line in bound.lines if "holding out" in str(line.get_label())]


def test_no_errors_and_many_codecs_can_be_drawn():
    rows = [make_row(f"codec {k}", 10 + k, 0, 1.0) for k in range(40)]
    _, (_, error) = plot_comparison(make_comparison(*rows))
    assert all(height > 0 for line in error.lines for height in line.get_ydata())
    with pytest.raises(InputError, match="at least one message"):
        plot_comparison(make_comparison(make_refused("svd", "too small")))


# Page


def test_the_page_is_self_contained(files, text):
    assert set(files) | {"comparison.json"} == COMPARE_FILES
    page = Page(text)
    assert_self_contained(page)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http-equiv", "")
    assert all(a["aria-label"] for tag, a in page.tags if tag == "svg")
    assert "var(--ink)" in text
    ElementTree.fromstring(files["comparison.svg"])


def test_the_same_comparison_makes_the_same_bytes(files):
    assert comparison_files(make_usual()) == files


def test_the_tables_hold_the_numbers(text):
    page = Page(text)
    (original,) = [row for row in page.rows if row[0] == "original network"]
    assert original[:6] == ["original network", "–", "480", "1.00 %", "2.00 %", "6.16 % (hold-out)"]
    (tuned,) = [row for row in page.rows if row[0] == "tuned 300" and len(row) > 10]
    assert tuned[1:6] == ["300", "37", "1.50 %", "1.00 %", "41.00 %"]
    assert tuned[6:12] == ["0.5", "1.5", "2", "0.5", "1.5", "2"]
    assert tuned[12:] == ["0.70 %", "50.00 %", "1.25"]
    (theory,) = [row for row in page.rows if row[0] == "tuned 300" and len(row) <= 10]
    assert theory[1:] == ["1,234", "37", "0.125", "0.95", "0.25", "1 of 2", "Arora et al. 2018, Lemma 2"]
    assert ["sketch odd", "expected a matrix with enough edges, got 3; use more"] in page.rows
    assert "One sentence." in page.text
    assert "Condition (svd 4000): k <= N: does not hold (k = 10)" in page.text
    assert "Note: erratum 2" in page.text


def test_it_says_what_is_proved_and_what_is_not(text):
    page = Page(text)
    assert "bounds of the decoded networks, not of the original one" in page.text
    assert "90.00 % errors of guessing a class" in page.text
    assert "A prediction explains, it never proves." in page.text


def test_hostile_names_are_text(undrawn):
    row = make_row("svd", 10, 1, 0.5, label=HOSTILE, theory=make_theory(statement=HOSTILE, notes=(HOSTILE,)))
    bad = replace(make_refused(HOSTILE, HOSTILE), label=HOSTILE)
    comparison = make_comparison(row, bad, conclusions=(HOSTILE,)).named(HOSTILE)
    comparison = replace(comparison, settings={HOSTILE: HOSTILE}, sample={**comparison.sample, "name": HOSTILE})
    page = Page(render_comparison(comparison))
    assert_self_contained(page)
    shown = show(comparison_summary(comparison))
    assert "\x1b" not in shown


def test_a_hostile_name_can_be_drawn():
    row = make_row(HOSTILE, 10, 1, 0.5, label=HOSTILE)
    files = comparison_files(make_comparison(row).named("$x_1$ \u202e"))
    ElementTree.fromstring(files["comparison.svg"])
    assert_self_contained(Page(files["report.html"].decode()))


def test_a_comparison_without_messages_has_a_page():
    files = comparison_files(make_comparison(make_refused("svd", "too small"), held=False))
    assert set(files) == {"report.html"}
    assert "No codec made a message" in files["report.html"].decode()


def test_the_same_refusal_is_told_once():
    rows = (make_refused("svd", "too small"), make_refused("svd", "too small"), make_refused("mbp", "too small"))
    assert refusals(make_comparison(*rows)) == [("svd (2 settings)", "too small"), ("mbp odd", "too small")]


def test_rows_beyond_the_limit_are_counted(undrawn, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    assert "3 more rows are in the file" in Page(render_comparison(make_usual())).text


def test_bounds_are_rounded_up_and_errors_are_not():
    row = message_rows(make_comparison(make_row("svd", 10, 1, 0.4100001)))[1]
    assert (row[3], row[5]) == ("0.10 %", "41.01 %")


def test_unknown_numbers_are_dashes():
    theory = make_theory(parameters=None, error=None, probability=None, conditions=())
    row = make_row("svd", 10, 1, 0.5, theory=theory, measured=make_measured(10, 1, 0.5, parameters=None, holdout=None))
    comparison = make_comparison(row, held=False)
    assert message_rows(comparison)[1][2] == message_rows(comparison)[1][4] == "–"
    assert theory_table(comparison).rows[0][1:5] == ["–"] * 4
    assert theory_table(comparison).rows[0][6] == "–"
    broken = make_theory(source="", problem="no cushions")
    assert theory_notes(make_comparison(make_row("svd", 1, 1, 1.0, theory=broken))) == [
        ("svd", ["No prediction: no cushions"])
    ]


# Terminal


def test_the_summary_for_a_terminal():
    shown = show(comparison_summary(make_usual()))
    assert "5 codecs on nets:mlp: the best bound is 41.00 % (tuned 300)" in shown
    assert re.search(r"tuned 300\s+300\s+37\s+1\.50 %\s+1\.00 %\s+41\.00 %\s+2\s+1\.25", shown)
    assert re.search(r"original network\s+–\s+480\s+1\.00 %\s+2\.00 %\s+6\.16 %\*", shown)
    assert "* by holding out" in shown
    assert "no message, sketch odd: expected a matrix with enough edges" in shown
    assert "One sentence." in shown


def test_a_headline_without_a_useful_bound():
    said = headline(make_comparison(make_row("svd", 10, 1, 0.95)))
    assert said == "1 codec on nets:mlp: no bound below the 90.00 % of guessing a class"


def test_the_summary_of_one_message():
    theory = Theory(
        source="Arora et al. 2018, Lemma 2",
        statement="so",
        parameters=99.6,
        error=0.5,
        error_means="relative error",
        probability=None,
        conditions=(Condition("k <= N", False, "k = 10"), Condition("fine", True, "yes")),
    )
    counts = {"parameters": 1000, "nonzero": 900}
    sections = [("header", 8), *((f"layer{k}", 100 + k) for k in range(20))]
    shown = show(compression_summary("svd rank 3", sections, make_measured(3200, 15, 0.9), counts, theory))
    assert "Compressed with svd rank 3." in shown
    assert re.search(r"message\s+3,200 bits\s+10\.00 % of float32", shown)
    assert "smaller sections" in shown
    assert re.search(r"numbers in it\s+400\s+900 of 1,000 in the original are not 0", shown)
    assert re.search(r"numbers by the paper\s+100\s+Arora", shown)
    assert "condition not met: k <= N (k = 10)" in shown
    assert "fine" not in shown
    assert "0.9" not in shown.replace("900", ""), "no bound: that is for a certificate"
    assert not math.isnan(theory.parameters)
