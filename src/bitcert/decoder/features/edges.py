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
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_LOCAL_FLOOR = 0.1
_EPSILON = 1e-6
_CACHED = 160_000
ROWS, COLUMNS = -3, -2
Array = NDArray[np.floating]
Values = Any
"""A tensor, or an array: what is made of it is of the same kind."""


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


def root(x: Values, out: Array | None = None) -> Values:
    """Square roots. Those of torch take 20 times as long where there are zeros, of which maps are full (MKL)."""
    if isinstance(x, np.ndarray):
        return np.sqrt(x, out=out)
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


def _padded(x: Values, by: int) -> Values:
    """Images ``[..., height, width, batch]`` with so many zeros on every side."""
    if isinstance(x, Tensor):
        return functional.pad(x, (0, 0, by, by, by, by))
    *maps, height, width, batch = x.shape
    padded = np.zeros((*maps, height + 2 * by, width + 2 * by, batch), x.dtype)
    padded[..., by:-by, by:-by, :] = x
    return padded


def _moved(x: Values, axis: int, reach: int, by: int) -> Values:
    """Along an axis what is ``by`` places on from all but the first and last ``reach`` places."""
    stop = by - reach or None
    return x[..., reach + by : stop, :] if axis == COLUMNS else x[..., reach + by : stop, :, :]


def _total(x: Values, axis: int, *moves: int) -> Values:
    """Sum of what is so many places on, in this order; the axis becomes shorter by the longest moves."""
    first, second, *others = (_moved(x, axis, max(moves), by) for by in moves)
    total = first + second
    for each in others:
        total += each
    return total


def by_map(made: Callable[..., Any], shape: Sequence[int], *maps: Tensor) -> Tensor:
    """What is made of each map, or of the maps in the same place: where there are arrays, one by one in the cache.

    Args:
        made: called with all maps, or with one of each and ``out``, an array of ``shape`` that it fills.
        shape: of what is made of one.
        maps: ``[n, ...]`` each.
    """
    arrays = [each for each in map(as_array, maps) if each is not None]
    if len(arrays) < len(maps):
        whole: Tensor = made(*maps)
        return whole
    found = np.empty((len(arrays[0]), *shape), arrays[0].dtype)
    with np.errstate(all="ignore"):  # as torch: what is not finite is refused where it is counted
        for *each, out in zip(*arrays, found, strict=True):
            made(*each, out=out)
    return torch.from_numpy(found)


def smoothed(x: Values, out: Array | None = None) -> Values:
    """As :func:`smooth`."""
    multiply: Any = torch.mul if isinstance(x, Tensor) else np.multiply
    rows = _total(_padded(x, 1), ROWS, 0, 0, -1, 1)
    rows *= 0.25
    return multiply(_total(rows, COLUMNS, 0, 0, -1, 1), 0.25, out=out)


def smooth(maps: Tensor) -> Tensor:
    """Binomial kernel (1, 2, 1)/4 along both image axes of maps, zeros outside."""
    return by_map(smoothed, maps.shape[1:], maps)


def _difference(padded: Values, axis: int) -> Values:
    """Central difference along ``axis``, binomially smoothed along the other image axis."""
    gap = _moved(padded, axis, 1, 1) - _moved(padded, axis, 1, -1)
    found = _total(gap, ROWS + COLUMNS - axis, 0, 0, -1, 1)
    found *= 0.125
    return found


def _local_mean(x: Values) -> Values:
    """Mean over 5 x 5 pixels, zeros outside."""
    moves = (0, -1, 1, -2, 2)
    found = _total(_total(_padded(x, 2), ROWS, *moves), COLUMNS, *moves)
    found /= len(moves) ** 2
    return found


def _gradient(x: Values) -> tuple[Values, Values, Values]:
    """The direction of the gradient across and down, and its size relative to the local mean."""
    padded = _padded(x, 1)
    dx, dy = _difference(padded, COLUMNS), _difference(padded, ROWS)
    size = root(dx * dx + dy * dy)
    mean = _local_mean(size)
    mean += _LOCAL_FLOOR
    strength = size / mean
    size += _EPSILON
    dx /= size
    dy /= size
    return dx, dy, strength


def oriented(maps: Tensor, orientations: int) -> Tensor:
    """Locally normalised oriented responses ``[maps * orientations, height, width, batch]``."""
    made = functools.partial(responses, orientations=orientations)
    return by_map(made, (orientations, *maps.shape[1:]), maps).flatten(0, 1)


def responses(x: Values, orientations: int, out: Array | None = None) -> Values:
    """As :func:`oriented`, ``[..., orientations, height, width, batch]``."""
    gradient, half = _gradient(x), orientations // 2
    angles = [math.pi * index / half for index in range(half)]
    if out is not None:
        _fill(out.reshape(2, half, *x.shape), gradient, angles)
        return out
    dx, dy, strength = gradient
    ahead, behind = list[Tensor](), list[Tensor]()
    for angle in angles:
        cosine = (math.cos(angle) * dx).add_(dy, alpha=math.sin(angle))
        # a comparison would take ten times as long as a product
        for found, part in ((ahead, cosine.clamp_min(0)), (behind, cosine.clamp_max(0))):
            square = part * part
            found.append((square * square).mul_(square).mul_(strength))
    return torch.stack([*ahead, *behind], -4)


def _fill(out: Array, gradient: Sequence[Array], angles: list[float]) -> None:
    """The same numbers, some rows at a time, so that all stays in the cache."""
    step = max(1, _CACHED // gradient[0][0].nbytes)
    for start in range(0, out.shape[2], step):
        rows = slice(start, start + step)
        dx, dy, strength = (part[rows] for part in gradient)
        cosine, square, sixth = (np.empty_like(dx) for _ in range(3))
        for angle, ahead, behind in zip(angles, *out[:, :, rows], strict=True):
            np.multiply(dx, math.cos(angle), out=cosine)
            torch.from_numpy(cosine).add_(torch.from_numpy(dy), alpha=math.sin(angle))  # numpy would round twice
            np.multiply(cosine, cosine, out=square)
            np.multiply(square, square, out=sixth)
            sixth *= square
            sixth *= strength
            given = torch.from_numpy(sixth), torch.from_numpy(cosine)
            torch.ops.aten.threshold_backward.grad_input(*given, 0.0, grad_input=torch.from_numpy(ahead))
            np.subtract(sixth, ahead, out=behind)
