"""Path norms: every path of small chains, the collections' replay, overflow, conventions, refusals."""

import itertools
import math

import pytest
import torch
from torch import nn

from bitcert.network import Architecture, Node, ParameterSpec
from bitcert.theory.ingredients.path_norms import EXPONENTS, path_norms
from bitcert.theory.value import Absent, Status
from tests.reference import graph_naive as naive
from tests.unit.stability import nets
from tests.unit.theory import graphs

INSIDE = [name for name in nets.NAMES if name not in ("gelu", "tokens")]


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def of(module, *shape, with_biases=False):
    network = graphs.captured(module, *shape)
    return path_norms(network.architecture, network.parameters, with_biases)


def test_by_hand():
    weights = [torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([[-1.0, 4.0]] * 2)]
    found = path_norms(*graphs.chain(weights), False)
    # paths to each of the two equal outputs: 1*1, 2*1, 3*4, 0*4
    assert {p: math.exp(v) for p, v in found.items()} == pytest.approx(
        {
            1.0: 2 * (1 + 2 + 12),
            1.5: (2 * (1 + 2**1.5 + 12**1.5)) ** (1 / 1.5),
            2.0: math.sqrt(2 * (1 + 4 + 144)),
        },
        rel=1e-12,
    )


@pytest.mark.parametrize("with_biases", [False, True])
def test_equal_to_the_sum_over_every_path(with_biases):
    widths = [3, 4, 2, 3]
    weights = [normal(o, i, seed=k) for k, (i, o) in enumerate(itertools.pairwise(widths))]
    biases = [normal(o, seed=10 + o) for o in widths[1:]]
    found = path_norms(*graphs.chain(weights, biases), with_biases)
    matrices = [w.numpy() for w in weights]
    for p in EXPONENTS:
        expected = naive.path_norm_of_chain(matrices, [b.numpy() for b in biases] if with_biases else None, p)
        assert math.exp(found[p]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", INSIDE)
def test_equal_to_the_replay_of_the_collections(name):
    net = nets.build(name)
    found = path_norms(net.architecture, net.parameters, True)
    without = path_norms(net.architecture, net.parameters, False)
    zeros = {
        key: torch.zeros_like(value) if "bias" in key or "shift" in key else value
        for key, value in net.parameters.items()
    }
    for p in EXPONENTS:
        assert math.exp(found[p]) == pytest.approx(
            naive.path_norm_by_replay(net.architecture, net.parameters, p), rel=1e-9
        )
        assert math.exp(without[p]) == pytest.approx(naive.path_norm_by_replay(net.architecture, zeros, p), rel=1e-9)
        assert without[p] <= found[p]


def odds():
    """Shifts, scales, constant blocks, pads and comparisons, none of them a weight layer."""
    parameters = {
        "scale": torch.tensor([2.0, -3.0]),
        "token": torch.tensor([[-4.0]]),
        "mix": torch.tensor([[1.0, -1.0], [2.0, 0.5], [0.0, 1.0], [3.0, 1.0], [1.0, 1.0]]),
    }
    nodes = (
        Node("scaled", "mul", ("input", "scale")),
        Node("relu", "relu", ("scaled",)),
        Node("half", "mul_scalar", ("input",), {"value": -0.5}),
        Node("quarter", "div_scalar", ("half",), {"value": 2.0}),
        Node("less", "sub", ("relu", "quarter")),
        Node("shifted", "add_scalar", ("less",), {"value": -1.5}),
        Node("largest", "maximum", ("shifted", "input")),
        Node("spread", "expand", ("token",), {"shape": (0, 1)}),
        Node("joined", "cat", ("largest", "spread"), {"dim": 1}),
        Node("padded", "pad", ("joined",), {"padding": (1, 1), "value": -0.25}),
        Node("out", "matmul", ("padded", "mix")),
    )
    specs = tuple(ParameterSpec(name, tuple(value.shape), "weight") for name, value in parameters.items())
    return Architecture((2,), 2, nodes, specs), parameters


def test_other_nodes_by_hand():
    architecture, parameters = odds()
    for p in EXPONENTS:
        for with_biases in (False, True):
            bias = 1.5 if with_biases else 0.0
            scaled = [2.0**p + 0.25 + bias, 3.0**p + 0.25 + bias]
            edge, token = (0.25, 4.0**p) if with_biases else (0.0, 0.0)
            rows = [edge, max(scaled[0], 1.0), max(scaled[1], 1.0), token, edge]
            mix = [[1.0, 1.0], [2.0**p, 0.5**p], [0.0, 1.0], [3.0**p, 1.0], [1.0, 1.0]]
            expected = sum(row * sum(weights) for row, weights in zip(rows, mix, strict=True))
            found = path_norms(architecture, parameters, with_biases)
            assert p * found[p] == pytest.approx(math.log(expected), rel=1e-12)


def test_rescaled_layers_leave_it_unchanged_and_scaling_one_scales_it():
    weights = [normal(4, 3, seed=1), normal(5, 4, seed=2), normal(2, 5, seed=3)]
    found = path_norms(*graphs.chain(weights), False)
    moved = path_norms(*graphs.chain([weights[0] * 7, weights[1] / 7, weights[2]]), False)
    scaled = path_norms(*graphs.chain([weights[0], weights[1], weights[2] * 7]), False)
    for p in EXPONENTS:
        assert moved[p] == pytest.approx(found[p], rel=1e-12)
        assert scaled[p] - found[p] == pytest.approx(math.log(7), rel=1e-12)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_sixty_layers_neither_overflow_nor_vanish(size):
    weights = [torch.full((2, 2), size, dtype=torch.float64)] * 60
    biases = [torch.ones(2, dtype=torch.float64)] * 60
    found = path_norms(*graphs.chain(weights), False)
    for p in EXPONENTS:
        assert found[p] == pytest.approx(60 * math.log(size) + 61 * math.log(2) / p, rel=1e-12)
    with_biases = path_norms(*graphs.chain(weights, biases), True)
    if size < 1:  # the last bias is all that is left
        assert with_biases[2.0] == pytest.approx(math.log(2) / 2, rel=1e-9)
    assert all(math.isfinite(value) for value in with_biases.values())


def test_a_layer_of_zeros_leaves_no_path():
    weights = [torch.ones(2, 2), torch.zeros(2, 2), torch.ones(2, 2)]
    assert path_norms(*graphs.chain(weights), False) == dict.fromkeys(EXPONENTS, -math.inf)
    biases = [torch.ones(2)] * 3
    assert path_norms(*graphs.chain(weights, biases), True)[1.0] == pytest.approx(math.log(2 * (2 + 1)), rel=1e-9)


def test_a_factor_of_zero_in_the_code_leaves_no_path():
    class Nothing(nn.Module):
        def forward(self, x):
            return torch.cat([0.0 * x, 0.0 * x + 0.0 * x], 1)

    assert of(nn.Sequential(nn.Linear(3, 2), Nothing()), 3, with_biases=True) == dict.fromkeys(EXPONENTS, -math.inf)


def test_a_branch_of_nothing_adds_nothing():
    class Branch(nn.Module):
        def forward(self, x):
            return torch.cat([x + 0.0 * x, 0.0 * x], 1)

    plain = of(nn.Sequential(nn.Linear(3, 2)), 3, with_biases=True)
    assert of(nn.Sequential(nn.Linear(3, 2), Branch()), 3, with_biases=True) == pytest.approx(plain, rel=1e-12)


def test_a_divisor_is_a_weight_turned_over():
    architecture, parameters = graphs.one_node("div", (2,), {}, (torch.tensor([-4.0, 0.5]),))
    for p, value in path_norms(architecture, parameters, False).items():
        assert math.exp(p * value) == pytest.approx(0.25**p + 2.0**p, rel=1e-12)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (nn.Tanh(), "identity"),
        (nn.GELU(), "identity"),
        (nn.ReLU6(), "identity"),
        (nn.LeakyReLU(1.5), "slope"),
        (nn.Softmax(1), "no sum"),
        (nn.LayerNorm(4), "no sum"),
    ],
)
def test_what_is_no_sum_of_paths_is_refused_with_the_reason(part, reason):
    found = of(nn.Sequential(nn.Linear(4, 4), part, nn.Linear(4, 4)), 4)
    assert isinstance(found, Absent)
    assert found.status is Status.OUTSIDE
    assert found.why.startswith("does not apply: ")
    assert reason in found.why


def test_products_and_tokens_are_refused():
    net = nets.build("tokens")
    found = path_norms(net.architecture, net.parameters, True)
    assert isinstance(found, Absent)
    assert "product" in found.why
    words = nets.from_module(nets.Words(), torch.tensor([[0, 1, 2], [3, 4, 5]]))
    found = path_norms(words.architecture, words.parameters, True)
    assert isinstance(found, Absent)
    assert "tokens" in found.why


@pytest.mark.parametrize("part", [nn.ReLU(), nn.LeakyReLU(0.3), nn.PReLU(), nn.ELU()])
def test_activations_that_are_the_identity_on_non_negative_values_drop_out(part):
    plain = of(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False)), 4)
    assert of(nn.Sequential(nn.Linear(4, 4, bias=False), part, nn.Linear(4, 3, bias=False)), 4) == pytest.approx(
        plain, rel=1e-12
    )
