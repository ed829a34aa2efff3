"""Banks of helper features: many fixed features of an image, far more than a head can pay for, so that it selects.

A bank pools maps of the image (:mod:`bitcert.decoder.features.maps`) by triangular windows on lattices, part by part;
surfaces are described by pooled waves and mixtures of them as well (:mod:`bitcert.decoder.features.waves`). Edges of
both orders and crossings are scaled to norm ``sqrt(number of features of the part)``; areas (rays, holes) become
``2 sqrt(area)``, so that a small hole is still seen. A constant 1 ends the vector. No data is used: the features cost
no bits, only the rows of the head that are used do (:mod:`bitcert.decoder.head`). A bank that is ``mirrored`` takes
the mean over the image and its mirror image (of waves the sum); of two features that mirroring makes equal only the
first is kept.

The banks below are the whole grid, fixed before any data of a user is seen; the one used is in the message. The
lattices shrink on images too small for them (at least 1.5 pixels a window). Inputs that are no images have one bank:
the inputs themselves and a constant. What the banks are good for was seen on public benchmarks; on data of the same
kind the guarantee is exact, on the benchmarks themselves it is, strictly, an illustration (docs/theory.md section 2).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.decoder.features import waves as bank_waves
from bitcert.decoder.features.edges import batch_last, is_image, pooling, taken, windowed
from bitcert.decoder.features.maps import (
    ORIENTATIONS,
    crossings,
    edges,
    holes,
    ink,
    mirrored_map,
    rays,
    second_edges,
    upright,
)

CONSTANT_GROUP = -1
_EPSILON = 1e-6
_AREA_FLOOR = 1e-4
_PIXELS_A_WINDOW = 1.5
_RAYS = ("rays", "diagonal rays")
_SECOND = ("second edges", "second sharp edges")


@dataclass(frozen=True)
class Part:
    """One kind of map pooled on a ``grid x grid`` lattice."""

    kind: str
    grid: int


@dataclass(frozen=True)
class Bank:
    """One point of the fixed grid.

    Args:
        upright: whether the image is centred, straightened and scaled first.
        parts: which maps, on which lattices; each is a group of the row code.
        mirrored: whether features are those of the image and its mirror image together.
    """

    upright: bool
    parts: tuple[Part, ...]
    mirrored: bool = False


_EDGES = (Part("edges", 7),)
_STROKES = (*_EDGES, Part("rays", 3), Part("diagonal rays", 3), Part("holes", 3), Part("crossings", 6))
_SURFACES = (*_STROKES, Part("edges", 4), Part("crossings", 3), Part("colour", 7), Part("colour", 4))
_SMALL = (Part("sharp edges", 3), Part("colour", 3))
_WAVES = (
    *(Part("waves", grid) for grid in (1, 2, 4)),
    *(Part(kind, 1) for kind in ("wave peaks", "wave energy", "wave pairs")),
    Part("mixtures", 2),
)

BANKS: tuple[Bank, ...] = (
    Bank(False, _EDGES),
    Bank(True, _EDGES),
    Bank(False, _STROKES),
    Bank(True, _STROKES),
    Bank(False, _SURFACES),
    Bank(True, _SURFACES),
    Bank(False, _SMALL),
    Bank(True, _SMALL),
    Bank(False, _WAVES, mirrored=True),
    Bank(False, (*_SURFACES, Part("second edges", 5), Part("second edges", 10)), mirrored=True),
    Bank(True, (*_STROKES, Part("second edges", 5))),
    Bank(False, (*_WAVES, Part("sharp edges", 4), Part("second sharp edges", 4)), mirrored=True),
)
"""Appending is compatible, any other change is not."""


def lattice(part: Part, input_shape: tuple[int, ...]) -> int:
    """Windows along one axis: fewer on small images."""
    if part.kind in bank_waves.KINDS:
        return bank_waves.lattice(part.kind, part.grid, input_shape)
    pixels = 2 * _PIXELS_A_WINDOW if part.kind in _SECOND else _PIXELS_A_WINDOW
    return max(1, min(part.grid, int(min(input_shape[1:]) / pixels)))


def num_maps(part: Part, input_shape: tuple[int, ...]) -> int:
    """How many maps a kind has."""
    half = ORIENTATIONS // 2
    if part.kind == "colour":
        return input_shape[0]
    sizes = {"crossings": half * (half - 1) // 2, "rays": 16, "diagonal rays": 16, "holes": 1}
    sizes |= dict.fromkeys(_SECOND, half * ORIENTATIONS)
    return sizes.get(part.kind, ORIENTATIONS)


def num_part_features(part: Part, input_shape: tuple[int, ...], mirrored: bool) -> int:
    """How many features a part has."""
    if mirrored:
        return len(_kept(part, input_shape))
    rows = bank_waves.num_rows if part.kind in bank_waves.KINDS else None
    maps = rows(part.kind, input_shape) if rows else num_maps(part, input_shape)
    return maps * lattice(part, input_shape) ** 2


@functools.cache
def _partners(part: Part, input_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The feature of an image that each feature of its mirror image equals, for maps that are mirrored exactly."""
    grid, maps = lattice(part, input_shape), num_maps(part, input_shape)
    index = np.arange(maps * grid**2).reshape(maps, grid, grid)
    return index[[mirrored_map(part.kind, number) for number in range(maps)]][:, :, ::-1].ravel()


def _kept(part: Part, input_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Of features that mirroring makes equal, the first: indices into a part's features, ascending."""
    if part.kind in bank_waves.KINDS:
        return bank_waves.kept(part.kind, lattice(part, input_shape), input_shape[0])
    partner = _partners(part, input_shape)
    return np.flatnonzero(np.arange(len(partner)) <= partner)


def bank_groups(bank: Bank | None, input_shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The group of each feature, ``[num_features]``: the number of its part, -1 for the constant."""
    if bank is None:
        sizes = [math.prod(input_shape)]
    else:
        sizes = [num_part_features(part, input_shape, bank.mirrored) for part in bank.parts]
    groups = np.repeat(np.arange(len(sizes), dtype=np.intp), sizes)
    return np.append(groups, np.intp(CONSTANT_GROUP))


def available_banks(input_shape: tuple[int, ...]) -> tuple[Bank | None, ...]:
    """The banks a problem can use: the fixed grid for images, the inputs themselves otherwise."""
    if not is_image(input_shape):
        return (None,)
    large = min(input_shape[1:]) >= bank_waves.MIN_SIDE
    return tuple(bank for bank in BANKS if large or not any(part.kind in bank_waves.KINDS for part in bank.parts))


class _Maps:
    """Maps ``[maps, height, width, batch]`` of one batch, each computed once."""

    def __init__(self, x: Tensor) -> None:
        self._x, self._found = x, dict[str, Tensor]()

    def __call__(self, kind: str, numbers: NDArray[np.intp] | None = None) -> Tensor:
        if numbers is not None:
            return rays(ink(self._x), kind == "diagonal rays", numbers.tolist())
        if kind not in self._found:
            self._found[kind] = self._compute(kind)
        return self._found[kind]

    def _compute(self, kind: str) -> Tensor:
        if kind == "edges":
            return edges(self._x)
        if kind == "sharp edges":
            return edges(self._x, smoothed=False)
        if kind == "crossings":
            return crossings(self("edges"))
        if kind in _SECOND:
            return second_edges(self(kind.removeprefix("second ")))
        if kind == "colour":
            return self._x
        if kind == "wave maps":
            return bank_waves.wave_maps(self._x)
        return holes(ink(self._x))


def bank_features(bank: Bank | None, x: Tensor, wanted: NDArray[np.intp] | None = None) -> Tensor:
    """Feature vectors ``[batch, num_features]`` of preprocessed inputs ``[batch, channels, height, width]``.

    Args:
        bank: which features; ``None`` stands for inputs that are not images: ``x`` flattened, and the constant.
        x: the inputs.
        wanted: indices of the features to compute, ascending; by default all. Only their parts are computed.
    """
    constant = x.new_ones(1, x.shape[0])  # not len(x), which an exported program would take for a constant
    if bank is None:
        whole = torch.cat([x.flatten(1), constant.T], 1)
        return whole if wanted is None else taken(whole.T, wanted).T
    groups = bank_groups(bank, tuple(map(int, x.shape[1:])))  # integers also while a program is traced
    wanted = np.arange(len(groups)) if wanted is None else wanted
    views = _Views(batch_last(upright(x) if bank.upright else x), bank.mirrored)
    rows = []
    for number in np.unique(groups[wanted[groups[wanted] != CONSTANT_GROUP]]):
        first = int(np.argmax(groups == number))
        rows.append(views.features(bank.parts[number], wanted[groups[wanted] == number] - first))
    rows += [constant] * int((groups[wanted] == CONSTANT_GROUP).sum())
    return torch.cat(rows).T if rows else x.new_empty(x.shape[0], 0)


class _Views:
    """A batch of images ``[channels, height, width, batch]``, and their mirror images where a bank takes both."""

    def __init__(self, x: Tensor, mirrored: bool) -> None:
        self._shape, self._mirrored = tuple(map(int, x.shape[:3])), mirrored
        self._maps = _Maps(x)
        self._turned = _Maps(x.flip(2)) if mirrored else None

    def features(self, part: Part, wanted: NDArray[np.intp]) -> Tensor:
        """Features of one part, ``[wanted, batch]``."""
        grid, kind = lattice(part, self._shape), part.kind
        if kind in bank_waves.KINDS:
            waves = self._maps("wave maps")
            return bank_waves.wave_features(kind, grid, waves, self._shape[0], self._mirrored, wanted)
        if self._turned is None:
            return _pooled(kind, grid, self._maps, wanted)
        own, partners = _kept(part, self._shape)[wanted], _partners(part, self._shape)
        # Sweeps that end early, and a last column that is left out when halving, tell left from right.
        if kind == "holes" or (kind in _SECOND and self._shape[2] % 2):
            return (_pooled(kind, grid, self._maps, own) + _pooled(kind, grid, self._turned, own)) / 2
        both = _pooled(kind, grid, self._maps, np.concatenate([own, partners[own]]))
        return (both[: len(own)] + both[len(own) :]) / 2


def _pooled(kind: str, grid: int, maps: _Maps, wanted: NDArray[np.intp]) -> Tensor:
    """Some features of one kind for one view, ``[wanted, batch]``."""
    numbers = None
    if kind in _RAYS:
        # the only kind with many maps and no norm of all of them
        numbers, place = np.unique(wanted // grid**2, return_inverse=True)
        wanted = place * grid**2 + wanted % grid**2
    found = maps(kind, numbers)
    windows = windowed(found, pooling(int(found.shape[1]), grid), pooling(int(found.shape[2]), grid))
    return taken(_scaled(kind, windows.flatten(0, 2)), wanted)


def _scaled(kind: str, pooled: Tensor) -> Tensor:
    if kind == "colour":
        return 2 * pooled
    if kind in ("edges", "sharp edges", "crossings", *_SECOND):
        norm = pooled.square().sum(0).sqrt()
        return pooled * (math.sqrt(len(pooled)) / (norm + _EPSILON))
    return 2 * ((pooled.clamp_min(0) + _AREA_FLOOR).sqrt() - math.sqrt(_AREA_FLOOR))
