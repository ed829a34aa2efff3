"""The bound from numbers alone, for people who count errors and bits with code of their own.

``L <= p_bar(E, m, delta 2^-bits)``: the Occam bound of Arora et al. 2018, Theorem 2.1, with its constants, in the exact
form of Langford 2005. With 0 bits it is the Clopper-Pearson limit of one classifier that was fixed before the sample
was seen: a hold-out. Nothing about the counts is checked; what they must be is stated beside the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitcert.proof.budget import check_count
from bitcert.proof.holdout import CITATION_BINOMIAL_TAIL, CITATION_HOLDOUT, CITATION_OCCAM, OccamBound, occam_bound

__all__ = ["CountsBound", "certify_counts"]

_EVERYWHERE = (
    "the {samples:,} examples were drawn independently of each other, from the source of new ones",
    "every example was used once and as it is (not augmented), and a tie counted as an error",
    "delta was chosen before the data were seen; if several bounds are to hold together, their deltas add up",
)
_HOLDOUT = ("the classifier was fixed before these examples were seen, and no other one was tried on them",)
_MESSAGE = (
    "the errors are those of the classifier that is decoded from the message, not of the one in memory",
    "the message is {bits:,} bits of a prefix code: where it ends is seen from its own bits, or its length is counted",
    "whatever was chosen after the data were seen is in these bits: weights, statistics, settings, stopping, seeds",
    "whatever else the decoder knows (architecture, preprocessing, code) was fixed before the data were seen",
)


@dataclass(frozen=True)
class CountsBound:
    """A bound from given numbers.

    Attributes:
        bound: in its three forms; ``bound.binomial`` is the one to quote.
        conditions: what the numbers must be for it to hold. None of it was checked.
        theorem: what it rests on.
    """

    bound: OccamBound
    conditions: tuple[str, ...]
    theorem: str


def certify_counts(errors: int, samples: int, message_bits: int = 0, delta: float = 0.05) -> CountsBound:
    """Upper bound on the error rate on new data from numbers of your own.

    Args:
        errors: errors of the decoded classifier on the sample, in 0..samples.
        samples: size of the sample, at least 1.
        message_bits: length of the message in bits; 0 for one classifier that was fixed before the sample was seen.
        delta: probability, over the draw of the sample, that the bound fails, in (0, 1).

    Raises:
        InputError: a number out of its range. Nothing else is refused: all else is taken on trust and stated.

    >>> found = certify_counts(600, 60000, 800)
    >>> round(found.bound.binomial, 5), len(found.conditions)
    (0.03002, 7)
    >>> round(certify_counts(100, 10000).bound.binomial, 5)
    0.0118
    """
    bits = check_count("message_bits", message_bits, 0)
    bound = occam_bound(errors, samples, bits, delta)
    texts = (*_EVERYWHERE, *(_MESSAGE if bits else _HOLDOUT))
    conditions = tuple(text.format(samples=bound.num_samples, bits=bits) for text in texts)
    theorem = f"{CITATION_OCCAM}; {CITATION_BINOMIAL_TAIL}" if bits else CITATION_HOLDOUT
    return CountsBound(bound, conditions, theorem)
