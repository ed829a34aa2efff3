"""Shin 2021 on one layer: error of the replacement (Prop. 1.1) and sparsity of what is kept (Prop. 1.2).

Prop. 1.1 says ``|u^T (W - W(t)) v| <= eps ||u|| ||v||`` with probability ``1 - eta`` where ``tau^2 + t`` is a constant
times ``eps^2 / log(3/eta)``. The constant is printed three ways (:class:`Reading`), and the proof replaces
``(sum_ij a_ij tau)^2`` by ``sum_ij a_ij^2 tau^2``, which is wrong (docs/theory.md, erratum 12): for ``u, v`` constant
vectors and weights just below ``tau`` the left side is ``tau sqrt(N1 N2)``. So every reading is a *heuristic*. What
does hold, for fixed ``u, v`` and replaced entries ``A`` with mean ``a``, is :func:`replacement_error`.

Prop. 1.2 is Chernoff's bound of a binomial tail and holds as printed, if the weights are what it assumes: independent,
of density ``(alpha - 1) w_m^(alpha - 1) w^-alpha`` on ``w >= w_m > 0``. Weights are signed, so ``|w|`` is fitted
(erratum 13); below the fitted ``w_m`` the law says nothing, so it is applied to the entries at or above it only. The
paper's formulas have the exponent of the tail, its tables that of the density as the package powerlaw returns it
(erratum 20). Here ``alpha`` is the density's everywhere, ``w^-alpha``, so that ``p = (w_m / tau)^(alpha - 1)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from bitcert.decoder.transforms.base import Values
from bitcert.linear import TailSummary, reshaped_spectral_norm, weight_tail

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
    spectral = reshaped_spectral_norm(torch.from_numpy(difference)) if difference.any() else 0.0
    return spectral + std * math.sqrt(2 * math.log(2 / eta))


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
    low, high = math.floor(n * p), n + 1  # the bound is 1 at low and falls beyond it; high is sure
    while high - low > 1:
        middle = (low + high) // 2
        if sparsity_log_probability(middle, n, p) <= math.log(eta):
            high = middle
        else:
            low = middle
    return high


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
