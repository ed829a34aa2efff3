"""Pooling between two weight layers: which nodes pool, and by how much one may make a distance larger.

The proof of Arora 2018, Lemma 3, covers what lies between two layers if it makes no norm larger. Average pooling over
windows of one size does not, by Schur's test (the growth of a map with non-negative entries is at most the root of its
largest row sum times its largest column sum); max pooling grows by ``sqrt(r)`` at most if an entry lies in at most
``r`` windows, so not at all where windows are disjoint. It does NOT say how much pooling shrinks the values at hand:
that is part of the activation contraction.
"""

from __future__ import annotations

import math

import torch

from bitcert.network import Architecture, Node
from bitcert.network.operations import OPERATIONS
from bitcert.stability.layers import needed_nodes
from bitcert.stability.rules import AVERAGES, MAXIMA

POOLING = MAXIMA | AVERAGES | {"mean", "amax"}
"""Operations that join entries of one value into fewer; a mean over all places is pooling too."""


def pooling_between(architecture: Architecture) -> tuple[Node, ...]:
    """The nodes that pool on a path from one weight layer to the next, in order of computation."""
    layers = architecture.weight_layers
    between = needed_nodes(architecture, {layer.node for layer in layers}, {layer.source for layer in layers})
    return tuple(node for node in between if node.op in POOLING)


def pooling_growth(architecture: Architecture, node: Node) -> float:
    """By how much the node makes an l2 distance larger at most; 1 for a mean or a maximum over whole axes.

    Args:
        architecture: of the network.
        node: one whose operation is in :data:`POOLING`.
    """
    if node.op in MAXIMA:
        return _largest(architecture, node)
    return _average(architecture, node) if node.op in AVERAGES else 1.0


def _average(architecture: Architecture, node: Node) -> float:
    ones = torch.ones(1, 1, *_shape(architecture, node.inputs[0])[1:], dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        rows = OPERATIONS[node.op].run([ones], node.attributes, 1)
        (columns,) = torch.autograd.grad(rows.sum(), ones)
    return math.sqrt(float(rows.detach().max()) * float(columns.max()))


def _largest(architecture: Architecture, node: Node) -> float:
    sizes, outputs = _shape(architecture, node.inputs[0])[1:], _shape(architecture, node.name)[1:]
    settings = [node.attributes[name] for name in ("kernel_size", "stride", "padding", "dilation")]
    axes = zip(sizes, outputs, *(s for s in settings if isinstance(s, tuple)), strict=True)
    return math.sqrt(math.prod(_coverage(*axis) for axis in axes))


def _coverage(size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Most windows along one axis that a place lies in."""
    places = torch.arange(outputs)[:, None] * stride - padding + torch.arange(kernel)[None] * dilation
    real = places[(places >= 0) & (places < size)]
    return int(torch.bincount(real).max()) if real.numel() else 1


def _shape(architecture: Architecture, name: str) -> tuple[int, ...]:
    """Sizes without the first axis, which must hold the batch."""
    return tuple(architecture.propagation.values[name].shape[1:])
