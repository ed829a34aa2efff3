"""Maps of an image that a feature bank pools: fixed transforms that use no data and so cost no bits.

*Upright*: the image is moved to its centre of mass, sheared until its second moment ``E[xy]`` vanishes, and scaled to a
usual height (and half way, geometrically, to a usual width): slant and size say little about what is written.
*Edges*: oriented gradients (:mod:`bitcert.decoder.features.edges`). *Crossings*: geometric means of two orientations at
the same place. *Second edges*: oriented gradients of the roots of the edges' four directions, on half of the side:
where one kind of edge ends or a texture begins. *Rays*: for each background pixel, in which of four directions ink is
met: 16 patterns, for the axes and for the diagonals. *Holes*: background that the border does not reach, by widest
paths, so without a threshold.

Everything is continuous in the pixels, so rounding that differs between machines changes logits by about as little.
:func:`mirrored_map` says which map of a kind becomes which when the image is mirrored left to right. Not provided:
invariance to turned images.

But for :func:`upright`, maps are ``[maps, height, width, batch]`` (see :mod:`bitcert.decoder.features.edges`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bitcert.decoder.features.edges import (
    COLUMNS,
    ROWS,
    Array,
    Values,
    as_array,
    by_map,
    exporting,
    oriented,
    responses,
    root,
    smooth,
    smoothed,
)

ORIENTATIONS = 8
_USUAL_HEIGHT, _USUAL_WIDTH = 0.2, 0.16
_LARGEST_SHEAR = 1.0
_SCALES = (0.05, 2.0)
_HOLE_SWEEPS = 6


def upright(x: Tensor) -> Tensor:
    """Images ``[batch, channels, height, width]`` of the same shape, centred, straightened and scaled."""
    height, width = x.shape[-2:]
    mass_map = x.mean(1).clamp_min(0)
    rows, columns = (torch.arange(side, dtype=x.dtype) for side in (height, width))
    by_row, by_column = mass_map.sum(2), mass_map.sum(1)
    mass = by_row.sum(1) + 1e-3
    y, x_centre = by_row @ rows / mass, by_column @ columns / mass
    dy, dx = rows - y[:, None], columns - x_centre[:, None]
    spread_y = (by_row * dy * dy).sum(1) / mass + 1e-2
    spread_x = (by_column * dx * dx).sum(1) / mass + 1e-2
    mixed = ((mass_map * dx[:, None]).sum(2) * dy).sum(1) / mass
    shear = (mixed / spread_y).clamp(-_LARGEST_SHEAR, _LARGEST_SHEAR)
    straight_x = (spread_x - shear * mixed).clamp_min(1e-2)
    scale_y = spread_y.sqrt() / (height * _USUAL_HEIGHT)
    scale_x = (straight_x.sqrt() / (width * _USUAL_WIDTH)).clamp(*_SCALES).sqrt()
    down = scale_y[:, None] * (rows - (height - 1) / 2)
    source_y = (y[:, None] + down)[:, :, None].expand(-1, -1, width)
    across = scale_x[:, None] * (columns - (width - 1) / 2)
    source_x = x_centre[:, None, None] + across[:, None, :] + (shear[:, None] * down)[:, :, None]
    grid = torch.stack([(2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1], -1)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def edges(x: Tensor, smoothed: bool = True) -> Tensor:
    """Oriented responses ``[8, height, width, batch]`` to the mean channel of ``[channels, height, width, batch]``."""
    mean = x.mean(0, keepdim=True)
    return oriented(smooth(mean) if smoothed else mean, ORIENTATIONS)


def crossings(edge_maps: Tensor) -> Tensor:
    """For each two of the four undirected orientations, ``[6, height, width, batch]``."""
    half = ORIENTATIONS // 2
    undirected = by_map(_undirected, edge_maps.shape[1:], edge_maps[:half], edge_maps[half:])
    return torch.cat([undirected[i] * undirected[i + 1 :] for i in range(half - 1)])


def _undirected(ahead: Values, behind: Values, out: Array | None = None) -> Values:
    return root(smoothed(smoothed(ahead + behind)), out)


def second_edges(edge_maps: Tensor) -> Tensor:
    """Oriented responses to each of the four undirected orientations, ``[32, height // 2, width // 2, batch]``."""
    half = ORIENTATIONS // 2
    _, height, width, batch = edge_maps.shape
    shape = ORIENTATIONS, height // 2, width // 2, batch
    return by_map(_second, shape, edge_maps[:half], edge_maps[half:]).flatten(0, 1)


def _second(ahead: Values, behind: Values, out: Array | None = None) -> Values:
    undirected = smoothed(root(ahead) + root(behind))
    rows, columns = (undirected.shape[axis] // 2 * 2 for axis in (ROWS, COLUMNS))
    pairs = undirected[..., :rows:2, :, :] + undirected[..., 1:rows:2, :, :]
    halved = pairs[..., :columns:2, :] + pairs[..., 1:columns:2, :]
    halved *= 0.25
    return responses(halved, ORIENTATIONS, out)


def mirrored_map(kind: str, index: int) -> int:
    """The map of a kind that map ``index`` becomes in the mirror image (colour, ink and holes stay what they are)."""
    half = ORIENTATIONS // 2
    if kind in ("edges", "sharp edges"):
        return (half - index) % ORIENTATIONS
    if kind in ("second edges", "second sharp edges"):
        undirected, direction = divmod(index, ORIENTATIONS)
        return -undirected % half * ORIENTATIONS + (half - direction) % ORIENTATIONS
    if kind == "crossings":
        pairs = [{i, j} for i in range(half) for j in range(i + 1, half)]
        return pairs.index({-orientation % half for orientation in pairs[index]})
    if kind == "rays":  # the last two of four bits are ahead from the left and from the right
        return (index & 0b1100) | (index & 1) << 1 | (index >> 1) & 1
    if kind == "diagonal rays":  # to the right: the first and the last bit of four; their partners are two on
        return (index & 0b11) << 2 | index >> 2
    return index


def ink(x: Tensor) -> Tensor:
    """How much of a pixel of ``x [channels, height, width, batch]`` is written on, ``[height, width, batch]`` in 0..1.

    Twice the mean channel, saturated.
    """
    return (2 * x.mean(0)).clamp_(0, 1)


def _running(values: Tensor, axis: int, backwards: bool, move: int = 0) -> Tensor:
    """Running maximum along an axis; ``move`` by so many columns (-1, 0 or 1) at each step."""
    lib, (found,) = _library(values)
    lines = list(found.swapaxes(0, axis))
    order = range(len(lines) - 1, -1, -1) if backwards else range(len(lines))
    for last, place in itertools.pairwise(order):
        before, here = lines[last], lines[place]
        if move == 1:
            lines[place] = lib.concatenate([here[:1], lib.maximum(here[1:], before[:-1])])
        elif move == -1:
            lines[place] = lib.concatenate([lib.maximum(here[:-1], before[1:]), here[-1:]])
        else:
            lines[place] = lib.maximum(here, before)
    return torch.as_tensor(lib.stack(lines, axis))


def _library(*values: Tensor) -> tuple[Any, Sequence[Any]]:
    """What computes with these values, and they: numpy, whose many small steps take half the time.

    Torch where gradients or a program being made need it.
    """
    arrays = [as_array(each) for each in values]
    return (torch, values) if any(each is None for each in arrays) else (np, arrays)


def _patterns(written: Tensor, met: list[Tensor], wanted: Sequence[int]) -> Tensor:
    parts = {0: 1 - written}
    for left, hit in zip(reversed(range(len(met))), met, strict=True):
        missed = 1 - hit
        needed = dict.fromkeys(pattern >> left for pattern in wanted)
        # the last direction changes fastest
        parts = {bits: parts[bits >> 1] * (hit if bits & 1 else missed) for bits in needed}
    return torch.stack([parts[pattern] for pattern in wanted])


def rays(written: Tensor, diagonal: bool, wanted: Sequence[int] = range(16)) -> Tensor:
    """Share of background that meets ink in exactly these directions, ``[wanted, height, width, batch]``.

    ``written [height, width, batch]`` in 0..1; the 16 patterns count up, the last direction changing fastest.
    """
    if diagonal:
        ways = ((False, 1), (True, -1), (False, -1), (True, 1))
        return _patterns(written, [_running(written, 0, backwards, move) for backwards, move in ways], wanted)
    ahead = ((0, False), (0, True), (1, False), (1, True))
    return _patterns(written, [_running(written, axis, backwards) for axis, backwards in ahead], wanted)


def holes(written: Tensor) -> Tensor:
    """Background no path from the border reaches, ``[1, height, width, batch]``: background minus its widest path.

    ``written [height, width, batch]`` in 0..1. Sweeps that change nothing any more are left out.
    """
    lib, (free, reached) = _library(
        functional.pad(1 - written, (0, 0, 1, 1, 1, 1), value=1.0),
        functional.pad(torch.zeros_like(written), (0, 0, 1, 1, 1, 1), value=1.0),
    )
    ways = list(free), list(lib.stack(list(free), 1))
    for _ in range(_HOLE_SWEEPS):
        before = reached + 0
        for open_lines in ways:
            lines = list(reached)
            room = np.empty_like(lines[0]) if lib is np else None
            there = range(len(lines))
            for order in (there, reversed(there)):
                for last, place in itertools.pairwise(order):
                    narrow = lib.minimum(open_lines[place], lines[last], out=room)
                    lines[place] = lib.maximum(lines[place], narrow, out=lines[place] if lib is np else None)
            reached = lib.stack(lines, 1)  # rows and columns change places, so that lines are always long
        if not exporting() and bool((before == reached).all()):
            break
    return torch.as_tensor(free - reached)[None, 1:-1, 1:-1].clamp_min_(0)
