"""Norms of layers against the unrolled matrices of small networks, distances, and facts of each layer."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.errors import InputError
from bitcert.stability import Structure
from bitcert.theory.ingredients.weights import norm_3_15, weigh_layers
from bitcert.theory.value import Absent, Status
from tests.unit.theory import hand, nets

FIELDS = ("frobenius", "spectral", "norm_21", "norm_1inf", "norm_3_15")


def weighed(network, initial=None, **changes):
    parameters = {**network.parameters, **changes}
    return weigh_layers(network.architecture, Structure.of(network.architecture), parameters, initial)


@pytest.mark.parametrize(("make", "shape"), [(nets.chain, (5,)), (nets.convolutional, (2, 6, 6))])
def test_norms_and_distances_against_the_matrices(make, shape):
    network, start = nets.captured(make(), *shape), nets.captured(make(seed=1), *shape)
    found = weighed(network, start.parameters).layers
    assert len(found) == 3
    for layer in found:
        weight = network.parameters[layer.name].double().flatten(1).numpy()
        before = start.parameters[layer.name].double().flatten(1).numpy()
        for own, matrix in ((layer.norms, weight), (layer.distance, weight - before)):
            expected = hand.norms(matrix)
            for name in FIELDS:
                assert getattr(own, name) == pytest.approx(getattr(expected, name), rel=1e-9), name
            np.testing.assert_allclose(own.singular_values, expected.singular_values, rtol=1e-6)
        np.testing.assert_array_equal(layer.matrix(), weight)


def test_the_operator_norm_is_that_of_the_map_at_the_real_input_size():
    model = nets.convolutional()
    layers = weighed(nets.captured(model, 2, 6, 6)).layers
    with torch.no_grad():
        for layer, conv, size in zip(layers[:2], (model[0], model[2]), (6, 6), strict=True):
            channels = conv.in_channels
            eye = torch.eye(channels * size * size).reshape(-1, channels, size, size)
            matrix = (conv(eye) - conv(torch.zeros(1, channels, size, size))).flatten(1).T
            assert layer.norms.operator == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-5)
            assert layer.num_inputs == channels * size * size
            assert layer.norms.operator > layer.norms.spectral * 1.05
    assert layers[2].norms.operator == pytest.approx(layers[2].norms.spectral)


def test_facts_of_a_convolution():
    layer = weighed(nets.captured(nets.convolutional(), 2, 6, 6)).layers[1]
    assert (layer.op, layer.channels, layer.positions) == ("conv2d", 5, 4)
    assert layer.window == 4  # ceil(3 / 2) squared
    assert (layer.num_weights, layer.fan_in, layer.bias.numel(), layer.has_bias) == (180, 36, 5, True)


def test_a_bias_of_zeros_is_none():
    network = nets.captured(nets.chain(bias=True), 5)
    name, bias = "0.weight", "0.bias"
    pruned = network.parameters[name].clone()
    pruned[0] = 0
    layer = weighed(network, **{name: pruned, bias: torch.zeros(8)}).layers[0]
    assert (layer.has_bias, layer.bias.numel(), layer.num_weights) == (False, 8, 40)
    biased = weighed(network).layers[0]
    assert biased.has_bias
    assert biased.bias_norm == pytest.approx(float(biased.bias.norm()))
    assert (layer.bias_norm, weighed(nets.captured(nets.chain(), 5)).layers[0].bias_norm) == (0.0, 0.0)


def test_a_zero_layer_has_norms_of_zero():
    network = nets.captured(nets.convolutional(), 2, 6, 6)
    for layer in weighed(network, **{name: torch.zeros_like(v) for name, v in network.parameters.items()}).layers:
        assert {getattr(layer.norms, name) for name in (*FIELDS, "operator")} == {0.0}
        assert layer.norms.schatten(1.5) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norms_scale_with_the_weight(scale):
    network = nets.captured(nets.convolutional(), 2, 6, 6)
    large = weighed(network, **{name: value * scale for name, value in network.parameters.items()}).layers
    for layer, own in zip(large, weighed(network).layers, strict=True):
        for name in (*FIELDS, "operator"):
            assert getattr(layer.norms, name) == pytest.approx(scale * getattr(own.norms, name), rel=1e-5), name


def test_without_initial_weights_the_distance_says_what_it_needs():
    layer = weighed(nets.captured(nets.chain(), 5)).layers[0]
    assert isinstance(layer.distance, Absent)
    assert layer.distance.status is Status.NEEDS
    assert "--init" in layer.distance.why


def test_an_unmoved_layer_is_at_distance_zero():
    network = nets.captured(nets.chain(), 5)
    assert {layer.distance.norm_21 for layer in weighed(network, network.parameters).layers} == {0.0}


def test_tails_are_fitted_or_say_why_not():
    small = weighed(nets.captured(nets.chain(), 5)).layers[0]
    assert isinstance(small.tail, Absent)
    assert "at least 50" in small.tail.why
    torch.manual_seed(0)
    network = nets.captured(nn.Linear(60, 30, bias=False), 60)
    values = torch.from_numpy(np.random.default_rng(0).pareto(2.0, (30, 60)).astype(np.float32) + 1)
    layer = weighed(network, **{next(iter(network.parameters)): values}).layers[0]
    assert layer.tail.density_exponent == pytest.approx(3.0, abs=0.5)


def test_weights_that_are_not_finite_are_refused():
    network = nets.captured(nets.chain(), 5)
    with pytest.raises(InputError, match="finite weights"):
        weighed(network, **{"0.weight": torch.full((8, 5), math.nan)})


def test_norm_3_15_by_hand():
    assert norm_3_15(torch.tensor([[1.0, -1.0], [2.0, 0.0]])) == pytest.approx((2**0.5 + 2**1.5) ** (1 / 1.5))
    assert norm_3_15(torch.zeros(2, 2)) == 0


def test_operator_norms_say_whether_they_converged():
    found = weighed(nets.captured(nets.convolutional(), 2, 6, 6)).converged
    assert found.holds
    assert found.detail == "3 layers to a relative 0.0001"
