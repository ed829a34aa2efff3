"""Hold-out and Occam rows: the certified numbers, the shared failure probability, the order of the forms."""

import math

import numpy as np
import pytest

from bitcert.proof import holdout_bound, occam_bound
from bitcert.theory.inputs import HoldoutFacts, MessageFacts
from bitcert.theory.papers.guarantees import holdout, log_up, occam_binomial, occam_hoeffding, occam_kl
from bitcert.theory.table import BoundRow
from bitcert.theory.value import TRUST, Status
from tests.unit.theory import hand

SAMPLE = hand.sample([1.0] * 10000)


def inputs(*messages, **changes):
    return hand.inputs([np.eye(2)], sample=SAMPLE, messages=messages, **changes)


def message(bits, errors, name="run"):
    return MessageFacts(name, bits, errors, 0.1, 0.2)


def test_hold_out_is_the_clopper_pearson_limit():
    value = holdout(inputs(holdout=HoldoutFacts("held", 30, 2000), delta=0.01))
    certified = holdout_bound(30, 2000, 0.01)
    assert value.value == pytest.approx(certified, rel=1e-12)
    assert value.value >= certified
    assert value.ingredients == {"errors": 30, "samples": 2000, "delta": 0.01}


def test_hold_out_rests_on_labels_that_were_never_used():
    value = holdout(inputs(holdout=HoldoutFacts("held", 30, 2000)))
    assert value.conditions[0].detail.startswith(TRUST)
    assert BoundRow.of(holdout, value, 10000).kind == "guarantee"


def test_hold_out_needs_labels():
    value = holdout(inputs())
    assert value.status is Status.NEEDS
    assert value.why.startswith("needs --holdout")


def test_a_single_message_gets_all_of_delta():
    certified = occam_bound(100, 10000, 4000, 0.05)
    given = inputs(message(4000, 100))
    for row, expected in (
        (occam_binomial, certified.binomial),
        (occam_kl, certified.kl_chernoff),
        (occam_hoeffding, certified.hoeffding),
    ):
        value = row(given).value
        assert value == pytest.approx(expected, rel=1e-9)
        assert value >= expected


def test_several_messages_share_delta_and_the_best_is_quoted():
    given = inputs(message(4000, 900, "a"), message(6000, 100, "b"), message(30000, 10, "c"))
    value = occam_binomial(given)
    each = [occam_bound(e, 10000, b, 0.05 / 3).binomial for b, e in ((4000, 900), (6000, 100), (30000, 10))]
    assert value.value == pytest.approx(min(each), rel=1e-12)
    assert value.ingredients["message"] == "b"
    assert value.ingredients["all_bounds"] == pytest.approx(tuple(each))
    assert value.value > occam_bound(100, 10000, 6000, 0.05).binomial  # not free
    assert any("shared" in note for note in value.notes)


def test_without_a_message_the_row_says_where_it_was_looked():
    value = occam_kl(inputs(messages_note="no certificate was named"))
    assert value.status is Status.NEEDS
    assert value.why == "needs --certificates: a message of bitcert certify (no certificate was named)"


def test_the_forms_are_ordered_and_hoeffding_is_not_cut_at_one():
    for bits, errors in ((100, 0), (4000, 100), (20000, 5000)):
        given = inputs(message(bits, errors))
        logs = [row(given).log for row in (occam_binomial, occam_kl, occam_hoeffding)]
        assert logs == sorted(logs)
    given = inputs(message(10**6, 5000))
    assert occam_binomial(given).log == 0
    expected = 0.5 + math.sqrt((10**6 * math.log(2) + math.log(20)) / 20000)
    assert occam_hoeffding(given).value == pytest.approx(expected)


def test_monotone_in_errors_bits_and_delta():
    base = occam_binomial(inputs(message(4000, 100))).log
    assert occam_binomial(inputs(message(4000, 101))).log > base
    assert occam_binomial(inputs(message(4001, 100))).log > base
    assert occam_binomial(inputs(message(4000, 100), delta=0.01)).log > base
    low = holdout(inputs(holdout=HoldoutFacts("h", 10, 1000))).log
    assert holdout(inputs(holdout=HoldoutFacts("h", 10, 1000), delta=0.01)).log > low


def test_gamma_plays_no_part_and_the_trust_is_listed():
    one, two = (occam_binomial(inputs(message(4000, 100), gamma=g)) for g in (0.5, 5.0))
    assert one.log == two.log
    row = BoundRow.of(occam_binomial, one, 10000)
    assert row.kind == "guarantee"
    assert not row.vacuous
    names = {condition.name for condition in one.conditions}
    assert any("independent" in name for name in names)
    assert any("helper" in name for name in names)
    assert BoundRow.of(occam_binomial, occam_binomial(inputs(message(10**6, 5000))), 10000).vacuous


def test_logarithms_are_rounded_so_that_the_value_is_not_below():
    for value in np.random.default_rng(0).random(2000):
        assert math.exp(log_up(float(value))) >= value
    assert log_up(0.0) == -math.inf
    assert log_up(1.0) == 0
