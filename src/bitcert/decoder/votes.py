"""Codec family 6: a sum of votes on the columns of a table, exact on every machine.

The numbers of an example are looked at as they are in the data, before any preprocessing, in float64. Each condition is
a multiple of 1/8, so the sums are exact in float32: a tie is a tie everywhere, and an error. Message: the number of
classes if it was inferred, then one section with the terms (:mod:`bitcert.coding.votes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger, MessageReader, MessageWriter
from bitcert.coding.adaptive import Coder, Reader, Writer
from bitcert.coding.votes import SPAN, STEPS, Condition, Ramp, Votes, VotesCode
from bitcert.counting import TensorClassifier, Values
from bitcert.decoder.helper import Helper, as_floats, read_classes, write_classes
from bitcert.decoder.trees import Columns, alphabets, check_size, numbers, passes

FAMILY = 6

Floats = NDArray[np.float32]


def condition_values(condition: Condition, columns: Columns) -> Floats:
    """The value ``[n]`` of a condition in examples ``columns [n, d]``."""
    if isinstance(condition, Ramp):
        steps = np.ceil((numbers(condition.subject, columns) - condition.value) / math.ldexp(1.0, condition.exponent))
        return np.asarray(np.clip(steps, 0, STEPS) * (SPAN / STEPS), dtype=np.float32)
    return np.asarray(passes(condition.test, columns) == condition.passed, dtype=np.float32)


def term_values(conditions: Sequence[Condition], columns: Columns) -> Floats:
    """The value ``[n]`` of a term: the product of its conditions."""
    found = condition_values(conditions[0], columns)
    for condition in conditions[1:]:
        found = found * condition_values(condition, columns)
    return found


def listed(votes: Votes) -> dict[str, torch.Tensor]:
    """Votes as tensors: ``always [classes]``, ``votes [terms, classes]`` and the conditions ``[terms, most]``.

    A condition is a ramp of ``width`` over all its steps, or a test if that is 0, which is to be ``passed`` or not. A
    term with fewer conditions than ``most`` has ``x[0] <= inf`` in place of the others, which is always passed.
    """
    most = max((len(term.conditions) for term in votes.terms), default=0)
    rows = [_row(term.conditions[i] if i < len(term.conditions) else None) for term in votes.terms for i in range(most)]
    names = ("column", "other", "factor", "value", "width", "equal", "passed")
    dtypes = (torch.int64, torch.int64, torch.float64, torch.float64, torch.float64, torch.bool, torch.bool)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    found = {
        name: torch.tensor(list(column), dtype=dtype).reshape(len(votes.terms), most)
        for name, dtype, column in zip(names, dtypes, columns, strict=True)
    }
    of_terms = torch.tensor([term.votes for term in votes.terms], dtype=torch.int64)
    always = torch.tensor(votes.always, dtype=torch.int64)
    return {**found, "votes": of_terms.reshape(-1, len(always)), "always": always}


def _row(condition: Condition | None) -> tuple[int, int, float, float, float, bool, bool]:
    if condition is None:
        return 0, 0, 0.0, math.inf, 0.0, False, True
    subject = condition.subject
    where = (subject.column, subject.column if subject.other is None else subject.other, subject.factor)
    if isinstance(condition, Ramp):
        return *where, condition.value, math.ldexp(1.0, condition.exponent), False, True
    return *where, condition.test.value, 0.0, condition.test.equal, condition.passed


@dataclass(frozen=True, eq=False)
class VotesClassifier(TensorClassifier):
    """The classifier: raw inputs ``[batch, ...]`` -> sums of votes ``[batch, classes]``."""

    votes: Votes

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Terms and votes, see :func:`listed`."""
        return listed(self.votes)

    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits of one batch, as numbers of ``dtype``; all is computed in float64 whatever that is."""
        columns = as_floats(inputs).flatten(1).double()
        terms = columns.new_ones(columns.shape[0], tensors["votes"].shape[0])
        for place in range(tensors["column"].shape[1]):
            at = {name: value[:, place] for name, value in tensors.items() if value.dim() == 2 and name != "votes"}
            factor, value, width = (at[name].double() for name in ("factor", "value", "width"))
            first, second = columns[:, at["column"]], columns[:, at["other"]]
            subject = torch.where(factor == 0, first, first + factor * second)
            found = torch.where(at["equal"], subject == value, subject <= value) == at["passed"]
            steps = torch.ceil((subject - value) / torch.where(width == 0, 1.0, width)).clamp(0, STEPS)
            terms = terms * torch.where(width == 0, found.double(), steps * (SPAN / STEPS))
        return (terms @ tensors["votes"].double() + tensors["always"].double()).to(dtype)


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
