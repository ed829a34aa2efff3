"""Spectral and l2,1 norms on explicit networks."""

import math

import numpy as np
import pytest

from bitcert.theory.papers.bartlett2017 import spec_l12, spec_l12_collection, spec_l12_init
from bitcert.theory.value import Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4, ||.||_{2,1} 7, ||.||_{1,inf} 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3, 2 sqrt(5), 3

START = [A - np.eye(2), B]


def test_the_capacity_worked_out_by_hand():
    inputs = hand.inputs([A, B], gamma=2.0)
    ratios = (7 / 4) ** (2 / 3) + (2 * math.sqrt(5) / 3) ** (2 / 3)
    value = spec_l12(inputs)
    assert value.value == pytest.approx((4 * 3) ** 2 * ratios**3 / 4)
    assert value.status is Status.HOLDS


def test_from_initialisation_only_what_moved_counts():
    value = spec_l12_init(hand.inputs([A, B], gamma=2.0, init=START))
    # ||I||_{2,1} = 2 and the second layer has not moved
    assert value.value == pytest.approx((4 * 3) ** 2 * (2 / 4) ** 2 / 4)
    assert value.ingredients["distance_21"] == pytest.approx((2.0, 0.0))


def test_the_collections_gap_worked_out_by_hand():
    inputs = hand.inputs([A, B], gamma=2.0, init=START)
    expected = math.log(4) * math.log(8) * 12 / 2 * (2 / 4) / math.sqrt(4)
    assert spec_l12_collection(inputs).value == pytest.approx(expected)


def test_the_two_one_norm_is_not_the_frobenius_norm():
    """docs/theory.md section 3.3: a public implementation computes the Frobenius norm in its place."""
    inputs = hand.inputs([A, B])
    wrong = (5 / 4) ** (2 / 3) + (math.sqrt(10) / 3) ** (2 / 3)
    assert spec_l12(inputs).value / (144 * wrong**3) == pytest.approx(1.9788, abs=1e-4)


@pytest.mark.parametrize("row", [spec_l12_init, spec_l12_collection])
def test_without_initial_weights_the_row_says_so(row):
    value = row(hand.inputs([A, B]))
    assert value.status is Status.NEEDS
    assert value.why.startswith("needs --init")


def test_at_the_initial_weights_the_capacity_is_zero():
    assert spec_l12_init(hand.inputs([A, B], init=[A, B])).value == 0


def test_a_zero_layer_is_named():
    value = spec_l12(hand.inputs([A, np.zeros((2, 2))]))
    assert value.status is Status.OUTSIDE
    assert "layer2" in value.why


def test_scale_laws_and_many_layers():
    one = spec_l12(hand.inputs([A, B], gamma=1.0)).log
    assert spec_l12(hand.inputs([7 * A, B / 7], gamma=1.0)).log == pytest.approx(one)
    assert spec_l12(hand.inputs([A, B], gamma=2.0)).log == pytest.approx(one - 2 * math.log(2))
    big = spec_l12(hand.inputs([np.full((1, 1), 1e30)] * 60))
    assert big.log == pytest.approx(120 * math.log(1e30) + 3 * math.log(60))
