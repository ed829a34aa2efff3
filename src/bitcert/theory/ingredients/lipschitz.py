"""Worst-case growth through a captured graph, from operator norms at the real input size (Zhang 2020, Theorem 6.1).

The printed recursion is for double-layer skips, ``x^i = A^i phi(x^{i-1}) + B^i phi(x^{i-2})``:

    L_1 = ||A^1||_2,   L_i = ||A^i||_2 L_{i-1} + ||B^i||_2 L_{i-2}   (L_0 = 1)

Here every node has its own factor, so that the same recursion runs on any directed acyclic graph of linear maps,
1-Lipschitz functions and additions: a linear node multiplies by its operator norm, an addition sums its inputs, nodes
that join or compare several inputs (concatenation, maximum) add them as squares. Factors that are not 1: convolutions
and dense layers as measured; scale and shift of channels ``max |scale|``; mean over ``n`` entries ``1 / sqrt(n)``, sum
``sqrt(n)``; average pooling by Schur's test (exact for disjoint windows of one size); max pooling ``sqrt(r)`` if an
entry lies in at most ``r`` windows; repetition and broadcasting to ``n`` copies ``sqrt(n)``. Each is an upper bound on
the l2 growth of that node, so the result is one for the network, up to the operator norms it is given.

Refused, with the reason: products of two values that vary, softmax, norms over features, activations steeper than 1,
powers and exponentials, tokens. It does NOT say how much the network grows on real inputs, which is far less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from bitcert.linear import LayerMap, operator_norm
from bitcert.linear.lanczos import largest_singular_value
from bitcert.network import Architecture, Node
from bitcert.network.nodes import INPUT
from bitcert.network.operations import WEIGHT_OPERATIONS
from bitcert.stability.layers import ACTIVATIONS, Structure
from bitcert.stability.pooling import POOLING, pooling_growth
from bitcert.theory.ingredients.graph import Graph, number, refusal
from bitcert.theory.inputs import Lipschitz
from bitcert.theory.logs import log, log_sum
from bitcert.theory.value import Absent

_STATEMENT = "the Lipschitz recursion is for linear maps, 1-Lipschitz functions and additions"

_REASONS = {
    "softmax": "a softmax",
    "log_softmax": "a softmax",
    "layer_norm": "a norm over features",
    "group_norm": "a norm over features",
    "attention": "products of values that vary",
    "to_index": "rounding to indices",
    "embedding": "a table of tokens",
    "local_conv2d": "filters of a decoded message",
}
"""Why an operation is none of the three; others are refused for their slope."""


class _Refused(Exception):
    """A node that the recursion does not cover."""


@dataclass(frozen=True)
class _Step:
    """A node: ``ln`` of the factor for each varying input; ``joint`` if they add as squares."""

    edges: tuple[tuple[str, float], ...]
    joint: bool = False


def lipschitz(
    architecture: Architecture, parameters: Mapping[str, Tensor], structure: Structure, norms: Mapping[str, float]
) -> Lipschitz | Absent:
    """The growth from the input to the logits, and to every layer.

    Args:
        architecture: of the network.
        parameters: its tensors by name.
        structure: of the architecture; the results are in the order of its layers.
        norms: operator norm of each measured layer at the real input size, by node. What is missing is bounded here.

    Returns:
        The growth, or ``Absent`` naming the nodes that are none of linear, 1-Lipschitz and addition.
    """
    graph = Graph.of(architecture, parameters)
    steps: dict[str, _Step] = {}

    def problem(node: Node) -> str:
        try:
            steps[node.name] = _step(graph, node, norms)
        except _Refused as reason:
            return str(reason)
        return ""

    refused = refusal(graph, _STATEMENT, problem)
    if refused is not None:
        return refused
    before, depth = _forward(graph, steps)
    output = architecture.output
    return Lipschitz(
        log_total=before.get(output, -math.inf),
        log_before=tuple(before.get(layer.source, -math.inf) for layer in structure.layers),
        double_skips=_is_double_skip(graph, steps),
        depth=depth.get(output, 0),
    )


def _forward(graph: Graph, steps: Mapping[str, _Step]) -> tuple[dict[str, float], dict[str, int]]:
    """``ln`` of the growth from the input to every node, and weight layers on the longest path to it."""
    logs, depth = {INPUT: 0.0}, {INPUT: 0}
    for node in graph.varying_nodes:
        step = steps[node.name]
        terms = [logs[name] + factor for name, factor in step.edges]
        logs[node.name] = log_sum(2 * term for term in terms) / 2 if step.joint else log_sum(terms)
        depth[node.name] = max(depth[name] for name, _ in step.edges) + (node.op in WEIGHT_OPERATIONS)
    return logs, depth


def _step(graph: Graph, node: Node, norms: Mapping[str, float]) -> _Step:
    names = graph.varying_inputs(node)
    if node.op in ("add", "sub", "maximum", "minimum"):
        edges = tuple((name, log(_copies(graph, node, name))) for name in names)
        return _Step(edges, joint=node.op in ("maximum", "minimum"))
    if node.op == "cat":
        return _Step(tuple((name, 0.0) for name in names), joint=True)
    if len(names) > 1:
        raise _Refused("a product of values that vary")
    if node.op in WEIGHT_OPERATIONS:
        own = norms.get(node.name)
        return _Step(((names[0], log(_layer_norm(graph, node) if own is None else own)),))
    return _Step(((names[0], log(_factor(graph, node))),))


def _layer_norm(graph: Graph, node: Node) -> float:
    """Operator norm of a weight layer that was not measured, e.g. one whose positions are folded into the batch."""
    weight = graph.constants[node.inputs[1]]
    if node.op == "linear":
        return largest_singular_value(weight)
    return operator_norm(LayerMap.of(node, weight, graph.shape(node.inputs[0]))).value


def _factor(graph: Graph, node: Node) -> float:
    if graph.slope_at_most_one(node):
        return 1.0
    rule = _FACTORS.get(node.op)
    if rule is not None:
        return rule(graph, node)
    if node.op in ACTIVATIONS:
        raise _Refused("an activation with slopes above 1")
    raise _Refused(_REASONS.get(node.op, "its slope has no limit"))


def _copies(graph: Graph, node: Node, name: str) -> float:
    """``sqrt(n)`` if every entry of the input appears ``n`` times in the output."""
    return math.sqrt(max(1.0, graph.entries(node.name) / graph.entries(name)))


def _spread(graph: Graph, node: Node) -> float:
    return _copies(graph, node, graph.varying_inputs(node)[0])


def _mean(graph: Graph, node: Node) -> float:
    return math.sqrt(graph.entries(node.name) / graph.entries(node.inputs[0]))


def _times(graph: Graph, node: Node) -> float:
    (factor,) = graph.constant_inputs(node)
    return float(factor.abs().max()) * _spread(graph, node)


def _over(graph: Graph, node: Node) -> float:
    (divisor,) = graph.constant_inputs(node)
    smallest = float(divisor.abs().min())
    if node.inputs[0] not in graph.varying or smallest == 0:
        raise _Refused("a division by a value that varies or is 0")
    return _spread(graph, node) / smallest


def _over_scalar(graph: Graph, node: Node) -> float:
    divisor = abs(number(node.attributes["value"]))
    if divisor == 0:
        raise _Refused("a division by 0")
    return 1 / divisor


def _power(graph: Graph, node: Node) -> float:
    if number(node.attributes["value"]) != 1:
        raise _Refused("its slope has no limit")
    return 1.0


def _product(graph: Graph, node: Node) -> float:
    """A product with constant matrices ``[..., n, k]``: blocks that act on one value each, or all on copies of it."""
    (matrices,) = graph.constant_inputs(node)
    blocks = matrices.reshape(-1, *matrices.shape[-2:])
    norms = [largest_singular_value(block) for block in blocks]
    taken = matrices.shape[-1] if node.inputs[0] not in graph.varying else matrices.shape[-2]
    given = matrices.shape[-2] if node.inputs[0] not in graph.varying else matrices.shape[-1]
    copies = graph.entries(node.name) * taken / (graph.entries(graph.varying_inputs(node)[0]) * given)
    return max(norms) if copies <= 1 else math.sqrt(math.fsum(norm**2 for norm in norms))


_NO_GROWTH = ("neg", "to_float", "add_scalar", "reshape", "permute", "select", "slice", "pad", "amax")

_FACTORS: Mapping[str, Callable[[Graph, Node], float]] = {
    **dict.fromkeys(_NO_GROWTH, lambda graph, node: 1.0),
    "affine_channel": lambda graph, node: float(graph.constants[node.inputs[1]].abs().max()),
    "mean": _mean,
    "sum": lambda graph, node: 1 / _mean(graph, node),
    "mul": _times,
    "div": _over,
    "mul_scalar": lambda graph, node: abs(number(node.attributes["value"])),
    "div_scalar": _over_scalar,
    "pow_scalar": _power,
    "matmul": _product,
    "expand": _spread,
    "repeat": _spread,
    **dict.fromkeys(sorted(POOLING - {"mean", "amax"}), lambda graph, node: pooling_growth(graph.architecture, node)),
}


class _Levels:
    """Which ``x^k`` every value is, in the printed form."""

    def __init__(self) -> None:
        self.known, self.pending = {INPUT: 0}, dict[str, int]()
        self.newest, self.skips = 0, 0

    def level(self, name: str) -> int | None:
        """``k`` of a value, ``None`` if it is none; a layer that nothing is added to is the newest one on its own."""
        if name in self.pending:
            self._settle(name, [self.pending.pop(name)])
        return self.known.get(name)

    def place(self, node: Node, step: _Step) -> bool:
        """Take one more node; whether it is of the printed form."""
        names = [name for name, _ in step.edges]
        if node.op == "add" and len(names) == 2:  # A phi(x^{k-1}) + B phi(x^{k-2})
            if len(self.pending.keys() & {*names}) < 2:
                return False
            self._settle(node.name, sorted((self.pending.pop(name) for name in names), reverse=True))
            self.skips += 1
            return node.name in self.known
        level = self.level(names[0])
        if level is None or len(names) > 1:
            return False
        if node.op in WEIGHT_OPERATIONS:
            self.pending[node.name] = level
        elif step.edges[0][1] == 0:
            self.known[node.name] = level
        return node.name in self.pending or node.name in self.known

    def _settle(self, name: str, sources: list[int]) -> None:
        """Make a value the next ``x^k``, if its layers read the levels before."""
        if sources == [self.newest, self.newest - 1][: len(sources)]:
            self.newest += 1
            self.known[name] = self.newest


def _is_double_skip(graph: Graph, steps: Mapping[str, _Step]) -> bool:
    """Whether every ``x^i`` is ``A^i phi(x^{i-1})``, with ``B^i phi(x^{i-2})`` added at least once."""
    levels = _Levels()
    printed = all(levels.place(node, steps[node.name]) for node in graph.varying_nodes)
    return printed and levels.level(graph.architecture.output) is not None and levels.skips > 0 and not levels.pending
