"""The subspace section: all tensors that are members are one vector ``theta = base + scale * P w``.

``w`` are ``D`` integers times one coded step, ``P [N, D]`` has entries +1, -1 (and 0) drawn from the helper's streams,
and each tensor has a scale ``2^(s/4)`` with a coded integer ``s``, so that layers of any width can move equally.
Source: Li, Farkhoor, Liu & Yosinski 2018 (intrinsic dimension); Lotfi, Finzi, Kapoor, Potapczynski, Goldblum & Wilson
2022 (Kronecker-type P, codes of the coordinates as certificates); the sparse P is the hashing of Chen et al. 2015.

| kind | P | cost of ``P w`` |
| --- | --- | --- |
| 0 dense | independent signs, streamed | ``N D`` |
| 1 kronecker | ``A (x) B``, two random sign factors | ``N sqrt D`` |
| 2 hadamard | row signs times D random columns of the Hadamard matrix of order ``2^k >= N`` | ``N log N`` |
| 3 sparse | one random sign in each row, columns equally full | ``N`` |

Settings: ``(kind, D, allocation)``. Allocation 0: one P for all tensors. 1: each tensor has its own P and a part of w
proportional to the square root of its size (at most its size), so that small layers are not drowned.

Sums are of integers, exact in int64 or in float64 below 2^53. Not guaranteed: that any good network lies in the
subspace; D is a choice, no count that a theorem derives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from bitcert.coding import step_size
from bitcert.coding.steps import MAX_EXPONENT
from bitcert.decoder.transforms.base import MAX_EXPANSION, Arrays, Draws, Integers, Settings, Shape, Values
from bitcert.decoder.transforms.hadamard import padded_size, transform
from bitcert.errors import malformed

NUM_SETTINGS = 3
MAX_DIMENSION = 1 << 24
"""With integers below 2^24 all sums stay below 2^53."""
MAX_SIGNS = 1 << 33
"""Most signs that a dense P may stream."""
_BLOCK_SIGNS = 1 << 22


class Kind(IntEnum):
    """How P is made; the number is coded."""

    DENSE = 0
    KRONECKER = 1
    HADAMARD = 2
    SPARSE = 3


class Allocation(IntEnum):
    """Which coordinates move which tensor; the number is coded."""

    SHARED = 0
    PER_TENSOR = 1


@dataclass(frozen=True)
class Block:
    """A part ``P_b [size, dimension]`` on the diagonal of P.

    Attributes:
        index: position, which names the block's random streams.
        size: rows.
        dimension: columns; 0 for a tensor that stays at its base.
        kind: see :class:`Kind`.
    """

    index: int
    size: int
    dimension: int
    kind: Kind

    @property
    def rows(self) -> Shape:
        """Kronecker: rows ``(a, b)`` of the two factors, ``a b >= size``."""
        a = max(1, _ceil_sqrt(self.size))
        return a, -(-self.size // a)

    @property
    def columns(self) -> Shape:
        """Kronecker: columns ``(p, q)`` of the two factors, ``p q >= dimension``."""
        p = max(1, _ceil_sqrt(self.dimension))
        return p, -(-self.dimension // p)

    @property
    def order(self) -> int:
        """Hadamard: the power of two."""
        return padded_size(max(self.size, self.dimension, 1))


def blocks(sizes: tuple[int, ...], settings: Settings) -> tuple[Block, ...]:
    """The diagonal blocks of P: one for all tensors, or one a tensor.

    >>> [block.dimension for block in blocks((400, 100, 1), (3, 31, 1))]
    [20, 10, 1]

    Raises:
        DecodeError: an unknown kind or allocation, no dimensions, more than there are weights, or too costly a P.
    """
    number, dimension, allocation = settings
    total = sum(sizes)
    if number not in tuple(Kind) or allocation not in tuple(Allocation):
        raise malformed("a kind of subspace that this version knows", f"number {number}, allocation {allocation}")
    if not 1 <= dimension <= min(total, MAX_DIMENSION):
        raise malformed(f"a subspace of 1 to {min(total, MAX_DIMENSION):,} dimensions", f"{dimension:,}")
    kind = Kind(number)
    if allocation == Allocation.SHARED:
        parts: tuple[Block, ...] = (Block(0, total, dimension, kind),)
    else:
        # Integer square roots and cumulative rounding: the same parts on every machine.
        ends = np.cumsum([0] + [math.isqrt(size << 20) for size in sizes], dtype=object)
        cuts = [dimension * int(end) // int(ends[-1]) for end in ends]
        widths = [min(size, cuts[k + 1] - cuts[k]) for k, size in enumerate(sizes)]
        parts = tuple(Block(k, size, width, kind) for k, (size, width) in enumerate(zip(sizes, widths, strict=True)))
    _check(parts)
    return parts


def _check(parts: tuple[Block, ...]) -> None:
    """The blocks together, because a stranger's message may have many."""
    signs = sum(block.size * block.dimension for block in parts if block.kind is Kind.DENSE)
    if signs > MAX_SIGNS:
        raise malformed(f"at most {MAX_SIGNS:,} signs of a dense subspace", f"{signs:,}")
    cost = sum(map(_cost, parts))
    if cost > MAX_EXPANSION:
        raise malformed(f"at most {MAX_EXPANSION:,} operations to decode the subspace", f"{cost:,}")


def operations(sizes: tuple[int, ...], settings: Settings) -> int:
    """Elementary operations of :func:`expand`; settings as :func:`shapes` accepts them."""
    return sum(map(_cost, blocks(sizes, settings)))


def _cost(block: Block) -> int:
    """What an expansion takes in nanoseconds, about: signs are streamed, permutations sorted."""
    if block.kind is Kind.DENSE:
        return 4 * block.size * block.dimension
    if block.kind is Kind.KRONECKER:
        (a, b), (p, q) = block.rows, block.columns
        return a * p * q + a * b * q
    if block.kind is Kind.HADAMARD:
        return 32 * block.order * block.order.bit_length()
    return 128 * block.size


def shapes(sizes: tuple[int, ...], settings: Settings) -> tuple[Shape, ...]:
    """Shapes of the coefficient arrays: the coordinates ``[D]``, and a scale exponent per tensor ``[tensors]``.

    Args:
        sizes: entries of each member tensor, in order.
        settings: ``(kind, D, allocation)``, see the module.

    Raises:
        DecodeError: settings that make no sense for these tensors, or an expansion beyond the limits.
    """
    return (sum(block.dimension for block in blocks(sizes, settings)),), (len(sizes),)


def expand(sizes: tuple[int, ...], settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
    """The vector ``scale * P w``, float64 ``[sum(sizes)]``.

    Args:
        sizes, settings: as for :func:`shapes`.
        coefficients: the coordinates and their step; scale exponents in quarter octaves (their own step is not used).
        draws: the helper's random numbers of the section.

    Raises:
        DecodeError: a scale beyond the range of steps.
    """
    coordinates, scales = coefficients
    exponents = scales.integers
    if np.abs(exponents).max(initial=0) > MAX_EXPONENT:
        raise malformed(f"scale exponents within ±{MAX_EXPONENT}", str(int(np.abs(exponents).max())))
    vector = np.empty(sum(sizes), dtype=np.int64)
    row = column = 0
    for block in blocks(sizes, settings):
        part = coordinates.integers[column : column + block.dimension]
        vector[row : row + block.size] = expand_block(block, part, draws)
        row, column = row + block.size, column + block.dimension
    steps = np.repeat([step_size(int(e)) for e in exponents], sizes)
    return vector.astype(np.float64) * (steps * coordinates.step)


def expand_block(block: Block, integers: Integers, draws: Draws) -> Integers:
    """``P_b w`` exactly, int64 ``[size]``."""
    if not block.dimension or not block.size or not integers.any():
        return np.zeros(block.size, dtype=np.int64)
    if block.kind is Kind.DENSE:
        weights = integers.astype(np.float64)
        return np.concatenate([signs @ weights for signs in dense_rows(block, draws)]).astype(np.int64)
    if block.kind is Kind.KRONECKER:
        left, right = kronecker_factors(block, draws)
        core = np.zeros(math.prod(block.columns), dtype=np.float64)
        core[: block.dimension] = integers
        product = (left @ core.reshape(block.columns)) @ right.T
        return product.ravel()[: block.size].astype(np.int64)
    if block.kind is Kind.HADAMARD:
        columns, flips = hadamard_parts(block, draws)
        values = np.zeros(block.order)
        values[columns] = integers
        return transform(values)[: block.size].astype(np.int64) * flips
    columns, flips = sparse_parts(block, draws)
    return integers[columns] * flips


def dense_rows(block: Block, draws: Draws) -> Iterator[Values]:
    """The rows of a dense P in chunks ``[rows, dimension]`` of ±1 (float64), never all at once."""
    return draws.sign_rows(f"dense/{block.index}", block.size, block.dimension, _BLOCK_SIGNS)


def kronecker_factors(block: Block, draws: Draws) -> tuple[Values, Values]:
    """The sign factors ``A [a, p]`` and ``B [b, q]``, float64."""
    factors = []
    for name, rows, columns in zip("ab", block.rows, block.columns, strict=True):
        signs = draws.signs(f"kronecker/{name}/{block.index}", rows * columns)
        factors.append(signs.astype(np.float64).reshape(rows, columns))
    return factors[0], factors[1]


def hadamard_parts(block: Block, draws: Draws) -> tuple[Integers, Integers]:
    """Which columns of the Hadamard matrix ``[dimension]``, and the sign of each row ``[size]``."""
    order = _permutation(draws, f"hadamard/columns/{block.index}", block.order)
    return order[: block.dimension], draws.signs(f"hadamard/signs/{block.index}", block.size)


def sparse_parts(block: Block, draws: Draws) -> tuple[Integers, Integers]:
    """The column ``[size]`` and the sign ``[size]`` of each row's entry; columns differ by at most one entry."""
    columns = np.empty(block.size, dtype=np.int64)
    order = _permutation(draws, f"sparse/columns/{block.index}", block.size)
    columns[order] = np.arange(block.size) % block.dimension
    return columns, draws.signs(f"sparse/signs/{block.index}", block.size)


def _permutation(draws: Draws, purpose: str, count: int) -> Integers:
    return np.argsort(draws.words(purpose, count), kind="stable").astype(np.int64)


def _ceil_sqrt(number: int) -> int:
    return math.isqrt(max(number, 1) - 1) + 1
