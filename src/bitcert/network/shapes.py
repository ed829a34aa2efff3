"""Shapes, costs and batch layout of every node, computed on torch's meta device: nothing is allocated.

Propagation refuses graphs that are malformed, mix samples, or exceed fixed limits, so it runs before any real
tensor exists. It does NOT bound time or memory more tightly than the stated limits.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bitcert.network.layouts import Layout, LayoutError, Value
from bitcert.network.operations import OPERATIONS, WEIGHT_OPERATIONS, attribute_problem, output_size

if TYPE_CHECKING:
    from bitcert.network.architecture import Architecture, Node

MAX_PARAMETERS = 1 << 26
MAX_NODES = 4_096
MAX_ACTIVATION_ELEMENTS = 2**26
"""Most entries of one intermediate result per sample."""
MAX_TOTAL_ELEMENTS = 2**30
"""Most entries of all intermediate results together per sample."""
MAX_FLOPS_PER_SAMPLE = 2**37
INPUT = "input"
_WEIGHTED = (*WEIGHT_OPERATIONS, "local_conv2d", "affine_channel", "group_norm", "layer_norm", "prelu", "embedding")
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
    """

    values: Mapping[str, Value]
    elements: Mapping[str, int]
    flops: Mapping[str, int]


def _check_parameters(architecture: Architecture) -> None:
    total = sum(math.prod(spec.shape) for spec in architecture.parameters)
    if total > MAX_PARAMETERS:
        raise ShapeError(f"{total} parameters where at most {MAX_PARAMETERS} are allowed")
    if math.prod(architecture.input_shape) > MAX_ACTIVATION_ELEMENTS:
        raise ShapeError(f"an input of more than {MAX_ACTIVATION_ELEMENTS} entries")
    if len(architecture.nodes) > MAX_NODES:
        raise ShapeError(f"{len(architecture.nodes)} nodes where at most {MAX_NODES} are allowed")
    names = [INPUT, *(spec.name for spec in architecture.parameters), *(node.name for node in architecture.nodes)]
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


def _weight_shapes(node: Node, x: tuple[int, ...], weight: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes the inputs after the first must have; torch's meta device lets some wrong ones pass."""
    channels, features = x[1:2], node.attributes.get("normalized_shape")
    if node.op in WEIGHT_OPERATIONS:
        return _linear_shapes(node, x, weight)
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
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ShapeError(f"node {node.name!r} ({node.op}) does not fit its inputs: {line[:200]}") from error
    if not isinstance(result, Tensor) or result.numel() == 0 or result.dim() > 8:
        raise ShapeError(f"node {node.name!r} ({node.op}) computes an empty tensor or one of too many dimensions")
    return result


def _check_layout(node: Node, layout: Layout | None, shape: tuple[int, ...]) -> None:
    if layout is None:
        return
    if layout.axis >= len(shape) or shape[layout.axis] != layout.outer * _BATCH * layout.inner:
        raise ShapeError(f"node {node.name!r} ({node.op}) loses track of the batch")


def _layout_of(node: Node, values: Mapping[str, Value], shape: tuple[int, ...]) -> Layout | None:
    try:
        layout = OPERATIONS[node.op].layout([values[name] for name in node.inputs], node.attributes, shape)
    except LayoutError as error:
        raise ShapeError(f"node {node.name!r} ({node.op}) mixes samples of a batch: {error}") from error
    except (ValueError, IndexError) as error:
        raise ShapeError(f"node {node.name!r} ({node.op}) has axes that do not exist") from error
    _check_layout(node, layout, shape)
    return layout


def propagate(architecture: Architecture) -> Propagation:
    """Shapes of every value of ``architecture``.

    Raises:
        ShapeError: naming the first node that cannot be evaluated, mixes samples, or exceeds a limit.
    """
    _check_parameters(architecture)
    dtype = torch.int64 if architecture.input_dtype == "int64" else torch.float32
    shape = (_BATCH, *architecture.input_shape)
    tensors = {INPUT: torch.empty(shape, dtype=dtype, device="meta")}
    values = {INPUT: Value(shape, Layout(0))}
    for spec in architecture.parameters:
        tensors[spec.name] = torch.empty(spec.shape, dtype=torch.float32, device="meta")
        values[spec.name] = Value(spec.shape, None)
    elements: dict[str, int] = {}
    flops: dict[str, int] = {}
    for node in architecture.nodes:
        _check_node(node, tensors)
        _check_weights(node, [values[name].shape for name in node.inputs])
        result = _run_meta(node, [tensors[name] for name in node.inputs])
        layout = _layout_of(node, values, tuple(result.shape))
        samples = 1 if layout is None else _BATCH
        tensors[node.name], values[node.name] = result, Value(tuple(result.shape), layout)
        elements[node.name] = result.numel() // samples
        shapes = [values[name].shape for name in node.inputs]
        flops[node.name] = OPERATIONS[node.op].cost(shapes, tuple(result.shape), node.attributes) // samples
        if elements[node.name] > MAX_ACTIVATION_ELEMENTS:
            raise ShapeError(f"node {node.name!r} has more than {MAX_ACTIVATION_ELEMENTS} entries per sample")
    _check_totals(architecture, tensors, values, elements, flops)
    return Propagation(values, elements, flops)


def _check_totals(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Value],
    elements: Mapping[str, int],
    flops: Mapping[str, int],
) -> None:
    if sum(elements.values()) > MAX_TOTAL_ELEMENTS or sum(flops.values()) > MAX_FLOPS_PER_SAMPLE:
        raise ShapeError("a network too large to evaluate within the stated limits")
    last = architecture.output
    value, expected = values[last], (_BATCH, architecture.num_outputs)
    if value.shape != expected or value.layout != Layout(0) or tensors[last].dtype != torch.float32:
        raise ShapeError(
            f"the output has shape {list(value.shape)} for a batch of {_BATCH} where "
            f"[batch, classes] = {list(expected)} in float32 belongs"
        )
