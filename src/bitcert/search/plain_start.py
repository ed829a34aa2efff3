"""A convex start for the integer head: l1-penalised softmax regression, by FISTA (Beck & Teboulle 2009).

``min_W sum_i CE(features_i W, y_i) + l1 ||W||_1``. Only a starting point: its rounding is what the descent improves.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bitcert.random import torch_stream

_POWER_ITERATIONS = 12


def _lipschitz(features_t: Tensor) -> float:
    """Half the largest eigenvalue of ``features_t features_t^T`` (the softmax Hessian is at most 1/2)."""
    v = torch.randn(len(features_t), generator=torch_stream(0, "power iteration"))
    norm = 1.0
    for _ in range(_POWER_ITERATIONS):
        v = features_t @ (v @ features_t)
        norm = float(v.norm())
        v = v / max(norm, 1e-30)
    return norm / 2


def sparse_softmax(features_t: Tensor, labels: Tensor, num_classes: int, l1: float, iterations: int) -> Tensor:
    """Approximate minimiser ``[features, classes]``, from ``features_t [features, m]`` and ``labels [m]``."""
    step = 1 / max(_lipschitz(features_t), 1e-30)
    is_label = (labels[None] == torch.arange(num_classes)[:, None]).float()
    weights = torch.zeros(len(features_t), num_classes)
    ahead, momentum = weights, 1.0
    for _ in range(iterations):
        residual = torch.softmax(ahead.T @ features_t, 0) - is_label
        moved = ahead - step * (features_t @ residual.T)
        shrunk = moved.sign() * (moved.abs() - step * l1).clamp_min(0)
        following = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = shrunk + (momentum - 1) / following * (shrunk - weights)
        weights, momentum = shrunk, following
    return weights
