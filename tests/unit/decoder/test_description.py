"""The description of a helper: a code that can be read back, blind to names and to nothing else."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.coding import BitReader
from bitcert.coding.adaptive import Reader
from bitcert.data import Column, Schema, Table
from bitcert.decoder import Helper, HelperWeights, Preprocessing
from bitcert.decoder.description import (
    MAX_CODED_BYTES,
    SplitClaim,
    _code_problem,
    _code_sources,
    _code_split,
    _written,
    architecture_bits,
    code_architecture,
    code_preprocessing,
    code_schema,
    helper_contents,
    helper_ledger,
    read_architecture,
)
from bitcert.network import Architecture, OpaqueModel, capture
from bitcert.network.nodes import Node, ParameterSpec


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


SCHEMAS = [
    Schema(label="y"),
    Schema((), "y", ("no", "yes")),
    Schema((Column("c", categories=("KS", "OH", "é")), Column("a", use=False), Column("b", missing=True)), "y"),
    Schema((Column("b"), Column("a", True, True, ("",))), "d", ("a", "b", "c")),
]
NAMES = ("a", "b", "c", "d", "y")


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_comes_back_from_its_bits(schema):
    bits = _written(lambda coder: code_schema(coder, NAMES, schema))
    reader = Reader(BitReader(np.packbits(bits).tobytes()))
    assert code_schema(reader, NAMES) == schema
    reader.finish()
    sections = dict(helper_ledger(Helper((4,), 2, table=Table(schema, NAMES))).sections)
    assert sections["schema"] == 1 + len(bits)
    assert "schema" not in dict(helper_ledger(Helper((4,), 2)).sections)


def test_whatever_a_schema_declares_is_paid_for():
    """Another label, order, flag, category or class has other bits, and many declarations have many."""
    written = {_written(lambda coder, s=s: code_schema(coder, NAMES, s)).tobytes() for s in SCHEMAS}
    assert len(written) == len(SCHEMAS)
    rng = np.random.default_rng(3)
    columns = tuple(Column(f"c{k:03}", use=bool(use)) for k, use in enumerate(rng.integers(0, 2, 200)))
    names = ("y", *(column.name for column in columns))
    assert len(_written(lambda coder: code_schema(coder, names, Schema(columns, "y")))) > 200
    texts = tuple(f"{word:x}" for word in rng.integers(0, 2**62, 40))
    few, many = (Schema((Column("a", categories=texts[:k]),), "y") for k in (20, 40))
    bits = [dict(helper_ledger(Helper((4,), 2, table=Table(s, NAMES))).sections)["schema"] for s in (few, many)]
    assert bits[0] > 20 * 60
    assert bits[1] > bits[0] + 20 * 60


def test_long_texts_of_a_schema_are_charged_eight_bits_a_byte(monkeypatch):
    schema = Schema((Column("a", categories=tuple(f"category {k}" for k in range(500))),), "y", ("no", "yes"))
    total = sum(len(text) for text in (*schema.columns[0].categories, "no", "yes"))
    helper = Helper((4,), 2, table=Table(schema, NAMES))
    assert 8 * total < dict(helper_ledger(helper).sections)["schema"] < 8 * total + 12 * 502 + 100


def odd_architectures():
    """The networks above, then shared parameters, inputs of another shape's meaning, tuples of all lengths."""
    yield from NETWORKS
    specs = (ParameterSpec("a", (4, 4), "weight"), ParameterSpec("b", (4,), "bias"), ParameterSpec("c", (4,), "buffer"))
    linear = [Node(f"l{k}", "linear", (f"l{k - 1}" if k else "input", "a", "b")) for k in range(3)]
    yield Architecture((4,), 4, (*linear, Node("sum", "add", ("l2", "l0")), Node("all", "add", ("sum", "c"))), specs)
    permuted = Node("p", "permute", ("input",), {"dims": (0, 5, 4, 3, 2, 1)})
    yield Architecture(
        (1, 2, 3, 4, 5), 5, (permuted, Node("m", "amax", ("p",), {"dim": (2, 3, 4, 5), "keepdim": False})), ()
    )


ODD = list(odd_architectures())
SOURCES = {"b": b"import a\n" * 3, "a": b"\x00\xff"}
PARTS = [
    lambda coder: code_preprocessing(coder, Preprocessing(255.0, (0.4914, 0.4822), (0.247, 0.2435))),
    lambda coder: code_preprocessing(coder, Preprocessing()),
    lambda coder: _code_problem(coder, Helper((4,), 10)),
    lambda coder: _code_problem(coder, Helper((4,), 10, classes_inferred=True)),
    lambda coder: _code_problem(coder, Helper((4,), 4, predictor=NETWORKS[3])),
    lambda coder: _code_split(coder, SplitClaim(0.29, 7)),
    lambda coder: _code_sources(coder, "own:make", SOURCES),
]
FROZEN_ARCHITECTURES = [
    (390, "4a83cbdeea9a"),
    (196, "42a404b8de4a"),
    (185, "eb0f6ff679b0"),
    (30, "2f9eef3d80fa"),
    (116, "57bbc1c62515"),
    (98, "d50ec505d366"),
]
FROZEN_PARTS = [
    (127, "39a2208cc0c8"),
    (7, "c3641f8544d7"),
    (12, "28a3d6d537e5"),
    (5, "76be8b528d00"),
    (10, "6b672b9a7e4f"),
    (23, "148c91508c7e"),
    (250, "37b01ec1855f"),
]


# A certificate states the bits of its helper's description: they stay the same for ever


def frozen(bits):
    return len(bits), hashlib.sha256(np.packbits(bits).tobytes()).hexdigest()[:12]


@pytest.mark.parametrize(("index", "expected"), list(enumerate(FROZEN_ARCHITECTURES)))
def test_the_bits_of_an_architecture_are_frozen(index, expected):
    assert frozen(architecture_bits(ODD[index])) == expected


@pytest.mark.parametrize(("index", "expected"), list(enumerate(FROZEN_PARTS)))
def test_the_bits_of_the_other_parts_are_frozen(index, expected):
    assert frozen(_written(PARTS[index])) == expected


@pytest.mark.parametrize("architecture", ODD, ids=range(len(ODD)))
def test_shared_parameters_and_long_attributes_come_back(architecture):
    content = np.packbits(architecture_bits(architecture)).tobytes()
    assert read_architecture(content, architecture.input_shape) == renamed(architecture)


def test_an_input_other_than_the_datas_is_described():
    """The network that is given was captured for other images than those it is described for."""
    network = NETWORKS[2]
    bits = _written(lambda coder: code_architecture(coder, (1, 28, 28), network))
    assert len(bits) > len(architecture_bits(network))
    assert read_architecture(np.packbits(bits).tobytes(), (1, 28, 28)) == renamed(network)


def test_long_source_code_costs_eight_bits_a_byte():
    specs = (ParameterSpec("w", (3, 4), "weight"),)
    for size, whole in [(MAX_CODED_BYTES, False), (MAX_CODED_BYTES + 1, True)]:
        texts = [b"m:make", b"m", b"x" * (size - 7)]
        opaque = OpaqueModel(nn.Linear(4, 3), "m:make", specs, 3, (4,), sources={"m": texts[2]})
        bits = dict(helper_ledger(Helper((4,), 3, Preprocessing(), opaque)).sections)["code"]
        if whole:
            lengths = len(_written(lambda coder, texts=texts: [coder.integer("length", len(t)) for t in texts]))
            assert bits == 17 + 8 * size + lengths + 2, "that it is written out; one file, and none after it"
        else:
            assert bits < size


def test_what_a_helper_consists_of_in_words():
    statistics = Preprocessing(255.0, (0.5, 0.5), (0.2, 0.3))
    network = capture(nn.Linear(4, 3), torch.rand(2, 4))
    weights = HelperWeights.of(network.architecture, network.parameters)
    told = helper_contents(Helper((4,), 3, statistics, network.architecture, weights=weights))
    assert told == (
        "inputs 4, 3 classes, scale 255, 4 means and deviations, an architecture of 1 operations and 2 tensors with 0 "
        "integers and 0 constants (0 unusual) among its settings, 15 helper weights"
    )
    odd = Helper((1, 2, 3, 4, 5), 5, predictor=ODD[5])
    assert "2 operations and 0 tensors with 10 integers and 0 constants" in helper_contents(odd)
    clamp = Architecture((4,), 4, (Node("a", "clamp", ("input",), {"min": 0.3, "max": 1.0}),), ())
    assert "0 integers and 2 constants (1 unusual)" in helper_contents(Helper((4,), 4, predictor=clamp))
    specs = (ParameterSpec("w", (3, 4), "weight"),)
    opaque = OpaqueModel(nn.Linear(4, 3), "m:make", specs, 3, (4,))
    assert helper_contents(Helper((4,), 3, Preprocessing(), opaque)) == (
        "inputs 4, 3 classes, scale 1, the network's Python code and 1 tensor shapes"
    )
    assert helper_contents(Helper((4,), 2, table=Table(SCHEMAS[0], NAMES))).endswith("2 classes, scale 1, label 'y'")
    told = helper_contents(Helper((4,), 2, table=Table(SCHEMAS[2], NAMES)))
    assert told.endswith("label 'y', 3 declared columns, 3 categories")
    told = helper_contents(Helper((4,), 2, table=Table(Schema((Column("a", False),), "y", ("n", "o")), NAMES)))
    assert told.endswith("label 'y', 1 declared column, 2 class names")
    assert helper_contents(Helper((4,), 3, classes_inferred=True)) == (
        "inputs 4, classes coded in the message, scale 1"
    )
