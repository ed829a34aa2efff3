"""Architecture files and .pt2 archives from strangers: refused with one sentence, nothing executed, nothing huge."""

import contextlib
import io
import json
import os
import pickle
import resource
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert.errors import CaptureError, DecodeError, InputError
from bitcert.network import capture, load_model
from bitcert.network.decode import decode_architecture
from tests.tools.counted import at_most


def small_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 3)
        )
    return net.eval(), torch.linspace(-1, 1, 4 * 81).reshape(4, 1, 9, 9)


LINES = 1_000_000
"""Far more than a refusal takes, far less than a hang."""
TEXT = capture(*small_network()).architecture.to_json()


def refused(text):
    with pytest.raises(DecodeError):
        decode_architecture(text)


def edited(change):
    document = json.loads(TEXT)
    change(document)
    return json.dumps(document)


def decodes_or_refuses(text):
    try:
        architecture = decode_architecture(text)
    except DecodeError:
        return
    # what is accepted must evaluate, at any batch size, one sample at a time
    parameters = {spec.name: torch.zeros(spec.shape) for spec in architecture.parameters}
    if architecture.num_parameters < 10**5 and sum(architecture.propagation.elements.values()) < 10**6:
        x = torch.zeros(2, *architecture.input_shape)
        if architecture.input_dtype == "float32":
            assert architecture.forward(x, parameters).shape == (2, architecture.num_outputs)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_bytes_are_decoded_or_refused(data):
    position = data.draw(st.integers(0, len(TEXT) - 1))
    replacement = data.draw(st.text(max_size=3))
    length = data.draw(st.integers(0, 4))
    decodes_or_refuses(TEXT[:position] + replacement + TEXT[position + length :])


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 12),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-2, 9), max_size=5),
    st.just({}),
)


def paths(value, prefix=()):
    yield prefix
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*prefix, key))


PATHS = [path for path in paths(json.loads(TEXT)) if path]


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(PATHS), VALUES)
def test_mutated_values_are_decoded_or_refused(path, value):
    document = json.loads(TEXT)
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    decodes_or_refuses(json.dumps(document))


@pytest.mark.parametrize("length", range(0, len(TEXT), 97))
def test_truncated_text_is_refused(length):
    refused(TEXT[:length])


NODES = {node["op"]: k for k, node in enumerate(json.loads(TEXT)["nodes"])}


def attribute(op, name, value):
    return lambda d: d["nodes"][NODES[op]]["attributes"].__setitem__(name, value)


CHANGES = {
    "zero stride": attribute("conv2d", "stride", [0, 1]),
    "zero kernel": attribute("max_pool2d", "kernel_size", [0, 0]),
    "zero groups": attribute("conv2d", "groups", 0),
    "boolean for integer": attribute("conv2d", "groups", True),
    "huge padding": attribute("conv2d", "padding", [2**26, 2**26]),
    "extra attribute": attribute("relu", "inplace", True),
    "unknown operation": lambda d: d["nodes"][1].__setitem__("op", "load"),
    "torch by name": lambda d: d["nodes"][1].__setitem__("op", "torch.load"),
    "cycle": lambda d: d["nodes"][0]["inputs"].__setitem__(0, d["nodes"][-1]["name"]),
    "repeated name": lambda d: d["nodes"][1].__setitem__("name", d["nodes"][0]["name"]),
    "name of the input": lambda d: d["nodes"][1].__setitem__("name", "input"),
    "missing input": lambda d: d["nodes"][1].__setitem__("inputs", []),
    "short bias": lambda d: d["parameters"][1].__setitem__("shape", [1]),
    "too many parameters": lambda d: d["parameters"][0].__setitem__("shape", [2**27, 2**27]),
    "unknown key": lambda d: d.__setitem__("comment", "hello"),
    "missing key": lambda d: d.pop("nodes"),
    "no nodes": lambda d: d.__setitem__("nodes", []),
    "wrong width": lambda d: d.__setitem__("num_outputs", 4),
    "scalar output": lambda d: d["nodes"].pop(),
    "unknown kind": lambda d: d["parameters"][0].__setitem__("kind", "code"),
    "evil name": lambda d: d["parameters"][0].__setitem__("name", "../../etc/passwd"),
    "other format": lambda d: d.__setitem__("format", "bitcert-architecture/2"),
    "fixed batch": lambda d: d["nodes"][NODES["reshape"]]["attributes"].__setitem__("shape", [3, 8]),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_each_change_is_refused(name):
    refused(edited(CHANGES[name]))


def graph(*nodes, shape=(4,), outputs=4):
    return json.dumps(
        {
            "format": "bitcert-architecture/1",
            "input_dtype": "float32",
            "input_shape": list(shape),
            "num_outputs": outputs,
            "parameters": [],
            "nodes": [{"name": f"n{k}", "op": o, "inputs": i, "attributes": a} for k, (o, i, a) in enumerate(nodes)],
        }
    )


TRANSPOSED = ("permute", ["input"], {"dims": [1, 0]})
MIXING = {
    "softmax over samples": [("softmax", ["input"], {"dim": 0})],
    "mean over samples": [
        ("mean", ["input"], {"dim": [0], "keepdim": True}),
        ("sub", ["input", "n0"], {}),
    ],
    "gram matrix": [TRANSPOSED, ("matmul", ["input", "n0"], {}), ("matmul", ["n1", "input"], {})],
    "transposed addition": [
        ("arange", [], {"start": 0, "end": 3, "step": 1}),
        ("to_float", ["n0"], {}),
        TRANSPOSED,
        ("add", ["n2", "n1"], {}),
        ("permute", ["n3"], {"dims": [1, 0]}),
    ],
    "torn reshape": [TRANSPOSED, ("reshape", ["n0"], {"shape": [-1, 4]})],
    "sample by position": [("slice", ["input"], {"dim": 0, "start": 0, "end": 3, "step": 1})],
    "samples in features": [
        ("reshape", ["input"], {"shape": [1, -1]}),
        ("softmax", ["n0"], {"dim": 1}),
        ("reshape", ["n1"], {"shape": [-1, 4]}),
    ],
}


@pytest.mark.parametrize("name", sorted(MIXING))
def test_networks_whose_samples_see_each_other_are_refused(name):
    refused(graph(*MIXING[name]))


def test_the_same_helper_accepts_a_network_without_mixing():
    text = graph(TRANSPOSED, ("permute", ["n0"], {"dims": [1, 0]}), ("softmax", ["n1"], {"dim": 1}))
    x = torch.eye(4)[:2]
    assert torch.equal(decode_architecture(text).forward(x, {}), x.softmax(1))


BOMBS = {
    "nested": "[" * 100_000,
    "nested objects": '{"a":' * 50_000,
    "quotes": '"' + '\\"' * 500_000,
    "long integer": '{"format": ' + "9" * 100_000 + "}",
    "large exponent": '{"format": 1e999999999}',
    "nan": TEXT.replace("1e-05", "NaN"),
    "duplicate": TEXT[:-1] + ',"num_outputs":3}',
    "oversized": '"' + "a" * (5 * 2**20) + '"',
    "surrogate": '"\ud800"',
    "expanding": graph(*[("cat", [f"n{k - 1}" if k else "input"] * 200, {"dim": 1}) for k in range(12)]),
    "expensive": graph(
        *[("reshape", ["input"], {"shape": [-1, 8192, 4096]}), ("reshape", ["input"], {"shape": [-1, 4096, 8192]})],
        *[("matmul", ["n0", "n1"], {})],
        shape=(2**25,),
    ),
    "arange": graph(("arange", [], {"start": 0, "end": 2**27, "step": 1})),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_are_refused_quickly_and_without_memory(name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most(LINES):
        refused(BOMBS[name])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    net, example = small_network()
    program = torch.export.export(net, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, path)
    return path


def rewritten(source, target, change, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(source) as old:
        entries = {name.partition("/")[2]: old.read(name) for name in old.namelist()}
    change(entries)
    with zipfile.ZipFile(target, "w", compression) as new:
        for name, data in entries.items():
            new.writestr(f"evil/{name}", data)
    return str(target)


def in_json(entry, change):
    def apply(entries):
        document = json.loads(entries[entry])
        change(document)
        entries[entry] = json.dumps(document).encode()

    return apply


MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


def test_a_good_archive_loads_and_replays(archive, tmp_path):
    net, example = small_network()
    for path in (str(archive), rewritten(archive, tmp_path / "copy.pt2", lambda entries: None)):
        network = capture(load_model(path).model, example)
        assert torch.allclose(network(example), net(example), atol=1e-6)


def pickled(trap):
    buffer = io.BytesIO()
    torch.save(Trap(trap), buffer)
    return buffer.getvalue()


def trap_weight(trap):
    def change(entries):
        entries["data/weights/weight_0"] = pickled(trap)
        in_json(WEIGHTS, lambda d: d["config"]["0.weight"].__setitem__("use_pickle", True))(entries)

    return change


def trap_constant(trap, name):
    meta = {"path_name": name, "is_param": False, "use_pickle": True, "tensor_meta": None}

    def change(entries):
        entries[f"data/constants/{name}"] = pickle.dumps(Trap(trap))
        in_json("data/constants/model_constants_config.json", lambda d: d["config"].__setitem__("c", meta))(entries)

    return change


def trap_graph(edit):
    return in_json(MODEL, lambda d: edit(d["graph_module"]["graph"], d))


def rename(trap):
    """A node name that would be Python source inside torch."""
    evil = f"relu = x\n    __import__('os').mkdir('{trap}')\n    y"

    def change(entries):
        entries[MODEL] = entries[MODEL].replace(b'"name": "relu"', b'"name": ' + json.dumps(evil).encode())

    return change


def expression(trap):
    code = f"__import__('os').mkdir('{trap}')"

    def edit(g, d):
        for value in g["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code

    return trap_graph(edit)


def guard(trap):
    return trap_graph(lambda g, d: d.__setitem__("guards_code", [f"__import__('os').mkdir('{trap}')"]))


TRAPS = {
    "pickled weight": trap_weight,
    "pickled constant": lambda trap: trap_constant(trap, "tensor_9"),
    "custom object": lambda trap: trap_constant(trap, "custom_obj_0"),
    "opaque object": lambda trap: trap_constant(trap, "opaque_obj_0"),
    "legacy weights": lambda trap: lambda e: (e.pop(WEIGHTS), e.__setitem__("data/weights/model.pt", pickled(trap))),
    "size expression": expression,
    "node name": rename,
}
NEUTRALISED = {
    "sample inputs": lambda trap: lambda e: e.__setitem__("data/sample_inputs/model.pt", pickled(trap)),
    "legacy weights beside": lambda trap: lambda e: e.__setitem__("data/weights/model.pt", pickled(trap)),
    "guards": guard,
}


@pytest.mark.parametrize("name", sorted(TRAPS))
def test_archives_that_would_run_code_are_refused(archive, tmp_path, name):
    trap = tmp_path / "trap"
    path = rewritten(archive, tmp_path / "evil.pt2", TRAPS[name](trap))
    with pytest.raises(InputError):
        load_model(path)
    assert not trap.exists()


@pytest.mark.parametrize("name", sorted(NEUTRALISED))
def test_optional_parts_that_would_run_code_are_dropped(archive, tmp_path, name):
    trap = tmp_path / "trap"
    path = rewritten(archive, tmp_path / "evil.pt2", NEUTRALISED[name](trap))
    capture(load_model(path).model, small_network()[1])
    assert not trap.exists()


def test_the_traps_work_on_torch_itself(archive, tmp_path):
    trap = tmp_path / "trap"
    path = rewritten(archive, tmp_path / "evil.pt2", trap_weight(trap))
    with pytest.raises(Exception):  # noqa: B017, PT011
        torch.export.load(path)
    assert trap.exists()


def set_target(name):
    return trap_graph(lambda g, d: g["nodes"][1].__setitem__("target", name))


@pytest.mark.parametrize("name", ["torch.load", "torch.ops.aten.from_file.default", "torch._utils.os.mkdir", "#evil:x"])
def test_foreign_operators_are_named(archive, tmp_path, name):
    path = rewritten(archive, tmp_path / "evil.pt2", set_target(name))
    with pytest.raises(CaptureError, match=name.replace(".", r"\.")):
        load_model(path)


def sizes(value):
    return in_json(WEIGHTS, lambda d: d["config"]["0.bias"]["tensor_meta"].__setitem__("sizes", [{"as_int": value}]))


def many_nodes(g, d):
    g["nodes"] = g["nodes"] * 4000


def many_sizes(g, d):
    """Sizes that all depend on the batch: each takes sympy more than a millisecond."""
    value = next(v for v in g["tensor_values"].values() if "as_expr" in v["sizes"][0])
    g["tensor_values"] |= {f"unread_{k}": value for k in range(17_000)}


def maximum(count):
    """The largest of some symbols: sympy compares them all with each other, again and again."""
    text = f"Max({', '.join(f's{k}' for k in range(count))})"

    def edit(g, d):
        for value in g["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = text

    return trap_graph(edit)


LONG = {
    "at most 16384 nodes": trap_graph(many_nodes),
    "at most 16384 sizes": trap_graph(many_sizes),
    "sums and products": maximum(60),
}
BROKEN = {
    "stride bomb": sizes(10**9),
    "negative size": sizes(-1),
    "library": lambda e: e.__setitem__("data/aotinductor/model/x.so", b"ELF"),
    "two models": lambda e: e.__setitem__("models/other.json", e[MODEL]),
    "no model": lambda e: e.pop(MODEL),
    "not JSON": lambda e: e.__setitem__(MODEL, b"{"),
    "missing record": lambda e: e.pop("data/weights/weight_0"),
    "empty graph": in_json(MODEL, lambda d: d["graph_module"].__setitem__("graph", [])),
    "backtracking": expression("-1" * 200 + "!"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_archives_are_refused(archive, tmp_path, name):
    evil = rewritten(archive, tmp_path / "evil.pt2", BROKEN[name])
    with at_most(LINES), pytest.raises(InputError):
        load_model(evil)


@pytest.mark.parametrize("says", sorted(LONG))
def test_graphs_that_take_torch_minutes_to_read_are_refused(archive, tmp_path, says):
    with pytest.raises(InputError, match=says):
        load_model(rewritten(archive, tmp_path / "evil.pt2", LONG[says]))


def test_compressed_entries_and_other_files_are_refused(archive, tmp_path):
    with pytest.raises(InputError, match=r"uncompressed|expands"):
        load_model(rewritten(archive, tmp_path / "zip.pt2", lambda e: None, zipfile.ZIP_DEFLATED))
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(InputError):
        load_model(str(tmp_path / "text.pt2"))
    with pytest.raises(InputError):
        load_model(str(tmp_path / "missing.pt2"))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_archives_with_changed_bytes_load_or_are_refused(archive, tmp_path_factory, data):
    good = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutant") / "m.pt2"
    path.write_bytes(bytes(good))
    with contextlib.suppress(InputError):
        capture(load_model(str(path)).model, small_network()[1])
