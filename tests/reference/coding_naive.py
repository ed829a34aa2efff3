"""Ideal code lengths, one flag at a time."""

from __future__ import annotations

import math

import numpy as np

from bitcert.coding import UNARY_MAGNITUDES


def adaptive(flags: np.ndarray | list, before: tuple[float, float] = (0.5, 0.5)) -> float:
    """Bits of flags one after the other (Krichevsky & Trofimov), from so many zeros and ones imagined before."""
    seen, bits = list(before), 0.0
    for flag in np.asarray(flags, dtype=int).ravel():
        bits -= math.log2(seen[flag] / sum(seen))
        seen[flag] += 1
    return bits


def nonzero(values: np.ndarray) -> float:
    """Bits of integers that are not zero: signs, then whether the magnitude is above 1, 2, ..."""
    values = np.asarray(values).ravel()
    bits = adaptive(values > 0)
    for level in range(1, UNARY_MAGNITUDES + 1):
        bits += adaptive(np.abs(values[np.abs(values) >= level]) > level)
    return bits


def integers(values: np.ndarray) -> float:
    """Bits of integers: which are zero, and the others."""
    values = np.asarray(values).ravel()
    return adaptive(values != 0) + nonzero(values[values != 0])
