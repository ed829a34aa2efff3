"""The description of a helper: a code that can be read back, blind to names and to nothing else."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.helper import Helper, HelperWeights, Preprocessing
from bitcert.helper.description import (
    MAX_CODED_BYTES,
    SplitClaim,
    architecture_bits,
    helper_contents,
    helper_ledger,
    read_architecture,
)
from bitcert.network import Architecture, OpaqueModel, capture
from bitcert.network.architecture import Node, ParameterSpec


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.second = nn.Conv2d(8, 8, 3, 1, 1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = x + nn.functional.leaky_relu(self.norm(self.second(x)), 0.07)
        return self.head(torch.cat([x.mean((2, 3))[:, :4], x.amax((2, 3))[:, 4:]], 1) * 0.5)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.norm, self.head = nn.Embedding(50, 16), nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        y = self.norm(self.table(x))
        return self.head(nn.functional.scaled_dot_product_attention(y, y, y).mean(1))


def networks():
    image = torch.rand(2, 3, 16, 16)
    yield capture(Residual().eval(), image).architecture
    yield capture(Tokens().eval(), torch.randint(0, 50, (2, 7))).architecture
    layers = [nn.Flatten(), nn.Linear(768, 32), nn.GELU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)]
    yield capture(nn.Sequential(*layers), image).architecture
    yield Architecture((4,), 4, (Node("a", "clamp", ("input",), {"min": None, "max": 1.0}),), ())


NETWORKS = list(networks())


def renamed(architecture, change=lambda name: name):
    """The same graph with other names for nodes and parameters."""
    names = {spec.name: change(f"p{k}") for k, spec in enumerate(architecture.parameters)}
    names |= {node.name: change(f"n{k}") for k, node in enumerate(architecture.nodes)} | {"input": "input"}
    nodes = [Node(names[n.name], n.op, tuple(names[i] for i in n.inputs), n.attributes) for n in architecture.nodes]
    specs = [replace(spec, name=names[spec.name]) for spec in architecture.parameters]
    return replace(architecture, nodes=tuple(nodes), parameters=tuple(specs))


@pytest.mark.parametrize("architecture", NETWORKS, ids=range(len(NETWORKS)))
def test_an_architecture_comes_back_from_its_bits_with_canonical_names(architecture):
    content = np.packbits(architecture_bits(architecture)).tobytes()
    assert read_architecture(content, architecture.input_shape) == renamed(architecture)


@pytest.mark.parametrize("architecture", NETWORKS, ids=range(len(NETWORKS)))
def test_names_change_no_bit(architecture):
    bits = architecture_bits(architecture)
    assert np.array_equal(bits, architecture_bits(renamed(architecture, lambda name: f"x.{name}.y")))


def changes(architecture):
    """Graphs that differ in one number, one operation, one shape or one wire, as far as they can be evaluated."""
    nodes = architecture.nodes
    for k, node in enumerate(nodes):
        for name, value in node.attributes.items():
            if type(value) is int:
                others = [value + 1]
            elif isinstance(value, float):
                others = [value * 2, -value, value + 1e-9]
            elif isinstance(value, tuple):
                others = [(*value[:j], item + 1, *value[j + 1 :]) for j, item in enumerate(value)]
            else:
                others = [not value] if isinstance(value, bool) else [0.25]
            for other in others:
                changed = Node(node.name, node.op, node.inputs, {**node.attributes, name: other})
                yield (*nodes[:k], changed, *nodes[k + 1 :]), architecture.parameters
        for op in ("relu", "tanh", "sigmoid"):
            if len(node.inputs) == 1 and op != node.op:
                yield (*nodes[:k], Node(node.name, op, node.inputs), *nodes[k + 1 :]), architecture.parameters
        for earlier in ("input", *(n.name for n in nodes[:k])):
            if node.inputs and earlier != node.inputs[0]:
                changed = Node(node.name, node.op, (earlier, *node.inputs[1:]), node.attributes)
                yield (*nodes[:k], changed, *nodes[k + 1 :]), architecture.parameters
    for k, spec in enumerate(architecture.parameters):
        for kind in ("weight", "bias", "buffer"):
            if kind != spec.kind:
                specs = list(architecture.parameters)
                specs[k] = replace(spec, kind=kind)
                yield nodes, tuple(specs)
    if len(architecture.parameters) > 1:
        yield nodes, architecture.parameters[::-1]


@pytest.mark.parametrize("architecture", NETWORKS, ids=range(len(NETWORKS)))
def test_whatever_changes_the_network_changes_the_bits(architecture):
    own, seen = architecture_bits(architecture).tobytes(), 0
    for nodes, parameters in changes(architecture):
        try:
            other = replace(architecture, nodes=nodes, parameters=parameters)
        except ValueError:
            continue
        seen += 1
        assert architecture_bits(other).tobytes() != own
    assert seen >= 3


def test_integers_that_could_carry_weights_are_paid_for():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 16, 200)
    nodes = [Node(f"w{k}", "arange", (), {"start": int(v), "end": int(v) + 1, "step": 1}) for k, v in enumerate(values)]
    carrier = Architecture((3,), 3, (*nodes, Node("out", "relu", ("input",))), ())
    assert len(architecture_bits(carrier)) > 200 * 16


def test_customary_constants_that_repeat_are_paid_for():
    rng = np.random.default_rng(1)
    nodes, last = [], "input"
    for k, value in enumerate(rng.choice([0.5, 2.0, 20.0], 300)):
        nodes.append(Node(f"n{k}", "mul_scalar", (last,), {"value": float(value)}))
        last = f"n{k}"
    helper = Helper((3,), 3, Preprocessing(), Architecture((3,), 3, tuple(nodes), ()))
    assert helper.num_constants == 0, "none of them is unusual"
    assert dict(helper_ledger(helper).sections)["architecture"] > 300 * math.log2(3)
    assert "300 constants (0 unusual)" in helper_contents(helper)


def test_a_tuned_scale_is_paid_for():
    usual, tuned = (helper_ledger(Helper((8,), 3, Preprocessing(scale))).total_bits for scale in (255.0, 0.0371829461))
    assert tuned > usual + 20


def test_weights_code_and_split_have_sections_of_their_own():
    network = capture(nn.Linear(4, 3), torch.rand(2, 4))
    weights = HelperWeights.of(network.architecture, network.parameters)
    helper = Helper((4,), 3, Preprocessing(), network.architecture, weights=weights)
    sections = dict(helper_ledger(helper, SplitClaim(0.5, 7)).sections)
    assert sections["helper weights"] == 32 * 15
    assert sections["prior split"] > dict(helper_ledger(helper, SplitClaim(0.5, 0)).sections)["prior split"]
    source = b"import torch\n\n\ndef make():\n    return torch.nn.Linear(4, 3)\n" * 4
    specs = (ParameterSpec("w", (3, 4), "weight"),)
    opaque = OpaqueModel(nn.Linear(4, 3), "m:make", specs, 3, (4,), sources={"m": source})
    coded = dict(helper_ledger(Helper((4,), 3, Preprocessing(), opaque)).sections)["code"]
    assert len(source) < coded < 8 * len(source)
    noise = np.random.default_rng(0).bytes(MAX_CODED_BYTES + 1)
    long = replace(opaque, sources={"m": noise})
    assert dict(helper_ledger(Helper((4,), 3, Preprocessing(), long)).sections)["code"] >= 8 * len(noise)
