"""The message of cut and rounded layers: its length, the error it makes, and how far the output moves."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.coding import BitWriter
from bitcert.counting import margins
from bitcert.theory.formulas.low_rank_code import delta_bits, gamma_bits, shortest_form, signed_bits
from bitcert.theory.formulas.low_rank_network import (
    OFFSETS_IN_LAYERS,
    class_conditions,
    log_relative_error,
    log_rounding,
    network_message,
    threshold_ranks,
)
from bitcert.theory.gathering import gather
from bitcert.theory.inputs import Lipschitz
from bitcert.theory.papers.arora2018 import thm22_constants, thm22_original
from bitcert.theory.settings import BoundSettings
from bitcert.theory.value import Condition, NotComputed, Status
from tests.reference import low_rank_naive as naive
from tests.unit.theory import hand, nets

SHAPES = [(1, 1), (2, 5), (7, 3), (12, 12)]


def matrices(shape, decay=0.3):
    """Random singular vectors, singular values that fall by ``decay`` each: worth cutting."""
    rng = np.random.default_rng(sum(shape))
    rank = min(shape)
    u = np.linalg.qr(rng.normal(size=(shape[0], rank)))[0]
    v = np.linalg.qr(rng.normal(size=(shape[1], rank)))[0]
    yield (u * 3 * decay ** np.arange(rank)) @ v.T
    yield rng.normal(size=shape)


def form_of(matrix, error):
    sigma = np.linalg.svd(matrix, compute_uv=False)
    return shortest_form(matrix.shape, sigma, float(np.abs(matrix).max()), math.log(error))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("error", [2.0, 0.3, 1e-2, 1e-5])
def test_the_message_is_as_long_as_it_says_and_errs_as_little(shape, error):
    for matrix in matrices(shape):
        form = form_of(matrix, error)
        bits = BitWriter()
        naive.write_layer(bits, matrix, form)
        assert len(bits) == form.bits
        (read,), position = naive.decoded(bits, [shape])
        assert position == form.bits
        assert np.linalg.norm(read - matrix, 2) <= error


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("error", [2.0, 0.3, 1e-2, 1e-5])
def test_no_rank_and_step_by_brute_force_is_much_shorter(shape, error):
    for matrix in matrices(shape):
        form, fewest = form_of(matrix, error), naive.fewest_bits(matrix, error)
        # the closed form of the step loses less than one binary digit
        assert fewest <= form.bits <= fewest + form.numbers + 2


def test_a_fast_decay_is_cut_and_a_slow_one_is_not():
    steep, _ = matrices((12, 12), decay=0.05)
    flat, _ = matrices((12, 12), decay=1.0)
    assert form_of(steep, 0.1).rank == 2
    assert form_of(flat, 0.1).rank is None
    assert form_of(flat, 4.0).rank == 0
    assert form_of(np.zeros((3, 3)), 1e-9).rank == 0


def test_no_message_begins_another():
    """All messages of one-entry layers with small numbers: Kraft's sum, and the decoder stops where the writer did."""
    seen = set()
    for matrix in ([[v]] for v in (0.0, 0.5, 1.0, -3.0, 7.25)):
        for error in (0.01, 0.1, 1.0, 8.0):
            bits = BitWriter()
            naive.write_layer(bits, np.array(matrix), form_of(np.array(matrix), error))
            seen.add("".join(map(str, bits.bits())))
    words = sorted(seen)
    assert not any(b.startswith(a) for a, b in pairwise(words))
    assert sum(0.5 ** len(word) for word in words) <= 1


@pytest.mark.parametrize("value", [1, 2, 3, 4, 7, 8, 100, 12345])
def test_code_lengths_are_those_of_the_writer(value):
    for length, write in ((gamma_bits, "elias_gamma"), (delta_bits, "elias_delta"), (signed_bits, "signed")):
        for sign in (1, -1) if write == "signed" else (1,):
            bits = BitWriter()
            getattr(bits, write)(sign * value)
            assert length(sign * value) == len(bits)


def test_extreme_scales_stay_integers():
    form = shortest_form((3, 3), np.array([1e30, 1e20, 0.0]), 1e30, -4000.0)
    assert 5000 < form.width < 7000
    assert form.bits > form.numbers * form.width
    assert shortest_form((3, 3), np.array([1e-30, 1e-31, 0.0]), 1e-30, -4000.0).exponent < -5000


# how far the output moves


def chain(values, biases=None, **changes):
    """Scalar layers in a row."""
    inputs = hand.inputs([[[v]] for v in values], **changes)
    if biases is not None:
        layers = [
            hand.layer([[v]], f"layer{k}", has_bias=b != 0, bias_norm=abs(b))
            for k, (v, b) in enumerate(zip(values, biases, strict=True), start=1)
        ]
        inputs = hand.inputs([[[v]] for v in values], layers=tuple(layers), **changes)
    return inputs


def grown(values, biases, x, delta):
    for value, bias in zip(values, biases, strict=True):
        x = max(0.0, (1 + delta) * value * x + bias)
    return x


@pytest.mark.parametrize("allowed", [3.0, 0.1, 1e-6])
def test_the_error_allowed_is_reached_when_every_layer_grows(allowed):
    values = [2.0, 0.5, 3.0, 1.5]
    delta = math.exp(log_relative_error(chain(values), math.log(1.5), math.log(allowed)))
    moved = grown(values, [0] * 4, 1.5, delta) - grown(values, [0] * 4, 1.5, 0.0)
    assert moved == pytest.approx(allowed, rel=1e-5)
    assert moved <= allowed


@pytest.mark.parametrize("allowed", [3.0, 0.1, 1e-6])
def test_with_biases_too(allowed):
    values, biases = [2.0, 0.5, 3.0], [1.0, 0.25, 7.0]
    delta = math.exp(log_relative_error(chain(values, biases), math.log(1.5), math.log(allowed)))
    moved = grown(values, biases, 1.5, delta) - grown(values, biases, 1.5, 0.0)
    assert moved == pytest.approx(allowed, rel=1e-5)
    # without the biases in the recursion delta would be too large
    assert delta < math.exp(log_relative_error(chain(values), math.log(1.5), math.log(allowed)))


def test_biases_of_size_zero_change_nothing():
    plain = log_relative_error(chain([2.0, 3.0]), 0.0, -1.0)
    biased = log_relative_error(chain([2.0, 3.0], [1e-300, 0.0]), 0.0, -1.0)
    assert biased == pytest.approx(plain, abs=1e-9)


def test_a_convolution_gets_its_taps_and_its_bias_at_every_place():
    one = hand.layer([[2.0]], "layer1", has_bias=True, bias_norm=0.5)
    four = hand.layer([[2.0]], "layer1", has_bias=True, bias_norm=0.25, positions=4)
    other = hand.layer([[3.0]], "layer2", op="conv2d")
    single, many = (hand.inputs([[[2.0]], [[3.0]]], layers=(first, other)) for first in (one, four))
    assert log_relative_error(single, 0.0, -1.0) == log_relative_error(many, 0.0, -1.0)
    kernel = hand.layer(np.ones((2, 9)), "layer1", op="conv2d")
    kernel = replace(kernel, weight=kernel.weight.reshape(2, 1, 3, 3))
    dense = hand.layer(np.ones((2, 9)), "layer1")
    bits = [network_message(hand.inputs([np.ones((2, 9))], layers=(own,)), math.log(0.01)) for own in (kernel, dense)]
    # an error of a third: log2(3) more digits, one or two
    assert 1 <= bits[0].forms[0].width - bits[1].forms[0].width <= 2


def test_ranks_at_the_threshold():
    inputs = hand.inputs([np.diag([4.0, 3.0, 0.5]), [[1.0, 2.0, 0.0]]])
    assert threshold_ranks(inputs, math.log(0.2)) == (2, 1)
    assert threshold_ranks(inputs, math.log(0.1)) == (3, 1)
    assert threshold_ranks(inputs, -5000.0) == (3, 1)
    kernel = replace(inputs.layers[0], weight=torch.zeros(3, 1, 9), op="conv1d")
    # three times less, for nine taps
    assert threshold_ranks(hand.inputs([np.eye(3)], layers=(kernel,)), math.log(0.2)) == (3,)


def test_what_is_sent_exactly_costs_32_bits():
    inputs = chain([2.0, 3.0], [1.0, 0.0])
    plain = network_message(inputs, math.log(0.1))
    more = network_message(chain([2.0, 3.0], [1.0, 0.0], num_parameters=7), math.log(0.1))
    assert more.exact_numbers == plain.exact_numbers + 5
    assert more.bits == plain.bits + 32 * 5


def test_shared_weights_leave_no_parameter_uncounted():
    layers = tuple(hand.layer([[2.0, 1.0]], "shared") for _ in range(2))
    inputs = hand.inputs([[[2.0, 1.0]]] * 2, layers=layers, num_parameters=5)
    assert network_message(inputs, math.log(0.1)).exact_numbers == 3


def reason(*arguments):
    with pytest.raises(NotComputed) as caught:
        log_relative_error(*arguments)
    return caught.value.absent.why


def test_reasons():
    assert "layer2 is 0" in reason(chain([1.0, 0.0]), 0.0, 0.0)
    assert "every input is 0" in reason(chain([1.0, 2.0]), -math.inf, 0.0)
    unknown = hand.layer([[1.0]], "layer1", has_bias=True)
    assert "bias beside layer1" in reason(hand.inputs([[[1.0]]], layers=(unknown,)), 0.0, 0.0)
    branches = {**chain([1.0]).structure, "chain of layers": Condition("chain of layers", False, "branches meet")}
    assert "not a chain" in reason(chain([1.0], [1.0], structure=branches), 0.0, 0.0)


def test_a_zero_branch_beside_another_is_written_as_nothing():
    """``f(x) = (2 + 0) x``: the second layer lies beside the first."""
    inputs = hand.inputs([[[2.0]], [[0.0]]], lipschitz=Lipschitz(math.log(2.0), (0.0, 0.0)))
    assert network_message(inputs, log_relative_error(inputs, 0.0, -3.0)).forms[1].rank == 0


def test_conditions_name_the_offsets_and_the_estimates():
    def held(inputs):
        return {condition.name: condition.holds for condition in class_conditions(inputs)}

    assert all(held(chain([1.0])).values())
    assert held(chain([1.0], [1.0]))[OFFSETS_IN_LAYERS] is None
    convolution = hand.inputs([[[1.0]]], layers=(hand.layer([[1.0]], op="conv2d"),))
    assert held(convolution)["operator norms are exact"] is False


def forward(weights, biases, x):
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = weight @ x + bias
        if k + 1 < len(weights):
            x = np.maximum(x, 0.0)
    return x


@pytest.mark.parametrize("biased", [False, True])
def test_a_decoded_network_stays_within_the_error(biased):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((6, 4), (5, 6), (3, 5))]
    biases = [rng.normal(size=len(w)) * biased for w in weights]
    layers = tuple(
        hand.layer(w, f"layer{k}", has_bias=biased, bias_norm=float(np.linalg.norm(b)))
        for k, (w, b) in enumerate(zip(weights, biases, strict=True))
    )
    inputs = hand.inputs(weights, layers=layers)
    for allowed in (1.0, 0.01):
        sent = network_message(inputs, log_relative_error(inputs, math.log(2.0), math.log(allowed)))
        bits = naive.message(weights, sent.forms)
        assert len(bits) == sent.bits - 32 * sent.exact_numbers
        read, _ = naive.decoded(bits, [w.shape for w in weights])
        x = rng.normal(size=(4, 200))
        x *= 2.0 / np.linalg.norm(x, axis=0)
        moved = max(np.linalg.norm(forward(read, biases, c) - forward(weights, biases, c)) for c in x.T)
        assert 0 < moved <= allowed


class Skips(nn.Module):
    """Dense layers with a shortcut and a scaled sum of two branches, [5] -> 3."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        sizes = ((5, 6), (6, 6), (6, 6), (6, 3))
        self.layers = nn.ModuleList(nn.Linear(*size, bias=False) for size in sizes)

    def forward(self, x):
        first, second, third, last = self.layers
        x = first(x).relu()
        x = second(x).relu() + 0.5 * x
        return last(third(x).relu() + x)


CAPTURED = {
    "chain": (nets.chain, (5,), Status.HOLDS),
    "biases": (lambda: nets.chain(bias=True), (5,), Status.HOLDS),
    "shortcuts": (Skips, (5,), Status.UNKNOWN),
    "convolutions": (nets.convolutional, (2, 6, 6), Status.FAILS),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_captured_networks_from_end_to_end(name):
    """Gathered, written, read and run: within the error allowed, and a guarantee where no norm is estimated."""
    model, shape, status = CAPTURED[name]
    network = nets.captured(model(), *shape)
    sample = nets.sample_of(network, wrong=3)
    inputs = gather(network, sample, BoundSettings(margin_quantile=0.4, profile=False, flatness=False))
    found = thm22_constants(inputs)
    assert found.status is status
    assert thm22_original(inputs).status is Status.NEEDS
    forms = network_message(inputs, found.ingredients["log_relative_error"]).forms
    weights = [layer.matrix() for layer in inputs.layers]
    bits = naive.message(weights, forms)
    exact = sum(layer.bias.numel() for layer in inputs.layers if layer.bias is not None)
    assert len(bits) + 32 * exact == found.ingredients["bits"]
    read, _ = naive.decoded(bits, [weight.shape for weight in weights])
    parameters = {key: value.double() for key, value in network.parameters.items()}
    x = torch.tensor(sample.inputs, dtype=torch.float64)
    before = network.architecture.forward(x, parameters)
    for layer, weight in zip(inputs.layers, read, strict=True):
        parameters[layer.name] = torch.from_numpy(weight).reshape(layer.weight.shape)
    after = network.architecture.forward(x, parameters)
    assert 0 < float((after - before).norm(dim=1).max()) <= found.ingredients["output_error_allowed"]
    errors = int((margins(after, sample.labels)[0] <= 0).sum())
    assert errors <= found.ingredients["margin_loss"] * len(sample)


def float32_networks():
    """Chains with and without biases, and one that reads the bits that rounding leaves over."""
    rng = np.random.default_rng(0)
    for k in range(12):
        sizes = rng.integers(2, 40, 4)
        scales = 10.0 ** rng.uniform(-2, 2, 3)
        matrices = [s * rng.normal(size=(o, i)) for s, i, o in zip(scales, sizes, sizes[1:], strict=False)]
        biases = [(k % 2) * rng.normal(size=len(m)) for m in matrices]
        yield matrices, biases, rng.normal(size=(50, sizes[0]))
    reading = [[[2.0**24, 2.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0, 0.0], [1.0, -1.0, -1.0]]]
    pixels = np.stack([np.ones(256), np.arange(256)], 1)
    yield [np.array(m) for m in reading], [np.zeros(2), np.zeros(3), np.zeros(2)], pixels


def run(matrices, biases, x, dtype):
    for k, (matrix, bias) in enumerate(zip(matrices, biases, strict=True)):
        x = x.astype(dtype) @ matrix.T.astype(dtype) + bias.astype(dtype)
        x = np.maximum(x, 0) if k + 1 < len(matrices) else x
    return x.astype(np.float64)


def test_rounding_of_float32_is_within_its_limit_and_not_far_below():
    """The weights and inputs are float32 numbers, so that only the arithmetic differs."""
    ratios = []
    for matrices, biases, x in float32_networks():
        matrices, biases = ([np.float32(v).astype(np.float64) for v in values] for values in (matrices, biases))
        x = np.float32(x).astype(np.float64)
        layers = tuple(
            hand.layer(m, f"l{k}", has_bias=bool(b.any()), bias_norm=float(np.linalg.norm(b)))
            for k, (m, b) in enumerate(zip(matrices, biases, strict=True))
        )
        inputs = hand.inputs(matrices, layers=layers)
        radius = float(np.linalg.norm(x, axis=1).max())
        limit = math.exp(log_rounding(inputs, math.log(radius)))
        if not any(b.any() for b in biases):
            assert limit == pytest.approx(hand.rounding(matrices, radius))
        distance = np.linalg.norm(run(matrices, biases, x, np.float32) - run(matrices, biases, x, np.float64), axis=1)
        assert distance.max() <= limit
        ratios.append(distance.max() / limit)
    assert max(ratios) > 1e-3
