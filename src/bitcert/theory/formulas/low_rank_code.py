"""Length of a self-delimiting message of layers that are cut at a rank and rounded (Arora 2018, Lemma 1 and Thm 2.2).

The message of a layer ``A [rows, columns]`` with singular values ``sigma_1 >= sigma_2 >= ...`` is

    tag       Elias delta of 1 (plain) or of 2 + r (factors of rank r); nothing follows a rank of 0, which is A_hat = 0
    exponent  Elias gamma of e's place in 0, 1, -1, 2, ..: entries are multiples of 2^e
    width     Elias gamma of w
    entries   w bits each, an integer n in [-2^(w-1), 2^(w-1) - 1] meaning n 2^e

*plain*: ``A`` rounded. ``||A_hat - A||_2 <= ||A_hat - A||_F <= 2^(e-1) sqrt(rows columns)``, ``|A_jk| <= max |A|``.
*factors*: ``L = U sqrt(S) [rows, r]`` and ``R = sqrt(S) V^T [r, columns]`` of the cut SVD, rounded. With the step
``q = 2^e`` and ``||L||_2 = ||R||_2 = sqrt(sigma_1)``, ``||L_hat - L||_2 <= q sqrt(rows r) / 2`` and the same for ``R``,

    ||L_hat R_hat - A||_2 <= sigma_(r+1) + sqrt(sigma_1 r) (sqrt(rows) + sqrt(columns)) q/2 + r sqrt(rows columns) q^2/4

Every choice is in the message, so the encoder is free: it takes the form, rank and step that are shortest for the
error allowed. The decoder needs the shapes alone. Lengths follow from the singular values and ``max |A|``, without the
singular vectors; the twin in the tests writes and reads the message. Everything is in logarithms: with sixty layers of
norm 1e30 a step is below the range of a float.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_LN2 = math.log(2)
_RELATIVE, _ABSOLUTE = 2e-6, 1e-12
"""Error of computed singular values: of a value, and of a value in units of the largest (:mod:`bitcert.linear`)."""
_ALLOWANCE = 1e-9
"""For rounding of logarithms here, always to the safe side."""


@dataclass(frozen=True)
class LayerForm:
    """How a layer is written.

    Attributes:
        rank: of the factors, or ``None`` for the matrix itself.
        exponent, width: of the step ``2^exponent``, and bits of an entry; 0 and 0 for rank 0.
        numbers: entries written.
        bits: of the whole layer, tag included.
    """

    rank: int | None
    exponent: int
    width: int
    numbers: int
    bits: int


def gamma_bits(value: int) -> int:
    """Length of the Elias gamma code of ``value >= 1``.

    >>> gamma_bits(1), gamma_bits(5)
    (1, 5)
    """
    return 2 * value.bit_length() - 1


def delta_bits(value: int) -> int:
    """Length of the Elias delta code of ``value >= 1``.

    >>> delta_bits(1), delta_bits(5)
    (1, 5)
    """
    digits = value.bit_length()
    return gamma_bits(digits) + digits - 1


def signed_bits(value: int) -> int:
    """Length of an integer as ``BitWriter.signed`` writes it.

    >>> signed_bits(0), signed_bits(-1)
    (1, 3)
    """
    return gamma_bits(2 * value if value > 0 else 1 - 2 * value)


def shortest_form(shape: tuple[int, int], singular_values: Vector, largest_entry: float, log_error: float) -> LayerForm:
    """The shortest form of a matrix with ``||A_hat - A||_2 <= exp(log_error)``.

    Args:
        shape: rows and columns.
        singular_values: all of them, descending.
        largest_entry: ``max |A|``.
        log_error: natural logarithm of the spectral error allowed, finite.

    >>> shortest_form((2, 2), np.array([2.0, 1.0]), 2.0, math.log(0.6)).bits
    25
    """
    top = float(singular_values[0])
    if top == 0 or log_error >= math.log(top) + 2 * _RELATIVE:
        return LayerForm(0, 0, 0, 0, delta_bits(2))
    plain = _plain(shape, largest_entry, log_error)
    factors = _factors(shape, singular_values, log_error)
    return min((plain, factors), key=lambda form: form.bits)


def _form(rank: int | None, exponent: int, width: int, numbers: int) -> LayerForm:
    tag = delta_bits(1 if rank is None else 2 + rank)
    return LayerForm(rank, exponent, width, numbers, tag + signed_bits(exponent) + gamma_bits(width) + numbers * width)


def _width(log2_limit: float | Vector, exponent: int | Vector) -> Vector:
    """Bits of an entry of size at most ``2^log2_limit``: the nearest multiple is at most ``limit / step + 1/2``."""
    log2_most = np.logaddexp2(np.asarray(log2_limit, np.float64) - exponent, -1.0) + _ALLOWANCE
    width: Vector = np.where(log2_most < 0, 1.0, 2.0 + np.floor(log2_most))
    return width


def _plain(shape: tuple[int, int], largest_entry: float, log_error: float) -> LayerForm:
    rows, columns = shape
    log_step = _LN2 + log_error - math.log(rows * columns) / 2
    exponent = math.floor(log_step / _LN2 - _ALLOWANCE)
    return _form(None, exponent, int(_width(math.log2(largest_entry), exponent)), rows * columns)


def _factors(shape: tuple[int, int], singular_values: Vector, log_error: float) -> LayerForm:
    """The best rank: a smaller one has fewer entries, a larger one leaves more of the error to rounding."""
    rows, columns = shape
    top = float(singular_values[0])
    relative = log_error - math.log(top)
    ranks = np.arange(1, len(singular_values) + 1, dtype=np.float64)
    cut = np.append(singular_values[1:] / top * (1 + _RELATIVE) + _ABSOLUTE, 0.0)  # what each rank leaves out
    with np.errstate(divide="ignore"):
        share = np.log(cut) - relative
    possible = share < 0
    ranks, share = ranks[possible], share[possible]
    # in units of sigma_1, and of sqrt(sigma_1) for the step q: a q^2 + b q <= error, for which q = error / (b +
    # sqrt(a error)) is small enough, as sqrt(b^2 + 4 a error) <= b + 2 sqrt(a error)
    log_left = relative + np.log1p(-np.exp(share))
    a = ranks * math.sqrt(rows * columns) / 4
    b = np.sqrt(ranks) * (math.sqrt(rows) + math.sqrt(columns)) / 2
    log_step = log_left - np.log(b + np.sqrt(a) * np.exp(log_left / 2)) + math.log(top) / 2
    exponents = np.floor(log_step / _LN2 - _ALLOWANCE)
    widths = _width(math.log2(top) / 2 + _ALLOWANCE, exponents)
    best = int(np.argmin(widths * ranks))
    rank = int(ranks[best])
    return _form(rank, int(exponents[best]), int(widths[best]), rank * (rows + columns))
