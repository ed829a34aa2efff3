"""Batch norm in evaluation mode as part of the layer before it.

With running mean ``m``, variance ``v``, gain ``g`` and shift ``b``: ``s = g / sqrt(v + eps)`` and
``BN(W x + c) = (s W) x + (s (c - m) + b)``. Where the layer before has another consumer, a shared weight or no
matching channel axis, the norm becomes ``affine_channel`` with the two vectors ``s`` and ``b - s m``.
Computed in float64 and rounded once to float32: equal as real numbers, NOT bit-identical to the unfolded network.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitcert.network.lowering import new_name
from bitcert.network.nodes import Node
from bitcert.network.operations import WEIGHT_OPERATIONS

BATCH_NORM = "batch_norm"


@dataclass(frozen=True)
class Folded:
    """Nodes without batch norms, the parameters they read, and one sentence for every norm."""

    nodes: tuple[Node, ...]
    parameters: dict[str, Tensor]
    output: str
    notes: tuple[str, ...]


def _scale_and_shift(norm: Node, parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    _, gain, shift, mean, variance = norm.inputs
    m, v = parameters[mean].double(), parameters[variance].double()
    s = torch.rsqrt(v + float(norm.attributes["eps"] or 0.0))  # type: ignore[arg-type]
    s = s * parameters[gain].double() if gain else s
    b = parameters[shift].double() if shift else torch.zeros_like(m)
    return s, b - s * m


class _Folder:
    def __init__(self, nodes: list[Node], parameters: dict[str, Tensor], output: str) -> None:
        self.nodes, self.parameters, self.output = nodes, dict(parameters), output
        self.uses = Counter(name for node in nodes for name in node.inputs)
        self.uses[output] += 1
        self.notes: list[str] = []

    def run(self) -> Folded:
        kept: dict[str, Node] = {}
        renamed: dict[str, str] = {}
        for original in self.nodes:
            node = replace(original, inputs=tuple(renamed.get(name, name) for name in original.inputs))
            if node.op != BATCH_NORM:
                kept[node.name] = node
                continue
            layer = kept.get(node.inputs[0])
            if layer is not None and self._foldable(layer, original):
                kept[layer.name] = self._fold(layer, node)
                renamed[node.name] = layer.name
            else:
                kept[node.name] = self._affine(node)
        return Folded(tuple(kept.values()), self.parameters, renamed.get(self.output, self.output), tuple(self.notes))

    def _foldable(self, layer: Node, norm: Node) -> bool:
        if layer.op not in WEIGHT_OPERATIONS or layer.name != norm.inputs[0]:
            return False
        if self.uses[layer.name] != 1 or any(name not in self.parameters for name in layer.inputs[1:]):
            return False
        # a linear layer on [batch, positions, features] is normalised over positions, not over its outputs
        return all(self.uses[name] == 1 for name in layer.inputs[1:]) and (
            layer.op != "linear" or norm.attributes["channels_last"] is True
        )

    def _fold(self, layer: Node, norm: Node) -> Node:
        scale, shift = _scale_and_shift(norm, self.parameters)
        weight_name = layer.inputs[1]
        weight = self.parameters[weight_name]
        self.parameters[weight_name] = (weight.double() * scale.reshape(-1, *(1,) * (weight.dim() - 1))).float()
        if len(layer.inputs) == 3:
            bias_name = layer.inputs[2]
            shift = shift + scale * self.parameters[bias_name].double()
        else:
            bias_name = self._new_name(weight_name.removesuffix("weight") + "bias")
            self.uses[bias_name] += 1
        self.parameters[bias_name] = shift.float()
        self.notes.append(f"batch norm {norm.name} folded into {weight_name} and {bias_name}")
        return replace(layer, inputs=(layer.inputs[0], weight_name, bias_name))

    def _affine(self, norm: Node) -> Node:
        scale, shift = _scale_and_shift(norm, self.parameters)
        stem = norm.inputs[3].removesuffix("running_mean")
        names = self._new_name(f"{stem}scale"), self._new_name(f"{stem}shift")
        self.parameters[names[0]], self.parameters[names[1]] = scale.float(), shift.float()
        self.notes.append(f"batch norm {norm.name} kept as scale and shift of its channels ({names[0]}, {names[1]})")
        return Node(norm.name, "affine_channel", (norm.inputs[0], *names), {})

    def _new_name(self, wanted: str) -> str:
        return new_name(wanted, {node.name for node in self.nodes} | set(self.parameters))


def fold_batch_norms(nodes: list[Node], parameters: dict[str, Tensor], output: str) -> Folded:
    """Removes every ``batch_norm`` node: folded into the layer before where exact, else ``affine_channel``.

    Args:
        nodes: lowered nodes; a ``batch_norm`` has inputs (x, gain or "", shift or "", mean, variance).
        parameters: every tensor the nodes read.
        output: name of the node that holds the logits.
    """
    return _Folder(nodes, parameters, output).run()
