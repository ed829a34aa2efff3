"""Path norms of a captured graph: ``(sum over all paths of prod |w|^p)^(1/p)`` for p = 1, 1.5 and 2.

A path leads from an input entry to an output entry and takes one weight at each layer (Neyshabur, Tomioka & Srebro
2015, "Norm-based capacity control"; the path norms of the public measure collections). The sum over all of them is the
sum of the outputs of the same graph with ``|w|^p`` in place of every weight, on an input of ones (the collections).
"With biases" every bias and shift is a path from a constant 1, as in the collections; without, they are left out.

Conventions, those of the collections: pooling, means and scalars written in the code keep their own coefficients (not
raised to ``p``), max pooling takes the largest entry of its window, activations that are the identity on non-negative
values drop out. Anything else is no sum over paths and is refused with the reason.

Values carry one shared exponent per tensor, so that nothing overflows, however many layers there are; entries 1e-300
times the largest of their tensor become 0. These are quantities by which networks are compared, NOT bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.network import Architecture, Node
from bitcert.network.nodes import INPUT
from bitcert.network.operations import OPERATIONS
from bitcert.stability.layers import ACTIVATIONS
from bitcert.theory.ingredients.graph import Graph, number, refusal
from bitcert.theory.logs import log
from bitcert.theory.value import Absent

EXPONENTS = (1.0, 1.5, 2.0)
"""The ``p`` of the collections."""

_STATEMENT = "a path norm is for sums over paths of products of weights"

_IDENTITY = frozenset(["relu", "leaky_relu", "prelu", "elu", "abs"])
"""Activations that are the identity on non-negative values, provided that their slope never exceeds 1."""


def path_norms(
    architecture: Architecture, parameters: Mapping[str, Tensor], with_biases: bool
) -> dict[float, float] | Absent:
    """Natural logarithm of the path norm by ``p``; ``-inf`` where no path has a product other than 0.

    Args:
        architecture: of the network.
        parameters: its tensors by name.
        with_biases: whether biases and shifts are paths from a constant 1.

    Returns:
        The logarithms, or ``Absent`` naming the nodes that are no sums over paths.
    """
    graph = Graph.of(architecture, parameters)
    refused = refusal(graph, _STATEMENT, lambda node: _problem(graph, node))
    if refused is not None:
        return refused
    with torch.no_grad():
        return {p: _log_sum_of_paths(graph, p, with_biases) / p for p in EXPONENTS}


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Non-negative values ``mantissa * exp(log)`` with a largest mantissa of 1; ``log`` is ``-inf`` if all are 0."""

    mantissa: Tensor
    log: float

    @classmethod
    def of(cls, values: Tensor, exponent: float = 0.0) -> _Scaled:
        top = float(values.max())
        return cls(values, -math.inf) if top == 0 else cls(values / top, exponent + math.log(top))

    def at(self, exponent: float) -> Tensor:
        """Mantissas for another exponent, which must not be smaller."""
        if math.isinf(self.log):
            return torch.zeros_like(self.mantissa)
        return self.mantissa * math.exp(self.log - exponent)


@dataclass(frozen=True, eq=False)
class _Pass:
    """One run with every weight ``w`` replaced by ``|w|^p``."""

    graph: Graph
    p: float
    with_biases: bool

    def weight(self, value: Tensor) -> _Scaled:
        """``|w|^p`` of a constant."""
        scaled = _Scaled.of(value.double().abs())
        return scaled if math.isinf(scaled.log) else _Scaled(scaled.mantissa**self.p, self.p * scaled.log)

    def offset(self, value: Tensor, power: bool = True) -> _Scaled:
        """What a constant adds: nothing unless biases count."""
        if not self.with_biases:
            return _Scaled(torch.zeros_like(value, dtype=torch.float64), -math.inf)
        return self.weight(value) if power else _Scaled.of(value.double().abs())


def _log_sum_of_paths(graph: Graph, p: float, with_biases: bool) -> float:
    run = _Pass(graph, p, with_biases)
    last = {name: node.name for node in graph.architecture.nodes for name in node.inputs}
    values = {INPUT: _Scaled.of(torch.ones(1, *graph.architecture.input_shape, dtype=torch.float64))}
    for node in graph.varying_nodes:
        parts = [values[name] for name in graph.varying_inputs(node)]
        values[node.name] = _RULES[node.op](run, node, parts)
        for name in set(node.inputs).intersection(values):
            if last[name] == node.name:
                del values[name]
    output = values.get(graph.architecture.output)
    if output is None:
        output = run.offset(graph.constants[graph.architecture.output])
    return output.log + log(float(output.mantissa.sum()))


def _apply(node: Node, tensors: Sequence[Tensor], **changes: float) -> Tensor:
    return OPERATIONS[node.op].run(tensors, {**node.attributes, **changes}, 1)


def _total(parts: Sequence[_Scaled]) -> _Scaled:
    """Sum with broadcasting."""
    top = max(part.log for part in parts)
    total = parts[0].at(top)
    for part in parts[1:]:
        total = total + part.at(top)
    return _Scaled.of(total, top)


def _keep(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    return parts[0]


def _weighted(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    constants, x = run.graph.constants, parts[0]
    weight = run.weight(constants[node.inputs[1]])
    found = _Scaled.of(_apply(node, [x.mantissa, weight.mantissa]), x.log + weight.log)
    if len(node.inputs) < 3:
        return found
    bias = constants[node.inputs[2]]
    shape = (-1,) if node.op == "linear" else (-1, *(1,) * (found.mantissa.dim() - 2))
    return _total([found, run.offset(bias.reshape(shape))])


def _channels(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    shape = (-1, *(1,) * (parts[0].mantissa.dim() - 2))
    scale, shift = (run.graph.constants[name].reshape(shape) for name in node.inputs[1:])
    return _total([_times(parts[0], run.weight(scale)), run.offset(shift)])


def _times(x: _Scaled, weight: _Scaled) -> _Scaled:
    return _Scaled.of(x.mantissa * weight.mantissa, x.log + weight.log)


def _add(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    return _total([*parts, *(run.offset(value) for value in run.graph.constant_inputs(node))])


def _add_scalar(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    value = torch.tensor(number(node.attributes["value"]))
    return _total([parts[0], run.offset(value, power=False)])


def _multiply(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    (factor,) = run.graph.constant_inputs(node)
    return _times(parts[0], run.weight(factor if node.op == "mul" else 1 / factor))


def _multiply_scalar(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    value = abs(number(node.attributes["value"]))
    return _Scaled(parts[0].mantissa, parts[0].log + (log(value) if node.op == "mul_scalar" else -log(value)))


def _product(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    weight = run.weight(run.graph.constant_inputs(node)[0])
    pair = (parts[0], weight) if node.inputs[0] in run.graph.varying else (weight, parts[0])
    return _Scaled.of(_apply(node, [side.mantissa for side in pair]), parts[0].log + weight.log)


def _largest(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    top = max(part.log for part in parts)
    return _Scaled.of(_apply(node, [part.at(top) for part in parts]), top)


def _concatenate(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    known, constants = iter(parts), run.graph.constants
    blocks = [run.offset(constants[name]) if name in constants else next(known) for name in node.inputs]
    top = max(block.log for block in blocks)
    return _Scaled.of(_apply(node, [block.at(top) for block in blocks]), top)


def _pad(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    x = parts[0]
    found = _Scaled.of(_apply(node, [x.mantissa], value=0.0), x.log)
    edge = abs(number(node.attributes["value"]))
    return _total([found, run.offset(_apply(node, [torch.zeros_like(x.mantissa)], value=edge), power=False)])


def _move(run: _Pass, node: Node, parts: Sequence[_Scaled]) -> _Scaled:
    return _Scaled.of(_apply(node, [parts[0].mantissa]), parts[0].log)


_Rule = Callable[[_Pass, Node, Sequence[_Scaled]], _Scaled]

_GROUPS: Mapping[_Rule, tuple[str, ...]] = {
    _keep: (*_IDENTITY, "neg", "to_float"),
    _weighted: ("linear", "conv1d", "conv2d", "local_conv2d"),
    _channels: ("affine_channel",),
    _add: ("add", "sub"),
    _add_scalar: ("add_scalar",),
    _multiply: ("mul", "div"),
    _multiply_scalar: ("mul_scalar", "div_scalar"),
    _product: ("matmul",),
    _largest: ("maximum",),
    _concatenate: ("cat",),
    _pad: ("pad",),
    _move: (
        *("mean", "sum", "amax", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d"),
        *("adaptive_avg_pool2d", "reshape", "permute", "expand", "repeat", "select", "slice"),
    ),
}
_RULES: Mapping[str, _Rule] = {op: rule for rule, ops in _GROUPS.items() for op in ops}


def _problem(graph: Graph, node: Node) -> str:
    if node.op in _IDENTITY:
        return "" if graph.slope_at_most_one(node) else "a slope above 1"
    if node.op in ACTIVATIONS:
        return "not the identity on non-negative values"
    varying = len(graph.varying_inputs(node))
    if node.op in ("mul", "div", "matmul") and varying > 1:
        return "a product of values that vary"
    if node.op == "maximum" and varying < 2:
        return "a comparison with a constant"
    if node.op == "div" and (node.inputs[0] not in graph.varying or bool((graph.constant_inputs(node)[0] == 0).any())):
        return "a division by a value that varies or is 0"
    if node.op == "div_scalar" and number(node.attributes["value"]) == 0:
        return "a division by 0"
    return "" if node.op in _RULES else "no sum of weighted values"
