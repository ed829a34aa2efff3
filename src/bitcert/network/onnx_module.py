"""An ONNX graph as a torch module, operator by operator, so that it is captured like any other.

Sizes and other whole numbers that are known are computed in Python (as arrays of integers and of torch's symbolic batch
size), everything else with torch. A file exported for one batch size is read for all: where a reshape names that size
first, the batch is meant. Weights of matrix products become weights of linear layers. Numbers are float32 throughout.
The operators are in :mod:`bitcert.network.onnx_operators`, ``onnx_layers`` and ``onnx_moving``; anything else is
refused by name, all at once.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitcert.errors import BitcertError, CaptureError
from bitcert.network import onnx_layers, onnx_moving, onnx_operators  # noqa: F401  (they fill the table of operators)
from bitcert.network.onnx_call import OPERATORS, Call, Unreadable, endless_number
from bitcert.network.onnx_file import OnnxGraph, OnnxNode, read_onnx
from bitcert.network.shapes import MAX_ACTIVATION_ELEMENTS
from bitcert.network.user_code import one_line

__all__ = ["OnnxModule", "load_onnx"]

MAX_KNOWN = 1 << 12
"""Entries of an integer tensor that is computed in Python."""


def load_onnx(path: str | Path) -> OnnxModule:
    """The graph of a file as a module.

    Raises:
        InputError: a file that cannot be read.
        CaptureError: operators that are not supported; all are named.
    """
    graph = read_onnx(path)
    unknown = dict.fromkeys(
        f"{node.op} ({node.name or node.outputs[0]})"[:120] for node in graph.nodes if node.op not in OPERATORS
    )
    if unknown:
        got = "; ".join(list(unknown)[:20])
        raise CaptureError("supported operators only", got, "replace them, or pass the model's own code")
    return OnnxModule(graph)


class OnnxModule(nn.Module):
    """The logits of an :class:`~bitcert.network.onnx_file.OnnxGraph`; weights are parameters by their names."""

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__()
        self.graph = graph
        self.reads_tokens = graph.inputs[0].whole
        self._linear = _linear_weights(graph)
        self._known: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        for name, array in graph.weights.items():
            if array.dtype == np.int64 and array.size <= MAX_KNOWN:
                self._known[name] = array.astype(object)
                continue
            if array.size <= MAX_KNOWN and (endless := endless_number(array)) is not None:
                self._known[name] = endless
                continue
            tensor = torch.from_numpy(array.T.copy() if name in self._linear else array)
            self._names[name] = _attribute_name(name, self._names.values())
            value = nn.Parameter(tensor, False) if tensor.is_floating_point() else nn.Buffer(tensor)
            setattr(self, self._names[name], value)
        self._depending = _depending(graph)
        self._constants = {name: array for name, array in graph.weights.items() if array.size <= MAX_KNOWN}
        for node in graph.nodes:
            if node.op == "Constant" and len(node.attributes) == 1:
                self._constants[node.outputs[0]] = np.asarray(next(iter(node.attributes.values())))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, classes]``."""
        main, *others = self.graph.inputs
        values: dict[str, Any] = {**self._known, main.name: x}
        values |= {name: getattr(self, attribute) for name, attribute in self._names.items()}
        for other in others:
            fill = torch.ones_like if "mask" in other.name.lower() else torch.zeros_like
            values[other.name] = fill(x)
        last = {name: k for k, node in enumerate(self.graph.nodes) for name in node.inputs}
        for k, node in enumerate(self.graph.nodes):
            results = self._results(node, values, x)
            for name, result in zip(node.outputs, results, strict=False):
                values[name] = _limited(result, name in self._depending, node)
            for name in node.inputs:
                if last.get(name) == k and name not in self._names:
                    values.pop(name, None)
        logits = values.get(self.graph.output)
        if not isinstance(logits, Tensor):
            raise CaptureError("logits that are computed from the input", "numbers of the file", "check the file")
        return logits.flatten(1) if logits.dim() > 2 and logits.shape[2:].numel() == 1 else logits

    def _results(self, node: OnnxNode, values: dict[str, Any], x: Tensor) -> list[Any]:
        title = f"{node.op} ({node.name or node.outputs[0]})"
        if unknown := [name for name in node.inputs if name and name not in values]:
            expected = "values that the operators before have made"
            raise CaptureError(expected, f"{unknown[0]!r} for {title}", "pass the model's own code")
        inputs: list[Any] = [values[name] if name else None for name in node.inputs]
        declared = self.graph.inputs[0].shape[:1]
        depends = self._depending.intersection(node.inputs[:1])
        batch = (declared[0], x.shape[0]) if declared and declared[0] and depends else None
        constants = {k: self._constants[name] for k, name in enumerate(node.inputs) if name in self._constants}
        call = Call(node.op, inputs, node.attributes, self.graph.opset, len(node.outputs), x.device, batch, constants)
        try:
            if self._linear.intersection(node.inputs):
                return [F.linear(*inputs[:3])]
            found = OPERATORS[node.op](call)
            call.check_all_read()
        except BitcertError:
            raise
        except Unreadable as error:
            got = f"{title}: {error}"
            raise CaptureError("operators as torch has them", got, "pass the model's own code") from error
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            got = f"{title}: {one_line(error)}"
            fixed = f", or export it with a free batch size (it is for {declared[0]})" if any(declared) else ""
            do = f"check the data and the file{fixed}"
            raise CaptureError("a graph that can be computed on these inputs", got, do) from error
        return list(found) if isinstance(found, list | tuple) else [found]


def _limited(result: Any, batched: bool, node: OnnxNode) -> Any:
    """The result, if it is not beyond what an architecture may hold of one sample."""
    size = result.size if isinstance(result, np.ndarray) else 0
    if isinstance(result, Tensor):
        sizes = result.shape[1:] if batched else result.shape
        size = math.prod(n for n in sizes if isinstance(n, int))  # asking a symbolic batch size would fix it
    most = MAX_KNOWN if isinstance(result, np.ndarray) else MAX_ACTIVATION_ELEMENTS
    if size > most:
        got = f"{size:,} made by {node.op}"
        raise CaptureError(f"values of at most {most:,} entries", got, "use a smaller network")
    return result


def _attribute_name(name: str, taken: Any) -> str:
    plain = "w_" + (re.sub(r"[^A-Za-z0-9_]", "_", name)[:150] or "weight")
    number, found = 1, plain
    while found in taken:
        number, found = number + 1, f"{plain}_{number + 1}"
    return found


def _linear_weights(graph: OnnxGraph) -> frozenset[str]:
    """Matrices ``[in, out]`` that are only multiplied with from the right: kept as weights ``[out, in]``."""
    good: set[str] = set()
    bad: set[str] = set()
    for node in graph.nodes:
        usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} if node.op == "Gemm" else {}
        plain = not any(isinstance(value, np.ndarray) for value in node.attributes.values())
        right = node.op in ("MatMul", "Gemm") and plain and {**usual, **node.attributes} == usual
        if node.op == "Gemm" and len(node.inputs) > 2:
            bias = graph.weights.get(node.inputs[2])
            right = right and bias is not None and bias.ndim == 1
        for place, name in enumerate(node.inputs):
            array = graph.weights.get(name)
            fits = array is not None and array.ndim == 2 and array.dtype == np.float32
            (good if fits and right and place == 1 else bad).add(name)
    return frozenset(good - bad)


def _depending(graph: OnnxGraph) -> frozenset[str]:
    found = {each.name for each in graph.inputs}
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return frozenset(found)
