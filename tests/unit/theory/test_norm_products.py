"""Products of norms and path norms on explicit networks."""

import math

import numpy as np
import pytest

from bitcert.theory.registry import get_bound
from bitcert.theory.value import Absent, Condition, Status
from tests.unit.theory import hand

A = np.array([[3.0, 0.0], [0.0, 4.0]])  # ||.||_F 5, ||.||_2 4, ||.||_{2,1} 7, ||.||_{1,inf} 4
B = np.array([[1.0, 2.0], [2.0, 1.0]])  # sqrt(10), 3, 2 sqrt(5), 3

START = [A - np.eye(2), B]  # ||I||_{2,1} = 2, and the second layer has not moved
L3 = ((3**1.5 + 4**1.5) ** (2 / 3)) * (2 * 9**0.5) ** (2 / 3)
ALPHA = math.sqrt(2 + math.log(2))
RATIOS_21 = (7 / 4) ** (2 / 3) + (2 * math.sqrt(5) / 3) ** (2 / 3)
COMMON = 2 * 2**2 * 3**2 * (4 * 3) ** 2 / 4  # h = d = 2, largest input 3
OF_2018 = "neyshabur2018-spec-fro"

# singular values 3, 4 and 1, 3
VALUES = {
    "bartlett2002-l1inf": (4 * 3) ** 2 / 2**2,
    "bartlett2002-l1inf-collection": ALPHA * 12 / 2 / math.sqrt(4),
    "neyshabur2015-frobenius": 250 / 4,
    "neyshabur2015-frobenius-2d": 16 * 250 / 4,
    "neyshabur2015-l3-1.5": L3**2 / 4 * 4 ** (1 / 3),
    "neyshabur2015-frobenius-collection": ALPHA * math.sqrt(250) / 2 / 2,
    "neyshabur2015-l3-1.5-collection": ALPHA * L3 / 2 / 4 ** (1 / 3),
    "product-l1inf": 6.0,
    "product-frobenius": math.sqrt(250) / 2,
    "product-l3-1.5": L3 / 2,
    "bartlett2017-spec-l12": (4 * 3) ** 2 * RATIOS_21**3 / 4,
    "bartlett2017-spec-l12-init": (4 * 3) ** 2 * (2 / 4) ** 2 / 4,
    "bartlett2017-spec-l12-collection": math.log(4) * math.log(8) * 12 / 2 * (2 / 4) / math.sqrt(4),
    "neyshabur2018-spec-fro": COMMON * (25 / 16 + 10 / 9),
    "neyshabur2018-spec-fro-init": COMMON * (2 / 16),
    "neyshabur2018-spec-fro-collection": 2 * 12 / 2 * math.sqrt(2 * 2 / 16) / math.sqrt(4),
    "product-spectral": 6.0,
    "product-l1.5-operator": (3**1.5 + 4**1.5) ** (2 / 3) * (1 + 3**1.5) ** (2 / 3) / 2,
    "product-trace": 7 * 4 / 2,
}


def value_of(name, matrices=(A, B), **changes):
    return get_bound(name)(hand.inputs(list(matrices), **changes))


@pytest.mark.parametrize("name", VALUES)
def test_values_worked_out_by_hand(name):
    value = value_of(name, gamma=2.0, init=START)
    assert value.value == pytest.approx(VALUES[name])
    assert value.status is Status.HOLDS


def test_ingredients_and_layers_are_those_of_the_formula():
    assert value_of("bartlett2002-l1inf").ingredients["norm_1inf"] == (4.0, 3.0)
    moved = value_of("bartlett2017-spec-l12-init", init=START)
    assert moved.ingredients["distance_21"] == pytest.approx((2.0, 0.0))
    layers = value_of(OF_2018, gamma=2.0).layers
    assert [math.exp(layer.log) for layer in layers] == pytest.approx([COMMON * 25 / 16, COMMON * 10 / 9])
    assert value_of(f"{OF_2018}-init", gamma=2.0, init=START).layers[1].log == -math.inf


def test_the_collections_gap_falls_as_the_root_of_m():
    name = "bartlett2002-l1inf-collection"
    larger = value_of(name, gamma=2.0, sample=hand.sample([1.0] * 400))
    assert larger.value == pytest.approx(VALUES[name] / 10)


def test_the_l3_15_gap_falls_as_the_third_root_of_m():
    gaps = []
    for m in (10, 80):
        sample = hand.sample([1.0] * m)
        gaps.append(math.sqrt(value_of("neyshabur2015-l3-1.5", sample=sample).value / m))
        collection = value_of("neyshabur2015-l3-1.5-collection", sample=sample)
        assert gaps[-1] * ALPHA == pytest.approx(collection.value)
    assert gaps[0] / gaps[1] == pytest.approx(2)


def test_two_to_the_depth_in_the_gap_is_four_to_the_depth_in_the_capacity():
    names = ("neyshabur2015-frobenius", "neyshabur2015-frobenius-2d")
    without, with_depth = (value_of(name, (A, B, B)).log for name in names)
    assert math.sqrt(math.exp(with_depth - without)) == pytest.approx(2**3)


def test_the_two_one_norm_is_not_the_frobenius_norm():
    """docs/theory.md section 3.3: a public implementation computes the Frobenius norm in its place."""
    wrong = (5 / 4) ** (2 / 3) + (math.sqrt(10) / 3) ** (2 / 3)
    assert value_of("bartlett2017-spec-l12").value / (144 * wrong**3) == pytest.approx(1.9788, abs=1e-4)


@pytest.mark.parametrize("name", ["bartlett2002-l1inf", "bartlett2017-spec-l12", OF_2018])
def test_a_margin_twice_as_large_needs_a_quarter_of_the_examples(name):
    one, two = (value_of(name, gamma=gamma).log for gamma in (1.0, 2.0))
    assert one - two == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(
    "name", ["neyshabur2015-frobenius", "neyshabur2015-l3-1.5", "product-l1inf", "bartlett2017-spec-l12", OF_2018]
)
@pytest.mark.parametrize("factor", [7.0, 10.0, 1 / 9])
def test_rescaling_layers_against_each_other_changes_nothing(name, factor):
    assert value_of(name, (factor * A, B / factor)).log == pytest.approx(value_of(name).log)


def test_sixty_large_layers_have_a_finite_logarithm():
    large, product = [np.full((1, 1), 1e30)] * 60, 120 * math.log(1e30)
    value = value_of("neyshabur2015-frobenius", large, gamma=0.5)
    assert value.log == pytest.approx(product + 2 * math.log(2))
    assert value.value is None
    assert value.log10 == pytest.approx(3600 + math.log10(4))
    assert value_of("bartlett2017-spec-l12", large).log == pytest.approx(product + 3 * math.log(60))
    expected = product + 2 * math.log(60) + math.log(60) + 2 * math.log(3)
    assert value_of(OF_2018, large).log == pytest.approx(expected)


@pytest.mark.parametrize("name", ["bartlett2002-l1inf", OF_2018])
def test_biases_fail_a_condition(name):
    structure = {"bias-free": Condition("bias-free", False, "offsets: b1")}
    value = value_of(name, structure=structure)
    assert value.status is Status.FAILS
    assert "offsets: b1" in value.why
    assert value.log is not None


def test_branches_are_outside_the_theorem_and_computed_all_the_same():
    structure = {
        **hand.inputs([A, B]).structure,
        "chain of layers": Condition("chain of layers", False, "branches meet"),
    }
    value = value_of("neyshabur2015-frobenius", structure=structure)
    assert value.status is Status.FAILS
    assert "branches meet" in value.why
    assert value.log is not None


def test_a_convolution_is_outside_the_theorem():
    value = value_of(OF_2018, [A], layers=(hand.layer(A, "conv", op="conv2d", positions=9),))
    assert value.status is Status.FAILS
    assert "fully connected" in value.why
    assert value.log is not None


def test_a_zero_layer_makes_a_product_zero():
    value = value_of("bartlett2002-l1inf", (A, np.zeros((2, 2))))
    assert value.log == -math.inf
    assert value.value == 0


@pytest.mark.parametrize("name", ["bartlett2017-spec-l12", OF_2018])
@pytest.mark.parametrize("place", [0, 1])
def test_a_zero_layer_that_divides_is_named(name, place):
    matrices = [np.zeros((2, 2)), B] if place == 0 else [A, np.zeros((2, 2))]
    value = value_of(name, matrices)
    assert value.status is Status.OUTSIDE
    assert f"layer{place + 1}" in value.why


@pytest.mark.parametrize("paper", ["bartlett2017-spec-l12", OF_2018])
@pytest.mark.parametrize("ending", ["init", "collection"])
def test_without_initial_weights_the_row_says_so(paper, ending):
    value = value_of(f"{paper}-{ending}")
    assert value.status is Status.NEEDS
    assert value.why.startswith("needs --init")


def test_at_the_initial_weights_the_capacity_is_zero():
    assert value_of("bartlett2017-spec-l12-init", init=[A, B]).value == 0


def test_path_norms_are_those_with_biases_over_the_margin():
    logs = {1.0: math.log(8), 1.5: math.log(6), 2.0: math.log(5)}
    without = {1.0: math.log(7), 1.5: math.log(5), 2.0: math.log(4)}
    for name, expected in (("path-l1", 4), ("path-l1.5", 3), ("path-l2", 2.5)):
        value = value_of(name, gamma=2.0, path_norms_with_biases=logs, path_norms=without)
        assert value.value == pytest.approx(expected)
        assert value.ingredients["log_path_norm_without_biases"] == without[value.ingredients["p"]]


def test_a_path_norm_that_is_not_there_is_named():
    value = value_of("path-l2", path_norms_with_biases=Absent(Status.OUTSIDE, "does not apply: softmax"))
    assert value.status is Status.OUTSIDE
    assert value.why == "does not apply: softmax"
    assert value_of("path-l1.5", path_norms_with_biases={1.0: 0.0}).status is Status.OUTSIDE
