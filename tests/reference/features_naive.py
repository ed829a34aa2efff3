"""Slow twin of the edge features: float64 loops written from the definition, pixel by pixel.

No algorithm is shared with the library: directions are angles (the library: cosines of unit vectors), sums are loops
(the library: convolutions and matrix products).
"""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOCAL_RADIUS = 2
LOCAL_FLOOR = 0.1
DIRECTION_FLOOR = 1e-6
BINOMIAL = {-1: 0.25, 0: 0.5, 1: 0.25}


def _at(image: Array, row: int, column: int) -> float:
    """The pixel, or zero outside."""
    inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
    return float(image[row, column]) if inside else 0.0


def _smooth(image: Array) -> Array:
    out = np.zeros_like(image)
    for row, column in np.ndindex(*image.shape):
        for i, a in BINOMIAL.items():
            for j, b in BINOMIAL.items():
                out[row, column] += a * b * _at(image, row + i, column + j)
    return out


def _gradient(image: Array, row: int, column: int) -> tuple[float, float]:
    right = sum(a * (_at(image, row + i, column + 1) - _at(image, row + i, column - 1)) for i, a in BINOMIAL.items())
    down = sum(a * (_at(image, row + 1, column + i) - _at(image, row - 1, column + i)) for i, a in BINOMIAL.items())
    return right / 2, down / 2


def _responses(image: Array, orientations: int) -> list[Array]:
    strength, angle = np.zeros_like(image), np.zeros_like(image)
    for place in np.ndindex(*image.shape):
        right, down = _gradient(image, *place)
        strength[place], angle[place] = math.hypot(right, down), math.atan2(down, right)
    around = range(-LOCAL_RADIUS, LOCAL_RADIUS + 1)
    maps = [np.zeros_like(image) for _ in range(orientations)]
    for row, column in np.ndindex(*image.shape):
        size = strength[row, column]
        local = sum(_at(strength, row + i, column + j) for i in around for j in around) / len(around) ** 2
        for index, responses in enumerate(maps):
            selectivity = max(0.0, math.cos(angle[row, column] - 2 * math.pi * index / orientations)) ** 6
            certainty = (size / (size + DIRECTION_FLOOR)) ** 6
            responses[row, column] = size / (local + LOCAL_FLOOR) * selectivity * certainty
    return maps


def _window(size: int, grid: int, index: int) -> list[float]:
    spacing = size / grid
    centre = (index + 0.5) * spacing - 0.5
    window = [max(0.0, 1 - abs(place - centre) / spacing) for place in range(size)]
    return [value / sum(window) for value in window]


def _pool(image: Array, grid: int) -> list[float]:
    height, width = image.shape
    rows = [_window(height, grid, index) for index in range(grid)]
    columns = [_window(width, grid, index) for index in range(grid)]
    return [
        sum(r[i] * c[j] * image[i, j] for i in range(height) for j in range(width) if r[i] and c[j])
        for r in rows
        for c in columns
    ]


def naive_features(image: Array, grid: int, smoothing: int, orientations: int) -> list[float]:
    """Pooled edges of one image ``[channels, height, width]``, scaled, the constant last."""
    channels = [np.asarray(channel, dtype=np.float64) for channel in image]
    for _ in range(smoothing):
        channels = [_smooth(channel) for channel in channels]
    maps = _responses(np.asarray(sum(channels) / len(channels)), orientations)
    vector = [value for responses in maps for value in _pool(responses, grid)]
    norm = math.sqrt(sum(value * value for value in vector))
    return [value / (norm + DIRECTION_FLOOR) * math.sqrt(len(vector)) for value in vector] + [1.0]
