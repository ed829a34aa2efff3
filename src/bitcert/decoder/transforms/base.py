"""What a transform is: how quantised coefficients become one weight tensor of the decoded network.

A message of family 4 (:mod:`bitcert.decoder.tensors`) describes each tensor of the architecture as
``base + expand(coefficients, helper numbers)``. A transform knows nothing of how coefficients were chosen, quantised or
entropy-coded: it maps integers times coded steps, and random numbers that the decoder can draw again, to a float64
array. The same bytes must give the same float32 weights on every machine and with any number of threads; so a
transform adds *integers* (exact in int64, or in float64 below 2^53) and multiplies by the step once at the end, and its
random numbers come from :class:`Draws` only. Not guaranteed here: that the weights are close to anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.coding import step_size
from bitcert.decoder.transforms.normal import normal_integers
from bitcert.errors import malformed
from bitcert.random import stream

Integers = NDArray[np.int64]
Values = NDArray[np.float64]
Shape = tuple[int, ...]
Settings = tuple[int, ...]

WORD_BITS = 64
MAX_EXPANSION = 1 << 35
"""Most elementary operations (about a nanosecond each) that decoding one message may take, all tensors together."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Quantised numbers: ``integers * 2^(exponent / 4)``.

    Args:
        integers: int64, of the shape the transform asks for.
        exponent: of the step, see :func:`bitcert.coding.step_size`.
    """

    integers: Integers
    exponent: int

    @property
    def step(self) -> float:
        """The quantisation step."""
        return step_size(self.exponent)

    @property
    def values(self) -> Values:
        """The numbers themselves, float64."""
        return self.integers.astype(np.float64) * self.step


Arrays = tuple[Coefficients, ...]


@dataclass(frozen=True)
class Target:
    """The tensor to be made.

    Args:
        name, shape, kind: as in the architecture's :class:`~bitcert.network.ParameterSpec`.
        positions: sizes of the output map of the convolution that uses it, ``()`` for anything else.
        place: number of the tensor in the message. It names the tensor's random numbers, because a name that its maker
            chose freely would be a seed that costs no bits.
    """

    name: str
    shape: Shape
    kind: str
    positions: Shape = ()
    place: int = 0

    def draws(self, seed: int) -> Draws:
        """The helper's random numbers for this tensor in a message of this seed."""
        return Draws(seed, f"tensor {self.place}")

    @property
    def size(self) -> int:
        """Number of entries."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """``(rows, columns)`` of the tensor as a matrix: the first axis, and all the others."""
        rows = self.shape[0] if self.shape else 1
        return rows, self.size // max(rows, 1)


@dataclass(frozen=True)
class Draws:
    """Random numbers that the decoder draws again, by name: the message's seed, the tensor, the purpose."""

    seed: int
    tensor: str

    def generator(self, purpose: str) -> np.random.Generator:
        """The Philox stream of a purpose; only ``bit_generator.random_raw`` of it is stable enough for decoding."""
        return stream(self.seed, f"helper/{purpose}/{self.tensor}")

    def words(self, purpose: str, count: int) -> NDArray[np.uint64]:
        """The first ``count`` words of 64 random bits of a stream."""
        return np.asarray(self.generator(purpose).bit_generator.random_raw(count), dtype=np.uint64)

    def normal(self, purpose: str, count: int) -> NDArray[np.int64]:
        """Standard normal numbers in units of ``2^-12``, ``[count]``; see :mod:`bitcert.decoder.transforms.normal`."""
        return normal_integers(self.words(purpose, -(-count // 4)))[:count]

    def normal_rows(self, purpose: str, count: int, width: int, most: int) -> Iterator[tuple[slice, Integers]]:
        """The numbers of :meth:`normal` as ``[count, width]`` in blocks of ``most`` rows, each with its place.

        A word holds four numbers, so ``most`` is a multiple of four: every block begins with a whole word.
        """
        bits = self.generator(purpose).bit_generator
        for start in range(0, count, most):
            rows = min(most, count - start)
            words = np.asarray(bits.random_raw(-(-rows * width // 4)), dtype=np.uint64)
            yield slice(start, start + rows), normal_integers(words)[: rows * width].reshape(rows, width)

    def signs(self, purpose: str, count: int) -> Integers:
        """Fair signs ±1, ``[count]``; see :func:`signs_of`."""
        return signs_of(self.words(purpose, -(-count // WORD_BITS)))[:count].astype(np.int64)

    def sign_rows(self, purpose: str, count: int, width: int, most: int) -> Iterator[Values]:
        """Fair signs ``[count, width]`` (float64) in blocks of about ``most`` signs; each row begins a word."""
        bits = self.generator(purpose).bit_generator
        words = -(-width // WORD_BITS)
        block = max(1, most // (words * WORD_BITS))
        for start in range(0, count, block):
            rows = min(block, count - start)
            drawn = np.asarray(bits.random_raw(rows * words), dtype=np.uint64)
            yield signs_of(drawn).reshape(rows, words * WORD_BITS)[:, :width].astype(np.float64)


def signs_of(words: NDArray[np.uint64]) -> NDArray[np.int8]:
    """``[64 * words]`` signs from the bits of each word, lowest first; a set bit is -1."""
    bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), bitorder="little")
    return 1 - 2 * bits.astype(np.int8)


class Transform:
    """One way to make a tensor; stateless, and registered under a number in ``registry.TRANSFORMS``.

    ``settings`` are non-negative integers of the message (a rank, a number of projections, ...). ``local`` says that
    :meth:`expand` returns one filter per output position, ``[positions, *shape]``, for a locally connected layer.
    """

    name: ClassVar[str]
    num_settings: ClassVar[int] = 0
    operations_per_entry: ClassVar[int] = 0
    local: ClassVar[bool] = False

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """Shapes of the coefficient arrays.

        Raises:
            DecodeError: settings that make no sense for this tensor, or an expansion beyond the limits. It is called
                before anything is allocated, with settings from a stranger.
        """
        raise NotImplementedError

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`, for settings that :meth:`shapes` accepts; 0 for next to nothing."""
        return self.operations_per_entry * target.size

    def check_cost(self, target: Target, settings: Settings) -> None:
        """Refuse an expansion that would take too long.

        Raises:
            DecodeError: more than :data:`MAX_EXPANSION` operations.
        """
        operations = self.operations(target, settings)
        if operations > MAX_EXPANSION:
            raise malformed(f"at most {MAX_EXPANSION:,} operations to decode {target.name}", f"{operations:,}")

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The tensor before its base is added, float64 of ``target.shape`` (or ``[positions, *shape]``)."""
        raise NotImplementedError
