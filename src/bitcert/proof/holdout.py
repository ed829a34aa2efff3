"""Bounds from counts: the Occam certificate, its hold-out case, and the step to the original network.

For all self-delimiting messages c at once, with probability at least ``1 - delta`` over the draw of the m samples,
``L(g_c) <= p_bar(E, m, delta 2^-|c|)``. With no message (0 bits: the classifier did not see the sample) this is the
hold-out bound. A bound on ``P[f != g_c]`` from unlabelled samples transfers it to the original network f:
``L(f) <= L(g_c) + P[f != g_c]``.

Does NOT guarantee anything if a choice made after seeing the sample is missing from the counted bits, if the hold-out
sample was used in any way, or if the unlabelled sample is not independent of the network and of the message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitcert.errors import InputError
from bitcert.proof.binomial import binomial_tail_inverse
from bitcert.proof.budget import check_count, check_delta, check_number, complexity_nats
from bitcert.proof.chernoff import kl_chernoff
from bitcert.proof.hoeffding_bound import hoeffding

__all__ = [
    "CITATION_BINOMIAL_TAIL",
    "CITATION_HOLDOUT",
    "CITATION_OCCAM",
    "OccamBound",
    "disagreement_bound",
    "holdout_bound",
    "occam_bound",
    "self_contained_bound",
    "trials_apart",
]

CITATION_OCCAM = (
    "Arora, Ge, Neyshabur & Zhang 2018, Stronger generalization bounds for deep nets via a compression approach, "
    "Theorem 2.1, with its constants: union bound over self-delimiting messages, each given delta * 2^-bits"
)
CITATION_BINOMIAL_TAIL = (
    "Langford 2005, Tutorial on practical prediction theory for classification, JMLR 6, "
    "binomial tail inversion and Occam's razor bound"
)
CITATION_HOLDOUT = (
    "Clopper & Pearson 1934, The use of confidence or fiducial limits illustrated in the case of the binomial, "
    "Biometrika 26, exact upper limit"
)


@dataclass(frozen=True, slots=True)
class OccamBound:
    """Three upper bounds on the true 0/1 error of one decoded message, ``binomial <= kl_chernoff <= hoeffding``.

    All three hold together with probability at least ``1 - delta``; ``binomial`` is the one to quote.
    """

    binomial: float
    kl_chernoff: float
    hoeffding: float
    num_errors: int
    num_samples: int
    message_bits: int
    delta: float

    @property
    def vacuous(self) -> bool:
        """Whether even the tightest form says nothing (is 1)."""
        return self.binomial >= 1.0


def occam_bound(num_errors: int, num_samples: int, message_bits: int, delta: float) -> OccamBound:
    """Bound the true error of a decoded message by its training errors and its length, rounded up.

    Args:
        num_errors: errors of the *decoded* classifier on the sample, in 0..num_samples; ties count as errors.
        num_samples: size of the i.i.d. sample, at least 1; only the part the helper has not seen.
        message_bits: length of the self-delimiting message in bits, every data-dependent choice included.
        delta: failure probability, in (0, 1).

    Raises:
        InputError: an argument is outside its range or not an integer where one is needed.

    Source: docs/theory.md section 2; Arora et al. 2018, Theorem 2.1; Langford 2005.

    >>> bound = occam_bound(num_errors=600, num_samples=60000, message_bits=800, delta=0.05)
    >>> [round(100 * value, 3) for value in (bound.binomial, bound.kl_chernoff, bound.hoeffding)]
    [3.002, 3.011, 7.816]
    """
    nats = complexity_nats(message_bits, delta)
    samples = check_count("num_samples", num_samples, 1)
    errors = check_count("num_errors", num_errors, 0, samples)
    binomial = binomial_tail_inverse(errors, samples, -nats)
    loss = rate_rounded_up(errors, samples)
    # In exact arithmetic the forms are ordered (Chernoff, Pinsker); upward rounding by an ulp must not undo it.
    by_kl = max(binomial, kl_chernoff(loss, samples, nats))
    by_hoeffding = max(by_kl, hoeffding(loss, samples, nats))
    return OccamBound(binomial, by_kl, by_hoeffding, errors, samples, int(message_bits), float(delta))


def rate_rounded_up(errors: int, samples: int) -> float:
    """The smallest float that is not below ``errors / samples``."""
    rate = errors / samples
    numerator, denominator = rate.as_integer_ratio()
    return rate if numerator * samples >= errors * denominator else math.nextafter(rate, 1.0)


def self_contained_bound(num_errors: int, num_samples: int, message_bits: int, helper_bits: int, delta: float) -> float:
    """Bound the true error of a decoded message without believing that its helper was fixed before the data.

    ``p_bar(E, m, delta 2^-(|c| + |h|))``: the helper's self-delimiting description ``h`` and the message ``c`` are one
    codeword, so ``sum_(h, c) 2^-(|h| + |c|) <= 1`` and the union bound is over all pairs. It holds whatever helper was
    chosen after the data were seen; the program that reads both stays trusted.

    Args:
        num_errors: errors of the decoded classifier on the sample, in 0..num_samples.
        num_samples: size of the sample, at least 1.
        message_bits: length of the message.
        helper_bits: length of the helper's description.
        delta: failure probability, in (0, 1).

    Returns:
        The exact binomial limit, rounded up; never below the bound that trusts the helper.

    Raises:
        InputError: an argument is outside its range.

    Source: docs/theory.md section 5; Arora et al. 2018, Theorem 2.1; Langford 2005.

    >>> round(self_contained_bound(600, 60000, 800, 500, 0.05), 5)
    0.03794
    """
    bits = check_count("message_bits", message_bits, 0) + check_count("helper_bits", helper_bits, 0)
    return occam_bound(num_errors, num_samples, bits, delta).binomial


def holdout_bound(num_errors: int, num_samples: int, delta: float) -> float:
    """Clopper-Pearson upper limit for a classifier that never saw the sample; the Occam bound of a 0-bit message.

    Args:
        num_errors: errors on the held-out sample, in 0..num_samples.
        num_samples: size of the held-out sample, at least 1.
        delta: failure probability, in (0, 1).

    Raises:
        InputError: an argument is outside its range.

    Source: Clopper & Pearson 1934.

    >>> round(holdout_bound(100, 10000, 0.05), 5)
    0.0118
    """
    return binomial_tail_inverse(num_errors, num_samples, -complexity_nats(0, delta))


def trials_apart(num_disagreements: int, num_unlabelled: int, num_shared: int) -> int:
    """Unlabelled samples to count, where some have the same input as a training example.

    In a table such repetitions may be chance, and then the samples are independent draws and all count; or they may be
    copies of training examples among ``n_0`` independent draws. Which of both cannot be seen. Leaving the shared ones
    out of the trials, but not out of the disagreements, is right in either case:
    ``p_bar(a, n - s) >= p_bar(a_0, n_0)``, because the ``a_0 <= a`` disagreements of the independent draws are counted,
    no more than ``n_0 >= n - s`` trials are, and the limit rises with disagreements and falls with trials.

    Returns:
        ``n - s``, or the number of disagreements if that is larger: the limit is then 1.

    Raises:
        InputError: no sample is left.

    >>> trials_apart(3, 1000, 40), trials_apart(30, 100, 80)
    (960, 30)
    """
    if num_shared >= num_unlabelled:
        expected = "unlabelled examples that are not in the training data"
        raise InputError(expected, f"all {num_unlabelled:,} in it", "draw others")
    return max(min(num_disagreements, num_unlabelled), num_unlabelled - num_shared)


def disagreement_bound(occam: float, num_disagreements: int, num_unlabelled: int, delta2: float) -> float:
    """Bound the error of the *original* network: the compressed network's bound plus that of their disagreement.

    Args:
        occam: bound on the compressed network's error at its own ``delta1``, in [0, 1].
        num_disagreements: unlabelled samples on which the two networks predict different labels.
        num_unlabelled: unlabelled samples, drawn independently of the training sample and of both networks.
        delta2: failure probability of the second step; the statement holds with probability ``1 - delta1 - delta2``.

    Returns:
        The sum, rounded up; 1.0 is vacuous (an error rate is never above 1).

    Raises:
        InputError: an argument is outside its range.

    Source: docs/theory.md section 2, "From the compressed to the original network".

    >>> round(disagreement_bound(0.1, 0, 1000, 0.05), 6)
    0.102991
    """
    first = check_number("occam", occam, 0.0, 1.0)
    second = holdout_bound(num_disagreements, num_unlabelled, check_delta(delta2, "delta2"))
    return min(1.0, math.nextafter(first + second, math.inf))
