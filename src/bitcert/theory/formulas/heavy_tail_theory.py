"""Shin 2021 on one layer: small entries become noise (Algorithm 1, Prop. 1.1), and how many are kept (Prop. 1.2).

Entries with ``|w - mean| <= tau`` become ``mean + tau g``, ``g`` standard normal: variance ``t = tau^2``, as Appendix E
has it at one standard deviation. Let ``D`` be the replaced entries less their mean. For fixed unit vectors ``|u^T D v|
<= ||D||_2``, and ``u^T G v`` is normal with variance at most ``tau^2``, so

    |u^T (W - W(t)) v| <= ||D||_2 + tau sqrt(2 ln(2/eta))      with probability 1 - eta,

without the second term where nothing is replaced: :func:`replacement_error`. Prop. 1.1 says ``|u^T (W - W(t)) v| <= eps
||u|| ||v||`` with probability ``1 - eta`` where ``tau^2 + t`` is a constant times ``eps^2 / log(3/eta)``. The constant
is printed three ways (:class:`Reading`), and the proof replaces ``(sum_ij a_ij tau)^2`` by ``sum_ij a_ij^2 tau^2``,
which is wrong (docs/theory.md, erratum 12): for ``u, v`` constant vectors and weights just below ``tau`` the left side
is ``tau sqrt(N1 N2)``. So every reading is a *heuristic*. NOT promised: that the threshold found is the largest one
that an error allows, since ``||D||_2`` need not grow with ``tau``; it does allow it.

Prop. 1.2 is Chernoff's bound of a binomial tail and holds as printed, if the weights are what it assumes: independent,
of density ``(alpha - 1) w_m^(alpha - 1) w^-alpha`` on ``w >= w_m > 0``. Weights are signed, so ``|w|`` is fitted
(erratum 13); below the fitted ``w_m`` the law says nothing, so it is applied to the entries at or above it only. The
paper's formulas have the exponent of the tail, its tables that of the density as the package powerlaw returns it
(erratum 20). Here ``alpha`` is the density's everywhere, ``w^-alpha``, so that ``p = (w_m / tau)^(alpha - 1)``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.decoder.transforms.base import Values
from bitcert.linear import TailSummary, reshaped_spectral_norm, weight_tail
from bitcert.theory.inputs import LayerInputs
from bitcert.theory.logs import log
from bitcert.theory.value import outside

SIGNIFICANT = 0.1
"""A rival law with a likelihood ratio of this p-value or less counts as fitting better."""


class Reading(StrEnum):
    """Which constant of Prop. 1.1 relates ``tau^2 + t`` to ``eps^2 / log(3/eta)``."""

    PROPOSITION = "proposition"
    """1, from ``2/(tau^2+t) = 2 log(3/eta)/eps^2``: Prop. 1.1 and Alg. 1 as printed."""
    APPENDIX = "appendix"
    """2, from ``2/(tau^2+t) = log(3/eta)/eps^2``: the last line of Appendix A."""
    TAIL = "tail"
    """1/2: what Appendix A's own tail, eq. (37), ``3 exp(-eps^2 / (2(tau^2+t))) = eta``, gives."""

    @property
    def constant(self) -> float:
        """``(tau^2 + t) log(3/eta) / eps^2``."""
        return {Reading.PROPOSITION: 1.0, Reading.APPENDIX: 2.0, Reading.TAIL: 0.5}[self]

    def squares(self, epsilon: float, eta: float) -> float:
        """``tau^2 + t`` for an error ``epsilon`` with probability ``1 - eta``."""
        return self.constant * epsilon * epsilon / math.log(3 / eta)

    def epsilon(self, squares: float, eta: float) -> float:
        """The inverse of :meth:`squares`.

        >>> round(Reading.TAIL.epsilon(Reading.TAIL.squares(0.3, 0.1), 0.1), 12)
        0.3
        """
        return math.sqrt(squares * math.log(3 / eta) / self.constant)


def replacement_error(difference: Values, std: float, eta: float) -> float:
    """The error that does hold: ``|u^T (W - W(t)) v| <= eps ||u|| ||v||`` with probability ``1 - eta``, fixed ``u, v``.

    ``eps = ||D||_2 + std sqrt(2 log(2/eta))``: the replaced entries minus their mean are a matrix ``D`` that is not
    random, and ``u^T G v`` is normal with variance at most ``||u||^2 ||v||^2``.

    Args:
        difference: ``D``, ``[rows, columns]``, zero where entries are kept.
        std: of the Gaussians; 0 where no entry is replaced.
        eta: between 0 and 1.
    """
    return _spectral(difference) + std * _noise_factor(eta)


def _spectral(difference: Values) -> float:
    return reshaped_spectral_norm(torch.from_numpy(difference)) if difference.any() else 0.0


def _noise_factor(eta: float) -> float:
    """``s`` with ``P(|g| > s) <= 2 exp(-s^2 / 2) = eta`` for a standard normal ``g``."""
    return math.sqrt(2 * math.log(2 / eta))


def sparsity_log_probability(k: float, n: int, p: float) -> float:
    """Natural logarithm of Prop. 1.2's bound on ``P(X >= k)``, ``X`` binomial of ``n`` and ``p``; 0 for ``k <= np``.

    >>> round(math.exp(sparsity_log_probability(20, 100, 0.1)), 4)
    0.0118
    """
    if k <= n * p:
        return 0.0
    if k > n or p <= 0:
        return -math.inf
    rest = 0.0 if k == n else (n - k) * math.log((1 - k / n) / (1 - p))
    return -k * math.log(k / (n * p)) - rest


def sparsity_bound(n: int, p: float, eta: float) -> int:
    """The smallest ``k`` for which Prop. 1.2 gives ``P(X >= k) <= eta``; ``n + 1`` if none up to ``n`` does.

    >>> sparsity_bound(100, 0.1, 0.05)
    19
    """
    first = math.floor(n * p) + 1  # the bound is 1 before it and falls from there
    possible = range(first, n + 1)
    return first + bisect_left(possible, True, key=lambda k: sparsity_log_probability(k, n, p) <= math.log(eta))


@dataclass(frozen=True)
class Sparsity:
    """Prop. 1.2 for one layer.

    Attributes:
        fit: power law of ``|w|``, or ``None``.
        reason: why there is none, or why it says nothing of ``tau``.
        num_tail: entries at or above the fitted ``w_m``: ``n`` of the proposition.
        p: ``(w_m / tau)^(alpha - 1)``; NaN where the law says nothing.
        k: with probability ``1 - eta`` fewer entries than this are above ``tau``; NaN as before.
        num_above: entries with ``|w| > tau``: what was observed.
    """

    fit: TailSummary | None
    reason: str
    num_tail: int
    p: float
    k: float
    num_above: int

    @property
    def power_law_holds(self) -> bool | None:
        """``False`` where the lognormal or the exponential fits better; a fit can never show that the law holds."""
        if self.fit is None:
            return False
        rivals = self.fit.compared.values()
        return False if any(ratio < 0 and p <= SIGNIFICANT for ratio, p in rivals) else None


def layer_sparsity(weight: Values, tau: float, eta: float) -> Sparsity:
    """Fit the tail of ``|w|`` and compare Prop. 1.2 with what is above ``tau``."""
    size = np.abs(weight)
    above = int(np.count_nonzero(size > tau))
    result = weight_tail(torch.from_numpy(weight))
    fit = result.fit
    if fit is None:
        return Sparsity(None, result.reason, 0, math.nan, math.nan, above)
    tail = int(np.count_nonzero(size >= fit.xmin))
    if not tau > fit.xmin:
        reason = f"tau = {tau:.4g} is not above w_m = {fit.xmin:.4g}, where the fitted tail begins"
        return Sparsity(fit, reason, tail, math.nan, math.nan, above)
    p = (fit.xmin / tau) ** (fit.density_exponent - 1)
    return Sparsity(fit, "", tail, p, float(sparsity_bound(tail, p, eta)), above)


@dataclass(frozen=True, eq=False)
class Replaced:
    """One layer with its small entries replaced; all numbers but ``log_unit`` in units of the largest entry.

    Attributes:
        layer: before.
        log_unit: ``ln max |w|``.
        tau: threshold of ``|w - mean|``, and standard deviation of the noise.
        mean, std: of all entries.
        kept: entries with ``|w - mean| > tau``.
        kept_signed: entries with ``w > tau``, as printed.
        spectral: ``||D||_2`` of the replaced entries less ``mean``.
    """

    layer: LayerInputs
    log_unit: float
    tau: float
    mean: float
    std: float
    kept: int
    kept_signed: int
    spectral: float

    @classmethod
    def of(cls, layer: LayerInputs, tau: float | None = None) -> Replaced:
        """At this threshold in units of the largest entry, or at one standard deviation."""
        unit, top = scaled(layer)
        mean, std = float(unit.mean()), float(unit.std())
        tau = std if tau is None else tau
        kept = np.abs(unit - mean) > tau
        spectral = _spectral(np.where(kept, 0.0, unit - mean))
        signed = int(np.count_nonzero(unit > tau))
        return cls(layer, math.log(top), tau, mean, std, int(kept.sum()), signed, spectral)

    @classmethod
    def within(cls, layer: LayerInputs, log_allowed: float, eta: float) -> Replaced:
        """At a threshold whose error is at most ``exp(log_allowed) ||A||_F`` while the next larger one's is not."""
        unit, top = scaled(layer)
        centred = unit - unit.mean()
        distance = np.abs(centred)
        allowed = math.exp(log_allowed + log(layer.norms.frobenius) - math.log(top))
        factor = _noise_factor(eta)
        taus, counts = np.unique(distance, return_counts=True)
        # ||D||_2 lies between 0 and ||D||_F, so that norms are needed for the thresholds in between only
        frobenius = np.sqrt(np.cumsum(taus**2 * counts))
        low = int(np.searchsorted(frobenius + taus * factor, allowed, side="right"))
        high = int(np.searchsorted(taus * factor, allowed, side="right")) + 1
        while high - low > 1:
            middle = (low + high) // 2
            tau = float(taus[middle - 1])
            fits = _spectral(np.where(distance > tau, 0.0, centred)) + tau * factor <= allowed
            low, high = (middle, high) if fits else (low, middle)
        return cls.of(layer, float(taus[low - 1]) if low else 0.0)

    @property
    def noise(self) -> float:
        """Standard deviation of what the replaced entries become; 0 where there are none."""
        return 0.0 if self.kept == self.layer.num_weights else self.tau

    def log_error(self, eta: float) -> float:
        """``ln`` of the error that does hold for fixed vectors, relative to ``||A||_F``."""
        return log(self.spectral + self.noise * _noise_factor(eta)) + self.log_unit - log(self.layer.norms.frobenius)

    def log_printed_error(self, eta: float) -> float:
        """The same of Proposition 1.1 as printed: ``sqrt((tau^2 + t) ln(3/eta))`` with ``t = tau^2``."""
        squares = 2 * self.tau**2 * math.log(3 / eta)
        return 0.5 * log(squares) + self.log_unit - log(self.layer.norms.frobenius)


def scaled(layer: LayerInputs) -> tuple[NDArray[np.float64], float]:
    """The matrix in units of its largest entry, and that entry.

    Raises:
        NotComputed: every weight is 0.
    """
    matrix = layer.matrix()
    top = float(np.abs(matrix).max(initial=0.0))
    if top == 0:
        raise outside(f"does not apply: every weight of {layer.name} is 0, so there is no tail")
    return matrix / top, top


def log_printed_tau(layer: LayerInputs, log_allowed: float, eta: float) -> float:
    """``ln tau`` with ``tau^2 + t = eps^2 ||A||_F^2 / ln(3/eta)`` and ``t = tau^2``: Proposition 1.1 as printed."""
    return log_allowed + log(layer.norms.frobenius) - 0.5 * math.log(2 * math.log(3 / eta))
