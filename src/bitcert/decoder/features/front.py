"""Local frequency maps of contrast-normalised colour-opponent images, a fixed front end.

The image becomes brightness ``(R + G + B) / 3`` and the opponents ``R - B`` and ``G - (R + B) / 2`` (grey images have
brightness alone). Brightness is divided by its local contrast (mean removed over about 17 pixels, then divided by the
root of the local plus half the global mean square; as in Jarrett et al. 2009). Then windows of 6 x 6 pixels, two pixels
apart, are correlated with products of cosines (the DCT's first waves under a root-sine window): the waves of brightness
up to order four, and of what brightness and colour were before normalisation the mean and, for colour, the two first
waves. Each map is split into its positive and its negative part, and 4 x 4 places, two apart, are averaged: maps of a
quarter of the side. Nothing here looks at data, so nothing costs bits.

Flipping an image left to right flips the maps, and the parts of the waves that are odd across change places
(:func:`partners`).
Not promised: invariance to anything else. Sides from 8 pixels.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

from bitcert.decoder.features.edges import windowed

WINDOW, STRIDE = 6, 2
_ORDER = 4
_REACH = 4
_COLOUR_GAIN = 3.0
_MIDDLE = 0.47
_FLOOR = 1e-4
_DETAIL_GAIN = 0.7


@functools.cache
def _waves() -> tuple[Tensor, tuple[tuple[int, int], ...]]:
    """Windowed waves ``[n, 6, 6]`` of norm one and their frequencies ``(down, across)``, in the order of the maps."""
    places = torch.arange(WINDOW, dtype=torch.float64) + 0.5
    window = torch.sin(math.pi * places / WINDOW).sqrt()
    rows = [torch.cos(math.pi * places * u / WINDOW) * window for u in range(_ORDER + 1)]
    frequencies = tuple((u, v) for u in range(_ORDER + 1) for v in range(_ORDER + 1 - u))
    waves = torch.stack([torch.outer(rows[u], rows[v]) for u, v in frequencies])
    return (waves / waves.flatten(1).norm(dim=1)[:, None, None]).float(), frequencies


def _frequencies(num_channels: int) -> list[tuple[int, int]]:
    _, waves = _waves()
    colour = [(0, 0), (0, 1), (1, 0)]
    return [*waves, (0, 0), *(colour * 2 if num_channels == 3 else [])]


def num_maps(num_channels: int) -> int:
    """Number of maps of images of that many channels (1, 3, or any other, taken as grey)."""
    return 2 * len(_frequencies(num_channels))


def wave_orders(num_channels: int) -> tuple[tuple[int, ...], int]:
    """Order ``down + across`` of each map before rectification, and how many maps of detail come first."""
    return tuple(down + across for down, across in _frequencies(num_channels)), len(_waves()[1])


def _repeated(x: Tensor, axis: int, by: int) -> Tensor:
    """The border repeated ``by`` times on both ends of an axis."""
    last = x.shape[axis] - 1
    return torch.cat([x.narrow(axis, 0, 1)] * by + [x] + [x.narrow(axis, last, 1)] * by, axis)


def _local_mean(x: Tensor) -> Tensor:
    """Mean over about 17 x 17 pixels: a box of 9 x 9 twice, the border repeated."""
    size = 2 * _REACH + 1
    for axis in (1, 2, 1, 2):
        padded, pixels = _repeated(x, axis, _REACH), x.shape[axis]
        x = padded.narrow(axis, 0, pixels).clone()
        for start in range(1, size):
            x.add_(padded.narrow(axis, start, pixels))
        x.div_(size)
    return x


def opponents(x: Tensor) -> Tensor:
    """Brightness and the two colour opponents ``[1 or 3, height, width, batch]`` of preprocessed images."""
    if len(x) != 3:
        return x.mean(0, keepdim=True)
    red, green, blue = x
    return torch.stack([(red + green + blue) / 3, red - blue, green - (red + blue) / 2])


def _correlated(image: Tensor, kernels: Tensor) -> Tensor:
    """Windows of an image ``[1, height, width, batch]``, the border repeated, times ``kernels [n, 6, 6]``."""
    pad = (WINDOW - STRIDE) // 2
    padded = _repeated(_repeated(image, 1, pad), 2, pad)[0]
    rows, columns = ((int(side) - WINDOW) // STRIDE + 1 for side in padded.shape[:2])
    starts = itertools.product(range(WINDOW), range(WINDOW))
    stacked = torch.stack([padded[i:, j:][: STRIDE * rows : STRIDE, : STRIDE * columns : STRIDE] for i, j in starts])
    return (kernels.flatten(1).to(image) @ stacked.flatten(1)).reshape(-1, rows, columns, image.shape[3])


@functools.cache
def _averages(size: int) -> Tensor:
    """Means over 4 places, two apart, of those there are: ``[size / 2, size]``; the first window begins at -1."""
    starts = 2 * torch.arange((size - 2) // 2 + 1)[:, None] - 1
    inside = (torch.arange(size) >= starts) & (torch.arange(size) < starts + 4)
    return inside / inside.sum(1, keepdim=True, dtype=torch.float64)


def front(x: Tensor) -> Tensor:
    """Maps ``[num_maps, height / 4, width / 4, batch]`` of images ``x [channels, height, width, batch]``."""
    x = opponents(x)
    brightness = x[:1]
    detail = brightness - _local_mean(brightness)
    energy = _local_mean(detail.square())
    contrast = (energy + 0.5 * energy.mean((1, 2), keepdim=True) + _FLOOR).sqrt()
    detail = _DETAIL_GAIN * detail / contrast
    kernels, frequencies = _waves()
    maps = [_correlated(detail, kernels)]
    first = kernels[[frequencies.index(pair) for pair in ((0, 0), (0, 1), (1, 0))]]
    # The means have norm six times their pixels'; half of that keeps all maps of one size.
    maps.append(_correlated((brightness - _MIDDLE) * _COLOUR_GAIN, first[:1]) / 2)
    for colour in x[1:]:
        maps.append(_correlated(colour[None] * _COLOUR_GAIN, first))
    signed = torch.cat(maps)
    both = torch.cat([signed.clamp(min=0), (-signed).clamp(min=0)])
    return windowed(both, _averages(int(both.shape[1])), _averages(int(both.shape[2])))


def partners(num_channels: int) -> Tensor:
    """The map that each map becomes in the mirror image as the decoder takes it: there its columns run backwards.

    Equal to the maps of the flipped images for sides of 4 n pixels.
    """
    odd = torch.tensor([across % 2 == 1 for _, across in _frequencies(num_channels)])
    order = torch.arange(len(odd)) + odd * len(odd)
    return torch.cat([order, (order + len(odd)) % (2 * len(odd))])
