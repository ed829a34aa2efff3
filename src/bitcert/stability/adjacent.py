"""``‖J^{i,j}‖_F`` of layers next to each other: exact, from the column norms of ``A^j`` alone.

If every unit of ``x^i`` influences at most one unit of layer ``j``'s input (activations, scalings, reshapes, pooling
without overlap lie between, and one path), the map ``D`` between them has at most one entry in each column, and

    ``‖A D‖_F² = Σ_v ‖A_{:,u(v)}‖² D_{u(v),v}²``.

With ``c_u = ‖A_{:,u}‖`` the terms are the squared entries of ``Dᵀ c``: one backward sweep of one row, where the general
case takes one for every unit of ``x^j``. The column norms do not depend on the example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from bitcert.network import Architecture, Node
from bitcert.network.nodes import INPUT
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.rules import AVERAGES, LINEAR, PASSING, POINTWISE

_ONE_ENTRY = (POINTWISE | PASSING | LINEAR - AVERAGES - {"repeat"}) | {"affine_channel", "cat"}
"""Operations whose result has at most one entry for each entry of an input, whatever their settings."""


def adjacent_pairs(architecture: Architecture, structure: Structure) -> frozenset[tuple[int, int]]:
    """The pairs for which the formula holds."""
    nodes = {node.name: node for node in architecture.nodes}
    index = {layer.node: layer.index for layer in structure.layers}
    shapes = {name: value.shape for name, value in architecture.propagation.values.items()}
    found: set[tuple[int, int]] = set()
    for layer in structure.layers:
        paths = _count_paths(nodes, layer.source)
        open_names = [layer.source]
        seen = {layer.source}
        while open_names:
            name = open_names.pop()
            if name in index:
                if paths[name] == 1:
                    found.add((index[name], layer.index))
                continue
            node = nodes.get(name)
            if node is None or not _one_entry(node, shapes):
                continue
            fresh = {n for n in node.inputs if (n in nodes or n == INPUT) and n not in seen}
            seen |= fresh
            open_names += sorted(fresh)
    return frozenset(found)


def _count_paths(nodes: dict[str, Node], end: str) -> dict[str, int]:
    """For every node, how many paths lead from it to ``end``."""
    counts = {end: 1}
    for name in reversed(nodes):
        for n in nodes[name].inputs if name in counts else ():
            if n in nodes:
                counts[n] = counts.get(n, 0) + counts[name]
    return counts


def _one_entry(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether each entry of an input influences at most one entry of the result."""
    before, after = shapes[node.inputs[0]], shapes[node.name]
    if node.op in ("add", "sub"):
        return all(shapes[name] == after for name in node.inputs)
    if node.op.startswith("adaptive_avg_pool"):
        return all(n % out == 0 for n, out in zip(before[2:], after[2:], strict=True))
    if "_pool" in node.op:
        kernel, stride = node.attributes["kernel_size"], node.attributes["stride"]
        assert isinstance(kernel, tuple)
        assert isinstance(stride, tuple)
        dilation = node.attributes.get("dilation", (1,) * len(kernel))
        return dilation == (1,) * len(kernel) and all(k <= s for k, s in zip(kernel, stride, strict=True))
    return node.op in _ONE_ENTRY


def column_norms(layer: MeasuredLayer, linearisation: Linearisation) -> Tensor:
    """``‖A_{:,u}‖`` for every unit ``u`` of the layer's input, ``[1, 1, *shape of the input]``."""
    m = linearisation.map(layer.node)
    squared = replace(m, inputs=(m.inputs[0], m.inputs[1].square(), *m.inputs[2:]))
    (pulled, *_) = squared.pull(m.output.new_ones(1, 1, *m.output.shape[1:]))
    assert pulled is not None
    return pulled.clamp(min=0).sqrt()


def adjacent_columns(
    layer: MeasuredLayer, sources: Mapping[int, str], linearisation: Linearisation
) -> dict[int, Tensor]:
    """Norm of every column of ``J^{i,j}`` for ``j = layer`` and each adjacent ``i``, ``[B, *shape of x^i]``.

    Args:
        layer: layer ``j``.
        sources: node of every adjacent layer ``i`` by its index.
        linearisation: the batch.
    """
    names = {node: i for i, node in sources.items()}
    found: dict[int, Tensor] = {}
    for name, pulled in linearisation.sweep(layer.source, column_norms(layer, linearisation), names):
        found[names[name]] = pulled[0].abs().expand(len(linearisation), *pulled.shape[2:])
    return found
