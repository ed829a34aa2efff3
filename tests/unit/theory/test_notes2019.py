"""The capacity of the notes of 2019, worked out by hand."""

import math
from dataclasses import replace

import pytest

from bitcert.theory.inputs import NO_PROFILE, LayerStability
from bitcert.theory.papers.arora2018 import THEOREM_41
from bitcert.theory.papers.notes2019 import capacity, capacity_zeta
from bitcert.theory.value import Status
from tests.unit.theory import hand


def network(*rows, **changes):
    inputs = hand.inputs([[[1.0]]] * len(rows), **changes)
    layers = [replace(layer, stability=row) for layer, row in zip(inputs.layers, rows, strict=True)]
    return replace(inputs, layers=tuple(layers))


ROWS = (hand.stability(0.5, 0.1, 2.0), hand.stability(0.25, 0.2, 3.0))


def test_by_hand():
    # the worst of each: d = 2, c = 3, mu = 0.25, mu_-> = 0.1
    assert capacity(network(*ROWS)).value == pytest.approx((2 * 3.0 / (0.25 * 0.1)) ** 2)


def test_neither_margin_nor_sample_size_matter():
    assert capacity(network(*ROWS)).log == capacity(network(*ROWS, gamma=0.1, sample=hand.sample([1.0] * 9))).log


def test_it_is_at_least_the_largest_term_of_theorem_41():
    found = THEOREM_41(network(*ROWS))
    scale = 2 * (math.log(5.0) - math.log(1.0))  # max ||f||^2 / gamma^2
    assert capacity(network(*ROWS)).log >= max(layer.log for layer in found.layers) - scale - 1e-12


def test_outliers():
    row = LayerStability(hand.reduced(0.5, 0.6), hand.reduced(0.1, 0.2), hand.reduced(2.0, 1.5), hand.reduced(1.0))
    inputs = network(row, zeta=0.5, measured_samples=4)
    assert capacity_zeta(inputs).value == pytest.approx((1.5 / (0.6 * 0.2)) ** 2)
    assert capacity_zeta(inputs).ingredients["outliers_together_at_most"] == 1.0
    assert "adds zeta = 0.5" in capacity_zeta(inputs).notes[0]


@pytest.mark.parametrize("bound", [capacity, capacity_zeta])
def test_reasons(bound):
    assert bound(network(NO_PROFILE)).status is Status.NEEDS
    found = bound(network(hand.stability(cushion=0.0)))
    assert found.status is Status.OUTSIDE
    assert "cushion of layer1 is 0" in found.why
