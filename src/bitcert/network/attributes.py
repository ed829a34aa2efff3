"""What the attributes of an operation may be: one small check a kind, with hard ranges.

Ranges exist so that a file from a stranger cannot reach torch with a zero stride, a negative kernel or a
number that overflows an index. They do NOT promise that a combination fits together: shapes are propagated
afterwards (:mod:`bitcert.network.shapes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Attribute = int | float | bool | tuple[int, ...] | None

MAX_INTEGER = 2**27
MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class Kind:
    """A set of attribute values: ``accepts`` decides membership, ``description`` names the set in errors.

    ``types`` are the types its members may have.
    """

    description: str
    accepts: Callable[[Attribute], bool]
    types: tuple[type, ...]


def _is_integer(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def integer(low: int, high: int = MAX_INTEGER) -> Kind:
    """Whole numbers from ``low`` to ``high``, both included."""
    return Kind(f"an integer from {low} to {high}", lambda value: _is_integer(value, low, high), (int,))


def integers(length: int | None, low: int, high: int = MAX_INTEGER) -> Kind:
    """Tuples of whole numbers from ``low`` to ``high``; ``length`` None: up to 16."""

    def accepts(value: Attribute) -> bool:
        return (
            isinstance(value, tuple)
            and (len(value) <= 2 * MAX_DIMENSIONS if length is None else len(value) == length)
            and all(_is_integer(item, low, high) for item in value)
        )

    count = "up to 16" if length is None else str(length)
    return Kind(f"{count} integers from {low} to {high}", accepts, (tuple,))


def _is_number(value: Attribute) -> bool:
    return type(value) is float and math.isfinite(value) and abs(value) <= 1e38


BOOLEAN = Kind("true or false", lambda value: type(value) is bool, (bool,))
NUMBER = Kind("a finite number written with a decimal point", _is_number, (float,))
OPTIONAL_NUMBER = Kind("a finite number or null", lambda value: value is None or _is_number(value), (float, type(None)))
AXIS = integer(0, MAX_DIMENSIONS - 1)
AXES = integers(None, 0, MAX_DIMENSIONS - 1)
