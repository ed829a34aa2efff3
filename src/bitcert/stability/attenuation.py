"""Attenuation of injected noise (Arora 2018 Fig. 1; notes 2019 Fig. 3).

At the value ``x^i`` of layer ``i``, or at the network's input (``i = 0``), Gaussian noise is added whose ``l2`` norm is
exactly ``level * ||x^i||``; reported is ``||x_hat^j - x^j|| / ||x^j||`` for every layer ``j`` downstream and for
``j = i``. The paper injects noise "to a layer", of "10% of the norm of its original input"; we perturb the layer's
value (its pre-activation), with the network's input as injection 0, so that all injections are nodes of the graph.
With ``noise_at_inputs`` it is added to the *input* of layer ``i + 1`` instead (injection ``i``), as the caption of the
paper's figure has it; a curve then begins at the layer after the injection.
One direction per example and injection serves every level, so curves of two levels differ by the level alone.

One random direction per example says nothing about the worst direction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitcert.network.nodes import INPUT
from bitcert.stability.layers import Structure
from bitcert.stability.noise import noise_like
from bitcert.stability.replay import norms, portions, replay
from bitcert.stability.settings import BatchContext, MeasureSettings


def scaled_to(noise: Tensor, length: Tensor) -> Tensor:
    """``noise`` ``[R, B, ...]`` with ``l2`` norms ``length`` ``[R or 1, B]``; noise 0 stays 0 where the length is 0."""
    factor = torch.where(length == 0, length, length / norms(noise, 2))
    return noise * factor.reshape(*factor.shape, *[1] * (noise.dim() - 2))


def injections(structure: Structure, settings: MeasureSettings) -> tuple[str, ...]:
    """The node that each injection adds its noise to, from injection 0."""
    if settings.noise_at_inputs:
        return tuple(layer.source for layer in structure.layers)
    return (INPUT, *structure.nodes)


def attenuation(context: BatchContext, settings: MeasureSettings) -> dict[str, Tensor]:
    """``attenuation`` ``[B, K, d + 1, d]`` for the ``K`` noise levels of the settings.

    ``[b, k, i, j - 1]`` is the relative error at ``x^j`` after noise at ``x^i`` (``i = 0``: the input). NaN where
    ``j`` is not downstream of ``i``, where the injected value is 0 (a dead input) or is a token, and where error and
    ``x^j`` are both 0; infinity where only ``x^j`` is 0. With noise at inputs the last row is NaN.
    """
    values, layers = context.values, context.structure.layers
    sizes = {layer.node: norms(values[layer.node], 1) for layer in layers}
    shape = (len(context.index), len(settings.noise_levels), len(layers) + 1, len(layers))
    result = values[context.architecture.output].new_full(shape, torch.nan)
    columns = {layer.node: layer.index - 1 for layer in layers}
    for injection, source in enumerate(injections(context.structure, settings)):
        clean = values[source]
        if not clean.is_floating_point():
            continue
        size = norms(clean, 1)
        # of norm level * size, [K, B, ...]
        drawn = noise_like(clean, 1, settings.seed, f"measure/attenuation/{injection}", context.index)
        levels = torch.tensor(settings.noise_levels, dtype=clean.dtype, device=clean.device)
        noise = scaled_to(drawn, levels[:, None] * size)
        for part in portions(len(noise), len(size)):
            for node, value in replay(context.linearisation, source, clean + noise[part], context.structure.nodes):
                error = norms(value - values[node], 2) / sizes[node]
                result[:, part, injection, columns[node]] = torch.where(size == 0, torch.nan, error).T
    return {"attenuation": result}
