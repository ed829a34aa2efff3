"""Zhang 2020: values worked out by hand, errata printed and corrected, scale laws, conditions and refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.stability import Reduced
from bitcert.stability.hypotheses import structural_hypotheses
from bitcert.stability.layers import Structure
from bitcert.theory.ingredients.lipschitz import lipschitz
from bitcert.theory.inputs import Lipschitz, MessageFacts
from bitcert.theory.papers import zhang2020
from bitcert.theory.value import Absent, Condition, Kind, Status
from tests.reference import graph_naive as naive
from tests.unit.theory import graphs, hand

TWO = [np.diag([3.0, 4.0]), np.diag([2.0, 1.0])]
"""Norms: ||A||_2 = 4, ||A||_F^2 = 25; ||B||_2 = 2, ||B||_F^2 = 5."""

SAMPLES_ROWS = (zhang2020.theorem_5_1, zhang2020.theorem_5_7, zhang2020.theorem_6_1)
SMOOTH = Condition("rho_delta >= 3 d", True, "by hand")


def whole(matrices=TWO, **changes):
    """Inputs of a network that meets every hypothesis."""
    return hand.inputs(matrices, **{"smoothness": SMOOTH, "measured_samples": 4, **changes})


# Theorem 2.4


def test_2_4_corrected_and_printed():
    inputs = whole(num_parameters=8, sample=hand.sample((-1.0, 0.5, 1.0, 2.0)), delta=0.1)
    found = zhang2020.theorem_2_4(inputs)
    nats = 8 * 32 * math.log(2)
    assert found.value == pytest.approx(0.25 + math.sqrt((nats + math.log(10)) / 8), rel=1e-11)
    assert math.exp(found.log_printed) == pytest.approx(0.25 + math.sqrt(math.log(10) * nats / 8), rel=1e-12)
    assert found.status is Status.HOLDS
    assert zhang2020.theorem_2_4.kind is Kind.GUARANTEE


def test_2_4_printed_is_too_small_for_a_class_that_it_should_cover():
    # one of N fair coins among N = |A| hypotheses: the printed form is below the union bound for delta near 1
    inputs = whole(num_parameters=8, sample=hand.sample((0.5, 1.0, 1.0, 2.0)), delta=0.9)
    found = zhang2020.theorem_2_4(inputs)
    assert found.log_printed < found.log
    nats = 8 * 32 * math.log(2)
    union_bound = lambda tau: nats - 2 * tau**2 * 4  # noqa: E731  ln of |A| exp(-2 tau^2 m)
    assert union_bound(found.value) == pytest.approx(math.log(0.9), rel=1e-6)
    assert union_bound(math.exp(found.log_printed)) > 0


def messages(*facts):
    return tuple(MessageFacts(f"m{k}", *fact) for k, fact in enumerate(facts))


def test_2_4_of_a_message_takes_the_margin_its_deviation_needs():
    # needed: min(2 * 0.3, sqrt(2) * 0.4) = 0.5657 > 0.5, so two of four margins do not exceed it
    inputs = whole(sample=hand.sample((0.2, 0.5, 1.0, 2.0)), messages=messages((100, 1, 0.3, 0.4)))
    found = zhang2020.theorem_2_4_message(inputs)
    penalty = math.sqrt((100 * math.log(2) + math.log(20)) / 8)
    assert found.value == pytest.approx(0.5 + penalty, rel=1e-11)
    assert found.ingredients["threshold"] == pytest.approx(math.sqrt(2) * 0.4)
    # printed: margins at most 0.3, product of the logarithms
    printed = 0.25 + math.sqrt(math.log(20) * 100 * math.log(2) / 8)
    assert math.exp(found.log_printed) == pytest.approx(printed, rel=1e-12)


def test_2_4_of_a_message_never_counts_fewer_errors_than_the_message_makes():
    inputs = whole(sample=hand.sample((0.2, 0.5, 1.0, 2.0)), messages=messages((100, 3, 0.0, 0.0)))
    assert zhang2020.theorem_2_4_message(inputs).ingredients["margin_loss"] == 0.75


def test_2_4_takes_the_best_message_at_its_share_of_delta():
    found = messages((10_000, 0, 0.0, 0.0), (90, 0, 0.1, 0.1), (1, 4, math.inf, math.inf))
    row = zhang2020.theorem_2_4_message(whole(messages=found, sample=hand.sample([1.0] * 400)))
    assert row.ingredients["message"] == "m1"
    # messages of different helpers: each gets a third of delta
    assert row.value == pytest.approx(math.sqrt((90 * math.log(2) + math.log(60)) / 800), rel=1e-11)
    assert row.status is Status.HOLDS


def test_2_4_a_message_without_finite_outputs_counts_as_all_wrong():
    row = zhang2020.theorem_2_4_message(whole(messages=messages((1, 4, math.inf, math.inf))))
    assert row.value > 1
    assert math.exp(row.log_printed) > 1


def test_2_4_without_a_message_says_what_it_needs():
    found = zhang2020.theorem_2_4_message(whole())
    assert found.status is Status.NEEDS
    assert found.why.startswith("needs --certificates")


@pytest.mark.parametrize("row", [zhang2020.theorem_2_4, zhang2020.theorem_2_4_message])
def test_2_4_is_monotone(row):
    def value(**changes):
        settings = {"messages": messages((100, 0, 0.1, 0.1)), **changes}
        return row(whole(**settings)).log

    assert value(delta=0.01) > value(delta=0.1)
    assert value(sample=hand.sample([1.0] * 40)) < value(sample=hand.sample([1.0] * 20))


# Theorem 3.2


def separator(margins=(0.6, 1.0, 2.0, 4.0), **changes):
    # c = (3, 4) / 2 has length 2.5, the largest input 3
    own = hand.layer([[0.0, 0.0], [3.0, 4.0]], stability=hand.stability())
    inputs = whole([[[0.0, 0.0], [3.0, 4.0]]], **{"gamma": 0.5, "sample": hand.sample(margins), **changes})
    plain = Condition("activations 1-Lipschitz", True, "there are no activations")
    return replace(inputs, layers=(own,), structure={**inputs.structure, plain.name: plain})


def test_3_2_by_hand():
    gamma = 0.5 / (2 * 2.5 * 3)
    found = zhang2020.theorem_3_2(separator())
    assert found.value == pytest.approx((gamma**2 * 4) ** (-1 / 3), rel=1e-12)
    assert zhang2020.theorem_3_2_sqrt(separator()).value == pytest.approx((gamma**2 * 4) ** -0.5, rel=1e-12)
    assert found.ingredients["gamma_normalised"] == pytest.approx(gamma)
    assert found.status is Status.HOLDS
    assert zhang2020.theorem_3_2.kind is Kind.MEASURE


def test_3_2_adds_the_examples_below_the_margin():
    below = separator((0.2, 0.5, 1.0, 2.0))
    assert zhang2020.theorem_3_2(below).value - zhang2020.theorem_3_2(separator()).value == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e6])
def test_3_2_does_not_change_with_the_scale_of_the_separator(scale):
    margins = [scale * v for v in (0.6, 1.0, 2.0, 4.0)]
    inputs = separator(margins, gamma=0.5 * scale)
    rows = [[0.0, 0.0], [3.0 * scale, 4.0 * scale]]
    scaled = replace(inputs, layers=(hand.layer(rows, stability=hand.stability()),))
    for row in (zhang2020.theorem_3_2, zhang2020.theorem_3_2_sqrt):
        assert row(scaled).log == pytest.approx(row(separator()).log, rel=1e-9)


def test_3_2_rates():
    wide = [10.0] * 64
    for row, power in ((zhang2020.theorem_3_2, 2 / 3), (zhang2020.theorem_3_2_sqrt, 1.0)):
        one, two = row(separator(wide)), row(separator(wide, gamma=1.0))
        assert one.log - two.log == pytest.approx(power * math.log(2), rel=1e-9)
        more = row(separator([10.0] * 512))
        assert one.log - more.log == pytest.approx(power / 2 * math.log(8), rel=1e-9)


@pytest.mark.parametrize("row", [zhang2020.theorem_3_2, zhang2020.theorem_3_2_sqrt])
def test_3_2_is_for_linear_separators_only(row):
    for inputs in (
        whole(),
        whole([np.ones((3, 2))]),
        whole([np.ones((2, 5))]),  # five inputs of a sample that has two
        replace(separator(), layers=(hand.layer(np.ones((2, 2)), op="conv1d", positions=3),)),
        replace(separator(), layers=(hand.layer(np.ones((2, 2))),)),  # both outputs equal
    ):
        found = row(inputs)
        assert found.status is Status.OUTSIDE
        assert found.log is None
        assert found.why.startswith("does not apply: ")


def test_3_2_does_not_know_of_an_activation_after_the_layer():
    inputs = separator()
    condition = Condition("activations 1-Lipschitz", True, "1 activations")
    found = zhang2020.theorem_3_2(replace(inputs, structure={**inputs.structure, condition.name: condition}))
    assert found.status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("module", "status"),
    [(nn.Linear(2, 2, bias=False), Status.HOLDS), (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), Status.FAILS)],
)
def test_3_2_reads_the_words_of_a_captured_graph(module, status):
    network = graphs.captured(module, 2)
    architecture = network.architecture
    found = structural_hypotheses(architecture, network.parameters, Structure.of(architecture))
    conditions = {h.name: Condition(h.name, h.holds, h.detail) for h in found}
    row = zhang2020.theorem_3_2(replace(separator(), structure=conditions))
    assert row.status is status
    assert {c.name: c.holds for c in row.conditions} == {
        "bias-free": status is Status.HOLDS,
        "no activation after the layer": True if status is Status.HOLDS else None,
    }


# Theorem 5.1


def test_5_1_by_hand():
    # h d^2 max||x||^2 (4 * 2)^2 (25/16 + 5/4) / gamma^2
    found = zhang2020.theorem_5_1(whole(gamma=2.0))
    expected = 2 * 4 * 9 * 64 * (25 / 16 + 5 / 4) / 4
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert [math.exp(layer.log) for layer in found.layers] == pytest.approx([1800.0, 1440.0], rel=1e-12)
    assert [layer.actual for layer in found.layers] == [4, 4]
    assert found.status is Status.HOLDS


def test_5_1_erratum_3_printed_is_smaller_by_the_largest_input():
    found = zhang2020.theorem_5_1(whole())
    assert math.exp(found.log - found.log_printed) == pytest.approx(3.0, rel=1e-12)
    # units: inputs twice as large with a first layer half as large are the same network, which print does not see
    other = whole([TWO[0] / 2, TWO[1]], sample=hand.sample(largest_input=6.0))
    again = zhang2020.theorem_5_1(other)
    assert again.log == pytest.approx(found.log, rel=1e-12)
    assert again.log_printed != pytest.approx(found.log_printed, rel=1e-6)


def test_5_1_needs_layers_that_are_not_zero():
    found = zhang2020.theorem_5_1(whole([np.zeros((2, 2)), TWO[1]]))
    assert found.status is Status.OUTSIDE
    assert "layer1" in found.why


# Theorem 5.7


def test_5_7_by_hand():
    # c^2 d^2 max||f||^2 / gamma^2 * 2 / (0.5^2 0.25^2)
    found = zhang2020.theorem_5_7(whole(gamma=2.0))
    assert found.value == pytest.approx(4 * 4 * 25 / 4 * 2 * 64, rel=1e-12)
    assert found.status is Status.HOLDS


def test_5_7_erratum_2_printed_has_every_definition_of_the_paper():
    """Contraction inverted (1/2 for 2), cushions the largest of the sample: 0.75 and 0.5 for 0.5 and 0.25."""
    found = zhang2020.theorem_5_7(whole())
    assert math.exp(found.log - found.log_printed) == pytest.approx(2.0**4, rel=1e-12)
    larger = replace(hand.stability(), largest_cushion=0.75, largest_minimal_cushion=0.5)
    made = replace(whole(), layers=tuple(replace(layer, stability=larger) for layer in whole().layers))
    other = zhang2020.theorem_5_7(made)
    assert other.log == pytest.approx(found.log)
    assert math.exp(other.log_printed) == pytest.approx(0.5**2 * 2**2 * 5**2 * 2 / (0.75 * 0.5) ** 2, rel=1e-12)
    assert other.ingredients["largest_layer_cushions"] == (0.75, 0.75)
    unknown = replace(larger, largest_minimal_cushion=None)
    made = replace(whole(), layers=tuple(replace(layer, stability=unknown) for layer in whole().layers))
    assert zhang2020.theorem_5_7(made).log_printed is None


def test_5_7_needs_a_profile_and_dense_layers():
    bare = whole()
    bare = replace(bare, layers=tuple(replace(layer, stability=hand.layer([[1.0]]).stability) for layer in bare.layers))
    found = zhang2020.theorem_5_7(bare)
    assert found.status is Status.NEEDS
    assert "profile" in found.why
    convolution = replace(whole(), layers=(replace(whole().layers[0], op="conv2d", positions=4), whole().layers[1]))
    assert zhang2020.theorem_5_7(convolution).status is Status.OUTSIDE
    dead = hand.stability(cushion=0.0)
    found = zhang2020.theorem_5_7(replace(bare, layers=tuple(replace(layer, stability=dead) for layer in bare.layers)))
    assert found.status is Status.OUTSIDE
    assert "layer cushion of layer1 is 0" in found.why


def test_5_7_without_smoothness_is_unknown():
    inputs = hand.inputs(TWO, measured_samples=4)
    assert zhang2020.theorem_5_7(inputs).status is Status.UNKNOWN
    failed = Condition("rho_delta >= 3 d", False, "by hand")
    assert zhang2020.theorem_5_7(whole(smoothness=failed)).status is Status.FAILS


# Theorem 6.1


def residual(widths=(5, 6, 4, 6, 3), skips=(2, 3, 4), **changes):
    """Inputs of Zhang's residual network and the norms in the printed order."""
    network = graphs.captured(graphs.DoubleSkips(list(widths), list(skips)), widths[0])
    structure = Structure.of(network.architecture)
    layers = tuple(hand.layer(network.parameters[own.weight].numpy(), own.weight) for own in structure.layers)
    norms = {own.node: layer.norms.operator for own, layer in zip(structure.layers, layers, strict=True)}
    growth = lipschitz(network.architecture, network.parameters, structure, norms)
    inputs = whole([layer.matrix() for layer in layers], **changes)
    return replace(inputs, layers=layers, lipschitz=growth), {layer.name: layer.norms for layer in layers}


@pytest.mark.parametrize("skips", [(2, 3, 4), (3,)])
def test_6_1_is_the_printed_formula_on_double_skips(skips):
    inputs, norms = residual(skips=skips, gamma=0.7)
    a = [norms[f"a.{i}.weight"] for i in range(1, 5)]
    b = [norms.get(f"b.{i}.weight") for i in range(1, 5)]
    growth = naive.double_skip_lipschitz([n.operator for n in a], [n and n.operator for n in b])[-1]
    ranks = sum((n.frobenius / n.operator) ** 2 for n in [*a, *filter(None, b)])
    h, d, x = 6, 4, 3.0
    found = zhang2020.theorem_6_1(inputs)
    assert found.value == pytest.approx(h * d**2 * x**2 * growth**2 * ranks / 0.7**2, rel=1e-9)
    assert math.exp(found.log_printed) == pytest.approx(h * d**2 * x * growth**2 * ranks / 0.7**2, rel=1e-9)
    assert found.ingredients["d"] == 4
    assert found.status is Status.HOLDS


def test_6_1_of_a_chain_is_5_1():
    inputs = whole([*TWO, np.eye(2)])
    assert zhang2020.theorem_6_1(inputs).log == pytest.approx(zhang2020.theorem_5_1(inputs).log, rel=1e-12)
    assert zhang2020.theorem_6_1(inputs).log_printed is None


def test_6_1_error_of_cut_layers_is_within_gamma():
    """The claim behind the count: singular values below ``t ||A||`` may go, and no output moves by more than gamma."""
    inputs, _ = residual()
    network = graphs.captured(graphs.DoubleSkips([5, 6, 4, 6, 3], [2, 3, 4]), 5)
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    radius, d = float(x.norm(dim=1).max()), inputs.lipschitz.depth
    for gamma in (0.3, 1.0, 3.0):
        threshold = gamma / (math.e * d * radius * math.exp(inputs.lipschitz.log_total))
        cut = {}
        for name, weight in network.parameters.items():
            u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
            # the worst that is allowed: every singular value moved by the whole threshold
            cut[name] = u @ torch.diag(s - threshold * s[0]) @ v
        wide = {name: weight.double() for name, weight in network.parameters.items()}
        moved = network.architecture.forward(x, cut) - network.architecture.forward(x, wide)
        assert 0 < float(moved.norm(dim=1).max()) <= gamma


def test_6_1_counts_the_windows_of_a_convolution():
    inputs = whole()
    wide = replace(inputs, layers=tuple(replace(layer, window=9) for layer in inputs.layers))
    difference = zhang2020.theorem_6_1(wide).log - zhang2020.theorem_6_1(inputs).log
    assert difference == pytest.approx(math.log(9), rel=1e-12)


def test_6_1_without_a_recursion_says_why():
    why = "does not apply: the Lipschitz recursion is for other nodes"
    found = zhang2020.theorem_6_1(whole(lipschitz=Absent(Status.OUTSIDE, why)))
    assert found.status is Status.OUTSIDE
    assert found.why == why


def test_6_1_a_layer_of_zeros_on_a_branch_costs_nothing_and_one_on_every_path_is_refused():
    inputs = whole([*TWO, np.zeros((2, 2))], lipschitz=Lipschitz(1.0, (0.0,) * 3, depth=2))
    found = zhang2020.theorem_6_1(inputs)
    assert found.layers[2].log == -math.inf
    assert math.isfinite(found.log)
    blocked = zhang2020.theorem_6_1(whole([TWO[0], np.zeros((2, 2))]))
    assert blocked.status is Status.OUTSIDE
    assert "layer2" in blocked.why


def test_6_1_biases_and_other_parameters_fail_its_conditions():
    for name in ("bias-free", "every weight layer measured"):
        inputs = whole()
        broken = Condition(name, False, "by hand")
        found = zhang2020.theorem_6_1(replace(inputs, structure={**inputs.structure, name: broken}))
        assert found.status is Status.FAILS
        assert name in found.why
    name = "positively homogeneous apart from biases"
    broken = Condition(name, False, "not: t (tanh)")
    found = zhang2020.theorem_6_1(replace(inputs, structure={**inputs.structure, name: broken}))
    assert found.status is Status.UNKNOWN


# What they share


@pytest.mark.parametrize("row", SAMPLES_ROWS)
def test_twice_the_margin_is_a_quarter_of_the_capacity(row):
    assert row(whole(gamma=0.5)).log - row(whole(gamma=1.0)).log == pytest.approx(2 * math.log(2), rel=1e-12)


@pytest.mark.parametrize("row", SAMPLES_ROWS)
def test_rescaled_layers_leave_it_unchanged(row):
    moved = whole([TWO[0] * 1e8, TWO[1] / 1e8])
    assert row(moved).log == pytest.approx(row(whole()).log, rel=1e-9)


@pytest.mark.parametrize("row", SAMPLES_ROWS)
def test_scaled_outputs_with_scaled_margins_leave_it_unchanged(row):
    scaled = whole([TWO[0], TWO[1] * 50], gamma=50.0, sample=hand.sample(largest_output=250.0))
    assert row(scaled).log == pytest.approx(row(whole()).log, rel=1e-9)


@pytest.mark.parametrize("row", SAMPLES_ROWS)
def test_sixty_layers_of_a_huge_norm_give_a_finite_value(row):
    found = row(whole([np.eye(2) * 1e30] * 60))
    assert math.isfinite(found.log)
    assert all(math.isfinite(layer.log) for layer in found.layers)
    if row is not zhang2020.theorem_5_7:
        assert found.value is None
        assert found.log == pytest.approx(120 * math.log(1e30), rel=0.01)


@pytest.mark.parametrize("row", SAMPLES_ROWS)
def test_the_layers_add_up(row):
    found = row(whole())
    assert math.fsum(math.exp(layer.log) for layer in found.layers) == pytest.approx(found.value, rel=1e-9)


def test_inputs_of_zeros_are_refused():
    inputs = whole(sample=hand.sample(largest_input=0.0))
    for row in (zhang2020.theorem_5_1, zhang2020.theorem_6_1):
        assert row(inputs).status is Status.OUTSIDE
    assert zhang2020.theorem_3_2(separator(sample=hand.sample(largest_input=0.0))).status is Status.OUTSIDE


def test_outliers_do_not_enter_the_worst_value():
    stable = hand.stability()
    lighter = replace(stable, cushion=Reduced(stable.cushion.worst, 0.9))
    inputs = whole()
    other = replace(inputs, layers=tuple(replace(layer, stability=lighter) for layer in inputs.layers))
    assert zhang2020.theorem_5_7(other).log == zhang2020.theorem_5_7(inputs).log
