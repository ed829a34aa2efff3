"""Slow twins of the noise-stability capacities: from the definitions, one example at a time, on a chain of layers.

Everything is computed from the graph's values and dense Jacobians of :mod:`measure_naive`; no profile, no logarithms.
``zhang_57_as_printed`` follows Zhang 2020 to the letter: definitions 5.4 and 5.5 with maxima over the sample and
``mu_{i,i} = sqrt(h)``, definition 5.6 with the smallest ``||phi(x)|| / ||x||``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.network import Architecture
from tests.reference import measure_naive as naive


@dataclass
class Example:
    """Of one example: layer cushions, interlayer cushions and spreads by pair, contraction before layers 2, 3, ..."""

    cushion: list[float]
    interlayer: dict[tuple[int, int], float]
    spread: dict[tuple[int, int], float]
    contraction: list[float]
    output: float


def channels(architecture: Architecture, layer: int) -> tuple[int, int]:
    """Channels and places of a layer's value."""
    own = architecture.weight_layers[layer - 1]
    shape = architecture.propagation.values[own.node].shape[1:]
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (shape[0], 1)


def examine(architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor) -> Example:
    """The quantities of one example ``[1, ...]``."""
    layers = architecture.weight_layers
    values = naive.run(architecture, parameters, x)
    numbers = range(1, len(layers) + 1)
    cushion = [naive.layer_cushion(architecture, parameters, x, k) for k in numbers]
    interlayer, spread = {}, {}
    for j in numbers:
        for i in range(1, j):
            size, places = channels(architecture, i)
            matrix = naive.jacobian(architecture, parameters, x, layers[i - 1].node, layers[j - 1].node)
            own = values[layers[i - 1].node].flatten()
            norm = naive.length(matrix)
            interlayer[i, j] = math.sqrt(places) * naive.length(matrix @ own) / (norm * naive.length(own))
            by_place = matrix.reshape(len(matrix), size, places)
            largest = max(naive.length(by_place[:, :, p]) for p in range(places))
            spread[i, j] = math.sqrt(places) * largest / norm
    contraction = [
        naive.length(values[layers[k - 1].node]) / naive.length(values[layers[k].source]) for k in range(1, len(layers))
    ]
    return Example(cushion, interlayer, spread, contraction, naive.length(values[architecture.output]))


def examine_all(architecture: Architecture, parameters: Mapping[str, Tensor], xs: Tensor) -> list[Example]:
    """Every example of ``[n, ...]``."""
    with torch.no_grad():
        return [examine(architecture, parameters, xs[k : k + 1]) for k in range(len(xs))]


def minimal(architecture: Architecture, found: list[Example], layer: int) -> float:
    """``mu_{i->}`` with ``mu_{i,i} = 1 / sqrt h``: minima over the sample."""
    size, _ = channels(architecture, layer)
    others = [value for one in found for (i, _), value in one.interlayer.items() if i == layer]
    return min([1 / math.sqrt(size), *others])


def window(architecture: Architecture, layer: int) -> int:
    """``ceil(kappa/s)`` over the axes."""
    own = architecture.weight_layers[layer - 1]
    node = next(node for node in architecture.nodes if node.name == own.node)
    kernel = architecture.propagation.values[own.weight].shape[2:]
    return math.prod(math.ceil(k / s) for k, s in zip(kernel, node.attributes.get("stride", ()), strict=True))


def table_1(architecture: Architecture, found: list[Example], *, after: bool = False) -> list[float]:
    """Effective parameters of every layer with the contraction before or after it."""
    depth = len(architecture.weight_layers)
    worst = [1.0, *(max(one.contraction[k] for one in found) for k in range(depth - 1)), 1.0]
    counts = []
    for i in range(1, depth + 1):
        mu = min(one.cushion[i - 1] for one in found)
        betas = [value for one in found for (k, _), value in one.spread.items() if k == i]
        c = worst[i] if after else worst[i - 1]
        beta = max(betas, default=1.0)
        counts.append((c * beta / (mu * minimal(architecture, found, i))) ** 2 * window(architecture, i))
    return counts


def theorem_51(architecture: Architecture, found: list[Example], gamma: float) -> float:
    """Arora 2018, Theorem 5.1 (4.1 for dense layers), squared, times ``m``."""
    depth = len(architecture.weight_layers)
    c = max(value for one in found for value in one.contraction)
    total = 0.0
    for i in range(1, depth + 1):
        mu = min(one.cushion[i - 1] for one in found)
        betas = [value for one in found for (k, _), value in one.spread.items() if k == i]
        beta = max(betas, default=1.0)
        total += (beta / (mu * minimal(architecture, found, i))) ** 2 * window(architecture, i)
    return (c * depth * max(one.output for one in found) / gamma) ** 2 * total


def zhang_57_as_printed(architecture: Architecture, found: list[Example], gamma: float) -> float:
    """Zhang 2020, Theorem 5.7 with its own definitions 5.4 to 5.6, squared, times ``m``."""
    depth = len(architecture.weight_layers)
    c = min(1 / value for one in found for value in one.contraction)
    total = 0.0
    for i in range(1, depth + 1):
        mu = max(one.cushion[i - 1] for one in found)
        onwards = [math.sqrt(channels(architecture, i)[0])]  # mu_{i,i} = sqrt(h)
        onwards += [max(one.interlayer[i, j] for one in found) for j in range(i + 1, depth + 1)]
        total += 1 / (mu**2 * min(onwards) ** 2)
    return (c * depth * max(one.output for one in found) / gamma) ** 2 * total
