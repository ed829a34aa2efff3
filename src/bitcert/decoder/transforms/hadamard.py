"""Matrix-Project with a randomised Hadamard transform: ``O(N log N)`` in place of ``O(N k)``.

``H_n`` is the symmetric ±1 matrix ``H_2 ⊗ ... ⊗ H_2`` of size ``n = 2^p``, ``H_n H_n = n I``. With a uniform ±1
diagonal ``D`` of the helper, row ``r`` of ``H_n D`` is a uniform sign array for every fixed ``r``; different rows are
orthogonal (Ailon & Chazelle 2009). They are NOT independent: rows of one ``D`` determine each other's products.
:func:`transform` costs ``n log n`` additions, done as products with ``H_32`` in float64: exact for integers whose
magnitudes sum to less than 2^53, in any order of addition.

``M_j`` is a random row of ``H_n D`` (``n`` the next power of two), cut to the tensor's ``N`` entries. Settings
``(k, decoder)``:

* decoder 0, the average ``(1/k) sum_j c_j M_j`` over rows drawn *with* replacement. Each ``M_j`` is a uniform sign
  array, and given ``D`` they are independent with ``E[M M^T | D] = I``. So ``A_hat`` is unbiased given ``D``, the terms
  of the sum are uncorrelated, and mean and covariance are those of i.i.d. signs: ``E (A_hat - A)_ab^2 = (||A||_F^2 -
  A_ab^2) / k``, variance of ``<A_hat, W>`` equal to ``(||A||^2 ||W||^2 + <A,W>^2 - 2 sum A^2 W^2) / k``. The
  *exponential* tails of i.i.d. signs are not shown for it: given ``D`` some tensors fare worse.
* decoder 1, least squares over rows drawn *without* replacement. The rows are orthogonal, so the tensor (padded with
  zeros) of least norm with these coefficients is ``(1/n) sum_j c_j M_j``, the projection; cut to ``N`` entries.
  Mean ``(k/n) A``, variance of an entry ``k (n-k) / (n^2 (n-1)) (||A||_F^2 - A_ab^2)``.

All sums are exact integers in float64 (less than 2^53). Source: docs/theory.md 3.2.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.decoder.transforms.base import Arrays, Draws, Integers, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.signs import AVERAGE, DECODERS, LEAST_SQUARES
from bitcert.errors import malformed
from bitcert.linear.threads import one_blas_thread

MAX_PROJECTIONS = 1 << 26
MAX_SIZE = 1 << 24
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
    return -draws.signs("hadamard diagonal", size).astype(np.float64)


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


class Hadamard(Transform):
    """``A_hat`` from ``k`` coefficients of a randomised Hadamard transform; coefficients ``[k]``."""

    name: ClassVar[str] = "hadamard"
    num_settings: ClassVar[int] = 2

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """``([k],)``.

        Raises:
            DecodeError: no or too many projections, an unknown decoder, or too much work.
        """
        count, decoder = settings
        if not 1 <= target.size <= MAX_SIZE:
            raise malformed(f"a tensor of 1 to {MAX_SIZE:,} entries to project", f"{target.name} of {target.size:,}")
        if decoder not in DECODERS:
            raise malformed("decoder 0 or 1 of a projection", f"{decoder}")
        size = padded_size(target.size)
        most = size if decoder == LEAST_SQUARES else MAX_PROJECTIONS
        if not 1 <= count <= most:
            raise malformed(f"1 to {most:,} projections of {target.name}", f"{count:,}")
        self.check_cost(target, settings)
        return ((count,),)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return 64 * (padded_size(target.size) + settings[0])

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The tensor, float64."""
        (count, decoder), (code,) = settings, coefficients
        size = padded_size(target.size)
        rows = hadamard_rows(draws, count, decoder, size)
        # whole numbers below 2^24 * 2^26: their float64 sums are exact
        spread = np.asarray(np.bincount(rows, code.integers.astype(np.float64), size), dtype=np.float64)
        signs = diagonal(draws, size)[: target.size]
        total = transform(spread)[: target.size] * signs
        return (total * (code.step / (count if decoder == AVERAGE else size))).reshape(target.shape)


def hadamard_rows(draws: Draws, count: int, decoder: int, size: int) -> Integers:
    """The rows that a decoder uses, ``[k]``."""
    if decoder == AVERAGE:
        return rows_with_replacement(draws, count, size)
    return distinct_rows(draws, count, size)


def hadamard_coefficients(draws: Draws, values: Values, count: int, decoder: int) -> Values:
    """``<A, M_j>``, float64 ``[count]`` (encoder: rounded as float64 sums are)."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    size = padded_size(flat.size)
    padded = np.zeros(size)
    padded[: flat.size] = flat
    padded *= diagonal(draws, size)
    return transform(padded)[hadamard_rows(draws, count, decoder, size)]
