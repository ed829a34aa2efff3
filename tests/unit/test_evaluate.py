"""Counting errors: ties and near-ties are errors, batches do not matter, and a wrong width is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitcert import Role, Sample
from bitcert.counting import (
    DecisionRule,
    ErrorCount,
    FloatClassifier,
    Level,
    TwoWays,
    both_ways,
    count_batch,
    count_errors,
    count_losses,
    margins,
    one_pass,
    runs_in_double,
)
from bitcert.errors import InputError


def count(rows, labels, tolerance=1e-5):
    found = count_batch(torch.tensor(rows, dtype=torch.float32), np.array(labels), tolerance)
    assert found.samples == len(labels)
    return found.errors, found.near_ties


def naive_count(rows, labels, tolerance):
    """The slow twin: the definition, example by example."""
    errors = near_ties = 0
    for row, label in zip(rows, labels, strict=True):
        size = max(abs(value) for value in row)
        if not all(np.isfinite(row)):
            errors, near_ties = errors + 1, near_ties + 1
            continue
        margin = row[label] - max(value for other, value in enumerate(row) if other != label)
        first, second = sorted(row)[-1:-3:-1]
        errors += not margin > tolerance * size
        near_ties += first - second <= tolerance * size
    return errors, near_ties


@pytest.mark.parametrize(
    ("row", "label", "error", "near_tie"),
    [
        ([1.0, 0.0], 0, 0, 0),
        ([1.0, 0.0], 1, 1, 0),
        ([1.0, 1.0], 0, 1, 1),
        ([1.0, 1.0], 1, 1, 1),
        ([0.0, 0.0], 0, 1, 1),
        ([1.0, 1.0 - 1e-6], 0, 1, 1),
        ([1.0, 1.0 - 1e-4], 0, 0, 0),
        ([1e30, 1e30 * (1 - 1e-6)], 0, 1, 1),
        ([1e-30, 0.0], 0, 0, 0),
        ([-1e-30, 0.0], 1, 0, 0),
        ([-5.0, -5.00001], 0, 1, 1),
        ([3.0, 1.0, 1.0], 0, 0, 0),
        ([1.0, 3.0, 3.0], 0, 1, 1),
        ([float("nan"), 0.0], 0, 1, 1),
        ([1.0, float("nan")], 0, 1, 1),
        ([float("inf"), 0.0], 0, 1, 1),
        ([0.0, float("-inf")], 0, 1, 1),
        ([float("inf"), float("inf")], 1, 1, 1),
        ([3e38, -3e38], 0, 0, 0),
    ],
)
def test_one_example(row, label, error, near_tie):
    assert count([row], [label]) == (error, near_tie)


@given(
    rows=st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
    labels=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    tolerance=st.sampled_from([0.0, 1e-5, 0.1]),
)
def test_equals_the_definition(rows, labels, tolerance):
    assert count(rows, labels[: len(rows)], tolerance) == naive_count(rows, labels[: len(rows)], tolerance)


@given(
    rows=st.lists(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=2), min_size=1, max_size=6),
)
def test_a_larger_tolerance_counts_no_fewer(rows):
    labels = [0] * len(rows)
    found = [count(rows, labels, tolerance) for tolerance in (0.0, 1e-5, 1e-3, 0.5)]
    assert found == sorted(found)


def test_margins():
    margin, gap, size = margins(torch.tensor([[3.0, 1.0, -7.0], [0.0, 2.0, 5.0]]), np.array([0, 1]))
    assert margin.tolist() == [2.0, -3.0]
    assert gap.tolist() == [2.0, 3.0]
    assert size.tolist() == [7.0, 5.0]
    assert margin.dtype == torch.float64


@pytest.fixture
def sample():
    rng = np.random.default_rng(3)
    return Sample(rng.normal(size=(103, 4)).astype(np.float32), rng.integers(0, 3, 103), 3, Role.TRAIN, "s")


def linear(inputs):
    return torch.tensor(inputs) @ torch.arange(12.0).reshape(4, 3).cos()


@pytest.mark.parametrize("batch_size", [1, 2, 10, 102, 103, 5000])
def test_batch_size_does_not_matter(sample, batch_size):
    whole = count_errors(linear, sample)
    assert 0 < whole.errors < 103
    assert count_errors(linear, sample, DecisionRule(batch_size=batch_size)) == whole


def test_parts_add_up(sample):
    parts = [count_errors(linear, sample.take(slice(start, start + 40))) for start in (0, 40, 80)]
    assert parts[0] + parts[1] + parts[2] == count_errors(linear, sample)


def test_several_levels_in_one_pass(sample):
    calls = []

    def classifier(inputs):
        calls.append(len(inputs))
        return linear(inputs)

    for tolerance in (0.0, 1e-5, 0.25):
        calls.clear()
        together = count_losses(classifier, sample, DecisionRule(50, tolerance), levels=tuple(Level), ways=None)
        assert calls == [50, 50, 3]
        levels = (tolerance / 2, tolerance, 2 * tolerance)
        alone = [count_errors(linear, sample, DecisionRule(tolerance=each)) for each in levels]
        assert [each.errors for each in together] == alone
        assert not any(each.double for each in together)


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_a_wrong_width_is_refused(sample, width):
    with pytest.raises(InputError, match="3 logits for each example of s"):
        count_errors(lambda inputs: torch.zeros(len(inputs), width), sample)


def test_one_score_for_two_classes_is_refused_with_what_to_return():
    pair = Sample(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1]), 2, Role.TRAIN, "pair")
    with pytest.raises(InputError, match=r"torch\.stack"):
        count_errors(lambda inputs: torch.zeros(len(inputs), 1), pair)


@pytest.mark.parametrize("shape", [(5, 3), (103,), (103, 3, 1)])
def test_a_wrong_shape_is_refused(sample, shape):
    with pytest.raises(InputError, match="output width"):
        count_errors(lambda inputs: torch.zeros(shape), sample)


def test_nothing_keeps_a_gradient(sample):
    weight = torch.ones(4, 3, requires_grad=True)
    kept = []

    def classifier(inputs):
        kept.append(torch.tensor(inputs) @ weight)
        return kept[-1]

    count_errors(classifier, sample)
    assert not any(logits.requires_grad for logits in kept)


def test_progress_ends_at_one(sample):
    seen = []
    count_errors(linear, sample, DecisionRule(batch_size=40), lambda task, fraction: seen.append((task, fraction)))
    assert [fraction for _, fraction in seen] == [40 / 103, 80 / 103, 1.0]


def test_rate():
    assert ErrorCount(3, 1, 12).rate == 0.25


# Both ways


def ways(single, double):
    return TwoWays(torch.tensor(single, dtype=torch.float64), torch.tensor(double, dtype=torch.float64))


COARSE = DecisionRule(tolerance=0.25, rounding=3.0)


@pytest.mark.parametrize(
    ("single", "double", "slacks"),
    [
        ([4.0, 1.0, -8.0], [4.0, 1.0, -8.0], (1.0, 2.0, 4.0)),
        ([4.0, 1.0, -2.0], [4.0, 1.0, -8.0], (1.0, 18.0, 288.0)),
        ([4.0, 1.0, -8.0], [4.5, 1.0, -2.0], (1.0, 18.0, 288.0)),
        ([4.0, 1.0, -8.0], [4.5, 1.0, -8.0], (1.0, 2.0, 24.0)),
        ([4.0, 1.0, -8.0], [4.01, 1.0, -8.0], (1.0, 2.0, 4.0)),
    ],
)
def test_what_a_gap_must_exceed_at_each_level(single, double, slacks):
    """Half, once and twice a quarter of the largest logit; 3 and 48 times the largest difference of the two ways."""
    pair = ways([single], [double])
    assert [pair.slack(COARSE, level).item() for level in Level] == pytest.approx(slacks, rel=1e-12)
    assert [level.value for level in Level] == ["lenient", "certified", "strict"]


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
def test_a_logit_that_is_not_finite_in_one_way_is_an_error_at_every_level(odd):
    for pair in (ways([[9.0, odd]], [[9.0, 1.0]]), ways([[9.0, 1.0]], [[9.0, odd]]), ways([[9.0, odd]], [[9.0, odd]])):
        assert not pair.finite.item()
        assert pair.difference.item() == torch.inf
        for level in Level:
            found = pair.count(np.array([0]), COARSE, level)
            assert found == ErrorCount(1, 1, 1, 0)


def test_the_way_with_a_gap_of_exactly_the_slack_is_not_clear():
    """Slacks of the second rows are 2 and 4 where logits reach 8, half of it for the lenient judge."""
    for gap, clear in [
        (1.0, (0, 0, 0)),
        (1.001, (1, 0, 0)),
        (2.0, (1, 0, 0)),
        (2.001, (1, 1, 0)),
        (4.0, (1, 1, 0)),
        (4.001, (1, 1, 1)),
    ]:
        pair = ways([[8.0, 8.0 - gap]], [[8.0, 8.0 - gap]])
        assert tuple(int(pair.clear(COARSE, level)) for level in Level) == clear
        assert tuple(1 - pair.count(np.array([0]), COARSE, level).errors for level in Level) == clear


def test_the_lenient_judge_needs_only_the_sign_of_float32():
    apart = ways([[8.0, 7.999]], [[8.0, 5.0]])
    assert apart.clear(COARSE, Level.LENIENT)
    assert not ways([[8.0, 8.0]], [[8.0, 5.0]]).clear(COARSE, Level.LENIENT)
    assert not ways([[7.0, 8.0]], [[8.0, 5.0]]).clear(COARSE, Level.LENIENT), "another first place"
    assert not ways([[8.0, 5.0]], [[8.0, 7.999]]).clear(COARSE, Level.LENIENT)
    turned = ways([[5.0, 8.0]], [[8.0, 5.0]])
    assert [turned.count(np.array([label]), COARSE, Level.LENIENT).errors for label in (0, 1)] == [1, 1]


def test_near_ties_of_float32_alone_are_those_of_rounding():
    """Clear in float64, not clear by the differences of the ways; an unclear gap in float64 is no rounding."""
    pair = ways([[8.0, 4.5], [8.0, 7.0], [8.0, 0.0]], [[8.0, 3.0], [8.0, 7.0], [8.0, 0.0]])
    assert pair.count(np.array([0, 0, 1]), COARSE, Level.CERTIFIED) == ErrorCount(3, 2, 3, 1)
    for gap, found in [(1.0, (0, 0, 0)), (1.5, (1, 0, 0)), (2.5, (1, 1, 0)), (4.5, (1, 1, 1))]:
        pair = ways([[8.0, 8.0]], [[8.0, 8.0 - gap]])
        assert tuple(pair.count(np.array([0]), COARSE, level).rounding for level in Level) == found


def test_counts_add_up_in_every_number():
    assert ErrorCount(1, 2, 3, 4) + ErrorCount(10, 20, 40, 50) == ErrorCount(11, 22, 43, 54)
    assert ErrorCount(3, 0, 12).rate == 0.25


def test_the_rule_unless_another_one_is_asked_for():
    assert DecisionRule() == DecisionRule(batch_size=1000, tolerance=1e-4, dtype="float32", rounding=16.0)


def test_the_rule_says_what_the_second_way_was():
    rule = DecisionRule(batch_size=7, tolerance=0.5, rounding=2.0)
    common = {"dtype": "float32", "batch_size": 7, "tolerance": 0.5, "second_batches": "halves of the first"}
    assert rule.describe(True) == {**common, "second_dtype": "float64", "rounding": 2.0}
    assert rule.describe(False) == {**common, "second_dtype": "float32", "rounding": 2.0}


class Doubling(FloatClassifier):
    """Twice the inputs; ``wrong`` is raised, or is the type that float64 really gives."""

    def __init__(self, wrong=None):
        self.wrong, self.seen = wrong, []

    def logits(self, inputs, dtype):
        self.seen.append((len(inputs), dtype))
        assert not torch.is_grad_enabled()
        if dtype is torch.float64 and isinstance(self.wrong, Exception):
            raise self.wrong
        return 2 * torch.tensor(inputs).to(self.wrong if isinstance(self.wrong, torch.dtype) else dtype)


@pytest.mark.parametrize(
    "wrong", [RuntimeError("no"), TypeError("no"), ValueError("no"), InputError("a", "b", "c"), torch.float32]
)
def test_what_cannot_run_in_float64_does_not(sample, wrong):
    assert runs_in_double(Doubling(wrong), sample) is False
    assert runs_in_double(linear, sample) is False


def test_two_examples_tell_whether_float64_runs(sample):
    classifier = Doubling()
    assert runs_in_double(classifier, sample)
    assert classifier.seen == [(2, torch.float64)]
    with pytest.raises(KeyError):
        runs_in_double(Doubling(KeyError("a bug, not a refusal")), sample)


HALVES = {103: [52, 51], 102: [51, 51, 1], 50: [25, 25, 25, 25, 2, 1], 2: [2] * 51 + [1], 1: [1] * 103}


@pytest.mark.parametrize(("batch_size", "halves"), HALVES.items())
def test_the_second_way_takes_halves_of_at_least_two(batch_size, halves):
    inputs = np.random.default_rng(0).normal(size=(103, 3)).astype(np.float32)
    rows = Sample(inputs, np.arange(103) % 3, 3, Role.TRAIN, "rows")
    for double, dtype in [(True, torch.float64), (False, torch.float32)]:
        classifier = Doubling()
        found = [
            (ways, labels) for (ways,), labels in one_pass([both_ways(classifier, rows, double)], rows, batch_size)
        ]
        first = [min(batch_size, 103 - start) for start in range(0, 103, batch_size)]
        assert [len(labels) for _, labels in found] == first
        pairs, second = iter(classifier.seen), []
        for size in first:
            assert next(pairs) == (size, torch.float32)
            while size:
                length, kind = next(pairs)
                assert kind is dtype
                second.append(length)
                size -= length
        assert second == halves
        assert torch.equal(torch.cat([each.double for each, _ in found]), 2 * torch.tensor(inputs).double())
        assert all(each.single.dtype == each.double.dtype == torch.float64 for each, _ in found)


def test_gradients_stay_on_for_who_reads_both_ways(sample):
    assert [torch.is_grad_enabled() for _ in one_pass([both_ways(linear, sample, False)], sample, 50)] == [True] * 3


def test_unlabelled_examples_come_with_zeros(sample):
    bare = Sample(sample.inputs, None, 3, Role.UNLABELLED, "bare")
    assert [labels.tolist() for _, labels in one_pass([linear], bare, 60)] == [[0] * 60, [0] * 43]


def test_a_second_way_of_another_width_is_refused(sample):
    class Wide(Doubling):
        def logits(self, inputs, dtype):
            return torch.zeros(len(inputs), 4 if dtype is torch.float64 else 3, dtype=dtype)

    with pytest.raises(InputError, match="3 logits"):
        both_ways(Wide(), sample, True)(sample.inputs)


def test_progress_is_the_part_that_was_counted(sample):
    told = []
    count_errors(linear, sample, DecisionRule(50), lambda what, part: told.append((what, part)))
    assert told == [("counting errors", 50 / 103), ("counting errors", 100 / 103), ("counting errors", 1.0)]
