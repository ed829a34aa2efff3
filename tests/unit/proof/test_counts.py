"""The bound from numbers alone: the proof's own, and what is taken on trust is stated."""

import math

import pytest
from scipy.stats import beta

from bitcert import certify_counts
from bitcert.cli import main
from bitcert.errors import InputError
from bitcert.proof import occam_bound


def test_it_is_the_occam_bound_and_says_what_it_trusts():
    found = certify_counts(26, 1797, 504, 0.05)
    assert found.bound == occam_bound(26, 1797, 504, 0.05)
    assert any("504 bits of a prefix code" in text for text in found.conditions)
    assert any("1,797 examples were drawn independently" in text for text in found.conditions)
    assert "Langford" in found.theorem


def test_without_a_message_it_is_a_hold_out():
    found = certify_counts(100, 10_000, delta=0.01)
    assert math.isclose(found.bound.binomial, beta.ppf(0.99, 101, 9_900), rel_tol=1e-9)
    assert found.bound.binomial >= beta.ppf(0.99, 101, 9_900)
    assert any("no other one was tried" in text for text in found.conditions)
    assert "Clopper" in found.theorem


def test_a_message_costs_what_a_union_bound_over_all_of_its_length_costs():
    one, many = certify_counts(5, 500, 0, 0.05 / 2**10), certify_counts(5, 500, 10, 0.05)
    assert math.isclose(one.bound.binomial, many.bound.binomial, rel_tol=1e-12)


def test_nothing_sensible_is_refused():
    assert certify_counts(10, 10, 10**6).bound.vacuous
    assert certify_counts(0, 1).bound.binomial <= 1
    for wrong in ((11, 10), (-1, 10), (0, 0), (1, 10, -1), (1, 10, 0, 0.0), (1, 10, 0, 1.0), (1.5, 10)):
        with pytest.raises(InputError):
            certify_counts(*wrong)


def test_the_command_says_the_same(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["counts", "--errors", "26", "--samples", "1797", "--bits", "504"])
    assert not stop.value.code
    out = capsys.readouterr().out
    assert "error rate on new data at most 22.30 %, delta = 0.05" in out
    assert "Nothing was checked. It holds if" in out
    with pytest.raises(SystemExit) as stop:
        main(["counts", "--errors", "26", "--samples", "20"])
    assert stop.value.code == 2
