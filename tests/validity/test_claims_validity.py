"""Every claim holds as often as it says, and its broken twin is caught, as ``benchmarks/validity.py`` simulates it."""

import json

import pytest

from benchmarks.validity import CLAIMS, RESULTS, failures, limits, line_of

KEPT = [json.loads(line) for line in RESULTS.read_text().splitlines()]
QUICK = 1000


@pytest.mark.parametrize("name", CLAIMS)
def test_the_claim_holds_and_its_twin_does_not(name):
    found = line_of(name, QUICK, seed=1)
    assert found["claim_holds"], found
    assert not found["twin_holds"], found


@pytest.mark.parametrize(
    "name", ["compressed", "declared helpers", "self-contained", "original", "looks", "hold-out", "prior"]
)
def test_the_setting_is_nearly_tight(name):
    """A claim that fails in less than half of what it may could hide a factor of two."""
    claim = CLAIMS[name]
    assert limits(failures(claim.trial, QUICK, 2), QUICK)[1] > claim.delta / 2


def test_the_kept_results_are_of_every_claim_with_enough_draws():
    assert [line["name"] for line in KEPT] == list(CLAIMS)
    for line in KEPT:
        assert line["draws"] >= 2000
        assert line["claim_holds"], line["name"]
        assert not line["twin_holds"], line["name"]
        again = line_of(line["name"], 200, line["seed"])
        assert abs(again["claim_fails"] - line["claim_fails"]) < 0.1, "the same simulation"
