"""Measures of Jiang et al. 2020 on explicit networks; against the collection's own formulas in another file."""

import math

import numpy as np
import pytest

from bitcert.theory.inputs import Flatness
from bitcert.theory.papers import jiang2020
from bitcert.theory.value import Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3
START = [A - np.eye(2), B]
FLAT = Flatness(0.5, 0.25, 1e-3, 0.1, 10, 100, 0.99, 0.1, 0.1)


ROWS = {b.name.removeprefix("jiang2020-"): b for b in (*jiang2020.ROWS, *jiang2020.FLATNESS_ROWS)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l2", math.sqrt(35)),
        ("l2-dist", math.sqrt(2)),
        ("params", 8),
        ("inverse-margin", 1 / 4),
        ("log-prod-of-fro", 250),
        ("log-prod-of-fro-over-margin", 250 / 4),
        ("log-sum-of-fro", 2 * math.sqrt(250)),
        ("log-sum-of-fro-over-margin", 2 * math.sqrt(250 / 4)),
        ("log-prod-of-spec", 144),
        ("log-prod-of-spec-over-margin", 144 / 4),
        ("log-sum-of-spec", 2 * 12),
        ("log-sum-of-spec-over-margin", 2 * 12 / 2),
        ("log-spec-orig-main", 144 * (25 / 16 + 10 / 9) / 4),
        ("log-spec-init-main", 144 * (2 / 16) / 4),
        ("fro-over-spec", 25 / 16 + 10 / 9),
        ("param-norm", 35),
        ("fro-dist", 2),
        ("dist-spec-init", 1),
        ("path-norm", 5),
        ("path-norm-over-margin", 5 / 4),
    ],
)
def test_values_worked_out_by_hand(name, expected):
    inputs = hand.inputs([A, B], gamma=2.0, init=START, path_norms_with_biases={2.0: math.log(5)})
    value = ROWS[name](inputs)
    assert value.value == pytest.approx(expected)
    assert value.status is Status.HOLDS


def test_a_measure_called_log_is_the_logarithm_of_its_row():
    small = hand.inputs([A / 100, B / 100], gamma=2.0)
    value = ROWS["log-prod-of-fro"](small)
    assert value.log == pytest.approx(math.log(250) - 8 * math.log(10))
    assert value.log < 0


@pytest.mark.parametrize("name", ["l2-dist", "fro-dist", "dist-spec-init", "log-spec-init-main"])
def test_distances_need_the_initial_weights(name):
    value = ROWS[name](hand.inputs([A, B]))
    assert value.status is Status.NEEDS
    assert value.why.startswith("needs --init")


@pytest.mark.parametrize("name", ["fro-over-spec", "log-spec-orig-main"])
def test_a_zero_layer_is_named(name):
    value = ROWS[name](hand.inputs([A, np.zeros((2, 2))]))
    assert value.status is Status.OUTSIDE
    assert "layer2" in value.why


def test_products_with_a_zero_layer_are_zero():
    inputs = hand.inputs([A, np.zeros((2, 2))])
    assert ROWS["log-prod-of-spec"](inputs).value == 0
    assert ROWS["log-sum-of-fro-over-margin"](inputs).value == 0


def test_the_path_norm_needs_to_have_been_computed():
    assert ROWS["path-norm"](hand.inputs([A, B])).status is Status.NEEDS
    assert ROWS["path-norm"](hand.inputs([A, B], path_norms_with_biases={1.0: 0.0})).status is Status.OUTSIDE


def test_flatness_worked_out_by_hand():
    inputs = hand.inputs([A, B], init=START, flatness=FLAT)
    logarithm = math.log(4 / 0.5) + 10
    assert ROWS["pacbayes-flatness"](inputs).value == pytest.approx(4)
    assert ROWS["pacbayes-orig"](inputs).value == pytest.approx(35 / (4 * 0.25) + logarithm)
    assert ROWS["pacbayes-init"](inputs).value == pytest.approx(2 / (4 * 0.25) + logarithm)
    assert ROWS["pacbayes-mag-flatness"](inputs).value == pytest.approx(16)
    moved, still = 1e-6 + 1 / 16, 1e-6  # two weights have moved by 1, six have not
    for bound, square in ((ROWS["pacbayes-mag-orig"], 35), (ROWS["pacbayes-mag-init"], 2)):
        above = 1e-6 + (1 / 16 + 1) * square / 8
        total = 2 * math.log(above / moved) + 6 * math.log(above / still)
        assert bound(inputs).value == pytest.approx(total / 4 + math.log(4 / 0.25) + 10)


def test_flatness_that_was_not_measured_or_is_zero_is_named():
    assert ROWS["pacbayes-flatness"](hand.inputs([A, B])).status is Status.NEEDS
    none = Flatness(0.0, 0.0, 1e-3, 0.1, 10, 100, 0.99, 0.0, 0.0)
    for bound in (
        ROWS["pacbayes-flatness"],
        ROWS["pacbayes-orig"],
        ROWS["pacbayes-mag-flatness"],
        ROWS["pacbayes-mag-init"],
    ):
        value = bound(hand.inputs([A, B], init=START, flatness=none))
        assert value.status is Status.OUTSIDE
        assert "10 %" in value.why


@pytest.mark.parametrize("bound", [ROWS["pacbayes-init"], ROWS["pacbayes-mag-orig"], ROWS["pacbayes-mag-init"]])
def test_distances_of_flatness_need_the_initial_weights(bound):
    assert bound(hand.inputs([A, B], flatness=FLAT)).why.startswith("needs --init")


def test_a_sum_of_logarithms_below_zero_is_refused():
    wide = Flatness(1e6, 1e6, 1e-3, 0.1, 10, 100, 0.99, 0.1, 0.1)
    value = ROWS["pacbayes-orig"](hand.inputs([A, B], flatness=wide))
    assert value.status is Status.OUTSIDE
    assert "positive" in value.why
    # the orig form may be negative: weights that went a long way to a small norm
    far = hand.inputs([A / 1e3], init=[A * 1e6], flatness=FLAT)
    assert ROWS["pacbayes-mag-orig"](far).status is Status.OUTSIDE


def test_sixty_large_layers_have_finite_logarithms():
    matrices = [np.full((1, 1), 1e30)] * 60
    inputs = hand.inputs(
        matrices, init=[np.zeros((1, 1))] * 60, flatness=FLAT, path_norms_with_biases={2.0: 60 * math.log(1e30)}
    )
    for bound in ROWS.values():
        assert bound(inputs).log is not None, bound.name
