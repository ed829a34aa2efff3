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


N = helper.make_node
MAP, SEQUENCE, ROW = ["N", 2, 5, 4], ["N", 4, 4], ["N", 4]
DOUBLED, UP = {"s": np.array([1, 1, 2, 2], np.float32)}, {"s": np.array([1, 1, 1.3, 1.7], np.float32)}


def resize(**attributes):
    return [N("Resize", ["x", "", "s"], ["y"], **attributes)]


OTHER_FUNCTIONS = {
    "division with remainder": ([N("Mod", ["x", "a"], ["y"], fmod=1)], {"a": models.floats(4)}, ROW),
    "nearest above": (resize(nearest_mode="ceil", coordinate_transformation_mode="asymmetric"), DOUBLED, MAP),
    "nearest, ties up": (
        resize(nearest_mode="round_prefer_ceil", coordinate_transformation_mode="asymmetric"),
        DOUBLED,
        MAP,
    ),
    "linear, no whole sizes": (resize(mode="linear"), UP, MAP),
    "cubic, no whole sizes": (resize(mode="cubic"), UP, MAP),
    "another cubic": (resize(mode="cubic", cubic_coeff_a=-0.5), DOUBLED, MAP),
    "cubic without the outside": (resize(mode="cubic", exclude_outside=1), DOUBLED, MAP),
    "policy": (
        [N("Resize", ["x", "", "", "s"], ["y"], mode="linear", keep_aspect_ratio_policy="not_larger")],
        {"s": models.whole(1, 2, 10, 7)},
        MAP,
    ),
    "axes": (resize(axes=[3, 2], mode="linear"), {"s": np.array([2, 3], np.float32)}, MAP),
    "the last of the largest": (
        [
            N("Sign", ["x"], ["s"]),
            N("ArgMax", ["s"], ["c"], axis=1, select_last_index=1),
            N("Cast", ["c"], ["y"], to=1),
        ],
        {},
        ROW,
    ),
    "windows beyond the end": (
        [N("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], pads=[1, 0, 0, 1], strides=[2, 2], ceil_mode=1)],
        {},
        MAP,
    ),
    "slopes of the last axis": ([N("PRelu", ["x", "a"], ["y"])], {"a": models.floats(1, 4)}, SEQUENCE),
    "whole quotients below zero": (
        [N("Div", ["a", "b"], ["q"]), N("Cast", ["q"], ["f"], to=1), N("Add", ["x", "f"], ["y"])],
        {"a": models.whole(-7, 7, -6, 5), "b": models.whole(2, -2, 3, 3)},
        ROW,
    ),
    "exclusive sum": ([N("CumSum", ["x", "a"], ["y"], exclusive=1)], {"a": np.array(1, np.int64)}, ROW),
}


@pytest.mark.parametrize("name", sorted(OTHER_FUNCTIONS))
def test_an_operator_is_read_as_what_it_is_or_refused(name, tmp_path):
    nodes, weights, shape = OTHER_FUNCTIONS[name]
    model = models.build(nodes, weights, shape, 18 if "Resize" in {node.op_type for node in nodes} else 16)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    path, x = saved(model, tmp_path), np.random.default_rng(5).standard_normal((3, *shape[1:])).astype(np.float32)
    try:
        found = load_model(path).model(torch.from_numpy(x)).detach().numpy()
    except CaptureError as error:
        assert nodes[0].op_type in str(error) or "ArgMax" in str(error)  # noqa: PT017
        return
    expected = expected_of(Path(path), x)
    assert np.allclose(found, expected.reshape(found.shape), rtol=1e-5, atol=1e-6)


def test_an_attribute_that_nobody_asked_for_is_refused(tmp_path):
    for op, name in (("Relu", "slope"), ("Gemm", "transC"), ("MatMul", "alpha")):
        node = N(op, ["x"] if op == "Relu" else ["x", "w"], ["y"], **{name: 2})
        path = saved(models.build([node], {"w": models.floats(4, 4)}, ROW, 13), tmp_path)
        with pytest.raises(CaptureError, match=rf"{op} \(y\): the attribute {name}"):
            load_model(path).model(torch.ones(2, 4))


def test_memory_is_counted_where_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("bitcert.network.onnx_file.MAX_PARAMETERS", 100)
    constants = [N("Constant", [], [f"c{k}"], value=numpy_helper.from_array(models.floats(1, 64))) for k in range(2)]
    nodes = [*constants, N("Add", ["c0", "c1"], ["c"]), N("MatMul", ["c", "w"], ["v"]), N("Add", ["x", "v"], ["y"])]
    with pytest.raises(InputError, match="at most 100 numbers in all tensors"):
        load_model(saved(models.build(nodes, {"w": models.floats(64, 1)}, ROW, 13), tmp_path))
    model = models.build(
        [N("Gemm", ["x", "a", "b"], ["y"])], {"a": models.floats(4, 20), "b": models.floats(20)}, ROW, 13
    )
    load_model(saved(model, tmp_path))
    model.graph.initializer.append(TensorProto(name="unused", dims=[-1000], data_type=1))
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(models.floats(2, 20), "b"))
    with pytest.raises(InputError, match="at most 100 numbers in all tensors"):
        load_model(saved(model, tmp_path))


def test_a_node_without_inputs_in_a_file_of_one_batch_size(tmp_path):
    half = numpy_helper.from_array(np.array([0.5, 2, 3, 4], np.float32))
    nodes = [N("Constant", [], ["k"], value=half), N("Mul", ["x", "k"], ["y"])]
    module = load_model(saved(models.build(nodes, {}, [1, 4], 13), tmp_path)).model
    assert module(torch.ones(2, 4)).tolist() == [[0.5, 2, 3, 4]] * 2


def test_a_batch_size_within_a_layout_is_named(tmp_path):
    nodes = [N("Transpose", ["x"], ["t"], perm=[1, 0, 2]), N("Reshape", ["t", "s"], ["y"])]
    path = saved(models.build(nodes, {"s": models.whole(6, 8)}, [1, 6, 8], 13), tmp_path)
    with pytest.raises(CaptureError, match=r"Reshape \(y\).*free batch size \(it is for 1\)"):
        load_model(path).model(torch.ones(2, 6, 8))


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


def of_row(*nodes, **weights):
    return lambda: models.build(list(nodes), weights, ["N", 4], 17)


SQUARE = models.floats(4, 4)
HOSTILE = {
    "made twice": (of_row(N("MatMul", ["x", "w"], ["w"]), N("MatMul", ["x", "w"], ["y"]), w=SQUARE), "made twice"),
    "never made": (
        of_row(N("LayerNormalization", ["x", "w"], ["n", "mean"]), N("Add", ["mean", "x"], ["y"]), w=models.floats(4)),
        "'mean' for Add",
    ),
    "no inputs": (of_row(N("MatMul", [], ["a"]), N("Add", ["x", "a"], ["y"])), "MatMul"),
    "one input": (of_row(N("Gemm", ["", "w"], ["z"]), N("Add", ["x", "z"], ["y"]), w=SQUARE), "Gemm"),
    "division by nothing": (
        of_row(N("Div", ["a", "b"], ["q"]), N("Reshape", ["x", "q"], ["y"]), a=models.whole(4), b=models.whole(0)),
        "Div",
    ),
    "no logits": (of_row(N("Add", ["a", "a"], ["y"]), N("Relu", ["x"], ["z"]), a=models.whole(4)), "one input|logits"),
    "entries beyond the end": (of_row(N("Gather", ["x", "i"], ["y"], axis=1), i=models.whole(4)), "beyond 4 entries"),
    "training": (of_row(N("Dropout", ["x", "", "t"], ["y"]), t=np.array(True)), "training"),
    "endless sum": (of_row(N("LRN", ["x"], ["y"], size=1 << 31)), "LRN"),
    "endless parts": (
        lambda: models.build([N("Split", ["x"], ["y", "z"], axis=1, num_outputs=1 << 31)], {}, ["N", 4], 18),
        "Split",
    ),
    "an array for a number": (
        of_row(N("Gemm", ["x", "w"], ["y"], alpha=numpy_helper.from_array(SQUARE)), w=SQUARE),
        "Gemm",
    ),
    "two values": (
        of_row(N("Constant", [], ["c"], value_int=1, value_float=2.0), N("Add", ["x", "c"], ["y"])),
        "Const",
    ),
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
