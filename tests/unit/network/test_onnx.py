"""ONNX files: the captured network equals onnxruntime, and nothing in a file crashes or leaves its folder."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, external_data_helper, helper, numpy_helper  # noqa: E402

from bitcert.errors import BitcertError, CaptureError, InputError  # noqa: E402
from bitcert.network import capture, load_model  # noqa: E402
from bitcert.network.decode import decode_architecture  # noqa: E402
from tests.unit.network import onnx_models as models  # noqa: E402


def expected_of(path: Path, x: np.ndarray) -> np.ndarray:
    session = runtime.InferenceSession(str(path))
    (first,) = session.get_inputs()
    parts = [x[k : k + 1] for k in range(len(x))] if isinstance(first.shape[0], int) else [x]
    return np.concatenate([session.run(["y"], {first.name: part})[0] for part in parts])


@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_equal_to_onnxruntime(name, tmp_path):
    path = models.write(name, tmp_path)
    network = capture(load_model(str(path)).model, torch.from_numpy(models.inputs_of(name, 4)))
    x = models.inputs_of(name, 9, seed=2)
    expected = expected_of(path, x)
    found = network(torch.from_numpy(x)).numpy().reshape(expected.shape)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    assert decode_architecture(network.architecture.to_json()) == network.architecture


def test_matrices_become_linear_layers(tmp_path):
    path = models.write("batch norm", tmp_path)
    network = capture(load_model(str(path)).model, torch.from_numpy(models.inputs_of("batch norm", 3)))
    assert [layer.op for layer in network.weight_layers] == ["conv2d", "linear"]
    assert len(network.report.folded) == 1


def saved(model, tmp_path, name="model.onnx"):
    path = tmp_path / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return str(path)


def with_external(tmp_path, **entries):
    """A model whose matrix lies in ``weights.bin`` beside it."""
    model = models.build([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": models.floats(4, 3)}, ["N", 4], 13)
    tensor = model.graph.initializer[0]
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    external_data_helper.set_external_data(tensor, "weights.bin")
    tensor.ClearField("raw_data")
    for entry in tensor.external_data:
        entry.value = entries.get(entry.key, entry.value)
    present = {entry.key for entry in tensor.external_data}
    for key, value in entries.items():
        if key not in present:
            tensor.external_data.add(key=key, value=value)
    return saved(model, tmp_path)


def test_weights_beside_the_file(tmp_path):
    path = with_external(tmp_path)
    network = capture(load_model(path).model, torch.ones(2, 4))
    assert network.num_parameters == 12
    assert np.allclose(network(torch.eye(4)).numpy(), expected_of(Path(path), np.eye(4, dtype=np.float32)))


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "../weights.bin"},
        {"location": "/etc/passwd"},
        {"location": "link.bin"},
        {"location": ""},
        {"location": "absent.bin"},
        {"offset": "-8"},
        {"offset": "40"},
        {"length": "4000000000"},
        {"offset": "nine"},
    ],
    ids=str,
)
def test_weights_elsewhere_are_refused(tmp_path, entries):
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(InputError) as caught:
        load_model(with_external(folder, **entries))
    assert "\n" not in str(caught.value)


def huge_tensor():
    model = models.oldest()
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [1 << 40, 1 << 20]
    return model


def wrong_size():
    model = models.oldest()
    model.graph.initializer[0].dims[:] = [16, 4]
    return model


def huge_result(op, shape):
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    return models.build(nodes, {"s": models.whole(*shape)}, ["N", 4], 13)


def no_plain_operator(op, domain=""):
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    return models.build([node], {}, ["N", 4], 13)


def branch():
    inner = helper.make_graph([], "inner", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    return models.build([node], {"c": np.array(True)}, ["N", 4], 13)


def texts():
    tensor = helper.make_tensor("w", TensorProto.STRING, [1], [b"x"])
    model = models.build([helper.make_node("Add", ["x", "w"], ["y"])], {}, ["N", 4], 13)
    model.graph.initializer.append(tensor)
    return model


def two_inputs():
    model = models.build([helper.make_node("Add", ["x", "z"], ["y"])], {}, ["N", 4], 13)
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4]))
    return model


HOSTILE = {
    "huge tensor": (huge_tensor, "at most"),
    "more entries than stored": (wrong_size, "consistent"),
    "huge result": (lambda: huge_result("ConstantOfShape", (1 << 26, 1 << 26)), "entries|sizes"),
    "below nothing": (lambda: huge_result("ConstantOfShape", (-5, 3)), "sizes"),
    "unknown operators": (lambda: no_plain_operator("NonMaxSuppression"), "NonMaxSuppression"),
    "custom operators": (lambda: no_plain_operator("Run", "evil.domain"), "custom operators"),
    "branches": (branch, "sub-graphs"),
    "texts": (texts, "numbers in"),
    "two inputs": (two_inputs, "one input"),
    "future": (lambda: models.build([helper.make_node("Relu", ["x"], ["y"])], {}, ["N", 4], 999), "operator set"),
    "past": (lambda: models.build([helper.make_node("Relu", ["x"], ["y"])], {}, ["N", 4], 3), "operator set"),
    "no file of onnx": (lambda: b"PK\x03\x04 something else", "an .onnx file|output|operator set"),
    "nothing": (lambda: b"", "operator set"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_files_are_refused_in_one_sentence(name, tmp_path):
    make, words = HOSTILE[name]
    with pytest.raises((InputError, CaptureError), match=words) as caught:
        capture(load_model(saved(make(), tmp_path)).model, torch.ones(2, 4))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_damaged_files_never_crash(tmp_path):
    content, generator = models.computed_shape().SerializeToString(), np.random.default_rng(3)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(int(generator.integers(1, 6))):
            damaged[int(generator.integers(len(damaged)))] = int(generator.integers(256))
        if generator.random() < 0.3:
            damaged = damaged[: int(generator.integers(len(damaged)))]
        with contextlib.suppress(BitcertError):
            load_model(saved(bytes(damaged), tmp_path))


def test_a_bias_is_a_parameter_and_a_constant_is_not(tmp_path):
    path = models.write("halves", tmp_path)
    network = capture(load_model(str(path)).model, torch.from_numpy(models.inputs_of("halves", 3)))
    assert network.num_parameters == 10 + 1
    assert any(node.op == "mul_scalar" and node.attributes["value"] == 0.5 for node in network.architecture.nodes)
    assert numpy_helper.to_array(models.halves().graph.initializer[0]).dtype == np.float16
