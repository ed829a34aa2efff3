"""A weight as the product of two thin matrices: ``A = U V`` with ``U [rows, rank]`` and ``V [rank, columns]``.

A tensor ``[out, ...]`` is the matrix ``[out, rest]``. The integers of the two factors are multiplied exactly, so the
decoded weight is ``(integers of U V) * (step of U * step of V)`` with a single rounding. Source: Arora et al. 2018,
proof of Theorem 2.2, where a matrix of rank ``r`` has ``(h1 + h2) r`` parameters. Not promised: a low rank after the
base is added, or that the factors are shorter than the matrix; the encoder compares.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Arrays, Draws, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.exact import exact_product
from bitcert.errors import malformed


class Factors(Transform):
    """Setting: the rank, at least 1 and at most the smaller side."""

    name: ClassVar[str] = "factors"
    num_settings: ClassVar[int] = 1

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """``[rows, rank]`` and ``[rank, columns]``.

        Raises:
            DecodeError: a rank that the matrix cannot have.
        """
        rows, columns = target.matrix_shape
        rank = settings[0]
        if not 1 <= rank <= min(rows, columns):
            raise malformed(f"a rank between 1 and {min(rows, columns)} for {target.name}", str(rank))
        self.check_cost(target, settings)
        return (rows, rank), (rank, columns)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return target.size * settings[0] // 4

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The product, in the tensor's shape."""
        left, right = coefficients
        product = exact_product(left.integers, right.integers).astype(np.float64)
        return product.reshape(target.shape) * (left.step * right.step)
