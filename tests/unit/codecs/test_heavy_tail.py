"""Heavy-tail replacement as a codec: round trip, thresholds against a slow twin, rules, draws, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import Helper, Role, Run, Sample, capture, certify, decode_message
from bitcert.codecs.base import Codec, Rest, Selection, network_layers
from bitcert.codecs.heavy_tail import Compare, HeavyTail, Variance
from bitcert.codecs.quantiser import FINE, Uniform
from bitcert.coding import MessageReader
from bitcert.decoder.tensors import Base, read_codes
from bitcert.errors import InputError
from bitcert.theory.formulas.heavy_tail_theory import Reading
from tests.reference import heavy_tail_naive as naive


def build(change=lambda net: None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 7), nn.ReLU(), nn.Linear(7, 4))
    with torch.no_grad():
        net[3].weight.copy_(0.1 * torch.distributions.StudentT(3.0).sample((7, 108)))
        change(net)
    return capture(net, torch.rand(2, 1, 8, 8))


@pytest.fixture(scope="module")
def network():
    return build()


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    return Sample(rng.random((60, 1, 8, 8), dtype=np.float32), rng.integers(0, 4, 60), 4, Role.TRAIN, "noise")


@pytest.fixture(scope="module")
def helper(network, sample):
    return Helper.for_sample(sample, network.architecture)


def decoded(compressed):
    return decode_message(compressed.message, compressed.helper)


def codes(compressed):
    reader = MessageReader(compressed.message)
    assert reader.family == 4
    return read_codes(reader, compressed.helper)


CODECS = [
    HeavyTail(),
    HeavyTail(compare=Compare.W),
    HeavyTail(compare=Compare.MAGNITUDE, draw=5),
    HeavyTail(variance=Variance.REPLACED, quantiser=Uniform(1.0)),
    HeavyTail(quantile=0.0),
    HeavyTail(quantile=1.0),
    HeavyTail(tau=0.05, selection=Selection(rest=Rest.EXACT)),
    HeavyTail(epsilon=2.0, selection=Selection(layers=("3.weight",))),
    HeavyTail(selection=Selection(base=Base.RANDOM, seed=3)),
]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.label)
def test_round_trip_ledger_and_kept_entries(codec, network, sample, helper):
    compressed = codec.encode(network, helper=helper)
    found = decoded(compressed)
    assert found.ledger.total_bits == 8 * len(compressed.message) == compressed.ledger.total_bits
    assert certify(compressed, sample).message_bits == 8 * len(compressed.message)
    message = codes(compressed)
    for layer in network_layers(network, helper, codec.selection):
        code = message.codes[layer.target.name]
        if code.transform != "heavy tail":
            continue
        split, kept = codec.split(layer.values), code.coefficients[1]
        assert np.array_equal(kept.integers != 0, ~split.replaced)
        error = np.abs(kept.values - layer.values)[~split.replaced]
        large = np.abs(layer.values)[~split.replaced] >= kept.step / 2
        assert error[large].max(initial=0) <= kept.step / 2 * (1 + 1e-9)
        assert error.max(initial=0) <= kept.step
        moments = code.coefficients[0]
        assert np.abs(moments.values - [split.mean, split.std]).max() <= moments.step / 2 * (1 + 1e-9)
        assert moments.step <= max(split.std, 1e-9) / 256 * 1.01
    assert sum(c.transform == "heavy tail" for c in message.codes.values()) == len(codec.selection.layers or (0, 1, 2))


def test_replaced_entries_have_the_layers_moments(helper, network):
    message = HeavyTail(quantile=1.0).encode(network, helper=helper)
    weights = decoded(message).classifier.weights["3.weight"].numpy()
    wanted = network.parameters["3.weight"].numpy()
    count, std = wanted.size, wanted.std()
    assert abs(weights.mean() - wanted.mean()) < 5 * std / np.sqrt(count)
    assert abs(weights.std() - std) < 5 * std / np.sqrt(2 * count)


def test_the_three_rules():
    values = np.array([-3.0, -1.0, 0.0, 0.5, 1.0, 5.5])  # mean 0.5
    kept = {rule: ~HeavyTail(tau=1.0, compare=rule).split(values).replaced for rule in Compare}
    assert kept[Compare.W].tolist() == [False, False, False, False, False, True]
    assert kept[Compare.MAGNITUDE].tolist() == [True, False, False, False, False, True]
    assert kept[Compare.DEVIATION].tolist() == [True, True, False, False, False, True]


def test_thresholds_in_deviations_and_quantiles():
    values = np.random.default_rng(0).normal(2.0, 3.0, (40, 25))
    split = HeavyTail(deviations=1.5).split(values)
    assert split.tau == pytest.approx(1.5 * values.std(), rel=1e-12)
    assert np.array_equal(split.replaced, np.abs(values - values.mean()) <= split.tau)
    assert (split.mean, split.std) == (values.mean(), values.std())
    for quantile in (0.0, 0.25, 0.5, 1.0):
        split = HeavyTail(quantile=quantile).split(values)
        assert split.num_kept == 1000 - round(1000 * quantile)
        kept = np.abs(values - values.mean())[~split.replaced]
        assert (kept > split.tau).all()
    pruned = np.array([0.0] * 8 + [1.0, -2.0])
    assert HeavyTail(quantile=0.5).split(pruned).num_kept == 2, "equal scores are replaced together"


def test_own_variance_is_that_of_the_replaced_entries():
    values = np.random.default_rng(0).normal(0.5, 3.0, 1000)
    split = HeavyTail(variance=Variance.REPLACED).split(values)
    assert split.mean == values[split.replaced].mean()
    assert split.std == values[split.replaced].std() < values.std()


@pytest.mark.parametrize("reading", Reading)
def test_the_relation_of_prop_1_1_with_the_layers_variance(reading):
    values = np.random.default_rng(0).normal(size=(30, 30))
    codec = HeavyTail(epsilon=6.0, eta=0.1, reading=reading)
    split = codec.split(values)
    squares = split.tau**2 + values.std() ** 2
    printed = {"proposition": 36 / np.log(30), "appendix": 72 / np.log(30), "tail": 18 / np.log(30)}
    assert squares == pytest.approx(printed[reading], rel=1e-12)
    with pytest.raises(InputError, match=r"epsilon of at least .* for some\.weight"):
        replace(codec, epsilon=0.01).split(values, "some.weight")


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-8, 8), min_size=1, max_size=12),
    allowed=st.floats(0.01, 90.0),
    rule=st.sampled_from(list(Compare)),
)
def test_the_relation_with_the_replaced_entries_variance_equals_a_search(values, allowed, rule):
    eta = 0.1
    epsilon = Reading.PROPOSITION.epsilon(allowed, eta)
    codec = HeavyTail(epsilon=epsilon, eta=eta, compare=rule, variance=Variance.REPLACED)
    array = np.array(values, dtype=float)
    mean = array.mean()
    scores = {Compare.W: array, Compare.MAGNITUDE: abs(array), Compare.DEVIATION: abs(array - mean)}[rule]
    # the smallest change of the allowance must not decide
    wanted = {naive.largest_tau(values, scores.tolist(), allowed * (1 + change)) for change in (-1e-9, 1e-9)}
    found = codec.split(array)
    if len(wanted) == 1:
        assert np.array_equal(found.replaced, scores <= wanted.pop())


@pytest.mark.parametrize("fill", [0.0, 0.25])
def test_constant_layers_come_back_exactly_or_nearly(fill, sample):
    network = build(lambda net: net[3].weight.fill_(fill))
    for codec in (HeavyTail(), HeavyTail(quantile=1.0), HeavyTail(quantile=0.0, quantiser=FINE), HeavyTail(tau=0.0)):
        weights = decoded(codec.encode(network, sample)).classifier.weights["3.weight"].numpy()
        if fill == 0 and codec.quantile != 0.0:
            assert not weights.any()
        else:
            # a kept entry of 0 cannot be said and becomes one step, 1/8
            assert np.abs(weights - fill).max() <= (0.125 if fill == 0 else 0.02 * fill)


def test_the_best_of_several_draws_is_kept(network, sample, helper):
    run = Run()
    best = HeavyTail(draws=3).encode(network, sample, helper=helper, run=run)
    singles = [HeavyTail(draw=d).encode(network, helper=helper) for d in range(3)]
    counts = [(certify(c, sample).errors, len(c.message)) for c in singles]
    assert [(c.errors, c.message_bits // 8) for c in best.candidates] == counts
    assert best.message in [c.message for c in singles]
    assert certify(best, sample).errors == min(errors for errors, _ in counts)
    settings = [code.settings for code in codes(best).codes.values() if code.transform == "heavy tail"]
    assert len(set(settings)) == 1
    with pytest.raises(InputError, match="a sample to choose among draws"):
        HeavyTail(draws=2).encode(network, helper=helper)


BAD = {
    "tau of 0 or more": {"tau": -1.0},
    "deviations of 0 or more": {"deviations": float("nan")},
    "quantile between 0 and 1": {"quantile": 1.5},
    "quantile between 0": {"quantile": -0.1},
    "positive epsilon": {"epsilon": 0.0},
    "eta between": {"eta": 1.0},
    "eta between 0": {"eta": 0.0},
    "compare among": {"compare": "absolute"},
    "variance among": {"variance": "none"},
    "reading among": {"reading": "third"},
    "one threshold": {"tau": 1.0, "quantile": 0.5},
    "draws between": {"draws": 0},
    "draws between 0": {"draw": -1},
}


@pytest.mark.parametrize("match", BAD)
def test_bad_options(match):
    with pytest.raises(InputError, match=match):
        HeavyTail(**BAD[match])


def test_bad_networks(network, helper, sample):
    with pytest.raises(InputError, match="weight layer"):
        HeavyTail(selection=Selection(layers=("nowhere",))).encode(network, helper=helper)
    with pytest.raises(InputError, match="weight layer"):
        HeavyTail(selection=Selection(layers=("nowhere",))).theory(network)
    broken = replace(network, parameters={**network.parameters, "3.weight": torch.full((7, 108), torch.nan)})
    with pytest.raises(InputError, match="finite"):
        HeavyTail().encode(broken, sample)


def test_strengths_and_labels(network, sample):
    assert isinstance(HeavyTail(), Codec)
    bits = [len(codec.encode(network, sample).message) for codec in HeavyTail.strengths()]
    assert bits == sorted(bits, reverse=True)
    assert len({codec.label for codec in HeavyTail.strengths()}) == 5
    assert HeavyTail(compare="w", draw=3, variance="replaced").label == "heavy-tail 1 std by w own variance draw 3"
