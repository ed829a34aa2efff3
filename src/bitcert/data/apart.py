"""Which examples two samples have in common, or one has twice: an example in two roles breaks what rests on them."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bitcert.data.sample import Sample
from bitcert.errors import SampleReuseError


def count_shared_examples(a: Sample, b: Sample) -> int:
    """How many examples of ``a`` have an identical input (labels ignored, same dtype and shape) in ``b``.

    >>> from bitcert.data.sample import Role
    >>> a = Sample(np.array([[1], [2], [2]], np.uint8), np.array([0, 1, 1]), 2, Role.TRAIN, "a")
    >>> b = Sample(np.array([[2], [9]], np.uint8), np.array([0, 1]), 2, Role.HOLDOUT, "b")
    >>> count_shared_examples(a, b), count_shared_examples(b, a)
    (2, 1)
    """
    return int(np.count_nonzero(np.isin(_as_integers(a), _as_integers(b))))


def repeated_fraction(sample: Sample) -> float:
    """Fraction of the examples whose input occurs more than once: how often a new draw repeats an old one.

    >>> from bitcert.data.sample import Role
    >>> repeated_fraction(Sample(np.array([[1], [2], [2], [3]], np.uint8), np.array([0, 1, 1, 0]), 2, Role.TRAIN, "a"))
    0.5
    """
    _, counts = np.unique(_as_integers(sample), return_counts=True)
    return 1.0 - float(np.count_nonzero(counts == 1)) / len(sample)


def check_apart(*samples: Sample, repeats: bool = False) -> None:
    """Refuse samples that have an example in common: each example has one role.

    Two samples have an example in common if an input of one equals one of the other, number by number, whatever type
    the numbers are stored in and whatever the labels. One is too many: that an independent draw would repeat an
    example cannot be told from a copy.

    With ``repeats``, where no guarantee rests on it: tables repeat themselves, and leaving such rows out of one sample
    would make it one of another source. As many are allowed as the larger sample's own repetitions make likely, and
    four standard deviations more; where it does not repeat itself, as with images, one is too many.

    Not guaranteed: data that were changed (rescaled, augmented) are not recognised.

    Raises:
        SampleReuseError: naming the two samples, their roles, and how many examples they share.
    """
    for a, b in combinations(samples, 2):
        if a.input_shape != b.input_shape:
            continue
        small, large = (a, b) if len(a) <= len(b) else (b, a)
        shared = count_shared_examples(*of_one_type(small, large))
        likely = len(small) * repeated_fraction(large) if shared and repeats else 0.0
        if shared > likely + 4 * math.sqrt(likely * (1 + len(small) / len(large))):
            roles = ", ".join(dict.fromkeys((a.role.value, b.role.value)))
            most = f"at most about {likely:.0f} examples, as by chance," if likely >= 1 else "no example"
            expected = f"{most} in two samples ({roles})"
            got = f"{shared:,} of the {len(small):,} examples of {small.name!r} inside {large.name!r}"
            do = "leave the shared examples out of one of them before anything is trained"
            raise SampleReuseError(expected, got, do)


def of_one_type(*samples: Sample) -> tuple[Sample, ...]:
    """The samples, as float32 where some are bytes and others are not: equal numbers are then equal examples."""
    if len({sample.inputs.dtype for sample in samples}) == 1:
        return samples
    return tuple(sample.as_floats() for sample in samples)


def _as_integers(sample: Sample) -> NDArray[np.uint64]:
    # Half of the 128 bits keeps numpy's sort fast; chance collisions at a million examples are below 1e-7.
    return sample.example_hashes.view("<u8").reshape(-1, 2)[:, 0]
