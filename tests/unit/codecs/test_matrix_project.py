import math

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.codecs.base import Layer, Rest, Selection
from bitcert.codecs.matrix_project import Decoder, Kind, MatrixProject
from bitcert.codecs.quantiser import Uniform
from bitcert.decoder import Helper, HelperWeights, decode_message
from bitcert.decoder.tensors import Base
from bitcert.decoder.transforms import NUMBERS, TRANSFORMS, Target
from bitcert.errors import InputError
from bitcert.theory.formulas.cushions import Cushions
from bitcert.theory.formulas.projection_tail import num_projections

FINE = Uniform(2.0**-6)
CUSHIONS = Cushions((0.5, 0.4), (0.3, 0.2), 2.0, 0.1, 12, 100)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return capture(nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3)), torch.randn(2, 20))


@pytest.fixture(scope="module")
def helper(network):
    return Helper((20,), 3, predictor=network.architecture)


def weights(compressed):
    return decode_message(compressed.message, compressed.helper).classifier.weights


def errors(network, codec, helper):
    found = weights(codec.encode(network, helper=helper))
    first = network.parameters["0.weight"]
    return float((found["0.weight"] - first).square().sum() / first.square().sum())


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("decoder", Decoder)
def test_decoding_gives_the_projection(network, helper, kind, decoder):
    count = 100
    codec = MatrixProject(kind=kind, decoder=decoder, k=count, quantiser=FINE, selection=Selection(("0.weight",)))
    found = np.mean(
        [errors(network, codec_with_seed(codec, seed), helper) for seed in range(5)],
    )
    full = 240 if kind is Kind.SIGNS else 256
    expected = 239 / count if decoder is Decoder.AVERAGE else 1 - count / full
    assert found == pytest.approx(expected, rel=0.3)


def codec_with_seed(codec, seed):
    from dataclasses import replace

    return replace(codec, selection=replace(codec.selection, seed=seed))


def test_the_first_strength_is_nearly_lossless(network, helper):
    strengths = MatrixProject.strengths()
    sizes = [len(codec.encode(network, helper=helper).message) for codec in strengths]
    assert errors(network, strengths[0], helper) < 1e-2
    assert sizes[-1] < sizes[0] / 4


def test_the_difference_from_the_start_is_what_is_projected(network, helper):
    start = {name: value - 0.01 * torch.ones_like(value) for name, value in network.parameters.items()}
    from dataclasses import replace

    known = replace(helper, weights=HelperWeights.of(network.architecture, start))
    codec = MatrixProject(k=2000, kind=Kind.HADAMARD, quantiser=FINE)
    plain = errors(network, codec, helper)
    assert errors(network, replace(codec, selection=Selection(base=Base.FILE)), known) < plain / 50


def test_the_rest_is_as_the_selection_says(network, helper):
    codec = MatrixProject(k=5, selection=Selection(("0.weight",), rest=Rest.EXACT))
    found = weights(codec.encode(network, helper=helper))
    torch.testing.assert_close(found["2.weight"], network.parameters["2.weight"], rtol=0, atol=0)
    torch.testing.assert_close(found["0.bias"], network.parameters["0.bias"], rtol=0, atol=0)


def test_a_layer_of_zeros_decodes_to_zeros(helper, network):
    zeros = capture(nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3)), torch.randn(2, 20))
    for value in zeros.parameters.values():
        value.data.zero_()
    for decoder in Decoder:
        found = weights(MatrixProject(k=10, decoder=decoder).encode(zeros, helper=helper))
        assert not any(value.any() for value in found.values())


def test_counts_come_from_k_accuracy_cushions_or_ratio(network):
    def counts(**options):
        return [int(layer.details["k"]) for layer in MatrixProject(**options).theory(network).layers]

    assert counts(k=7) == [7, 7]
    assert counts() == [60, 9]
    assert counts(ratio=2.0) == [480, 72]
    assert counts(ratio=0.5, kind=Kind.HADAMARD) == [128, 32]
    assert counts(epsilon=0.5, eta=0.01) == [num_projections(0.5, math.log(100))] * 2
    assert counts(cushions=CUSHIONS) == [CUSHIONS.num_projections(1), CUSHIONS.num_projections(2)]


def test_theory_without_cushions_is_lemma_2(network):
    theory = MatrixProject(k=50).theory(network)
    assert theory.parameters == 100
    assert [layer.error for layer in theory.layers] == [239 / 50, 35 / 50]
    assert theory.probability == 0.95
    assert [condition.holds for condition in theory.conditions] == [True, True]
    squares = MatrixProject(k=20, decoder=Decoder.LEAST_SQUARES, kind=Kind.HADAMARD).theory(network)
    # 240 and 36 entries, padded to 256 and 64
    expected = [(1 - q) ** 2 + q * (1 - q) * cut for q, cut in ((20 / 256, 239 / 255), (20 / 64, 35 / 63))]
    assert [layer.error for layer in squares.layers] == pytest.approx(expected)
    assert [condition.holds for condition in squares.conditions] == [False, False]
    accurate = MatrixProject(epsilon=0.5).theory(network).layers[0].details
    assert accurate["k_arora"] < accurate["k_zhang"] < accurate["k"] * 2
    assert theory.describe()["source"]


def test_theory_with_cushions_is_lemma_3_at_any_size(network):
    theory = MatrixProject(cushions=CUSHIONS).theory(network)
    assert theory.parameters == CUSHIONS.printed_total > 1e6
    # the printed total is the sum of the printed counts, up to rounding up
    assert sum(layer.parameters for layer in theory.layers) == pytest.approx(theory.parameters, rel=1e-5)
    assert sum(layer.details["k"] for layer in theory.layers) > 5 * theory.parameters
    assert theory.error == 0.5
    assert {c.name: c.holds for c in theory.conditions} == {
        "rho_delta >= 3 d": True,
        "fully connected": True,
        "no biases": False,
        "independent sign arrays": True,
        "the average as decoder": True,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": -3},
        {"ratio": 0},
        {"ratio": math.nan},
        {"ratio": 2000.0},
        {"epsilon": 0},
        {"epsilon": 1.5},
        {"epsilon": math.nan},
        {"eta": 0.0},
        {"eta": 1.0},
        {"k": 3, "epsilon": 0.5},
        {"ratio": 0.5, "cushions": CUSHIONS},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError) as caught:
        MatrixProject(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("codec", "words"),
    [
        (MatrixProject(k=2_000_000), "1 to 1,048,576 projections"),
        (MatrixProject(cushions=CUSHIONS), "projections of"),
        (MatrixProject(k=300, decoder=Decoder.LEAST_SQUARES), "fewer projections than"),
        (MatrixProject(k=300, decoder=Decoder.LEAST_SQUARES, kind=Kind.HADAMARD), "1 to 256 projections"),
    ],
)
def test_what_cannot_be_decoded_is_refused_in_one_sentence(network, helper, codec, words):
    with pytest.raises(InputError, match=words) as caught:
        codec.encode(network, helper=helper)
    assert "theory()" in str(caught.value)


def test_cushions_of_another_network_are_refused(network, helper):
    cushions = Cushions((1.0,), (1.0,), 1.0, None, 12, 100, epsilon=1.0)
    codec = MatrixProject(cushions=cushions, kind=Kind.HADAMARD)
    for ask in (lambda: codec.theory(network), lambda: codec.encode(network, helper=helper)):
        with pytest.raises(InputError, match="cushions of"):
            ask()


def test_weights_that_are_not_finite_are_refused(helper):
    network = capture(nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3)), torch.randn(2, 20))
    network.parameters["0.weight"].data[0, 0] = math.inf
    with pytest.raises(InputError, match="finite"):
        MatrixProject(k=3).encode(network, helper=helper)


@pytest.mark.parametrize(("shape", "ratio"), [((33, 1), 0.5), ((10, 65), 0.5), ((8, 8), 0.25)])
def test_the_error_of_cut_hadamard_projections_is_the_predicted_one(shape, ratio):
    """A tensor padded to a power of two keeps less noise than ``1 - k/n`` of itself, because the padding is cut off."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=shape)
    target = Target("w", shape, "weight")
    codec = MatrixProject(kind=Kind.HADAMARD, decoder=Decoder.LEAST_SQUARES, ratio=ratio, quantiser=Uniform(2.0**-9))
    errors = []
    for seed in range(300):
        layer = Layer(target, torch.from_numpy(weight), weight, Base.NEUTRAL, target.draws(seed), 1)
        code = codec.code_layer(layer)
        values = TRANSFORMS[NUMBERS["hadamard"]].expand(target, code.settings, code.coefficients, layer.draws)
        errors.append(float(np.square(values - weight).sum() / np.square(weight).sum()))
    predicted = codec.layer_theory(target, 1).error
    assert np.mean(errors) == pytest.approx(predicted, abs=4.5 * np.std(errors) / np.sqrt(300))
