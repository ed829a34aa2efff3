"""Vector-compress and Vector-project: unbiased, variance, the printed claims at stated parameters, bad input."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, Role, Sample, capture, certify
from bitcert.codecs.base import Layer, Rest, Selection
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.separators import half_difference, margin_at, normalised_margins, separator_vector
from bitcert.codecs.vector_compress import (
    VectorCompress,
    cap,
    keep_probabilities,
    sample_coordinates,
    upper_bound_nonzeros,
)
from bitcert.codecs.vector_project import VectorProject, num_projections, project, upper_bound_failure
from bitcert.decoder.tensors import Base
from bitcert.decoder.transforms import NUMBERS, TRANSFORMS
from bitcert.decoder.transforms.base import Draws, Target
from bitcert.decoder.transforms.normal import variance
from bitcert.errors import InputError
from bitcert.network import Network

CODECS = (VectorCompress, VectorProject)
DRAWS = 20_000


def unit(seed: int, width: int, power: float = 1.0) -> np.ndarray:
    """A unit vector; a power above 1 makes its entries uneven."""
    values = np.random.default_rng(seed).normal(size=width)
    values = np.sign(values) * np.abs(values) ** power
    return values / np.linalg.norm(values)


def separator_network(vector: np.ndarray, bias: bool = False, offset: float = 0.0) -> Network:
    layer = nn.Linear(len(vector), 2, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.stack([offset - vector, offset + vector])))
        if bias:
            layer.bias.copy_(torch.tensor([0.1, -0.1]))
    return capture(nn.Sequential(nn.Flatten(), layer), torch.rand(2, len(vector)))


@functools.cache
def problem(width: int = 40, count: int = 300) -> tuple[Network, Sample]:
    """Two noisy half spaces and a good separator of them."""
    rng = np.random.default_rng(0)
    truth = unit(1, width, 2.0)
    inputs = rng.normal(size=(count, width)).astype(np.float32)
    labels = (inputs @ truth + 0.05 * rng.normal(size=count) > 0).astype(np.int64)
    network = separator_network(3 * truth)
    return network, Sample(inputs, labels, 2, Role.TRAIN, "half spaces")


def layer_of(vector: np.ndarray, seed: int) -> Layer:
    weight = np.stack([-vector, vector])
    target = Target("w", weight.shape, "weight")
    return Layer(target, torch.from_numpy(weight), weight, Base.NEUTRAL, Draws(seed, "w"), 1)


def made(codec, vector: np.ndarray, seed: int = 0) -> np.ndarray:
    """The vector after coding and decoding."""
    layer = layer_of(vector, seed)
    code = codec.code_layer(layer)
    transform = TRANSFORMS[NUMBERS[code.transform]]
    transform.shapes(layer.target, code.settings)
    return transform.expand(layer.target, code.settings, code.coefficients, layer.draws)[1]


# Sampling (before rounding)


@pytest.mark.parametrize(("gamma", "epsilon"), [(0.5, 0.25), (0.2, 1.0), (0.9, 0.05)])
def test_sampling_is_unbiased_with_the_derived_variance(gamma, epsilon):
    vector = unit(0, 30, 1.5)
    probabilities = keep_probabilities(vector, gamma, epsilon)
    coins = np.random.default_rng(7).random((DRAWS, 30))
    estimates = sample_coordinates(vector, probabilities, coins)
    derived = vector**2 * (1 - probabilities) / probabilities
    tolerance = 5 * np.sqrt(derived / DRAWS) + 1e-12
    assert (np.abs(estimates.mean(0) - vector) <= tolerance).all()
    u = unit(1, 30)
    total = float((u**2 * derived).sum())
    assert np.var(estimates @ u) == pytest.approx(total, rel=0.08)
    assert (derived <= epsilon * gamma**2 / 2 * (1 + 1e-12)).all()  # half of what Zhang prints
    assert np.count_nonzero(estimates, axis=1).mean() == pytest.approx(probabilities.sum(), rel=0.02)


@pytest.mark.parametrize("epsilon", [1.0, 0.25, 0.1])
def test_zhangs_error_probability_holds_and_arora_is_a_quarter(epsilon):
    vector, gamma, u = unit(2, 200), 0.3, unit(2, 200) * 0.6 + unit(3, 200) * 0.8
    u /= np.linalg.norm(u)
    probabilities = keep_probabilities(vector, gamma, epsilon)
    if epsilon == 0.25:
        np.testing.assert_allclose(probabilities, np.minimum(1, 8 * vector**2 / gamma**2))
    coins = np.random.default_rng(1).random((DRAWS // 4, 200))
    errors = np.abs(sample_coordinates(vector, probabilities, coins) @ u - vector @ u)
    failures = float((errors >= gamma).mean())
    assert failures <= epsilon / 2 + 3 * math.sqrt(epsilon / DRAWS)


def test_the_number_of_nonzeros_stays_below_both_bounds():
    vector, gamma, epsilon = unit(4, 500), 0.4, 0.5
    probabilities = keep_probabilities(vector, gamma, epsilon)
    counts = (np.random.default_rng(2).random((4000, 500)) < probabilities).sum(1)
    assert (counts > upper_bound_nonzeros(float(probabilities.sum()), 0.05)).mean() <= 0.05
    printed = (1 + 2 * math.log(500)) * 2 / (epsilon * gamma**2)
    assert (counts > printed).mean() <= 1 / 500
    assert probabilities.sum() <= 2 / (epsilon * gamma**2)


def test_probabilities_above_one_must_be_clipped():
    """Erratum 15: as printed, a coordinate with 8 c^2 / gamma^2 > 1 always becomes gamma^2 / (8 c)."""
    gamma, vector = 0.5, np.array([1.0, 0.0])
    as_printed = gamma**2 / (8 * vector[0])
    assert abs(as_printed - 1.0) > gamma  # wrong with probability 1, not 1/4
    kept = sample_coordinates(vector, keep_probabilities(vector, gamma, 0.25), np.array([0.999, 0.5]))
    assert kept.tolist() == [1.0, 0.0]


def test_the_printed_cap_deletes_what_is_kept_exactly():
    """Zhang sets entries above 2 epsilon gamma sqrt(n) to 0; here that is 0.5, and the separator is one coordinate."""
    gamma, epsilon, vector = 0.5, 0.25, np.array([0.98, 0.1, 0.1, 0.1])
    vector /= np.linalg.norm(vector)
    limit = 2 * epsilon * gamma * math.sqrt(4)
    probabilities = keep_probabilities(vector, gamma / 2, epsilon)
    values = sample_coordinates(vector, probabilities, np.full(4, 0.5))
    as_printed = np.where(np.abs(values) >= limit, 0.0, values)
    assert abs(as_printed[0] - vector[0]) > gamma
    assert cap(values, probabilities, limit)[0] == vector[0]
    assert abs(made(VectorCompress(gamma=gamma), vector)[0] - vector[0]) <= gamma / (4 * math.sqrt(4))


def test_the_cap_removes_only_what_cannot_matter():
    """Sampled entries that reach it come from coordinates of at most gamma / (16 sqrt n): gamma / 16 together."""
    gamma, epsilon, vector = 0.5, 0.25, unit(5, 400, 3.0)
    probabilities = keep_probabilities(vector, gamma / 2, epsilon)
    values = sample_coordinates(vector, probabilities, np.zeros(400))  # every coin is heads
    capped = cap(values, probabilities, 2 * epsilon * gamma * 20)
    removed = (capped == 0) & (values != 0)
    assert removed.any()
    assert np.abs(vector[removed]).max() <= gamma / (16 * 20) * (1 + 1e-12)


# Projections (before rounding)


def projected(vector: np.ndarray, count: int, trials: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Projections ``[trials, count]`` and the normal vectors ``[trials, count, n]`` of one long stream."""
    z = project(vector, count * trials, Draws(seed, "w"))
    words = Draws(seed, "w").normal("projections", count * trials * len(vector))
    return z.reshape(trials, count), (words / 4096.0).reshape(trials, count, -1)


def test_projection_is_unbiased_with_the_derived_variance():
    vector, u = unit(6, 8), unit(7, 8)
    z, normals = projected(vector, 25, 4000)
    estimates = np.einsum("tk,tkn->tn", z, normals) / 25
    tolerance = 5 * math.sqrt(2 / 25 / 4000)
    assert np.abs(estimates.mean(0) - variance() * vector).max() <= tolerance
    assert np.var(estimates @ u) == pytest.approx((1 + (vector @ u) ** 2) / 25, rel=0.1)
    assert np.var(estimates @ vector) == pytest.approx(2 / 25, rel=0.1)


@pytest.mark.parametrize("gamma", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("eta", [0.5, 0.1, 0.01, 1e-9])
def test_sixteen_is_proved_to_be_enough(gamma, eta):
    assert upper_bound_failure(num_projections(gamma, eta), gamma, 10) <= eta


def test_sixteen_is_enough_and_one_is_not():
    """P[|c_hat.u - c.u| > gamma] <= eta at u = c, the worst case."""
    vector, gamma, eta = unit(8, 4), 0.5, 0.05
    failures = {}
    for constant in (16.0, 4.0, 1.0):
        count = num_projections(gamma, eta, constant)
        z, _ = projected(vector, count, 4000)
        failures[constant] = float((np.abs((z**2).mean(1) - 1) > gamma).mean())
        assert failures[constant] <= upper_bound_failure(count, gamma, 4)
    assert failures[16.0] <= eta / 10
    assert failures[1.0] > 2 * eta


# Messages


@pytest.mark.parametrize(("codec", "failure"), [(VectorCompress(gamma=0.4), 0.25), (VectorProject(gamma=0.4), 0.05)])
def test_the_decoded_vector_keeps_unit_inputs_within_gamma(codec, failure):
    vector, u = 7 * unit(9, 60, 1.3), unit(10, 60)
    trials = 300 if isinstance(codec, VectorCompress) else 60
    errors = np.array([abs(made(codec, vector, seed) @ u - vector @ u) for seed in range(trials)])
    assert (errors > 0.4 * 7).mean() <= failure


def test_a_message_samples_at_half_of_gamma():
    """The other half is for rounding and capping."""
    vector, layer = unit(15, 300), layer_of(unit(15, 300), 4)
    support = VectorCompress(gamma=0.5, epsilon=0.5).code_layer(layer).coefficients[0].integers != 0
    coins = layer.draws.generator("coins").random(300)
    assert np.array_equal(support, coins < keep_probabilities(vector, 0.25, 0.5))
    assert 0 < support.sum() < 300


def test_coefficients_are_rounded_as_printed():
    gamma, vector = 0.3, 2 * unit(11, 50)
    layer = layer_of(vector, 0)
    sparse = VectorCompress(gamma=gamma).code_layer(layer).coefficients[0]
    step = 2 * gamma / (2 * math.sqrt(50))
    assert step / 2**0.25 < sparse.step <= step
    code = VectorProject(gamma=gamma).code_layer(layer)
    count = math.ceil(16 * math.log(20) / gamma**2)
    assert code.settings == (count,)
    step = 2 * gamma / (2 * math.sqrt(50 * count))
    assert step / 2**0.25 < code.coefficients[0].step <= step
    assert np.abs(code.coefficients[0].values - project(vector, count, layer.draws)).max() <= step / 2


@pytest.mark.parametrize("kind", CODECS)
def test_round_trip_ledger_and_certificate(kind):
    network, sample = problem()
    for strength in kind.strengths():
        codec = replace(strength, gamma=0.2)  # half of the strengths take it from the margins: thousands of numbers
        compressed = codec.encode(network, sample)
        decoded = codec.decode(compressed.message, compressed.helper)
        assert compressed.ledger.total_bits == 8 * len(compressed.message)
        assert decoded.ledger == compressed.ledger
        assert codec.encode(network, sample).message == compressed.message
        weight = decoded.classifier.weights["1.weight"]
        assert torch.equal(weight[0], -weight[1])
        certify(compressed, sample)
    assert len({codec.label for codec in kind.strengths()}) == len(kind.strengths())


@pytest.mark.parametrize("kind", CODECS)
def test_any_quantiser_goes_with_the_separators(kind):
    vector, coarse = unit(14, 50), Uniform(1.0)
    code = kind(gamma=0.5, printed_rounding=False, quantiser=coarse).code_layer(layer_of(vector, 0))
    exact = kind(gamma=0.5).code_layer(layer_of(vector, 0))
    expected = coarse(exact.coefficients[0].values)
    assert code.coefficients[0].exponent == expected.exponent
    assert np.abs(code.coefficients[0].integers - expected.integers).max() <= 1


@pytest.mark.parametrize("kind", CODECS)
def test_another_seed_flips_other_coins_and_costs_its_bits(kind):
    network, sample = problem()
    first, second = (kind(selection=Selection(seed=seed)).encode(network, sample) for seed in (0, 6))
    assert first.message != second.message
    assert (dict(first.ledger.sections)["seed"], dict(second.ledger.sections)["seed"]) == (1, 5)


def test_fine_settings_classify_as_the_original_does():
    network, sample = problem()
    expected = network(torch.from_numpy(sample.inputs.copy())).argmax(1)
    for codec in (VectorCompress(gamma=0.001, epsilon=0.01), VectorProject(projections=100_000, gamma=0.01)):
        decoded = codec.decode(codec.encode(network, sample).message, Helper.for_sample(sample, network.architecture))
        agreement = (decoded.classifier(sample.inputs).argmax(1) == expected).float().mean()
        assert agreement >= 0.99


def test_the_common_part_of_the_rows_is_not_coded_and_the_bias_is():
    vector = unit(12, 20)
    network = separator_network(vector, bias=True, offset=5.0)
    helper = Helper((20,), 2, predictor=network.architecture)
    codec = VectorCompress(gamma=0.001, epsilon=0.01, selection=Selection(rest=Rest.EXACT))
    weights = codec.decode(codec.encode(network, helper=helper).message, helper).classifier.weights
    np.testing.assert_allclose(weights["1.weight"][1].numpy(), vector, atol=1e-4)
    assert torch.equal(weights["1.bias"], network.parameters["1.bias"])


def test_normalised_margins_are_those_of_the_definition():
    vector = 3 * unit(13, 6)
    network = separator_network(vector, bias=True, offset=1.0)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(8, 6)).astype(np.float32)
    labels = np.arange(8) % 2
    sample = Sample(inputs, labels, 2, Role.TRAIN, "toy")
    expected = [
        (2 * y - 1) * (vector @ x - 0.1) / (3 * np.linalg.norm(x))
        for x, y in zip(inputs.astype(float), labels, strict=True)
    ]
    found = normalised_margins(network, sample, Helper.for_sample(sample, network.architecture))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(separator_vector(network), vector, atol=1e-6)
    assert margin_at(np.array([0.3, 0.1, 0.2, 2.0]), 0.0) == 0.1
    assert margin_at(np.array([3.0, 2.0]), 1.0) == 1.0
    assert half_difference(np.array([[0.0], [2.0]])).item() == 1.0


def test_zhangs_epsilon_follows_the_number_of_examples():
    network, sample = problem()
    codec = VectorCompress(epsilon=None, gamma=0.2)
    theory = codec.theory(network, sample)
    assert theory.layers[0].details["epsilon"] == pytest.approx((0.04 * 300) ** (-1 / 3))
    assert theory.layers[0].details["rate"] == pytest.approx((0.04 * 300) ** (-1 / 3))
    assert codec.label == "vector-compress gamma 0.2 epsilon by m"
    with pytest.raises(InputError, match="a training sample to choose epsilon by"):
        codec.encode(network, helper=Helper.for_sample(sample, network.architecture))


def test_theory_states_the_papers_numbers():
    network, sample = problem()
    vector = separator_vector(network)
    compress = VectorCompress(gamma=0.2, epsilon=0.25).theory(network, sample)
    probabilities = np.minimum(1, 8 * (vector / np.linalg.norm(vector)) ** 2 / (0.25 * 0.04))
    assert compress.parameters == pytest.approx(probabilities.sum())
    assert (compress.error, compress.probability) == (0.2, 0.75)
    project_theory = VectorProject(gamma=0.2, eta=0.1).theory(network, sample)
    count = math.ceil(16 * math.log(10) / 0.04)
    assert project_theory.parameters == count
    assert project_theory.probability == pytest.approx(0.9, abs=1e-3)
    assert project_theory.layers[0].details["rate"] == pytest.approx((0.04 * 300) ** (-1 / 2))
    for theory in (compress, project_theory):
        json.dumps(theory.describe(), allow_nan=False)


@pytest.mark.parametrize("kind", CODECS)
def test_a_zero_separator_is_coded_as_nothing(kind):
    network, sample = separator_network(np.zeros(40)), problem()[1]
    compressed = kind().encode(network, sample)
    assert len(compressed.message) < 12
    assert not kind().decode(compressed.message, compressed.helper).classifier.weights["1.weight"].any()
    json.dumps(kind().theory(network, sample).describe(), allow_nan=False)


@pytest.mark.parametrize("kind", CODECS)
def test_differences_from_a_base_keep_the_margin_of_the_whole(kind):
    network, sample = problem()
    codec = kind(gamma=0.05, selection=Selection(base=Base.RANDOM))
    compressed = codec.encode(network, sample)
    assert codec.decode(compressed.message, compressed.helper).description


# Bad input

OTHERS = [
    (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), "a network of linear, relu, linear"),
    (nn.Sequential(nn.Linear(4, 3)), "a linear layer with 3 outputs"),
    (nn.Sequential(nn.Linear(4, 2), nn.Tanh()), "a network of linear, tanh"),
]


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize(("module", "words"), OTHERS)
def test_other_networks_are_refused_in_one_sentence(kind, module, words):
    network = capture(module, torch.rand(2, 4))
    helper = Helper((4,), network.architecture.num_outputs, predictor=network.architecture)
    for act in (lambda: kind(gamma=0.1).encode(network, helper=helper), lambda: kind(gamma=0.1).theory(network)):
        with pytest.raises(InputError, match=f"one linear layer with two outputs, got {words}"):
            act()


@pytest.mark.parametrize("kind", CODECS)
def test_layers_of_another_shape_and_missing_margins_are_refused(kind):
    target = Target("w", (3, 5), "weight")
    layer = Layer(target, torch.ones(3, 5), np.ones((3, 5)), Base.NEUTRAL, Draws(0, "w"), 1)
    with pytest.raises(InputError, match="got w of shape"):
        kind(gamma=0.1).code_layer(layer)
    network, sample = problem()
    with pytest.raises(InputError, match="a margin gamma, or a training sample"):
        kind().encode(network, helper=Helper.for_sample(sample, network.architecture))
    unlabelled = Sample(sample.inputs, None, 2, Role.UNLABELLED, "u")
    with pytest.raises(InputError, match="labels of 'u'"):
        kind().encode(network, unlabelled)


@pytest.mark.parametrize("kind", CODECS)
def test_a_separator_that_is_often_wrong_has_no_margin(kind):
    network, sample = problem()
    wrong = Sample(sample.inputs, 1 - sample.labels, 2, Role.TRAIN, "flipped")
    with pytest.raises(InputError, match=r"positive margin at quantile 0\.1, got -"):
        kind().encode(network, wrong)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        *(
            (kind, {"gamma": value}, "gamma above 0 and at most 1")
            for kind in CODECS
            for value in (0.0, -1, 1.1, math.nan)
        ),
        *(
            (kind, {"quantile": value}, "a quantile between 0 and 1")
            for kind in CODECS
            for value in (-0.1, 1.1, math.nan)
        ),
        *((VectorCompress, {"epsilon": value}, "an epsilon above 0") for value in (0.0, 1.1, math.nan)),
        *((VectorProject, {"eta": value}, "an eta between 0 and 1") for value in (0.0, 1.0, math.nan)),
        *((VectorProject, {"projections": value}, "at least one projection") for value in (0, -3, True)),
    ],
)
def test_options_out_of_range_are_refused(kind, options, words):
    with pytest.raises(InputError, match=words):
        kind(**options)


def test_margins_too_small_to_code_are_refused():
    network, sample = problem()
    with pytest.raises(InputError, match="projections, got"):
        VectorProject(gamma=1e-6).encode(network, sample)
    with pytest.raises(InputError, match="rounding steps"):
        VectorCompress(gamma=1e-9).encode(network, sample)
    with pytest.raises(InputError, match="rounding steps"):
        VectorProject(gamma=1e-9, projections=5).encode(network, sample)
