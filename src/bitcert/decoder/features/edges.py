"""Oriented edges of an image: where is an edge of which orientation? No data are used, so the maps cost no bits.

The image is smoothed (optionally), differentiated, and its gradient magnitude is normalised by the local mean. The
orientation selectivity is ``max(0, cos(angle difference))^6`` for ``orientations`` directions of the full circle
(times ``(g / (g + 1e-6))^6`` for a gradient of size ``g``, so that a flat image has none). :func:`pooling` gives the
triangular windows by which each response is pooled on a lattice (:mod:`bitcert.decoder.features.banks`).

Maps are held as ``[maps, height, width, batch]``. With the batch last, whatever combines neighbouring rows or columns
works on long runs of memory, and pooling is two matrix products; this is several times faster than the batch first.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LOCAL_WINDOW = 5
_LOCAL_FLOOR = 0.1
_EPSILON = 1e-6


def is_image(input_shape: tuple[int, ...]) -> bool:
    """Whether inputs are ``[channels, height, width]`` and large enough to have edges."""
    return len(input_shape) == 3 and min(input_shape[1:]) >= 4


@functools.cache
def pooling(size: int, grid: int) -> Tensor:
    """Triangular windows ``[grid, size]`` whose rows sum to 1."""
    spacing = size / grid
    centres = (torch.arange(grid, dtype=torch.float64) + 0.5) * spacing - 0.5
    windows = (1 - (torch.arange(size, dtype=torch.float64)[None] - centres[:, None]).abs() / spacing).clamp_min(0)
    return (windows / windows.sum(1, keepdim=True)).float()


def exporting() -> bool:
    """Whether torch is writing down what is computed: for batches of any size and without looking at a value."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def as_array(x: Tensor) -> NDArray[np.floating] | None:
    """The same memory as a numpy array, unless gradients or a program being made need torch's own operations."""
    return None if exporting() or x.requires_grad or not x.is_cpu else x.numpy()


def root(x: Tensor) -> Tensor:
    """Square roots. Those of torch take 20 times as long where there are zeros, of which maps are full (MKL)."""
    values = as_array(x)
    return x.sqrt() if values is None else torch.from_numpy(np.sqrt(values))


def taken(values: Tensor, places: NDArray[np.intp]) -> Tensor:
    """Some rows of values, as an operation that a program being made has."""
    return values.index_select(0, torch.from_numpy(places).to(values.device))


def batch_last(x: Tensor) -> Tensor:
    """Images ``[batch, channels, height, width]`` as maps ``[channels, height, width, batch]``."""
    return x.permute(1, 2, 3, 0).contiguous()


def windowed(maps: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Weighted means of maps: ``[maps, height, width, batch]`` -> ``[maps, rows, columns, batch]``.

    Args:
        maps: what is pooled.
        down: weights of the pixels of a column in each row of windows, ``[rows, height]``.
        across: weights of the pixels of a row in each column of windows, ``[columns, width]``.
    """
    count, height, width, batch = maps.shape
    down, across = down.to(maps), across.to(maps)
    rows = torch.bmm(down.expand(count, -1, -1), maps.reshape(count, height, width * batch))
    rows = rows.reshape(count * len(down), width, batch)
    return torch.bmm(across.expand(len(rows), -1, -1), rows).reshape(count, len(down), len(across), batch)


def _moved(x: Tensor, axis: int, by: int) -> Tensor:
    """``x`` moved by some places along an axis, zeros where nothing came."""
    left, lost = int(x.shape[axis]) - abs(by), 0 * x.narrow(axis, 0, abs(by))
    return torch.cat([lost, x.narrow(axis, 0, left)] if by > 0 else [x.narrow(axis, -by, left), lost], axis)


def _add_shifted(total: Tensor, x: Tensor, axis: int, by: int) -> Tensor:
    """Each place of ``total`` plus what is ``by`` places before and after it in ``x``, zeros outside, in its memory."""
    left = int(x.shape[axis]) - by
    if left > 0 and exporting():
        return total + _moved(x, axis, by) + _moved(x, axis, -by)
    if left > 0:
        total.narrow(axis, by, left).add_(x.narrow(axis, 0, left))
        total.narrow(axis, 0, left).add_(x.narrow(axis, by, left))
    return total


def _smooth_along(x: Tensor, axis: int) -> Tensor:
    return _add_shifted(2 * x, x, axis, 1).div_(4)


def smooth(maps: Tensor) -> Tensor:
    """Binomial kernel (1, 2, 1)/4 along both image axes of maps, zeros outside."""
    return _smooth_along(_smooth_along(maps, 1), 2)


def _difference(maps: Tensor, axis: int) -> Tensor:
    """Central difference along ``axis``, binomially smoothed along the other image axis, zeros outside."""
    return _smooth_along(_moved(maps, axis, -1).sub_(_moved(maps, axis, 1)).div_(2), 3 - axis)


def _local_mean(maps: Tensor) -> Tensor:
    """Mean over 5 x 5 pixels, zeros outside."""
    for axis in (1, 2):
        total = maps.clone()
        for by in range(1, _LOCAL_WINDOW // 2 + 1):
            total = _add_shifted(total, maps, axis, by)
        maps = total
    return maps.div_(_LOCAL_WINDOW**2)


def oriented(maps: Tensor, orientations: int) -> Tensor:
    """Locally normalised oriented responses ``[maps * orientations, height, width, batch]``."""
    dx, dy = _difference(maps, 2), _difference(maps, 1)
    magnitude = root((dx * dx).add_(dy * dy))
    strength = magnitude / _local_mean(magnitude).add_(_LOCAL_FLOOR)
    magnitude = magnitude + _EPSILON
    dx, dy = dx.div_(magnitude), dy.div_(magnitude)
    half = orientations // 2
    ahead, behind = list[Tensor](), list[Tensor]()
    for index in range(half):
        angle = math.pi * index / half
        cosine = (math.cos(angle) * dx).add_(dy, alpha=math.sin(angle))
        # a comparison would take ten times as long as a product
        for found, part in ((ahead, cosine.clamp_min(0)), (behind, cosine.clamp_max(0))):
            square = part * part
            found.append((square * square).mul_(square).mul_(strength))
    return torch.stack([*ahead, *behind], 1).flatten(0, 1)
