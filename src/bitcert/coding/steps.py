"""Quantisation steps as coded integers: quarter octaves, equal to the last bit on every machine.

``step_size(e)`` is ``2^(e/4)`` with the four mantissas written out, because ``pow`` may differ in the last place
between mathematical libraries and the decoded float32 weights must not.
"""

from __future__ import annotations

import math

from bitcert.errors import DecodeError

STEPS_PER_OCTAVE = 4
MAX_EXPONENT = 240
_MANTISSAS = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)


def step_size(exponent: int) -> float:
    """The quantisation step ``2^(exponent / 4)`` as a float64.

    Raises:
        DecodeError: when ``|exponent|`` exceeds :data:`MAX_EXPONENT`.

    >>> step_size(8), step_size(-4)
    (4.0, 0.5)
    """
    if abs(exponent) > MAX_EXPONENT:
        raise DecodeError(f"a step exponent within ±{MAX_EXPONENT}", str(exponent), "ask for the file again")
    return math.ldexp(_MANTISSAS[exponent % STEPS_PER_OCTAVE], exponent // STEPS_PER_OCTAVE)


def nearest_exponent(step: float) -> int:
    """The exponent whose step is nearest to ``step > 0`` on the logarithmic scale (encoder side only)."""
    return max(-MAX_EXPONENT, min(MAX_EXPONENT, round(STEPS_PER_OCTAVE * math.log2(step))))
