"""Noise that costs a stated accuracy: closed forms, an independent twin, search, examples, refusals."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.data import Role, Sample
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError
from bitcert.network import capture
from bitcert.theory.ingredients.flatness import PRECISION, affordable_examples, flatness, spread
from bitcert.theory.inputs import Flatness
from bitcert.theory.value import Absent, Status
from tests.reference import graph_naive as naive

QUANTILE = NormalDist().inv_cdf(0.9)


def separator(count=200, margin=1.0):
    """Every example has its own input coordinate, so its own noise: ``count`` independent margins of ``margin``."""
    labels = np.arange(count) % 2
    weight = torch.zeros(2, count)
    weight[torch.from_numpy(labels), torch.arange(count)] = margin
    layer = nn.Linear(count, 2, bias=False)
    layer.weight.data = weight
    network = capture(layer, torch.eye(count)[:3])
    return network, Sample(np.eye(count, dtype=np.float32), labels, 2, Role.TRAIN, "coordinates")


def trained(count=60, seed=0):
    """A small ReLU network and examples that it labels itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = capture(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(3, 4))
        inputs = torch.randn(count, 4)
    labels = network(inputs).argmax(1).numpy()
    return network, Sample(inputs.numpy(), labels, 3, Role.TRAIN, "own labels")


def measured(network, sample, **settings):
    return flatness(network, sample, Preprocessing(), **{"seed": 0, **settings})


def test_sigma_of_a_separator_is_the_closed_form():
    # the two logits differ by N(margin, 2 sigma^2)
    found = measured(*separator(margin=3.0))
    assert found.sigma == pytest.approx(3 / (math.sqrt(2) * QUANTILE), rel=0.1)
    assert found.accuracy == 1.0
    assert found.examples == 200
    assert found.reached <= 0.1
    assert found.reached == pytest.approx(0.1, abs=0.01)


def test_magnitude_aware_sigma_of_a_separator_is_the_closed_form():
    # noise sigma * margin on one of the weights, epsilon on both
    found = measured(*separator(margin=0.004))
    expected = math.sqrt((0.004 / QUANTILE) ** 2 - 2 * found.epsilon**2) / 0.004
    assert found.epsilon == 1e-3
    assert found.magnitude_sigma == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("drop", [0.1, 0.3])
def test_the_drop_is_crossed_there_by_an_independent_count(drop):
    network, sample = trained()
    found = measured(network, sample, seed=3, drop=drop, draws=4)
    x, y = torch.from_numpy(sample.inputs.copy()), sample.labels
    for sigma, epsilon, reached in (
        (found.sigma, None, found.reached),
        (found.magnitude_sigma, found.epsilon, found.magnitude_reached),
    ):
        assert naive.accuracy_drop(network, x, y, sigma, epsilon, 3, 4) == pytest.approx(reached, abs=1e-9)
        assert reached <= drop
        above = [
            naive.accuracy_drop(network, x, y, sigma * factor, epsilon, 3, 4) for factor in (1.005, 1.01, PRECISION)
        ]
        assert max(above) > drop


def test_weights_twice_as_large_bear_twice_the_noise():
    network, sample = separator(40, 1.0)
    doubled, _ = separator(40, 2.0)
    one, two = measured(network, sample), measured(doubled, sample)
    assert two.sigma == pytest.approx(2 * one.sigma, rel=1e-6)
    assert two.reached == one.reached


def test_the_same_seed_gives_the_same_and_the_global_stream_is_left_alone():
    network, sample = trained()
    state = torch.random.get_rng_state()
    first = measured(network, sample, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert measured(network, sample, seed=1) == first
    assert measured(network, sample, seed=2) != first


def test_a_budget_limits_the_examples_of_each_draw():
    network, sample = separator(200)
    work = sum(network.architecture.propagation.flops.values())
    assert affordable_examples(network, 200, 10, 20 * 10 * 15 * work) == 15
    assert affordable_examples(network, 200, 10, 1.0) == 10
    assert affordable_examples(network, 200, 10, 1e30) == 200
    assert affordable_examples(network, 5, 10, 1.0) == 5
    found = measured(network, sample, draws=10, budget=20 * 10 * 15 * work)
    assert found.examples == 150
    assert found.sigma == pytest.approx(1 / (math.sqrt(2) * QUANTILE), rel=0.3)


def test_memory_limits_the_examples_of_all_draws_together(monkeypatch):
    network, _ = separator(200)
    width = network.architecture.input_shape[0]
    monkeypatch.setattr("bitcert.theory.ingredients.flatness._MOST_ENTRIES", 150 * width)
    assert affordable_examples(network, 150, 10, 1e30) == 150, "once in memory for all draws"
    assert affordable_examples(network, 200, 10, 1e30) == 15


def test_examples_of_the_draws_are_spread_and_differ():
    parts = [spread(1000, 30, k, 10) for k in range(10)]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == 300
    assert together.min() == 0
    assert 980 < together.max() < 1000
    assert [spread(7, 7, k, 10).tolist() for k in (0, 9)] == [list(range(7))] * 2


def test_noise_below_the_floor_gives_a_sigma_of_zero_with_the_drop_it_costs():
    found = measured(*separator(margin=1e-4))
    assert found.magnitude_sigma == 0.0
    assert found.magnitude_reached > 0.1
    assert found.sigma == pytest.approx(1e-4 / (math.sqrt(2) * QUANTILE), rel=0.1)


def test_biases_get_noise_too():
    network, sample = trained()
    network.parameters["0.weight"].zero_()
    network.parameters["2.weight"].zero_()
    network.parameters["2.bias"].copy_(torch.tensor([1.0, 0.0, 0.0]))
    labels = np.zeros(len(sample), np.int64)
    labels[0] = 1  # two classes, as a sample must have
    found = measured(network, Sample(sample.inputs, labels, 3, Role.TRAIN, "first class"))
    assert isinstance(found, Flatness)


def test_progress_ends_at_one():
    seen = []
    measured(*separator(20), progress=lambda task, fraction: seen.append((task, fraction)))
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len({task for task, _ in seen}) == 1


def test_a_network_that_is_rarely_right_has_no_sigma():
    network, sample = separator(40)
    wrong = Sample(sample.inputs, 1 - sample.labels, 2, Role.TRAIN, "wrong labels")
    found = measured(network, wrong)
    assert isinstance(found, Absent)
    assert found.status is Status.OUTSIDE
    assert found.why.startswith("does not apply: ")
    assert "0 %" in found.why


def test_a_network_at_chance_has_no_sigma():
    network, sample = trained(200)
    labels = np.arange(200) % 3
    found = measured(network, Sample(sample.inputs, labels, 3, Role.TRAIN, "chance"), drop=0.25, draws=4)
    assert isinstance(found, Absent)
    assert "no noise takes 25 points" in found.why


def test_labels_are_needed():
    network, sample = separator(20)
    found = measured(network, Sample(sample.inputs, None, 2, Role.UNLABELLED, "bare"))
    assert isinstance(found, Absent)
    assert found.status is Status.NEEDS
    assert found.why.startswith("needs labels")


@pytest.mark.parametrize("settings", [{"drop": 0.0}, {"drop": 1.0}, {"draws": 1}, {"budget": 0.0}, {"drop": math.nan}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match="a drop in"):
        measured(*separator(20), **settings)
