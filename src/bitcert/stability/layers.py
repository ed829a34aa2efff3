"""What of a captured network is measured: its weight layers, and which of them feed which.

Layer ``i = 1 .. d`` is the ``i``-th linear or convolution node in order of computation, and ``x^i`` is that node's
value (docs/theory.md section 1: the pre-activation; batch norm is folded before). ``J^{i,j}`` exists for the pairs ``i
< j`` with a path from node ``i`` to node ``j``. What lies between two weight layers (activations, pooling, reshaping,
shortcuts) is ``φ``. Layers whose batch is not the first axis are named and left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from bitcert.network import Architecture, Node, WeightLayer
from bitcert.network.later_operations import STEPS
from bitcert.network.layouts import Layout
from bitcert.network.nodes import INPUT

ACTIVATIONS = frozenset(
    [
        *("relu", "leaky_relu", "prelu", "silu", "tanh", "sigmoid", "hardswish", "hardsigmoid", "mish", "selu", "elu"),
        *("gelu", "softplus", "clamp"),
    ]
)
"""Elementwise nonlinear operations; everything else between weight layers belongs to ``M^{i,j}`` without a name."""

WITHOUT_DERIVATIVE = STEPS | {"to_index", "arange", "embedding"}
"""Operations whose result does not vary smoothly with their first input."""


@dataclass(frozen=True)
class MeasuredLayer:
    """Weight layer ``index`` (from 1): ``x^i = A^i values[source] + bias``.

    Attributes:
        channels: ``h_i``, output channels or width.
        positions: ``n1_i n2_i``, output places that share the weights; 1 for a dense layer.
        kernel_size, stride: largest over the spatial axes; 1 and 1 for a dense layer.
        window: product over the spatial axes of ``⌈κ/s⌉``, the ``⌈κ/s⌉²`` of a square 2-D kernel; 1 for a dense layer.
    """

    index: int
    node: str
    op: str
    source: str
    weight: str
    bias: str | None
    channels: int
    positions: int
    kernel_size: int
    stride: int
    window: int

    @property
    def channel_axis(self) -> int:
        """Axis of the channels in the node's value ``[B, ...]``."""
        return -1 if self.op == "linear" else 1

    @property
    def num_units(self) -> int:
        """Entries of ``x^i`` per example."""
        return self.channels * self.positions


@dataclass(frozen=True, eq=False)
class Structure:
    """Layers of an architecture, and how they are connected.

    Attributes:
        layers: measured weight layers in order of computation.
        pairs: ``(i, j)``, ``i < j``, with a path from layer ``i`` to layer ``j``; ordered by ``j``, then ``i``.
        feeds: for each layer, the layers whose values its input is computed from without another weight layer in
            between, ascending; 0 is the network's input. ``(i - 1,)`` for layer ``i`` of a chain.
        reaches: for the input and every node, the nodes whose value depends on it (itself not included).
        chain: whether every layer's input depends on the layer before and on no earlier one except through it.
        skipped: one sentence for every weight layer that is left out.
    """

    layers: tuple[MeasuredLayer, ...]
    pairs: tuple[tuple[int, int], ...]
    feeds: tuple[tuple[int, ...], ...]
    reaches: Mapping[str, frozenset[str]]
    chain: bool
    skipped: tuple[str, ...]

    @classmethod
    def of(cls, architecture: Architecture) -> Structure:
        """The structure of ``architecture``."""
        nodes = {node.name: node for node in architecture.nodes}
        layers: list[MeasuredLayer] = []
        skipped: list[str] = []
        for layer in architecture.weight_layers:
            values = (architecture.propagation.values[name] for name in (layer.node, layer.source))
            if any(value.layout != Layout(0) for value in values):
                skipped.append(f"{layer.node}: the examples are not along the first axis of its input or output")
            else:
                layers.append(_measured(architecture, layer, nodes[layer.node], len(layers) + 1))
        reaches = _reaches(architecture)
        pairs = tuple(
            (low.index, high.index)
            for high in layers
            for low in layers[: high.index - 1]
            if high.node in reaches[low.node]
        )
        feeds = _feeds(architecture, layers)
        return cls(tuple(layers), pairs, feeds, reaches, _is_chain(architecture, layers), tuple(skipped))

    @property
    def nodes(self) -> tuple[str, ...]:
        """Node of every layer."""
        return tuple(layer.node for layer in self.layers)

    @property
    def unconnected(self) -> tuple[tuple[int, int], ...]:
        """Pairs ``i < j`` without a path."""
        depth, known = len(self.layers), set(self.pairs)
        every = ((i, j) for j in range(1, depth + 1) for i in range(1, j))
        return tuple(pair for pair in every if pair not in known)


def downstream(architecture: Architecture, sources: Collection[str]) -> set[str]:
    """Nodes that are computed from one of ``sources``; a source is among them if it is computed from another one."""
    found: set[str] = set()
    for node in architecture.nodes:
        if any(name in found or name in sources for name in node.inputs):
            found.add(node.name)
    return found


def needed_nodes(architecture: Architecture, sources: Collection[str], targets: Collection[str]) -> tuple[Node, ...]:
    """Nodes on a path from one of ``sources`` to one of ``targets``, in order of computation."""
    below = downstream(architecture, sources)
    above: set[str] = set(targets)
    found: list[Node] = []
    for node in reversed(architecture.nodes):
        if node.name in above and node.name in below and node.name not in sources:
            found.append(node)
            above.update(node.inputs)
    return tuple(reversed(found))


def _measured(architecture: Architecture, layer: WeightLayer, node: Node, index: int) -> MeasuredLayer:
    shape = architecture.propagation.values[layer.node].shape[1:]
    channels = shape[-1] if layer.op == "linear" else shape[0]
    kernel = architecture.propagation.values[layer.weight].shape[2:]
    stride = node.attributes.get("stride")
    strides = stride if isinstance(stride, tuple) else (1,) * len(kernel)
    return MeasuredLayer(
        index=index,
        node=layer.node,
        op=layer.op,
        source=layer.source,
        weight=layer.weight,
        bias=layer.bias,
        channels=channels,
        positions=math.prod(shape) // channels,
        kernel_size=max(kernel, default=1),
        stride=max(strides, default=1),
        window=math.prod(-(-k // s) for k, s in zip(kernel, strides, strict=True)),
    )


def _reaches(architecture: Architecture) -> dict[str, frozenset[str]]:
    reaches: dict[str, set[str]] = {INPUT: set(), **{node.name: set() for node in architecture.nodes}}
    for node in reversed(architecture.nodes):
        if node.op in WITHOUT_DERIVATIVE:
            continue
        for name in node.inputs:
            if name in reaches:
                reaches[name] |= {node.name, *reaches[node.name]}
    return {name: frozenset(found) for name, found in reaches.items()}


def _feeds(architecture: Architecture, layers: list[MeasuredLayer]) -> tuple[tuple[int, ...], ...]:
    numbers = {layer.node: layer.index for layer in layers}
    weighted = {layer.node for layer in architecture.weight_layers}
    found: dict[str, frozenset[int]] = {INPUT: frozenset({0})}
    for node in architecture.nodes:
        if node.name in weighted:
            own = numbers.get(node.name)
            found[node.name] = frozenset() if own is None else frozenset({own})
        else:
            found[node.name] = frozenset().union(*(found.get(name, frozenset()) for name in node.inputs))
    return tuple(tuple(sorted(found.get(layer.source, ()))) for layer in layers)


def _is_chain(architecture: Architecture, layers: list[MeasuredLayer]) -> bool:
    """Every node between the input and the output has one input that is not a parameter, and one consumer."""
    known = {INPUT, *(node.name for node in architecture.nodes)}
    used: set[str] = set()
    for node in architecture.nodes:
        inputs = [name for name in node.inputs if name in known]
        if len(inputs) != 1 or inputs[0] in used:
            return False
        used.add(inputs[0])
    return bool(layers)
