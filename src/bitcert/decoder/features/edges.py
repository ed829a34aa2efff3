"""Oriented edges of an image: where is an edge of which orientation? No data are used, so the maps cost no bits.

The image is smoothed (optionally), differentiated, and its gradient magnitude is normalised by the local mean. The
orientation selectivity is ``max(0, cos(angle difference))^6`` for ``orientations`` directions of the full circle
(times ``(g / (g + 1e-6))^6`` for a gradient of size ``g``, so that a flat image has none). :func:`pooling` gives the
triangular windows by which each response is pooled on a lattice (:mod:`bitcert.decoder.features.banks`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LOCAL_WINDOW = 5
_LOCAL_FLOOR = 0.1
_EPSILON = 1e-6


def is_image(input_shape: tuple[int, ...]) -> bool:
    """Whether inputs are ``[channels, height, width]`` and large enough to have edges."""
    return len(input_shape) == 3 and min(input_shape[1:]) >= 4


def exporting() -> bool:
    """Whether a program for batches of any size is being made of these functions, which has fewer operations."""
    return bool(torch.compiler.is_exporting() or torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def mean_cells(maps: Tensor, grid: int) -> Tensor:
    """Means ``[batch, maps, grid, grid]`` over the cells of a lattice, as ``adaptive_avg_pool2d`` divides a map."""
    if not exporting():
        return torch.nn.functional.adaptive_avg_pool2d(maps, grid)
    cells = [
        [(number * int(size) // grid, -(-(number + 1) * int(size) // grid)) for number in range(grid)]
        for size in maps.shape[2:]
    ]
    rows = [torch.stack([maps[:, :, a:b, c:d].mean((2, 3)) for c, d in cells[1]], 2) for a, b in cells[0]]
    return torch.stack(rows, 2)


def pooling(size: int, grid: int) -> Tensor:
    """Triangular windows ``[grid, size]`` whose rows sum to 1."""
    spacing = size / grid
    centres = (torch.arange(grid, dtype=torch.float64) + 0.5) * spacing - 0.5
    windows = (1 - (torch.arange(size, dtype=torch.float64)[None] - centres[:, None]).abs() / spacing).clamp_min(0)
    return (windows / windows.sum(1, keepdim=True)).float()


def smooth(x: Tensor) -> Tensor:
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


def oriented(x: Tensor, orientations: int) -> Tensor:
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
