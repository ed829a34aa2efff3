"""Output deviations against loops, and the margin theorem: the printed form fails where the right one holds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert import Helper, Preprocessing, Role, Sample, capture
from bitcert.comparison.deviation import (
    FRACTIONS,
    QUANTILES,
    OutputDeviation,
    original_classifier,
    output_deviation,
    quantile,
)
from bitcert.errors import InputError
from tests.reference import deviation_naive as naive


class Table:
    """A classifier that looks its logits up: the input is the example's number."""

    def __init__(self, logits) -> None:
        self.logits = torch.tensor(np.asarray(logits, dtype=np.float32))

    def __call__(self, inputs) -> torch.Tensor:
        return self.logits[torch.from_numpy(inputs[:, 0].astype(np.int64))]


def numbered(labels, num_classes: int, role: Role = Role.TRAIN) -> Sample:
    inputs = np.arange(len(labels), dtype=np.float32)[:, None]
    return Sample(inputs, None if role is Role.UNLABELLED else np.array(labels), num_classes, role, "numbered")


def compare(f, g, labels, batch_size: int = 7) -> OutputDeviation:
    return output_deviation(Table(f), Table(g), numbered(labels, len(f[0])), batch_size)


def random_logits(seed: int, count: int = 60, classes: int = 4):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(count, classes)).astype(np.float32)
    g = (f + 0.4 * rng.normal(size=f.shape) * rng.random((count, 1)) ** 3).astype(np.float32)
    return f, g, rng.permutation(np.arange(count) % classes)


@pytest.mark.parametrize("seed", range(3))
def test_deviations_are_those_of_the_loops(seed):
    f, g, labels = random_logits(seed)
    deviation = compare(f, g, labels)
    columns = naive.deviations(f.tolist(), g.tolist())
    for found, values in zip((deviation.entrywise, deviation.l2, deviation.relative), columns, strict=True):
        assert found.maximum == pytest.approx(max(values), rel=1e-12)
        assert found.mean == pytest.approx(sum(values) / len(values), rel=1e-12)
        assert found.worst_index == values.index(max(values))
        for level in QUANTILES:
            assert found.quantiles[level] == pytest.approx(naive.order_statistic(values, level), rel=1e-12)
    assert deviation.disagreements == sum(int(np.argmax(a) != np.argmax(b)) for a, b in zip(f, g, strict=True))
    assert deviation.original_error == naive.margin_loss(f.tolist(), labels.tolist(), 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_margin_losses_are_those_of_the_loops(seed):
    f, g, labels = random_logits(seed)
    entrywise, l2, _ = naive.deviations(f.tolist(), g.tolist())
    for row in compare(f, g, labels).comparisons:
        left_out = (60 - math.ceil(row.fraction * 60)) / 60
        gamma = naive.order_statistic(entrywise, row.fraction)
        gamma_l2 = math.sqrt(2) * naive.order_statistic(l2, row.fraction)
        losses = [naive.margin_loss(f.tolist(), labels.tolist(), g) for g in (2 * gamma, gamma, gamma_l2)]
        assert (row.gamma, row.gamma_l2) == pytest.approx((gamma, gamma_l2), rel=1e-12)
        found = (row.margin_loss, row.printed_margin_loss, row.margin_loss_l2)
        assert found == pytest.approx([min(1.0, loss + left_out) for loss in losses], abs=1e-12)
        assert row.error == naive.margin_loss(g.tolist(), labels.tolist(), 0.0)


def test_the_printed_margin_form_fails_where_twice_gamma_holds():
    """Erratum 4: an entrywise error of 1 closes a margin of 2, though every margin exceeds gamma = 1."""
    f, g = [[1.0, -1.0], [-1.0, 1.0]], [[0.0, 0.0], [-1.0, 1.0]]
    found = compare(f, g, [0, 1]).compressibility
    assert found is not None
    assert (found.gamma, found.error) == (1.0, 0.5)
    assert (found.printed_margin_loss, found.holds_as_printed) == (0.0, False)
    assert (found.margin_loss, found.holds) == (1.0, True)
    assert found.gamma_l2 == pytest.approx(2.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.3, 2.0]), st.integers(2, 5), st.integers(2, 40))
def test_the_right_forms_always_hold(seed, noise, classes, count):
    rng = np.random.default_rng(seed)
    f = np.round(rng.normal(size=(count, classes)) * 4) / 4  # ties, and deviations that exactly close a margin
    g = f + np.round(noise * rng.normal(size=f.shape) * 4) / 4
    for row in compare(f, g, np.arange(count) % classes).comparisons:
        assert row.holds
        assert row.holds_l2


def test_the_same_network_does_not_deviate():
    f, _, labels = random_logits(0)
    deviation = compare(f, f, labels)
    assert (deviation.entrywise.maximum, deviation.l2.maximum, deviation.disagreements) == (0.0, 0.0, 0)
    assert all(row.error == row.margin_loss == row.margin_loss_l2 or row.fraction < 1 for row in deviation.comparisons)
    assert [row.fraction for row in deviation.comparisons] == list(FRACTIONS)


def test_batches_do_not_matter():
    f, g, labels = random_logits(1)
    assert compare(f, g, labels, 1) == compare(f, g, labels, 60)


def test_logits_that_are_not_finite_deviate_infinitely_and_are_errors():
    f, g = [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]], [[math.nan, 0.0], [0.0, 1.0], [math.inf, 0.0]]
    deviation = compare(f, g, [0, 1, 0])
    assert deviation.entrywise.maximum == deviation.l2.maximum == deviation.relative.maximum == math.inf
    assert deviation.disagreements == 2
    found = deviation.compressibility
    assert (found.error, found.margin_loss) == (2 / 3, 1.0)
    document = json.loads(json.dumps(deviation.describe(), allow_nan=False))
    assert document["entrywise"]["maximum"] is None
    assert document["comparisons"][0]["holds"] is True


def test_a_zero_output_has_no_relative_deviation_of_itself():
    deviation = compare([[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [1.0, 1.0]], [0, 1])
    assert (deviation.relative.skipped, deviation.relative.maximum) == (1, 1.0)
    assert compare([[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2, [0, 1]).relative.skipped == 2


def test_without_labels_only_deviations_are_measured():
    f, g, labels = random_logits(2)
    deviation = output_deviation(Table(f), Table(g), numbered(labels, 4, Role.UNLABELLED))
    assert (deviation.original_error, deviation.comparisons, deviation.compressibility) == (None, (), None)
    assert deviation.entrywise == compare(f, g, labels).entrywise


def test_networks_of_different_tasks_are_refused():
    with pytest.raises(InputError, match="of one shape from both networks"):
        output_deviation(Table([[0.0, 1.0]] * 2), Table([[0.0, 1.0, 2.0]] * 2), numbered([0, 1], 2))
    with pytest.raises(InputError, match="labels below the number of logits"):
        output_deviation(Table([[0.0, 1.0]] * 3), Table([[0.0, 1.0]] * 3), numbered([0, 1, 2], 3))


def test_the_original_classifier_predicts_as_the_network_does():
    torch.manual_seed(0)
    network = capture(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), torch.rand(2, 1, 2, 2))
    helper = Helper((1, 2, 2), 3, Preprocessing(2.0), network.architecture)
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    assert torch.equal(original_classifier(network, helper)(x), network(torch.from_numpy(x) / 2))


def test_quantiles_occur_in_the_data():
    assert [quantile(np.array([5.0, 1.0, 3.0]), level) for level in (0.0, 0.34, 0.67, 1.0)] == [1.0, 3.0, 5.0, 5.0]
