import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.codecs.base import Selection
from bitcert.codecs.convolution_project import ConvolutionProject, location_error
from bitcert.codecs.quantiser import Uniform
from bitcert.decoder import Helper, HelperWeights, decode_message
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError
from bitcert.theory.formulas.projection_tail import num_projections


def make():
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2, stride=2), nn.Flatten(), nn.Linear(16, 3)]
    return capture(nn.Sequential(*layers), torch.randn(2, 2, 6, 6))


@pytest.fixture(scope="module")
def network():
    return make()


@pytest.fixture(scope="module")
def helper(network):
    return Helper((2, 6, 6), 3, predictor=network.architecture)


def decoded(codec, network, helper):
    return decode_message(codec.encode(network, helper=helper).message, helper)


def test_convolutions_become_locally_connected(network, helper):
    found = decoded(ConvolutionProject(), network, helper)
    classifier = found.classifier
    assert [node.op for node in classifier.predictor.nodes if "conv" in node.op] == ["local_conv2d", "local_conv2d"]
    assert classifier.weights["0.weight"].shape == (16, 4, 2, 3, 3)
    assert classifier.weights["2.weight"].shape == (4, 4, 4, 2, 2)
    assert classifier.weights["4.weight"].shape == (3, 16)
    assert "2 x filter projection" in found.description
    logits = classifier(np.random.default_rng(0).standard_normal((5, 2, 6, 6)).astype(np.float32))
    assert logits.shape == (5, 3)
    assert logits.isfinite().all()


def test_selected_layers_only(network, helper):
    codec = ConvolutionProject(selection=Selection(("2.weight",)))
    classifier = decoded(codec, network, helper).classifier
    assert [node.op for node in classifier.predictor.nodes if "conv" in node.op] == ["conv2d", "local_conv2d"]


def test_many_tensors_approach_the_convolution(network, helper):
    # the difference from a start nearby is projected, so that its error is small next to the filter
    start = {name: value.detach() - 1e-3 for name, value in network.parameters.items()}
    known = replace(helper, weights=HelperWeights.of(network.architecture, start))
    codec = ConvolutionProject(
        ratio=1.0, copies=1, dense_ratio=1.0, selection=Selection(base=Base.FILE), quantiser=Uniform(2.0**-6)
    )
    inputs = np.random.default_rng(0).standard_normal((9, 2, 6, 6)).astype(np.float32)
    expected = network.architecture.forward(torch.from_numpy(inputs), network.parameters)
    found = decoded(codec, network, known).classifier(inputs)
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_a_location_has_the_derived_error(network, helper):
    codec, errors = ConvolutionProject(k=8, copies=4, quantiser=Uniform(2.0**-6)), []
    truth = network.parameters["0.weight"]
    for seed in range(12):
        seeded = replace(codec, selection=Selection(("0.weight",), seed=seed))
        filters = decoded(seeded, network, helper).classifier.weights["0.weight"]
        errors.append(((filters - truth).square().sum() / len(filters) / truth.square().sum()).item())
    own, _ = location_error(8, 4, 72)
    assert np.mean(errors) == pytest.approx(own, rel=0.2)


def test_theory_has_the_law(network):
    theory = ConvolutionProject(k=8, copies=4).theory(network)
    first, second, dense = theory.layers
    assert (first.parameters, second.parameters, dense.parameters) == (32, 32, 32)
    assert (first.error, first.details["correlation"] * first.error) == pytest.approx(location_error(8, 4, 72))
    assert first.details["positions"] == 16
    assert first.details["correlation"] < 1 / 4
    # half of the 64 rows, for 48 entries
    assert dense.error == pytest.approx(0.25 + 0.25 * 47 / 63)


def test_counts_come_from_k_accuracy_or_ratio():
    network = make()

    def count(**options):
        details = ConvolutionProject(**options).theory(network).layers[0].details
        return details["k"], details["p"]

    assert count(k=5, copies=2) == (5, 2)
    assert count() == (128 // 8 // 3, 3)
    assert count(eta=0.01, k=2) == (2, 5)
    assert count(epsilon=0.9, copies=1) == (num_projections(0.9, math.log(20)), 1)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"copies": 0},
        {"ratio": 0.0},
        {"ratio": 1.5},
        {"ratio": math.nan},
        {"dense_ratio": 0.0},
        {"dense_ratio": 2.0},
        {"epsilon": 2.0},
        {"eta": 1.0},
        {"k": 3, "ratio": 0.5},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError) as caught:
        ConvolutionProject(**options)
    assert "\n" not in str(caught.value)


def test_a_subspace_larger_than_the_filter_is_refused(network, helper):
    with pytest.raises(InputError, match="1 to 128 dimensions"):
        ConvolutionProject(k=100, copies=2).encode(network, helper=helper)


def test_layers_too_large_to_be_local_are_refused():
    module = nn.Sequential(nn.Conv2d(2, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    network = capture(nn.Sequential(module, nn.Flatten()), torch.randn(2, 2, 64, 64))
    helper = Helper((2, 64, 64), 64, predictor=network.architecture)
    with pytest.raises(InputError, match="within the limits"):
        ConvolutionProject().encode(network, helper=helper)


def test_convolutions_of_sequences_are_refused():
    network = capture(nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(12, 3)), torch.randn(2, 2, 6))
    with pytest.raises(InputError, match="2-D convolution"):
        ConvolutionProject().encode(network, helper=Helper((2, 6), 3, predictor=network.architecture))
