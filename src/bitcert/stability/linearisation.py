"""A network at a batch of inputs, as the linear maps it is there: every value, and the Jacobian between any two nodes.

``J^{i,j} = dx^j / dx^i`` is the partial derivative in the graph (docs/theory.md section 3.1): the value of node ``i``
is perturbed, every other path stays clean. :meth:`Linearisation.push` multiplies it from the right, forwards;
:meth:`Linearisation.sweep` from the left, backwards, and one sweep from ``x^j`` serves every ``i < j``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from bitcert.network import Architecture
from bitcert.network.layouts import Layout
from bitcert.network.nodes import INPUT
from bitcert.stability.layers import downstream, needed_nodes
from bitcert.stability.rules import FRESH, NodeMap, node_map


class Linearisation:
    """Values of all nodes at ``x`` and the derivatives between them.

    Args:
        architecture: the network's graph.
        parameters: its tensors, of the dtype in which everything is computed.
        x: ``[B, *input_shape]``.
        innermost: keep images and filters with the channels innermost in memory; it matters for speed and rounding.

    Attributes:
        values: value of the input and of every node by name, ``[B, ...]``.
    """

    def __init__(
        self, architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, innermost: bool = True
    ) -> None:
        if innermost:
            parameters = {name: channels_innermost(value) for name, value in parameters.items()}
            x = channels_innermost(x)
        self.architecture, self.parameters = architecture, parameters
        with torch.no_grad():
            results = architecture.activations(x, self.parameters)
        self.values: dict[str, Tensor] = {INPUT: x, **results}
        self._layouts = {name: value.layout for name, value in architecture.propagation.values.items()}
        # Directions that all examples share stay unexpanded only while the batch is an axis of its own everywhere.
        self._shareable = set(self._layouts.values()) <= {None, Layout(0)}
        self._maps: dict[str, NodeMap] = {}
        self._order = {node.name: k for k, node in enumerate(architecture.nodes)}

    def __len__(self) -> int:
        return len(self.values[INPUT])

    def take(self, index: Tensor) -> Linearisation:
        """The same network at the examples ``index`` of this batch."""
        x = self.values[INPUT]
        return Linearisation(self.architecture, self.parameters, x[index.to(x.device)])

    def map(self, name: str) -> NodeMap:
        """Derivative of one node."""
        found = self._maps.get(name)
        if found is None:
            node = self.architecture.nodes[self._order[name]]
            found = self._maps[name] = node_map(node, {**self.parameters, **self.values}, self._layouts, len(self))
        return found

    @torch.no_grad()
    def push(self, source: str, tangents: Tensor, targets: Collection[str]) -> dict[str, Tensor]:
        """``J t`` at every target: forward mode.

        Args:
            source: ``"input"`` or a node.
            tangents: ``[R, B, *shape]`` (or ``[R, 1, *shape]``, the same for all examples).
            targets: names of nodes; those that do not depend on ``source`` are absent from the result.

        Returns:
            ``[R, B, *shape of the target]`` by name (``[R, 1, ...]`` where all examples still agree).
        """
        needed = needed_nodes(self.architecture, {source}, targets)
        last = {name: node.name for node in needed for name in node.inputs}
        moved = {source: self._expanded(source, tangents)}
        found = {source: tangents} if source in targets else {}
        for node in needed:
            m = self.map(node.name)
            arriving = [moved.get(n) if v else None for n, v in zip(node.inputs, m.varies, strict=True)]
            if any(t is not None for t in arriving):
                moved[node.name] = m.push(arriving)
                if node.name in targets:
                    found[node.name] = moved[node.name]
            for name in set(node.inputs):
                if last[name] == node.name:
                    moved.pop(name, None)
        return found

    @torch.no_grad()
    def sweep(self, target: str, cotangents: Tensor, sources: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """``g J`` at every source: reverse mode, one sweep for all of them.

        Args:
            target: a node.
            cotangents: ``[R, B, *shape]`` or ``[R, 1, *shape]``.
            sources: ``"input"`` or nodes; those that ``target`` does not depend on are absent from the result.

        Yields:
            Name and ``[R, B, *shape of the source]`` (``[R, 1, ...]`` where all examples still agree), nearest first;
            each is valid until the next one is asked for.
        """
        moved = {target: self._expanded(target, cotangents)}
        wanted = downstream(self.architecture, sources)
        owned: set[str] = set()  # cotangents that nobody else holds, so that they may be overwritten
        for k in range(self._order[target], -1, -1):
            node = self.architecture.nodes[k]
            arriving = moved.pop(node.name, None)
            if arriving is None:
                continue
            if node.name in sources:
                yield node.name, arriving
            if node.name not in wanted:
                continue
            parts = self.map(node.name).pull(arriving, overwrite=node.name in owned)
            for name, part in zip(node.inputs, parts, strict=True):
                if part is None or not (name in wanted or name in sources):
                    continue
                fresh = node.op in FRESH
                if name in moved:
                    same = fresh and part.shape == moved[name].shape
                    moved[name] = part.add_(moved[name]) if same else moved[name] + part
                    owned.add(name)
                else:
                    moved[name] = part
                    if fresh:
                        owned.add(name)
        if INPUT in sources and INPUT in moved:
            yield INPUT, moved[INPUT]

    def _expanded(self, name: str, moved: Tensor) -> Tensor:
        return moved if self._shareable else moved.expand(len(moved), *self.values[name].shape)


def channels_innermost(value: Tensor) -> Tensor:
    """Images and filters with the channels innermost in memory: convolutions with few channels run faster so."""
    if value.dim() == 4 and value.is_floating_point():
        return value.contiguous(memory_format=torch.channels_last)
    return value
