"""Normal noise that belongs to an example, not to its batch.

Row ``b`` depends on ``(seed, purpose, index[b], shape)`` and on nothing else, so that neither the batch size nor the
order of the sample nor the number of shards changes a Monte Carlo estimate. Every example has a generator of its own
(Mersenne Twister), seeded by a permutation of the 32-bit integers that starts from the named stream
``(seed, purpose)``: two examples of one purpose never share noise. Numbers are drawn in float32 on the CPU and then
converted, so that a run in float64 or on a GPU sees the same noise.

It does NOT promise equal bits with another version of torch; certificates never depend on these numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bitcert.random import stream

_MASK = 0xFFFFFFFF


def _seeds(seed: int, purpose: str, index: Tensor) -> list[int]:
    """One 32-bit seed for every example; distinct for distinct positions below 2^32."""
    keys = index.to(device="cpu", dtype=torch.int64) + int(stream(seed, purpose).integers(1 << 32))
    keys = keys & _MASK
    # MurmurHash3's finaliser, a bijection: neighbouring positions must not have neighbouring seeds
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        keys = keys ^ (keys >> shift)
        keys = _multiply(keys, factor)
    result: list[int] = (keys ^ (keys >> 16)).tolist()
    return result


def _multiply(keys: Tensor, factor: int) -> Tensor:
    """``keys * factor`` modulo 2^32, in halves because 64 bits are signed."""
    low, high = keys & 0xFFFF, keys >> 16
    return (low * factor + (((high * factor) & 0xFFFF) << 16)) & _MASK


def per_sample_normal(seed: int, purpose: str, index: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Independent N(0, 1) numbers ``[B, *shape]``, float32, on the CPU.

    Args:
        seed: of the run.
        purpose: what the numbers are for; another purpose has independent numbers.
        index: ``[B]`` integers, the position of each example in the whole sample.
        shape: sizes of one example's noise.

    >>> whole = per_sample_normal(0, "test", torch.tensor([3, 4, 5]), (2, 2))
    >>> bool((whole[1:] == per_sample_normal(0, "test", torch.tensor([4, 5]), (2, 2))).all())
    True
    """
    drawn = torch.empty(len(index), math.prod(shape))
    generator = torch.Generator()
    for row, key in zip(drawn, _seeds(seed, purpose, index), strict=True):
        row.normal_(generator=generator.manual_seed(key))
    return drawn.reshape(len(index), *shape)


def noise_like(value: Tensor, draws: int, seed: int, purpose: str, index: Tensor) -> Tensor:
    """``draws`` normal tensors of the shape, type and device of ``value`` ``[B, ...]``: ``[draws, B, ...]``."""
    drawn = per_sample_normal(seed, purpose, index, (draws, *value.shape[1:]))
    return drawn.to(value.device, value.dtype).movedim(1, 0)
