"""Standard normal numbers that are equal on every machine: 16 random bits -> an integer in units of 2^-12.

Number ``b`` is ``round(4096 * ndtri((b + 1/2) / 65536))`` with the inverse normal distribution function, a symmetric
grid of 65,536 equally likely values within ±4.33 standard deviations. Its mean is 0 by symmetry; its variance is
:func:`variance` (1 minus the tails beyond the grid). The table's SHA-256 is a constant of the program, so that a
library which rounds one entry differently is noticed instead of decoding another network. Not exactly normal:
nothing of size 4.33 ever comes.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import DecodeError

UNIT_BITS = 12
UNIT = 2.0**-UNIT_BITS
"""One unit of :func:`normal_integers`."""

_TABLE_HASH = "65adb44855f8b71385141d120e46bcbbe7ab553ca422fa6c389f204db6da226b"


@functools.cache
def _table() -> NDArray[np.int64]:
    from scipy.special import ndtri

    upper = np.rint(ndtri((np.arange(1 << 15, 1 << 16) + 0.5) / (1 << 16)) * (1 << UNIT_BITS)).astype(np.int64)
    table = np.concatenate([-upper[::-1], upper])
    if hashlib.sha256(table.astype("<i4").tobytes()).hexdigest() != _TABLE_HASH:
        do = "use another version of scipy"
        raise DecodeError("the table of normal numbers that this program was built with", "another one", do)
    return table


def normal_integers(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Four normal numbers for every word of 64 random bits, ``[4 * words]`` int64 in units of ``2^-12``.

    Raises:
        DecodeError: when this machine's library makes another table.

    >>> normal_integers(np.array([0x7FFF_FFFF_0000_8000], dtype=np.uint64))
    array([     0, -17715,  17715,      0])
    """
    numbers: NDArray[np.int64] = _table()[np.ascontiguousarray(words, dtype="<u8").view("<u2")]
    return numbers


def variance() -> float:
    """Variance of one number, in units of 1; from integers, so that it is the same on every machine.

    >>> round(variance(), 6)
    0.999979
    """
    return int(np.square(_table()).sum()) / (1 << 16) * UNIT**2
