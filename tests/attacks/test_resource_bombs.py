"""Small files that ask for much memory or days of work: refused in one sentence before any of it is taken."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import json
import re
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Compressed, Helper, Original, Role, Sample, Status, WorkLimit, certify, verify
from bitcert.certificates.original import unlabelled_sample
from bitcert.certificates.reading import CannotCheckError
from bitcert.certificates.workload import MAX_OPERATIONS, counting_operations
from bitcert.decoder import network as quantised
from bitcert.errors import CaptureError, DecodeError
from bitcert.network import capture, load_model, operations_in_words
from bitcert.network.decode import decode_architecture
from bitcert.theory.ingredients.messages import open_messages

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
        decode_architecture(BOMBS[name])


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


# Days of work


@pytest.fixture(scope="module")
def costly(tmp_path_factory):
    """A true certificate of a network that takes long for its size, and its data."""
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(40, 2)).astype(np.float32)
    sample = Sample(inputs, (inputs[:, 0] > 0).astype(np.int64), 2, Role.TRAIN, "toy")
    repeated = nn.Sequential(*(nn.Sequential(nn.Linear(2, 300), nn.ReLU(), nn.Linear(300, 2)) for _ in range(4)))
    network = capture(repeated, torch.zeros(2, 2))
    helper = Helper.for_sample(sample, network.architecture)
    integers = {spec.name: np.zeros(spec.shape, np.int64) for spec in network.architecture.parameters}
    message, ledger = quantised.write(network.architecture, integers, dict.fromkeys(integers, 0))
    compressed = Compressed(message, ledger, helper)
    folder = tmp_path_factory.mktemp("costly")
    (folder / "message.bin").write_bytes(message)
    (folder / "architecture.json").write_text(network.architecture.to_json())
    (folder / "certificate.json").write_text(certify(compressed, sample).to_json())
    original = Original.of(network, helper.preprocessing, unlabelled_sample(sample.with_role(Role.UNLABELLED)))
    return folder / "certificate.json", sample, counting_operations(network.architecture, 40), original


def test_counting_beyond_the_limit_is_refused_before_it_begins(costly, monkeypatch):
    path, sample, operations, _ = costly
    announced = []
    assert verify(path, sample, limit=WorkLimit(operations, announced.append)).status is Status.VALID
    assert announced == [f"Plan: counting 40 examples takes {operations_in_words(operations)}."]

    def counted(*arguments):
        raise AssertionError("counted all the same")

    monkeypatch.setattr(importlib.import_module("bitcert.certificates.verification"), "count_losses", counted)
    outcome = verify(path, sample, limit=WorkLimit(operations - 1))
    assert outcome.status is Status.CANNOT_CHECK
    assert "allowed for files from elsewhere; allow them with --max-operations" in outcome.reason


def test_the_usual_limit_lets_a_day_of_work_pass(costly):
    path, sample, operations, _ = costly
    assert operations < MAX_OPERATIONS
    assert verify(path, sample).status is Status.VALID


def test_the_number_that_is_offered_allows_it(costly):
    """Its first digit, rounded up, and the same one for Python; ``None`` allows everything."""
    assert WorkLimit().most == MAX_OPERATIONS == 10**15
    _, _, operations, original = costly
    WorkLimit(None).admit(original.predictor, 10**15)
    with pytest.raises(CannotCheckError) as stop:
        WorkLimit(1).admit(original.predictor, 40)
    offered, python = re.search(r"--max-operations (\S+) \(in Python WorkLimit\((\d+)\)\)", str(stop.value)).groups()
    assert operations <= int(float(offered)) == int(python)
    assert set(python[1:]) == {"0"}
    WorkLimit(int(python)).admit(original.predictor, 40)


def test_the_original_network_is_limited_too(costly):
    _, _, operations, original = costly
    with pytest.raises(CannotCheckError, match="40 examples"):
        WorkLimit(operations - 1).admit(original.predictor, len(original.unlabelled))


def test_a_file_that_asks_for_days_is_refused_by_its_size_alone():
    """The largest network within the limits for one example, on the 60,000 of MNIST."""
    wide = ("matmul", ["n0", "n1"], {})
    shapes = [("reshape", ["input"], {"shape": [-1, a, b]}) for a, b in ((4096, 1024), (1024, 4096))]
    text = graph(summed(*shapes, wide, *(("mul", ["n2", "n2"], {}) for _ in range(20)), axes=[1, 2]), [1 << 22], 1)
    architecture = decode_architecture(text)
    assert len(text) < 3000
    with pytest.raises(CannotCheckError, match=r"60,000 examples .* 14 days .* --max-operations 3e\+16"):
        WorkLimit().admit(architecture, 60_000)


def test_certificates_that_lie_about_are_not_counted_beyond_the_limit(costly, monkeypatch):
    path, sample, operations, _ = costly
    opened, _ = open_messages((path,), sample)
    assert len(opened) == 1
    monkeypatch.setattr(WorkLimit, "__init__", functools.partialmethod(WorkLimit.__init__, operations - 1))
    opened, note = open_messages((path,), sample)
    assert opened == ()
    assert "allowed for files from elsewhere" in note
