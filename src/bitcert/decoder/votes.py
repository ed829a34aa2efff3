"""Codec family 6: a sum of votes on the columns of a table, exact on every machine.

The numbers of an example are looked at as they are in the data, before any preprocessing, in float64. Each condition is
a multiple of 1/8, so the sums are exact in float32: a tie is a tie everywhere, and an error. Message: the number of
classes if it was inferred, then one section with the terms (:mod:`bitcert.coding.votes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger, MessageReader, MessageWriter
from bitcert.coding.adaptive import Coder, Reader, Writer
from bitcert.coding.votes import SPAN, STEPS, Condition, Ramp, Votes, VotesCode
from bitcert.counting import FloatClassifier
from bitcert.decoder.helper import Helper, read_classes, write_classes
from bitcert.decoder.trees import Columns, alphabets, check_size, numbers, passes

FAMILY = 6

Values = NDArray[np.float32]


def condition_values(condition: Condition, columns: Columns) -> Values:
    """The value ``[n]`` of a condition in examples ``columns [n, d]``."""
    if isinstance(condition, Ramp):
        steps = np.ceil((numbers(condition.subject, columns) - condition.value) / math.ldexp(1.0, condition.exponent))
        return np.asarray(np.clip(steps, 0, STEPS) * (SPAN / STEPS), dtype=np.float32)
    return np.asarray(passes(condition.test, columns) == condition.passed, dtype=np.float32)


def term_values(conditions: Sequence[Condition], columns: Columns) -> Values:
    """The value ``[n]`` of a term: the product of its conditions."""
    found = condition_values(conditions[0], columns)
    for condition in conditions[1:]:
        found = found * condition_values(condition, columns)
    return found


@dataclass(frozen=True, eq=False)
class VotesClassifier(FloatClassifier):
    """The classifier: raw inputs ``[batch, ...]`` -> sums of votes ``[batch, classes]``."""

    votes: Votes

    def logits(self, inputs: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        """Logits of one batch, as numbers of ``dtype``."""
        columns = inputs.reshape(len(inputs), -1).astype(np.float32)
        sums = np.tile(np.array(self.votes.always, dtype=np.float64), (len(inputs), 1))
        for term in self.votes.terms:
            sums += term_values(term.conditions, columns)[:, None] * np.array(term.votes)
        return torch.from_numpy(sums).to(dtype)


def _code(coder: Coder, helper: Helper) -> VotesCode:
    return VotesCode(coder, check_size(helper), helper.num_classes, alphabets(helper))


def write(votes: Votes, helper: Helper) -> tuple[bytes, Ledger]:
    """The message of a sum of votes.

    Raises:
        ValueError: for terms in another order, or others that this code has no word for.
    """
    writer, coder = MessageWriter(FAMILY), Writer()
    write_classes(writer, helper)
    if _code(coder, helper).whole(votes) != votes:
        raise ValueError("the code of votes has no word for these")
    with writer.section("votes") as bits:
        bits.extend(coder.bits())
    return writer.finish()


def read(reader: MessageReader, helper: Helper) -> tuple[VotesClassifier, str]:
    """Decode a sum of votes.

    Raises:
        DecodeError: for more terms, columns or classes, or larger votes, than are ever written.
    """
    read_classes(reader, helper)
    with reader.section("votes") as bits:
        coder = Reader(bits)
        votes = _code(coder, helper).whole()
        coder.finish()
    terms = len(votes.terms)
    described = f"a vote of {terms} term{'' if terms == 1 else 's'}" if terms else "one answer for everything"
    return VotesClassifier(votes), described
