"""Power-law tails of weights and of eigenvalues: exponent, cut-off, goodness of fit, and two rivals.

Model (Clauset, Shalizi & Newman 2009; Shin 2021, section 1): beyond ``xmin`` the values have density proportional to
``x^-alpha``. ``alpha`` is the maximum-likelihood estimate and ``xmin`` the observed value with the smallest
Kolmogorov-Smirnov distance. Weights are signed and the law lives on positive numbers, so ``|w|`` is fitted
(docs/theory.md, erratum 13); for spectra, the eigenvalues of ``W W^T``.

The fit and the likelihood ratios come from the PyPI package powerlaw 2.0 with ``alpha`` allowed above 1 without limit
(its default stops at 3, which would cut off the exponents of trained weights). ``xmin`` is searched here by the
package's criterion with bounds that exclude most candidates, because the package takes seconds a layer.

At most ``MAX_POINTS`` values are used: evenly spaced order statistics, so the fit describes the whole distribution.
P-values are those of a sample of that size, and treat weights as independent, which they are not. It does NOT test
whether the power law holds: a negative ratio against the lognormal or the exponential with a small ``p`` says that the
rival fits better.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

MAX_POINTS = 5000
"""Order statistics that a fit uses at most."""

MIN_DISTINCT = 50
"""Distinct positive values below which no fit is attempted."""

_PLACES = 64


@dataclass(frozen=True)
class TailSummary:
    """Power law ``p(x) ~ x^-alpha`` for ``x >= xmin`` fitted to positive numbers, and how well it fits.

    Attributes:
        density_exponent: ``alpha``, above 1, as the package powerlaw returns it and the tables of Shin 2021 show it;
            the probability of more than ``x`` falls as ``x^-(alpha - 1)``.
        xmin, ks_distance: start of the tail; Kolmogorov-Smirnov distance of tail and fit, between 0 and 1.
        num_tail: numbers in the tail, of those that the fit uses.
        compared: for each alternative (``"lognormal"``, ``"exponential"``) the log-likelihood ratio in nats
            (positive: the power law fits better) and, by Vuong's test, the p-value of its sign; absent where it is
            undefined.
    """

    density_exponent: float
    xmin: float
    ks_distance: float
    num_tail: int
    compared: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class TailResult:
    """Outcome of a fit: ``fit``, or ``None`` and the ``reason`` why there is none."""

    fit: TailSummary | None
    reason: str = ""


def weight_tail(weight: Tensor) -> TailResult:
    """Tail of the absolute weights; zeros (pruned weights) are left out."""
    return fit_tail(weight.detach().double().abs().flatten().cpu().numpy())


def eigenvalue_tail(singular_values: NDArray[np.float64]) -> TailResult:
    """Tail of the eigenvalues of ``W W^T``; those that are zero up to rounding are left out."""
    values = np.square(singular_values)
    return fit_tail(values[values > len(values) * np.finfo(np.float64).eps * values.max(initial=0.0)])


def fit_tail(values: NDArray[np.float64]) -> TailResult:
    """Fits a power law to the upper tail of the positive entries of ``values`` (one axis, any order).

    >>> fit_tail(np.ones(1000)).reason
    'only 1 distinct positive value, at least 50 are needed'
    >>> uniform = (np.arange(4000) + 0.5) / 4000
    >>> fit = fit_tail(uniform ** (-1 / 1.5)).fit  # quantiles of a density x^-2.5 on x >= 1
    >>> round(fit.density_exponent, 1)
    2.5
    """
    if not bool(np.isfinite(values).all()):
        return TailResult(None, "values that are not finite")
    positive = np.sort(values[values > 0])
    used = _order_statistics(positive)
    distinct = len(np.unique(used))
    if distinct < MIN_DISTINCT:
        noun = "value" if distinct == 1 else "values"
        return TailResult(None, f"only {distinct} distinct positive {noun}, at least {MIN_DISTINCT} are needed")
    return TailResult(_fit(used, _find_xmin(used)))


def _order_statistics(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """All sorted values, or the middles of ``MAX_POINTS`` equal groups of them."""
    if len(values) <= MAX_POINTS:
        return values
    ranks = ((np.arange(MAX_POINTS) + 0.5) * (len(values) / MAX_POINTS)).astype(np.int64)
    return values[ranks]


def _find_xmin(values: NDArray[np.float64]) -> float:
    """The distinct value (the two largest excepted) whose tail has the smallest Kolmogorov-Smirnov distance."""
    logs, count = np.log(values), len(values)
    # rank of the first of equal values: the empirical distribution function is taken from the left, as powerlaw does
    left = np.searchsorted(values, values, side="left")
    starts = np.unique(left)[:-2]
    sizes = count - starts
    # alpha - 1 = n / sum log(x / xmin)
    decays = sizes / (np.cumsum(logs[::-1])[::-1][starts] - sizes * logs[starts])

    def distance(k: NDArray[np.intp], ranks: NDArray[np.intp]) -> NDArray[np.float64]:
        fitted = -np.expm1(-decays[k] * (logs[ranks] - logs[starts[k]]))
        gaps: NDArray[np.float64] = np.abs(fitted - (left[ranks] - starts[k]) / sizes[k]).max(-1)
        return gaps

    # the distance over a few places of every tail is a lower bound, which excludes nearly all candidates
    every = np.arange(len(starts))[:, None]
    bounds = distance(every, starts[:, None] + np.arange(_PLACES) * sizes[:, None] // _PLACES)
    best, best_at = math.inf, 0
    for k in np.argsort(bounds, kind="stable"):
        if bounds[k] > best:
            break
        exact = float(distance(k, np.arange(starts[k], count)))
        if exact < best or (exact == best and k < best_at):
            best, best_at = exact, int(k)
    return float(values[starts[best_at]])


def _fit(values: NDArray[np.float64], xmin: float) -> TailSummary:
    # imported here: it loads matplotlib, which `import bitcert` must not wait for
    import powerlaw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # in units of xmin: the law is scale-free, the package's optimiser tolerances are not
        fit = powerlaw.Fit(values / xmin, xmin=1.0, parameter_ranges={"alpha": [1, None]}, verbose=0)
        alpha, distance = float(fit.power_law.alpha), float(fit.power_law.D)
        rivals = {name: tuple(map(float, fit.distribution_compare("power_law", name))) for name in _RIVALS}
    known = {name: (ratio, p) for name, (ratio, p) in rivals.items() if math.isfinite(ratio) and math.isfinite(p)}
    return TailSummary(alpha, xmin, distance, int((values >= xmin).sum()), known)


_RIVALS = ("lognormal", "exponential")
