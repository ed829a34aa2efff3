"""Products of integer matrices without any rounding, at the speed of floating-point BLAS.

float64 adds and multiplies integers exactly while every partial sum stays below 2^53, in whatever order and with
however many threads a library adds them. Larger products are computed in two parts. The result is the same on every
machine. Not for real numbers: those would be rounded in an order that nobody promises.
"""

from __future__ import annotations

import numpy as np

from bitcert.decoder.transforms.base import Integers
from bitcert.errors import malformed

_EXACT = 1 << 53
_LOW_BITS = 12


def exact_product(left: Integers, right: Integers) -> Integers:
    """``left [m, k] @ right [k, n]`` in int64.

    Raises:
        DecodeError: when ``k * max|left| * max|right|`` might not fit.

    >>> exact_product(np.array([[1 << 24, 3]]), np.array([[1 << 24], [5]])).item() == (1 << 48) + 15
    True
    """
    terms, large_left, large_right = left.shape[1], _largest(left), _largest(right)
    if terms * large_left * large_right < _EXACT:
        return _blas(left, right)
    high, low = left >> _LOW_BITS, left & ((1 << _LOW_BITS) - 1)
    part = max(_largest(high), 1 << _LOW_BITS)
    if terms * part * large_right >= _EXACT or terms * large_left * large_right >= 1 << 63:
        raise malformed("a product of factors below 2^63", "larger numbers")
    return (_blas(high, right) << _LOW_BITS) + _blas(low, right)


def _largest(values: Integers) -> int:
    return int(np.abs(values).max(initial=0))


def _blas(left: Integers, right: Integers) -> Integers:
    product: Integers = np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(np.int64)
    return product
