"""Shapes, costs and batch layout of every node, computed on torch's meta device: nothing is allocated.

Propagation refuses graphs that are malformed, mix samples, or exceed fixed limits, so it runs before any real
tensor exists. It does NOT bound time or memory more tightly than the stated limits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.network.layouts import Layout, LayoutError, Value
from bitcert.network.nodes import INPUT, Graph, Node
from bitcert.network.operations import OPERATIONS, WEIGHT_OPERATIONS, attribute_problem, output_size
from bitcert.network.user_code import one_line

MAX_PARAMETERS = 1 << 26
MAX_NODES = 4_096
MAX_ACTIVATION_ELEMENTS = 2**26
"""Most entries of one intermediate result per sample."""
MAX_TOTAL_ELEMENTS = 2**30
"""Most entries of all intermediate results together per sample."""
MAX_PEAK_ELEMENTS = 2**29
"""Most entries (of four bytes) per sample that are in memory at once, scratch of the operations included."""
MAX_FLOPS_PER_SAMPLE = 2**37
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
_CONVOLUTIONS = (*WEIGHT_OPERATIONS, "conv3d")
_NORMS = ("affine_channel", "group_norm", "layer_norm", "prelu")
_WEIGHTED = (*_CONVOLUTIONS, *_TRANSPOSED, *_NORMS, "local_conv2d", "embedding")
_BATCH = 3
"""Batch size of the propagation; shapes of batch axes are checked against it."""


class ShapeError(ValueError):
    """A graph that cannot be evaluated, mixes samples or is too large; the text says which node."""


@dataclass(frozen=True)
class Propagation:
    """Result of :func:`propagate`.

    Attributes:
        values: shape (at batch size 3) and layout of the input, every parameter and every node.
        elements: entries per sample of every node.
        flops: floating-point operations per sample of every node.
        scratch: entries per sample that computing a node takes beside its inputs and itself.
        peak: most entries (of four bytes) per sample in memory at once, with scratch and the input.
    """

    values: Mapping[str, Value]
    elements: Mapping[str, int]
    flops: Mapping[str, int]
    scratch: Mapping[str, int]
    peak: int


def _check_parameters(graph: Graph) -> None:
    total = sum(math.prod(spec.shape) for spec in graph.parameters)
    if total > MAX_PARAMETERS:
        raise ShapeError(f"{total} parameters where at most {MAX_PARAMETERS} are allowed")
    if math.prod(graph.input_shape) > MAX_ACTIVATION_ELEMENTS:
        raise ShapeError(f"an input of more than {MAX_ACTIVATION_ELEMENTS} entries")
    if len(graph.nodes) > MAX_NODES:
        raise ShapeError(f"{len(graph.nodes)} nodes where at most {MAX_NODES} are allowed")
    names = [INPUT, *(spec.name for spec in graph.parameters), *(node.name for node in graph.nodes)]
    if len(set(names)) != len(names):
        raise ShapeError("one name given to two values")


def _check_node(node: Node, known: Mapping[str, Tensor]) -> None:
    operation = OPERATIONS.get(node.op)
    if operation is None:
        raise ShapeError(f"node {node.name!r} has the unknown operation {node.op[:60]!r}")
    low, high = operation.arity
    if not low <= len(node.inputs) <= high:
        raise ShapeError(f"node {node.name!r} ({node.op}) has {len(node.inputs)} inputs")
    missing = [name for name in node.inputs if name not in known]
    if missing:
        raise ShapeError(f"node {node.name!r} reads {missing[0][:60]!r} before it is computed")
    problem = attribute_problem(operation, node.attributes)
    if problem:
        raise ShapeError(f"node {node.name!r} ({node.op}) has {problem}")


def _linear_shapes(node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Weight and bias of an affine layer: ``[out, in / groups, *kernel]`` and ``[out]``."""
    spatial = 0 if node.op == "linear" else len(x) - 2
    groups = node.attributes.get("groups", 1)
    least = 1 if node.op == "linear" else 3
    if not isinstance(groups, int) or len(weight) != 2 + spatial or len(x) < least:
        raise ShapeError(f"node {node.name!r} ({node.op}) has a weight of shape {list(weight)}")
    inputs = x[-1] if node.op == "linear" else x[1]
    if inputs % groups or weight[0] % groups:
        raise ShapeError(f"node {node.name!r} ({node.op}) has {groups} groups for {inputs} channels")
    return [(weight[0], inputs // groups, *weight[2:]), (weight[0],)]


def _local_shapes(node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Filters ``[positions, out, in / groups, kh, kw]`` and bias ``[out]`` of a locally connected layer."""
    if len(x) != 4 or len(weight) != 5:
        raise ShapeError(f"node {node.name!r} ({node.op}) has a weight of shape {list(weight)}")
    shared, bias = _linear_shapes(node, x, weight[1:])
    size = output_size(x[2:], weight[3:], node.attributes)
    if min(size) < 1:
        raise ShapeError(f"node {node.name!r} ({node.op}) has a kernel larger than its input")
    return [(math.prod(size), *shared), bias]


def _transposed_shapes(node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Filters ``[in, out / groups, *kernel]`` and bias ``[out]`` of a transposed convolution."""
    groups = node.attributes.get("groups", 1)
    if not isinstance(groups, int) or len(x) < 3 or len(weight) != len(x) or x[1] % groups:
        raise ShapeError(f"node {node.name!r} ({node.op}) has a weight of shape {list(weight)}")
    return [(x[1], *weight[1:]), (weight[1] * groups,)]


def _weight_shapes(node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes the inputs after the first must have; torch's meta device lets some wrong ones pass."""
    channels, features = x[1:2], node.attributes.get("normalized_shape")
    if node.op in _CONVOLUTIONS:
        return _linear_shapes(node, x, weight)
    if node.op in _TRANSPOSED:
        return _transposed_shapes(node, x, weight)
    if node.op == "local_conv2d":
        return _local_shapes(node, x, weight)
    if node.op == "layer_norm" and isinstance(features, tuple):
        return [features, features]
    if node.op == "prelu":
        return [(1,) if weight == (1,) else channels]
    if node.op == "embedding":
        return [weight if len(weight) == 2 else ()]
    return [channels, channels]


def _check_weights(node: Node, shapes: Sequence[tuple[int, ...]]) -> None:
    if node.op in _WEIGHTED and len(shapes) > 1:
        for shape, wanted in zip(shapes[1:], _weight_shapes(node, shapes[0], shapes[1]), strict=False):
            if shape != wanted:
                raise ShapeError(f"node {node.name!r} ({node.op}) has a weight of shape {list(shape)}")


def _run_meta(node: Node, tensors: Sequence[Tensor]) -> Tensor:
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = OPERATIONS[node.op].run(tensors, dict(node.attributes), _BATCH)
    except Exception as error:
        # torch raises many types here; all of them mean that the shapes do not fit together
        raise ShapeError(f"node {node.name!r} ({node.op}) does not fit its inputs: {one_line(error)}") from error
    if not isinstance(result, Tensor) or result.numel() == 0 or result.dim() > 8:
        raise ShapeError(f"node {node.name!r} ({node.op}) computes an empty tensor or one of too many dimensions")
    return result


def _layout_of(node: Node, values: Mapping[str, Value], shape: tuple[int, ...]) -> Layout | None:
    try:
        layout = OPERATIONS[node.op].layout([values[name] for name in node.inputs], node.attributes, shape)
    except LayoutError as error:
        raise ShapeError(f"node {node.name!r} ({node.op}) mixes samples of a batch: {error}") from error
    except (ValueError, IndexError) as error:
        raise ShapeError(f"node {node.name!r} ({node.op}) has axes that do not exist") from error
    if layout is not None:
        axis, size = layout.axis, layout.outer * _BATCH * layout.inner
        if axis >= len(shape) or shape[axis] != size:
            raise ShapeError(f"node {node.name!r} ({node.op}) loses track of the batch")
    return layout


class _Propagating:
    """The tensors on the meta device and what is known of each, node after node."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        dtype = torch.int64 if graph.input_dtype == "int64" else torch.float32
        shape = (_BATCH, *graph.input_shape)
        self.tensors = {INPUT: torch.empty(shape, dtype=dtype, device="meta")}
        self.values = {INPUT: Value(shape, Layout(0))}
        for spec in graph.parameters:
            self.tensors[spec.name] = torch.empty(spec.shape, dtype=torch.float32, device="meta")
            self.values[spec.name] = Value(spec.shape, None)
        self.elements: dict[str, int] = {}
        self.flops: dict[str, int] = {}
        self.scratch: dict[str, int] = {}

    def add(self, node: Node) -> None:
        """Compute one node.

        Raises:
            ShapeError: it cannot be computed, mixes samples, or is too large.
        """
        _check_node(node, self.tensors)
        shapes = [self.values[name].shape for name in node.inputs]
        _check_weights(node, shapes)
        result = _run_meta(node, [self.tensors[name] for name in node.inputs])
        out = tuple(result.shape)
        layout = _layout_of(node, self.values, out)
        samples = 1 if layout is None else _BATCH
        operation = OPERATIONS[node.op]
        self.tensors[node.name], self.values[node.name] = result, Value(out, layout)
        self.elements[node.name] = result.numel() // samples
        self.flops[node.name] = operation.cost(shapes, out, node.attributes) // samples
        self.scratch[node.name] = operation.scratch(shapes, out, node.attributes) // samples
        if self.elements[node.name] > MAX_ACTIVATION_ELEMENTS:
            raise ShapeError(f"node {node.name!r} has more than {MAX_ACTIVATION_ELEMENTS} entries per sample")

    def peak(self) -> int:
        """Most entries of four bytes alive at once, as :meth:`Architecture.forward` keeps them."""
        words = {name: count * self.tensors[name].element_size() // 4 for name, count in self.elements.items()}
        last_use = {name: k for k, node in enumerate(self.graph.nodes) for name in node.inputs}
        alive = peak = math.prod(self.graph.input_shape) * self.tensors[INPUT].element_size() // 4
        for k, node in enumerate(self.graph.nodes):
            alive += words[node.name]
            peak = max(peak, alive + self.scratch[node.name])
            alive -= sum(words.get(name, 0) for name in set(node.inputs) if last_use[name] == k)
        return peak


def propagate(graph: Graph) -> Propagation:
    """Shapes of every value of ``graph``.

    Raises:
        ShapeError: naming the first node that cannot be evaluated, mixes samples, or exceeds a limit.
    """
    _check_parameters(graph)
    found = _Propagating(graph)
    for node in graph.nodes:
        found.add(node)
    peak = found.peak()
    _check_totals(found, peak)
    return Propagation(found.values, found.elements, found.flops, found.scratch, peak)


def _check_totals(found: _Propagating, peak: int) -> None:
    if sum(found.elements.values()) > MAX_TOTAL_ELEMENTS or sum(found.flops.values()) > MAX_FLOPS_PER_SAMPLE:
        raise ShapeError("a network too large to evaluate within the stated limits")
    if peak > MAX_PEAK_ELEMENTS:
        largest = max(found.scratch, key=lambda name: found.scratch[name])
        raise ShapeError(
            f"{peak:,} entries of memory per sample ({found.scratch[largest]:,} of them to compute node {largest!r}) "
            f"where at most {MAX_PEAK_ELEMENTS:,} are allowed"
        )
    last, outputs = found.graph.output, found.graph.num_outputs
    value, expected = found.values[last], (_BATCH, outputs)
    if value.shape != expected or value.layout != Layout(0) or found.tensors[last].dtype != torch.float32:
        raise ShapeError(
            f"the output has shape {list(value.shape)} for a batch of {_BATCH} where "
            f"[batch, classes] = {list(expected)} in float32 belongs"
        )
