"""``KL(Q||P)`` of Gaussians with independent numbers, rounded up: what a PAC-Bayes bound charges a Gaussian posterior.

Per number, with ``r = sigma / lambda`` and ``d = (w - w_0) / lambda``:

    KL(N(w, sigma^2) || N(w_0, lambda^2)) = (r^2 - 1) / 2 - ln r + d^2 / 2

Does NOT guarantee that the prior was fixed before the data were seen.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitcert.errors import InputError

__all__ = ["gaussian_kl"]

_EPS = 2.0**-52
# Of r^2, 1, ln r and d^2: a difference, quotients, squares and a logarithm of at most 4 units in the last place.
_ROUNDINGS = 8.0


def gaussian_kl(mean: ArrayLike, std: ArrayLike, prior_mean: ArrayLike, prior_std: ArrayLike) -> float:
    """``KL(N(mean, std^2) || N(prior_mean, prior_std^2))`` in nats, summed over all numbers, rounded up.

    Args:
        mean, std: of the posterior, of any shape; converted to float64.
        prior_mean, prior_std: of the prior; they broadcast to that shape.

    Raises:
        InputError: a number is not finite, a deviation is not positive, or the shapes do not fit.

    Source: Kullback 1959; Langford & Caruana 2001 charge it for a network.

    >>> round(gaussian_kl([1.0, 0.0], [1.0, 0.5], 0.0, 1.0), 6)
    0.818147
    """
    own, away = _floats("mean", mean), _floats("prior_mean", prior_mean)
    width, prior = _floats("std", std, positive=True), _floats("prior_std", prior_std, positive=True)
    shapes = [each.shape for each in (own, width, away, prior)]
    try:
        fits = np.broadcast_shapes(*shapes) == own.shape
    except ValueError:
        fits = False
    if not fits:
        got = ", ".join(map(str, shapes))
        raise InputError(f"deviations and a prior that broadcast to the shape {own.shape}", got, "check the shapes")
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        ratio, distance = width / prior, (own - away) / prior
        logs, squares, far = np.log(ratio), ratio * ratio, distance * distance
        exact = (squares - 1.0) / 2.0 - logs + far / 2.0
        terms = exact + _ROUNDINGS * _EPS * (squares + 1.0 + np.abs(logs) + far)
    if not np.isfinite(terms).all():
        raise InputError("a divergence that is a finite number", "deviations too far apart", "train with a lower rate")
    return max(0.0, math.nextafter(math.fsum(terms.ravel()), math.inf))


def _floats(name: str, values: ArrayLike, positive: bool = False) -> NDArray[np.float64]:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{name} of numbers", repr(values)[:100], "pass an array") from None
    if not np.isfinite(found).all() or (positive and not (found > 0).all()):
        expected = f"{name} of {'positive' if positive else 'finite'} numbers"
        raise InputError(expected, "one that is not", "check the training")
    return found
