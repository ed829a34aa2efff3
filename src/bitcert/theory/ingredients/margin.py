"""The margin gamma of a run: given, or a quantile of the training margins (docs/theory.md section 3.3: always stated).

``gamma`` is the ``ceil(q m)``-th smallest training margin, so at least a fraction ``q`` of the examples has a margin of
at most ``gamma``. It must be above 0, or a bound that divides by it means nothing, and below the largest margin, or the
margin loss is 1. Chosen after seeing the sample, a ``gamma`` is NOT covered by a theorem for a fixed one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import InputError
from bitcert.theory.settings import BoundSettings


def choose_gamma(margins: NDArray[np.float64], settings: BoundSettings, name: str) -> tuple[float, str]:
    """The margin and how it was chosen, in words.

    Args:
        margins: of every example, ascending.
        settings: the margin or its quantile.
        name: of the sample, for messages.

    Raises:
        InputError: no positive margin there, or none above it; the smallest quantile that works is named.

    >>> choose_gamma(np.array([-1.0, 0.5, 1.0, 2.0]), BoundSettings(margin_quantile=0.5), "toy")
    (0.5, '50 % quantile of the training margins')
    """
    top = float(margins[-1])
    if top <= 0:
        got = f"a largest margin of {top:.4g}: every example of {name} is an error"
        raise InputError("a network with positive margins", got, "train the network, or check data and preprocessing")
    if settings.gamma is not None:
        if settings.gamma >= top:
            got = f"gamma {settings.gamma:g}"
            raise InputError(f"a margin below the largest on {name}, {top:.4g}", got, "pass a smaller gamma")
        return float(settings.gamma), "given"
    quantile = settings.quantile or 0.0
    gamma = float(margins[max(math.ceil(quantile * len(margins)), 1) - 1])
    if 0 < gamma < top:
        return gamma, f"{100 * quantile:g} % quantile of the training margins"
    positive = int(np.searchsorted(margins, 0.0, side="right"))
    if not margins[positive] < top:
        got = f"every positive margin equal to {top:.4g}"
        raise InputError(f"margins of {name} that differ", got, f"pass a gamma below {top:.4g}")
    if gamma <= 0:
        smallest = _above(positive / len(margins), (positive + 1) / len(margins))
        got = f"{gamma:.4g} at the {100 * quantile:g} % quantile of {name}"
        do = f"pass a margin quantile from {smallest} (the smallest with a positive margin), or gamma"
        raise InputError("a positive margin", got, do)
    got = f"the largest margin of {name}, {top:.4g}, at the {100 * quantile:g} % quantile"
    raise InputError("a margin below the largest", got, "pass a smaller margin quantile")


def _above(low: float, high: float) -> str:
    """The shortest decimal in ``(low, high]``, so that the quantile that is named is one that works."""
    for digits in range(2, 17):
        rounded = math.floor(high * 10**digits) / 10**digits
        if low < rounded <= high and rounded < 1:
            return f"{rounded:.{digits}f}"
    return repr(high)
