"""Counting in two ways: another machine's rounding, simulated by another order of summation, fails no honest count."""

import numpy as np
import pytest
import torch

from bitcert import DecisionRule, Preprocessing, Role, Sample, capture
from bitcert.certificates.original import RawClassifier
from bitcert.counting import Level, TwoWays, count_disagreements, count_errors, count_losses, runs_in_double
from bitcert.losses import parse_losses
from bitcert.proof.claims import LOSS_UNITS

LEVELS = (Level.LENIENT, Level.CERTIFIED, Level.STRICT)
RULE = DecisionRule(batch_size=64)


def ill_conditioned(loss_of_digits, order_seed=None):
    """A linear function computed through 96 hidden units whose contributions cancel but for a few digits.

    With another ``order_seed`` the hidden units are summed in another order: the same function on another machine.
    """
    rng = np.random.default_rng(1)
    first = rng.normal(size=(96, 4))
    second = np.linalg.pinv(first)[:3]
    null = rng.normal(size=(3, 96))
    null -= null @ first @ np.linalg.pinv(first)
    second = second + 10.0**loss_of_digits * null
    if order_seed is not None:
        order = np.random.default_rng(order_seed).permutation(96)
        first, second = first[order], second[:, order]
    module = torch.nn.Sequential(torch.nn.Linear(4, 96, bias=False), torch.nn.Linear(96, 3, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.from_numpy(first))
        module[1].weight.copy_(torch.from_numpy(second))
    network = capture(module, torch.zeros(2, 4))
    return RawClassifier(network.architecture, network.parameters, Preprocessing())


@pytest.fixture(scope="module")
def sample():
    inputs = np.random.default_rng(0).normal(size=(900, 4)).astype(np.float32)
    return Sample(inputs, inputs[:, :3].argmax(1), 3, Role.TRAIN, "largest of three")


def counts(classifier, sample, levels=LEVELS):
    return [each.errors for each in count_losses(classifier, sample, RULE, levels=levels)]


@pytest.mark.parametrize("digits", [0, 1, 2, 3, 4, 5])
def test_an_honest_count_lies_between_those_of_every_other_order(sample, digits):
    """Float64 sees another function with each order only by 1e-16; float32 may see nothing but rounding."""
    claimed = counts(ill_conditioned(digits), sample, (Level.CERTIFIED,))[0]
    for seed in range(12):
        low, _, high = counts(ill_conditioned(digits, seed), sample)
        assert low.errors <= claimed.errors <= high.errors
        assert low.near_ties <= claimed.near_ties <= high.near_ties
        assert claimed.rounding <= high.near_ties


def test_counting_in_float32_alone_would_fail():
    """The broken twin: with one way and twice the tolerance honest counts of ill-conditioned networks do not agree."""
    inputs = np.random.default_rng(0).normal(size=(900, 4)).astype(np.float32)
    sample = Sample(inputs, inputs[:, :3].argmax(1), 3, Role.TRAIN, "largest of three")
    claimed = count_errors(ill_conditioned(4), sample, RULE).errors
    others = [ill_conditioned(4, seed) for seed in range(12)]
    low = [count_errors(each, sample, DecisionRule(64, RULE.tolerance / 2)).errors for each in others]
    high = [count_errors(each, sample, DecisionRule(64, 2 * RULE.tolerance)).errors for each in others]
    assert any(not a <= claimed <= b for a, b in zip(low, high, strict=True))


def test_a_well_conditioned_network_loses_nothing(sample):
    classifier = ill_conditioned(0)
    certified = counts(classifier, sample)[1]
    assert certified.rounding == 0
    assert certified.errors == count_errors(classifier, sample, RULE).errors


def test_what_float32_cannot_decide_is_an_error(sample):
    certified = counts(ill_conditioned(6), sample)[1]
    assert certified.errors > 800
    assert certified.rounding > 800
    exact = ill_conditioned(6).logits(sample.inputs, torch.float64)
    assert int((exact.argmax(1).numpy() != sample.labels).sum()) < 200, "in float64 it is a good network"


def test_disagreements_are_counted_in_both_ways(sample):
    unlabelled = Sample(sample.inputs, None, 3, Role.UNLABELLED, "bare")
    good, bad = ill_conditioned(0), ill_conditioned(5)
    low, certified, high = (c.disagreements for c in count_disagreements(good, bad, unlabelled, RULE, LEVELS))
    assert low < certified < high
    for seed in range(6):
        pair = ill_conditioned(0, seed), ill_conditioned(5, seed + 50)
        bounds = [c.disagreements for c in count_disagreements(*pair, unlabelled, RULE, LEVELS)]
        assert bounds[0] <= certified <= bounds[2]


@pytest.mark.parametrize("digits", [0, 3, 5])
def test_other_losses_hold_on_other_machines_too(sample, digits):
    losses = parse_losses(["top-2", "margin:0.2", "brier"], 3)
    claimed = count_losses(ill_conditioned(digits), sample, RULE, losses)[0].totals
    for seed in range(6):
        low, high = count_losses(ill_conditioned(digits, seed), sample, RULE, losses, (Level.LENIENT, Level.STRICT))
        assert all(a <= c <= b for a, c, b in zip(low.totals, claimed, high.totals, strict=True))


def test_brier_never_counts_less_than_float64_says(sample):
    brier = parse_losses(["brier"], 3)
    for digits in (0, 4):
        classifier = ill_conditioned(digits)
        exact = torch.softmax(classifier.logits(sample.inputs, torch.float64), 1).numpy()
        value = 0.5 * ((exact - np.eye(3)[sample.labels]) ** 2).sum()
        assert count_losses(classifier, sample, RULE, brier)[0].totals[0] / LOSS_UNITS >= value


def test_levels_are_ordered_example_by_example():
    rng = np.random.default_rng(3)
    for scale in (0.0, 1e-6, 1e-4, 1e-2, 1.0):
        double = torch.from_numpy(rng.normal(size=(500, 3)))
        ways = TwoWays(double + scale * torch.from_numpy(rng.normal(size=(500, 3))), double)
        clear = [ways.clear(RULE, level) for level in LEVELS]
        assert (clear[0] | ~clear[1]).all()
        assert (clear[1] | ~clear[2]).all()
        labels = rng.integers(0, 3, 500)
        errors = [ways.count(labels, RULE, level).errors for level in LEVELS]
        assert errors == sorted(errors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_logits_that_are_not_finite_in_one_way_are_errors(value):
    double = torch.tensor([[value, 0.0], [3.0, 1.0]], dtype=torch.float64)
    single = torch.tensor([[3.0, 0.0], [3.0, 1.0]], dtype=torch.float64)
    for ways in (TwoWays(single, double), TwoWays(double, single)):
        for level in (Level.CERTIFIED, Level.STRICT):
            assert ways.count(np.array([0, 0]), RULE, level).errors == 1


def test_batches_of_the_second_way_are_halves():
    seen = []

    def classifier(inputs):
        seen.append(len(inputs))
        return torch.tensor(inputs)

    inputs = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
    sample = Sample(inputs, inputs.argmax(1), 3, Role.TRAIN, "rows")
    assert not runs_in_double(classifier, sample)
    found = count_losses(classifier, sample, DecisionRule(batch_size=10))[0]
    assert not found.double
    assert seen == [10, 5, 5, 10, 5, 5, 1, 1]


def test_a_classifier_that_depends_on_its_batch_loses_what_differs():
    """What one batch size decides otherwise than another is not certified."""

    def classifier(inputs):
        x = torch.tensor(inputs)
        return x - x.mean(0, keepdim=True)

    inputs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    sample = Sample(inputs, inputs.argmax(1), 3, Role.TRAIN, "rows")
    found = count_losses(classifier, sample, DecisionRule(batch_size=50))[0].errors
    assert found.rounding > 50
    assert found.errors > count_errors(classifier, sample, DecisionRule(batch_size=50)).errors
