"""Convolution Matrix-Project (Arora 2018, section 5 and Alg. 4, as docs/theory.md 3.2 constructs it): one filter per
location.

The filter ``A`` (``N`` entries, padded with zeros to ``n = 2^P``) is known to the decoder through its coordinates in a
random subspace of dimension ``q = k p`` of the helper. Location ``l`` of the output map draws its own ``k`` Gaussian
tensors ``G_j`` inside the subspace and makes the Matrix-Project estimate with them:

    c_i = <A, m_i>, i = 1 .. q            m_i: q different rows of H_n D, ||m_i||^2 = n, orthogonal
    A_hat(l) = 1/(q k) sum_j (g_j(l) . c) sum_i g_ji(l) m_i,     g_ji(l) i.i.d. N(0, 1) of stream ``location/<l>``

*The subspace.* Orthonormalised Gaussians cannot be made bit-exactly: every square root and division rounds, in an
order that libraries choose. Distinct random rows of a randomised Hadamard matrix span a random subspace with an exactly
orthogonal integer basis, whose projector ``P`` also has ``E P = (q/n) I``, which is all that the following needs.

*Law* (``A_a`` an entry, ``s = (n - q) / (q (n - 1))``): unbiased; between two locations the errors have covariance
``s (||A||^2 - A_a^2)``, which is that of the subspace alone; at one location

    Var A_hat_a = (||A||^2 + A_a^2) / k + s (1 + 1/k) (||A||^2 - A_a^2),

Lemma 2's ``||A||^2 / k`` and little else. So the errors of two locations correlate about ``1/(p + 1)``, where with one
shared filter they are equal. Settings ``(k, p)``; coefficients ``[k p]``. ``g`` are the 16-bit normal numbers of
:mod:`bitcert.decoder.transforms.normal`, whose variance is divided out; products are exact integers in float64, rounded
to fewer bits between stages (a relative error of about 2^-13 of a product's spread), so that no sum reaches 2^53. NOT
promised: independence of the locations, or fewer bits than the filter itself: ``p`` times Matrix-Project's.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Arrays, Draws, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.hadamard import diagonal, distinct_rows, padded_size, transform
from bitcert.decoder.transforms.normal import UNIT, UNIT_BITS, variance
from bitcert.errors import malformed

MAX_COORDINATES = 1 << 16
MAX_LOCAL_ENTRIES = 1 << 25
"""Most entries of all filters of one layer together."""
_SHORT_BITS = 20
_LONG_BITS = 30
_PRODUCT_BITS = 12
_BATCH_ENTRIES = 1 << 20
_CHUNK_NUMBERS = 1 << 18
"""Normal numbers of a location at a time: bounds the memory."""


class FilterProjection(Transform):
    """One filter per output position from ``k p`` coordinates; :meth:`expand` returns ``[positions, *shape]``."""

    name: ClassVar[str] = "filter projection"
    num_settings: ClassVar[int] = 2
    local: ClassVar[bool] = True

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """``([k p],)``.

        Raises:
            DecodeError: no filter of a 2-D convolution, a subspace larger than the space, or too much work.
        """
        count, copies = settings
        if len(target.positions) != 2 or len(target.shape) != 4:
            raise malformed("filters of a 2-D convolution", f"{target.name} of shape {list(target.shape)}")
        positions = math.prod(target.positions)
        if not 1 <= positions * target.size <= MAX_LOCAL_ENTRIES:
            got = f"{positions * target.size:,} of {target.name}"
            raise malformed(f"1 to {MAX_LOCAL_ENTRIES:,} entries of filters for all positions", got)
        size = padded_size(target.size)
        if min(count, copies) < 1 or count * copies > min(size, MAX_COORDINATES):
            got = f"k = {count:,} times p = {copies:,}"
            raise malformed(f"a subspace of 1 to {min(size, MAX_COORDINATES):,} dimensions for {target.name}", got)
        self.check_cost(target, settings)
        return ((count * copies,),)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`: drawing the locations' Gaussian tensors, and transforms."""
        count, copies = settings
        return math.prod(target.positions) * (8 * count * count * copies + 32 * padded_size(target.size))

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The filters, float64 ``[positions, *shape]``, positions in row-major order."""
        (count, copies), (code,) = settings, coefficients
        dimension, size, positions = count * copies, padded_size(target.size), math.prod(target.positions)
        rows, signs = distinct_rows(draws, dimension, size), diagonal(draws, size)[: target.size]
        coordinates, shift = shorten(code.integers.astype(np.float64), _SHORT_BITS)
        scale = code.step / (dimension * count * (variance() / UNIT**2))
        filters = np.empty((positions, target.size))
        batch = max(1, _BATCH_ENTRIES // size)
        for start in range(0, positions, batch):
            here = range(start, min(start + batch, positions))
            spread, scales = np.zeros((len(here), size)), np.empty((len(here), 1))
            for place, location in enumerate(here):
                weights, more = _location_weights(draws, location, count, coordinates)
                spread[place, rows] = weights
                scales[place] = math.ldexp(scale, shift + more)
            filters[start : start + len(here)] = transform(spread)[:, : target.size] * signs * scales
        return filters.reshape(positions, *target.shape)


def _location_weights(draws: Draws, location: int, count: int, coordinates: Values) -> tuple[Values, int]:
    """``G^T G c`` of a location as integers ``[q]`` and the power of two they are to be multiplied by.

    The products ``g_j . c`` are shortened to a standard deviation of 2^12 by a shift that depends on ``c`` alone, so
    that one pass over ``G`` is enough; with ``q`` below 2^16 no sum reaches 2^53.
    """
    dimension = len(coordinates)
    squares = int(np.square(coordinates.astype(np.int64)).sum())
    shift = UNIT_BITS - _PRODUCT_BITS + (squares.bit_length() + 1) // 2
    weights = np.zeros(dimension)
    rows = max(4, _CHUNK_NUMBERS // dimension // 4 * 4)  # whole words of four numbers
    for _, numbers in draws.normal_rows(f"location/{location}", count, dimension, rows):
        tensors = numbers.astype(np.float64)
        weights += np.rint(np.ldexp(tensors @ coordinates, -shift)) @ tensors
    weights, more = shorten(weights, _LONG_BITS)
    return weights, shift + more


def shorten(values: Values, bits: int) -> tuple[Values, int]:
    """Integers of at most ``bits`` bits and a shift with ``values`` nearly ``integers * 2^shift``; exact if they fit.

    >>> shorten(np.array([5.0, -1000.0]), 8)
    (array([   1., -250.]), 2)
    """
    largest = float(np.abs(values).max(initial=0.0))
    shift = max(0, math.frexp(largest)[1] - bits)
    return np.rint(np.ldexp(values, -shift)), shift
