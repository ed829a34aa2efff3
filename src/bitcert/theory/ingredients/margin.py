"""The margin gamma of a run: given, or a quantile of the training margins (docs/theory.md section 3.3: always stated).

``gamma`` is the ``ceil(q m)``-th smallest training margin, so at least a fraction ``q`` of the examples has a margin of
at most ``gamma``. It must be above 0, or a bound that divides by it means nothing, and below the largest margin, or the
margin loss is 1. A network with more than a fraction ``q`` of errors has no such margin: the rows that need one are
absent then, all others stand. Chosen after seeing the sample, a ``gamma`` is NOT covered by a theorem for a fixed one.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import InputError
from bitcert.theory.settings import BoundSettings
from bitcert.theory.value import Absent, Status

NO_MARGIN = "needs a positive margin"
"""How the reason begins for which a network has none to choose."""


def choose_gamma(margins: NDArray[np.float64], settings: BoundSettings, name: str) -> tuple[float | Absent, str]:
    """The margin and how it was chosen, in words; where there is none to choose, why not and what would help.

    Args:
        margins: of every example, ascending.
        settings: the margin or its quantile.
        name: of the sample, for messages.

    Raises:
        InputError: a margin that was given and is not below the largest one.

    >>> choose_gamma(np.array([-1.0, 0.5, 1.0, 2.0]), BoundSettings(margin_quantile=0.5), "toy")
    (0.5, '50 % quantile of the training margins')
    """
    top = float(margins[-1])
    if settings.gamma is not None:
        if 0 < top <= settings.gamma:
            got = f"gamma {settings.gamma:g}"
            raise InputError(f"a margin below the largest on {name}, {top:.4g}", got, "pass a smaller gamma")
        return _found(margins, settings.gamma, "given", name)
    quantile = settings.quantile or 0.0
    rule = f"{100 * quantile:g} % quantile of the training margins"
    return _found(margins, float(margins[max(math.ceil(quantile * len(margins)), 1) - 1]), rule, name)


def _found(margins: NDArray[np.float64], gamma: float, rule: str, name: str) -> tuple[float | Absent, str]:
    """The margin with its rule, if a bound can divide by it."""
    top = float(margins[-1])
    if 0 < gamma < top:
        return float(gamma), rule
    if top <= 0:
        why = f"every example of {name} is an error: train the network, or check data and preprocessing"
    elif not (above := margins[margins > 0])[0] < top:
        why = f"all of them are {top:.4g} on {name}: pass a gamma below that"
    elif gamma <= 0:
        wrong = len(margins) - len(above)
        smallest = _above(wrong / len(margins), (wrong + 1) / len(margins))
        why = f"the {rule} is {gamma:.4g}: pass a margin quantile from {smallest}, the smallest with one, or gamma"
    else:
        why = f"the {rule} is the largest of them, {top:.4g}: pass a smaller margin quantile"
    return Absent(Status.NEEDS, f"{NO_MARGIN}: {why}"), rule


def _above(low: float, high: float) -> str:
    """The shortest decimal in ``(low, high]``, so that the quantile that is named is one that works."""
    for digits in range(2, 17):
        rounded = math.floor(high * 10**digits) / 10**digits
        if low < rounded <= high and rounded < 1:
            return f"{rounded:.{digits}f}"
    return repr(high)
