"""Parameter counts on explicit networks."""

import math

import numpy as np
import pytest

from bitcert.theory.papers.counting import parameters, vc_dimension
from bitcert.theory.value import Condition, Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4, ||.||_{2,1} 7, ||.||_{1,inf} 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3, 2 sqrt(5), 3


def test_the_count_is_the_number_of_all_parameters_with_its_layers():
    value = parameters(hand.inputs([A, B, np.ones((1, 2))], num_parameters=17))
    assert value.value == pytest.approx(17)
    assert [layer.actual for layer in value.layers] == [4, 4, 2]
    assert [math.exp(layer.log) for layer in value.layers] == pytest.approx([4, 4, 2])
    assert value.status is Status.HOLDS
    assert value.why == "needs no condition"


def test_the_vc_dimension_is_depth_times_parameters_times_their_logarithm():
    value = vc_dimension(hand.inputs([A, B]))
    assert value.value == pytest.approx(2 * 8 * math.log(8))
    assert value.status is Status.HOLDS
    assert vc_dimension(hand.inputs([[[2.0]]])).value == 0  # ln 1


def test_the_vc_dimension_says_when_an_activation_is_not_known_to_be_piecewise_linear():
    structure = {"ReLU activations only": Condition("ReLU activations only", False, "also tanh")}
    assert vc_dimension(hand.inputs([A, B], structure=structure)).status is Status.FAILS
    assert vc_dimension(hand.inputs([A, B], structure={})).status is Status.UNKNOWN


@pytest.mark.parametrize("row", [parameters, vc_dimension])
def test_without_parameters_there_is_nothing_to_count(row):
    value = row(hand.inputs([A, B], num_parameters=0))
    assert value.status is Status.OUTSIDE
    assert "no parameters" in value.why
