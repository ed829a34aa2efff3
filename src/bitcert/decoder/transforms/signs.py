"""Matrix-Project with i.i.d. signs (Arora 2018 Alg. 1): coefficients ``c_j = <A, M_j>`` -> a tensor.

The helper's ``M_1 .. M_k`` are uniform sign arrays of ``N`` entries, drawn again each time and never stored. Sixteen of
them at a time are one *block*: bit ``i`` (least significant first) of the 16-bit number ``n`` of the stream
``signs/<block>`` is entry ``n`` of array ``16 block + i``; a set bit is ``+1``. Sixteen signs at one position are then
one index:

    sum_j c_j M_j [n]  =  sum over blocks of table_block[index_n],  table_block[b] = sum_i ±c_(16 block + i)
    <A, M_j>           =  sum_b ±(sum of A_n over the positions n with index b)

one table look-up, or one addition into a histogram, for sixteen multiply-adds (for small tensors, where a table of
65,536 entries would cost more than it saves, two with tables of 256 for eight each). The first adds integers only and
is exact, whatever the number of threads; the second is exact for integers whose magnitudes sum to less than 2^53 and
else float64. Cost: ``N k / 16`` look-ups and ``N k / 64`` random words.

Settings ``(k, decoder)``.

* decoder 0, the paper's average ``(1/k) sum_j c_j M_j``: unbiased, ``E (A_hat - A)_ab^2 = (||A||_F^2 - A_ab^2) / k``
  for exact coefficients.
* decoder 1, least squares: the tensor of least norm with ``<X, M_j> = c_j`` for all ``j``, ``X = M^T (M M^T)^-1 c``;
  the orthogonal projection of ``A`` onto the span of the ``M_j``, so ``E ||X - A||_F^2 = (1 - k/N) ||A||_F^2``.

Least squares is solved by the Chebyshev iteration on ``G y = c / N``, ``G = M M^T / N``, whose spectrum fills
``[(1 - r)^2, (1 + r)^2]`` with ``r = sqrt(k/N)`` (Marchenko-Pastur; ``r`` is widened by ``N^(-1/2)``, more than the
edges fluctuate). Its error is at most ``2 r^t`` of ``||X||`` after ``t`` steps; :func:`num_steps` follows from ``k``
and ``N`` alone and makes that 2^-12: 6 steps at ``k/N`` = 1/30, 14 at 1/4, 27 at 1/2. ``y`` is rounded to integers
after each step, all products with ``M`` are exact sums of integers, everything else is elementwise IEEE arithmetic:
the same bits everywhere. NOT promised: the accuracy, for the few draws of small ``M`` that have a singular value
outside the widened interval (``A_hat`` is then another estimate, still the same on every machine).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.decoder.transforms.base import Arrays, Draws, Integers, Settings, Shape, Target, Transform, Values
from bitcert.errors import malformed

AVERAGE, LEAST_SQUARES = 0, 1
DECODERS = (AVERAGE, LEAST_SQUARES)
MAX_PROJECTIONS = 1 << 20
MAX_SIZE = 1 << 24
OPERATIONS_PER_LOOKUP = 4
"""Drawing, looking up and adding sixteen signs takes about 4 ns a position."""
_ACCURACY = 2.0**-12
_MAX_RATIO = 0.95
_EXACT = 1 << 53
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


def weighted_sum(draws: Draws, coefficients: Integers, size: int) -> Integers:
    """``sum_j c_j M_j``, exactly, ``[size]`` int64.

    Args:
        draws: of the tensor.
        coefficients: ``[k]`` int64 with ``sum |c_j| < 2^63``.
        size: entries ``N`` of an array.

    >>> weighted_sum(Draws(0, "doctest"), np.array([5]), 3)
    array([ 5, -5,  5])
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


class Signs(Transform):
    """``A_hat`` from ``k`` inner products with sign arrays; coefficients ``[k]``."""

    name: ClassVar[str] = "signs"
    num_settings: ClassVar[int] = 2

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """``([k],)``.

        Raises:
            DecodeError: no or too many projections, an unknown decoder, or too much work.
        """
        count, decoder = settings
        if not 1 <= count <= MAX_PROJECTIONS or not 1 <= target.size <= MAX_SIZE:
            raise malformed(f"1 to {MAX_PROJECTIONS:,} projections of {target.name}", f"{count:,}")
        if decoder not in DECODERS:
            raise malformed("decoder 0 or 1 of a projection", f"{decoder}")
        if decoder == LEAST_SQUARES and not solvable(count, target.size):
            raise malformed(f"fewer projections than {target.name} has entries", f"{count:,} of {target.size:,}")
        self.check_cost(target, settings)
        return ((count,),)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return num_operations(settings[0], settings[1], target.size)

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The tensor, float64."""
        (count, decoder), (code,) = settings, coefficients
        if decoder == AVERAGE:
            total = weighted_sum(draws, code.integers, target.size)
            return (total.astype(np.float64) * (code.step / count)).reshape(target.shape)
        solution, unit = least_norm(draws, code.integers, target.size)
        return (solution.astype(np.float64) * (code.step * unit)).reshape(target.shape)


def num_operations(count: int, decoder: int, size: int) -> int:
    """Elementary operations of the expansion."""
    passes = 1 if decoder == AVERAGE else 2 * num_steps(count, size) + 1
    return OPERATIONS_PER_LOOKUP * passes * num_lookups(count, size)


def edge_ratio(count: int, size: int) -> float:
    """``sqrt(k/N)`` widened by more than the spectrum's edges fluctuate."""
    return math.sqrt(count / size) + 1.0 / math.sqrt(size)


def solvable(count: int, size: int) -> bool:
    """Whether the least-squares decoder is offered: ``k`` clearly below ``N``, so that few steps are enough."""
    return edge_ratio(count, size) <= _MAX_RATIO


def num_steps(count: int, size: int) -> int:
    """Steps of the Chebyshev iteration until its error is at most 2^-12 of the solution."""
    steps, error, ratio = 1, 2.0 * edge_ratio(count, size), edge_ratio(count, size)
    while error > _ACCURACY:  # no logarithm: another library might round it to another number of steps
        steps, error = steps + 1, error * ratio
    return steps


def least_norm(draws: Draws, integers: Integers, size: int) -> tuple[Integers, float]:
    """The tensor ``X`` of least norm with ``<X, M_j> = integers_j``, as integers ``[size]`` and their unit.

    Raises:
        DecodeError: sums that leave 2^53, which no coefficients of a real tensor make.
    """
    count = len(integers)
    largest = int(np.abs(integers).max(initial=0))
    if not largest:
        return np.zeros(size, dtype=np.int64), 1.0
    ratio = edge_ratio(count, size)
    # |M^T y|_1 <= sqrt(N) ||M|| ||y|| <= 2 N sqrt(k) max|c| / (1 - r)^2 must stay below 2^53
    growth = size * (math.isqrt(count) + 1) * math.ceil(1.0 / ((1.0 - ratio) * (1.0 - ratio)))
    scale = math.ldexp(1.0, 51 - growth.bit_length() - largest.bit_length())
    centre, radius = 1.0 + ratio * ratio, 2.0 * ratio
    wanted = integers.astype(np.float64) * scale
    solution, direction, weight = np.zeros(count), np.zeros(count), 0.0
    residual = wanted
    for step in range(num_steps(count, size)):
        momentum = 0.0 if step == 0 else (0.5 if step == 1 else 0.25) * (radius * weight) * (radius * weight)
        weight = 1.0 / (centre if step == 0 else centre - momentum / weight)
        direction = residual + momentum * direction
        solution = np.rint(solution + weight * direction)
        if not np.abs(solution).max() < _EXACT:
            raise malformed("coefficients that some tensor has", "larger ones")
        product = inner_products(draws, _exact(weighted_sum(draws, solution.astype(np.int64), size)), count)
        residual = wanted - product / size
    return weighted_sum(draws, solution.astype(np.int64), size), 1.0 / (scale * size)


def _exact(values: Integers) -> Values:
    if int(np.abs(values).sum()) >= _EXACT:
        raise malformed("coefficients that some tensor has", "larger ones")
    return values.astype(np.float64)
