"""Coreset pruning: unbiased units, few weights, and a message that decodes to what was sampled."""

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, capture
from bitcert.codecs.coreset import Coreset, sample_units
from bitcert.errors import InputError
from bitcert.random import stream


def weights():
    return stream(0, "test coreset").normal(size=(3, 2, 5))


def test_every_unit_is_unbiased_with_the_variance_of_a_multinomial():
    values, draws = weights(), 5
    rng = stream(1, "test coreset draws")
    found = np.stack([sample_units(values, 0.5, rng) for _ in range(3_000)])
    totals = np.abs(values).sum((1, 2), keepdims=True)
    share = np.abs(values) / totals
    assert found.mean(0) == pytest.approx(values, abs=0.05 * float(totals.max()))
    assert found.std(0) == pytest.approx(totals * np.sqrt(share * (1 - share) / draws), rel=0.1)


def test_a_unit_keeps_its_sum_and_at_most_its_draws():
    found = sample_units(weights(), 0.3, stream(0, "x"))
    assert np.abs(found).sum((1, 2)) == pytest.approx(np.abs(weights()).sum((1, 2)))
    assert (np.count_nonzero(found.reshape(3, -1), axis=1) <= 3).all()
    assert not sample_units(np.zeros((2, 4)), 0.5, stream(0, "x")).any()


def test_the_message_decodes_to_the_sampled_layer():
    torch.manual_seed(0)
    network = capture(nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)).eval(), torch.zeros(2, 8))
    helper = Helper((8,), 3, predictor=network.architecture)
    codec = Coreset(keep=0.5)
    decoded = codec.decode(codec.encode(network, helper=helper).message, helper).classifier
    name = network.weight_layers[0].weight
    values = network.parameters[name].double().numpy()
    sampled = sample_units(values, 0.5, stream(0, f"coreset/{name}"))
    got = decoded.weights[name].numpy()
    step = 0.25 * np.sqrt(np.mean(sampled[sampled != 0] ** 2))
    assert np.abs(got - sampled).max() <= step
    assert codec.theory(network).parameters == sum(row.parameters for row in codec.theory(network).layers)


@pytest.mark.parametrize("keep", [0.0, 1.5, float("nan")])
def test_other_shares_are_refused(keep):
    with pytest.raises(InputError):
        Coreset(keep=keep)
