"""Counting errors: ties and near-ties are errors, batches do not matter, and a wrong width is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitcert import Role, Sample
from bitcert.errors import InputError
from bitcert.evaluate import DecisionRule, ErrorCount, count_batch, count_errors, count_errors_at, margins


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


def test_several_tolerances_in_one_pass(sample):
    calls = []

    def classifier(inputs):
        calls.append(len(inputs))
        return linear(inputs)

    tolerances = (0.0, 1e-5, 0.5)
    together = count_errors_at(classifier, sample, 50, tolerances)
    assert calls == [50, 50, 3]
    assert together == tuple(count_errors(linear, sample, DecisionRule(tolerance=tol)) for tol in tolerances)


@pytest.mark.parametrize("width", [0, 1, 2, 4])
def test_a_wrong_width_is_refused(sample, width):
    with pytest.raises(InputError, match="3 logits for each example of s"):
        count_errors(lambda inputs: torch.zeros(len(inputs), width), sample)


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
