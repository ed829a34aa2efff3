"""The l1,infinity bound on explicit networks."""

import math

import numpy as np
import pytest

from bitcert.theory.papers.bartlett2002 import l1inf, l1inf_collection
from bitcert.theory.value import Condition, Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4, ||.||_{2,1} 7, ||.||_{1,inf} 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3, 2 sqrt(5), 3


def test_the_capacity_is_the_squared_product_over_the_squared_margin():
    value = l1inf(hand.inputs([A, B], gamma=2.0))
    assert value.value == pytest.approx((4 * 3) ** 2 / 2**2)
    assert value.status is Status.HOLDS
    assert value.ingredients["norm_1inf"] == (4.0, 3.0)


def test_the_collections_gap_has_the_factor_of_golowich_and_the_root_of_m():
    inputs = hand.inputs([A, B], gamma=2.0)
    expected = math.sqrt(2 + math.log(2)) * 12 / 2 / math.sqrt(4)
    assert l1inf_collection(inputs).value == pytest.approx(expected)
    larger = hand.inputs([A, B], gamma=2.0, sample=hand.sample([1.0] * 400))
    assert l1inf_collection(larger).value == pytest.approx(expected / 10)


def test_a_margin_twice_as_large_needs_a_quarter_of_the_examples():
    one, two = (l1inf(hand.inputs([A, B], gamma=g)).log for g in (1.0, 2.0))
    assert one - two == pytest.approx(2 * math.log(2))


def test_it_says_which_hypothesis_fails():
    structure = {"bias-free": Condition("bias-free", False, "offsets: b1")}
    value = l1inf(hand.inputs([A, B], structure=structure))
    assert value.status is Status.FAILS
    assert "offsets: b1" in value.why
    assert value.log is not None


def test_a_zero_layer_makes_the_capacity_zero():
    value = l1inf(hand.inputs([A, np.zeros((2, 2))]))
    assert value.log == -math.inf
    assert value.value == 0
