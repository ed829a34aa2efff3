"""Examples drawn at random to measure on, the same ones whoever draws them: by size of the sample, count and seed."""

from __future__ import annotations

import numpy as np

from bitcert.data import Role, Sample
from bitcert.random import stream


def drawn(sample: Sample, count: int, seed: int) -> Sample:
    """``count`` examples without replacement, in the order of the data; the sample itself if it has no more.

    >>> data = Sample(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), 2, Role.TRAIN, "toy")
    >>> len(drawn(data, 3, 0)), drawn(data, 9, 0) is data
    (3, True)
    """
    if count >= len(sample):
        return sample
    chosen = np.sort(stream(seed, "measure/subset").choice(len(sample), count, replace=False))
    name = f"{sample.name} (drawn from {len(sample):,} with seed {seed})"
    # Nothing is proved from it, so it may be of one class only, which a training sample may not.
    return sample.with_role(Role.UNLABELLED).take(chosen, name)
