"""Laws of the projection codecs: what is written is what is read, and the ledger accounts for every bit."""

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import capture
from bitcert.codecs.base import Rest, Selection, network_layers
from bitcert.codecs.convolution_project import ConvolutionProject
from bitcert.codecs.matrix_project import Decoder, Kind, MatrixProject
from bitcert.codecs.quantiser import Uniform
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.tensors import Base, ComposedMessage, expand
from bitcert.errors import DecodeError

torch.manual_seed(0)
NETWORK = capture(nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)), torch.randn(2, 1, 4, 4))
HELPER = Helper((1, 4, 4), 4, predictor=NETWORK.architecture)

selections = st.builds(
    Selection,
    rest=st.sampled_from([Rest.QUANTISED, Rest.EXACT, Rest.HELPER]),
    base=st.sampled_from([Base.NEUTRAL, Base.RANDOM]),
    seed=st.integers(0, 2**40),
)
quantisers = st.builds(Uniform, st.floats(2.0**-8, 4.0), st.sampled_from([0.5, 0.7]))
averages = st.builds(
    MatrixProject,
    kind=st.sampled_from(Kind),
    k=st.integers(1, 200),
    selection=selections,
    quantiser=quantisers,
)
squares = st.builds(
    MatrixProject,
    kind=st.just(Kind.HADAMARD),
    decoder=st.just(Decoder.LEAST_SQUARES),
    ratio=st.floats(0.01, 1.0),
    selection=selections,
    quantiser=quantisers,
)
convolutions = st.builds(
    ConvolutionProject,
    k=st.integers(1, 4),
    copies=st.integers(1, 4),
    dense_ratio=st.floats(0.01, 1.0),
    selection=selections,
    quantiser=quantisers,
)
codecs = st.one_of(averages, squares, convolutions)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(codecs)
def test_round_trip_and_ledger(codec):
    compressed = codec.encode(NETWORK, helper=HELPER)
    layers = network_layers(NETWORK, HELPER, codec.selection)
    codes = {layer.target.name: codec.code_tensor(layer) for layer in layers}
    meant = expand(ComposedMessage(codes, codec.selection.seed), HELPER)
    found = decode_message(compressed.message, HELPER).classifier.weights
    assert all(torch.equal(found[name], meant[name]) for name in meant)
    assert codec.encode(NETWORK, helper=HELPER).message == compressed.message
    assert compressed.ledger.total_bits == len(compressed.message) * 8
    assert {name for name, _ in compressed.ledger.sections} >= set(found)


@quick
@given(codecs, st.data())
def test_damaged_messages_are_refused_or_decode_to_numbers(codec, data):
    message = bytearray(codec.encode(NETWORK, helper=HELPER).message)
    place = data.draw(st.integers(0, len(message) * 8 - 1))
    message[place // 8] ^= 1 << (place % 8)
    try:
        classifier = decode_message(bytes(message), HELPER).classifier
    except DecodeError:
        return
    assert classifier(np.zeros((2, 1, 4, 4), np.float32)).shape == (2, 4)
