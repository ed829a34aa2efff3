"""How many projections Matrix-Project needs: the tail of ``<A_hat, W> - <A, W>`` with the constant that holds.

For ``||A||_F = ||W||_F = 1`` (``W = u v^T`` with unit vectors) the average of ``k`` i.i.d. ``X_j = <A,M_j><W,M_j>``
estimates ``<A,W>``, with ``Var X_j = 1 + <A,W>^2 - 2 sum A^2 W^2 <= 2``.

*Provable tail.* ``<A,M>`` has the even moments of at most a standard Gaussian (Khintchine), so by Cauchy-Schwarz
``|E X^q| <= (2q-1)!!``, hence ``log E exp(t (X - E X)) <= (1 - 2t)^(-1/2) - 1 - t`` for ``0 <= t < 1/2`` and, by
Chernoff's method on both sides,

    P[ |<A_hat - A, W>| >= eps ] <= 2 exp(-k I(eps)),    I(eps) = (3 + eps - 3 (1 + eps)^(1/3)) / 2.

So ``k = ceil(log(2/eta) / I(eps)) = ceil(C(eps) log(2/eta) / eps^2)`` with ``C(eps) = eps^2 / I(eps)``, which grows
from 6 (eps -> 0) to 9.1 (eps = 1). Arora 2018 (Alg. 1) prints ``log(1/eta)/eps^2``: by the variance 2, a flat ``W = A
= u v^T`` exceeds eps about ``2 Phi(-sqrt(log(1/eta)/2))`` of the time, so that claim is false;
Zhang 2020 (Lemma 4.5) prints ``8 log(1/eta)/eps^2``, which the above proves for eps <= 0.25 and eta <= 0.01. As ``k``
grows the central limit theorem alone would need ``C = 4``. Not proved: the same tail for the Hadamard variant, whose
terms are only uncorrelated; Chebyshev's inequality gives it ``k = ceil(2 / (eta eps^2))``.
"""

from __future__ import annotations

import math

from bitcert.errors import InputError

PRINTED_ARORA = 1.0
PRINTED_ZHANG = 8.0


def tail_exponent(epsilon: float) -> float:
    """``I(eps)``: the probability of an error of ``eps`` is at most ``2 exp(-k I(eps))``.

    >>> round(tail_exponent(1.0), 4)
    0.1101
    """
    # (3 + e - 3 (1+e)^(1/3)) / 2 without the cancellation: with s = (1+e)^(1/3), e = s^3 - 1
    above = math.expm1(math.log1p(epsilon) / 3)
    return above * above * (above + 3) / 2


def tail_constant(epsilon: float) -> float:
    """``C(eps)`` in ``k = C log(2/eta) / eps^2``.

    >>> round(tail_constant(1e-4), 3), round(tail_constant(1.0), 2)
    (6.0, 9.08)
    """
    return epsilon * epsilon / tail_exponent(epsilon)


def num_projections(epsilon: float, log_inverse_eta: float) -> int:
    """The least ``k`` for which the tail bound promises an error below ``eps`` but for a probability ``eta``.

    Args:
        epsilon: error over ``||A||_F ||u|| ||v||``, in (0, 1].
        log_inverse_eta: ``ln(1/eta)``.

    >>> num_projections(0.5, math.log(1 / 0.05))
    113
    """
    return max(1, math.ceil((math.log(2) + log_inverse_eta) / tail_exponent(epsilon)))


def printed_projections(epsilon: float, log_inverse_eta: float, constant: float = PRINTED_ARORA) -> int:
    """``ceil(C log(1/eta) / eps^2)`` as a paper prints it; with ``C = 1`` the claimed probability does not follow.

    >>> printed_projections(0.5, math.log(1 / 0.05))
    12
    """
    return max(1, math.ceil(constant * log_inverse_eta / (epsilon * epsilon)))


def error_at(count: float, eta: float) -> float:
    """The ``eps`` that the tail bound gives for ``k`` projections and probability ``eta``; may exceed 1.

    >>> error_at(num_projections(0.25, math.log(1 / 0.05)), 0.05) <= 0.25
    True
    """
    wanted = math.log(2 / eta) / count
    low, high = 0.0, 1.0
    while tail_exponent(high) < wanted:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if tail_exponent(middle) >= wanted else (middle, high)
    return high


def simultaneous_eta(delta: float, num_pairs: int, num_rows: int) -> float:
    """Lemma 2 (Arora 2018): ``eta = delta / (m n)`` for ``m`` pairs ``(U, x)`` with ``U`` of ``n`` rows.

    With it ``||U (A_hat - A) x|| <= eps ||A||_F ||U||_F ||x||`` for all pairs at once, but for a probability ``delta``.

    >>> simultaneous_eta(0.1, 20, 5)
    0.001
    """
    if not 0 < delta < 1 or num_pairs < 1 or num_rows < 1:
        got = f"delta {delta}, {num_pairs} pairs, {num_rows} rows"
        raise InputError("delta between 0 and 1 and at least 1 pair and row", got, "change them")
    return delta / (num_pairs * num_rows)


def check_accuracy(epsilon: float, eta: float) -> None:
    """Refuse an accuracy that is none.

    Raises:
        InputError: ``epsilon`` outside (0, 1] or ``eta`` outside (0, 1).
    """
    if not 0 < epsilon <= 1 or not 0 < eta < 1:
        got = f"epsilon {epsilon}, eta {eta}"
        raise InputError("epsilon in (0, 1] and eta between 0 and 1", got, "use e.g. 0.5 and 0.05")
