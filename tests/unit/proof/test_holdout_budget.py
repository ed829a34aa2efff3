"""The Occam bound in its three forms, its hold-out case, the step to the original network, and the delta ledger."""

import dataclasses
import math
from fractions import Fraction

import mpmath as mp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.errors import BudgetError, InputError
from bitcert.proof import (
    CITATION_BINOMIAL_TAIL,
    CITATION_HOLDOUT,
    CITATION_OCCAM,
    ConfidenceBudget,
    binomial_tail_inverse,
    complexity_nats,
    disagreement_bound,
    hoeffding,
    holdout_bound,
    kl_chernoff,
    occam_bound,
    pac_bayes_sampled,
    self_contained_bound,
)
from bitcert.proof.budget import check_count, check_delta, check_number
from bitcert.proof.holdout import rate_rounded_up


def test_occam_bound_holds_the_three_forms() -> None:
    bound = occam_bound(num_errors=2361, num_samples=60000, message_bits=6847, delta=0.05)
    nats = 6847 * math.log(2) - math.log(0.05)
    assert bound.binomial == pytest.approx(binomial_tail_inverse(2361, 60000, -nats), abs=1e-12)
    assert bound.kl_chernoff == pytest.approx(kl_chernoff(2361 / 60000, 60000, nats), abs=1e-12)
    assert bound.hoeffding == pytest.approx(hoeffding(2361 / 60000, 60000, nats), abs=1e-12)
    assert (bound.num_errors, bound.num_samples, bound.message_bits, bound.delta) == (2361, 60000, 6847, 0.05)
    assert not bound.vacuous
    with pytest.raises(dataclasses.FrozenInstanceError):
        bound.binomial = 0.0


@given(st.data())
def test_order_of_the_three_forms(data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, 10**9))
    errors = data.draw(st.integers(0, samples))
    bits, delta = data.draw(st.integers(0, 10**7)), data.draw(st.floats(1e-12, 0.999))
    bound = occam_bound(errors, samples, bits, delta)
    assert bound.binomial <= bound.kl_chernoff <= bound.hoeffding <= 1.0
    # The order is a theorem, so enforcing it may cost no more than rounding.
    raw = kl_chernoff(errors / samples, samples, complexity_nats(bits, delta))
    assert bound.kl_chernoff - raw <= 1e-12


def test_vacuous_is_said() -> None:
    assert occam_bound(5, 10, 10**6, 0.05).vacuous
    assert occam_bound(10, 10, 0, 0.05).vacuous


def test_holdout_is_occam_without_a_message() -> None:
    for errors, samples in ((0, 1), (17, 300), (150, 10**4)):
        assert holdout_bound(errors, samples, 0.03) == occam_bound(errors, samples, 0, 0.03).binomial


@given(st.integers(0, 10**7), st.floats(1e-300, 1.0, exclude_max=True))
def test_complexity_is_rounded_up(bits: int, delta: float) -> None:
    with mp.workdps(60):
        decimal = mp.mpf(Fraction(repr(delta)).numerator) / Fraction(repr(delta)).denominator
        exact = bits * mp.log(2) - mp.log(min(decimal, mp.mpf(delta)))
        assert 0 <= complexity_nats(bits, delta) - exact <= 1e-14 * exact + mp.mpf("3e-16")


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 10, 8, 0.0),
        (1, 10, 8, 1.0),
        (1, 10, 8, -0.1),
        (1, 10, 8, math.nan),
        (11, 10, 8, 0.05),
        (-1, 10, 8, 0.05),
        (0, 0, 8, 0.05),
        (1, 10, -1, 0.05),
        (1, 10, 8.0, 0.05),
        (1, 10, 636.55, 0.05),
        (1.5, 10, 8, 0.05),
        (1, math.nan, 8, 0.05),
        (1, 10, 2**60, 0.05),
        (1, 10, 8, "0.05"),
        (1, 10, 8, None),
        (True, 10, 8, 0.05),
    ],
)
def test_occam_bound_refuses_what_it_cannot_use(arguments: tuple) -> None:
    with pytest.raises(InputError, match=r"^expected .*, got .*; "):
        occam_bound(*arguments)


def test_disagreement_adds_and_stops_at_one() -> None:
    occam = occam_bound(600, 60000, 800, 0.03).binomial
    bound = disagreement_bound(occam, 12, 5000, 0.02)
    assert 0.0 <= bound - (occam + holdout_bound(12, 5000, 0.02)) <= 1e-15
    assert disagreement_bound(0.7, 4000, 5000, 0.02) == 1.0


@pytest.mark.parametrize(
    "arguments",
    [(1.1, 1, 10, 0.05), (math.nan, 1, 10, 0.05), (0.1, 11, 10, 0.05), (0.1, 1, 0, 0.05), (0.1, 1, 10, 1.0)],
)
def test_disagreement_refuses_what_it_cannot_use(arguments: tuple) -> None:
    with pytest.raises(InputError):
        disagreement_bound(*arguments)


def test_citations_name_their_sources() -> None:
    assert "Arora" in CITATION_OCCAM
    assert "Theorem 2.1" in CITATION_OCCAM
    assert "Langford 2005" in CITATION_BINOMIAL_TAIL
    assert "Clopper & Pearson 1934" in CITATION_HOLDOUT
    assert CITATION_OCCAM.endswith("each given delta * 2^-bits")
    assert CITATION_BINOMIAL_TAIL.endswith("Occam's razor bound")
    assert CITATION_HOLDOUT.endswith("exact upper limit")


@pytest.mark.parametrize("parts", [(0.025, 0.025), (0.02, 0.03), (0.01,) * 5, (0.049, 0.0009, 0.0001)])
def test_parts_that_add_up_in_decimals_add_up_here(parts: tuple[float, ...]) -> None:
    budget = ConfidenceBudget(0.05)
    assert [budget.withdraw(str(i), part) for i, part in enumerate(parts)] == list(parts)
    assert budget.remaining == 0.0
    assert tuple(entry.amount for entry in budget.ledger) == parts
    with pytest.raises(BudgetError):
        budget.withdraw_rest("more")


def test_overdraft_is_refused_and_changes_nothing() -> None:
    budget = ConfidenceBudget(0.05)
    budget.withdraw("first", 0.04)
    for amount in (0.01 + 1e-17, 0.05):
        with pytest.raises(BudgetError, match="second"):
            budget.withdraw("second", amount)
    assert len(budget.ledger) == 1
    assert budget.withdraw_rest("second") == 0.01
    assert budget.delta == 0.05


@pytest.mark.parametrize("delta", [5e-324, 4.4e-323, math.nextafter(2.0**-1022, 0.0)])
def test_a_delta_whose_digits_a_float_cannot_hold_is_refused(delta: float) -> None:
    """At 4.4e-323 its float is 1 % larger, and a bound would be charged 0.01 nats too little."""
    for charge in (
        lambda: complexity_nats(0, delta),
        lambda: ConfidenceBudget(0.05).withdraw("x", delta),
        lambda: pac_bayes_sampled(0.1, 10, 10, 1.0, 0.05, delta),
    ):
        with pytest.raises(InputError, match=r"at least 2\.22507e-308"):
            charge()
    with mp.workdps(60):
        assert complexity_nats(0, 2.0**-1022) >= -mp.log(mp.mpf(repr(2.0**-1022)))


def test_names_are_given_once() -> None:
    budget = ConfidenceBudget(0.05)
    budget.withdraw("occam", 0.01)
    for name in ("occam", "", None):
        with pytest.raises(InputError):
            budget.withdraw(name, 0.01)
        with pytest.raises(InputError):
            budget.withdraw_rest(name)
    assert budget.remaining == 0.04


@pytest.mark.parametrize("amount", [0.0, -0.01, 1.0, math.nan, "0.01", True])
def test_odd_amounts_are_refused(amount: object) -> None:
    with pytest.raises(InputError):
        ConfidenceBudget(0.05).withdraw("x", amount)
    with pytest.raises(InputError):
        ConfidenceBudget(amount)


@given(st.floats(1e-6, 0.99), st.lists(st.floats(1e-9, 0.5), max_size=6))
def test_the_ledger_never_exceeds_the_budget(delta: float, parts: list[float]) -> None:
    budget = ConfidenceBudget(delta)
    for i, part in enumerate(parts):
        if part <= budget.remaining:
            budget.withdraw(str(i), part)
    if budget.remaining > 0.0:
        budget.withdraw_rest("rest")
    spent = sum((Fraction(repr(entry.amount)) for entry in budget.ledger), Fraction(0))
    assert spent <= Fraction(repr(delta))
    assert float(spent) == pytest.approx(delta, rel=1e-15)


@pytest.mark.parametrize(("errors", "samples"), [(0, 7), (7, 7), (1, 2), (3, 8), (1, 3), (2, 3), (5, 7), (99, 60000)])
def test_a_rate_is_the_smallest_float_that_is_not_below_it(errors: int, samples: int) -> None:
    rate, exact = rate_rounded_up(errors, samples), Fraction(errors, samples)
    assert Fraction(rate) >= exact
    assert errors == 0 or Fraction(math.nextafter(rate, 0.0)) < exact


def test_next_to_one_the_decimal_of_delta_still_costs_its_logarithm() -> None:
    for steps in range(1, 400):
        delta = 1.0 - steps * 2.0**-53
        with mp.workdps(60):
            assert complexity_nats(0, delta) >= -mp.log(mp.mpf(repr(delta)))


@pytest.mark.parametrize("value", ["0.5", None, True, math.inf, -math.inf, math.nan])
def test_a_number_is_a_finite_one(value: object) -> None:
    with pytest.raises(InputError, match=r"^expected rate as a"):
        check_number("rate", value, -math.inf, math.inf)
    with pytest.raises(InputError, match=r"^expected rate strictly between 0 and 1"):
        check_delta(value, "rate")


def test_counts_are_floats_exactly() -> None:
    assert check_count("bits", 2**53, 0) == 2**53
    with pytest.raises(InputError, match=r"^expected bits between 0 and 9007199254740992,"):
        check_count("bits", 2**53 + 1, 0)


def test_a_number_too_large_for_a_float_is_none() -> None:
    with pytest.raises(InputError, match=r"^expected rate as a finite number"):
        check_number("rate", 10**400, 0.0, math.inf)


@pytest.mark.parametrize(
    ("bound", "arguments", "name"),
    [
        (occam_bound, (0, 0, 8, 0.05), "num_samples"),
        (occam_bound, (2, 1, 8, 0.05), "num_errors"),
        (occam_bound, (1, 1, -1, 0.05), "message_bits"),
        (occam_bound, (1, 1, 8, 1.0), "delta"),
        (check_delta, (1.0,), "delta"),
        (self_contained_bound, (1, 1, -1, 8, 0.05), "message_bits"),
        (self_contained_bound, (1, 1, 8, -1, 0.05), "helper_bits"),
        (disagreement_bound, (1.5, 1, 10, 0.05), "occam"),
        (disagreement_bound, (0.5, 1, 10, 1.0), "delta2"),
        (ConfidenceBudget(0.05).withdraw, ("first", 1.0), "amount"),
        (ConfidenceBudget(0.05).withdraw, (7, 0.01), "a name"),
    ],
)
def test_says_which_argument_it_cannot_use(bound: object, arguments: tuple, name: str) -> None:
    with pytest.raises(InputError, match=f"^expected {name} "):
        bound(*arguments)


def test_a_helper_of_no_bits_is_free_and_an_empty_message_is_one() -> None:
    assert self_contained_bound(3, 100, 0, 8, 0.05) == occam_bound(3, 100, 8, 0.05).binomial
    assert self_contained_bound(3, 100, 8, 0, 0.05) == occam_bound(3, 100, 8, 0.05).binomial
