"""How the text of one cell of a table becomes a number: a fixed rule that looks at one cell and at nothing else.

Whatever a reader took from the data (a list of categories, a mean for missing cells) would be a part of the classifier
that no bit of the message says. So the rule is the same for every table, and what a schema adds was written by the user
before the data were seen. Spaces around a text do not count. Then

* a text in the column's ``categories`` is its place in that list, ``0 .. k-1``;
* an empty text, ``NA``, ``NaN`` and ``null`` (in any case) are *missing*: :data:`MISSING`, or, in a column declared
  ``missing``, 0 beside a second input that is 1 (and 0 for every cell that is there);
* a decimal number is that number, rounded to float64 and then to float32;
* any other text is ``k`` in a column with ``categories``; in another one its bucket: the first byte, 0 to 255, of the
  SHA-256 of the text in UTF-8. Different texts may share a bucket, and no new text is ever refused.

In a column with ``categories`` a number that is not listed is such another text. Missing is -1 and not 0: most columns
count or measure something, so that ``x <= -0.5`` finds what is missing, while 0 is a usual value; and to a linear head
on raw inputs -1 is hardly further than 0. In a column that has negative numbers the two cannot be told apart; declare
it ``missing`` there.

Not guaranteed: that a text was meant as one. ``1,234``, ``12 %`` and ``2026-03-01`` are no decimal numbers, and go to
a bucket.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MISSING = -1.0
"""What a missing cell becomes, unless its column is declared to have missing cells."""

MISSING_TEXTS = frozenset({"", "na", "nan", "null"})
"""Texts of a missing cell, in lower case."""

KEPT_TEXTS = 1 << 16
"""Texts whose buckets are remembered, so that each is hashed once: it changes nothing but the time."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)

Codes = Mapping[str, int]
"""The places of a column's declared categories."""


class CellProblem(ValueError):
    """A number that no float32 is: which cell of those given, and its text."""

    def __init__(self, place: int, text: str) -> None:
        super().__init__(text)
        self.place, self.text = place, text


@lru_cache(maxsize=KEPT_TEXTS)
def bucket(text: str) -> int:
    """The bucket of a text that is no number: the first byte of its SHA-256.

    >>> bucket("yes"), bucket("no")
    (138, 147)
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0]


def is_bucketed(text: str) -> bool:
    """Whether a text becomes a bucket in a column without categories.

    >>> is_bucketed("OH"), is_bucketed(" 12.50"), is_bucketed("NA")
    (True, False, False)
    """
    text = text.strip()
    return not (text.lower() in MISSING_TEXTS or _NUMBER.fullmatch(text) or _INFINITE.fullmatch(text))


def read_cell(text: str, codes: Codes | None = None) -> float:
    """The number of one cell, NaN if it is missing; infinite if it is a number beyond a float.

    >>> read_cell(" 12.50"), read_cell("NA"), read_cell("OH"), read_cell("OH", {"KS": 0, "OH": 1})
    (12.5, nan, 187.0, 1.0)
    """
    text = text.strip()
    if codes is not None and text in codes:
        return float(codes[text])
    if text.lower() in MISSING_TEXTS:
        return math.nan
    if codes is not None:
        return float(len(codes))
    if _NUMBER.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return math.inf
    return float(bucket(text))


def read_cells(texts: Sequence[str], codes: Codes | None = None) -> NDArray[np.float32]:
    """:func:`read_cell` of many cells of one column, as float32 ``[n]`` with NaN for missing.

    Raises:
        CellProblem: for the first number that no float32 is.
    """
    if codes is None:
        whole = "".join(texts)
        # float() also takes 1_000, -nan and digits of other scripts, which are no decimal numbers here
        if whole.isascii() and "_" not in whole and "nan" not in whole.lower():
            try:
                return as_float32(np.array(list(map(float, texts)), np.float64), texts)
            except CellProblem:
                raise
            except ValueError:
                pass
    known = {text: read_cell(text, codes) for text in set(texts)}
    return as_float32(np.array([known[text] for text in texts], np.float64), texts)


def as_float32(values: NDArray[np.float64], cells: Sequence[object]) -> NDArray[np.float32]:
    """Numbers (NaN where a cell is missing) as float32, with 0 for -0.

    Raises:
        CellProblem: for the first number that is infinite as float32.
    """
    with np.errstate(over="ignore"):
        found = values.astype(np.float32) + np.float32(0)
    wrong = np.isinf(found)
    if wrong.any():
        place = int(np.argmax(wrong))
        raise CellProblem(place, str(cells[place]))
    return found


def with_missing(values: NDArray[np.float32], declared: bool) -> NDArray[np.float32]:
    """The inputs ``[n, 1]`` of a column, or ``[n, 2]`` where it is declared to have missing cells.

    >>> with_missing(np.array([3, np.nan], np.float32), False).tolist()
    [[3.0], [-1.0]]
    >>> with_missing(np.array([3, np.nan], np.float32), True).tolist()
    [[3.0, 0.0], [0.0, 1.0]]
    """
    missing = np.isnan(values)
    if not declared:
        return np.where(missing, np.float32(MISSING), values)[:, None]
    return np.stack([np.where(missing, np.float32(0), values), missing.astype(np.float32)], axis=1)
