"""One failure probability for several claims: the division and the bounds, against exact arithmetic and mpmath."""

import itertools
import math
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.errors import InputError
from bitcert.proof import CITATION_BINOMIAL_TAIL, CITATION_HOLDOUT, CITATION_OCCAM, ConfidenceBudget, claims
from bitcert.proof.claims import (
    LOSS_UNITS,
    bounded_loss_bound,
    delta_plan,
    look_share,
    theorem_text,
    zero_one_loss_bound,
)


@given(delta=st.floats(1e-300, 1, exclude_max=True), losses=st.integers(0, 12), look=st.sampled_from([None, 1, 2, 50]))
def test_the_parts_are_never_more_than_the_whole_and_all_but_what_later_looks_get(delta, losses, look):
    names = [f"top-{k}" for k in range(losses)]
    plan = delta_plan(delta, names, look)
    assert plan[0].name == "occam bound of the compressed network"
    spent = sum(Fraction(repr(entry.amount)) for entry in plan)
    assert spent <= Fraction(repr(delta))
    left = 0 if look is None else Fraction(4, 5) * (1 - look_share(look)) / (1 + losses)
    assert spent >= Fraction(repr(delta)) * (1 - left - Fraction(1, 10**14)) - Fraction(1, 2**1070)
    budget = ConfidenceBudget(delta)
    for entry in plan:
        budget.withdraw(entry.name, entry.amount)
    assert len({entry.name for entry in plan}) == len(plan) == 1 + losses + (look is not None)


def test_the_division_is_the_fixed_one():
    assert [entry.amount for entry in delta_plan(0.05)] == [0.05]
    assert [entry.amount for entry in delta_plan(0.05, look=1)] == [0.01, 0.032]
    assert [entry.amount for entry in delta_plan(0.05, ["brier"], look=2)] == [0.005, 0.002, 0.025]
    assert "message" not in delta_plan(0.05, ["brier"])[1].name
    assert delta_plan(0.05, ["brier"])[1].name.endswith("brier")


@pytest.mark.parametrize("losses", [["brier", "brier"], [f"top-{k}" for k in range(65)]])
def test_losses_that_are_not_different_are_refused(losses):
    with pytest.raises(InputError, match="different losses"):
        delta_plan(0.05, losses)


def exact_kl_root(mean, budget):
    """Largest L with kl(mean || L) <= budget, in 50 digits, by bisection."""
    with mpmath.workdps(50):
        q, low, high = mpmath.mpf(mean.numerator) / mean.denominator, mpmath.mpf(0), mpmath.mpf(1)
        low = q
        for _ in range(160):
            middle = (low + high) / 2
            kl = (q * mpmath.log(q / middle) if q else 0) + (1 - q) * mpmath.log((1 - q) / (1 - middle))
            low, high = (middle, high) if kl <= budget else (low, middle)
        return low


@pytest.mark.parametrize(
    ("total", "samples", "bits", "delta"),
    [(0, 100, 0, 0.05), (12345678, 300, 160, 0.01), (600 * LOSS_UNITS + 1, 60000, 800, 0.025), (3, 7, 1, 0.9)],
)
def test_bounded_losses_against_fifty_digits(total, samples, bits, delta):
    with mpmath.workdps(50):
        nats = bits * mpmath.log(2) - mpmath.log(mpmath.mpf(repr(delta)))
        truth = exact_kl_root(Fraction(total, samples * LOSS_UNITS), nats / samples)
        ours = bounded_loss_bound(total, samples, bits, delta)
        assert truth <= ours <= truth * (1 + mpmath.mpf(10) ** -9)


def test_zero_one_losses_against_the_exact_tail():
    with mpmath.workdps(60):
        for errors, samples, bits, delta in [(0, 50, 8, 0.05), (7, 200, 40, 0.01), (60, 400, 300, 0.0125)]:
            p = mpmath.mpf(zero_one_loss_bound(errors, samples, bits, delta))
            tail = mpmath.fsum(mpmath.binomial(samples, k) * p**k * (1 - p) ** (samples - k) for k in range(errors + 1))
            eta = mpmath.mpf(repr(delta)) * mpmath.mpf(2) ** -bits
            assert tail <= eta
            assert tail >= eta * (1 - mpmath.mpf(10) ** -6)


@pytest.mark.parametrize("total", [-1, 100 * LOSS_UNITS + 1, 0.5, True, None])
def test_impossible_totals_are_refused(total):
    with pytest.raises(InputError):
        bounded_loss_bound(total, 100, 8, 0.05)


def test_all_lost_is_vacuous():
    assert bounded_loss_bound(100 * LOSS_UNITS, 100, 8, 0.05) == 1.0
    assert math.isclose(bounded_loss_bound(0, 100, 0, 0.05), 1 - 0.05 ** (1 / 100), rel_tol=1e-9)


def test_what_pays_is_named():
    assert [entry.name for entry in delta_plan(0.05, ["brier"], look=2)][1:] == [
        "disagreement of the original and the compressed network, look 2",
        "occam bound of the loss brier",
    ]


def test_declared_helpers_share_what_a_message_has():
    assert [entry.amount for entry in delta_plan(0.05, ["brier"], look=1, helpers=5)] == [0.001, 0.016, 0.005]


def test_as_many_losses_looks_and_helpers_as_fit():
    assert len(delta_plan(0.05, [f"top-{k}" for k in range(64)], 10**6, 10**6)) == 66


@pytest.mark.parametrize(
    ("call", "arguments", "name"),
    [
        (look_share, (0,), "look"),
        (look_share, (10**6 + 1,), "look"),
        (delta_plan, (0.05, [], None, 0), "helpers"),
        (delta_plan, (0.05, [], None, 10**6 + 1), "helpers"),
        (bounded_loss_bound, (0, 0, 8, 0.05), "num_samples"),
        (bounded_loss_bound, (-1, 1, 8, 0.05), "total_units"),
    ],
)
def test_says_which_argument_it_cannot_use(call, arguments, name):
    with pytest.raises(InputError, match=f"^expected {name} between"):
        call(*arguments)


@pytest.mark.parametrize(("total", "samples"), [(0, 1), (LOSS_UNITS, 1), (1, 3), (2, 3), (LOSS_UNITS, 2), (5, 60000)])
def test_the_mean_that_is_bounded_is_the_exact_one_rounded_up(monkeypatch, total, samples):
    monkeypatch.setattr(claims, "kl_chernoff", lambda mean, *_: mean)
    mean, exact = bounded_loss_bound(total, samples, 8, 0.05), Fraction(total, samples * LOSS_UNITS)
    assert Fraction(mean) >= exact
    assert total == 0 or Fraction(math.nextafter(mean, 0.0)) < exact


@pytest.mark.parametrize(("prior", "bounded", "original"), list(itertools.product([False, True], repeat=3)))
def test_a_certificate_names_the_theorems_that_it_uses_and_no_other(prior, bounded, original):
    named = theorem_text(prior=prior, bounded=bounded, original=original).split("; ")
    assert named[:2] == [CITATION_OCCAM, CITATION_BINOMIAL_TAIL]
    further = {
        "helper from the declared prior part, errors counted on the rest only": prior,
        "losses with values in [0, 1]: relative-entropy Chernoff bound of Langford 2005": bounded,
        f"L(original) <= L(compressed) + P[they disagree], the second by {CITATION_HOLDOUT}": original,
    }
    assert named[2:] == [text for text, used in further.items() if used], "files are compared with these words"
