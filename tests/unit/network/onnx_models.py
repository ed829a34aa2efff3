"""Small ONNX models, written node by node, with the operators and settings that files in the wild have."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GENERATOR = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return (GENERATOR.standard_normal(shape) * 0.5).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


N = helper.make_node


def build(nodes, weights, inputs, opset, kind=TensorProto.FLOAT) -> onnx.ModelProto:
    """A model from ``x`` of these sizes (text: free) to ``y``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, inputs)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [inputs[0], None])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8 if opset < 20 else 10
    return model


def same_padding():
    """For one batch size, with sizes that need uneven padding."""
    nodes = [
        N("Conv", ["x", "w"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        N("Add", ["a", "b"], ["c"]),
        N("Relu", ["c"], ["d"]),
        N("AveragePool", ["d"], ["e"], kernel_shape=[3, 3], auto_pad="SAME_LOWER", strides=[2, 2]),
        N("Reshape", ["e", "s"], ["r"]),
        N("MatMul", ["r", "m"], ["y"]),
    ]
    weights = {"w": floats(4, 3, 3, 3), "b": floats(4, 1, 1), "s": whole(1, 36), "m": floats(36, 5)}
    return build(nodes, weights, [1, 3, 11, 11], 8)


def batch_norm():
    nodes = [
        N("Conv", ["x", "w", "b"], ["a"], pads=[0, 1, 2, 1], dilations=[1, 2]),
        N("BatchNormalization", ["a", "g", "h", "mu", "v"], ["n"]),
        N("LeakyRelu", ["n"], ["l"], alpha=0.2),
        N("MaxPool", ["l"], ["p"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, pads=[1, 0, 0, 0]),
        N("GlobalAveragePool", ["p"], ["q"]),
        N("Flatten", ["q"], ["fl"]),
        N("Gemm", ["fl", "m", "bb"], ["z"], transB=1),
        N("Softmax", ["z"], ["y"]),
    ]
    norm = {"g": floats(4), "h": floats(4), "mu": floats(4), "v": np.abs(floats(4)) + number(0.1)}
    weights = {"w": floats(4, 2, 3, 3), "b": floats(4), "m": floats(3, 4), "bb": floats(3), **norm}
    return build(nodes, weights, ["N", 2, 9, 9], 11)


def computed_shape():
    nodes = [
        N("Shape", ["x"], ["sh"]),
        N("Gather", ["sh", "first"], ["b"], axis=0),
        N("Unsqueeze", ["b", "axis"], ["bu"]),
        N("Concat", ["bu", "rest"], ["s"], axis=0),
        N("Reshape", ["x", "s"], ["r"]),
        N("Gemm", ["r", "m", "bb"], ["g1"], alpha=0.5, beta=2.0),
        N("Clip", ["g1", "lo", "hi"], ["c"]),
        N("HardSigmoid", ["c"], ["hs"]),
        N("MatMul", ["hs", "m2"], ["q"]),
        N("Sub", ["q", "row"], ["y"]),
    ]
    sizes = {"first": np.array(0, np.int64), "axis": whole(0), "rest": whole(-1)}
    rest = {"m": floats(12, 7), "bb": floats(7), "lo": number(-0.3), "hi": number(0.4)}
    return build(nodes, {**sizes, **rest, "m2": floats(7, 3), "row": floats(3)}, ["N", 3, 4], 13)


def tokens():
    nodes = [
        N("Gather", ["table", "x"], ["e"]),
        N("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        N("MatMul", ["m", "w"], ["y"]),
    ]
    return build(nodes, {"table": floats(500, 6), "w": floats(6, 3)}, ["N", 5], 13, TensorProto.INT64)


def resized():
    nodes = [
        N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        N("Resize", ["a", "", "sc"], ["r"], nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        N("Resize", ["r", "", "", "sz"], ["r2"], mode="linear"),
        N("ConvTranspose", ["r2", "tw"], ["t"], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        N("PRelu", ["t", "sl"], ["p"]),
        N("InstanceNormalization", ["p", "g", "b"], ["n"]),
        N("GlobalMaxPool", ["n"], ["q"]),
        N("Flatten", ["q"], ["y"]),
    ]
    sizes = {"sc": np.array([1, 1, 2, 2], np.float32), "sz": whole(1, 4, 9, 7)}
    weights = {"w": floats(4, 1, 3, 3), "tw": floats(4, 3, 3, 3), "sl": floats(3, 1, 1), "g": floats(3), "b": floats(3)}
    return build(nodes, {**sizes, **weights}, [1, 1, 5, 5], 13)


def attention():
    nodes = [
        N("Split", ["x", "sp"], ["a", "b"], axis=2),
        N("Transpose", ["b"], ["bt"], perm=[0, 2, 1]),
        N("MatMul", ["a", "bt"], ["ab"]),
        N("Softmax", ["ab"], ["s"], axis=-1),
        N("MatMul", ["s", "a"], ["o"]),
        N("LayerNormalization", ["o", "g", "be"], ["ln"]),
        N("ReduceMax", ["ln", "ax"], ["mx"], keepdims=0),
        N("Gelu", ["mx"], ["ge"]),
        N("Erf", ["ge"], ["er"]),
        N("Expand", ["k", "es"], ["ex"]),
        N("Add", ["er", "ex"], ["y"]),
    ]
    weights = {"sp": whole(4, 4), "g": floats(4), "be": floats(4), "ax": whole(1), "k": floats(1, 1), "es": whole(1, 4)}
    return build(nodes, weights, ["N", 6, 8], 20)


def halves():
    nodes = [
        N("Cast", ["half"], ["w"], to=1),
        N("MatMul", ["x", "w"], ["a"]),
        N("Constant", [], ["k"], value=numpy_helper.from_array(np.array([0.5], np.float32))),
        N("Mul", ["a", "k"], ["b"]),
        N("Tile", ["b", "rep"], ["t"]),
        N("Pad", ["t", "pd"], ["p"]),
        N("Min", ["p", "cap"], ["y"]),
    ]
    weights = {"half": floats(5, 2).astype(np.float16), "rep": whole(1, 2), "pd": whole(0, 1, 0, 0), "cap": number(0.3)}
    return build(nodes, weights, ["N", 5], 13)


def oldest():
    nodes = [
        N("Squeeze", ["x"], ["s"], axes=[1]),
        N("Unsqueeze", ["s"], ["u"], axes=[1]),
        N("Dropout", ["u"], ["d"]),
        N("LRN", ["d"], ["l"], size=3),
        N("Softmax", ["l"], ["sm"]),
        N("Flatten", ["sm"], ["fl"]),
        N("MatMul", ["fl", "w"], ["q"]),
        N("Sum", ["q", "q", "q"], ["y"]),
    ]
    return build(nodes, {"w": floats(16, 3)}, ["N", 1, 4, 4], 7)


def logic():
    nodes = [
        N("Where", ["mask", "x", "zero"], ["w"]),
        N("Greater", ["w", "th"], ["gt"]),
        N("Cast", ["gt"], ["c"], to=1),
        N("CumSum", ["c", "ax"], ["cs"]),
        N("ArgMax", ["cs"], ["am"], axis=1, keepdims=1),
        N("GatherElements", ["x", "am"], ["ge"], axis=1),
        N("Mul", ["cs", "ge"], ["y"]),
    ]
    mask, zero = np.array([[True, False, True, True]]), np.zeros((1, 4), np.float32)
    return build(nodes, {"mask": mask, "zero": zero, "th": number(0.1), "ax": np.array(1, np.int64)}, ["N", 4], 13)


def masked():
    """Attention's padding as exporters write it: minus infinity where an entry does not count."""
    nodes = [
        N("Greater", ["x", "th"], ["gt"]),
        N("Constant", [], ["endless"], value=numpy_helper.from_array(number(-np.inf))),
        N("Where", ["gt", "endless", "m"], ["w"]),
        N("Softmax", ["w"], ["y"], axis=1),
    ]
    return build(nodes, {"th": number(1.0), "m": floats(1, 40)}, ["N", 40], 13)


def masked_by_weights():
    """The same with an initializer of more axes, where the other entries do not count."""
    nodes = [
        N("Greater", ["x", "th"], ["gt"]),
        N("Where", ["gt", "x", "endless"], ["w"]),
        N("Softmax", ["w"], ["s"], axis=2),
        N("Flatten", ["s"], ["y"]),
    ]
    return build(nodes, {"th": number(-1.0), "endless": np.full((1, 1, 20), -np.inf, np.float32)}, ["N", 2, 20], 13)


def narrowed():
    """Whole numbers that wrap in eight bits, and a constant that adds axes."""
    nodes = [
        N("Mul", ["x", "large"], ["l"]),
        N("Cast", ["l"], ["i"], to=7),
        N("Cast", ["i"], ["b"], to=3),
        N("Cast", ["b"], ["f"], to=1),
        N("Constant", [], ["one"], value=numpy_helper.from_array(np.ones((1, 1, 1), np.float32))),
        N("Add", ["v", "one"], ["a"]),
        N("Transpose", ["a"], ["t"], perm=[0, 2, 1]),
        N("Mul", ["f", "t"], ["m"]),
        N("Flatten", ["m"], ["y"]),
    ]
    return build(nodes, {"large": number(300.0), "v": floats(4)}, ["N", 4, 2], 13)


MODELS = {
    "same padding": (same_padding, (3, 11, 11)),
    "batch norm": (batch_norm, (2, 9, 9)),
    "computed shape": (computed_shape, (3, 4)),
    "tokens": (tokens, (5,)),
    "resized": (resized, (1, 5, 5)),
    "attention": (attention, (6, 8)),
    "halves": (halves, (5,)),
    "oldest": (oldest, (1, 4, 4)),
    "logic": (logic, (4,)),
    "masked": (masked, (40,)),
    "masked by weights": (masked_by_weights, (2, 20)),
    "narrowed": (narrowed, (4, 2)),
}


def inputs_of(name: str, rows: int, seed: int = 1) -> np.ndarray:
    """Random inputs of a model."""
    shape, generator = (rows, *MODELS[name][1]), np.random.default_rng(seed)
    if name == "tokens":
        return generator.integers(0, 500, shape)
    return generator.standard_normal(shape).astype(np.float32)


def write(name: str, folder: Path) -> Path:
    """A model as a file."""
    path = folder / f"{name.replace(' ', '-')}.onnx"
    onnx.save(MODELS[name][0](), path)
    return path
