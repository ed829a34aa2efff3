"""Quantisation as a codec: what the message holds, and what the uniform-noise theory says of its error."""

import numpy as np
import pytest
import torch

from bitcert import Role, Run, Sample, capture, count_errors, load_sample
from bitcert.codecs.base import Rest, Selection
from bitcert.codecs.per_layer import PerLayer, Rule
from bitcert.codecs.quantise import Exact, Quantise, TunedQuantise
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.registry import codec_from, options_of
from bitcert.decoder import Helper, decode_message
from bitcert.errors import InputError


@pytest.fixture(scope="module")
def sample() -> Sample:
    return load_sample("digits", Role.TRAIN)


@pytest.fixture(scope="module")
def network(sample):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10))
    return capture(module, torch.zeros(2, 1, 8, 8))


def decoded(codec, network, sample):
    compressed = codec.encode(network, sample)
    return codec.decode(compressed.message, compressed.helper).classifier.weights


def test_weights_become_multiples_of_a_step(network, sample):
    weights = decoded(Quantise(quantiser=Uniform(0.5), selection=Selection(rest=Rest.EXACT)), network, sample)
    for layer in network.weight_layers:
        trained = network.parameters[layer.weight].double().numpy()
        step = Uniform(0.5)(trained).step
        made = weights[layer.weight].double().numpy()
        assert np.allclose(made / step, np.rint(made / step), atol=1e-5)
        assert np.abs(made - trained).max() <= step / 2 * (1 + 1e-6)
        assert torch.equal(weights[layer.bias], network.parameters[layer.bias])


def test_exact_loses_nothing_and_is_the_longest(network, sample):
    weights = decoded(Exact(), network, sample)
    assert all(torch.equal(weights[name], value) for name, value in network.parameters.items())
    exact, fine = (codec.encode(network, sample).ledger.total_bits for codec in (Exact(), Quantise()))
    assert fine < exact
    assert 0 <= exact - 32 * network.num_parameters < 100


def test_predicted_error_is_observed(network, sample):
    for fraction in (0.125, 0.5):
        codec = Quantise(quantiser=Uniform(fraction))
        weights = decoded(codec, network, sample)
        for row in codec.theory(network).layers:
            trained = network.parameters[row.layer].double()
            observed = float((weights[row.layer].double() - trained).norm() / trained.norm())
            assert observed == pytest.approx(row.error, rel=0.1)
            assert observed <= row.details["worst"]


def test_theory_says_where_it_does_not_hold(network):
    (condition,) = Quantise(quantiser=Uniform(0.5)).theory(network).conditions
    assert condition.holds
    (condition,) = Quantise(quantiser=Uniform(4.0)).theory(network).conditions
    assert not condition.holds
    assert Exact().theory(network).parameters == network.num_parameters
    assert TunedQuantise().theory(network).error is None


def test_a_layer_of_zeros_costs_next_to_nothing(sample):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.zeros_(module[1].weight)
    network = capture(module, torch.zeros(2, 1, 8, 8))
    compressed = Quantise().encode(network, sample)
    assert dict(compressed.ledger.sections)["1.weight"] < 60
    assert Quantise().theory(network).layers[0].error == 0.0


def test_tuning_gives_a_message_of_its_own_family(network, sample, ticking):
    ticking(0.5)
    compressed = TunedQuantise(fine_tune=False).encode(network, sample, run=Run(budget_seconds=5.0))
    classifier = decode_message(compressed.message, compressed.helper).classifier
    assert count_errors(classifier, sample).errors == compressed.candidates[-1].errors
    with pytest.raises(InputError, match="a sample to search"):
        TunedQuantise().encode(network, helper=Helper.for_sample(sample, network.architecture))


def test_weights_that_are_not_finite(sample):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    network = capture(module, torch.zeros(2, 1, 8, 8))
    network.parameters["1.weight"][0, 0] = float("nan")
    with pytest.raises(InputError, match=r"finite values in 1\.weight"):
        Quantise().encode(network, sample)


# A codec for each layer


def test_each_layer_by_its_rule(network, sample):
    rules = (Rule("*", Quantise(quantiser=Uniform(1.0))), Rule("3.weight", Exact()))
    weights = decoded(PerLayer(rules=rules), network, sample)
    assert torch.equal(weights["3.weight"], network.parameters["3.weight"])
    alone = decoded(Quantise(quantiser=Uniform(1.0)), network, sample)
    assert torch.equal(weights["1.weight"], alone["1.weight"])


def test_layers_without_a_rule_are_left_to_the_rest(network, sample):
    codec = PerLayer(rules=(Rule("1.weight", Quantise()),), selection=Selection(rest=Rest.HELPER))
    weights = decoded(codec, network, sample)
    assert not weights["3.weight"].any()
    assert weights["1.weight"].any()
    assert [row.layer for row in codec.theory(network).layers] == ["1.weight"]


def test_rules_as_options(network):
    codec = codec_from("per-layer", {"rules": "*=quantise fraction:0.5, 3.weight=exact", "rest": "exact"})
    assert codec.rules == (Rule("*", Quantise(quantiser=Uniform(0.5))), Rule("3.weight", Exact()))
    assert codec_from("per-layer", options_of(codec)) == codec


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("quantise", "rules as LAYER=CODEC"),
        ("1.weight=", "rules as LAYER=CODEC"),
        ("=quantise", "rules as LAYER=CODEC"),
        ("*=quantise fraction", "rules as LAYER=CODEC"),
        ("*=quantise fraction:x", "a number for quantise --option fraction"),
        ("*=quantis", "did you mean 'quantise'?"),
        ("*=tuned", "a codec that works layer by layer, got 'tuned'"),
        ("*=per-layer", "a codec that works layer by layer, got 'per-layer'"),
        ("*=exact,*=quantise", "one rule for each layer, got *, *"),
        ("", "one rule for each layer, got none"),
    ],
)
def test_rules_that_are_none(rules, says):
    with pytest.raises(InputError) as refused:
        codec_from("per-layer", {"rules": rules})
    assert says in str(refused.value)


def test_a_rule_for_a_layer_that_is_not_there(network, sample):
    codec = PerLayer(rules=(Rule("2.weight", Quantise()),))
    for call in (lambda: codec.encode(network, sample), lambda: codec.theory(network)):
        with pytest.raises(InputError, match=r"a weight layer among 1\.weight, 3\.weight, got '2\.weight'"):
            call()
