"""A decision tree trained for the certificate itself (family 1).

Trees grow by entropy and are pruned by errors and bits, at several prices. The best is then improved in place, exactly:
at each node in turn the test is exchanged for the one with which the tree around it makes fewest errors (tree
alternating optimisation, Carreira-Perpiñán & Tavallali 2018, with bits), the node is pruned, replaced by a child, grown
anew, or gets a test above it. A bit is priced at what it costs the certificate. While time is left, a random node is
grown anew from a random good test and the tree improved again. Every tree is a candidate and the best message is kept;
selecting among candidates costs nothing: all are words of one prefix code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitcert.coding.trees import Comparison, Leaf, Split, Tree
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder import trees as family
from bitcert.decoder.trees import answers
from bitcert.errors import InputError
from bitcert.proof import occam_bound
from bitcert.random import stream
from bitcert.run import Best, Compressed, Run
from bitcert.search.judging import errors_per_bit
from bitcert.search.tree_growth import (
    Path,
    at,
    comparisons,
    grow,
    paths,
    predictions,
    prices_beside,
    prune,
    put,
    tidy,
    tree_bits,
)
from bitcert.search.tree_table import LEAST_BINS, MOST_COUNTS, Binned, Floats, Rows, pairs_of

_GROWTH = (2.0, 1.0, 0.5, 0.25)
"""Nats of entropy that a bit must gain in the first trees, relative to the errors it must save in the end."""

_FIRST_BITS = 50

_PRUNING = (0.35, 0.6, 1.0, 1.7)
"""Prices of a bit relative to that of the best tree so far."""

_SHORTLIST, _LONGLIST, _LIST_ROWS = 3, 32, 1 << 15
"""Changes of a node that are looked at, of each kind: the more the fewer examples arrive there, with so many in all."""

_NOISE = 0.4
"""Standard deviation of the logarithm of what the gains of a subject are multiplied by in random trees."""

_SAME_PAIRS = 6
"""So many random trees use the same pairs."""

_NEAR = 1.25
"""A tree is improved if errors plus bits are at most so many times those of the best one."""

_TABLE_ENTRIES = 1 << 25
"""Training examples with more numbers than this are those of a random subset; the certificate counts on all."""

_PAIRED, PAIR_ENTRIES = 48, 1 << 24
"""How many columns are paired, and how many numbers of pairs are tried at once."""

_MORE_OCTAVES, _SMALL_TABLE = 1 << 22, 1 << 20
"""So few numbers of pairs have five factors a pair and sign instead of three; so few are tried at every node."""


@dataclass(frozen=True, eq=False)
class Counted:
    """A tree, its errors and bits on the table."""

    tree: Tree
    errors: int
    bits: float

    def cost(self, rate: float) -> float:
        """Errors plus bits at ``rate`` errors each."""
        return self.errors + rate * self.bits


class TreeSearch(Best):
    """One run on one table.

    Args:
        sample: the training sample.
        helper: of the same problem.
        run: seed, budget, progress and checkpoint.

    Attributes:
        top: the tree of the best message.
        rate: how many errors of the table one bit of a message is worth.
    """

    def __init__(self, sample: Sample, helper: Helper, run: Run) -> None:
        super().__init__(sample, helper, run)
        inputs, labels = sample.inputs, sample.labels
        if inputs.size > _TABLE_ENTRIES:
            most = max(1, _TABLE_ENTRIES // math.prod(sample.input_shape))
            part = np.sort(stream(run.seed, "training subset").permutation(len(sample))[:most])
            inputs, labels = sample.inputs_at(part), labels[part]
        self.columns = inputs.reshape(len(labels), -1).astype(np.float32)
        self.table = Binned.of(self.columns, labels, helper.num_classes, (), family.alphabets(helper))
        self.share = len(labels) / len(sample)
        self.rows = np.arange(len(self.table))
        self.sitting = 0
        self.order = stream(run.seed, "trees, sitting 0")
        _, ledger = family.write(Leaf(0), helper)
        self.header_bits = sum(bits for name, bits in ledger.sections if name not in ("tree", "padding"))
        self.rate = math.log(2)
        self.top: Counted
        self.seen: set[Tree] = set()
        self.known_bits: dict[Tree, float] = {}

    def counted(self, tree: Tree) -> Counted:
        """Errors and bits of a tree."""
        errors = int(np.count_nonzero(predictions(self.table, tree, self.rows) != self.table.labels))
        return Counted(tree, errors, self.bits(tree))

    def bits(self, tree: Tree) -> float:
        """Length of a tree's message: half the bits, half the bytes that hold them, so that fewer bits always count."""
        if tree not in self.known_bits:
            self.known_bits[tree] = self.header_bits + tree_bits(tree, self.table)
        return (self.known_bits[tree] + self.whole_bits(tree)) / 2

    def whole_bits(self, tree: Tree) -> int:
        """The bytes of a tree's message in bits, up to one byte: its code may end a bit later."""
        return 8 * math.ceil((self.known_bits[tree] + 1) / 8)

    def book(self, name: str, counted: Counted) -> None:
        """Judge a tree as a message and keep it if it is the best; the best one is not judged again."""
        if self.best is not None and counted.tree == self.top.tree:
            return
        errors = round(counted.errors / self.share)
        candidate = self.consider(name, errors, *family.write(counted.tree, self.helper))
        if self.is_best(candidate):
            self.top, self.rate = counted, self.price(errors, candidate.bound)
            self.save()

    def price(self, errors: int, bound: float) -> float:
        """How many errors of the table one bit of a message is worth."""
        return self.share * math.log(2) * errors_per_bit(errors / len(self.sample), bound)

    def save(self) -> None:
        """Write the checkpoint: the best message."""
        self.write_checkpoint(sitting=self.sitting)

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one; whether there is."""
        state = self.read_checkpoint()
        if state is None:
            return False
        values, decoded = state
        assert isinstance(decoded.classifier, family.TreeClassifier)
        tree = decoded.classifier.tree
        found = answers(tree, self.columns)
        self.sitting = int(values["sitting"]) + 1
        self.order = stream(self.run.seed, f"trees, sitting {self.sitting}")
        self.best = None  # it is counted and listed anew
        self.book("before", Counted(tree, int(np.count_nonzero(found != self.table.labels)), self.bits(tree)))
        return True

    def improve_best(self, name: str) -> None:
        """Improve the best tree, if there is time."""
        if not self.out_of_time():
            self.book(name, self.improve(self.top))

    def begin(self) -> None:
        """The majority class, and what a bit is worth to a tree that makes half as many errors."""
        counted = self.counted(Leaf(int(np.bincount(self.table.labels).argmax())))
        self.book("majority class", counted)
        errors = round(counted.errors / self.share / 2)
        self.rate = self.price(errors, occam_bound(errors, len(self.sample), _FIRST_BITS, self.run.delta).binomial)

    def start(self) -> None:
        """Grow and prune at several prices."""
        for nats in _GROWTH:
            grown = grow(self.table, self.rows, Counter(), nats * self.rate, self.is_late)
            for factor in _PRUNING:
                tree, _ = prune(grown, factor * self.rate)
                self.book(f"grown at {nats} nats, pruned at {factor}", self.counted(tree))
            if self.out_of_time():
                return

    def improve(self, counted: Counted) -> Counted:
        """Change one node at a time while errors plus bits fall."""
        changed = True
        while changed:
            changed = False
            for path in sorted(paths(counted.tree), key=lambda path: (len(path), path)):
                if self.out_of_time():
                    return counted
                if path in set(paths(counted.tree)):
                    better = self.better(counted, path)
                    changed |= better is not counted
                    counted = better
        return counted

    def arriving(self, tree: Tree, path: Path) -> Rows:
        """The examples that come to a node."""
        rows = self.rows
        for passed in path:
            assert isinstance(tree, Split)
            rows = rows[self.table.passes(tree.test, rows) == passed]
            tree = tree.passed if passed else tree.failed
        return rows

    def better(self, counted: Counted, path: Path) -> Counted:
        """The best change at a node, or the same one; one that is better than all before by its bytes is booked."""
        rows = self.arriving(counted.tree, path)
        here = at(counted.tree, path)
        labels = self.table.labels[rows]
        wrong = int(np.count_nonzero(predictions(self.table, here, rows) != labels))
        best, shortest = counted, self.top
        for subtree in dict.fromkeys(self.proposals(counted.tree, here, rows)):
            errors = counted.errors - wrong
            errors += int(np.count_nonzero(predictions(self.table, subtree, rows) != labels))
            tree = tidy(put(counted.tree, path, subtree))
            proposed = Counted(tree, errors, self.bits(tree))
            if proposed.cost(self.rate) < best.cost(self.rate) - 1e-6:
                best = proposed
            if self.whole_cost(proposed) < self.whole_cost(shortest) - 1e-6:
                shortest = proposed
        if shortest is not self.top:
            self.book("on the way", shortest)
        return best

    def whole_cost(self, counted: Counted) -> float:
        """Errors plus bytes at the present price."""
        return counted.errors + self.rate * self.whole_bits(counted.tree)

    def proposals(self, tree: Tree, here: Tree, rows: Rows) -> Iterator[Tree]:
        """Subtrees that might replace the one at a node."""
        labels = self.table.labels[rows]
        counts = np.bincount(labels, minlength=self.table.num_classes)
        yield Leaf(int(counts.argmax()))
        if not len(rows):
            return
        beside = comparisons(tree)
        prices = self.rate * prices_beside(beside, self.table)
        most = int(np.clip(_LIST_ROWS // len(rows), _SHORTLIST, _LONGLIST))
        if isinstance(here, Split):
            yield here.passed
            yield here.failed
            yield Split(here.test, here.failed, here.passed)
            right = [predictions(self.table, child, rows) == labels for child in (here.passed, here.failed)]
            for _, test in self.largest(self.right(rows, *right) - prices, most):
                yield replace(here, test=test)
        yield prune(grow(self.table, rows, beside - comparisons(here), self.rate, self.is_late), self.rate)[0]
        added = [*self.stumps(rows, counts, prices, most), *self.tests_above(here, rows, labels, prices, most)]
        for _, subtree in sorted(added, key=lambda each: -each[0])[:most]:
            yield subtree

    def right(self, rows: Rows, passed: NDArray[np.bool_], failed: NDArray[np.bool_]) -> Floats:
        """Examples right after each test, given who is right if it passes and if it fails."""
        return self.table.passing(self.table.totals(rows, passed.astype(np.float64) - failed)) + float(failed.sum())

    def stumps(self, rows: Rows, counts: NDArray[np.intp], prices: Floats, most: int) -> Iterator[tuple[float, Tree]]:
        """Single tests with the best class on either side."""
        passing = self.table.passing(self.table.counts(rows))
        right = passing.max(-1) + (counts - passing).max(-1)
        for gain, test in self.largest(right - prices, most):
            inside = passing[self.table.bin_of(test)]
            yield gain, Split(test, Leaf(int(inside.argmax())), Leaf(int((counts - inside).argmax())))

    def tests_above(
        self, here: Tree, rows: Rows, labels: NDArray[np.int64], prices: Floats, most: int
    ) -> Iterator[tuple[float, Tree]]:
        """The subtree behind a new test that gives a class to the others."""
        right_here = predictions(self.table, here, rows) == labels
        for label in np.unique(labels):
            alone, leaf = labels == label, Leaf(int(label))
            for gain, test in self.largest(self.right(rows, alone, right_here) - prices, most):
                yield gain, Split(test, leaf, here)
            for gain, test in self.largest(self.right(rows, right_here, alone) - prices, most):
                yield gain, Split(test, here, leaf)

    def largest(self, gain: Floats, most: int) -> list[tuple[float, Comparison]]:
        """The tests with the largest gains."""
        flat = gain.ravel()
        chosen = np.argpartition(-flat, min(most, len(flat) - 1))[:most]
        found = [(float(flat[i]), divmod(int(i), self.table.num_bins)) for i in chosen if np.isfinite(flat[i])]
        return [(value, self.table.test(*place)) for value, place in found]

    def look_for_pairs(self, noise: bool = False) -> None:
        """Let tests look at pairs of columns too: all of a small table, else those of the best tree and one more."""
        table = self.paired
        if table is None:
            return
        if table.bins.size <= _SMALL_TABLE and len(table) == len(self.table):
            self.table = table
            return
        part = len(table) / len(self.table)
        noisy = self.noise(table) if noise else lambda: 1.0
        grown = grow(table, np.arange(len(table)), Counter(), self.rate * part, self.is_late, noisy)
        tree, _ = prune(grown, min(_PRUNING) * self.rate * part)
        found = [test.subject for known in (self.top.tree, tree) for test in comparisons(known)]
        used = tuple(dict.fromkeys(subject for subject in found if subject.other is not None))
        if used != self.table.subjects[self.table.num_columns :]:
            self.table = self.table.beside(self.columns, used)

    @cached_property
    def paired(self) -> Binned | None:
        """A part of the sample with all pairs of the columns that say most."""
        chosen, size = self.telling(_PAIRED), len(self.columns)
        pairs = pairs_of(self.columns, chosen, 2)
        if len(pairs) * size > _MORE_OCTAVES:
            pairs = pairs_of(self.columns, chosen, 1)
        if not pairs:
            return None
        part = np.sort(self.order.permutation(size)[: min(size, PAIR_ENTRIES // len(pairs))])
        return self.table.beside(self.columns, pairs, part)

    def telling(self, most: int) -> list[int]:
        """The columns whose best test says most of the class by itself, in their order."""
        passing = self.table.passing(self.table.counts(self.rows))
        total = np.bincount(self.table.labels, minlength=self.table.num_classes)
        left = np.where(
            self.table.tests, self.table.entropies(passing) + self.table.entropies(total - passing), np.inf
        ).min(0)
        best = np.minimum.reduceat(left, self.table.first)[: self.table.num_columns]
        return sorted(np.argsort(best, kind="stable")[:most].tolist())

    def restart(self) -> None:
        """Grow a node of the best tree anew with noise, and improve what is not far off, until the time is over."""
        cycle = 0
        while not self.out_of_time():
            cycle += 1
            if cycle % _SAME_PAIRS == 0:
                self.look_for_pairs(noise=True)
            tree = self.top.tree
            nodes = list(paths(tree))
            path = nodes[int(self.order.integers(len(nodes)))] if self.order.random() < 0.7 else ()
            beside = comparisons(tree) - comparisons(at(tree, path))
            rows = self.arriving(tree, path)
            nats, rate = self.rate * self.order.choice(_GROWTH), self.rate * self.order.choice(_PRUNING)
            grown = grow(self.table, rows, beside, nats, self.is_late, self.noise(self.table))
            proposed = self.counted(tidy(put(tree, path, prune(grown, rate)[0])))
            if proposed.tree not in self.seen and proposed.cost(self.rate) < self.top.cost(self.rate) * _NEAR:
                self.seen.add(proposed.tree)
                self.book(f"restart {cycle}", self.improve(proposed))

    def noise(self, table: Binned) -> Callable[[], Floats]:
        """Makes random factors of the gains of a node, one for each subject of tests."""
        return lambda: np.exp(_NOISE * self.order.standard_normal((1, len(table.subjects))))[:, table.subject]

    def is_late(self) -> bool:
        """Whether the budget is used; it tells no progress, being asked at every node."""
        return self.run.fraction >= 1.0


def tree_memory_bytes(num_samples: int, num_columns: int) -> int:
    """Peak memory of a search beside the program and the data: the bins of columns and pairs, and their sums."""
    return 4 * num_samples * (2 * num_columns + 32) + 3 * 4 * PAIR_ENTRIES


def compress_trees(sample: Sample, helper: Helper, run: Run) -> Compressed:
    """Train a decision tree for the best certificate of ``sample``.

    Args:
        sample: labelled training sample of ``m`` examples of ``d`` numbers each.
        helper: the problem; its ``predictor`` is not used.
        run: seed, budget, progress and checkpoint.

    Raises:
        InputError: for too many columns and classes.
    """
    least = LEAST_BINS * math.prod(helper.input_shape) * helper.num_classes
    if least > MOST_COUNTS:
        expected = f"columns times classes of at most {MOST_COUNTS // LEAST_BINS:,} for a tree"
        raise InputError(expected, f"{least // LEAST_BINS:,}", "leave out columns, or give a network of your own")
    search = TreeSearch(sample, helper, run)
    if not search.resume():
        search.begin()
        search.start()
        search.improve_best("improved")
    if not search.out_of_time():
        search.look_for_pairs()
        search.start()
        search.improve_best("improved with pairs")
        search.restart()
    search.save()
    return search.result()
