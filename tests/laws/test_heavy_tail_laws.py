"""Laws of heavy-tail messages: what is written is read, the ledger adds up, damaged bytes are named."""

from __future__ import annotations

import functools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import Helper, capture, decode_message
from bitcert.codecs.heavy_tail import Compare, HeavyTail, Variance
from bitcert.codecs.quantiser import Uniform
from bitcert.coding import MessageReader, MessageWriter
from bitcert.decoder.tensors import FAMILY, ComposedMessage, TensorCode, read_codes, write
from bitcert.decoder.transforms.base import Coefficients
from bitcert.errors import DecodeError
from bitcert.network import Network


@functools.cache
def problem() -> tuple[Network, Helper]:
    network = capture(nn.Linear(4, 3), torch.randn(2, 4))
    return network, Helper(input_shape=(4,), num_classes=3, predictor=network.architecture)


def kept_of(message: bytes) -> dict[str, TensorCode]:
    return dict(read_codes(MessageReader(message), problem()[1]).codes)


@settings(max_examples=12, deadline=None)
@given(
    weights=st.lists(st.floats(-1e3, 1e3, width=32), min_size=12, max_size=12),
    threshold=st.sampled_from([{"tau": 0.5}, {"quantile": 0.4}, {"quantile": 0.0}, {"quantile": 1.0}, {}]),
    rules=st.tuples(st.sampled_from(list(Compare)), st.sampled_from(list(Variance))),
    draw=st.integers(0, 2000),
    fraction=st.sampled_from([0.01, 0.25, 3.0]),
)
def test_any_weights_and_options_round_trip(weights, threshold, rules, draw, fraction) -> None:
    network, helper = problem()
    tensors = {**network.parameters, "weight": torch.tensor(weights).view(3, 4)}
    codec = HeavyTail(compare=rules[0], variance=rules[1], draw=draw, quantiser=Uniform(fraction), **threshold)
    compressed = codec.encode(Network(network.architecture, tensors, network.report), helper=helper)
    decoded = decode_message(compressed.message, helper)
    assert decoded.ledger.total_bits == compressed.ledger.total_bits == 8 * len(compressed.message)
    code = kept_of(compressed.message)["weight"]
    split = codec.split(np.array(weights).reshape(3, 4))
    moments, kept = code.coefficients
    assert code.settings == (draw,)
    assert np.array_equal(kept.integers == 0, split.replaced)
    assert write(helper, ComposedMessage(kept_of(compressed.message)))[0] == compressed.message
    found = decoded.classifier.weights["weight"].numpy()
    assert np.array_equal(found[~split.replaced], kept.values.astype(np.float32)[~split.replaced])
    # no normal number of the helper is larger than 4.34
    spread = 4.34 * moments.values[1] + 1e-6 * np.abs(moments.values).max()
    assert (np.abs(found - moments.values[0])[split.replaced] <= spread).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_bit_is_refused_or_is_another_message(data) -> None:
    helper = problem()[1]
    integers = np.array(data.draw(st.lists(st.integers(-20, 20), min_size=12, max_size=12))).reshape(3, 4)
    code = TensorCode("heavy tail", (5,), (Coefficients(np.array([3, 200]), -30), Coefficients(integers, -8)))
    bias = TensorCode("none")
    message, _ = write(helper, ComposedMessage({"weight": code, "bias": bias}))
    changed = bytearray(message)
    place = data.draw(st.integers(0, 8 * len(message) - 1))
    changed[place // 8] ^= 128 >> place % 8
    try:
        weights = decode_message(bytes(changed), helper).classifier.weights
    except DecodeError:
        return
    assert weights["weight"].shape == (3, 4)


@settings(max_examples=60, deadline=None)
@given(body=st.lists(st.booleans(), max_size=200))
def test_random_bits_in_a_heavy_tail_tensor_are_refused_or_decoded(body) -> None:
    helper = problem()[1]
    writer = MessageWriter(FAMILY)
    with writer.section("seed") as bits:
        bits.elias_gamma(1)
    with writer.section("weight") as bits:
        bits.elias_gamma(13)
        bits.elias_gamma(1)
        bits.extend(np.array(body, dtype=np.uint8))
    try:
        decode_message(writer.finish()[0], helper)
    except DecodeError:
        return
