"""Slow twins of the linear package: loops over entries, written from the definitions, in float64 numpy.

No algorithm is shared with the library: maps are unrolled entry by entry, norms are sums in loops, singular values come
from an SVD of the unrolled matrix, random signs are read bit by bit from the words of the stream.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unrolled(
    weight: Array, shape: tuple[int, ...], stride: tuple, padding: tuple, dilation: tuple, groups: int
) -> Array:
    """Dense matrix ``[outputs, inputs]`` of a convolution with kernel ``[out, in / groups, *kernel]`` on ``shape``."""
    kernel, sizes = weight.shape[2:], shape[1:]
    axes = range(len(sizes))
    places = [(sizes[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in axes]
    outputs = (weight.shape[0], *places)
    matrix = np.zeros((math.prod(outputs), math.prod(shape)))
    per_group = weight.shape[0] // groups
    for out in np.ndindex(*outputs):
        for source, tap in product(range(weight.shape[1]), np.ndindex(*kernel)):
            place = [out[1 + a] * stride[a] - padding[a] + tap[a] * dilation[a] for a in axes]
            if all(0 <= place[a] < sizes[a] for a in axes):
                channel = (out[0] // per_group) * weight.shape[1] + source
                row = np.ravel_multi_index(out, outputs)
                column = np.ravel_multi_index((channel, *place), shape)
                matrix[row, column] += weight[(out[0], source, *tap)]
    return matrix


def norms(weight: Array) -> dict[str, float]:
    """Frobenius, 2,1 (over output units) and 1,inf norms of ``[out, ...]``."""
    frobenius, norm_21, norm_1inf = 0.0, 0.0, 0.0
    for unit in weight:
        squares = sum(float(w) ** 2 for w in unit.flat)
        frobenius += squares
        norm_21 += math.sqrt(squares)
        norm_1inf = max(norm_1inf, sum(abs(float(w)) for w in unit.flat))
    return {"frobenius": math.sqrt(frobenius), "norm_21": norm_21, "norm_1inf": norm_1inf}


def spectral(matrix: Array) -> float:
    """Largest singular value."""
    return float(np.linalg.svd(matrix, compute_uv=False)[0])


def sign_arrays(words: list[int], size: int, count: int) -> Array:
    """``[count, size]`` signs from 64-bit words: bit ``n mod 64`` of the array's ``n // 64``-th word."""
    per_array = -(-size // 64)
    signs = np.empty((count, size))
    for j, n in np.ndindex(count, size):
        signs[j, n] = 1.0 if words[j * per_array + n // 64] >> (n % 64) & 1 else -1.0
    return signs


def project(weight: Array, signs: Array) -> Array:
    """Arora 2018, algorithm 1, with the given sign arrays."""
    total = np.zeros(weight.size)
    for sign in signs:
        total += sum(a * s for a, s in zip(weight.flat, sign, strict=True)) * sign
    return (total / len(signs)).reshape(weight.shape)


def ks_search(values: Array) -> tuple[float, float]:
    """Cut-off and Kolmogorov-Smirnov distance by trying every distinct value but the two largest."""
    values = np.sort(values)
    best = (math.inf, 0.0)
    for xmin in sorted(set(values.tolist()))[:-2]:
        tail = [x for x in values.tolist() if x >= xmin]
        alpha = 1 + len(tail) / sum(math.log(x / xmin) for x in tail)
        below = [sum(y < x for y in tail) / len(tail) for x in tail]
        distance = max(abs(1 - (x / xmin) ** (1 - alpha) - b) for x, b in zip(tail, below, strict=True))
        best = min(best, (distance, xmin))
    return best[1], best[0]
