"""Slow twins of the bounds: direct sums and bracketing at high precision.

No algorithm is shared with the library: the tail is the sum of its terms (the library: continued fraction and
quadrature), factorials are log-gamma at 60 digits (the library: saddle point), roots are bracketed (the library:
Newton's method).
"""

from collections.abc import Callable

import mpmath as mp

_BITS = 160


def log_cdf(num_errors: int, num_samples: int, p: mp.mpf) -> mp.mpf:
    """ln P[Bin(m,p) <= E] as the largest term times a sum of ratios in 160-bit fixed point.

    The terms fall geometrically away from the largest one, so the sum stops when they vanish in fixed point.
    """
    with mp.workdps(60):
        p = mp.mpf(p)
        if num_errors >= num_samples:
            return mp.mpf(0)
        if (num_samples + 1) * p < num_errors + 1:
            return mp.log1p(-mp.exp(_log_tail(num_samples - num_errors - 1, num_samples, 1 - p)))
        return _log_tail(num_errors, num_samples, p)


def _log_tail(k: int, m: int, p: mp.mpf) -> mp.mpf:
    q = 1 - p
    log_pmf = mp.loggamma(m + 1) - mp.loggamma(k + 1) - mp.loggamma(m - k + 1) + k * mp.log(p) + (m - k) * mp.log(q)
    odds, one = int(mp.ldexp(q / p, _BITS)), 1 << _BITS
    term, total, j = one, one, k
    while term > 1 << 60 and j > 0:
        term = (term * odds >> _BITS) * j // (m - j + 1)
        total += term
        j -= 1
    return log_pmf + mp.log(mp.ldexp(mp.mpf(total), -_BITS))


def bracket(above: Callable[[mp.mpf], mp.mpf], low: mp.mpf, high: mp.mpf, width: float = 1e-13) -> mp.mpf:
    """Root of a decreasing function by the Illinois variant of false position with a bisection every third step."""
    low, high = mp.mpf(low), mp.mpf(high)
    f_low, f_high = above(low), above(high)
    for step in range(400):
        if high - low <= width:
            break
        mid = (low + high) / 2 if step % 3 == 2 else (low * f_high - high * f_low) / (f_high - f_low)
        if not low < mid < high:
            mid = (low + high) / 2
        value = above(mid)
        if value > 0:
            low, f_low, f_high = mid, value, f_high / 2
        else:
            high, f_high, f_low = mid, value, f_low / 2
    return (low + high) / 2


def binomial_tail_inverse(num_errors: int, num_samples: int, log_eta: mp.mpf) -> mp.mpf:
    """sup {p : P[Bin(m,p) <= E] >= eta} within 1e-13."""
    if num_errors >= num_samples:
        return mp.mpf(1)
    with mp.workdps(60):
        tiny = mp.mpf(10) ** -30
        return bracket(lambda p: log_cdf(num_errors, num_samples, p) - log_eta, tiny, 1 - tiny)


def kl(q: mp.mpf, p: mp.mpf) -> mp.mpf:
    """kl(q||p) from its definition."""
    left = q * mp.log(q / p) if q > 0 else mp.mpf(0)
    right = (1 - q) * mp.log((1 - q) / (1 - p)) if q < 1 else mp.mpf(0)
    return left + right


def kl_inverse(q: float, budget: mp.mpf) -> mp.mpf:
    """Largest L with kl(q||L) <= budget within 1e-13."""
    with mp.workdps(60):
        q = mp.mpf(q)
        if q >= 1:
            return mp.mpf(1)
        tiny = mp.mpf(10) ** -30
        return bracket(lambda p: budget - kl(q, p), max(q, tiny), 1 - tiny)
