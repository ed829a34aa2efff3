"""Worst-case growth through a graph: the printed recursion, exact factors of single nodes, soundness, refusals."""

import math

import pytest
import torch
from torch import nn

from bitcert.linear import LayerMap, operator_norm
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.theory.ingredients.lipschitz import lipschitz
from bitcert.theory.inputs import Lipschitz
from bitcert.theory.value import Absent, Status
from tests.reference import graph_naive as naive
from tests.unit.stability import nets
from tests.unit.theory import graphs

INSIDE = [name for name in nets.NAMES if name not in ("gelu", "tokens")]


def operators(architecture, parameters):
    values = architecture.propagation.values
    nodes = {node.name: node for node in architecture.nodes}
    return {
        layer.node: operator_norm(
            LayerMap.of(nodes[layer.node], parameters[layer.weight].double(), values[layer.source].shape[1:])
        ).value
        for layer in Structure.of(architecture).layers
    }


def growth(architecture, parameters, norms=None):
    structure = Structure.of(architecture)
    norms = operators(architecture, parameters) if norms is None else norms
    return lipschitz(architecture, parameters, structure, norms)


def test_a_chain_is_the_product_with_its_prefixes_and_suffixes():
    weights = [torch.diag(torch.tensor([2.0, 1.0])), torch.tensor([[0.0, 3.0]] * 2), torch.eye(2) * 0.5]
    found = growth(*graphs.chain(weights))
    norms = [2.0, 3 * math.sqrt(2), 0.5]
    logs = [math.log(v) for v in norms]
    assert found.log_total == pytest.approx(sum(logs), rel=1e-12)
    assert found.log_before == pytest.approx((0.0, logs[0], logs[0] + logs[1]), rel=1e-12)
    assert found.depth == 3
    assert found.double_skips is False


@pytest.mark.parametrize("skips", [(2, 3, 4), (3,), (2, 4)])
@pytest.mark.parametrize("bias", [False, True])
def test_double_skips_follow_the_printed_recursion(skips, bias):
    network = graphs.captured(graphs.DoubleSkips([5, 6, 4, 6, 3], skips, bias), 5)
    norms = operators(network.architecture, network.parameters)
    by_weight = {layer.weight: norms[layer.node] for layer in network.weight_layers}
    a = [by_weight[f"a.{i}.weight"] for i in range(1, 5)]
    b = [by_weight.get(f"b.{i}.weight") for i in range(1, 5)]
    found = growth(network.architecture, network.parameters)
    printed = naive.double_skip_lipschitz(a, b)
    assert math.exp(found.log_total) == pytest.approx(printed[-1], rel=1e-12)
    before = {layer.weight: log for layer, log in zip(network.weight_layers, found.log_before, strict=True)}
    for i in range(2, 5):
        assert math.exp(before[f"a.{i}.weight"]) == pytest.approx(printed[i - 2], rel=1e-12)
    assert found.double_skips is True
    assert found.depth == 4


class Skip(nn.Module):
    """A skip over some layers, added before or after the activation: the printed graph has two layers and before."""

    def __init__(self, length, after=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(length + 1))
        self.length, self.after = length, after

    def forward(self, x):
        y = self.layers[0](x)
        for layer in self.layers[1 : self.length]:
            y = layer(torch.relu(y))
        return (torch.relu(y) if self.after else y) + self.layers[-1](x)


def test_a_skip_over_two_layers_is_the_printed_one():
    network = graphs.captured(Skip(2), 4)
    assert growth(network.architecture, network.parameters).double_skips is True


@pytest.mark.parametrize(
    "module", [Skip(1), Skip(3), Skip(2, after=True), nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))]
)
def test_other_graphs_are_not_the_printed_one(module):
    network = graphs.captured(module, 4)
    assert growth(network.architecture, network.parameters).double_skips is False


def test_an_identity_shortcut_adds_one():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return x + torch.relu(self.inner(x))

    network = graphs.captured(nn.Sequential(Block(), Block()), 4)
    found = growth(network.architecture, network.parameters)
    a, b = operators(network.architecture, network.parameters).values()
    assert math.exp(found.log_total) == pytest.approx((1 + a) * (1 + b), rel=1e-12)
    assert [math.exp(v) for v in found.log_before] == pytest.approx([1.0, 1 + a], rel=1e-12)
    assert found.depth == 2
    assert found.double_skips is False


def test_a_layer_added_to_itself_counts_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3, bias=False)

        def forward(self, x):
            once = self.inner(x)
            return once + once

    network = graphs.captured(Twice(), 4)
    found = growth(network.architecture, network.parameters)
    (norm,) = operators(network.architecture, network.parameters).values()
    assert math.exp(found.log_total) == pytest.approx(2 * norm, rel=1e-12)
    assert found.double_skips is False


@pytest.mark.parametrize("name", INSIDE)
def test_no_change_of_a_network_grows_more(name):
    net = nets.build(name)
    found = growth(net.architecture, net.parameters)
    assert isinstance(found, Lipschitz)
    generator = torch.Generator().manual_seed(1)
    clean = Linearisation(net.architecture, net.parameters, net.x)
    structure = Structure.of(net.architecture)
    for size in (1e-3, 1.0, 30.0):
        other = net.x + size * torch.randn(net.x.shape, generator=generator, dtype=torch.float64)
        moved = {"input": other, **net.architecture.activations(other, net.parameters)}
        change = (other - net.x).flatten(1).norm(dim=1)
        pairs = [(net.architecture.output, found.log_total)]
        pairs += [(layer.source, log) for layer, log in zip(structure.layers, found.log_before, strict=True)]
        for node, log in pairs:
            grown = (moved[node] - clean.values[node]).flatten(1).norm(dim=1)
            assert bool((grown <= change * math.exp(log) * (1 + 1e-9)).all()), (node, size)


POOL = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil_mode": False}
WIDE = {"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "ceil_mode": False}
EXACT = {
    "mean": ("mean", (3, 4), {"dim": (2,), "keepdim": False}, (), 0.5),
    "mean of both": ("mean", (2, 8), {"dim": (1, 2), "keepdim": True}, (), 0.25),
    "sum": ("sum", (3, 4), {"dim": (1,), "keepdim": False}, (), math.sqrt(3)),
    "average pool": ("avg_pool2d", (2, 4, 4), {**POOL, "count_include_pad": True}, (), 0.5),
    "adaptive": ("adaptive_avg_pool2d", (2, 4, 6), {"output_size": (2, 2)}, (), math.sqrt(1 / 6)),
    "repeat": ("repeat", (3,), {"repeats": (1, 4)}, (), 2.0),
    "expand": ("expand", (1, 3), {"shape": (0, 9, 3)}, (), 3.0),
    "scalar": ("mul_scalar", (3,), {"value": -2.5}, (), 2.5),
    "divided": ("div_scalar", (3,), {"value": -0.5}, (), 2.0),
    "scale": ("affine_channel", (3,), {}, (torch.tensor([1.0, -4.0, 2.0]), torch.ones(3)), 4.0),
    "product": ("mul", (3,), {}, (torch.tensor([1.0, -4.0, 2.0]),), 4.0),
    "quotient": ("div", (3,), {}, (torch.tensor([1.0, -4.0, 0.5]),), 2.0),
    "matrix": ("matmul", (2,), {}, (torch.tensor([[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]]),), 5.0),
    "spread matrix": ("matmul", (1, 1, 2), {}, (torch.stack([torch.eye(2) * 3, torch.eye(2) * 4]),), 5.0),
    "pad": ("pad", (3,), {"padding": (1, 2), "value": 7.0}, (), 1.0),
    "slice": ("slice", (4,), {"dim": 1, "start": 1, "end": 3, "step": 1}, (), 1.0),
    "shift": ("add", (3,), {}, (torch.ones(3),), 1.0),
    "broadcast": ("add", (1,), {}, (torch.ones(4),), 2.0),
    "relu": ("relu", (3,), {}, (), 1.0),
    "largest": ("amax", (3, 4), {"dim": (2,), "keepdim": False}, (), 1.0),
}


@pytest.mark.parametrize("name", EXACT)
def test_factors_of_single_nodes_are_their_operator_norms(name):
    op, shape, attributes, constants, factor = EXACT[name]
    architecture, parameters = graphs.one_node(op, shape, attributes, constants)
    found = growth(architecture, parameters)
    assert math.exp(found.log_total) == pytest.approx(factor, rel=1e-12)
    x = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wide = {key: value.double() for key, value in parameters.items()}
    jacobian = torch.autograd.functional.jacobian(lambda v: architecture.forward(v, wide)[0], x)
    norm = float(torch.linalg.matrix_norm(jacobian.reshape(len(jacobian), -1), 2))
    assert norm == pytest.approx(factor, rel=1e-12) or (name == "relu" and norm <= 1)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("avg_pool2d", {**WIDE, "count_include_pad": True}),
        ("avg_pool2d", {**WIDE, "count_include_pad": False}),
        ("avg_pool2d", {**POOL, "kernel_size": (3, 2), "ceil_mode": True, "count_include_pad": False}),
        ("adaptive_avg_pool2d", {"output_size": (3, 4)}),
    ],
)
def test_average_pooling_with_shared_entries_is_bounded(op, attributes):
    architecture, parameters = graphs.one_node(op, (2, 5, 6), attributes)
    factor = math.exp(growth(architecture, parameters).log_total)
    x = torch.zeros(1, 2, 5, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: architecture.forward(v, {})[0], x)
    norm = float(torch.linalg.matrix_norm(jacobian.reshape(len(jacobian), -1), 2))
    assert norm <= factor * (1 + 1e-12) <= 1.5 * norm


@pytest.mark.parametrize(
    ("changes", "windows"),
    [
        ({}, 1),
        ({"kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1)}, 9),
        ({"kernel_size": (3, 3), "padding": (1, 1)}, 4),
        ({"kernel_size": (2, 1), "stride": (1, 1), "dilation": (2, 1)}, 2),
        ({"stride": (3, 3), "ceil_mode": True}, 1),
    ],
)
def test_max_pooling_reaches_the_square_root_of_its_windows(changes, windows):
    settings = {**POOL, "dilation": (1, 1), **changes}
    architecture, parameters = graphs.one_node("max_pool2d", (1, 6, 6), settings)
    assert growth(architecture, parameters).log_total == pytest.approx(math.log(windows) / 2, abs=1e-12)
    spikes = torch.eye(36).reshape(36, 1, 6, 6)
    seen = architecture.forward(spikes, {}).square().sum(1)
    assert int(seen.max()) == windows


def test_joined_values_add_as_squares_and_added_ones_as_numbers():
    class Join(nn.Module):
        def forward(self, x):
            return torch.cat([3 * x, torch.maximum(4 * x, -2 * x), x + x, x - 3 * x], 1)

    network = graphs.captured(Join(), 2)
    expected = math.sqrt(3**2 + (4**2 + 2**2) + 2**2 + 4**2)
    found = lipschitz(network.architecture, network.parameters, Structure.of(network.architecture), {})
    assert math.exp(found.log_total) == pytest.approx(expected, rel=1e-12)


class Weighted(nn.Module):
    """A weight that is computed from a direction and a gain."""

    def __init__(self):
        super().__init__()
        self.direction, self.gain = nn.Parameter(torch.eye(3)), nn.Parameter(torch.tensor(5.0))

    def forward(self, x):
        return nn.functional.linear(x, self.direction * self.gain)


def test_a_computed_weight_is_a_constant():
    network = graphs.captured(Weighted(), 3)
    found = lipschitz(network.architecture, network.parameters, Structure.of(network.architecture), {})
    assert math.exp(found.log_total) == pytest.approx(5.0, rel=1e-12)
    assert found.depth == 1


@pytest.mark.parametrize("name", ["windows", "signal", "strided"])
def test_norms_that_are_not_given_are_computed(name):
    net = nets.build(name)
    given = growth(net.architecture, net.parameters)
    assert growth(net.architecture, net.parameters, {}).log_total == pytest.approx(given.log_total, rel=1e-6)


def test_given_norms_are_used():
    net = nets.build("mlp")
    norms = operators(net.architecture, net.parameters)
    found, first = growth(net.architecture, net.parameters, norms), next(iter(norms))
    doubled = growth(net.architecture, net.parameters, {**norms, first: 2 * norms[first]})
    assert doubled.log_total - found.log_total == pytest.approx(math.log(2), rel=1e-12)


class Product(nn.Module):
    def forward(self, x):
        return x * torch.relu(x)


class Exponential(nn.Module):
    def forward(self, x):
        return torch.exp(x)


class Square(nn.Module):
    def forward(self, x):
        return x**2


class Inverse(nn.Module):
    def forward(self, x):
        return 1 / (x * x + 1)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (nn.Softmax(1), "softmax"),
        (nn.LogSoftmax(1), "softmax"),
        (nn.LayerNorm(4), "norm over features"),
        (nn.GELU(), "slopes above 1"),
        (nn.SiLU(), "slopes above 1"),
        (nn.LeakyReLU(1.5), "slopes above 1"),
        (nn.LeakyReLU(-1.5), "slopes above 1"),
        (nn.PReLU(init=-2.0), "slopes above 1"),
        (nn.ELU(1.5), "slopes above 1"),
        (Product(), "values that vary"),
        (Inverse(), "values that vary"),
        (Exponential(), "no limit"),
        (Square(), "no limit"),
    ],
)
def test_what_is_neither_linear_nor_1_lipschitz_is_refused_with_the_reason(part, reason):
    network = graphs.captured(nn.Sequential(nn.Linear(4, 4), part), 4)
    if isinstance(part, nn.PReLU):
        network.parameters["1.weight"].fill_(-2.0)
    found = growth(network.architecture, network.parameters)
    assert isinstance(found, Absent)
    assert found.status is Status.OUTSIDE
    assert found.why.startswith("does not apply: ")
    assert reason in found.why


@pytest.mark.parametrize("part", [nn.LeakyReLU(-1.0), nn.PReLU(), nn.ELU(), nn.Tanh(), nn.ReLU6(), nn.Softplus()])
def test_activations_of_slope_at_most_one_change_nothing(part):
    network = graphs.captured(nn.Sequential(nn.Linear(4, 4), part), 4)
    (norm,) = operators(network.architecture, network.parameters).values()
    assert growth(network.architecture, network.parameters).log_total == pytest.approx(math.log(norm), rel=1e-12)


def test_tokens_are_refused_in_one_sentence():
    tokens = torch.tensor([[0, 1, 2], [3, 4, 5]])
    net = nets.from_module(nets.Words(), tokens)
    found = growth(net.architecture, net.parameters, {})
    assert isinstance(found, Absent)
    assert "tokens" in found.why
    assert "\n" not in found.why


def test_sixty_layers_of_a_huge_norm_stay_finite_and_a_layer_of_zeros_is_minus_infinity():
    weights = [torch.eye(2) * 1e30] * 60
    found = growth(*graphs.chain(weights))
    assert found.log_total == pytest.approx(60 * math.log(1e30), rel=1e-7)
    assert found.depth == 60
    weights[30] = torch.zeros(2, 2)
    found = growth(*graphs.chain(weights))
    assert found.log_total == -math.inf
    assert math.isfinite(found.log_before[30])
    assert not any(math.isnan(v) for v in found.log_before)
