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
from torch.nn import functional

from bitcert.decoder.features.edges import mean_cells
from bitcert.decoder.features.front import flipped, front, num_maps, wave_orders
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
    """One gain for each map, ``[maps, 1, 1]``."""
    orders, details = wave_orders(num_channels)
    gains = [_FIRST_GAIN * _GAIN_RATIO**order for order in orders[:details]]
    gains += [_COLOUR_WAVE_GAIN if order else _MEAN_GAIN for order in orders[details:]]
    return torch.tensor(gains * 2, dtype=torch.float32)[:, None, None]


def wave_maps(x: Tensor) -> Tensor:
    """Maps ``[batch, maps, rows, columns]`` of preprocessed images ``x [batch, channels, height, width]``."""
    return front(x) * _gains(int(x.shape[1])).to(x)


@functools.cache
def mixing(num_channels: int) -> tuple[Tensor, Tensor]:
    """Weights ``[400, maps, 1, 1]``, four of each row not zero, and biases ``[400]``."""
    maps = num_maps(num_channels)
    draws = Draws(0, f"bank mixtures/{num_channels}")
    order = draws.words("maps", NUM_MIXTURES * maps).reshape(NUM_MIXTURES, maps)
    chosen = np.argsort(order, axis=1, kind="stable")[:, :_TAPS]
    numbers = UNIT * draws.normal("weights", NUM_MIXTURES * (_TAPS + 1)).reshape(NUM_MIXTURES, _TAPS + 1)
    weights = np.zeros((NUM_MIXTURES, maps), dtype=np.float32)
    np.put_along_axis(weights, chosen, numbers[:, :_TAPS].astype(np.float32), axis=1)
    return torch.from_numpy(weights)[:, :, None, None], torch.from_numpy(_BIAS * numbers[:, _TAPS]).float()


def lattice(kind: str, grid: int, input_shape: tuple[int, ...]) -> int:
    """Windows along one axis: not more than the maps have places."""
    if kind in ("wave peaks", "wave energy", "wave pairs"):
        return 1
    return max(1, min(grid, min(input_shape[1:]) // 4))


def num_rows(kind: str, input_shape: tuple[int, ...]) -> int:
    """How many maps a kind has."""
    maps = num_maps(input_shape[0])
    return {"wave pairs": maps * (maps - 1) // 2, "mixtures": NUM_MIXTURES}.get(kind, maps)


def _pairs(maps: Tensor) -> Tensor:
    roots = maps.clamp_min(0).sqrt().flatten(2)
    means = roots @ roots.transpose(1, 2) / roots.shape[2]
    count = int(maps.shape[1])  # an integer also while the program is traced
    first, second = torch.triu_indices(count, count, 1)
    return means[:, first, second]


def _pooled(kind: str, grid: int, maps: Tensor, num_channels: int) -> Tensor:
    if kind == "wave peaks":
        return maps.flatten(2).amax(2)
    if kind == "wave energy":
        return maps.square().mean((2, 3)).sqrt()
    if kind == "wave pairs":
        return _pairs(maps)
    if kind == "mixtures":
        weights, biases = (part.to(maps) for part in mixing(num_channels))
        maps = functional.relu(functional.conv2d(maps, weights, biases))
    return mean_cells(maps, grid).flatten(1)


@functools.cache
def _partners(num_channels: int) -> NDArray[np.int64]:
    """The map that each map of an image becomes in its mirror image."""
    numbers = torch.arange(num_maps(num_channels), dtype=torch.float64)[None, :, None, None]
    return flipped(numbers, num_channels)[0, :, 0, 0].numpy().astype(np.int64)


@functools.cache
def kept(kind: str, grid: int, num_channels: int) -> NDArray[np.intp]:
    """Of features that mirroring makes equal, the first: indices into a part's features, ascending."""
    partners = _partners(num_channels)
    maps = len(partners)
    if kind == "mixtures":
        return np.arange(NUM_MIXTURES * grid**2)
    if kind == "wave pairs":
        first, second = np.triu_indices(maps, 1)
        number = np.zeros((maps, maps), dtype=np.intp)
        number[first, second] = number[second, first] = np.arange(len(first))
        partner = number[partners[first], partners[second]]
    else:
        places = grid if kind == "waves" else 1
        index = np.arange(maps * places**2).reshape(maps, places, places)
        partner = index[partners][:, :, ::-1].ravel()
    return np.flatnonzero(np.arange(len(partner)) <= partner)


def wave_features(kind: str, grid: int, maps: Tensor, num_channels: int, mirrored: bool) -> Tensor:
    """One part of a bank, ``[batch, features]``, from ``wave_maps``."""
    values = _pooled(kind, grid, maps, num_channels)
    if not mirrored:
        return values
    values = values + _pooled(kind, grid, flipped(maps, num_channels), num_channels)
    return values[:, torch.from_numpy(kept(kind, grid, num_channels))]
