"""Twin of the maps of edges and holes: the same steps on whole tensors, all maps at once and each result a new one.

The library takes map by map and row by row, so that they stay in the cache. Every number must be the same, bit by bit.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional


def _moved(x: Tensor, axis: int, by: int) -> Tensor:
    """``x`` moved by some places along an axis, zeros where nothing came."""
    kept, lost = x.shape[axis] - abs(by), torch.zeros_like(x.narrow(axis, 0, abs(by)))
    return torch.cat([lost, x.narrow(axis, 0, kept)] if by > 0 else [x.narrow(axis, -by, kept), lost], axis)


def _smooth_along(x: Tensor, axis: int) -> Tensor:
    return (2 * x + _moved(x, axis, 1) + _moved(x, axis, -1)) / 4


def smooth(maps: Tensor) -> Tensor:
    return _smooth_along(_smooth_along(maps, 1), 2)


def _difference(maps: Tensor, axis: int) -> Tensor:
    return _smooth_along((_moved(maps, axis, -1) - _moved(maps, axis, 1)) / 2, 3 - axis)


def _local_mean(maps: Tensor) -> Tensor:
    for axis in (1, 2):
        total = maps
        for by in (1, 2):
            total = total + _moved(maps, axis, by) + _moved(maps, axis, -by)
        maps = total
    return maps / 25


def _root(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() ** 0.5)


def oriented(maps: Tensor, orientations: int) -> Tensor:
    dx, dy = _difference(maps, 2), _difference(maps, 1)
    magnitude = _root(dx * dx + dy * dy)
    strength = magnitude / (_local_mean(magnitude) + 0.1)
    dx, dy, half = dx / (magnitude + 1e-6), dy / (magnitude + 1e-6), orientations // 2
    cosines = [(math.cos(a) * dx).add(dy, alpha=math.sin(a)) for a in (math.pi * i / half for i in range(half))]
    parts = torch.stack([c.clamp_min(0) for c in cosines] + [c.clamp_max(0) for c in cosines], 1)
    squares = parts * parts
    return (squares * squares * squares * strength[:, None]).flatten(0, 1)


def crossings(edges: Tensor) -> Tensor:
    undirected = _root(smooth(smooth(edges[:4] + edges[4:])))
    return torch.stack([undirected[i] * undirected[j] for i in range(4) for j in range(i + 1, 4)])


def second_edges(edges: Tensor) -> Tensor:
    roots = _root(edges)
    x = smooth(roots[:4] + roots[4:])
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    pairs = x[:, ::2] + x[:, 1::2]
    return oriented((pairs[:, :, ::2] + pairs[:, :, 1::2]) / 4, 8)


def holes(written: Tensor, sweeps: int = 6) -> Tensor:
    free = functional.pad(1 - written, (0, 0, 1, 1, 1, 1), value=1.0)
    reached = functional.pad(torch.zeros_like(written), (0, 0, 1, 1, 1, 1), value=1.0)
    for _ in range(sweeps):
        for axis in (0, 1):
            lines, there = list(reached.unbind(axis)), range(reached.shape[axis])
            for order in (there, reversed(there)):
                for last, place in pairwise(order):
                    lines[place] = torch.maximum(lines[place], torch.minimum(free.select(axis, place), lines[last]))
            reached = torch.stack(lines, axis)
    return (free - reached)[None, 1:-1, 1:-1].clamp_min(0)
