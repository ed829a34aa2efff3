from dataclasses import replace

import pytest

from bitcert.report import terminal_summary
from bitcert.report.text import self_contained

from .test_page import show


def lines_of(certificate, width=110):
    return [line.strip() for line in show(terminal_summary(certificate), width).splitlines()]


def row(lines, label):
    (found,) = [line for line in lines if line.startswith(label)]
    return found.removeprefix(label).split()


def test_sentence_first_then_the_table(make_certificate):
    certificate = make_certificate()
    lines = lines_of(certificate)
    assert lines[0] == certificate.sentence
    assert row(lines, "errors on the training set")[:2] == ["13.20", "%"]
    assert "7,920 of 60,000, 2 near-ties included" in "\n".join(lines)
    assert row(lines, "message") == ["3,224", "bits"]
    assert row(lines, "head ")[:2] == ["2,903", "bits"]
    for label in ("exact binomial tail", "KL–Chernoff", "Hoeffding"):
        assert row(lines, f"bound, {label}")[1] == "%"
    assert not any("holding out would have said" in line for line in lines)


def test_holdout_line(make_certificate, holdout):
    found = row(lines_of(make_certificate(holdout=holdout)), "holding out would have said")
    assert found[:2] == ["15.10", "%"]
    assert " ".join(found[2:]) == "1,450 errors on 10,000 held-out examples of leaves of May"


def test_many_sections_collapse(make_certificate):
    lines = lines_of(make_certificate(sections=tuple((f"layer{i}", 10 + i) for i in range(200))))
    assert len(lines) < 30
    assert row(lines, "195 smaller sections")[0] == f"{sum(10 + i for i in range(195)):,}"


def test_vacuous_is_a_word(make_certificate):
    lines = lines_of(make_certificate(errors=900, samples=1797, sections=(("w", 10_000_000),)))
    assert "vacuous" in lines[0]
    assert row(lines, "bound, exact binomial tail") == ["100.00", "%", "vacuous"]


@pytest.mark.parametrize(("charged", "said"), [(0.9999, False), (0.99991, True), (1.0, True)])
def test_a_self_contained_bound_that_says_nothing_is_called_vacuous(make_certificate, charged, said):
    certificate = replace(make_certificate(), self_contained=charged)
    assert ("vacuous:" in row(lines_of(certificate), "bound, self-contained")) is said
    assert ("(vacuous)" in self_contained(certificate)) is said


@pytest.mark.parametrize("width", [40, 60])
def test_narrow_terminals_lose_no_number(make_certificate, width):
    text = " ".join(lines_of(make_certificate(), width))
    for value in ("13.20 %", "3,224 bits", "2,903 bits"):
        assert value in text


def test_markup_and_escapes_of_strangers_are_text(make_certificate, holdout):
    hostile = "[red]x[/nonsense]\x1b[2J"
    certificate = make_certificate(
        sections=((hostile, 8),), holdout={**holdout, "name": hostile}, bounds={"binomial": 0.5, hostile: 0.6}
    )
    text = "\n".join(lines_of(certificate))
    assert "\x1b" not in text
    assert text.count("[red]x[/nonsense]") == 3
