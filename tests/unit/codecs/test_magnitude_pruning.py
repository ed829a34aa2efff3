"""Magnitude pruning and Guha's random pruning as codecs: what is kept, round trips, theory, refusals."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import nn

from bitcert import Helper, Role, Sample, capture
from bitcert.codecs import magnitude_pruning as module
from bitcert.codecs.base import Codec, Layer, Selection, network_layers
from bitcert.codecs.magnitude_pruning import (
    MagnitudePruning,
    RandomPruning,
    Rounding,
    Scope,
    keep_largest,
    prune_at_random,
)
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.registry import CODECS, codec_from
from bitcert.coding import MessageReader
from bitcert.decoder.tensors import Base, read_codes
from bitcert.decoder.transforms.base import Draws, Target
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.formulas.pruning_theory import keep_probability, second_moment


@functools.cache
def small_network() -> Network:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4))
    return capture(net, torch.rand(2, 1, 6, 6))


@functools.cache
def small_sample() -> Sample:
    rng = np.random.default_rng(0)
    return Sample(rng.random((30, 1, 6, 6), dtype=np.float32), rng.integers(0, 4, 30), 4, Role.TRAIN, "noise")


def integers_of(codec: Codec, network: Network) -> dict[str, np.ndarray]:
    """The coded integers of every weight layer."""
    helper = Helper.for_sample(small_sample(), network.architecture)
    compressed = codec.encode(network, helper=helper)
    codes = read_codes(_reader(compressed.message), helper).codes
    return {layer.weight: codes[layer.weight].coefficients[0].integers for layer in network.weight_layers}


def _reader(message: bytes) -> MessageReader:
    return MessageReader(message)


def gaussian_layer(shape: tuple[int, int], seed: int = 0) -> Layer:
    values = np.random.default_rng(5).normal(size=shape)
    target = Target("w", shape, "weight")
    return Layer(target, torch.from_numpy(values).float(), values, Base.NEUTRAL, Draws(seed, "w"), 1)


@settings(max_examples=60, deadline=None)
@given(
    values=arrays(np.float64, array_shapes(max_dims=3, max_side=6), elements=st.integers(-4, 4).map(float)),
    keep=st.floats(0.01, 1),
)
def test_the_largest_are_kept_and_never_a_zero(values, keep):
    kept = keep_largest(values, keep)
    chosen = kept != 0
    assert np.array_equal(kept[chosen], values[chosen])
    assert chosen.sum() == min(math.ceil(keep * values.size), np.count_nonzero(values))
    if chosen.any() and not chosen.all():
        assert np.abs(values[chosen]).min() >= np.abs(values[~chosen]).max()


@pytest.mark.parametrize("scope", list(Scope))
def test_the_fraction_is_kept_of_each_layer_or_of_all(scope):
    network = small_network()
    codec = MagnitudePruning(keep=0.1, scope=scope, quantiser=Uniform(2.0**-6))
    integers = integers_of(codec, network)
    sizes = {name: array.size for name, array in integers.items()}
    kept = {name: int(np.count_nonzero(array)) for name, array in integers.items()}
    if scope is Scope.LAYER:
        assert kept == {name: math.ceil(0.1 * size) for name, size in sizes.items()}
        return
    assert sum(kept.values()) == math.ceil(0.1 * sum(sizes.values()))
    weights = {name: np.abs(network.parameters[name].numpy()) for name in integers}
    threshold = min(weights[name][integers[name] != 0].min() for name in integers if kept[name])
    assert all((weights[name][integers[name] == 0] <= threshold).all() for name in integers)


@pytest.mark.parametrize("d", [0.3, 3.0])
def test_random_pruning_keeps_and_removes_what_lemma_4_1_says(d):
    layer = gaussian_layer((200, 300))
    pruned = prune_at_random(layer, d, keep_diagonal=False)
    kept, delta = pruned != 0, layer.values - pruned
    variance, n = float(np.mean(layer.values**2)), layer.values.size
    chi = keep_probability(d)
    assert abs(kept.mean() - chi) < 4 * math.sqrt(chi * (1 - chi) / n)
    assert abs(np.mean(delta**2) - second_moment(d, variance)) < 4 * np.std(delta**2) / math.sqrt(n)
    assert np.array_equal(pruned[kept], layer.values[kept])


def test_a_planted_bug_in_the_coins_would_be_seen(monkeypatch):
    """Without the square the mean of what is kept is off by far more than the tolerance above."""
    layer = gaussian_layer((200, 300))
    monkeypatch.setattr(module.np, "square", np.abs)
    pruned = prune_at_random(layer, 3.0, keep_diagonal=False)
    chi = keep_probability(3.0)
    assert abs((pruned != 0).mean() - chi) > 8 * math.sqrt(chi * (1 - chi) / layer.values.size)


def test_the_diagonal_is_kept():
    layer = gaussian_layer((40, 60))
    pruned = prune_at_random(layer, 1e6)
    assert np.array_equal(np.diagonal(pruned), np.diagonal(layer.values))
    assert np.count_nonzero(pruned) < 45
    assert np.count_nonzero(np.diagonal(prune_at_random(layer, 1e6, keep_diagonal=False))) < 5


def test_coins_come_from_the_layers_named_stream():
    same = prune_at_random(gaussian_layer((20, 30)), 1.0)
    assert np.array_equal(same, prune_at_random(gaussian_layer((20, 30)), 1.0))
    assert not np.array_equal(same, prune_at_random(gaussian_layer((20, 30), seed=1), 1.0))


def test_rounding_is_to_multiples_below_rho_or_by_the_quantiser():
    layer = gaussian_layer((40, 60))
    codec = RandomPruning(d=1e-3, depth=2)
    (coefficients,) = codec.code_layer(layer).coefficients
    rho = codec._step(layer, int(np.count_nonzero(prune_at_random(layer, 1e-3))))
    assert rho / 2**0.25 <= coefficients.step <= rho
    for other in (RandomPruning(d=5.0, depth=2), RandomPruning(d=1e-3), replace(codec, rounding=Rounding.QUANTISER)):
        pruned = prune_at_random(layer, other.d)
        assert other.code_layer(layer).coefficients[0].exponent == Uniform()(pruned).exponent


ALL = (*MagnitudePruning.strengths(), *RandomPruning.strengths())


@pytest.mark.parametrize("codec", ALL, ids=lambda codec: codec.label)
def test_messages_decode_to_the_pruned_network(codec):
    network, sample = small_network(), small_sample()
    compressed = codec.encode(network, sample)
    decoded = codec.decode(compressed.message, compressed.helper)
    outputs = decoded.classifier(sample.inputs)
    assert outputs.shape == (30, 4)
    assert compressed.message == codec.encode(network, sample).message
    assert compressed.ledger.total_bits == 8 * len(compressed.message)
    assert isinstance(codec, Codec)


@pytest.mark.parametrize("codec", ALL, ids=lambda codec: codec.label)
def test_theory_is_complete_and_plain(codec):
    theory = codec.theory(small_network(), small_sample())
    assert len(theory.layers) == 3
    assert theory.error is not None
    assert theory.error > 0
    json.dumps(theory.describe(), allow_nan=False)
    assert codec.theory(small_network()).error is None


def test_the_error_of_the_theory_bounds_the_message_where_the_conditions_hold():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 30, bias=False), nn.ReLU(), nn.Linear(30, 4, bias=False))
    network, sample = capture(net, torch.rand(2, 1, 6, 6)), small_sample()
    codec = MagnitudePruning(keep=0.7, quantiser=Uniform(2.0**-4))
    theory = codec.theory(network, sample)
    assert all(condition.holds for condition in theory.conditions)
    compressed = codec.encode(network, sample)
    outputs = codec.decode(compressed.message, compressed.helper).classifier(sample.inputs).numpy()
    original = network(torch.from_numpy(np.array(sample.inputs))).numpy()
    measured = np.linalg.norm(outputs - original, axis=1).max()
    assert 0 < measured <= theory.error


def test_theory_of_random_pruning_predicts_its_own_counts():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 200, bias=False))
    with torch.no_grad():
        net[1].weight.normal_()
    theory = RandomPruning(d=2.0, rounding=Rounding.QUANTISER).theory(capture(net, torch.rand(2, 1, 6, 6)))
    (row,) = theory.layers
    size = row.actual
    assert abs(row.details["kept"] - row.details["expected_kept"]) < 4 * math.sqrt(size) / 2
    assert row.details["second_moment_measured"] == pytest.approx(row.details["second_moment"], rel=0.1)
    assert [c.holds for c in theory.conditions if "rho_l" in c.name] == [False]


def test_a_lost_condition_is_named():
    theory = RandomPruning(d=50.0).theory(small_network(), small_sample())
    (condition,) = [c for c in theory.conditions if "rho_l" in c.name]
    assert condition.holds is False
    assert "rounded by the quantiser" in condition.detail


def test_where_rho_exists_the_prediction_meets_its_condition_and_holds():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 50, bias=False), nn.ReLU(), nn.Linear(50, 4, bias=False))
    network = capture(net, torch.rand(2, 1, 6, 6))
    theory = RandomPruning(d=1e-3).theory(network, small_sample())
    conditions = {c.name: c.holds for c in theory.conditions}
    assert conditions["every layer rounded to its rho_l > 0"]
    assert conditions["||A^l - A~^l||_2 <= ||A^l||_2 / L in every layer"]
    for row in theory.layers:
        assert row.details["change"] <= row.details["prediction"] <= row.details["norm"] / 2 * (1 + 1e-9)


def test_all_zero_layers_stay_zero():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    nn.init.zeros_(net[1].weight)
    network = capture(net, torch.rand(2, 1, 6, 6))
    for codec in (MagnitudePruning(), RandomPruning()):
        assert not integers_of(codec, network)["1.weight"].any()
        codec.theory(network, small_sample())


def test_weights_that_are_not_finite_are_named():
    network = small_network()
    broken = {**network.parameters, "1.weight": torch.full((30, 36), math.nan)}
    for codec in (MagnitudePruning(), RandomPruning()):
        with pytest.raises(InputError, match=r"finite values in 1\.weight"):
            codec.encode(replace(network, parameters=broken), small_sample())


@pytest.mark.parametrize(
    "make",
    [
        lambda: MagnitudePruning(keep=0.0),
        lambda: MagnitudePruning(keep=1.5),
        lambda: MagnitudePruning(keep=math.nan),
        lambda: RandomPruning(d=0.0),
        lambda: RandomPruning(d=math.nan),
        lambda: RandomPruning(epsilon=0.5),
        lambda: RandomPruning(constant=0.0),
        lambda: RandomPruning(depth=0),
        lambda: MagnitudePruning(selection=Selection(base=Base.FILE)).theory(small_network()),
        lambda: MagnitudePruning(selection=Selection(layers=("none",))).encode(small_network(), small_sample()),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(make):
    with pytest.raises(InputError):
        make()


def test_they_are_registered():
    assert CODECS["prune"] is MagnitudePruning
    assert CODECS["mbp"] is RandomPruning
    assert codec_from("prune", {"keep": "0.2", "scope": "global"}) == MagnitudePruning(keep=0.2, scope=Scope.GLOBAL)


def test_only_chosen_layers_are_pruned():
    network = small_network()
    codec = MagnitudePruning(keep=0.01, selection=Selection(layers=("3.weight",)))
    integers = integers_of(codec, network)
    assert np.count_nonzero(integers["3.weight"]) <= 6
    assert np.count_nonzero(integers["1.weight"]) > 900
    assert [row.layer for row in codec.theory(network).layers] == ["3.weight"]
    assert len(network_layers(network, Helper.for_sample(small_sample(), network.architecture), codec.selection)) == 6
