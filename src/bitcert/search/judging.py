"""What a finished message of a contender is worth: the certificate itself, computed from the training sample.

For a certificate of the compressed network that is ``p_bar(E, m, delta_1 2^-bits)``. For one of the original network f
it is that plus ``p_bar(a, n, delta_2)`` with a *predicted* number ``a`` of disagreements on the ``n`` unlabelled
examples: ``n`` times the rate on the training sample, rounded up. The unlabelled sample itself is never seen here: only
its size is known, so that it stays independent of the message chosen. The prediction is optimistic where f is more
certain of its training examples than of new ones; only the search depends on it, the certificate counts.

A surrogate of f may abstain where its two largest logits are close (:mod:`bitcert.decoder.abstaining`): that counts as
a disagreement and not as an error. The judge chooses the threshold that makes the sum of both bounds smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding.steps import nearest_exponent, step_size
from bitcert.counting import Classifier, DecisionRule, Progress, check_logits, count_batch
from bitcert.data import Role, Sample
from bitcert.decoder import abstaining, decode_message
from bitcert.errors import InputError
from bitcert.proof import disagreement_bound, occam_bound
from bitcert.run import Candidate, Compressed

Classes = NDArray[np.int64]
BATCH_SIZE = 500
TEMPERATURE, NETWORK_WEIGHT = 2.0, 0.7
"""Of soft labels: above 1 a temperature softens; the weight is that of the network's answers, the rest the label's."""


ABSTENTIONS = (1 / 512, 1 / 256, 1 / 128, *(k / 64 for k in range(1, 64)))
"""Fractions of the training sample that a surrogate may abstain on: a threshold near each is tried."""


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


def network_logits(
    network: Classifier, sample: Sample, batch_size: int = BATCH_SIZE, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Logits ``[m, outputs]`` of raw inputs, in batches.

    Raises:
        InputError: a sample that may not be looked at while a message is chosen.
    """
    if sample.role in (Role.UNLABELLED, Role.HOLDOUT):
        do = "estimate on the training sample, or on what the prior part left of it"
        raise InputError("examples that may be looked at while a surrogate is chosen", f"role {sample.role.value}", do)
    parts: list[NDArray[np.float32]] = []
    for inputs, _ in sample.batches(batch_size):
        with torch.no_grad():
            parts.append(network(inputs).detach().float().cpu().numpy())
        if progress is not None:
            progress("counting errors", sum(map(len, parts)) / len(sample))
    return np.concatenate(parts)


def soft_labels(logits: NDArray[np.float32], sample: Sample) -> NDArray[np.float32]:
    """Soft labels ``[m, classes]`` whose rows sum to 1, for a surrogate that is to agree with the original network.

    ``target = weight * softmax(logits / temperature) + (1 - weight) * label`` (Hinton et al. 2015). The unlabelled
    examples may not be looked at while a surrogate is chosen, so it learns the network's answers on the training
    sample. Not promised: that the two agree as often on new data.

    Args:
        logits: ``[m, classes]`` of the original network on the sample, see :func:`network_logits`.
        sample: labelled training examples.

    Raises:
        InputError: logits of another shape.
    """
    if logits.shape != (len(sample), sample.num_classes):
        got = f"shape {list(logits.shape)}"
        raise InputError(f"logits for {sample.num_classes} classes", got, "use the network of this problem")
    soft = torch.softmax(torch.from_numpy(logits).double() / TEMPERATURE, 1).numpy()
    labels = np.eye(sample.num_classes)[sample.labels]
    return np.asarray(NETWORK_WEIGHT * soft + (1 - NETWORK_WEIGHT) * labels, dtype=np.float32)


def answers_in(targets_t: torch.Tensor, labels: torch.Tensor) -> Classes:
    """The network's own answers ``[m]`` in its soft labels ``[classes, m]``: the largest without the label's part.

    Args:
        targets_t: of :func:`soft_labels`.
        labels: ``[m]`` of the same examples.
    """
    own = targets_t.clone()
    own[labels, torch.arange(len(labels))] -= 1 - NETWORK_WEIGHT
    return own.argmax(0).numpy()


def clear_first(logits: torch.Tensor, rule: DecisionRule) -> NDArray[np.int64]:
    """The class in first place by the decision rule of a certificate, ``[m]``; -1 for near-ties."""
    logits = logits.double()
    top = logits.topk(2, dim=1)
    gap, size = top.values[:, 0] - top.values[:, 1], logits.abs().amax(1)
    clear = torch.isfinite(logits).all(1) & (gap > rule.tolerance * size)
    return torch.where(clear, top.indices[:, 0], -1).numpy()


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
    def _reference(self) -> NDArray[np.int64]:
        assert self.original is not None
        return clear_first(torch.from_numpy(self.original.logits), DecisionRule())

    def judge(self, compressed: Compressed, progress: Progress | None = None) -> Candidate:
        """The message's worth; what the compressor itself counted is believed where nothing else is needed.

        The certificate counts again, so that a wrong belief can cost tightness only. The candidate has no name.
        """
        bits = 8 * len(compressed.message)
        booked = [c for c in compressed.candidates if c.message_bits == bits]
        if self.original is None and booked:
            best = min(booked, key=lambda c: (c.bound, c.errors))
            return replace(self.worth(best.errors, bits), estimated=best.estimated)
        classifier = decode_message(compressed.message, compressed.helper).classifier
        rule, labels = DecisionRule(compressed.helper.batch_size), self.sample.labels
        logits = torch.from_numpy(network_logits(classifier, self.sample, rule.batch_size, progress))
        first = clear_first(check_logits(logits, labels, self.sample), rule)
        if self.original is None:
            return self.worth(int(np.count_nonzero(first != labels)), bits)
        return self.surrogate(logits, labels, self._reference, bits)

    def surrogate(self, logits: torch.Tensor, labels: Classes, answers: Classes, bits: int) -> Candidate:
        """What a surrogate is worth that abstains where it pays.

        Args:
            logits: ``[m, classes]`` of the training sample, or of a part of it.
            labels: ``[m]`` of the same examples.
            answers: ``[m]`` of the original network, -1 for near-ties.
            bits: of the message without a threshold.
        """
        first = clear_first(logits, DecisionRule())
        wrong, apart = first != labels, (first < 0) | (first != answers)
        top = logits.double().topk(2, dim=1).values
        gaps = (top[:, 0] - top[:, 1]).numpy()
        quantiles = np.quantile(gaps[np.isfinite(gaps)], ABSTENTIONS) if np.isfinite(gaps).any() else np.zeros(0)
        scale = len(self.sample) / len(labels)

        def counted(*flags: NDArray[np.bool_]) -> list[int]:
            return [round(scale * np.count_nonzero(each)) for each in flags]

        errors, differ = counted(wrong, apart)
        found = [self.worth(errors, bits, differ)]
        for exponent in sorted({nearest_exponent(float(gap)) for gap in quantiles if gap > 0}):
            silent = gaps < step_size(exponent)
            errors, differ = counted(wrong & ~silent, apart | silent)
            worth = self.worth(errors, bits + abstaining.PREFIX_BITS, differ)
            found.append(replace(worth, abstains=exponent))
        return min(found, key=lambda candidate: candidate.rank)

    def price(self, worth: Candidate) -> float:
        """How many errors one bit of a surrogate is worth, over ``ln 2``.

        Of ``p + d``, where ``p`` is the bound of ``q`` errors at ``kl(q, p) = bits ln2 / m`` and ``d`` the rate of
        disagreements, an error less saves 1 in ``m d``, and where it was an answer also ``dp/dq``.
        """
        size = len(self.sample)
        q = min(max(worth.errors / size, 1e-6), 0.9)
        p = min(max(occam_bound(worth.errors, size, worth.message_bits, self.delta).binomial, q * 1.01), 0.99)
        slope = (p - q) / (p * (1 - p))
        answered = min(1.0, q / max(worth.bound - p, 1e-9))
        return 1 / slope / (1 + answered * math.log(p * (1 - q) / (q * (1 - p))) / slope)

    def worth(self, errors: int, bits: int, disagreements: int | None = None) -> Candidate:
        """What these counts on the training sample say."""
        bound = occam_bound(errors, len(self.sample), bits, self.delta).binomial
        if self.original is not None and disagreements is not None:
            size = self.original.num_unlabelled
            predicted = min(size, math.ceil(size * disagreements / len(self.sample)))
            bound = disagreement_bound(bound, predicted, size, self.original.delta)
        return Candidate("", errors, bits, bound, 0.0, disagreements is not None)
