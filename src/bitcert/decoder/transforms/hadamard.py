"""Matrix-Project with a randomised Hadamard transform: ``O(N log N)`` in place of ``O(N k)``.

``M_j`` is a random row of ``H_n D`` (``n`` the next power of two, ``D`` random signs), cut to the tensor's ``N``
entries. Settings ``(k, decoder)``:

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

from typing import ClassVar

import numpy as np

from bitcert.decoder.hadamard import diagonal, distinct_rows, padded_size, rows_with_replacement, transform
from bitcert.decoder.transforms.base import (
    Coefficients,
    Draws,
    Integers,
    Settings,
    Shape,
    Target,
    Values,
    check_cost,
    malformed,
)
from bitcert.decoder.transforms.signs import AVERAGE, DECODERS, LEAST_SQUARES

MAX_PROJECTIONS = 1 << 26
MAX_SIZE = 1 << 24


class Hadamard:
    """``A_hat`` from ``k`` coefficients of a randomised Hadamard transform; coefficients ``[k]``."""

    name: ClassVar[str] = "hadamard"
    num_settings: ClassVar[int] = 2
    local: ClassVar[bool] = False

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
        check_cost(self.operations(target, settings), target)
        return ((count,),)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return 64 * (padded_size(target.size) + settings[0])

    def expand(
        self, target: Target, settings: Settings, coefficients: tuple[Coefficients, ...], draws: Draws
    ) -> Values:
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
