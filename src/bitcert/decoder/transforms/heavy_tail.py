"""Heavy-tail replacement: a few kept weights, and Gaussian noise of the helper in place of all the others.

    weight_ij = kept_ij * step                      where kept_ij is not zero,
    weight_ij = mean + std * G_ij                   elsewhere, ``G`` standard normal numbers of the helper.

The message holds ``mean`` and ``std`` (integers of one step), the sparse integers ``kept`` of the tensor's shape, and
the number of the draw: whoever tries several draws of ``G`` pays ``Elias delta(draw + 1)`` bits for the choice. ``G``
is that of :mod:`bitcert.decoder.transforms.normal`. Source: Shin 2021, Alg. 1 and App. E. Not promised: that the noise
does no harm; and a kept weight cannot be 0, because a zero integer means "replaced".
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Arrays, Draws, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.normal import UNIT, UNIT_BITS
from bitcert.errors import malformed

MAX_DRAW = (1 << 32) - 1
MOMENTS: Shape = (2,)
"""Shape of the first coefficient array: mean, standard deviation."""


class HeavyTail(Transform):
    """Settings: the number of the draw. Coefficients: mean and standard deviation, then the kept entries."""

    name: ClassVar[str] = "heavy tail"
    num_settings: ClassVar[int] = 1
    operations_per_entry: ClassVar[int] = 8

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """Two moments, and one integer for each entry.

        Raises:
            DecodeError: a draw beyond :data:`MAX_DRAW`.
        """
        if settings[0] > MAX_DRAW:
            raise malformed(f"a draw of at most {MAX_DRAW}", str(settings[0]))
        self.check_cost(target, settings)
        return MOMENTS, target.shape

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """Kept entries, noise elsewhere.

        Raises:
            DecodeError: a negative standard deviation.
        """
        moments, kept = coefficients
        mean, std = (int(number) for number in moments.integers)
        if std < 0:
            raise malformed(f"a standard deviation of 0 or more for {target.name}", "a negative one")
        noise = draws.normal(f"heavy tail {settings[0]}", target.size).reshape(target.shape)
        # |mean|, std < 2^24 and |noise| < 2^15, so the sum is exact, and UNIT is a power of two: one rounding
        replaced = ((mean << UNIT_BITS) + std * noise).astype(np.float64) * (moments.step * UNIT)
        return np.where(kept.integers != 0, kept.values, replaced)
