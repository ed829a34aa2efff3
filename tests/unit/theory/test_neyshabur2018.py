"""Spectral and Frobenius norms on explicit networks."""

import math

import numpy as np
import pytest

from bitcert.theory.papers import neyshabur2018 as module
from bitcert.theory.value import Condition, Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4, ||.||_{2,1} 7, ||.||_{1,inf} 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3, 2 sqrt(5), 3

START = [A - np.eye(2), B]


def test_the_capacity_worked_out_by_hand_is_the_sum_of_its_layers():
    inputs = hand.inputs([A, B], gamma=2.0)  # h = d = 2, largest input 3
    value = module.spec_fro(inputs)
    common = 2 * 2**2 * 3**2 * (4 * 3) ** 2 / 4
    assert value.value == pytest.approx(common * (25 / 16 + 10 / 9))
    assert [math.exp(layer.log) for layer in value.layers] == pytest.approx([common * 25 / 16, common * 10 / 9])
    assert value.status is Status.HOLDS


def test_from_initialisation():
    value = module.spec_fro_init(hand.inputs([A, B], gamma=2.0, init=START))
    assert value.value == pytest.approx(2 * 2**2 * 3**2 * 144 / 4 * (2 / 16))
    assert value.layers[1].log == -math.inf


def test_the_collections_gap():
    value = module.spec_fro_collection(hand.inputs([A, B], gamma=2.0, init=START))
    assert value.value == pytest.approx(2 * 12 / 2 * math.sqrt(2 * 2 / 16) / math.sqrt(4))


def test_products_of_schatten_norms():
    inputs = hand.inputs([A, B], gamma=2.0)  # singular values 3, 4 and 1, 3
    assert module.product_spectral(inputs).value == pytest.approx(6)
    assert module.product_trace(inputs).value == pytest.approx(7 * 4 / 2)
    expected = (3**1.5 + 4**1.5) ** (2 / 3) * (1 + 3**1.5) ** (2 / 3) / 2
    assert module.product_schatten_15(inputs).value == pytest.approx(expected)


@pytest.mark.parametrize("row", [module.spec_fro_init, module.spec_fro_collection])
def test_without_initial_weights_the_row_says_so(row):
    assert row(hand.inputs([A, B])).why.startswith("needs --init")


def test_a_zero_layer_is_named():
    assert "layer1" in module.spec_fro(hand.inputs([np.zeros((2, 2)), B])).why


def test_a_convolution_is_outside_the_theorem():
    layer = hand.layer(A, "conv", op="conv2d", positions=9)
    value = module.spec_fro(hand.inputs([A], layers=(layer,)))
    assert value.status is Status.FAILS
    assert "fully connected" in value.why
    assert value.log is not None


def test_scale_laws_and_many_layers():
    one = module.spec_fro(hand.inputs([A, B])).log
    assert module.spec_fro(hand.inputs([A / 9, 9 * B])).log == pytest.approx(one)
    assert module.spec_fro(hand.inputs([A, B], gamma=2.0)).log == pytest.approx(one - 2 * math.log(2))
    big = module.spec_fro(hand.inputs([np.full((1, 1), 1e30)] * 60))
    assert big.log == pytest.approx(120 * math.log(1e30) + 2 * math.log(60) + math.log(60) + 2 * math.log(3))


def test_biases_fail_a_condition():
    structure = {"bias-free": Condition("bias-free", False, "offsets: b1")}
    assert module.spec_fro(hand.inputs([A, B], structure=structure)).status is Status.FAILS
