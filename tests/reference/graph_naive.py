"""Slow twins of what the bounds read off a graph: explicit paths, printed recursions, noise draw by draw.

Written from the formulas alone; shares no code with ``bitcert.bounds`` but the named random streams.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from bitcert.random import torch_stream


def double_skip_lipschitz(a: list[float], b: list[float | None]) -> list[float]:
    """Zhang 2020, Theorem 6.1: ``L_1 = a_1``, ``L_i = a_i L_{i-1} + b_i L_{i-2}``, ``L_0 = 1``; ``b_1`` is not used."""
    growth = [1.0, a[0]]
    for own, skip in zip(a[1:], b[1:], strict=True):
        growth.append(own * growth[-1] + (skip or 0.0) * growth[-2])
    return growth[1:]


def path_norm_of_chain(matrices: list[np.ndarray], biases: list[np.ndarray] | None, p: float) -> float:
    """``(sum over paths of prod |w|^p)^(1/p)`` of a chain of dense layers, path by path.

    A path starts at an input unit, or at the bias of some layer, and takes one unit of every later layer.
    """
    total = 0.0
    depth = len(matrices)
    for start in range(depth + 1):
        if start and biases is None:
            continue
        if start == 0:
            heads = [(unit, 1.0) for unit in range(matrices[0].shape[1])]
        else:
            heads = [(unit, abs(float(value)) ** p) for unit, value in enumerate(biases[start - 1])]
        later = matrices[start:]
        for (unit, weight), ends in itertools.product(heads, itertools.product(*(range(m.shape[0]) for m in later))):
            product, place = weight, unit
            for matrix, end in zip(later, ends, strict=True):
                product *= abs(float(matrix[end, place])) ** p
                place = end
            total += product
    return total ** (1 / p)


def path_norm_by_replay(architecture, parameters, p: float) -> float:
    """As the public collections compute it: powers of all parameters, an input of ones, the sum of the outputs."""
    powers = {name: value.detach().double().abs() ** p for name, value in parameters.items()}
    ones = torch.ones(1, *architecture.input_shape, dtype=torch.float64)
    return float(architecture.forward(ones, powers).sum()) ** (1 / p)


def accuracy_drop(network, inputs, labels, sigma: float, epsilon: float | None, seed: int, draws: int) -> float:
    """Mean drop of the accuracy over the draws, all of them on all examples, one example at a time."""
    right = _right(network.architecture, network.parameters, inputs, labels)
    drops = []
    for draw in range(draws):
        generator = torch_stream(seed, f"bounds/flatness/{draw}")
        noisy = {}
        for spec in network.architecture.parameters:
            weight = network.parameters[spec.name]
            normal = torch.randn(spec.shape, generator=generator)
            scale = sigma if epsilon is None else torch.sqrt((sigma * weight) ** 2 + epsilon**2)
            noisy[spec.name] = weight + scale * normal
        drops.append(right - _right(network.architecture, noisy, inputs, labels))
    return math.fsum(drops) / draws


def _right(architecture, parameters, inputs, labels) -> float:
    count = 0
    for x, y in zip(inputs, labels, strict=True):
        logits = architecture.forward(x[None], parameters)[0].tolist()
        own = logits[int(y)]
        count += all(own > other for k, other in enumerate(logits) if k != int(y))
    return count / len(labels)
