"""Interlayer smoothness (Arora 2018 Def. 7): is the network about as linear as its Jacobian along compression noise?

For layers ``i < j`` and noise ``eta`` at ``x^i``, the reported number is

    1/rho = ||M(x^i + eta) - M(x^i) - J eta|| ||x^i|| / (||eta|| ||x^j||),    M = M^{i,j}, J = J^{i,j},

which for networks without biases is the paper's ``||M(x^i + eta) - J (x^i + eta)||`` (docs/theory.md section 3.1,
Biases). ``rho_delta`` is the LARGEST number for which the paper's inequality holds for every pair and example with
probability ``1 - delta``; so ``1/rho_delta`` is the MAXIMUM of these ratios over pairs and examples, then the ``1 -
delta`` quantile over the noise (Shin 2021 App. C calls it the smallest: docs/theory.md erratum 14).

The noise. The paper: "the noise generated as a result of substituting weights in some of the layers before layer i"
by Matrix-Project. Here, in every draw, ALL weight layers up to and including ``i`` are substituted (those that node
``i`` depends on, in a graph), biases stay as they are, and ``eta = x_hat^i - x^i`` is the whole change of the value of
layer ``i``. Then ``M`` is the original network from ``x^i`` to ``x^j``, every other path clean. ``k`` of Matrix-Project
is a setting, not the ``k`` of a bound: by default the largest one affordable; the noise's size ``||eta|| / ||x^i||``
is reported with the result. A surrogate with Gaussian ``eta`` of the same norm is reported beside it, never in its
place.

It does NOT bound the noise of another compressor, nor of another ``k``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from bitcert.linear.projection import matrix_project
from bitcert.stability.attenuation import scaled_to
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.noise import noise_like
from bitcert.stability.replay import norms, portions, replay, substituted
from bitcert.stability.settings import BatchContext, MeasureSettings

SIGN_BUDGET = 1 << 30
"""Entries of sign matrices that one draw may use, all layers together, when the number of projections is free."""


ProjectedWeights = tuple[Mapping[str, Tensor], ...]
"""Matrix-Projected weights, made once per run: for each draw, the substituted tensors by parameter name."""


def affordable_projections(sizes: Iterable[int], budget: int = SIGN_BUDGET) -> int:
    """The largest ``k`` for which ``sum_l n_l min(k, n_l) <= budget``, at least 1; ``sizes`` are the ``n_l``.

    >>> affordable_projections([10, 100], budget=1100)
    10
    """
    numbers = sorted(sizes)
    low, high = 1, max(numbers, default=1)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(size * min(middle, size) for size in numbers) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def num_projections(
    structure: Structure, parameters: Mapping[str, Tensor], settings: MeasureSettings
) -> dict[str, int]:
    """``k`` of every measured layer's weight by parameter name.

    It is ``settings.projections``, or, free, the same for all layers (at most the number of their weights) and as
    large as :data:`SIGN_BUDGET` sign-multiplications a draw allow.
    """
    sizes = {layer.weight: parameters[layer.weight].numel() for layer in structure.layers}
    most = affordable_projections(sizes.values())
    return {name: settings.projections or min(most, size) for name, size in sizes.items()}


def prepare_projections(
    structure: Structure, parameters: Mapping[str, Tensor], settings: MeasureSettings
) -> ProjectedWeights:
    """``settings.draws`` independent Matrix-Projects of every measured layer's weight; tied ones are projected once."""
    return tuple(
        {
            name: matrix_project(parameters[name], count, settings.seed, f"measure/projection/{draw}/{name}")
            for name, count in num_projections(structure, parameters, settings).items()
        }
        for draw in range(settings.draws)
    )


def smoothness(context: BatchContext, settings: MeasureSettings, projected: ProjectedWeights) -> dict[str, Tensor]:
    """``smoothness`` and ``smoothness_gaussian`` ``[B, T, P]``, and ``smoothness_noise`` ``[B, T, d]``.

    ``P`` follows ``structure.pairs``. Only ``smoothness_samples`` examples, spread evenly over the sample, are
    measured; NaN for the others, where ``x^i = 0`` or the noise is 0, and where both the deviation and ``x^j`` are 0;
    infinity where only ``x^j`` is 0.
    """
    rows = torch.nonzero(context.among(settings.smoothness_samples))[:, 0]
    found = _smoothness(context.take(rows), settings, projected) if len(rows) else None
    like = context.values[context.architecture.output]
    depth, pairs, draws = len(context.structure.layers), len(context.structure.pairs), len(projected)
    shapes = {"smoothness": pairs, "smoothness_noise": depth, "smoothness_gaussian": pairs}
    whole = {name: like.new_full((len(like), draws, width), torch.nan) for name, width in shapes.items()}
    if found is not None:
        for name, values in found.items():
            whole[name][rows.to(like.device)] = values
    return whole


def _smoothness(context: BatchContext, settings: MeasureSettings, projected: ProjectedWeights) -> dict[str, Tensor]:
    structure, draws = context.structure, len(projected)
    noises = substitution_noise(context, projected)
    like = context.values[context.architecture.output]
    batch, depth, pairs = len(context.index), len(structure.layers), len(structure.pairs)
    real, gaussian = (like.new_full((batch, draws, pairs), torch.nan) for _ in range(2))
    relative = like.new_full((batch, draws, depth), torch.nan)
    for layer in structure.layers:
        eta = noises.pop(layer.node)
        length = norms(eta, 2)
        relative[:, :, layer.index - 1] = (length / norms(context.values[layer.node], 1)).T
        drawn = noise_like(eta[0], draws, settings.seed, f"measure/smoothness/{layer.index}", context.index)
        for result, noise in ((real, eta), (gaussian, scaled_to(drawn, length))):
            for column, ratio in deviations(context, layer, noise).items():
                result[:, :, column] = ratio.T
    return {"smoothness": real, "smoothness_noise": relative, "smoothness_gaussian": gaussian}


def substitution_noise(context: BatchContext, projected: ProjectedWeights) -> dict[str, Tensor]:
    """``x_hat^i - x^i`` ``[T, B, *shape]`` of every layer's node: one forward pass of each substituted network."""
    nodes = context.structure.nodes
    found: dict[str, list[Tensor]] = {node: [] for node in nodes}
    for weights in projected:
        for node, value in substituted(context.linearisation, weights, nodes):
            found[node].append(value - context.values[node])
    return {node: torch.stack(parts) for node, parts in found.items()}


def deviations(context: BatchContext, layer: MeasuredLayer, noise: Tensor) -> dict[int, Tensor]:
    """``1/rho`` of every pair that begins at ``layer``, by position in ``structure.pairs``.

    Args:
        context: the batch.
        layer: ``i``.
        noise: ``[R, B, *shape]``, added to ``x^i``.

    Returns:
        ``[R, B]`` ratios.
    """
    structure, values = context.structure, context.values
    columns = {pair[1]: k for k, pair in enumerate(structure.pairs) if pair[0] == layer.index}
    targets = {structure.layers[j - 1].node: column for j, column in columns.items()}
    size, length = norms(values[layer.node], 1), norms(noise, 2)
    found: dict[int, list[Tensor]] = {column: [] for column in columns.values()}
    for part in portions(len(noise), len(size)):
        linear = context.linearisation.push(layer.node, noise[part], targets)
        for node, value in replay(context.linearisation, layer.node, values[layer.node] + noise[part], targets):
            distance = norms(value - values[node] - linear.pop(node), 2)
            ratio = distance * size / (length[part] * norms(values[node], 1))
            dead = (size == 0) | (length[part] == 0)
            found[targets[node]].append(torch.where(dead, torch.nan, ratio))
    return {column: torch.cat(parts) for column, parts in found.items()}
