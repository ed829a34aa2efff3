"""Growing and pruning trees on a table: by entropy while a test pays for its bits, then by errors and bits exactly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from bitcert.coding.adaptive import Meter
from bitcert.coding.trees import MAX_SPLITS, Comparison, Leaf, Split, Tree, TreeCode
from bitcert.decoder.trees import decide
from bitcert.search.tree_table import Binned, Floats, Rows

_MAX_DEPTH = 40
_LEAVES = 2.5


Path = tuple[bool, ...]
"""From the root to a node: whether the tests on the way are passed."""


def at(tree: Tree, path: Path) -> Tree:
    """The subtree at a node."""
    for passed in path:
        assert isinstance(tree, Split)
        tree = tree.passed if passed else tree.failed
    return tree


def put(tree: Tree, path: Path, new: Tree) -> Tree:
    """The tree with another subtree at a node."""
    if not path:
        return new
    assert isinstance(tree, Split)
    if path[0]:
        return replace(tree, passed=put(tree.passed, path[1:], new))
    return replace(tree, failed=put(tree.failed, path[1:], new))


def paths(tree: Tree, so_far: Path = ()) -> Iterator[Path]:
    """All nodes."""
    yield so_far
    if isinstance(tree, Split):
        yield from paths(tree.passed, (*so_far, True))
        yield from paths(tree.failed, (*so_far, False))


def tree_bits(tree: Tree, table: Binned) -> float:
    """Length of a tree in bits, up to the end of its section."""
    meter = Meter()
    TreeCode(meter, table.num_columns, table.num_classes, table.alphabets).tree(tree)
    return meter.length


def prices_beside(beside: Counter[Comparison], table: Binned) -> Floats:
    """What one more test costs about, in bits ``[2, bins]``, in a tree with these tests; infinite for what is none."""
    tests, columns = beside.total(), math.log2(table.num_columns)
    pairs = np.array([subject.other is not None for subject in table.subjects])
    both = columns + math.log2(max(1, table.num_columns - 1)) + 8.5
    subject = math.log2((4 + tests) / 4) + np.where(pairs, both, columns + 0.2)
    uses = Counter[int]()
    for test, count in beside.items():
        uses[table.number(test)] += count
    for number, count in uses.items():
        # of a subject that was used, exponent and first digits are mostly known
        saved = 0.0 if number in table.alphabets else 3.0
        subject[number] = math.log2((4 + tests) / count) - saved
    prices = table.threshold_bits + subject[table.subject]
    for test in beside:
        number = table.number(test)
        prices[table.bin_of(test)] = subject[number] + 4.0
    # a test also turns a leaf into two
    return prices + _LEAVES


def comparisons(tree: Tree) -> Counter[Comparison]:
    """How often each test is in a tree."""
    if isinstance(tree, Leaf):
        return Counter()
    return Counter([tree.test]) + comparisons(tree.passed) + comparisons(tree.failed)


@dataclass(frozen=True, eq=False)
class Grown:
    """A tree that was grown, before it is pruned: its test, what passes and fails, errors of a leaf."""

    errors: int
    label: int
    price: float = 0.0
    test: Comparison | None = None
    passed: Grown | None = None
    failed: Grown | None = None


def grow(
    table: Binned,
    rows: Rows,
    beside: Counter[Comparison],
    nats_per_bit: float,
    should_stop: Callable[[], bool] = lambda: False,
    noise: Callable[[], Floats | float] = lambda: 1.0,
) -> Grown:
    """Grow greedily: the test with the largest gain in entropy beyond its price, until none has any.

    Args:
        table: with the training examples.
        rows: of those that arrive here.
        beside: the tests elsewhere in the tree.
        nats_per_bit: what a bit must gain.
        should_stop: asked at every node; what is not grown by then is a leaf.
        noise: makes what multiplies the gains of a node, ``[1, bins]`` or 1.
    """
    left, beside = MAX_SPLITS, Counter(beside)

    def descend(rows: Rows, depth: int) -> Grown:
        nonlocal left
        counts = np.bincount(table.labels[rows], minlength=table.num_classes)
        label = int(counts.argmax())
        leaf = Grown(int(len(rows) - counts[label]), label)
        if leaf.errors == 0 or depth >= _MAX_DEPTH or left <= 0 or should_stop():
            return leaf
        passing = table.passing(table.counts(rows))
        gain = table.entropies(counts) - table.entropies(passing) - table.entropies(counts - passing)
        prices = prices_beside(beside, table)
        gain -= nats_per_bit * prices
        gain = np.where(gain > 0, gain * noise(), gain)
        best = int(gain.argmax())
        if not gain.flat[best] > 0:
            return leaf
        left -= 1
        kind, number = divmod(best, table.num_bins)
        test = table.test(kind, number)
        passes = table.passes(test, rows)
        if passes.all() or not passes.any():
            return leaf
        beside[test] += 1
        children = descend(rows[passes], depth + 1), descend(rows[~passes], depth + 1)
        return Grown(leaf.errors, label, float(prices.flat[best]), test, *children)

    return descend(rows, 0)


def prune(grown: Grown, errors_per_bit: float) -> tuple[Tree, float]:
    """The subtree with the fewest errors plus bits at this rate, and that sum (exact but for the prices)."""
    if grown.test is None or grown.passed is None or grown.failed is None:
        return Leaf(grown.label), float(grown.errors)
    passed, cost = prune(grown.passed, errors_per_bit)
    failed, more = prune(grown.failed, errors_per_bit)
    total = cost + more + errors_per_bit * grown.price
    if total >= grown.errors or passed == failed:
        return Leaf(grown.label), float(grown.errors)
    return Split(grown.test, passed, failed), total


def tidy(tree: Tree) -> Tree:
    """The same decisions without tests that decide nothing."""
    if isinstance(tree, Leaf):
        return tree
    passed, failed = tidy(tree.passed), tidy(tree.failed)
    return passed if passed == failed else Split(tree.test, passed, failed)


def predictions(table: Binned, tree: Tree, rows: Rows) -> Rows:
    """The class ``[len(rows)]`` that a tree of this table gives each of the rows."""
    return decide(tree, rows, lambda test, some: table.passes(test, some))
