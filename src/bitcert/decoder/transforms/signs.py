"""Matrix-Project with i.i.d. signs (Arora 2018 Alg. 1): coefficients ``c_j = <A, M_j>`` -> a tensor.

Settings ``(k, decoder)``.

* decoder 0, the paper's average ``(1/k) sum_j c_j M_j``: unbiased, ``E (A_hat - A)_ab^2 = (||A||_F^2 - A_ab^2) / k``
  for exact coefficients.
* decoder 1, least squares: the tensor of least norm with ``<X, M_j> = c_j`` for all ``j``, ``X = M^T (M M^T)^-1 c``;
  the orthogonal projection of ``A`` onto the span of the ``M_j``, so ``E ||X - A||_F^2 = (1 - k/N) ||A||_F^2``.

Least squares is solved by the Chebyshev iteration on ``G y = c / N``, ``G = M M^T / N``, whose spectrum fills
``[(1 - r)^2, (1 + r)^2]`` with ``r = sqrt(k/N)`` (Marchenko-Pastur; ``r`` is widened by ``N^(-1/2)``, more than the
edges fluctuate). Its error is at most ``2 r^t`` of ``||X||`` after ``t`` steps; :func:`num_steps` follows from ``k``
and ``N`` alone and makes that 2^-12: 6 steps at ``k/N`` = 1/30, 14 at 1/4, 27 at 1/2. ``y`` is rounded to integers
after each step, all products with ``M`` are exact sums of integers, everything else is elementwise IEEE arithmetic:
the same bits everywhere. NOT promised: the accuracy, for the few draws of small ``M`` that have a singular value
outside the widened interval (``A_hat`` is then another estimate, still the same on every machine).
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from bitcert.decoder.signs import inner_products, num_lookups, weighted_sum
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

AVERAGE, LEAST_SQUARES = 0, 1
DECODERS = (AVERAGE, LEAST_SQUARES)
MAX_PROJECTIONS = 1 << 20
MAX_SIZE = 1 << 24
OPERATIONS_PER_LOOKUP = 4
"""Drawing, looking up and adding sixteen signs takes about 4 ns a position."""
_ACCURACY = 2.0**-12
_MAX_RATIO = 0.95
_EXACT = 1 << 53


class Signs:
    """``A_hat`` from ``k`` inner products with sign arrays; coefficients ``[k]``."""

    name: ClassVar[str] = "signs"
    num_settings: ClassVar[int] = 2
    local: ClassVar[bool] = False

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """``([k],)``.

        Raises:
            DecodeError: no or too many projections, an unknown decoder, or too much work.
        """
        count, decoder = settings
        if not 1 <= count <= MAX_PROJECTIONS or not 1 <= target.size <= MAX_SIZE:
            raise malformed(f"1 to {MAX_PROJECTIONS:,} projections of {target.name}", f"{count:,}")
        if decoder not in DECODERS:
            raise malformed("decoder 0 or 1 of a projection", f"{decoder}")
        if decoder == LEAST_SQUARES and not solvable(count, target.size):
            raise malformed(f"fewer projections than {target.name} has entries", f"{count:,} of {target.size:,}")
        check_cost(self.operations(target, settings), target)
        return ((count,),)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return num_operations(settings[0], settings[1], target.size)

    def expand(
        self, target: Target, settings: Settings, coefficients: tuple[Coefficients, ...], draws: Draws
    ) -> Values:
        """The tensor, float64."""
        (count, decoder), (code,) = settings, coefficients
        if decoder == AVERAGE:
            total = weighted_sum(draws, code.integers, target.size)
            return (total.astype(np.float64) * (code.step / count)).reshape(target.shape)
        solution, unit = least_norm(draws, code.integers, target.size)
        return (solution.astype(np.float64) * (code.step * unit)).reshape(target.shape)


def num_operations(count: int, decoder: int, size: int) -> int:
    """Elementary operations of the expansion."""
    passes = 1 if decoder == AVERAGE else 2 * num_steps(count, size) + 1
    return OPERATIONS_PER_LOOKUP * passes * num_lookups(count, size)


def edge_ratio(count: int, size: int) -> float:
    """``sqrt(k/N)`` widened by more than the spectrum's edges fluctuate."""
    return math.sqrt(count / size) + 1.0 / math.sqrt(size)


def solvable(count: int, size: int) -> bool:
    """Whether the least-squares decoder is offered: ``k`` clearly below ``N``, so that few steps are enough."""
    return edge_ratio(count, size) <= _MAX_RATIO


def num_steps(count: int, size: int) -> int:
    """Steps of the Chebyshev iteration until its error is at most 2^-12 of the solution."""
    steps, error, ratio = 1, 2.0 * edge_ratio(count, size), edge_ratio(count, size)
    while error > _ACCURACY:  # no logarithm: another library might round it to another number of steps
        steps, error = steps + 1, error * ratio
    return steps


def least_norm(draws: Draws, integers: Integers, size: int) -> tuple[Integers, float]:
    """The tensor ``X`` of least norm with ``<X, M_j> = integers_j``, as integers ``[size]`` and their unit.

    Raises:
        DecodeError: sums that leave 2^53, which no coefficients of a real tensor make.
    """
    count = len(integers)
    largest = int(np.abs(integers).max(initial=0))
    if not largest:
        return np.zeros(size, dtype=np.int64), 1.0
    ratio = edge_ratio(count, size)
    # |M^T y|_1 <= sqrt(N) ||M|| ||y|| <= 2 N sqrt(k) max|c| / (1 - r)^2 must stay below 2^53
    growth = size * (math.isqrt(count) + 1) * math.ceil(1.0 / ((1.0 - ratio) * (1.0 - ratio)))
    scale = math.ldexp(1.0, 51 - growth.bit_length() - largest.bit_length())
    centre, radius = 1.0 + ratio * ratio, 2.0 * ratio
    wanted = integers.astype(np.float64) * scale
    solution, direction, weight = np.zeros(count), np.zeros(count), 0.0
    residual = wanted
    for step in range(num_steps(count, size)):
        momentum = 0.0 if step == 0 else (0.5 if step == 1 else 0.25) * (radius * weight) * (radius * weight)
        weight = 1.0 / (centre if step == 0 else centre - momentum / weight)
        direction = residual + momentum * direction
        solution = np.rint(solution + weight * direction)
        if not np.abs(solution).max() < _EXACT:
            raise malformed("coefficients that some tensor has", "larger ones")
        product = inner_products(draws, _exact(weighted_sum(draws, solution.astype(np.int64), size)), count)
        residual = wanted - product / size
    return weighted_sum(draws, solution.astype(np.int64), size), 1.0 / (scale * size)


def _exact(values: Integers) -> Values:
    if int(np.abs(values).sum()) >= _EXACT:
        raise malformed("coefficients that some tensor has", "larger ones")
    return values.astype(np.float64)
