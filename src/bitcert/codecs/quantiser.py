"""Quantisers: real coefficients -> integers times one coded step. Any quantiser goes with any transform and any coder.

The step is ``2^(e/4)``, stated as a fraction of the root mean square of the non-zero coefficients, so that one setting
serves layers of any scale. Rounding to the nearest multiple moves a coefficient by at most half a step; a dead zone
(fraction above 1/2) sets more of the small ones to zero. Not provided: any guarantee of what the network then computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bitcert.coding import MAX_MAGNITUDE, BitWriter
from bitcert.coding.coders import write_array
from bitcert.coding.steps import MAX_EXPONENT, STEPS_PER_OCTAVE, nearest_exponent, step_size
from bitcert.decoder.transforms.base import Coefficients, Values
from bitcert.errors import InputError


class Quantiser(Protocol):
    """Anything that makes :class:`~bitcert.decoder.transforms.base.Coefficients` of real numbers."""

    def __call__(self, values: Values) -> Coefficients:
        """Coefficients of the same shape."""
        ...


def at_exponent(values: Values, exponent: int, dead_zone: float = 0.5) -> Coefficients:
    """Round to multiples of ``2^(exponent / 4)``; what is smaller than ``dead_zone`` steps becomes 0.

    Raises:
        InputError: values that are not finite, or too large for the step.
    """
    if not np.isfinite(values).all():
        raise InputError("finite weights", "NaN or infinite ones", "check the network")
    scaled = values / step_size(exponent)
    if np.abs(scaled).max(initial=0.0) > MAX_MAGNITUDE:
        raise InputError(f"at most {MAX_MAGNITUDE} steps", "a larger coefficient", "use a coarser quantiser")
    integers = np.where(np.abs(scaled) < dead_zone, 0, np.rint(scaled)).astype(np.int64)
    return Coefficients(integers, exponent)


def finer_exponent(step: float) -> int:
    """The largest exponent whose step is at most ``step > 0``."""
    exponent = max(-MAX_EXPONENT, min(MAX_EXPONENT, math.floor(STEPS_PER_OCTAVE * math.log2(step))))
    return exponent - 1 if step_size(exponent) > step and exponent > -MAX_EXPONENT else exponent


def written_bits(*arrays: Coefficients) -> int:
    """Length of the integers as the coders write them, without steps."""
    bits = BitWriter()
    for array in arrays:
        write_array(bits, array.integers)
    return len(bits)


@dataclass(frozen=True)
class Uniform:
    """Multiples of a step that is a fraction of the coefficients' root mean square.

    Args:
        fraction: step over root mean square of the non-zero coefficients; 0.25 costs about 4 bits a coefficient.
        dead_zone: coefficients below this many steps become 0.
    """

    fraction: float = 0.25
    dead_zone: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.fraction < math.inf or not 0 <= self.dead_zone < math.inf:
            got = f"fraction {self.fraction}, dead zone {self.dead_zone}"
            raise InputError("a positive quantisation fraction and a dead zone of 0 or more", got, "use e.g. 0.25, 0.5")

    def __call__(self, values: Values) -> Coefficients:
        """Coefficients of the same shape; all zeros keep the step of 1/8.

        Raises:
            InputError: values that are not finite.
        """
        alive = values[values != 0]
        if not alive.size:
            return at_exponent(values, -12)
        if not np.isfinite(alive).all():
            raise InputError("finite weights", "NaN or infinite ones", "check the network")
        largest = float(np.abs(alive).max())
        rms = largest * math.sqrt(float(np.mean(np.square(alive / largest))))
        step = max(self.fraction * rms, largest / MAX_MAGNITUDE * 1.2)
        return at_exponent(values, nearest_exponent(step), self.dead_zone)


FINE = Uniform(2.0**-5)
"""For tensors that a codec leaves alone: about 7 bits a coefficient."""
