"""Sentences and cells of a table of bounds: rounding, statuses in words, what may be concluded."""

import math
from dataclasses import replace

import pytest

from bitcert.report.bounds import words
from bitcert.theory.value import Kind, LayerValue, Unit

from .bounds_fakes import FAILS, HOLDS, SAMPLES, make_absent, make_row, make_table, make_usual


@pytest.fixture(scope="module")
def table():
    return make_usual()


@pytest.mark.parametrize(
    ("log10", "shown"),
    [
        (0.0, "1"),
        (3.0, "1,000"),
        (5.25, "177,828"),
        (math.log10(0.25), "0.25"),
        (18.25, "1.8e+18"),
        (18.999, "1.0e+19"),
        (-5.0, "1.0e-05"),
        (1200.0, "1.0e+1200"),
        (1e300, "beyond all bounds"),
        (-math.inf, "0"),
        (None, "–"),
    ],
)
def test_numbers_of_any_size(log10, shown):
    assert words.power(log10) == shown


def test_a_guarantee_is_rounded_up_and_a_measure_is_not():
    proved = make_row("occam-binomial", math.log10(0.24101), Unit.ERROR, Kind.GUARANTEE)
    measured = make_row("jiang2020-gap", math.log10(0.24101), Unit.GAP)
    assert words.value_text(proved) == "24.11 %"
    assert words.value_text(measured) == "24.10 %"
    assert words.value_text(make_row("g", -7.0, Unit.GAP)) == "1.0e-07"
    assert words.value_text(make_row("g", -7.0, Unit.ERROR, Kind.GUARANTEE)) == "0.01 %", "still a bound"
    assert words.value_text(make_row("g", 30.0, Unit.ERROR, Kind.GUARANTEE)) == "1.0e+30"


def test_a_capacity_is_also_a_gap():
    row = make_row("arora2018-thm4.1", 6.0, samples=SAMPLES)
    assert words.value_text(row) == "1.0e+06"
    assert words.order_text(row) == "6.0"
    assert words.gap_text(row) == "10"
    assert words.gap_text(make_row("a", 3.0)) == "31.62 %", "sqrt(1000 / 10000)"
    assert words.gap_text(make_row("a", 1200.0)) == "1.0e+598"
    assert words.gap_text(make_row("jiang2020-x", 3.0, Unit.PLAIN)) == "–"


def test_a_row_without_a_value_has_dashes():
    row = make_absent("zhang2020-thm6.1", "does not apply: a product of two paths")
    assert (words.value_text(row), words.order_text(row), words.gap_text(row)) == ("–", "–", "–")
    zero = make_row("jiang2020-zero", -math.inf, Unit.GAP)
    assert (words.value_text(zero), words.order_text(zero)) == ("0.00 %", "-inf")
    assert words.value_text(make_row("p", -math.inf, Unit.PLAIN)) == "0"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("holdout", "no conditions"),
        ("occam-binomial", "conditions hold"),
        ("occam-hoeffding", "conditions hold, vacuous"),
        ("arora2018-thm4.1", "conditions fail, vacuous"),
        ("arora2018-thm4.1-zeta", "conditions not all known"),
        ("zhang2020-thm6.1", "does not apply"),
        ("bartlett2017-distance", "needs --init"),
    ],
)
def test_statuses_in_words(table, name, status):
    assert words.status_text(table.row(name)) == status


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("occam-binomial", "Proved. Every condition holds on this network and sample."),
        ("occam-hoeffding", "Proved, but vacuous: 100 % or more holds of every network. Every condition holds"),
        ("arora2018-thm2.1", "Fails: rho >= 3d (rho = 0.8, 3d = 9)."),
        ("bartlett2017-spectral", "Vacuous: as a bound on the gap 1.3e+07, where 1 already says nothing."),
        ("jiang2020-log-prod-of-fro", "A quantity to compare networks by; no number of errors follows."),
        ("zhang2020-thm6.1", "Not computed: does not apply: a product of two paths (node mul)."),
        ("bartlett2017-distance", "Not computed: needs --init: the initial weights of the network."),
    ],
)
def test_what_may_be_concluded(table, name, said):
    assert words.verdict(table.row(name)).startswith(said)


def test_a_theorem_whose_condition_fails_is_called_a_measure(table):
    assert words.kind_text(table.row("arora2018-thm2.1")) == "measure (a guarantee where its conditions hold)"
    assert words.kind_text(table.row("occam-binomial")) == "guarantee"
    assert words.kind_text(table.row("arora2018-thm4.1")) == "measure"


def test_rows_stand_under_their_paper_in_order(table):
    groups = [(heading, [row.name for row in rows]) for heading, rows in words.papers(table.rows)]
    assert groups[0] == ("Guarantees", ["holdout", "occam-binomial", "occam-hoeffding"])
    assert groups[1][0] == "Arora, Ge, Neyshabur & Zhang 2018"
    assert sum(len(names) for _, names in groups) == len(table.rows), "no row disappears"
    ((heading, _),) = words.papers([make_row("someone2030-thm1", 1.0)])
    assert heading == "someone2030"


def test_each_reason_is_told_once_with_all_its_rows(table):
    found = dict(words.reasons(table))
    names = ["bartlett2017-distance", "neyshabur2018-distance-two"]
    assert found["needs --init: the initial weights of the network"] == names
    told = {name for names in found.values() for name in names}
    assert told == {row.name for row in table.rows if row.applies is not True}


def test_the_headline_names_the_tightest_guarantee(table):
    assert (
        words.headline(table)
        == "12 of 15 bounds computed for nets:mlp: at most 3.32 % errors are proved (holdout), the real gap is 1.50 %"
    )
    bare = make_table(make_row("occam-binomial", 0.5, Unit.ERROR, Kind.GUARANTEE), held=False)
    assert words.headline(bare) == "1 of 1 bounds computed for nets:mlp: no guarantee is below 100 %"
    failed = make_table(make_row("occam-binomial", -1.0, Unit.ERROR, Kind.GUARANTEE, (HOLDS, FAILS)), held=False)
    assert "no guarantee is below 100 %" in words.headline(failed), "a condition fails"


def test_the_headline_says_whose_error_a_message_limits(table):
    row = replace(table.row("occam-binomial"), ingredients={"message": "out/lenet"})
    assert "errors are proved of the network decoded from out/lenet (occam-binomial)" in words.headline(
        replace(table, rows=(row,))
    )


def test_the_headline_sets_a_useless_bound_beside_guessing(table):
    row = make_row("occam-binomial", math.log(0.97), Unit.ERROR, Kind.GUARANTEE)
    said = words.headline(replace(table, rows=(row,), sample={**table.sample, "num_classes": 10}))
    assert ", where guessing a class errs on 90.00 %" in said
    assert "guessing" not in words.headline(table)


def test_facts_say_margin_gap_and_delta(table):
    told = dict(words.facts(table))
    assert told["Margin"].startswith("γ = 1.25 (5 % quantile of the training margins); 5.00 % of the training margins")
    assert told["Real gap"].startswith("1.50 %: 2.50 % errors on 2,000 held-out examples of toy test")
    assert "100 errors (1.00 %)" in told["Training sample"]
    assert "Each by itself fails with probability at most δ = 0.05" in told["Guarantees"]
    assert "do not all hold at once" in told["Guarantees"]
    assert "others that were made of this sample are not counted" in told["Guarantees"]
    assert "Real gap" not in dict(words.facts(make_table(held=False)))


def test_everything_to_recompute_a_row_is_listed(table):
    row = table.row("arora2018-thm4.1")
    assert dict(words.ingredient_lines(row)) == {
        "gamma": "1.25",
        "m": "10,000",
        "mu": "0.5, 0.25, –",
        "first": "yes",
        "rule": "quantile",
    }
    assert words.condition_lines(row) == [
        "ReLU activations only: holds (2 of 2)",
        "rho >= 3d: fails (rho = 0.8, 3d = 9)",
        "beta known: unknown (not measured)",
    ]
    assert words.layers_text(row)[0] == ("0.weight", "100,000", "78,400")


def test_long_lists_are_cut_and_say_so():
    row = make_row("a", 1.0, ingredients={"mu": tuple(0.5 for _ in range(100))})
    ((_, shown),) = words.ingredient_lines(row)
    assert shown.endswith("… (100 in all)")
    deep = replace(row, layers=tuple(LayerValue(f"layer{k}", 1.0, 5) for k in range(300)))
    assert len(words.layers_text(deep)) == words.MOST_ENTRIES
