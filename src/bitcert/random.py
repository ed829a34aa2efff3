"""Named random streams: the only place random numbers come from.

``stream(seed, "purpose")`` depends on both and on nothing else, so adding a consumer never changes another one's
numbers. Decoders may use only numpy's Philox bit stream (stable across versions and machines), not its distributions.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def _key(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16], "big")


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A numpy generator for one purpose.

    >>> int(stream(0, "order").integers(100)) == int(stream(0, "order").integers(100))
    True
    """
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose)))


def torch_stream(seed: int, purpose: str) -> torch.Generator:
    """A torch CPU generator for one purpose."""
    return torch.Generator().manual_seed(_key(seed, purpose) >> 65)
