"""Products with i.i.d. sign arrays that are drawn again each time and never stored (Matrix-Project, Arora 2018 Alg. 1).

The helper's ``M_1 .. M_k`` are uniform sign arrays of ``N`` entries. Sixteen of them at a time are one *block*: bit
``i`` (least significant first) of the 16-bit number ``n`` of the stream ``signs/<block>`` is entry ``n`` of array ``16
block + i``; a set bit is ``+1``. Sixteen signs at one position are then one index:

    sum_j c_j M_j [n]  =  sum over blocks of table_block[index_n],  table_block[b] = sum_i ±c_(16 block + i)
    <A, M_j>           =  sum_b ±(sum of A_n over the positions n with index b)

one table look-up, or one addition into a histogram, for sixteen multiply-adds (for small tensors, where a table of
65,536 entries would cost more than it saves, two with tables of 256 for eight each). The first adds integers only and
is exact, whatever the number of threads; the second is exact for integers whose magnitudes sum to less than 2^53 and
else float64. Cost: ``N k / 16`` look-ups and ``N k / 64`` random words. Source: Arora 2018 Alg. 1; docs/theory.md 3.2.
NOT provided: anything about how large ``k`` must be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.decoder.transforms.base import Draws, Integers, Values

BLOCK = 16
"""Sign arrays of one block: as many as the widest look-up table has index bits."""
_LARGE = 1 << 15
"""Entries from which a tensor is worth wide tables and several threads."""
_BLOCK_LOOKUPS = 1 << 12
"""What starting the stream of a block costs, in look-ups."""
_CHUNK = 1 << 18
"""Positions looked up at a time: bounds the memory of the widened indices."""
_MAX_THREADS = 4
T = TypeVar("T")


def num_lookups(num_arrays: int, size: int) -> int:
    """Look-ups of one product with ``num_arrays`` arrays of ``size`` entries; making tables counts as looking up."""
    bits = _index_bits(size)
    return -(-num_arrays // BLOCK) * (BLOCK // bits * (size + (1 << bits)) + _BLOCK_LOOKUPS)


def _index_bits(size: int) -> int:
    return 16 if size >= _LARGE else 8


def block_indices(draws: Draws, block: int, size: int) -> NDArray[np.uint16]:
    """The indices of one block, ``[size]``."""
    words = draws.words(f"signs/{block}", -(-size // 4))
    return words.astype("<u8", copy=False).view("<u2")[:size]


def sign_array(draws: Draws, number: int, size: int) -> Integers:
    """One array ``M_number`` (from 0), ``[size]`` of ±1; slow, for tests and for reading."""
    bits = block_indices(draws, number // BLOCK, size) >> (number % BLOCK) & 1
    return 2 * bits.astype(np.int64) - 1


def weighted_sum(draws: Draws, coefficients: Integers, size: int) -> Integers:
    """``sum_j c_j M_j``, exactly, ``[size]`` int64.

    Args:
        draws: of the tensor.
        coefficients: ``[k]`` int64 with ``sum |c_j| < 2^63``.
        size: entries ``N`` of an array.

    >>> draws = Draws(0, "doctest")
    >>> weighted_sum(draws, np.array([5]), 3).tolist() == (5 * sign_array(draws, 0, 3)).tolist()
    True
    """
    blocks = range(-(-len(coefficients) // BLOCK))
    padded = np.zeros(len(blocks) * BLOCK, dtype=np.int64)
    padded[: len(coefficients)] = coefficients
    total = int(np.abs(coefficients).max(initial=0)) * len(coefficients)
    # a sum that cannot leave 32 bits needs half the memory traffic
    dtype = np.int32 if total < 1 << 31 else np.int64
    bits = _index_bits(size)

    def part(own: Sequence[int]) -> NDArray[np.signedinteger]:
        found: NDArray[np.signedinteger] = np.zeros(size, dtype)
        looked_up = np.empty(min(_CHUNK, size), dtype)
        for block in own:
            indices = _narrowed(block_indices(draws, block, size), bits)
            for place in range(BLOCK // bits):
                first = block * BLOCK + place * bits
                table = _table(padded[first : first + bits], dtype)
                for start in range(0, size, _CHUNK):
                    chunk = indices[start : start + _CHUNK, place]
                    out = looked_up[: len(chunk)]
                    # "clip" skips a pass over the indices; none ever leaves the table
                    np.take(table, chunk, out=out, mode="clip")
                    running = found[start : start + _CHUNK]
                    np.add(running, out, out=running)
        return found

    result = np.zeros(size, dtype=np.int64)
    for found in _in_parts(part, blocks, size):
        result += found
    return result


def _narrowed(indices: NDArray[np.uint16], bits: int) -> NDArray[np.unsignedinteger]:
    """The indices cut into numbers of ``bits`` bits, ``[size, 16 / bits]``, those of the first arrays first."""
    return indices[:, None] if bits == 16 else indices.view(np.uint8).reshape(-1, 2)


def _table(coefficients: Integers, dtype: type[np.signedinteger]) -> NDArray[np.signedinteger]:
    """``sum_i ±c_i`` for every index, ``[2^len(c)]``: signs from the bits, the first coefficient from the lowest."""
    octets = np.arange(256)[:, None] >> np.arange(8) & 1
    low, *high = ((2 * octets - 1) @ part for part in np.split(coefficients, len(coefficients) // 8))
    return (np.add.outer(high[0], low).ravel() if high else low).astype(dtype)


def inner_products(draws: Draws, values: Values, num_arrays: int) -> Values:
    """``<values, M_j>`` for ``j < num_arrays``, float64 ``[num_arrays]``.

    Exact when ``values`` are integers whose magnitudes sum to less than 2^53; else rounded as float64 sums are.

    Args:
        draws: of the tensor.
        values: float64, any shape; ``N`` entries.
        num_arrays: ``k``.
    """
    flat = np.ascontiguousarray(values, dtype=np.float64).ravel()

    blocks, bits = range(-(-num_arrays // BLOCK)), _index_bits(len(flat))
    result = np.zeros((len(blocks), BLOCK // bits, bits))

    def part(own: Sequence[int]) -> None:
        for block in own:
            indices = _narrowed(block_indices(draws, block, len(flat)), bits)
            for place in range(BLOCK // bits):
                result[block, place] = _histogram_products(indices[:, place], flat, bits)

    _in_parts(part, blocks, len(flat))
    return result.ravel()[:num_arrays]


def _histogram_products(indices: NDArray[np.unsignedinteger], values: Values, bits: int) -> Values:
    """``bits`` inner products from the histogram of the indices: fold it in half once for every bit."""
    histogram = np.bincount(indices, values, 1 << bits)
    found = np.empty(bits)
    for bit in reversed(range(bits)):
        below, above = histogram[: 1 << bit], histogram[1 << bit :]
        found[bit] = above.sum() - below.sum()
        histogram = above + below
    return found


def _in_parts(work: Callable[[Sequence[int]], T], blocks: Sequence[int], size: int) -> list[T]:
    """``work`` on shares of the blocks, one a thread; numpy lets go of the interpreter where the time is spent."""
    threads = max(1, min(torch.get_num_threads(), _MAX_THREADS, len(blocks))) if size >= _LARGE else 1
    shares = [blocks[first::threads] for first in range(threads)]
    if threads == 1:
        return [work(shares[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, shares))
