"""The search's own compressors: a strength for each layer, codecs in turn, differences from a helper network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, HelperWeights, Role, Run, Sample, capture, certify, decode_message
from bitcert.codecs.base import LayerCodec, Selection
from bitcert.codecs.best import PlainCodecs
from bitcert.codecs.quantise import Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.errors import InputError
from bitcert.search import Checkpoint
from bitcert.search.difference import compress_difference, difference_codecs
from bitcert.search.strengths import compress_per_layer, menu


@pytest.fixture(scope="module")
def problem():
    """2,000 points [6] and a network whose first layer matters finely, whose second one hardly at all."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2000, 6)).astype(np.float32)
    labels = (inputs[:, 0] + 0.7 * inputs[:, 1] > 0).astype(np.int64)
    net = nn.Sequential(nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1, 0.7, 0, 0, 0, 0], [-1, -0.7, 0, 0, 0, 0]]))
        net[2].weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
        net[0].bias.zero_()
        net[2].bias.zero_()
    sample = Sample(inputs, labels, 2, Role.TRAIN, "half planes")
    network = capture(net, torch.zeros(2, 6))
    return network, sample, Helper.for_sample(sample, network.architecture)


def test_a_strength_for_each_layer_is_no_worse_than_one_for_all(problem):
    network, sample, helper = problem
    found = compress_per_layer(network, sample, helper, Run(budget_seconds=2.0))
    first = found.candidates[0]
    assert first.name == "the same for all layers"
    certificate = certify(found, sample)
    assert certificate.bound == min(c.bound for c in found.candidates) <= first.bound
    assert decode_message(found.message, helper).ledger == found.ledger


def test_without_time_there_is_still_a_strength(problem):
    network, sample, helper = problem
    run = Run(budget_seconds=1e6)
    run.stop()
    assert certify(compress_per_layer(network, sample, helper, run), sample).bound <= 1


def test_the_menu_holds_codecs_that_work_layer_by_layer():
    assert len(menu()) > 10
    assert all(isinstance(codec, LayerCodec) for codec in menu())


QUANTISE = tuple(Quantise(quantiser=Uniform(step)) for step in (0.01, 0.1, 0.5))


def test_codecs_in_turn_go_on_where_the_time_ended(problem, tmp_path):
    network, sample, helper = problem
    plain = PlainCodecs(QUANTISE, network)
    wanted = plain(sample, helper, Run())
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    short = Run(budget_seconds=1e6, checkpoint=checkpoint)
    short.stop()
    assert len(plain(sample, helper, short).candidates) == 1
    found = plain(sample, helper, Run(checkpoint=checkpoint))
    assert found.message == wanted.message
    assert [c.name for c in found.candidates] == [codec.label for codec in QUANTISE]


def test_codecs_that_all_refuse_are_told(problem):
    network, sample, helper = problem
    bad = PlainCodecs((Quantise(selection=Selection(layers=("nowhere",))),), network)
    with pytest.raises(InputError, match="weight layer"):
        bad(sample, helper, Run())


def shifted(problem):
    """A helper network that was made for a slightly other half plane."""
    network, sample, helper = problem
    parameters = {name: value.clone() for name, value in network.parameters.items()}
    name = network.weight_layers[0].weight
    parameters[name][:, 1] *= -0.5
    public = replace(network, parameters=parameters)
    return public, replace(helper, weights=HelperWeights.of(network.architecture, parameters)), sample


def test_a_tuned_helper_network_is_coded_as_a_difference(problem):
    network, helper, sample = shifted(problem)
    run = Run(budget_seconds=1.5)
    found = compress_difference(network, sample, helper, run, rate=0.03)
    as_it_is = network(torch.from_numpy(np.array(sample.inputs))).argmax(1).numpy() != sample.labels
    assert certify(found, sample).errors < 0.5 * as_it_is.sum()
    assert found.helper.weights is not None
    assert found.candidates


def test_a_difference_needs_a_helper_network(problem):
    network, sample, helper = problem
    with pytest.raises(InputError, match="helper network with weights"):
        compress_difference(network, sample, helper, Run(budget_seconds=1.0))


def test_differences_are_quantised_sparse_low_rank_and_of_the_last_layer_only(problem):
    codecs = difference_codecs(problem[0])
    assert {codec.name for codec in codecs} == {"quantise", "svd", "prune"}
    assert any(codec.selection.layers == (problem[0].weight_layers[-1].weight,) for codec in codecs)
