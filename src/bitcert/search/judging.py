"""What a finished message of a contender is worth: the certificate itself, computed from the training sample.

For a certificate of the compressed network that is ``p_bar(E, m, delta_1 2^-bits)``. For one of the original network f
it is that plus ``p_bar(a, n, delta_2)`` with a *predicted* number ``a`` of disagreements on the ``n`` unlabelled
examples: ``n`` times the rate on the training sample, rounded up. The unlabelled sample itself is never seen here: only
its size is known, so that it stays independent of the message chosen. The prediction is optimistic where f is more
certain of its training examples than of new ones; only the search depends on it, the certificate counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.counting import Classifier, DecisionRule, Progress, check_logits, count_batch
from bitcert.data import Sample
from bitcert.decoder import decode_message
from bitcert.proof import disagreement_bound, occam_bound
from bitcert.run import Compressed


def errors_per_bit(error_rate: float, bound: float) -> float:
    """How many errors of a sample one bit of its message is worth, over ``ln 2``: ``1 / ln`` of the odds ratio.

    The derivative of ``kl(q || p) = bits ln2 / m`` along a constant bound, at ``q = error_rate`` and ``p = bound``.

    >>> round(errors_per_bit(0.0155, 0.0446), 3)
    0.92
    """
    q = min(max(error_rate, 1e-6), 0.9)
    p = min(max(bound, q * 1.01), 0.99)
    return 1 / math.log(p * (1 - q) / (q * (1 - p)))


def estimated_errors(logits: torch.Tensor, labels: torch.Tensor, num_samples: int) -> int:
    """Errors on ``num_samples`` examples at the rate of the logits ``[m, classes]`` of some, or all, of them."""
    count = count_batch(logits, labels.numpy(), DecisionRule().tolerance)
    return round(count.errors * num_samples / count.samples)


@dataclass(frozen=True)
class Verdict:
    """A message's worth.

    Attributes:
        errors: on the training sample.
        message_bits: its length.
        bound: of the certificate, as far as the training sample tells.
        disagreements: with the original network on the training sample, or ``None``.
    """

    errors: int
    message_bits: int
    bound: float
    disagreements: int | None = None

    @property
    def rank(self) -> tuple[float, int, int]:
        """Smaller is better; where every bound is 1, fewer errors still are."""
        return self.bound, self.errors, self.message_bits


@dataclass(frozen=True, eq=False)
class OriginalNetwork:
    """The network that is to be certified through a surrogate, and what is known of the unlabelled sample.

    Args:
        logits: ``[m, classes]`` of the network as it is on the training sample.
        num_unlabelled: size of the unlabelled sample; nothing else of it is known to the search.
        delta: what the disagreement bound may spend.
    """

    logits: NDArray[np.float32]
    num_unlabelled: int
    delta: float


@dataclass(frozen=True, eq=False)
class Decisions:
    """First places ``[m]`` of a classifier on a sample, and whether each is clear of near-ties ``[m]``."""

    first: NDArray[np.int64]
    clear: NDArray[np.bool_]

    @classmethod
    def of(
        cls, classifier: Classifier, sample: Sample, rule: DecisionRule, progress: Progress | None = None
    ) -> Decisions:
        """By the decision rule of a certificate, in one pass over the sample."""
        parts: list[Decisions] = []
        done = 0
        for inputs, labels in sample.batches(rule.batch_size):
            with torch.no_grad():
                parts.append(cls.of_logits(check_logits(classifier(inputs), labels, sample), rule))
            done += len(labels)
            if progress is not None:
                progress("counting errors", done / len(sample))
        return cls(np.concatenate([part.first for part in parts]), np.concatenate([part.clear for part in parts]))

    @classmethod
    def of_logits(cls, logits: torch.Tensor, rule: DecisionRule) -> Decisions:
        """By the same rule, of logits ``[m, classes]``."""
        logits = logits.double()
        top = logits.topk(2, dim=1)
        gap, size = top.values[:, 0] - top.values[:, 1], logits.abs().amax(1)
        clear = torch.isfinite(logits).all(1) & (gap > rule.tolerance * size)
        return cls(top.indices[:, 0].numpy(), clear.numpy())

    def errors(self, labels: NDArray[np.int64]) -> int:
        """Errors, near-ties among them."""
        return int(np.count_nonzero(~(self.clear & (self.first == labels))))

    def disagreements(self, other: Decisions) -> int:
        """Examples with different first places, or a near-tie of either."""
        return int(np.count_nonzero(~(self.clear & other.clear & (self.first == other.first))))


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges messages on the training sample.

    Args:
        sample: the training sample (the rest, where a prior part was declared).
        delta: what the Occam bound may spend.
        original: the network that is to be certified, if it is not the compressed one.
    """

    sample: Sample
    delta: float
    original: OriginalNetwork | None = None

    @cached_property
    def _reference(self) -> Decisions:
        assert self.original is not None
        return Decisions.of_logits(torch.from_numpy(self.original.logits), DecisionRule())

    def judge(self, compressed: Compressed, progress: Progress | None = None) -> Verdict:
        """The verdict; what the compressor itself counted is believed where nothing else is needed.

        The certificate counts again, so that a wrong belief can cost tightness only.
        """
        bits = 8 * len(compressed.message)
        booked = [c for c in compressed.candidates if c.message_bits == bits]
        if self.original is None and booked:
            best = min(booked, key=lambda c: (c.bound, c.errors))
            return self.worth(best.errors, bits)
        classifier = decode_message(compressed.message, compressed.helper).classifier
        decisions = Decisions.of(classifier, self.sample, DecisionRule(compressed.helper.batch_size), progress)
        apart = None if self.original is None else decisions.disagreements(self._reference)
        return self.worth(decisions.errors(self.sample.labels), bits, apart)

    def worth(self, errors: int, bits: int, disagreements: int | None = None) -> Verdict:
        """The verdict of these counts on the training sample."""
        bound = occam_bound(errors, len(self.sample), bits, self.delta).binomial
        if self.original is not None and disagreements is not None:
            size = self.original.num_unlabelled
            predicted = min(size, math.ceil(size * disagreements / len(self.sample)))
            bound = disagreement_bound(bound, predicted, size, self.original.delta)
        return Verdict(errors, bits, bound, disagreements)
