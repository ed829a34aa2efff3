"""Reading an ``.onnx`` file of a stranger: the graph as plain Python values, every size checked before memory is taken.

The ``onnx`` package parses the protocol buffer and names the types; nothing of it runs the graph. Weights stored beside
the file are read from within its folder only. What is read:

* the default operator set, versions 7 to the newest that ``onnx`` knows, and a few operators of ``ai.onnx.ml``;
* tensors of numbers and booleans; halves and doubles become float32;
* one input; a second one called like an attention mask is filled with ones, one called like token types with zeros.

Functions, sub-graphs and sparse tensors are refused. What the operators compute is :mod:`bitcert.network.onnx_module`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import InputError
from bitcert.network.pt2 import MAX_ARCHIVE_BYTES, MAX_GRAPH_NODES
from bitcert.network.shapes import MAX_PARAMETERS
from bitcert.network.user_code import one_line

__all__ = ["OnnxGraph", "OnnxInput", "OnnxNode", "read_onnx"]

OLDEST_OPSET = 7
_ADVICE = "export the model again, or pass its code and a state dict"
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64, 16: None}
_WHOLE = {2: np.uint8, 3: np.int8, 4: np.uint16, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 12: np.uint32}
_MAX_DIMENSIONS = 8
_MAX_LISTED = 1 << 22
"""Entries of an attribute that is a list."""
Array = NDArray[np.generic]


@dataclass(frozen=True)
class OnnxInput:
    """An input of the graph: its name, whether it holds whole numbers, and its declared sizes (None if free)."""

    name: str
    whole: bool
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxNode:
    """One operator: names of its inputs ("" where left out) and outputs, attributes as Python values or arrays."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OnnxGraph:
    """What a file says, limited to what the logits depend on.

    Attributes:
        opset: version of the default operator set.
        inputs: the main one first.
        output: name of the logits.
        nodes: in an order in which they can be computed.
        weights: float32 or integer arrays by name.
    """

    opset: int
    inputs: tuple[OnnxInput, ...]
    output: str
    nodes: tuple[OnnxNode, ...]
    weights: Mapping[str, Array]


def _refuse(expected: str, got: str, do: str = _ADVICE) -> NoReturn:
    raise InputError(expected, got[:200], do)


def read_onnx(path: str | Path) -> OnnxGraph:
    """The graph of a file.

    Raises:
        InputError: the package ``onnx`` is missing, or the file cannot be read, is damaged, refers to files elsewhere,
            declares sizes that it does not hold, or has other inputs and outputs than a classifier.
    """
    path = Path(path)
    try:
        import onnx
    except ImportError as error:
        raise InputError("the package onnx to read .onnx files", "none", "pip install 'bitcert[onnx]'") from error
    try:
        size = path.stat().st_size
        if size > MAX_ARCHIVE_BYTES:
            _refuse(f"an .onnx file of at most {MAX_ARCHIVE_BYTES} bytes", f"{size} bytes")
        model = onnx.ModelProto()
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise InputError("a readable .onnx file", error.strerror or "an error", f"check the path {path}") from error
    except InputError:
        raise
    except Exception as error:  # protobuf has its own exceptions in every implementation
        raise InputError("an .onnx file", one_line(error), _ADVICE) from error
    try:
        return _graph(model, path.resolve().parent)
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError, UnicodeError) as error:
        raise InputError("a consistent .onnx file", one_line(error), _ADVICE) from error


def _graph(model: Any, folder: Path) -> OnnxGraph:
    versions = {each.domain: each.version for each in model.opset_import}
    opset = versions.get("", versions.get("ai.onnx", 0))
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        _refuse(f"operator set {OLDEST_OPSET} to {newest}", f"{opset}", "convert it with onnx.version_converter")
    graph = model.graph
    if len(graph.node) > MAX_GRAPH_NODES:
        _refuse(f"at most {MAX_GRAPH_NODES} nodes", f"{len(graph.node)}")
    if model.functions or graph.sparse_initializer:
        _refuse("a plain graph", "functions" if model.functions else "sparse tensors", "inline or densify them")
    tensors = _Tensors(folder)
    nodes = [_node(each, tensors) for each in graph.node]
    output = _output(graph, nodes)
    nodes = list(_needed(nodes, output))
    used = {name for node in nodes for name in node.inputs}
    weights = {tensor.name: tensors.read(tensor) for tensor in graph.initializer if tensor.name in used}
    known = {tensor.name for tensor in graph.initializer}
    named = Counter([*known.union(each.name for each in graph.input), *(out for node in nodes for out in node.outputs)])
    if twice := [name for name, times in named.items() if name and times > 1]:
        _refuse("every value made once", f"{twice[0]!r} made twice")
    inputs = [_input(each) for each in graph.input if each.name not in known and each.name in used]
    return OnnxGraph(opset, _ordered(inputs), output, tuple(nodes), weights)


def _input(value: Any) -> OnnxInput:
    kind = value.type.tensor_type
    sizes = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    if kind.elem_type not in (*_FLOATS, *_WHOLE):
        _refuse(f"an input {value.name!r} of numbers", f"type {kind.elem_type}")
    return OnnxInput(value.name, kind.elem_type in _WHOLE, sizes)


def _ordered(inputs: list[OnnxInput]) -> tuple[OnnxInput, ...]:
    """The main input first; the others must be ones that have a usual value."""
    others = [each for each in inputs if "mask" in each.name.lower() or "type" in each.name.lower()]
    main = [each for each in inputs if each not in others]
    if not main and len(others) == 1:
        main, others = others, []
    if len(main) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        _refuse("a graph with one input", names, "export a model that takes the inputs as one tensor")
    return (main[0], *others)


def _output(graph: Any, nodes: list[OnnxNode]) -> str:
    """The logits: the only output, or the first one of floating numbers."""
    kinds = {each.name: each.type.tensor_type.elem_type for each in graph.output}
    made = {name for node in nodes for name in node.outputs if name}
    zipped = {node.outputs[0]: node.inputs[0] for node in nodes if node.op == "ZipMap"}
    names = [
        zipped.get(name, name) for name, kind in kinds.items() if name in zipped or kind in _FLOATS or len(kinds) == 1
    ]
    named = [name for name in names if "logit" in name.lower()] or names
    if not named or named[0] not in made:
        _refuse("an output of logits", ", ".join(kinds) or "none", "export a model that returns the logits")
    return str(named[0])


def _node(node: Any, tensors: _Tensors) -> OnnxNode:
    if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        _refuse("operators of ai.onnx", f"{node.op_type} of {node.domain}", "export it without custom operators")
    attributes = {each.name: _attribute(each, node, tensors) for each in node.attribute}
    return OnnxNode(node.name, node.op_type, tuple(node.input), tuple(node.output), attributes)


def _attribute(each: Any, node: Any, tensors: _Tensors) -> Any:
    if max(len(each.floats), len(each.ints), len(each.strings)) > _MAX_LISTED:
        _refuse(f"at most {_MAX_LISTED} entries of the attribute {each.name!r} of {node.op_type}", "more")
    match each.type:
        case 1:
            return float(each.f)
        case 2:
            return int(each.i)
        case 3:
            return each.s.decode("utf-8", "replace")
        case 4:
            return tensors.read(each.t)
        case 6:
            return tuple(float(number) for number in each.floats)
        case 7:
            return tuple(int(number) for number in each.ints)
        case 8:
            return tuple(text.decode("utf-8", "replace") for text in each.strings)
    return _refuse("operators without sub-graphs", f"{node.op_type} with the attribute {each.name}")


@dataclass
class _Tensors:
    """Reads the tensors of a file; ``entries`` counts those of all that were read, before memory is taken for them."""

    folder: Path
    entries: int = 0

    def read(self, tensor: Any) -> Array:
        """The numbers of one, whole ones as int64 and all others as float32."""
        from onnx import numpy_helper

        dims, kind = tuple(tensor.dims), tensor.data_type
        if len(dims) > _MAX_DIMENSIONS or any(size < 0 for size in dims):
            _refuse(f"sizes of a tensor {tensor.name!r}", f"{list(dims)[:9]}")
        self.entries += math.prod(dims)
        if self.entries > MAX_PARAMETERS:
            _refuse(f"at most {MAX_PARAMETERS} numbers in all tensors", f"more, with {tensor.name!r} of {list(dims)}")
        if kind not in (*_FLOATS, *_WHOLE):
            _refuse(f"numbers in {tensor.name!r}", f"type {kind}")
        if tensor.data_location == 1:
            kept = {each.key: each.value for each in tensor.external_data}
            if kind == 16:
                _refuse(f"common numbers in {tensor.name!r}", "bfloat16 in another file")
            dtype = np.dtype(_FLOATS.get(kind) or _WHOLE[kind]).newbyteorder("<")
            content = _outside(kept, self.folder, math.prod(dims) * dtype.itemsize)
            array = np.frombuffer(content, dtype).reshape(dims)
        else:
            array = numpy_helper.to_array(tensor)
        if array.shape != dims:
            _refuse(f"a tensor {tensor.name!r} of shape {list(dims)}", f"{list(array.shape)}")
        return np.array(array, np.float32 if kind in _FLOATS else np.int64)


def _outside(kept: Mapping[str, str], folder: Path, size: int) -> bytes:
    """Bytes of a file in the folder of the ``.onnx`` file or below."""
    name, offset = kept.get("location", ""), int(kept.get("offset", "0"))
    path = (folder / name).resolve()
    if not name or Path(name).is_absolute() or not path.is_relative_to(folder) or not path.is_file():
        _refuse("weights in a file beside the .onnx file", repr(name)[:100], "put all files into one folder")
    if offset < 0 or offset + size > path.stat().st_size or int(kept.get("length", size)) != size:
        _refuse(f"{size} bytes at {offset} of {path.name}", f"{path.stat().st_size} bytes in all")
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _needed(nodes: list[OnnxNode], output: str) -> Iterator[OnnxNode]:
    """Nodes that the output depends on, in the order of the file, which must be one of computation."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted.intersection(filter(None, node.outputs)):
            wanted.update(filter(None, node.inputs))
            kept.append(node)
    yield from reversed(kept)
