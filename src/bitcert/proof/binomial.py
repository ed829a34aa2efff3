"""The exact binomial tail and its inverse, in log space, for tails as small as ``2^-10^7`` and beyond.

``p_bar(E, m, eta) = sup {p : P[Bin(m, p) <= E] >= eta}`` is the Clopper-Pearson upper limit (Clopper & Pearson 1934)
and, at ``eta = delta 2^-|c|``, the Occam bound of Arora et al. 2018, Theorem 2.1, with no constant lost (Langford
2005).

``P[Bin(m,p) <= E] = I_q(m-E, E+1)``, ``q = 1-p``, is evaluated as ``pmf(E) p (m-E) / K``: the pmf by Loader's
saddle-point form (2000), the factor K by the continued fraction of DiDonato & Morris (1992, Algorithm 708, BFRAC),
whose terms are all positive where it is used, or by Gauss-Legendre quadrature next to the mean of large samples,
where the fraction is slow. Both also give the derivative, ``d ln P / dp = -K / (p q)``. The inverse is Newton's
method on this concave function, followed by an outward step: the returned p satisfies ``ln P <= ln eta`` also after
adding a bound on the rounding error.

Does NOT guarantee anything about how E was counted: on augmented, reused or uncounted samples the number means
nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bitcert.proof.budget import check_count, check_number
from bitcert.proof.chernoff import deviance, kl_inverse

__all__ = ["binomial_tail_inverse", "log_binomial_cdf"]

_EPS = 2.0**-52
_LN_HALF = math.log(0.5)
_MAX_STEPS = 200
# Beyond this many standard deviations the continued fraction needs few terms; below this variance, too.
_CENTRAL_DEVIATIONS = 3.0
_CENTRAL_VARIANCE = 2500.0
# Standard deviations after which the integrand is below e^-55 of its start.
_QUADRATURE_REACH = 11.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_SMALL_STIRLING = tuple(
    math.log(math.factorial(n)) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2.0 * math.pi) for n in range(1, 16)
)


class _Tail(NamedTuple):
    """``ln P``, its derivative in p, and a bound on the rounding error of the first."""

    log: float
    slope: float
    error: float


def _stirling_error(n: int) -> float:
    """``ln n! - ln(sqrt(2 pi n) (n/e)^n)`` for n >= 1."""
    if n <= 15:
        return _SMALL_STIRLING[n - 1]
    s = 1.0 / (float(n) * n)
    return (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s / 1188)))) / n


def _log_pmf(k: int, m: int, p: float, q: float) -> float:
    """``ln P[Bin(m,p) = k]`` for 0 <= k <= m, 0 < p < 1, q = 1-p."""
    if k == 0:
        return m * (math.log1p(-p) if p < 0.5 else math.log(q))
    if k == m:
        return m * (math.log1p(-q) if q < 0.5 else math.log(p))
    correction = _stirling_error(m) - _stirling_error(k) - _stirling_error(m - k)
    shape = 0.5 * math.log(m / (2.0 * math.pi * k) / (m - k))
    return correction + shape - deviance(k, m * p) - deviance(m - k, m * q)


def _fraction(k: int, m: int, p: float, q: float) -> tuple[float, float]:
    """K and a bound on its relative rounding error, by modified Lentz iteration; needs ``p >= k/(m+1)``."""
    a, b, total = float(m - k), float(k + 1), float(m + 1)
    lead = total * p - b + 1.0
    # Rounding may leave the leading term at or below 0 where it is exactly tiny; Lentz's rule is a tiny positive one.
    value = c = max(a * lead / (a + 1.0), 1e-300)
    d, n = 0.0, 0
    while True:
        n += 1
        odd = a + 2.0 * n
        ratio = n * (b - n) * q / (odd - 1.0)
        top = (a + n - 1.0) * (total + n - 1.0) * q / (odd - 1.0) * ratio
        bottom = n + ratio + (a + n) * (lead + n * (1.0 + p)) / (odd + 1.0)
        d = 1.0 / (bottom + top * d)
        c = bottom + top / c
        value *= c * d
        if n >= b or abs(c * d - 1.0) <= _EPS:
            return value, _EPS * (8.0 + 6.0 * n + 2.0 * total * p / value)


def _quadrature(k: int, m: int, p: float, q: float) -> tuple[float, float]:
    """K and a bound on its relative error from ``p q / K = integral_0 (1-s/q)^(m-k-1) (1+s/p)^k ds``."""
    half = 0.5 * _QUADRATURE_REACH * math.sqrt(p * q / m)
    s = half * (_NODES + 1.0)
    exponent = (m - k - 1.0) * np.log1p(-s / q) + k * np.log1p(s / p)
    integral = half * float(np.dot(_WEIGHTS, np.exp(exponent)))
    return p * q / integral, _EPS * (256.0 + 32.0 * math.sqrt(m * p * q))


def _lower_tail(k: int, m: int, p: float, q: float) -> _Tail:
    """``ln P[Bin(m,p) <= k]`` for k < m, accurate where the tail is below about 2/3 (``p >= k/(m+1)``)."""
    variance, excess = m * p * q, m * p - k
    central = variance > _CENTRAL_VARIANCE and excess < _CENTRAL_DEVIATIONS * math.sqrt(variance)
    factor, error = (_quadrature if central else _fraction)(k, m, p, q)
    pmf = _log_pmf(k, m, p, q)
    log = pmf + math.log(p * (m - k) / factor)
    return _Tail(log, -factor / (p * q), error + 16.0 * _EPS * (abs(pmf) + abs(log) + abs(excess) + 4.0))


def _tail(k: int, m: int, p: float) -> _Tail:
    """``ln P[Bin(m,p) <= k]`` for any k < m and p in [0, 1], through whichever tail is the small one."""
    q = 1.0 - p
    if p <= 0.0:
        return _Tail(0.0, 0.0, 0.0)
    if q <= 0.0:
        return _Tail(-math.inf, -math.inf, 0.0)
    if (m + 1) * p >= k + 1:
        return _lower_tail(k, m, p, q)
    other = _lower_tail(m - k - 1, m, q, p)
    upper = math.exp(other.log)
    odds = upper / (1.0 - upper)
    log = math.log1p(-upper)
    return _Tail(log, odds * other.slope, 2.0 * odds * other.error + 4.0 * _EPS * abs(log))


def _newton(k: int, m: int, log_eta: float) -> float:
    """The p with ``P[Bin(m,p) <= k] = eta <= 1/2``, to rounding, from the KL-Chernoff bound on its right.

    The tail is log-concave in p, so no step crosses the root.
    """
    p = kl_inverse(k / m, -log_eta / m)
    for _ in range(_MAX_STEPS):
        if p >= 1.0:
            return 1.0
        at = _lower_tail(k, m, p, 1.0 - p)
        step = (at.log - log_eta) / at.slope
        if step <= _EPS * p or log_eta - at.log <= 0.5 * at.error:
            break
        p -= step
    return p


def _round_up(k: int, m: int, log_eta: float, start: float) -> float:
    """The first point found at or right of ``start`` where the tail is below eta by more than its rounding error."""
    p, stretch = start, 1.0
    while p < 1.0:
        at = _tail(k, m, p)
        missing = at.log + at.error - log_eta
        if missing <= 0.0:
            return p
        step = -stretch * missing / at.slope if at.slope < 0.0 else 0.0
        p, stretch = p + max(step, stretch * 2.0**-54, math.ulp(p)), 2.0 * stretch
    return 1.0


def log_binomial_cdf(num_errors: int, num_samples: int, p: float) -> float:
    """``ln P[Bin(num_samples, p) <= num_errors]`` in nats, to rounding, however small the probability.

    Args:
        num_errors: E, in 0..num_samples.
        num_samples: m, at least 1.
        p: error rate in [0, 1].

    Returns:
        A number <= 0; ``-inf`` only for p = 1 and E < m.

    Raises:
        InputError: an argument is outside its range.

    >>> round(log_binomial_cdf(0, 1000, 0.999) / math.log(0.001), 9)
    1000.0
    """
    m = check_count("num_samples", num_samples, 1)
    k = check_count("num_errors", num_errors, 0, m)
    rate = check_number("p", p, 0.0, 1.0)
    return 0.0 if k == m else min(0.0, _tail(k, m, rate).log)


def binomial_tail_inverse(num_errors: int, num_samples: int, log_eta_nats: float) -> float:
    """``sup {p : P[Bin(m,p) <= E] >= eta}``, rounded up: the exact upper confidence limit for an error rate.

    Args:
        num_errors: E, errors counted on the sample, in 0..num_samples.
        num_samples: m, size of the sample, at least 1.
        log_eta_nats: ``ln eta`` in nats, finite and <= 0; for a message c it is ``ln delta - |c| ln 2``.

    Returns:
        A number in [0, 1], never below the true value and at most 1e-9 above it (for m up to 1e9 and messages up to
        1e7 bits); 1.0 when E = m, or when the limit is closer to 1 than a float can say.

    Raises:
        InputError: an argument is outside its range.

    Source: Clopper & Pearson 1934; Langford 2005, binomial tail inversion.

    >>> limit = binomial_tail_inverse(0, 100, math.log(0.05))
    >>> round(limit, 12) == round(1 - 0.05 ** (1 / 100), 12)
    True
    """
    m = check_count("num_samples", num_samples, 1)
    k = check_count("num_errors", num_errors, 0, m)
    log_eta = check_number("log_eta_nats", log_eta_nats, -math.inf, 0.0)
    if k == m:
        return 1.0
    if log_eta == 0.0:
        return 0.0
    if log_eta <= _LN_HALF:
        start = _newton(k, m, log_eta)
    else:
        start = 1.0 - _newton(m - k - 1, m, math.log(-math.expm1(log_eta)))
    return _round_up(k, m, log_eta, start)
