"""Linear separators: a weight ``[2, n]`` made of one vector ``c [n]``, as ``(-c, c)``.

The class of ``x`` is 1 where ``c . x`` (plus half the difference of the biases) is positive. :class:`Separator` reads
``c`` from the message (sparse, for Vector-compress); :class:`SeparatorProjection` reads ``k`` projections ``z_i`` and
makes ``c = (1/k) sum_i z_i v_i`` with standard normal vectors ``v_i`` of the helper. Sources: Arora et al. 2018,
section 2.1 and A.2; Zhang 2020, section 3. Not promised: anything about ``c``; the encoder chose the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Arrays, Draws, Integers, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.normal import UNIT
from bitcert.errors import malformed

NORMAL_COST = 64
"""Elementary operations that drawing and adding one normal number counts as."""
_BLOCK = 1 << 20
_MAX_BLOCK_ROWS = 4096
"""Numbers below 2^15 times integers below 2^24, added this many times, stay below 2^53."""


def _width(target: Target) -> int:
    if len(target.shape) != 2 or target.shape[0] != 2:
        raise malformed("a separator for a weight [2, n]", f"one for {target.name} of shape {list(target.shape)}")
    return target.shape[1]


def both_rows(vector: Values) -> Values:
    """``(-c, c)`` as ``[2, n]``."""
    return np.stack([-vector, vector])


class Separator(Transform):
    """The vector itself; no settings."""

    name: ClassVar[str] = "separator"

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """One vector ``[n]``.

        Raises:
            DecodeError: a tensor that is not ``[2, n]``.
        """
        return ((_width(target),),)

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """``(-c, c)``."""
        return both_rows(coefficients[0].values)


class SeparatorProjection(Transform):
    """Projections of the vector; setting: their number ``k``, at least 1."""

    name: ClassVar[str] = "separator projection"
    num_settings: ClassVar[int] = 1

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """One vector ``[k]``.

        Raises:
            DecodeError: a tensor that is not ``[2, n]``, no projections, or more than can be drawn in seconds.
        """
        count = settings[0]
        _width(target)
        if count < 1:
            raise malformed(f"at least one projection for {target.name}", str(count))
        self.check_cost(target, settings)
        return ((count,),)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return NORMAL_COST * _width(target) * settings[0]

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """``(-c, c)`` with ``c = (1/k) sum_i z_i v_i``; the sums are exact."""
        width, count = target.shape[1], settings[0]
        integers = coefficients[0].integers.astype(np.float64)
        total = np.zeros(width, dtype=np.int64)
        for rows, normals in projections(draws, count, width):
            total += (integers[rows] @ normals.astype(np.float64)).astype(np.int64)
        scale = coefficients[0].step * UNIT / count
        return both_rows(total.astype(np.float64) * scale)


def projections(draws: Draws, count: int, width: int) -> Iterator[tuple[slice, Integers]]:
    """The vectors ``v_i`` in blocks: which rows, and ``[rows, width]`` integers in units of ``2^-12``."""
    # Four numbers to a word: blocks of a multiple of four rows leave no word half used.
    block = min(max(_BLOCK // max(width, 1) // 4 * 4, 4), _MAX_BLOCK_ROWS)
    return draws.normal_rows("projections", count, width, block)
