"""Features that a helper network computes: values inside its graph, pooled and scaled without any data statistics.

A helper network's weights were fixed before the data were seen, so what it computes costs no bits. Which values are
used is one entry of a list that is a fixed function of the architecture (:func:`feature_sources`); its index is in the
message. Every part (one value of the graph) is averaged on a ``grid x grid`` lattice if it is a map, optionally
replaced by the signed square root of its entries, and scaled to norm ``sqrt(entries)`` for each example by itself; a
constant 1 is appended. Not promised: that any of these separates the classes.

Source: linear probes of a frozen network, e.g. Yosinski et al. 2014; the square root is the Hellinger map of
histograms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.network.architecture import Architecture
from bitcert.network.layouts import Layout
from bitcert.network.nodes import INPUT

GRIDS = (1, 2, 4)
MAX_STAGES = 6
MAX_SINGLES = 32
_EPSILON = 1e-6
_ACTIVATIONS = ("relu", "silu", "tanh", "sigmoid", "hardswish", "mish", "selu", "leaky_relu", "elu", "gelu", "softplus")
_STAGE_ENDS = frozenset((*_ACTIVATIONS, "prelu", "clamp", "max_pool2d", "avg_pool2d"))


@dataclass(frozen=True)
class FeatureSource:
    """One entry of the list: values of the graph, in order of computation.

    Attributes:
        nodes: names of nodes whose values ``[batch, ...]`` are the parts, or the name of the network's input.
        grid: maps ``[batch, channels, height, width]`` are averaged on this many cells each way, or fewer if smaller.
    """

    nodes: tuple[str, ...]
    grid: int

    @property
    def label(self) -> str:
        """For people."""
        where = self.nodes[0] if len(self.nodes) == 1 else f"{self.nodes[0]} .. {self.nodes[-1]}"
        return f"{where}, {self.grid}x{self.grid}"


def _shape(architecture: Architecture, name: str) -> tuple[int, ...] | None:
    """Shape of one example of a node's value, or ``None`` where the batch is not its own first axis."""
    value = architecture.propagation.values[name]
    if value.layout != Layout(0) or len(value.shape) < 2:
        return None
    return value.shape[1:]


def _penultimate(architecture: Architecture) -> str:
    """The input of the last linear layer (for a single layer the network's own input), else the output."""
    known = {node.name for node in architecture.nodes}
    if architecture.input_dtype == "float32":
        known.add(INPUT)
    for layer in reversed(architecture.weight_layers):
        if layer.op == "linear" and layer.source in known and _shape(architecture, layer.source) is not None:
            return layer.source
    return architecture.output


def _activations(architecture: Architecture) -> tuple[str, ...]:
    """Maps of more than one pixel and vectors that an activation or a pooling ends with, in order of computation."""
    names = []
    for node in architecture.nodes:
        shape = _shape(architecture, node.name)
        is_map = shape is not None and len(shape) == 3 and shape[1] * shape[2] > 1
        if node.op in _STAGE_ENDS and (is_map or (shape is not None and len(shape) == 1)):
            names.append(node.name)
    return tuple(names)


def _stages(architecture: Architecture, activations: tuple[str, ...]) -> tuple[str, ...]:
    """The last activation of every map size, and every activation of vectors."""
    last = {}
    for name in activations:
        shape = _shape(architecture, name) or ()
        last[shape[1:] if len(shape) == 3 else name] = name
    return tuple(name for name in activations if name in last.values())


def feature_sources(architecture: Architecture) -> tuple[FeatureSource, ...]:
    """The list of which a message names one entry.

    First the last layer's input; then, for each grid, the last 1, 2, ... stages together; then, for each grid, every
    activation by itself, the last first. An entry that is there already is left out.

    >>> import torch
    >>> from bitcert.network import capture
    >>> layers = [torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2)]
    >>> net = capture(torch.nn.Sequential(*layers), torch.ones(2, 4))
    >>> [source.nodes for source in feature_sources(net.architecture)]
    [('relu_1',), ('relu', 'relu_1'), ('relu',)]
    """
    activations = _activations(architecture)
    stages = _stages(architecture, activations)[-MAX_STAGES:]
    together = [stages[-count:] for count in range(1, len(stages) + 1)]
    singles = [(name,) for name in activations[: -MAX_SINGLES - 1 : -1]]
    sources = [FeatureSource((_penultimate(architecture),), 1)]
    for entries in (together, singles):
        for grid in GRIDS:
            for nodes in entries:
                maps = any(len(_shape(architecture, name) or ()) == 3 for name in nodes)
                source = FeatureSource(nodes, grid if maps else 1)
                if source not in sources:
                    sources.append(source)
    return tuple(sources)


def part_sizes(architecture: Architecture, source: FeatureSource, with_logits: bool) -> tuple[int, ...]:
    """Number of features of each part; the constant is not among them."""
    sizes = []
    for name in source.nodes:
        shape = _shape(architecture, name)
        if shape is not None and len(shape) == 3:
            shape = (shape[0], min(source.grid, shape[1]), min(source.grid, shape[2]))
        sizes.append(math.prod(shape or (architecture.num_outputs,)))
    return (*sizes, architecture.num_outputs) if with_logits else tuple(sizes)


def _floating(value: Tensor) -> Tensor:
    """The value in float32, unless the network computes in float64."""
    return value if value.dtype == torch.float64 else value.float()


def pooled(value: Tensor, grid: int) -> Tensor:
    """A value of the graph ``[batch, ...]`` as vectors ``[batch, entries]``; maps are averaged first."""
    if value.dim() == 4:
        value = F.adaptive_avg_pool2d(value, (min(grid, value.shape[2]), min(grid, value.shape[3])))
    return _floating(value.flatten(1))


def scaled(vectors: Tensor, root: bool) -> Tensor:
    """Vectors ``[batch, entries]`` of norm ``sqrt(entries)``, of their signed square roots if ``root``."""
    if root:
        vectors = vectors.sign() * vectors.abs().sqrt()
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / (norm + _EPSILON) * math.sqrt(vectors.shape[1])


def network_features(source: FeatureSource, root: bool, values: Mapping[str, Tensor], logits: Tensor | None) -> Tensor:
    """Feature vectors ``[batch, sum(part_sizes) + 1]`` of the network's precision.

    Args:
        source: entry of :func:`feature_sources`.
        root: whether entries are replaced by their signed square roots first.
        values: of the source's nodes, ``[batch, ...]``.
        logits: the network's, ``[batch, outputs]``, to append as a part of their own, or ``None``.
    """
    parts = [scaled(pooled(values[name], source.grid), root) for name in source.nodes]
    if logits is not None:
        parts.append(scaled(_floating(logits), False))
    return torch.cat([*parts, parts[0].new_ones(parts[0].shape[0], 1)], 1)
