"""The KL-Chernoff bound for any loss in [0, 1]: the largest ``L`` with ``kl(L_hat || L) <= complexity / m``.

``kl(q || p) = q ln(q/p) + (1-q) ln((1-q)/(1-p))``. With the complexity ``|c| ln 2 + ln(1/delta)`` it is the Occam
bound of Arora et al. 2018, Theorem 2.1, with Chernoff's inequality in place of Hoeffding's; with
``KL(Q||P) + ln(2 sqrt(m)/delta)`` it is the PAC-Bayes-kl bound (Maurer 2004). Results are rounded up: a returned
``L`` satisfies ``kl(L_hat || L) >= complexity / m`` also after every rounding error.

Does NOT guarantee anything about an ``L_hat`` that is itself a Monte-Carlo estimate: bound it first, on its own
delta.
"""

from __future__ import annotations

import math

from bitcert.errors import InputError
from bitcert.proof.budget import check_count, check_delta, check_number

__all__ = ["binary_kl", "kl_chernoff", "pac_bayes_kl", "pac_bayes_sampled"]

_EPS = 2.0**-52
_MAX_STEPS = 200


def deviance(x: float, mean: float) -> float:
    """``x ln(x/mean) + mean - x`` without cancellation (Loader 2000, function ``bd0``), for x >= 0, mean > 0."""
    if x == 0.0:
        return mean
    gap = x - mean
    if abs(gap) >= 0.1 * (x + mean):
        return x * math.log(x / mean) - gap
    v = gap / (x + mean)
    total, term, v2, j = gap * v, 2.0 * x * v, v * v, 1
    while True:
        term *= v2
        nxt = total + term / (2 * j + 1)
        if nxt == total:
            return total
        total, j = nxt, j + 1


def _kl(q: float, p: float) -> float:
    if q == p:
        return 0.0
    if p in (0.0, 1.0):
        return math.inf
    if q == 0.0:
        return -math.log1p(-p)
    if q == 1.0:
        return -math.log(p)
    return max(0.0, deviance(q, p) + deviance(1.0 - q, 1.0 - p))


def binary_kl(q: float, p: float) -> float:
    """``kl(q || p)`` in nats between two Bernoulli distributions; infinite where ``p`` rules out what ``q`` allows.

    Raises:
        InputError: an argument is outside [0, 1].

    >>> round(binary_kl(0.5, 0.25), 9), binary_kl(0.3, 0.3), binary_kl(0.5, 1.0)
    (0.143841036, 0.0, inf)
    """
    return _kl(check_number("q", q, 0.0, 1.0), check_number("p", p, 0.0, 1.0))


def _upper_start(q: float, budget: float) -> float:
    """A point at or right of the root: the smaller of Pinsker's and the entropy bound.

    ``kl(q||L) >= -H(q) - (1-q) ln(1-L)`` gives the second; its ``1-L`` is within a factor e of the root's, so that
    Newton's method starts close even when the root is next to 1.
    """
    entropy = -q * math.log(q) - (1.0 - q) * math.log1p(-q) if q > 0.0 else 0.0
    by_entropy = -math.expm1(-(budget + entropy) / (1.0 - q))
    return min(q + math.sqrt(0.5 * budget), by_entropy)


def kl_inverse(q: float, budget: float) -> float:
    """Largest ``L`` in [q, 1] with ``kl(q||L) <= budget``, rounded up; arguments are trusted.

    ``kl(q||.)`` is convex and rises right of q, so Newton's method from the right never crosses the root.
    """
    if budget <= 0.0 or q >= 1.0:
        return q
    top = _upper_start(q, budget)
    for _ in range(_MAX_STEPS):
        if not q < top < 1.0:
            break
        step = (_kl(q, top) - budget) * top * (1.0 - top) / (top - q)
        if step <= 2.0 * _EPS * top:
            break
        top -= step
    return _round_up(q, budget, max(top, math.nextafter(q, 1.0)))


def _round_up(q: float, budget: float, start: float) -> float:
    """The first point found from ``start`` on where ``kl`` exceeds the budget by more than its rounding error."""
    top, step = start, 4.0 * _EPS * start
    while top < 1.0:
        value = _kl(q, top)
        if value - 16.0 * _EPS * (value + (top - q)) >= budget:
            return top
        top, step = max(top + step, math.nextafter(top, 1.0)), 2.0 * step
    return 1.0


def kl_chernoff(empirical_loss: float, num_samples: int, complexity_nats: float) -> float:
    """Largest ``L`` with ``kl(empirical_loss || L) <= complexity_nats / num_samples``, rounded up.

    Args:
        empirical_loss: mean of a loss with values in [0, 1] over the sample.
        num_samples: size of the sample, at least 1.
        complexity_nats: ``|c| ln 2 + ln(1/delta)`` in nats, at least 0.

    Returns:
        The bound in [empirical_loss, 1]; 1.0 is vacuous.

    Raises:
        InputError: an argument is outside its range or not a number.

    Source: Langford 2005, "Tutorial on practical prediction theory for classification", relative-entropy Chernoff
    bound.

    >>> round(kl_chernoff(0.0, 100, 3.0), 12) == round(1 - math.exp(-0.03), 12)
    True
    """
    loss = check_number("empirical_loss", empirical_loss, 0.0, 1.0)
    samples = check_count("num_samples", num_samples, 1)
    nats = check_number("complexity_nats", complexity_nats, 0.0, math.inf)
    return kl_inverse(loss, nats / samples * (1.0 + _EPS))


def pac_bayes_kl(empirical_loss: float, num_samples: int, kl_nats: float, delta: float) -> float:
    """PAC-Bayes-kl bound: largest ``L`` with ``kl(L_hat||L) <= (KL(Q||P) + ln(2 sqrt(m)/delta)) / m``, rounded up.

    The guarantee is for the randomised classifier that draws its weights from the posterior Q, not for Q's mean.

    Args:
        empirical_loss: exact expected training loss of the randomised classifier, in [0, 1].
        num_samples: size of the sample, at least 1.
        kl_nats: ``KL(Q||P)`` in nats, at least 0.
        delta: failure probability, in (0, 1).

    Raises:
        InputError: an argument is outside its range or not a number.

    Source: Maurer 2004, "A note on the PAC Bayesian theorem", for m >= 8; the moment bound ``xi(m) <= 2 sqrt(m)`` it
    rests on also holds for m = 1..7.

    >>> round(pac_bayes_kl(0.01, 60000, 800 * math.log(2), 0.05), 5)
    0.03026
    """
    samples = check_count("num_samples", num_samples, 1)
    divergence = check_number("kl_nats", kl_nats, 0.0, math.inf)
    price = math.log(2.0 * math.sqrt(samples)) - math.log(check_delta(delta))
    return kl_chernoff(empirical_loss, samples, (divergence + price) * (1.0 + 2.0**-50) + _EPS)


def pac_bayes_sampled(
    mean_loss: float, num_draws: int, num_samples: int, kl_nats: float, delta: float, draws_delta: float
) -> tuple[float, float]:
    """PAC-Bayes-kl where the training loss of the randomised classifier is only known from draws of its weights.

    Two events of probability ``draws_delta`` and ``delta - draws_delta``: (1) ``kl(mean || L_hat(Q)) <=
    ln(1/draws_delta) / T`` over ``T`` independent draws gives an upper limit on ``L_hat(Q)``; (2) :func:`pac_bayes_kl`
    with that limit. A draw is of the weights from Q together with a part of the sample of a fixed size, chosen
    uniformly, so that the loss of a draw has the mean ``L_hat(Q)``.

    Args:
        mean_loss: mean over the draws of a loss in [0, 1].
        num_draws: ``T``, fixed before the first draw, at least 1.
        num_samples: size of the whole sample, at least 1.
        kl_nats: ``KL(Q||P)`` in nats, at least 0.
        delta: failure probability of both steps together, in (0, 1).
        draws_delta: share of it for the draws, above 0 and below ``delta``.

    Returns:
        The limit on the training loss ``L_hat(Q)``, and the bound on ``L(Q)``; 1.0 is vacuous.

    Raises:
        InputError: an argument is outside its range or not a number.

    Source: Langford & Caruana 2001, "(Not) bounding the true error", section 4; here one-sided, which saves ``ln 2``.

    >>> limit, bound = pac_bayes_sampled(0.03, 5000, 60000, 1000.0, 0.05, 0.01)
    >>> round(limit, 4), round(bound, 4)
    (0.0379, 0.0836)
    """
    draws = check_count("num_draws", num_draws, 1)
    whole = check_delta(delta)
    own = check_delta(draws_delta, "draws_delta")
    if not own < whole:
        raise InputError(f"draws_delta above 0 and below delta = {whole:g}", f"{own:g}", "give e.g. a fifth of delta")
    limit = kl_chernoff(mean_loss, draws, -math.log(own) * (1.0 + 2.0**-50))
    return limit, pac_bayes_kl(limit, num_samples, kl_nats, math.nextafter(whole - own, 0.0))
