"""Small files that ask for much memory or days of work: refused in one sentence before any of it is taken."""

from __future__ import annotations

import contextlib
import copy
import json
import resource
import zipfile
from pathlib import Path

import pytest
import torch

from bitcert.errors import CaptureError, DecodeError
from bitcert.network import Architecture, capture, load_model

ROOM = 400 << 20
"""Bytes of address space that a refusal may take beyond what the process has."""


@contextlib.contextmanager
def little_memory():
    """No more than :data:`ROOM` bytes can be taken; whoever asks for more gets an error of the allocator."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def graph(nodes, shape, outputs):
    """An architecture file without parameters: nodes are ``(operation, inputs, attributes)`` named n0, n1, ..."""
    return json.dumps(
        {
            "format": "bitcert-architecture/1",
            "input_dtype": "float32",
            "input_shape": shape,
            "num_outputs": outputs,
            "parameters": [],
            "nodes": [{"name": f"n{k}", "op": o, "inputs": i, "attributes": a} for k, (o, i, a) in enumerate(nodes)],
        },
        separators=(",", ":"),
    )


def summed(*nodes, axes):
    """The nodes, and the sum of the last one over these axes as the single output of a sample."""
    last = f"n{len(nodes) - 1}"
    total = ("sum", [last], {"dim": axes, "keepdim": False})
    return [*nodes, total, ("reshape", [f"n{len(nodes)}"], {"shape": [-1, 1]})]


ATTENTION = {"is_causal": False, "scale": None}
WIDE, TALL = [-1, 1, 1024, 1024], [-1, 1024, 1024, 1]
BOMBS = {
    # 48,000 numbers, 2.3 billion scores
    "attention": graph(
        summed(("reshape", ["input"], {"shape": [-1, 48000, 1]}), ("attention", ["n0"] * 3, ATTENTION), axes=[1, 2]),
        [48000],
        1,
    ),
    # each of a thousand columns is multiplied by its own copy of one matrix
    "spread product": graph(
        summed(
            ("reshape", ["input"], {"shape": WIDE}),
            ("reshape", ["input"], {"shape": TALL}),
            ("matmul", ["n0", "n1"], {}),
            axes=[1, 2, 3],
        ),
        [1 << 20],
        1,
    ),
    # every value is small enough, and all of them are needed at the end
    "all alive": graph(
        [
            *(("add_scalar", ["input"], {"value": float(k)}) for k in range(80)),
            *(("sum", [f"n{k}"], {"dim": [1], "keepdim": True}) for k in range(80)),
        ],
        [1 << 23],
        1,
    ),
    # eight bytes an entry
    "ranges": graph(
        [
            *(("arange", [], {"start": k, "end": (1 << 26) + k, "step": 1}) for k in range(5)),
            *(("select", [f"n{k}"], {"dim": 0, "index": 0}) for k in range(5)),
            ("mul_scalar", ["input"], {"value": 1.0}),
        ],
        [1],
        1,
    ),
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_an_architecture_that_takes_too_much_memory_is_refused(name):
    with little_memory(), pytest.raises(DecodeError, match=r"entries of memory per sample"):
        Architecture.from_json(BOMBS[name])


def test_the_bombs_are_small():
    assert len(BOMBS["attention"]) < 550


class Repeating(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(x.repeat(1, 2))


def changed(tmp_path, change):
    """An exported program whose graph was changed afterwards."""
    program = torch.export.export(
        Repeating().eval(), (torch.zeros(3, 4),), dynamic_shapes=({0: torch.export.Dim.AUTO},)
    )
    torch.export.save(program, tmp_path / "good.pt2")
    with zipfile.ZipFile(tmp_path / "good.pt2") as old, zipfile.ZipFile(tmp_path / "bomb.pt2", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                document = json.loads(content)
                change(document["graph_module"]["graph"])
                content = json.dumps(document).encode()
            new.writestr(name, content)
    return str(tmp_path / "bomb.pt2")


def more(graph, times):
    node = next(node for node in graph["nodes"] if node["target"].endswith("repeat.default"))
    node["inputs"][1]["arg"]["as_ints"] = [1, times]
    return node


def unused(graph, times):
    """The same again under another name, which nothing reads."""
    node = copy.deepcopy(more(graph, 2))
    node["inputs"][1]["arg"]["as_ints"] = [1, times]
    node["name"] = node["outputs"][0]["as_tensor"]["name"] = "unread"
    graph["tensor_values"]["unread"] = graph["tensor_values"]["repeat"]
    graph["nodes"].insert(1, node)


def test_an_exported_program_does_not_run_before_its_sizes_are_known(tmp_path):
    """It was run on the example first: gigabytes for a file of kilobytes."""
    model = load_model(changed(tmp_path, lambda graph: more(graph, 1 << 26))).model
    with little_memory(), pytest.raises(CaptureError, match="fits the limits"):
        capture(model, torch.zeros(3, 4))


def test_what_the_output_does_not_depend_on_is_never_run(tmp_path):
    model = load_model(changed(tmp_path, lambda graph: unused(graph, 1 << 28))).model
    with little_memory():
        network = capture(model, torch.zeros(3, 4))
    assert [node.op for node in network.architecture.nodes] == ["repeat", "linear"]


def test_a_program_for_other_inputs_is_refused_in_its_own_words(tmp_path):
    model = load_model(changed(tmp_path, lambda graph: None)).model
    with pytest.raises(CaptureError, match=r"inputs \[4\] of torch.float32, which .* got \[5\] of torch.float32"):
        capture(model, torch.zeros(3, 5))
    with pytest.raises(CaptureError, match=r"got \[4\] of torch.int64"):
        capture(model, torch.zeros(3, 4, dtype=torch.int64))
