"""A contender of the search: a way to compress, with the helper string that its messages are decoded with.

All contenders write words of one prefix code: a message opens with the number of its family, and which part of the
helper a family reads was fixed with the program, before the data were seen. So ``decode`` is one fixed map from
messages to classifiers, and the union bound is over messages alone: choosing the best message of all contenders after
seeing every error count costs nothing (THEORY section 2). A contender may NOT have a helper that was chosen by the
data: all helpers of one search are parts of what was declared at its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bitcert.compress.run import Compressed, Run
from bitcert.data import Sample
from bitcert.helper import Helper


class Compressor(Protocol):
    """What a contender runs; it returns its best message when the run's time is over or the run is stopped."""

    def __call__(self, sample: Sample, helper: Helper, run: Run) -> Compressed:
        """The best message found in the run's time, of at least one that was tried."""
        ...


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to compress.

    Args:
        name: for tables; unique in a search.
        compress: the compressor.
        helper: what its messages are decoded with.
        continues: whether a longer budget goes on from the checkpoint of a shorter one. A training whose schedule
            follows its budget does not: it starts again with the longer one.
        weight: its part of a round's time, relative to the others'.
        least_seconds: below this it is not worth starting.
    """

    name: str
    compress: Compressor
    helper: Helper
    continues: bool = True
    weight: float = 1.0
    least_seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """What is known of a contender, for a live table.

    Attributes:
        name: of the contender.
        state: ``waiting``, ``running``, ``tried``, or why it is out.
        seconds: of its own so far.
        message_bits: of its best message, or ``None`` before there is one.
        errors: of that message on the training sample.
        bound: of that message; for a certificate of the original network the predicted disagreement is in it, and it
            is ``None`` until that was counted.
    """

    name: str
    state: str
    seconds: float = 0.0
    message_bits: int | None = None
    errors: int | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Board:
    """A search at one moment: all contenders in their order, and the clock."""

    rows: tuple[Row, ...]
    seconds: float
    budget_seconds: float

    @property
    def best(self) -> Row | None:
        """The row with the smallest bound so far."""
        found = [row for row in self.rows if row.bound is not None]
        return min(found, key=lambda row: (row.bound, row.message_bits), default=None)


Watch = Callable[[Board], None]
