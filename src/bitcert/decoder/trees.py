"""Codec families 1 and 8: a decision tree on the columns of a table, exact on every machine.

Tests compare the numbers of an example as they are in the data, before any preprocessing, in float64, and the logits
are 0 and 1: no rounding, no near-ties. Message: the number of classes if it was inferred, then one section with the
tree (:mod:`bitcert.coding.trees`). In family 8, which is written where a schema declares categories, a test of such a
column names one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger, MessageReader, MessageWriter
from bitcert.coding.adaptive import Coder, Reader, Writer
from bitcert.coding.trees import Alphabets, Comparison, Leaf, Subject, Tree, TreeCode, num_splits
from bitcert.counting import TensorClassifier, Values
from bitcert.data.sample import MAX_CLASSES
from bitcert.decoder.helper import Helper, as_floats, read_classes, write_classes
from bitcert.errors import DecodeError

FAMILY, DECLARED_FAMILY = 1, 8

MAX_COLUMNS = 1 << 24

Columns = NDArray[np.float32]
Rows = NDArray[np.intp]


def numbers(subject: Subject, columns: Columns) -> NDArray[np.float64]:
    """What a test compares, ``[n]``, of examples ``columns [n, d]``: one product and one sum in float64."""
    values = columns[:, subject.column].astype(np.float64)
    return values if subject.other is None else values + subject.factor * columns[:, subject.other]


def passes(test: Comparison, columns: Columns) -> NDArray[np.bool_]:
    """Which examples ``[n]`` of ``columns [n, d]`` pass a test."""
    values = numbers(test.subject, columns)
    return np.asarray(values == test.value if test.equal else values <= test.value)


def decide(tree: Tree, rows: Rows, passing: Callable[[Comparison, Rows], NDArray[np.bool_]]) -> Rows:
    """The class ``[n]`` that a tree gives each of ``rows [n]``, given which of some rows pass a test."""
    found = np.zeros(len(rows), dtype=np.intp)

    def descend(tree: Tree, places: Rows) -> None:
        if isinstance(tree, Leaf):
            found[places] = tree.label
            return
        passed = passing(tree.test, rows[places])
        descend(tree.passed, places[passed])
        descend(tree.failed, places[~passed])

    descend(tree, np.arange(len(rows)))
    return found


def answers(tree: Tree, columns: Columns) -> Rows:
    """The class ``[n]`` that a tree gives each example of ``columns [n, d]``."""
    return decide(tree, np.arange(len(columns)), lambda test, rows: passes(test, columns[rows]))


def depth(tree: Tree) -> int:
    """Most tests in a row."""
    return 0 if isinstance(tree, Leaf) else 1 + max(depth(tree.passed), depth(tree.failed))


def listed(tree: Tree) -> dict[str, torch.Tensor]:
    """The nodes of a tree as tensors ``[nodes]``, the root first; a leaf leads to itself and has the class ``label``.

    ``passed`` and ``failed`` are places of nodes; the test of a node is ``x[column] + factor * x[other] <= value``, or
    ``x[column] = value`` if ``equal``.
    """
    nodes = [tree]
    rows: list[tuple[int, int, float, float, bool, int, int, int]] = []
    for place, node in enumerate(nodes):  # which grows meanwhile
        if isinstance(node, Leaf):
            rows.append((0, 0, 0.0, 0.0, False, place, place, node.label))
            continue
        subject, after = node.test.subject, len(nodes)
        nodes += [node.passed, node.failed]
        other = subject.column if subject.other is None else subject.other
        rows.append((subject.column, other, subject.factor, node.test.value, node.test.equal, after, after + 1, 0))
    names = ("column", "other", "factor", "value", "equal", "passed", "failed", "label")
    floats = dict.fromkeys(("factor", "value"), torch.float64)
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return {name: torch.tensor(column, dtype=floats.get(name)) for name, column in columns}


@dataclass(frozen=True, eq=False)
class TreeClassifier(TensorClassifier):
    """The classifier: raw inputs ``[batch, ...]`` -> 1 for the answer and 0 for all other classes."""

    tree: Tree
    num_classes: int

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The nodes of the tree, see :func:`listed`."""
        return listed(self.tree)

    def compute(
        self, inputs: Values | torch.Tensor, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        """Logits of one batch, as numbers of ``dtype``; the tests are computed in float64 whatever that is."""
        columns = as_floats(inputs).flatten(1).double()
        node = columns.new_zeros(columns.shape[0], dtype=torch.int64)
        at = {name: value.double() if name in ("factor", "value") else value for name, value in tensors.items()}
        for _ in range(depth(self.tree)):
            first, second = (columns.gather(1, at[name][node][:, None])[:, 0] for name in ("column", "other"))
            factor, value = at["factor"][node], at["value"][node]
            subject = torch.where(factor == 0, first, first + factor * second)
            equal = at["equal"][node]
            passed = (equal & (subject == value)) | (~equal & (subject <= value))
            node = torch.where(passed, at["passed"][node], at["failed"][node])
        classes = torch.arange(self.num_classes, device=columns.device)
        return (at["label"][node][:, None] == classes).to(dtype)


def check_size(helper: Helper) -> int:
    """The number of columns.

    Raises:
        DecodeError: for more columns or classes than a family of tables can have.
    """
    columns = math.prod(helper.input_shape)
    if columns > MAX_COLUMNS or helper.num_classes > MAX_CLASSES:
        expected = f"at most {MAX_COLUMNS:,} columns and {MAX_CLASSES:,} classes of a tree"
        raise DecodeError(expected, f"{columns:,} and {helper.num_classes:,}", "give a network of your own to certify")
    return columns


def alphabets(helper: Helper) -> Alphabets:
    """The numbers that a schema declares: of columns with categories, and of inputs that say what is missing.

    Of ``k`` categories a cell is ``0 .. k``, -1 if it is missing and nothing of that was declared.
    """
    found: dict[int, range] = {}
    place = 0
    for column in () if helper.table is None else helper.table.schema.columns:
        if column.categories:
            found[place] = range(0 if column.missing else -1, len(column.categories) + 1)
        if column.missing:
            found[place + 1] = range(2)
        place += len(column.inputs)
    return found


def family_of(helper: Helper) -> int:
    """Which family trees are written in."""
    return DECLARED_FAMILY if alphabets(helper) else FAMILY


def _code(coder: Coder, helper: Helper, family: int) -> TreeCode:
    declared = alphabets(helper) if family == DECLARED_FAMILY else {}
    return TreeCode(coder, check_size(helper), helper.num_classes, declared)


def write(tree: Tree, helper: Helper) -> tuple[bytes, Ledger]:
    """The message of a tree.

    Raises:
        ValueError: for a tree that this code has no word for, such as one with two sibling leaves of one class.
    """
    family = family_of(helper)
    writer, coder = MessageWriter(family), Writer()
    write_classes(writer, helper)
    if _code(coder, helper, family).tree(tree) != tree:
        raise ValueError("the tree code has no word for this tree")
    with writer.section("tree") as bits:
        bits.extend(coder.bits())
    return writer.finish()


def read(reader: MessageReader, helper: Helper) -> tuple[TreeClassifier, str]:
    """Decode a tree.

    Raises:
        DecodeError: for one larger than any that is written, for more columns or classes, and for one of declared
            categories without their schema.
    """
    if reader.family == DECLARED_FAMILY and not alphabets(helper):
        expected = "a tree for columns of any numbers"
        raise DecodeError(expected, "one for those of a schema that declares categories", "pass the schema")
    read_classes(reader, helper)
    with reader.section("tree") as bits:
        coder = Reader(bits)
        tree = _code(coder, helper, reader.family).tree()
        coder.finish()
    tests = num_splits(tree)
    described = f"a decision tree of {tests} test{'' if tests == 1 else 's'} and {tests + 1} answers"
    if not tests:
        described = "one answer for everything"
    return TreeClassifier(tree, helper.num_classes), described
