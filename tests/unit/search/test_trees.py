"""Trees trained for the certificate: cuts by brute force, exact counts, the laws of tables, budget and resume."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bitcert import Helper, Role, Run, Sample, certify, decode_message
from bitcert.coding.trees import Leaf, Split, short_form
from bitcert.decoder.trees import answers, passes, write
from bitcert.errors import InputError
from bitcert.run import Checkpoint
from bitcert.search.tree_growth import at, comparisons, grow, paths, predictions, prune, put, tidy, tree_bits
from bitcert.search.tree_table import Binned, pairs_of, shortest_between
from bitcert.search.trees import TreeSearch, compress_trees

pytestmark = pytest.mark.usefixtures("steps")


def table_of(seed: int = 0, samples: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Columns of unlike units: the classes are boxes in two of them, with a tenth of the labels wrong."""
    rng = np.random.default_rng(seed)
    x = np.stack(
        [
            rng.normal(size=samples) * 1e4,
            rng.integers(0, 5, samples),
            np.abs(rng.normal(size=samples)) * 1e-2,
            rng.normal(size=samples) + 1000,
            np.full(samples, 7.0),
        ],
        1,
    ).astype(np.float32)
    y = np.where(x[:, 0] > 2000, 2, (x[:, 1] >= 3).astype(np.int64))
    wrong = rng.random(samples) < 0.1
    return x, np.where(wrong, rng.integers(0, 3, samples), y)


def sample_of(x: np.ndarray, y: np.ndarray) -> Sample:
    return Sample(x, y, 3, Role.TRAIN, "boxes")


def compressed(sample: Sample, budget: float = 4.0, **options):
    return compress_trees(sample, Helper.for_sample(sample), Run(budget_seconds=budget, **options))


def shortest(low: float, high: float) -> float:
    """By brute force: all numbers of so many digits, then of one more."""
    if low <= 0 < high:
        return 0
    for digits in range(24):
        for exponent in range(-12, 14):
            for whole in range(1 << digits, 2 << digits):
                for sign in (1, -1):
                    value = sign * math.ldexp(whole, exponent - digits)
                    if low <= value < high:
                        return digits
    raise AssertionError


@pytest.mark.parametrize("seed", range(4))
def test_the_shortest_number_of_a_gap_is_in_it_and_none_is_shorter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.normal(size=20).astype(np.float32).astype(np.float64) * 8
    high = low + np.abs(rng.normal(size=20)) * rng.choice([0.05, 1.0, 5.0], 20)
    found, digits = shortest_between(low, high)
    assert ((low <= found) & (found < high)).all()
    assert digits.tolist() == [shortest(a, b) for a, b in zip(low, high, strict=True)]
    assert digits.tolist() == [0 if value == 0 else short_form(abs(value))[1] for value in found]


def test_gaps_without_a_normal_float32_number_have_none() -> None:
    found, _ = shortest_between(np.array([1e-42, 1.0]), np.array([1e-41, 1.0 + 2.0**-30]))
    assert np.isnan(found).tolist() == [True, False]
    assert np.isnan(shortest_between(np.array([1.0 + 2.0**-40]), np.array([1.0 + 2.0**-30]))[0]).all()


def test_every_test_of_a_table_decides_as_the_decoder_does() -> None:
    x, y = table_of()
    table = Binned.of(x, y, 3, pairs_of(x, range(5), 1))
    rows = np.arange(len(x))
    places = np.argwhere(table.tests)
    assert {table.test(*place).subject.other is None for place in places} == {True, False}
    for kind, number in places[:: max(1, len(places) // 300)]:
        test = table.test(int(kind), int(number))
        np.testing.assert_array_equal(table.passes(test, rows), passes(test, x))
        assert table.bin_of(test) == (kind, number)


def test_sums_over_those_that_pass_are_those_of_each_test() -> None:
    x, y = table_of(1, 120)
    table, rows = Binned.of(x, y, 3), np.arange(0, 120, 2)
    weights = np.linspace(-1, 2, len(rows))
    passing, counted = table.passing(table.totals(rows, weights)), table.passing(table.counts(rows))
    for kind, number in np.argwhere(table.tests):
        chosen = passes(table.test(int(kind), int(number)), x[rows])
        assert passing[kind, number] == pytest.approx(weights[chosen].sum())
        assert counted[kind, number].tolist() == np.bincount(y[rows][chosen], minlength=3).tolist()


def test_pruning_is_the_best_of_all_subtrees() -> None:
    x, y = table_of(2, 150)
    table = Binned.of(x, y, 3)
    grown = grow(table, np.arange(150), comparisons(Leaf(0)), 0.1)

    def all_costs(node, rate):
        costs = [float(node.errors)]
        if node.test is not None:
            parts = itertools.product(all_costs(node.passed, rate), all_costs(node.failed, rate))
            costs += [a + b + rate * node.price for a, b in parts]
        return sorted(set(costs))[:200]

    for rate in (0.05, 0.3, 1.0):
        tree, cost = prune(grown, rate)
        assert cost == pytest.approx(all_costs(grown, rate)[0])
        assert tidy(tree) == tree


def test_a_certificate_counts_what_the_search_booked() -> None:
    sample = sample_of(*table_of())
    result = compressed(sample)
    best = min(result.candidates, key=lambda candidate: candidate.bound)
    certificate = certify(result, sample)
    assert (certificate.errors, certificate.message_bits) == (best.errors, best.message_bits)
    assert certificate.bound < 0.3
    tree = decode_message(result.message, result.helper).classifier.tree
    assert {test.subject.column for test in comparisons(tree)} >= {0, 1}


def test_every_change_of_a_node_is_judged_exactly() -> None:
    sample = sample_of(*table_of(3, 300))
    search = TreeSearch(sample, Helper.for_sample(sample), Run(budget_seconds=20))
    search.begin()
    search.start()
    before = search.top
    after = search.improve(before)
    assert after.cost(search.rate) <= before.cost(search.rate)
    assert after.errors == np.count_nonzero(answers(after.tree, sample.inputs) != sample.labels)
    assert after.bits == search.bits(after.tree)
    assert tidy(after.tree) == after.tree


def bound_of(x: np.ndarray, y: np.ndarray) -> float:
    sample = sample_of(x, y)
    return certify(compressed(sample, 1.5), sample).bound


def test_of_all_changes_of_a_node_the_best_by_its_bytes_is_a_candidate() -> None:
    """Fewer bits in as many bytes save nothing, and one bit less may save a byte: what is kept is counted in bytes."""
    x, y = table_of(samples=150)
    search = TreeSearch(sample_of(x, y), Helper.for_sample(sample_of(x, y)), Run(budget_seconds=1e9))
    search.begin()
    counted = search.counted(prune(grow(search.table, search.rows, comparisons(search.top.tree), 0.2), 0.2)[0])
    kept = []
    for path in paths(counted.tree):
        rate, here = search.rate, at(counted.tree, path)
        changed = [
            search.counted(tidy(put(counted.tree, path, subtree)))
            for subtree in search.proposals(counted.tree, here, search.arriving(counted.tree, path))
        ]
        least = min(each.errors + rate * search.whole_bits(each.tree) for each in changed)
        search.better(counted, path)
        assert search.top.errors + rate * search.whole_bits(search.top.tree) <= least + 1e-6
        kept.append(search.top)
    assert all(8 * len(write(each.tree, search.helper)[0]) == search.whole_bits(each.tree) for each in kept)


def test_a_small_table_has_all_pairs_at_every_node() -> None:
    x, y = table_of()
    search = TreeSearch(sample_of(x, y), Helper.for_sample(sample_of(x, y)), Run(budget_seconds=1e9))
    search.begin()
    search.look_for_pairs()
    pairs = [subject for subject in search.table.subjects if subject.other is not None]
    assert len(set(pairs)) == len(pairs) == 6 * 2 * 5  # of the four columns that are not constant
    assert len(search.table) == len(x)


def test_a_table_in_another_order_or_other_units_has_the_same_certificate(monkeypatch) -> None:
    """The laws of tables, up to a byte and to the order in which equal gains are met."""
    x, y = table_of()
    usual = bound_of(x, y)
    rows, columns = np.random.default_rng(5).permutation(len(y)), [3, 0, 4, 2, 1]
    assert bound_of(x[rows], y[rows]) == usual
    assert bound_of(x[:, columns], y) == pytest.approx(usual, rel=0.02)
    for column, octaves in ((0, -9), (2, 12), (3, 3)):
        other = x.copy()
        other[:, column] *= 2.0**octaves
        # the last bits of a section depend on its numbers, and may take another byte
        assert bound_of(other, y) <= usual * 1.02


def test_a_constant_answer_is_certified_where_nothing_can_be_learned() -> None:
    rng = np.random.default_rng(0)
    x, y = np.ones((200, 4), np.float32), (rng.random(200) < 0.2).astype(np.int64)
    sample = Sample(x, y, 2, Role.TRAIN, "constant columns")
    result = compressed(sample, 2.0)
    assert isinstance(decode_message(result.message, result.helper).classifier.tree, Leaf)
    assert certify(result, sample).errors == y.sum()


def test_it_goes_on_from_its_checkpoint(tmp_path) -> None:
    sample = sample_of(*table_of())
    checkpoint = Checkpoint(tmp_path / "tree.safetensors", "this")
    first = compressed(sample, 1.0, checkpoint=checkpoint)
    second = compressed(sample, 3.0, checkpoint=checkpoint)
    assert second.candidates[0].name == "before"
    assert second.candidates[0].errors == min(first.candidates, key=lambda c: c.bound).errors
    assert min(c.bound for c in second.candidates) <= min(c.bound for c in first.candidates)


def test_too_many_columns_and_classes_are_refused_in_one_sentence() -> None:
    helper = Helper((1 << 12,), 1 << 12)
    sample = Sample(np.zeros((2, 1 << 12), np.float32), np.array([0, 1]), 1 << 12, Role.TRAIN, "wide")
    with pytest.raises(InputError, match="columns times classes of at most"):
        compress_trees(sample, helper, Run())


def test_the_best_tree_is_booked_once() -> None:
    search = TreeSearch(sample_of(*table_of()), Helper((5,), 3), Run())
    counted = search.counted(Split(passed=Leaf(0), failed=Leaf(2), test=search.table.test(0, 3)))
    for name in ("on the way", "restart 1"):
        search.book(name, counted)
    assert [candidate.name for candidate in search.run.candidates] == ["on the way"]


def test_bits_of_a_tree_are_those_of_its_message() -> None:
    tree = Split(passed=Leaf(0), failed=Leaf(2), test=Binned.of(*table_of(), 3).test(0, 3))
    search = TreeSearch(sample_of(*table_of()), Helper((5,), 3), Run())
    assert search.bits(tree) == pytest.approx(search.header_bits + tree_bits(tree, search.table), abs=8)
    assert predictions(search.table, tree, search.rows).tolist() == answers(tree, table_of()[0]).tolist()
