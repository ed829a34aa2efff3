"""An independent decoder of message headers, ledgers and the head family 2, written from docs/format.md alone.

Section titles of that page stand above the parts that follow them. numpy and Python integers only, nothing of bitcert:
where this file and bitcert disagree, the page, bitcert or this file is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 25
MAX_WEIGHTS = 1 << 22
MAX_SIZE = (1 << 24) - 1


class InvalidMessage(Exception):
    """The bytes are not a message of this format for this problem."""


def require(holds: bool, what: str) -> None:
    """Refuse the message unless the condition holds."""
    if not holds:
        raise InvalidMessage(what)


@dataclass(frozen=True)
class Problem:
    """What the decoder must know: a certificate's ``helper`` states it."""

    input_shape: tuple[int, ...]
    num_classes: int
    classes_inferred: bool

    @property
    def is_image(self) -> bool:
        """Channels, height and width, the last two at least 4."""
        return len(self.input_shape) == 3 and min(self.input_shape[1:]) >= 4


@dataclass(frozen=True, eq=False)
class Head:
    """A decoded message: ``choice`` is the index of the feature set, ``None`` without images."""

    family: int
    choice: int | None
    weights: NDArray[np.int64]
    ledger: list[tuple[str, int]]
    threshold: int | None = None


# Integers


class Bits:
    """The message as a string of bits and the place reached in it."""

    def __init__(self, message: bytes) -> None:
        require(len(message) <= MAX_BYTES, "too long")
        self._length = 8 * len(message)
        self._text = "".join(f"{byte:08b}" for byte in message)
        self.place = 0

    @property
    def left(self) -> int:
        """Bits after the place."""
        return self._length - self.place

    def binary(self, width: int) -> int:
        """``k`` bits."""
        require(width <= self.left, "ends too early")
        self.place += width
        return int(self._text[self.place - width : self.place] or "0", 2)

    def gamma(self) -> int:
        """Elias gamma."""
        zeros = 0
        while not self.binary(1):
            zeros += 1
            require(zeros < 62, "an integer of more than 62 digits")
        return (1 << zeros) + self.binary(zeros)

    def ahead(self, first: int, last: int) -> int:
        """Bits ``first`` to ``last`` after the place as an integer, with zeros after the end of the message."""
        return int(self._text[self.place + first : self.place + last].ljust(last - first, "0"), 2)


# Arithmetic sections


class Section:
    """An arithmetic section that begins at the place reached."""

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        self._low, self._range, self._digits = 0, 2**64 - 1, 64
        self._value = bits.ahead(0, 64)
        self._empty = True

    def flag(self, probability: float) -> bool:
        """The next flag, given its probability of being 1."""
        self._empty = False
        share = math.floor((1 - probability) * 16777214) + 1
        step = self._range // 2**24
        require(0 <= self._value - self._low < step * 2**24, "no flag has this code")
        one = (self._value - self._low) // step >= share
        if one:
            self._low += step * share
            share = 2**24 - share
        self._range = step * share
        if self._range < 2**32:
            self._low, self._range = self._low << 32, self._range << 32
            self._value = self._value << 32 | self._bits.ahead(self._digits, self._digits + 32)
            self._digits += 32
        return one

    def end(self) -> None:
        """Check the canonical end and move past it."""
        if self._empty:
            return
        for length in range(1, self._digits + 1):
            unit = 1 << (self._digits - length)
            content = -(-self._low // unit)
            if (content + 1) * unit <= self._low + self._range:
                require(self._bits.binary(length) == content, "not the canonical end of a section")
                return
        raise InvalidMessage("a section without an end")

    # Lists of flags

    def flags(self, number: int) -> list[bool]:
        """A list of adaptive flags."""
        ones, seen = [0], [0]

        def probability(kind: int) -> float:
            return (2 * ones[kind] + 1) / (2 * seen[kind] + 2)

        return self._blocks([0] * number, probability, ones, seen)

    def rows_in_use(self, groups: Sequence[int]) -> list[bool]:
        """The first list of the row code."""
        used, seen = [0] * (max(groups, default=0) + 1), [0] * (max(groups, default=0) + 1)

        def probability(group: int) -> float:
            all_used, all_seen = sum(used), sum(seen)
            above = used[group] * (all_seen + 16) + 16 * (all_used + 1)
            return above / ((seen[group] + 16) * (all_seen + 16))

        return self._blocks(groups, probability, used, seen)

    def _blocks(
        self, kinds: Sequence[int], probability: Callable[[int], float], ones: list[int], seen: list[int]
    ) -> list[bool]:
        """A list whose probabilities are those before its block; ``ones`` and ``seen`` are kept up to date."""
        found: list[bool] = []
        while len(found) < len(kinds):
            block = kinds[len(found) : len(found) + max(1, len(found) // 16)]
            before = {kind: probability(kind) for kind in set(block)}
            for kind in block:
                found.append(self.flag(before[kind]))
            for kind, one in zip(block, found[-len(block) :], strict=True):
                ones[kind] += one
                seen[kind] += 1
        return found

    # Integer sequences

    def other_than_zero(self, number: int) -> list[int]:
        """The code of integers other than zero."""
        positive = self.flags(number)
        sizes = self._unary(number, 15)
        large = [place for place, size in enumerate(sizes) if size > 15]
        for place, digits in zip(large, self._unary(len(large), 24), strict=True):
            excess = 1
            for _ in range(digits - 1):
                excess = 2 * excess + self.flag(0.5)
            sizes[place] = 15 + excess
        require(max(sizes, default=0) <= MAX_SIZE, "too large an integer")
        return [size if sign else -size for size, sign in zip(sizes, positive, strict=True)]

    def _unary(self, number: int, limit: int) -> list[int]:
        """Numbers from 1 to ``limit + 1``: for t = 1 … limit one list, *larger than t?*, of those still in question."""
        found = [1] * number
        for level in range(1, limit + 1):
            asked = [place for place in range(number) if found[place] == level]
            for place, larger in zip(asked, self.flags(len(asked)), strict=True):
                found[place] += larger
        return found

    # The row code

    def rows(self, groups: Sequence[int], columns: int) -> NDArray[np.int64]:
        """A matrix of ``len(groups) + 1`` rows, the last of which is the constant's."""
        used = np.flatnonzero(self.rows_in_use(groups))
        present = np.ones((len(used) + 1, columns), dtype=bool)
        present[:-1, :-1] = np.reshape(self.flags(len(used) * (columns - 1)), (columns - 1, len(used))).T
        asked = np.flatnonzero(present[:-1, :-1].any(1))
        present[asked, -1] = self.flags(len(asked))
        present[-1] = self.flags(columns)
        inside = np.zeros(present.shape, dtype=np.int64)
        inside[present] = self.other_than_zero(int(present.sum()))
        matrix = np.zeros((len(groups) + 1, columns), dtype=np.int64)
        matrix[[*used, len(groups)]] = inside
        return matrix


# Family 2

STROKES = "edges 7, rays 3, diagonal rays 3, holes 3, crossings 6"
SURFACES = f"{STROKES}, edges 4, crossings 3, colour 7, colour 4"
WAVES = "waves 1, waves 2, waves 4, wave peaks 1, wave energy 1, wave pairs 1, mixtures 2"
PLAIN = ("edges 7", STROKES, SURFACES, "sharp edges 3, colour 3")
FEATURE_SETS = (
    *((parts, False) for parts in PLAIN for _ in ("as given", "upright")),
    (WAVES, True),
    (f"{SURFACES}, second edges 5, second edges 10", True),
    (f"{STROKES}, second edges 5", False),
    (f"{WAVES}, sharp edges 4, second sharp edges 4", True),
)
MAPS = {
    **dict.fromkeys(("edges", "sharp edges"), (8, 2)),
    "crossings": (6, 2),
    "rays": (16, 8),
    "diagonal rays": (16, 4),
    "holes": (1, 1),
    **dict.fromkeys(("second edges", "second sharp edges"), (32, 4)),
}
"""Maps of a part, and how many of them are their own mirror image."""


def part_features(kind: str, grid: int, mirrored: bool, problem: Problem) -> int:
    """Features of a part of a feature set."""
    channels, side = problem.input_shape[0], min(problem.input_shape[1:])
    colours = channels == 3
    if kind in ("waves", "mixtures"):
        lattice = max(1, min(grid, side // 4))
    elif kind.startswith("wave "):
        lattice = 1
    else:
        lattice = max(1, min(grid, side // 3 if kind.startswith("second ") else 2 * side // 3))
    if kind == "mixtures":
        return 400 * lattice**2
    if kind == "colour":
        maps, own = channels, channels
    elif kind == "wave pairs":
        maps, own = (946, 386) if colours else (496, 196)
    elif kind.startswith("wave"):
        maps, own = (44, 28) if colours else (32, 20)
    else:
        maps, own = MAPS[kind]
    features = maps * lattice**2
    return (features + own * lattice * (lattice % 2)) // 2 if mirrored else features


def groups(choice: int | None, problem: Problem) -> list[int]:
    """The group of each row but the last."""
    if choice is None:
        return [0] * math.prod(problem.input_shape)
    require(choice < len(FEATURE_SETS), "no such feature set")
    parts, mirrored = FEATURE_SETS[choice]
    require("waves" not in parts or min(problem.input_shape[1:]) >= 8, "images too small for waves")
    found: list[int] = []
    for number, part in enumerate(parts.split(", ")):
        kind, _, grid = part.rpartition(" ")
        found += [number] * part_features(kind, int(grid), mirrored, problem)
    return found


# Order and ledger


def decode(message: bytes, problem: Problem) -> Head:
    """Decode a message of family 2, or one of family 7 around it.

    Raises:
        InvalidMessage: saying what is wrong with it.
    """
    bits, places = Bits(message), [("header", 0)]
    require(bits.gamma() == 1, "another format")
    family = bits.gamma()
    if family == 7:
        exponent, inner = bits.binary(10) - 240, decode(message[2:], problem)
        require(exponent <= 240, "a threshold out of range")
        require(inner.threshold is None, "a threshold within a threshold")
        return replace(inner, ledger=[("abstention", 16), *inner.ledger], threshold=exponent)
    require(family == 2, "a family that this decoder does not know")
    if problem.classes_inferred:
        places.append(("number of classes", bits.place))
        require(bits.gamma() + 1 == problem.num_classes, "another number of classes")
    choice = None
    if problem.is_image:
        places.append(("feature bank", bits.place))
        choice = bits.gamma() - 1
    places.append(("head weights", bits.place))
    row_groups, section = groups(choice, problem), Section(bits)
    require((len(row_groups) + 1) * problem.num_classes <= MAX_WEIGHTS, "too many weights")
    weights = section.rows(row_groups, problem.num_classes)
    section.end()
    places += [("padding", bits.place), ("", bits.place + bits.left)]
    require(bits.left < 8 and bits.binary(bits.left) == 0, "something after the end")
    ledger = [(name, after - place) for (name, place), (_, after) in pairwise(places)]
    return Head(family, choice, weights, ledger)
