"""Slow twins of the enumerative coder: lengths by exact binomials, and the margins' probabilities in plain loops."""

from __future__ import annotations

import math

import numpy as np


def row_limit_bits(support: np.ndarray) -> float:
    """``sum_rows log2 C(n, k)``, exact integers."""
    return sum(math.log2(math.comb(support.shape[1], int(row.sum()))) for row in support)


def whole_limit_bits(support: np.ndarray) -> float:
    """``log2 C(size, ones)``."""
    return math.log2(math.comb(support.size, int(support.sum())))


def _odds(part: int, whole: int) -> float:
    fraction = min(part / whole, 1 - 2.0**-5)
    return fraction / (1 - fraction)


def margin_bits(support: np.ndarray) -> float:
    """``-log2`` of the probability that the margins mode gives a support without empty rows and columns.

    Cell by cell in reading order: only earlier cells of the same row and column matter, so the order of the
    antidiagonals gives the same numbers.
    """
    num_rows, num_columns = support.shape
    r, c, total = support.sum(1).tolist(), support.sum(0).tolist(), int(support.sum())
    bits = 0.0
    for i in range(num_rows):
        for j in range(num_columns):
            left, below = int(support[i, j:].sum()), int(support[i:, j].sum())
            places, rows_below = num_columns - j, num_rows - i
            if left in (0, places) or below in (0, rows_below):
                continue
            odds = _odds(r[i] * c[j], total)
            odds *= _odds(left, places) / _odds(r[i] * sum(c[j:]), total * places)
            odds *= _odds(below, rows_below) / _odds(c[j] * sum(r[i:]), total * rows_below)
            probability = odds / (1 + odds)
            bits -= math.log2(probability if support[i, j] else 1 - probability)
    return bits
