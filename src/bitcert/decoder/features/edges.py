"""Helper features: fixed transforms of an image that use no data and so cost no bits.

Where is an edge of which orientation? The image is smoothed (optionally), differentiated, and its gradient magnitude is
normalised by the local mean magnitude. The orientation selectivity is ``max(0, cos(angle difference))^6`` for
``orientations`` directions of the full circle (times ``(g / (g + 1e-6))^6`` for a gradient of size ``g``, so that a
flat image has none); each response is pooled by triangular windows on a ``grid x grid`` lattice; the vector is scaled
to norm ``sqrt(number of features)`` and a constant 1 is appended.

The settings below are the whole grid, fixed before any data of a user is seen; the one used is in the message.
Inputs that are not images have one setting only: the inputs themselves and a constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

_LOCAL_WINDOW = 5
_LOCAL_FLOOR = 0.1
_EPSILON = 1e-6


@dataclass(frozen=True)
class FeatureSettings:
    """One point of the fixed grid.

    Args:
        grid: the responses are pooled on ``grid x grid`` windows.
        smoothing: how often the image is smoothed with the binomial kernel (1, 2, 1)/4 first.
        intensity: whether the pooled channels themselves are features too.
        orientations: number of directions, even.
    """

    grid: int
    smoothing: int
    intensity: bool
    orientations: int = 8


FEATURE_GRID: tuple[FeatureSettings, ...] = tuple(
    FeatureSettings(grid, smoothing, intensity)
    for grid, smoothing, intensity in product((3, 4, 5, 6, 7, 8, 9, 10), (0, 1), (False, True))
)


def is_image(input_shape: tuple[int, ...]) -> bool:
    """Whether inputs are ``[channels, height, width]`` and large enough to have edges."""
    return len(input_shape) == 3 and min(input_shape[1:]) >= 4


def num_features(settings: FeatureSettings | None, input_shape: tuple[int, ...]) -> int:
    """Length of the feature vector, the constant included."""
    if settings is None:
        return math.prod(input_shape) + 1
    maps = settings.orientations + (input_shape[0] if settings.intensity else 0)
    return maps * settings.grid**2 + 1


def _pooling(size: int, grid: int) -> Tensor:
    """Triangular windows ``[grid, size]`` whose rows sum to 1."""
    spacing = size / grid
    centres = (torch.arange(grid, dtype=torch.float64) + 0.5) * spacing - 0.5
    windows = (1 - (torch.arange(size, dtype=torch.float64)[None] - centres[:, None]).abs() / spacing).clamp_min(0)
    return (windows / windows.sum(1, keepdim=True)).float()


def _smooth(x: Tensor) -> Tensor:
    """Binomial kernel (1, 2, 1)/4 along both image axes, zeros outside."""
    for axis in (-2, -1):
        pad = (1, 1, 0, 0) if axis == -1 else (0, 0, 1, 1)
        y = torch.nn.functional.pad(x, pad)
        n = x.shape[axis]
        x = (y.narrow(axis, 0, n) + 2 * y.narrow(axis, 1, n) + y.narrow(axis, 2, n)) / 4
    return x


def _difference(x: Tensor, axis: int) -> Tensor:
    """Central difference along ``axis``, binomially smoothed along the other image axis, zeros outside."""
    pad = torch.nn.functional.pad(x, (1, 1, 1, 1))
    other = -3 - axis
    n, k = x.shape[axis], x.shape[other]
    d = (pad.narrow(axis, 2, n) - pad.narrow(axis, 0, n)) / 2
    return (d.narrow(other, 0, k) + 2 * d.narrow(other, 1, k) + d.narrow(other, 2, k)) / 4


def _oriented(x: Tensor, orientations: int) -> Tensor:
    """Locally normalised oriented responses ``[batch, orientations, h, w]`` of one-channel images ``[batch, h, w]``."""
    dx, dy = _difference(x, -1), _difference(x, -2)
    magnitude = (dx * dx + dy * dy).sqrt()
    local = torch.nn.functional.avg_pool2d(magnitude[:, None], _LOCAL_WINDOW, 1, _LOCAL_WINDOW // 2)[:, 0]
    strength = magnitude / (local + _LOCAL_FLOOR)
    ux, uy = dx / (magnitude + _EPSILON), dy / (magnitude + _EPSILON)
    half = orientations // 2
    forward, backward = [], []
    for index in range(half):
        angle = math.pi * index / half
        cosine = math.cos(angle) * ux + math.sin(angle) * uy
        square = cosine * cosine
        both = square * square * square * strength
        ahead = both * (cosine > 0)
        forward.append(ahead)
        backward.append(both - ahead)
    return torch.stack(forward + backward, 1)


def features(settings: FeatureSettings | None, x: Tensor) -> Tensor:
    """Feature vectors ``[batch, num_features]`` of preprocessed inputs ``[batch, channels, height, width]``.

    ``settings=None`` stands for inputs that are not images: ``x`` flattened, and the constant.
    """
    constant = x.new_ones(len(x), 1)
    if settings is None:
        return torch.cat([x.reshape(len(x), -1), constant], 1)
    for _ in range(settings.smoothing):
        x = _smooth(x)
    maps = _oriented(x.mean(1), settings.orientations)
    if settings.intensity:
        maps = torch.cat([maps, x / 2], 1)
    rows, columns = (_pooling(x.shape[axis], settings.grid).to(x.dtype) for axis in (2, 3))
    pooled = (rows @ (maps @ columns.T)).reshape(len(x), -1)
    norm = pooled.norm(dim=1, keepdim=True)
    return torch.cat([pooled / (norm + _EPSILON) * math.sqrt(pooled.shape[1]), constant], 1)
