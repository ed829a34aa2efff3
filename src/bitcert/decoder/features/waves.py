"""Features of surfaces: pooled waves, their co-occurrences, and random mixtures of them (for photographs).

The maps are those of the fixed front end (:mod:`bitcert.decoder.features.front`): positive and negative parts
of the DCT's first waves of contrast-normalised brightness and of colour opponents, on a quarter of the side. Each map
has a fixed gain (``1.2 * 1.5^order`` for the waves of detail, since detail fades with frequency; 0.6 for means and 4
for waves of colour), so that no statistics of data are needed. From these maps come

* ``waves``: means on a ``grid x grid`` lattice; ``wave peaks``: the largest value; ``wave energy``: root mean square;
* ``wave pairs``: the mean over the image of ``sqrt(a b)`` for each two maps;
* ``mixtures``: ``relu(sum of four maps with normal weights + bias)``, 400 of them with numbers from the helper's
  stream, on a 2 x 2 lattice (random features; Rahimi & Recht 2008).

A bank that is ``mirrored`` adds to each feature that of the mirror image: what is left is the same for both, and each
number of the head speaks of both. Of two features that mirroring makes equal only the first is kept. Not promised:
invariance to anything but mirroring, and that exactly for sides of 4 n pixels only.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.decoder.features.edges import root, taken, windowed
from bitcert.decoder.features.front import front, num_maps, partners, wave_orders
from bitcert.decoder.transforms.base import Draws
from bitcert.decoder.transforms.normal import UNIT

MIN_SIDE = 8
KINDS = ("waves", "wave peaks", "wave energy", "wave pairs", "mixtures")
NUM_MIXTURES = 400
_TAPS = 4
_BIAS = 0.5
_FIRST_GAIN, _GAIN_RATIO = 1.2, 1.5
_MEAN_GAIN, _COLOUR_WAVE_GAIN = 0.6, 4.0


@functools.cache
def _gains(num_channels: int) -> Tensor:
    """One gain for each map, ``[maps, 1, 1, 1]``."""
    orders, details = wave_orders(num_channels)
    gains = [_FIRST_GAIN * _GAIN_RATIO**order for order in orders[:details]]
    gains += [_COLOUR_WAVE_GAIN if order else _MEAN_GAIN for order in orders[details:]]
    return torch.tensor(gains * 2, dtype=torch.float32)[:, None, None, None]


def wave_maps(x: Tensor) -> Tensor:
    """Maps ``[maps, rows, columns, batch]`` of preprocessed images ``x [channels, height, width, batch]``."""
    return front(x) * _gains(int(x.shape[0])).to(x)


@functools.cache
def mixing(num_channels: int) -> tuple[Tensor, Tensor]:
    """Weights ``[400, maps]``, four of each row not zero, and biases ``[400]``."""
    maps = num_maps(num_channels)
    draws = Draws(0, f"bank mixtures/{num_channels}")
    order = draws.words("maps", NUM_MIXTURES * maps).reshape(NUM_MIXTURES, maps)
    chosen = np.argsort(order, axis=1, kind="stable")[:, :_TAPS]
    numbers = UNIT * draws.normal("weights", NUM_MIXTURES * (_TAPS + 1)).reshape(NUM_MIXTURES, _TAPS + 1)
    weights = np.zeros((NUM_MIXTURES, maps), dtype=np.float32)
    np.put_along_axis(weights, chosen, numbers[:, :_TAPS].astype(np.float32), axis=1)
    return torch.from_numpy(weights), torch.from_numpy(_BIAS * numbers[:, _TAPS]).float()


def lattice(kind: str, grid: int, input_shape: tuple[int, ...]) -> int:
    """Windows along one axis: not more than the maps have places."""
    if kind in ("wave peaks", "wave energy", "wave pairs"):
        return 1
    return max(1, min(grid, min(input_shape[1:]) // 4))


def num_rows(kind: str, input_shape: tuple[int, ...]) -> int:
    """How many maps a kind has."""
    maps = num_maps(input_shape[0])
    return {"wave pairs": maps * (maps - 1) // 2, "mixtures": NUM_MIXTURES}.get(kind, maps)


def num_features(kind: str, grid: int, num_channels: int) -> int:
    """Features of a kind before mirroring."""
    return num_rows(kind, (num_channels,)) * (grid**2 if kind in ("waves", "mixtures") else 1)


@functools.cache
def _pairs(num_channels: int) -> NDArray[np.intp]:
    """The two maps of each pair, ``[2, pairs]``."""
    return np.stack(np.triu_indices(num_maps(num_channels), 1))


@functools.cache
def _partners(kind: str, grid: int, num_channels: int) -> NDArray[np.intp]:
    """The feature of an image that each feature of its mirror image equals (of mixtures: itself, as none does)."""
    maps = partners(num_channels).numpy()
    if kind == "mixtures":
        return np.arange(num_features(kind, grid, num_channels))
    if kind == "wave pairs":
        first, second = _pairs(num_channels)
        number = np.zeros((len(maps), len(maps)), dtype=np.intp)
        number[first, second] = number[second, first] = np.arange(len(first))
        return np.asarray(number[maps[first], maps[second]])
    places = grid if kind == "waves" else 1
    index = np.arange(len(maps) * places**2).reshape(len(maps), places, places)
    return np.asarray(index[maps][:, :, ::-1]).ravel()


@functools.cache
def kept(kind: str, grid: int, num_channels: int) -> NDArray[np.intp]:
    """Of features that mirroring makes equal, the first: indices into a part's features, ascending."""
    partner = _partners(kind, grid, num_channels)
    return np.flatnonzero(np.arange(len(partner)) <= partner)


@functools.cache
def _means(size: int, grid: int) -> Tensor:
    """Means over ``grid`` windows that cover all places, neighbours sharing at most one: ``[grid, size]``."""
    places, windows = torch.arange(size), torch.arange(grid)[:, None]
    inside = (places >= windows * size // grid) & (places < -(-(windows + 1) * size // grid))
    return inside / inside.sum(1, keepdim=True, dtype=torch.float64)


def _lattice_means(maps: Tensor, grid: int) -> Tensor:
    """Means on a lattice, ``[maps, grid, grid, batch]``."""
    return windowed(maps, _means(int(maps.shape[1]), grid), _means(int(maps.shape[2]), grid))


def _pair_means(maps: Tensor, wanted: NDArray[np.intp], num_channels: int) -> Tensor:
    """Of the pairs wanted, ``[wanted, batch]``."""
    roots = root(maps.clamp_min(0))
    first, second = _pairs(num_channels)[:, wanted]
    places = [np.flatnonzero(first == each) for each in np.unique(first)]
    found = [(roots[int(first[rows[0]])] * taken(roots, second[rows])).mean((1, 2)) for rows in places]
    return taken(torch.cat(found), np.argsort(np.concatenate(places)))


def _mixture_means(maps: Tensor, grid: int, wanted: NDArray[np.intp], num_channels: int, mirrored: bool) -> Tensor:
    """Of the mixtures wanted, each at its place of the lattice, ``[wanted, batch]``."""
    numbers, place = np.unique(wanted // grid**2, return_inverse=True)
    weights, biases = (taken(part, numbers).to(maps) for part in mixing(num_channels))
    if mirrored:
        weights = weights[:, torch.argsort(partners(num_channels))]
    mixed = torch.addmm(biases[:, None], weights, maps.flatten(1)).relu()
    means = _lattice_means(mixed.reshape(len(numbers), *maps.shape[1:]), grid)
    means = means.flip(2) if mirrored else means
    return taken(means.flatten(0, 2), place * grid**2 + wanted % grid**2)


def _simple(kind: str, grid: int, maps: Tensor) -> Tensor:
    """Waves, their peaks or their energy, ``[features, batch]``."""
    if kind == "wave peaks":
        return maps.amax((1, 2))
    if kind == "wave energy":
        return maps.square().mean((1, 2)).sqrt()
    return _lattice_means(maps, grid).flatten(0, 2)


def wave_features(
    kind: str,
    grid: int,
    maps: Tensor,
    num_channels: int,
    mirrored: bool,
    wanted: NDArray[np.intp] | None = None,
) -> Tensor:
    """One part of a bank, ``[features, batch]``, from ``wave_maps``; ``wanted`` are the features to compute."""
    own = kept(kind, grid, num_channels) if mirrored else np.arange(num_features(kind, grid, num_channels))
    own = own if wanted is None else own[wanted]
    if kind == "mixtures":
        values = _mixture_means(maps, grid, own, num_channels, False)
        return values + _mixture_means(maps, grid, own, num_channels, True) if mirrored else values
    sources = [own, _partners(kind, grid, num_channels)[own]] if mirrored else [own]
    if kind == "wave pairs":
        distinct, place = np.unique(np.concatenate(sources), return_inverse=True)
        values = taken(_pair_means(maps, distinct, num_channels), place)
    else:
        values = taken(_simple(kind, grid, maps), np.concatenate(sources))
    return values[: len(own)] + values[len(own) :] if mirrored else values
