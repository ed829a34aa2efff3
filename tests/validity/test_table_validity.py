"""What a reader takes from the data must be coded: one that numbers categories as the data show them is a leak.

A column of identifiers, none of which is ever seen twice, says nothing of the label. A fixed rule makes numbers of them
that say nothing either. Numbered in the order of their appearance, what was seen lies below what is new, and the few
bits of one threshold become a classifier that is right on the sample and wrong everywhere else.
"""

import csv
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from bitcert import Helper
from bitcert.data import Role, load_sample
from bitcert.decoder.description import helper_ledger
from bitcert.proof import occam_bound, self_contained_bound

DELTA = 0.05
DRAWS = 60
SAMPLES, NEW = 150, 600
BITS = 9
"""A threshold of 0 to 255, and which side is class 1."""

RATE = 0.8
"""Probability of class 1, whatever the identifier."""

ALPHA = 1e-3

Rows = list[str]
Reader = Callable[[Rows, Rows], tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def honest(tmp_path) -> Reader:
    """The numbers of this project's reader, for a training file and a file of new rows."""

    def read(train: Rows, new: Rows) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for name, rows in (("train", train), ("new", new)):
            with open(tmp_path / f"{name}.csv", "w", newline="") as file:
                csv.writer(file).writerows([["id"], *([row] for row in rows)])
            found.append(load_sample(tmp_path / f"{name}.csv", Role.UNLABELLED, num_classes=2).inputs[:, 0])
        return found[0], found[1]

    return read


def in_order_of_appearance(train: Rows, new: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The broken twin: the first text that the data show is 0, the next one 1, and so on; nothing of that is coded."""
    numbers: dict[str, int] = {}
    there, then = ([numbers.setdefault(text, len(numbers)) for text in rows] for rows in (train, new))
    return np.array(there, np.float32), np.array(then, np.float32)


def identifiers(rng: np.random.Generator, count: int) -> Rows:
    return [f"user {word:016x}" for word in rng.integers(0, 2**63, count)]


def failures(read: Reader) -> int:
    """In how many draws the bound of the best threshold lies below its error on new rows, which are many."""
    rng, broken = np.random.default_rng(7), 0
    for _ in range(DRAWS):
        train, new = identifiers(rng, SAMPLES), identifiers(rng, NEW)
        y = rng.random(SAMPLES) < RATE
        there, then = read(train, new)
        answers = np.array([(there <= t) == side for side in (True, False) for t in range(256)])
        errors = (answers != y).sum(axis=1)
        best = int(errors.argmin())
        side, threshold = best < 256, best % 256
        ones = np.mean((then <= threshold) == side)
        truth = ones * (1 - RATE) + (1 - ones) * RATE
        broken += occam_bound(int(errors[best]), SAMPLES, BITS, DELTA).binomial < truth
    return broken


def assert_valid(count: int) -> None:
    low = scipy.stats.beta.ppf(ALPHA, count, DRAWS - count + 1) if count else 0.0
    assert low <= DELTA, f"{count} of {DRAWS} draws broke the bound"


def test_a_fixed_rule_for_each_cell_keeps_the_bound_valid(honest):
    assert_valid(failures(honest))


def test_numbers_in_the_order_of_appearance_break_it():
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(failures(in_order_of_appearance))


def assert_no_leak(read: Reader) -> None:
    """What a row becomes depends on no other row: not on their order, nor on which others there are."""
    rng = np.random.default_rng(8)
    rows = [*identifiers(rng, 30), "7", "", "NA", "x", "7", "-1e3"]
    order = rng.permutation(len(rows))
    whole, part = read(rows, rows[:10])
    shuffled, alone = read([rows[k] for k in order], [rows[-1]])
    assert np.array_equal(shuffled, whole[order])
    assert np.array_equal(part, whole[:10])
    assert alone[0] == whole[-1]
    assert np.array_equal(read(rows[:10], rows)[1], whole)


def test_a_row_is_read_without_a_look_at_the_others(honest):
    assert_no_leak(honest)


def test_the_broken_twin_looks_at_the_others():
    with pytest.raises(AssertionError):
        assert_no_leak(in_order_of_appearance)


# A schema is declared before the data: one whose list is sorted by the labels of the data is a leak of another kind

CATEGORIES = 100


def schema_failures(tmp_path, learned: bool, alone: bool = False) -> int:
    """In how many draws a threshold among the declared categories is bounded below its true error.

    Args:
        tmp_path: for the file.
        learned: the list is sorted by the labels; else by nothing.
        alone: by the self-contained bound, which charges the schema.
    """
    rng, broken = np.random.default_rng(9), 0
    for _ in range(DRAWS):
        texts, y = rng.integers(0, CATEGORIES, SAMPLES), rng.integers(0, 2, SAMPLES)  # neither says anything
        rates = [y[texts == k].mean() if np.any(texts == k) else 0.5 for k in range(CATEGORIES)]
        order = np.argsort(rates, kind="stable") if learned else np.arange(CATEGORIES)
        with open(tmp_path / "train.csv", "w", newline="") as file:
            rows = [["kind", "label"], *zip([f"k{k:02d}" for k in texts], y.tolist(), strict=True)]
            csv.writer(file).writerows(rows)
        declared = {"columns": [{"name": "kind", "categories": [f"k{k:02d}" for k in order]}], "label": "label"}
        sample = load_sample(tmp_path / "train.csv", Role.TRAIN, num_classes=2, schema=declared)
        answers = np.array([(sample.inputs[:, 0] <= t) == side for side in (True, False) for t in range(256)])
        errors = int((answers != sample.labels).sum(axis=1).min())
        if alone:
            helper_bits = helper_ledger(Helper.for_sample(sample)).total_bits
            bound = self_contained_bound(errors, SAMPLES, BITS, helper_bits, DELTA)
        else:
            bound = occam_bound(errors, SAMPLES, BITS, DELTA).binomial
        broken += bound < 0.5
    return broken


def test_a_schema_that_was_declared_keeps_the_bound_valid(tmp_path):
    assert_valid(schema_failures(tmp_path, learned=False))


def test_a_schema_learned_from_the_data_breaks_it(tmp_path):
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(schema_failures(tmp_path, learned=True))


def test_the_self_contained_bound_holds_for_a_schema_learned_from_the_data(tmp_path):
    assert schema_failures(tmp_path, learned=True, alone=True) == 0
