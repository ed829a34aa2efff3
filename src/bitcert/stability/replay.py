"""What follows a node when its value, and nothing else, is replaced: the map ``M^{i,j}`` of docs/theory.md section 3.1.

Only the nodes downstream of the perturbed one are computed again; every other path (a shortcut, another branch of a
concatenation) keeps its clean value, as the partial derivative in the graph does. The ``R`` perturbations of a batch
are folded into the batch axis, wherever a node has it, so that each operation runs once.
It does NOT promise equal bits with one pass per perturbation: rounding may depend on the batch size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from bitcert.errors import InputError
from bitcert.network import Node
from bitcert.network.layouts import Layout
from bitcert.network.nodes import INPUT
from bitcert.network.operations import OPERATIONS
from bitcert.stability.layers import needed_nodes
from bitcert.stability.linearisation import Linearisation, channels_innermost


def replay(
    clean: Linearisation, source: str, perturbed: Tensor, targets: Collection[str]
) -> Iterator[tuple[str, Tensor]]:
    """Values of ``targets`` when the value of ``source`` is replaced, one at a time, so that none need be kept.

    Args:
        clean: the network and its values at the batch.
        source: ``"input"`` or a node.
        perturbed: ``[R, *shape]``, ``R`` values in place of the clean one, which has ``shape`` ``[B, ...]``.
        targets: names of nodes; those that do not depend on ``source`` are absent from the result.

    Yields:
        Name and value ``[R, *shape of the target]``, in order of computation; ``source`` itself is what was passed.

    Raises:
        InputError: ``perturbed`` has not the shape of the clean value behind its first axis.
    """
    if perturbed.dim() == 0 or perturbed.shape[1:] != clean.values[source].shape:
        wanted = ", ".join(str(size) for size in ("R", *clean.values[source].shape))
        raise InputError(f"values of shape [{wanted}] for {source!r}", f"shape {list(perturbed.shape)}", "reshape them")
    if clean.architecture.propagation.values[source].layout is None:
        raise InputError("a node that depends on the input", f"{source!r}, which is constant", "perturb another node")
    nodes = needed_nodes(clean.architecture, {source}, targets)
    if source in targets:
        yield source, perturbed
    sweep = _Sweep(clean, len(perturbed), clean.parameters)
    yield from sweep.run({source: sweep.fold(source, perturbed)}, nodes, targets)


def substituted(
    clean: Linearisation, parameters: Mapping[str, Tensor], targets: Collection[str]
) -> Iterator[tuple[str, Tensor]]:
    """Values of ``targets`` at the clean input with other parameters, one at a time in order of computation.

    Args:
        clean: the network and its values at the batch.
        parameters: replacements by name; what is missing stays as it is.
        targets: names of nodes; those that no replaced parameter reaches are absent.
    """
    nodes = needed_nodes(clean.architecture, set(parameters), targets)
    sweep = _Sweep(clean, 1, {**clean.parameters, **parameters})
    for name, value in sweep.run({}, nodes, targets):
        yield name, value[0]


class _Sweep:
    """One forward pass over some nodes with ``copies`` perturbations folded into the batch."""

    def __init__(self, clean: Linearisation, copies: int, parameters: Mapping[str, Tensor]) -> None:
        self.clean, self.copies, self.parameters = clean, copies, parameters
        self.batch = len(clean.values[INPUT])
        self.layouts = {name: value.layout for name, value in clean.architecture.propagation.values.items()}

    def run(
        self, folded: dict[str, Tensor], nodes: tuple[Node, ...], targets: Collection[str]
    ) -> Iterator[tuple[str, Tensor]]:
        last = {name: node.name for node in nodes for name in node.inputs}
        for node in nodes:
            value = self._compute(node, folded)
            for name in set(node.inputs):
                if last[name] == node.name:
                    folded.pop(name, None)
            if node.name in last:
                folded[node.name] = value
            if node.name in targets:
                yield node.name, self._unfold(node.name, value)

    def _compute(self, node: Node, folded: dict[str, Tensor]) -> Tensor:
        tensors = [self._operand(name, folded) for name in node.inputs]
        if node.op == "conv2d":
            tensors[0] = channels_innermost(tensors[0])
        with torch.no_grad(), torch.device(self.clean.values[INPUT].device):
            return OPERATIONS[node.op].run(tensors, node.attributes, self.copies * self.batch)

    def _operand(self, name: str, folded: dict[str, Tensor]) -> Tensor:
        if name in folded:
            return folded[name]
        if name in self.parameters:
            return self.parameters[name]
        value = self.clean.values[name]
        if self.layouts[name] is None or self.copies == 1:
            return value
        if self.layouts[name] == Layout(0):
            # unlike a reshape of an expanded view, a concatenation keeps the channels innermost
            return torch.cat([value] * self.copies)
        return self.fold(name, value.expand(self.copies, *value.shape))

    def fold(self, name: str, stacked: Tensor) -> Tensor:
        """``[R, ..., outer * B * inner, ...] -> [..., outer * R * B * inner, ...]``."""
        layout = self.layouts[name]
        assert layout is not None
        if layout.axis == 0 and layout.outer == 1:
            return stacked.flatten(0, 1)
        axis = layout.axis
        split = torch.unflatten(stacked, axis + 1, (layout.outer, self.batch, layout.inner))
        return split.movedim(0, axis + 1).flatten(axis, axis + 3)

    def _unfold(self, name: str, folded: Tensor) -> Tensor:
        layout = self.layouts[name]
        if layout is None:
            return folded[None].expand(self.copies, *folded.shape)
        if layout.axis == 0 and layout.outer == 1:
            return torch.unflatten(folded, 0, (self.copies, folded.shape[0] // self.copies))
        axis = layout.axis
        split = torch.unflatten(folded, axis, (layout.outer, self.copies, self.batch, layout.inner))
        return split.movedim(axis + 1, 0).flatten(axis + 1, axis + 3)


_ROWS = 256
"""Perturbed examples computed at a time: more would need more memory and, on a processor, more time."""


def portions(copies: int, batch: int) -> Iterator[slice]:
    """Consecutive parts of ``copies`` perturbations of ``batch`` examples, about 256 examples each.

    >>> list(portions(5, 100))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, _ROWS // max(1, batch))
    for start in range(0, copies, size):
        yield slice(start, min(copies, start + size))


def samples_first(value: Tensor, layout: Layout | None, batch: int) -> Tensor:
    """``[B, ...]``: a node's value with the examples on the first axis, wherever the node has them.

    >>> samples_first(torch.arange(6).reshape(2, 3), Layout(1), 3).flatten(1).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    if layout is None:
        return value.expand(batch, *value.shape)
    if layout == Layout(0):
        return value
    split = torch.unflatten(value, layout.axis, (layout.outer, batch, layout.inner))
    return split.movedim(layout.axis + 1, 0)


def norms(value: Tensor, leading: int) -> Tensor:
    """``l2`` norms over all axes but the first ``leading``; NaN for integers, which have no norm of interest."""
    if not value.is_floating_point():
        return torch.full(value.shape[:leading], torch.nan, device=value.device)
    result: Tensor = torch.linalg.vector_norm(value, dim=tuple(range(leading, value.dim())))
    return result
