"""Transform ``mask``: a mask over random helper weights, ``weight = scale * mask * random``.

The helper knows a random tensor of the tensor's shape: fair signs (setting 0) or standard normal numbers (setting 1);
the message holds integers, usually 0 and 1 (a mask) or -1, 0 and 1 (a mask that may turn signs), whose step is the
scale. Sources: Zhou, Lan, Liu & Yosinski 2019 (supermasks); Ramanujan et al. 2020 (the strong form of the lottery
ticket hypothesis; signed constants); Guha 2023, section 6. Not guaranteed: that a good subnetwork exists at this width.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Arrays, Draws, Integers, Settings, Shape, Target, Transform, Values
from bitcert.decoder.transforms.normal import UNIT
from bitcert.errors import malformed


class Distribution(IntEnum):
    """Of the random weights; the number is coded."""

    SIGNS = 0
    NORMAL = 1


UNITS = {Distribution.SIGNS: 1.0, Distribution.NORMAL: UNIT}
"""What one unit of :func:`random_integers` is."""


def random_integers(target: Target, distribution: Distribution, draws: Draws) -> Integers:
    """The helper's random tensor in units of :data:`UNITS`, int64 of ``target.shape``."""
    if distribution is Distribution.NORMAL:
        return draws.normal("mask", target.size).reshape(target.shape)
    return draws.signs("mask", target.size).reshape(target.shape)


class Mask(Transform):
    """Integers, most of them 0 or 1, times random helper numbers, times the step."""

    name: ClassVar[str] = "mask"
    num_settings: ClassVar[int] = 1
    operations_per_entry: ClassVar[int] = 8

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """One array of the tensor's shape.

        Raises:
            DecodeError: an unknown distribution.
        """
        if settings[0] not in tuple(Distribution):
            raise malformed("signs or normal numbers under a mask", f"distribution {settings[0]}")
        return (target.shape,)

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The masked random tensor, float64 of ``target.shape``."""
        distribution = Distribution(settings[0])
        # exact: integers below 2^24 times numbers below 2^15
        products = coefficients[0].integers * random_integers(target, distribution, draws)
        return products.astype(np.float64) * (coefficients[0].step * UNITS[distribution])
