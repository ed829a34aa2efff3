"""A contender of the search: a way to compress, with the helper string that its messages are decoded with.

All contenders write words of one prefix code: a message opens with the number of its family, and to each family belongs
one helper string, declared before anything is tried. So ``decode`` is one fixed map from messages to classifiers, and
the union bound is over messages alone: choosing the best message of all contenders after seeing every error count costs
nothing (docs/theory.md section 2). Two helpers for one family would be two codes, whose choice nobody pays for:
:func:`check_helpers` refuses them. Public weights that a message does not refer to are left out of its helper; that too
is a fixed function of the message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bitcert.coding import MessageReader
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.errors import InputError
from bitcert.run import Compressed, Run


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
        family: number of the family of its messages.
        compress: the compressor.
        helper: what its messages are decoded with.
        continues: whether a longer budget goes on from the checkpoint of a shorter one. A training whose schedule
            follows its budget does not: it starts again with the longer one.
        weight: its part of a round's time, relative to the others'.
        least_seconds: below this it is not worth starting.
        option: what its messages are of, where the user has a choice between several; the leaders of the two best
            options share the last round, and the best message of each option is kept.
    """

    name: str
    family: int
    compress: Compressor
    helper: Helper
    continues: bool = True
    weight: float = 1.0
    least_seconds: float = 0.0
    option: str = ""


def check_helpers(contenders: Sequence[Contender]) -> None:
    """Refuse contenders that would read messages of one family with different helper strings.

    Raises:
        InputError: naming the family, or a name that two contenders have.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise InputError("contenders of different names", ", ".join(names)[:200], "rename one")
    for family in {contender.family for contender in contenders}:
        helpers = [contender.helper for contender in contenders if contender.family == family]
        problems = {replace(helper, weights=None).content_hash for helper in helpers}
        weights = {helper.weights.content_hash for helper in helpers if helper.weights is not None}
        if len(problems) > 1 or len(weights) > 1:
            expected = f"one helper string for all messages of family {family}"
            raise InputError(expected, f"{max(len(problems), len(weights))}", "leave out one of the networks")


def check_message(contender: Contender, compressed: Compressed) -> None:
    """Refuse a message of another family, or for another helper string, than its contender declared.

    Raises:
        InputError: a helper that changed under way would be a choice that no bits pay for.
    """
    declared, used = contender.helper, compressed.helper
    same = used.content_hash in (declared.content_hash, replace(declared, weights=None).content_hash)
    if not same or MessageReader(compressed.message).family != contender.family:
        got = f"another one from {contender.name}"
        raise InputError("messages of the family and helper that were declared", got, "report this as a bug")


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
