"""Local frequency maps of contrast-normalised colour-opponent images, a fixed front end.

The image becomes brightness ``(R + G + B) / 3`` and the opponents ``R - B`` and ``G - (R + B) / 2`` (grey images have
brightness alone). Brightness is divided by its local contrast (mean removed over about 17 pixels, then divided by the
root of the local plus half the global mean square; as in Jarrett et al. 2009). Then windows of 6 x 6 pixels, two pixels
apart, are correlated with products of cosines (the DCT's first waves under a root-sine window): the waves of brightness
up to order four, and of what brightness and colour were before normalisation the mean and, for colour, the two first
waves. Each map is split into its positive and its negative part, and 4 x 4 places, two apart, are averaged: maps of a
quarter of the side. Nothing here looks at data, so nothing costs bits.

Flipping an image left to right flips the maps, and the parts of the waves that are odd across change places
(:func:`flipped`).
Not promised: invariance to anything else. Sides from 8 pixels.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

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


def _local_mean(x: Tensor) -> Tensor:
    """Mean over about 17 x 17 pixels: a 9 x 9 box twice, the border repeated."""
    for _ in range(2):
        padded = functional.pad(x, (_REACH,) * 4, mode="replicate")
        x = functional.avg_pool2d(functional.avg_pool2d(padded, (2 * _REACH + 1, 1), 1), (1, 2 * _REACH + 1), 1)
    return x


def opponents(x: Tensor) -> Tensor:
    """Brightness and the two colour opponents ``[batch, 1 or 3, height, width]`` of preprocessed images."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    red, green, blue = x[:, 0], x[:, 1], x[:, 2]
    return torch.stack([(red + green + blue) / 3, red - blue, green - (red + blue) / 2], 1)


def front(x: Tensor) -> Tensor:
    """Maps ``[batch, num_maps, height / 4, width / 4]`` of images ``x [batch, channels, height, width]``."""
    x = opponents(x)
    brightness = x[:, :1]
    detail = brightness - _local_mean(brightness)
    energy = _local_mean(detail.square())
    contrast = (energy + 0.5 * energy.mean((2, 3), keepdim=True) + _FLOOR).sqrt()
    detail = _DETAIL_GAIN * detail / contrast
    waves, frequencies = _waves()
    kernels = waves[:, None].to(x)
    pad = ((WINDOW - STRIDE) // 2,) * 4

    def correlate(image: Tensor, kernel: Tensor) -> Tensor:
        return functional.conv2d(functional.pad(image, pad, mode="replicate"), kernel, stride=STRIDE)

    maps = [correlate(detail, kernels)]
    first = kernels[[frequencies.index(pair) for pair in ((0, 0), (0, 1), (1, 0))]]
    # The means have norm six times their pixels'; half of that keeps all maps of one size.
    maps.append(correlate((brightness - _MIDDLE) * _COLOUR_GAIN, first[:1]) / 2)
    for channel in range(1, x.shape[1]):
        maps.append(correlate(x[:, channel : channel + 1] * _COLOUR_GAIN, first))
    signed = torch.cat(maps, 1)
    both = torch.cat([signed.clamp(min=0), (-signed).clamp(min=0)], 1)
    return functional.avg_pool2d(both, 4, 2, padding=1, count_include_pad=False)


def flipped(maps: Tensor, num_channels: int) -> Tensor:
    """Maps ``[batch, num_maps, rows, columns]`` of the images flipped left to right as the decoder takes them.

    Equal to the maps of the flipped images for sides of 4 n pixels.
    """
    odd = torch.tensor([across % 2 == 1 for _, across in _frequencies(num_channels)])
    order = torch.arange(len(odd)) + odd * len(odd)
    return maps.flip(3)[:, torch.cat([order, (order + len(odd)) % (2 * len(odd))])]
