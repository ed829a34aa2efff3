"""Group norms and path norms on explicit networks."""

import math

import numpy as np
import pytest

from bitcert.theory.papers import neyshabur2015 as module
from bitcert.theory.value import Absent, Condition, Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4, ||.||_{2,1} 7, ||.||_{1,inf} 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3, 2 sqrt(5), 3


L3 = ((3**1.5 + 4**1.5) ** (2 / 3)) * (2 * 9**0.5) ** (2 / 3)
ALPHA = math.sqrt(2 + math.log(2))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (module.frobenius_capacity, 250 / 4),
        (module.frobenius_capacity_with_depth, 16 * 250 / 4),
        (module.l3_15_capacity, L3**2 / 4 * 4 ** (1 / 3)),
        (module.frobenius_collection, ALPHA * math.sqrt(250) / 2 / 2),
        (module.l3_15_collection, ALPHA * L3 / 2 / 4 ** (1 / 3)),
        (module.product_l1inf, 6.0),
        (module.product_frobenius, math.sqrt(250) / 2),
        (module.product_l3_15, L3 / 2),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_values_worked_out_by_hand(row, expected):
    assert row(hand.inputs([A, B], gamma=2.0)).value == pytest.approx(expected)


def test_two_to_the_depth_in_the_gap_is_four_to_the_depth_in_the_capacity():
    inputs = hand.inputs([A, B, B])
    without, with_depth = module.frobenius_capacity(inputs).log, module.frobenius_capacity_with_depth(inputs).log
    assert math.sqrt(math.exp(with_depth - without)) == pytest.approx(2**3)


def test_the_l3_15_gap_falls_as_the_third_root_of_m():
    gaps = []
    for m in (10, 80):
        inputs = hand.inputs([A, B], sample=hand.sample([1.0] * m))
        capacity = module.l3_15_capacity(inputs)
        gaps.append(math.sqrt(capacity.value / m))
        assert gaps[-1] * ALPHA == pytest.approx(module.l3_15_collection(inputs).value)
    assert gaps[0] / gaps[1] == pytest.approx(2)


def test_rescaling_layers_against_each_other_changes_nothing():
    for row in (module.frobenius_capacity, module.l3_15_capacity, module.product_l1inf):
        assert row(hand.inputs([10 * A, B / 10])).log == pytest.approx(row(hand.inputs([A, B])).log)


def test_sixty_large_layers_have_a_finite_logarithm():
    inputs = hand.inputs([np.full((1, 1), 1e30)] * 60, gamma=0.5)
    value = module.frobenius_capacity(inputs)
    assert value.log == pytest.approx(120 * math.log(1e30) + 2 * math.log(2))
    assert value.value is None
    assert value.log10 == pytest.approx(3600 + math.log10(4))


def test_path_norms_are_those_with_biases_over_the_margin():
    logs = {1.0: math.log(8), 1.5: math.log(6), 2.0: math.log(5)}
    without = {1.0: math.log(7), 1.5: math.log(5), 2.0: math.log(4)}
    inputs = hand.inputs([A, B], gamma=2.0, path_norms_with_biases=logs, path_norms=without)
    for row, value in ((module.path_l1, 4), (module.path_l15, 3), (module.path_l2, 2.5)):
        assert row(inputs).value == pytest.approx(value)
    assert module.path_l1(inputs).ingredients["log_path_norm_without_biases"] == math.log(7)


def test_a_path_norm_that_is_not_there_is_named():
    inputs = hand.inputs([A, B], path_norms_with_biases=Absent(Status.OUTSIDE, "does not apply: softmax"))
    value = module.path_l2(inputs)
    assert value.status is Status.OUTSIDE
    assert value.why == "does not apply: softmax"
    assert module.path_l15(hand.inputs([A, B], path_norms_with_biases={1.0: 0.0})).status is Status.OUTSIDE


def test_convolutions_are_outside_the_theorem_and_computed_all_the_same():
    inputs = hand.inputs([A, B])
    structure = {**inputs.structure, "chain of layers": Condition("chain of layers", False, "branches meet")}
    value = module.frobenius_capacity(hand.inputs([A, B], structure=structure))
    assert value.status is Status.FAILS
    assert "branches meet" in value.why
    assert value.log is not None
