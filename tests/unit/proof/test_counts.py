"""The bound from numbers alone: the proof's own, and what is taken on trust is stated."""

import math

import pytest
from scipy.stats import beta

from bitcert import certify_counts
from bitcert.cli import main
from bitcert.errors import InputError
from bitcert.proof import CITATION_BINOMIAL_TAIL, CITATION_HOLDOUT, CITATION_OCCAM, occam_bound

EVERYWHERE = (
    "every example was used once and as it is (not augmented), and a tie counted as an error",
    "delta was chosen before the data were seen; if several bounds are to hold together, their deltas add up",
)


def test_it_is_the_occam_bound_and_says_what_it_trusts():
    found = certify_counts(26, 1797, 504, 0.05)
    assert found.bound == occam_bound(26, 1797, 504, 0.05)
    assert found.conditions == (
        "the 1,797 examples were drawn independently of each other, from the source of new ones",
        *EVERYWHERE,
        "the errors are those of the classifier that is decoded from the message, not of the one in memory",
        "the message is 504 bits of a prefix code: where it ends is seen from its own bits, or its length is counted",
        "whatever was chosen after the data were seen is in these bits: weights, statistics, settings, stopping, seeds",
        "whatever else the decoder knows (architecture, preprocessing, code) was fixed before the data were seen",
    )
    assert found.theorem == f"{CITATION_OCCAM}; {CITATION_BINOMIAL_TAIL}"


def test_without_a_message_it_is_a_hold_out():
    found = certify_counts(100, 10_000, delta=0.01)
    assert math.isclose(found.bound.binomial, beta.ppf(0.99, 101, 9_900), rel_tol=1e-9)
    assert found.bound.binomial >= beta.ppf(0.99, 101, 9_900)
    assert found.conditions == (
        "the 10,000 examples were drawn independently of each other, from the source of new ones",
        *EVERYWHERE,
        "the classifier was fixed before these examples were seen, and no other one was tried on them",
    )
    assert found.theorem == CITATION_HOLDOUT


def test_a_message_costs_what_a_union_bound_over_all_of_its_length_costs():
    one, many = certify_counts(5, 500, 0, 0.05 / 2**10), certify_counts(5, 500, 10, 0.05)
    assert math.isclose(one.bound.binomial, many.bound.binomial, rel_tol=1e-12)


def test_nothing_sensible_is_refused():
    assert certify_counts(10, 10, 10**6).bound.vacuous
    assert certify_counts(0, 1).bound.binomial <= 1
    for wrong in ((11, 10), (-1, 10), (0, 0), (1, 10, -1), (1, 10, 0, 0.0), (1, 10, 0, 1.0), (1.5, 10)):
        with pytest.raises(InputError):
            certify_counts(*wrong)
    with pytest.raises(InputError, match=r"^expected message_bits between"):
        certify_counts(1, 10, -1)


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
