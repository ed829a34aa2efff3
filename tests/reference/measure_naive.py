"""Slow twins of the noise-stability measures: one example at a time, from the definitions, in float64.

The network is run node by node with the value of one node put in from outside, Jacobians are dense matrices by
``torch.func.jacrev``, and the noise is handed in. Nothing is shared with the library but the table of operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bitcert.network import Architecture
from bitcert.network.operations import OPERATIONS


def run(
    architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, put: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Value of every node for one example ``x`` ``[1, ...]``; nodes named in ``put`` have the value given there."""
    put = put or {}
    values = {**parameters, "input": put.get("input", x)}
    for node in architecture.nodes:
        values[node.name] = put.get(node.name)
        if values[node.name] is None:
            values[node.name] = OPERATIONS[node.op].run([values[name] for name in node.inputs], node.attributes, 1)
    return values


def depends(architecture: Architecture, low: str, high: str) -> bool:
    """Whether there is a path from ``low`` to ``high``."""
    inputs = next((node.inputs for node in architecture.nodes if node.name == high), ())
    return low in inputs or any(depends(architecture, low, name) for name in inputs)


def jacobian(architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, low: str, high: str) -> Tensor:
    """Dense ``[entries of high, entries of low]``: derivative of one node's value in another's."""
    clean = run(architecture, parameters, x)

    def function(value: Tensor) -> Tensor:
        return run(architecture, parameters, x, {low: value})[high].flatten()

    return torch.func.jacrev(function)(clean[low]).flatten(1)


def length(value: Tensor) -> float:
    return math.sqrt(sum(entry * entry for entry in value.double().flatten().tolist()))


def ratio(a: float, b: float) -> float:
    """a / b with 0/0 = NaN and a/0 = infinity."""
    if b == 0:
        return math.nan if a == 0 else math.inf
    return a / b


def layer_cushion(architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, layer: int) -> float:
    """The layer as a dense matrix, times what feeds it."""
    weights = architecture.weight_layers[layer - 1]
    values = run(architecture, parameters, x)
    matrix = jacobian(architecture, parameters, x, weights.source, weights.node)
    phi = values[weights.source].flatten()
    return ratio(length(matrix @ phi), length(parameters[weights.weight]) * length(phi))


def allowed_norm(architecture: Architecture, values: Mapping[str, Tensor], name: str) -> float:
    """Norm that a node may have at most if each weight layer before it has its own and no node makes a norm larger."""
    layers = {layer.node for layer in architecture.weight_layers}
    if name in layers or not any(depends(architecture, layer, name) for layer in layers):
        return length(values[name])
    node = next(node for node in architecture.nodes if node.name == name)
    inputs = [one for one in node.inputs if one == "input" or depends(architecture, "input", one)]
    sizes = [allowed_norm(architecture, values, one) for one in inputs]
    return math.sqrt(sum(size * size for size in sizes)) if node.op == "cat" else sum(sizes)


def contraction(architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, layer: int) -> float:
    """Of everything between the weight layers before and this one; ``||x|| / ||phi(x)||`` in a chain."""
    values = run(architecture, parameters, x)
    source = architecture.weight_layers[layer - 1].source
    return ratio(allowed_norm(architecture, values, source), length(values[source]))


def nearest_layers(architecture: Architecture, layer: int) -> list[str]:
    """Nodes of the weight layers from which a path leads to this one without another weight layer on it."""
    layers = [own.node for own in architecture.weight_layers]
    inputs = {node.name: node.inputs for node in architecture.nodes}
    found, left = [], [architecture.weight_layers[layer - 1].source]
    while left:
        name = left.pop()
        if name in layers:
            found.append(name)
        else:
            left += inputs.get(name, ())
    return found


def margin(logits: list[float], label: int) -> float:
    return logits[label] - max(logit for k, logit in enumerate(logits) if k != label)


def relative_error(
    architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, put: Mapping[str, Tensor], high: str
) -> float:
    clean, moved = run(architecture, parameters, x), run(architecture, parameters, x, put)
    return ratio(length(moved[high] - clean[high]), length(clean[high]))


def rescaled(noise: Tensor, size: float) -> Tensor:
    return noise.double() * (size / length(noise))


def deviation(
    architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, pair: tuple[str, str], noise: Tensor
) -> float:
    """1/rho of Def. 7 for one noise vector at the first node of ``pair``."""
    low, high = pair
    clean = run(architecture, parameters, x)
    moved = run(architecture, parameters, x, {low: clean[low] + noise})
    linear = jacobian(architecture, parameters, x, low, high) @ noise.flatten()
    distance = length((moved[high] - clean[high]).flatten() - linear)
    return ratio(distance * length(clean[low]), length(noise) * length(clean[high]))


def sensitivity(
    architecture: Architecture, parameters: Mapping[str, Tensor], x: Tensor, low: str, draws: list[Tensor]
) -> tuple[float, float]:
    """Mean over the draws of Def. 3's ratio and its standard error."""
    clean, output = run(architecture, parameters, x), architecture.output
    ratios = []
    for draw in draws:
        moved = run(architecture, parameters, x, {low: clean[low] + draw.double() * length(clean[low])})
        ratios.append(ratio(length(moved[output] - clean[output]) ** 2, length(clean[output]) ** 2))
    mean = sum(ratios) / len(ratios)
    variance = sum((value - mean) ** 2 for value in ratios) / (len(ratios) - 1)
    return mean, math.sqrt(variance / len(ratios))


def matrix_noise_sensitivity(matrix: Tensor, x: Tensor) -> Tensor:
    """``||M||_F^2 ||x||^2 / ||M x||^2``, exact (Prop. 3.1), of ``matrix`` ``[m, n]`` at ``x`` ``[..., n]``."""
    gain = torch.linalg.vector_norm(x @ matrix.T, dim=-1) / torch.linalg.vector_norm(x, dim=-1)
    return (torch.linalg.vector_norm(matrix) / gain).square()
