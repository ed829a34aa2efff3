"""The split of a sample into a prior part, which the helper may depend on, and the rest, on which errors are counted.

``S = S_1 u S_2``, divided by a fraction and a seed that were declared before anything was looked at (docs/theory.md
section 2, data-dependent helper). Given ``S_1``, the rest is still an i.i.d. sample of size ``m - |S_1|``, so every
bound holds with errors and size counted on the rest only. Which examples go where depends on the number of examples,
the fraction and the seed alone: those with the smallest words of a Philox stream are the prior part, in the order of
the data.

Not guaranteed: that fraction and seed were chosen before the data were seen. A seed chosen because its split gave a
better number is a choice after the fact that no bits pay for; the certificate therefore names both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np

from bitcert.data.sample import Role, Sample
from bitcert.errors import InputError
from bitcert.random import stream

PURPOSE = "prior split"
"""Name of the random stream that divides the sample."""

PRIOR_KEYS = frozenset({"fraction", "seed", "samples", "hash", "rest_hash"})
"""What a certificate says of the split."""


@dataclass(frozen=True, eq=False)
class PriorSplit:
    """A declared split with its two parts; :meth:`of` makes it from the whole sample.

    Attributes:
        fraction: of the examples that the helper may depend on, strictly between 0 and 1.
        seed: of the stream that divides; 0 unless the user declared another one beforehand.
        full: the whole sample, which the certificate names.
        prior: the part that the helper may depend on in any way.
        rest: the part that errors are counted on; every compressor gets this one.
        helper_classifier: raw inputs -> logits of the network trained on the prior part, for the line that says what
            holding out the rest would have told; ``None`` where the helper string itself holds that network.
    """

    fraction: float
    seed: int
    full: Sample
    prior: Sample
    rest: Sample
    helper_classifier: Callable[[Any], Any] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, sample: Sample, fraction: float, seed: int = 0) -> PriorSplit:
        """Divide ``sample``; see :func:`split_prior`."""
        prior, rest = split_prior(sample, fraction, seed)
        return cls(float(fraction), int(seed), sample, prior, rest)

    def with_helper(self, classifier: Callable[[Any], Any]) -> PriorSplit:
        """The same split, knowing the network that was trained on the prior part."""
        return replace(self, helper_classifier=classifier)

    def describe(self) -> dict[str, object]:
        """What a certificate says of it, as JSON values."""
        return {
            "fraction": self.fraction,
            "seed": self.seed,
            "samples": len(self.prior),
            "hash": self.prior.content_hash,
            "rest_hash": self.rest.content_hash,
        }


def prior_mask(num_samples: int, fraction: float, seed: int) -> np.ndarray:
    """Which of ``num_samples`` examples are the prior part, ``[num_samples]`` bool.

    Raises:
        InputError: a fraction or a seed out of range, or a part that would be empty.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, Real) or not 0.0 < float(fraction) < 1.0:
        got = repr(fraction)[:100]
        raise InputError("a fraction for the prior part strictly between 0 and 1", got, "choose for instance 0.5")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise InputError("a seed of the prior split of 0 or more", repr(seed)[:100], "use 0")
    # The decimal that was written: 0.29 of 100 examples are 29.
    count = math.floor(Fraction(repr(float(fraction))) * num_samples)
    if not 0 < count < num_samples:
        got = f"{count} of {num_samples} in the prior part"
        raise InputError("a prior part and a rest with examples in both", got, "choose another fraction or more data")
    # Only raw words of the generator: numpy may change its shuffles, and a stranger must find the same split.
    words = stream(int(seed), PURPOSE).bit_generator.random_raw(num_samples)
    mask = np.zeros(num_samples, bool)
    mask[np.argsort(words, kind="stable")[:count]] = True
    return mask


def split_prior(sample: Sample, fraction: float, seed: int = 0) -> tuple[Sample, Sample]:
    """Divide a training sample into the prior part and the rest, each in the order of the data.

    Args:
        sample: the whole training sample.
        fraction: of the examples that go to the prior part (rounded down), strictly between 0 and 1.
        seed: declared before the data were looked at; 0 unless there is a reason.

    Returns:
        The prior part in the role ``PRIOR`` and the rest in the role ``TRAIN``.

    Raises:
        InputError: a fraction or seed out of range, or a part without examples of two classes.

    >>> whole = Sample(np.eye(30, dtype=np.float32), np.arange(30) % 2, 2, Role.TRAIN, "toy")
    >>> prior, rest = split_prior(whole, 0.3)
    >>> len(prior), len(rest), prior.name, rest.role.value
    (9, 21, 'toy (prior part)', 'train')
    """
    mask = prior_mask(len(sample), fraction, seed)
    base = sample if sample.role is Role.TRAIN else sample.with_role(Role.TRAIN)
    rest = base.take(~mask, f"{sample.name} (rest)")
    return base.take(mask, f"{sample.name} (prior part)").with_role(Role.PRIOR), rest
