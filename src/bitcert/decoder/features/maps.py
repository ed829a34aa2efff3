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
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bitcert.decoder.features.edges import oriented, smooth

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
    """Oriented responses ``[batch, 8, height, width]`` of the mean channel."""
    return oriented((smooth(x) if smoothed else x).mean(1), ORIENTATIONS)


def crossings(edge_maps: Tensor) -> Tensor:
    """For each two of the four undirected orientations, ``[batch, 6, height, width]``."""
    half = ORIENTATIONS // 2
    undirected = smooth(smooth(edge_maps[:, :half] + edge_maps[:, half:])).sqrt()
    pairs = [undirected[:, i] * undirected[:, j] for i in range(half) for j in range(i + 1, half)]
    return torch.stack(pairs, 1)


def second_edges(edge_maps: Tensor) -> Tensor:
    """Oriented responses to each of the four undirected orientations, ``[batch, 32, height // 2, width // 2]``."""
    half = ORIENTATIONS // 2
    roots = edge_maps.sqrt()
    undirected = functional.avg_pool2d(smooth(roots[:, :half] + roots[:, half:]), 2)
    rows, columns = undirected.shape[2:]
    return oriented(undirected.reshape(-1, rows, columns), ORIENTATIONS).reshape(edge_maps.shape[0], -1, rows, columns)


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
    """How much of a pixel is written on, ``[batch, height, width]`` in 0..1: twice the mean channel, saturated."""
    return (2 * x.mean(1)).clamp(0, 1)


def _along(values: Tensor, axis: int, backwards: bool) -> Tensor:
    """Running maximum along an axis; row by row, because an exported program has no operation for it."""
    rows = list(values.unbind(axis))
    order = range(len(rows) - 2, -1, -1) if backwards else range(1, len(rows))
    for row in order:
        rows[row] = torch.maximum(rows[row], rows[row + 1] if backwards else rows[row - 1])
    return torch.stack(rows, axis)


def _diagonal(values: Tensor, down: bool, right: bool) -> Tensor:
    """Running maximum along one diagonal direction."""
    rows = list(values.unbind(1))
    order = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
    for row in order:
        before = rows[row - 1] if down else rows[row + 1]
        moved = functional.pad(before[:, :-1], (1, 0)) if right else functional.pad(before[:, 1:], (0, 1))
        rows[row] = torch.maximum(rows[row], moved)
    return torch.stack(rows, 1)


def _patterns(written: Tensor, met: list[Tensor]) -> Tensor:
    parts = [1 - written]
    for hit in met:
        parts = [part * factor for part in parts for factor in (1 - hit, hit)]
    return torch.stack(parts, 1)


def rays(written: Tensor, diagonal: bool) -> Tensor:
    """Share of background that meets ink in exactly these directions, ``[batch, 16, height, width]``.

    ``written [batch, height, width]`` in 0..1; the patterns count up, the last direction changing fastest.
    """
    if diagonal:
        ways = ((True, True), (False, False), (True, False), (False, True))
        return _patterns(written, [_diagonal(written, down, right) for down, right in ways])
    ahead = ((1, False), (1, True), (2, False), (2, True))
    return _patterns(written, [_along(written, axis, backwards) for axis, backwards in ahead])


def holes(written: Tensor) -> Tensor:
    """Background no path from the border reaches, ``[batch, 1, height, width]``: background minus its widest path."""
    free = functional.pad(1 - written, (1, 1, 1, 1), value=1.0)
    reached = functional.pad(torch.zeros_like(written), (1, 1, 1, 1), value=1.0)
    for _ in range(_HOLE_SWEEPS):
        for axis in (1, 2):
            passable, rows = free.unbind(axis), list(reached.unbind(axis))
            last = len(rows) - 1
            for places, step in ((range(1, last + 1), -1), (range(last - 1, -1, -1), 1)):
                for place in places:
                    rows[place] = torch.maximum(rows[place], torch.minimum(passable[place], rows[place + step]))
            reached = torch.stack(rows, axis)
    return (free - reached)[:, None, 1:-1, 1:-1].clamp_min(0)
