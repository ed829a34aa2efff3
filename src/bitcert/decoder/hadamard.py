"""The fast Walsh-Hadamard transform, and random rows of it whose signs are random too.

``H_n`` is the symmetric ±1 matrix ``H_2 ⊗ ... ⊗ H_2`` of size ``n = 2^p``, ``H_n H_n = n I``. With a uniform ±1
diagonal ``D`` of the helper, row ``r`` of ``H_n D`` is a uniform sign array for every fixed ``r``; different rows are
orthogonal. A tensor of ``N <= n`` entries is padded with zeros to ``n``.

:func:`transform` costs ``n log n`` additions, done as products with ``H_32`` in float64: exact for integers whose
magnitudes sum to less than 2^53, in any order of addition. Source: Ailon & Chazelle 2009 (the idea of ``H D``);
docs/theory.md 3.2 (variant of Matrix-Project). NOT independent: rows of one ``D`` determine each other's products.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from bitcert.decoder.transforms.base import Draws, Integers, Values
from bitcert.linear.threads import one_blas_thread

_RADIX_BITS = 5


def padded_size(size: int) -> int:
    """The least power of two that is at least ``size >= 1``."""
    return 1 << (size - 1).bit_length()


@functools.cache
def _matrix(bits: int) -> Values:
    """``H_(2^bits)``: entry ``(a, b)`` is -1 to the number of common set bits of ``a`` and ``b``."""
    matrix = np.ones((1, 1))
    for _ in range(bits):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix, dtype=np.float64)


def transform(values: Values) -> Values:
    """``H_n`` times every vector of the last axis, whose length ``n`` is a power of two; float64, same shape.

    >>> transform(np.array([1.0, 2.0, 3.0, 4.0]))
    array([10., -2., -4.,  0.])
    """
    shape, size = values.shape, values.shape[-1]
    left = size.bit_length() - 1
    assert size == 1 << left
    done: Values = np.asarray(values, dtype=np.float64)
    with one_blas_thread():
        while left:
            bits = min(_RADIX_BITS, left)
            left -= bits
            if left:
                done = np.asarray(np.matmul(_matrix(bits), done.reshape(-1, 1 << bits, 1 << left)), dtype=np.float64)
            else:
                done = np.asarray(done.reshape(-1, 1 << bits) @ _matrix(bits), dtype=np.float64)
    return done.reshape(shape)


def diagonal(draws: Draws, size: int) -> Values:
    """The random signs ``D``, ``[size]`` of ±1.0."""
    words = draws.words("hadamard diagonal", -(-size // 64))
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), count=size, bitorder="little")
    return 2.0 * bits.astype(np.float64) - 1.0


def rows_with_replacement(draws: Draws, count: int, size: int) -> Integers:
    """``count`` independent uniform rows of ``size = 2^p``, ``[count]``; one may come twice."""
    words = draws.words("hadamard rows", count)
    return (words & np.uint64(size - 1)).astype(np.int64)


def distinct_rows(draws: Draws, count: int, size: int) -> Integers:
    """A uniformly random set of ``count <= size = 2^p`` rows, ascending.

    The first ``count`` different ones of a stream of uniform rows; for more than half, the rows that are left out are
    drawn so.
    """
    if 2 * count > size:
        left_out = distinct_rows(draws, size - count, size)
        return np.setdiff1d(np.arange(size), left_out, assume_unique=True)
    generator = draws.generator("hadamard rows").bit_generator
    drawn: Integers = np.zeros(0, dtype=np.int64)
    while True:
        words: NDArray[np.uint64] = np.asarray(generator.random_raw(2 * count + 16), dtype=np.uint64)
        drawn = np.concatenate([drawn, (words & np.uint64(size - 1)).astype(np.int64)])
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= count:
            return np.sort(drawn[np.sort(first)[:count]])
