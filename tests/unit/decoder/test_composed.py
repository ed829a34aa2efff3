"""Message family 4: round trip, ledger, bases, refusals, and the same weights in a fresh process."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import Helper, Role, Sample, capture, certify, decode_message
from bitcert.codecs.base import Layer, LayerCodec, Rest, Selection
from bitcert.codecs.quantiser import Uniform
from bitcert.coding import MessageReader, MessageWriter
from bitcert.decoder import HelperWeights
from bitcert.decoder import tensors as composed
from bitcert.decoder.tensors import Base, ComposedMessage, TensorCode, exact_code, read_codes, targets, write
from bitcert.decoder.transforms import NUMBERS, TRANSFORMS, Coefficients
from bitcert.errors import DecodeError, InputError
from bitcert.network import Network
from bitcert.network.decode import decode_architecture


class Plain(LayerCodec):
    """Every layer as quantised weights."""

    name = "plain"

    def code_layer(self, layer: Layer) -> TensorCode:
        return layer.code("identity", (), self.quantiser(layer.values))


@functools.cache
def small_network() -> Network:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 5), nn.ReLU(), nn.Linear(5, 4)
    )
    return capture(net, torch.rand(2, 1, 8, 8))


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


@pytest.fixture(scope="module")
def sample() -> Sample:
    rng = np.random.default_rng(0)
    inputs = rng.random((40, 1, 8, 8), dtype=np.float32)
    return Sample(inputs, rng.integers(0, 4, 40), 4, Role.TRAIN, "noise")


@pytest.fixture(scope="module")
def helper(network, sample) -> Helper:
    return Helper.for_sample(sample, network.architecture)


def decoded_weights(message: bytes, helper: Helper) -> dict[str, torch.Tensor]:
    return dict(decode_message(message, helper).classifier.weights)


def test_weights_come_back_within_half_a_step(network, sample, helper):
    compressed = Plain(quantiser=Uniform(0.1)).encode(network, helper=helper)
    weights = decoded_weights(compressed.message, helper)
    for spec in network.architecture.parameters:
        trained = network.parameters[spec.name]
        rms = float((trained - composed.base_value(spec.kind)).square().mean().sqrt())
        bound = 0.5 * 0.1 * rms * 2 ** (1 / 8) + 1e-6
        assert float((weights[spec.name] - trained).abs().max()) <= bound
    assert compressed.ledger.total_bits == 8 * len(compressed.message)
    assert decode_message(compressed.message, helper).ledger == compressed.ledger


def test_exact_layers_come_back_to_the_last_bit_at_32_bits_a_number(network, helper):
    codes = {spec.name: exact_code(network.parameters[spec.name]) for spec in network.architecture.parameters}
    message, ledger = write(helper, ComposedMessage(codes))
    for name, value in decoded_weights(message, helper).items():
        assert torch.equal(value, network.parameters[name])
    floats = 32 * sum(spec.num_entries for spec in network.architecture.parameters)
    assert floats < ledger.total_bits < floats + 60


@pytest.mark.parametrize("rest", list(Rest))
def test_what_is_not_selected_follows_the_rest(network, helper, rest):
    first = network.architecture.weight_layers[0].weight
    codec = Plain(selection=Selection(layers=(first,), rest=rest), quantiser=Uniform(4.0))
    weights = decoded_weights(codec.encode(network, helper=helper).message, helper)
    last = network.architecture.weight_layers[-1].weight
    error = float((weights[last] - network.parameters[last]).abs().max())
    if rest is Rest.EXACT:
        assert error == 0
    elif rest is Rest.QUANTISED:
        assert 0 < error < 0.05
    else:
        assert torch.count_nonzero(weights[last]) == 0


def test_differences_from_weights_in_the_helper_are_coded_and_the_helper_is_named(network, sample, helper):
    near = {name: value + 0.001 for name, value in network.parameters.items()}
    public = replace(helper, weights=HelperWeights.of(network.architecture, near))
    codec = Plain(selection=Selection(base=Base.FILE))
    compressed = codec.encode(network, helper=public)
    for name, value in decoded_weights(compressed.message, public).items():
        assert float((value - network.parameters[name]).abs().max()) < 5e-4
    certificate = certify(compressed, sample)
    assert certificate.helper["weights"] == public.weights.content_hash
    assert "weights" not in helper.describe()
    with pytest.raises(DecodeError, match="base that the helper has"):
        decode_message(compressed.message, helper)


def test_the_random_base_depends_on_the_seed_and_is_he_normal(network, helper):
    weights = {}
    for seed in (0, 1):
        codec = Plain(selection=Selection(base=Base.RANDOM, rest=Rest.HELPER, seed=seed), quantiser=Uniform(1e4))
        compressed = codec.encode(network, helper=helper)
        weights[seed] = decoded_weights(compressed.message, helper)["4.weight"].double()
    assert not torch.equal(weights[0], weights[1])
    assert float(weights[0].square().mean()) == pytest.approx(2 / 108, rel=0.2)
    assert float(weights[0].mean()) == pytest.approx(0, abs=4 * (2 / 108 / 540) ** 0.5)


def test_each_seed_costs_the_bits_of_choosing_it(network, helper):
    lengths = [Plain(selection=Selection(seed=seed)).encode(network, helper=helper).ledger for seed in (0, 1, 6)]
    assert [dict(ledger.sections)["seed"] for ledger in lengths] == [1, 3, 5]


FRESH = """
import sys, hashlib, torch
sys.path.insert(0, sys.argv[2])
torch.set_num_threads(int(sys.argv[3]))
from bitcert.decoder.tensors import Base
from bitcert import decode_message, Helper, Sample, Role
from unit.decoder.test_composed import small_network
network = small_network()
message = open(sys.argv[1], "rb").read()
helper = Helper((1, 8, 8), 4, predictor=network.architecture)
weights = decode_message(message, helper).classifier.weights
print(hashlib.sha256(b"".join(weights[n].numpy().tobytes() for n in sorted(weights))).hexdigest())
"""


@pytest.mark.parametrize("threads", [1])
def test_a_fresh_process_makes_the_same_weights(network, tmp_path, threads):
    plain = Helper((1, 8, 8), 4, predictor=network.architecture)
    compressed = Plain(selection=Selection(base=Base.RANDOM, seed=3)).encode(network, helper=plain)
    weights = decoded_weights(compressed.message, plain)
    here = hashlib.sha256(b"".join(weights[n].numpy().tobytes() for n in sorted(weights))).hexdigest()
    (tmp_path / "message.bin").write_bytes(compressed.message)
    tests = __file__.rsplit("/unit/", 1)[0]
    command = [sys.executable, "-c", FRESH, str(tmp_path / "message.bin"), tests, str(threads)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == here


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_refused_or_decoded(content):
    network = small_network()
    helper = Helper((1, 8, 8), 4, predictor=network.architecture)
    writer = MessageWriter(composed.FAMILY)
    with writer.section("hostile") as bits:
        bits.extend(np.unpackbits(np.frombuffer(content, dtype=np.uint8)))
    message, _ = writer.finish()
    try:
        decode_message(message, helper)
    except DecodeError:
        return


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_bit_is_refused_or_is_another_message_of_the_same_length(data):
    network = small_network()
    helper = Helper((1, 8, 8), 4, predictor=network.architecture)
    message = Plain(quantiser=Uniform(1.0)).encode(network, helper=helper).message
    flipped = bytearray(message)
    place = data.draw(st.integers(0, 8 * len(message) - 1))
    flipped[place // 8] ^= 1 << (place % 8)
    try:
        decoded = decode_message(bytes(flipped), helper)
    except DecodeError:
        return
    assert decoded.ledger.total_bits == 8 * len(message)


def hostile(write_bits) -> bytes:
    writer = MessageWriter(composed.FAMILY)
    with writer.section("seed") as bits:
        bits.elias_gamma(1)
    with writer.section("first tensor") as bits:
        write_bits(bits)
        bits.binary(0, 30)
    return writer.finish()[0]


@pytest.mark.parametrize(
    ("write_bits", "sentence"),
    [
        (lambda bits: bits.elias_gamma(10**9), "a transform that this version knows"),
        (lambda bits: (bits.elias_gamma(NUMBERS["identity"]), bits.elias_gamma(9)), "a base that the helper has"),
        (lambda bits: (bits.elias_gamma(NUMBERS["identity"]), bits.elias_gamma(Base.FILE)), "a base that the helper"),
        (lambda bits: bits.elias_gamma(NUMBERS["exact"]), "ends too early"),
        (lambda bits: (bits.elias_gamma(1), bits.elias_gamma(1), bits.signed(10**6)), "step exponent"),
    ],
    ids=["transform", "base", "file base without a file", "exact tensor cut short", "exponent"],
)
def test_hostile_tensors_are_named(helper, write_bits, sentence):
    with pytest.raises(DecodeError, match=sentence):
        decode_message(hostile(write_bits), helper)


def test_a_step_for_nothing_but_zeros_has_one_encoding(network, helper):
    zeros = {
        t.name: TensorCode("identity", (), (Coefficients(np.zeros(t.shape, np.int64), 40),))
        for t in targets(network.architecture)
    }
    message, _ = write(helper, ComposedMessage(zeros))
    codes = read_codes(MessageReader(message), helper).codes
    assert {code.coefficients[0].exponent for code in codes.values()} == {composed._FIRST_EXPONENT}


def test_a_missing_tensor_and_an_opaque_helper_are_refused(network, helper):
    with pytest.raises(InputError, match="a code for every tensor"):
        write(helper, ComposedMessage({}))
    with pytest.raises(DecodeError, match="architecture of a captured network"):
        write(replace(helper, predictor=None), ComposedMessage({}))


def test_the_name_of_a_tensor_is_no_seed(network, helper):
    """A free choice of names must not choose the helper's random numbers: that would be a seed without bits."""
    text = network.architecture.to_json().replace('"4.weight"', '"another.name"')
    renamed = replace(helper, predictor=decode_architecture(text))
    codec = Plain(selection=Selection(base=Base.RANDOM, rest=Rest.HELPER), quantiser=Uniform(1e4))
    message = codec.encode(network, helper=helper).message
    ours, theirs = decoded_weights(message, helper), decoded_weights(message, renamed)
    assert torch.equal(ours["4.weight"], theirs["another.name"])


@pytest.mark.parametrize("wanted", ["operations", "coefficients"])
def test_many_costly_tensors_are_refused_together(wanted, monkeypatch):
    """Each tensor alone is within the limits; a message of twenty is not."""
    net = nn.Sequential(*[nn.Linear(30, 30, bias=False) for _ in range(20)])
    helper = Helper((30,), 30, predictor=capture(net, torch.zeros(2, 30)).architecture)
    count = 100
    limits = {"operations": ("MAX_EXPANSION", 2_000_000), "coefficients": ("SPARE_COEFFICIENTS", -20 * 7200 + 900)}
    zeros = Coefficients(np.zeros(count, np.int64), 0)
    codes = {target.name: TensorCode("signs", (count, 0), (zeros,)) for target in targets(helper.predictor)}
    message, _ = write(helper, ComposedMessage(codes))
    assert not any(weight.any() for weight in decoded_weights(message, helper).values())
    monkeypatch.setattr(composed, *limits[wanted])
    with pytest.raises(DecodeError, match=r"to decode|a parameter"):
        decode_message(message, helper)
    with pytest.raises(InputError, match="use smaller settings"):
        write(helper, ComposedMessage(codes))


def test_unknown_layers_and_infinite_weights_are_refused(network, helper):
    with pytest.raises(InputError, match="weight layer"):
        Plain(selection=Selection(layers=("nowhere",))).encode(network, helper=helper)
    broken = replace(network, parameters={**network.parameters, "4.bias": torch.full((5,), torch.inf)})
    with pytest.raises(InputError, match=r"finite values in 4\.bias"):
        Plain().encode(broken, helper=helper)


def test_helper_weights_of_another_network_are_refused(network):
    wrong = {name: value[..., :1] for name, value in network.parameters.items()}
    with pytest.raises(InputError, match="helper weights with"):
        HelperWeights.of(network.architecture, wrong)
    with pytest.raises(DecodeError, match=r"helper\.safetensors"):
        HelperWeights.from_bytes(b"no safetensors", network.architecture)


def test_registry_numbers_and_names_are_one_to_one():
    assert len(set(NUMBERS.values())) == len(NUMBERS)
    for number, transform in TRANSFORMS.items():
        assert NUMBERS[transform.name] == number
