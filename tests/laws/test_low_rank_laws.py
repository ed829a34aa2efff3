"""Laws of factors and separators: whatever is written comes back; whatever is damaged is refused cleanly."""

from __future__ import annotations

import functools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert import Helper, capture, decode_message
from bitcert.coding import MessageReader
from bitcert.decoder.tensors import ComposedMessage, TensorCode, read_codes, write
from bitcert.decoder.transforms.base import Coefficients
from bitcert.errors import DecodeError


@functools.cache
def helper() -> Helper:
    network = capture(nn.Linear(7, 2), torch.rand(2, 7))
    return Helper((7,), 2, predictor=network.architecture)


def arrays(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    size = int(np.prod(shape))
    entries = st.one_of(st.integers(-2, 2), st.integers(-900, 900))
    return st.lists(entries, min_size=size, max_size=size).map(lambda v: np.array(v, dtype=np.int64).reshape(shape))


@st.composite
def codes(draw) -> TensorCode:
    transform, given_, shapes = draw(
        st.sampled_from(
            [
                ("factors", (1,), ((2, 1), (1, 7))),
                ("factors", (2,), ((2, 2), (2, 7))),
                ("separator", (), ((7,),)),
                ("separator projection", (1,), ((1,),)),
                ("separator projection", (13,), ((13,),)),
            ]
        )
    )
    return TensorCode(
        transform, given_, tuple(Coefficients(draw(arrays(shape)), draw(st.integers(-80, 80))) for shape in shapes)
    )


def message(code: TensorCode, seed: int) -> bytes:
    bias = TensorCode("identity", (), (Coefficients(np.array([1, -1]), 0),))
    names = [spec.name for spec in helper().predictor.parameters]
    return write(helper(), ComposedMessage(dict(zip(names, (code, bias), strict=True)), seed))[0]


@settings(max_examples=12, deadline=None)
@given(codes(), st.integers(0, 3))
def test_codes_come_back_as_written(code, seed):
    content = message(code, seed)
    found = read_codes(MessageReader(content), helper())
    back = next(iter(found.codes.values()))
    assert (back.transform, back.settings, found.seed) == (code.transform, code.settings, seed)
    for mine, theirs in zip(code.coefficients, back.coefficients, strict=True):
        assert np.array_equal(mine.integers, theirs.integers)
        assert mine.exponent == theirs.exponent or not mine.integers.any()
    first, second = (decode_message(content, helper()) for _ in range(2))
    weights = first.classifier.weights, second.classifier.weights
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert first.ledger.total_bits == 8 * len(content)


@settings(max_examples=40, deadline=None)
@given(codes(), st.data())
def test_a_damaged_message_is_another_one_or_is_refused(code, data):
    content = bytearray(message(code, 0))
    position = data.draw(st.integers(0, 8 * len(content) - 1))
    content[position // 8] ^= 1 << position % 8
    cut = data.draw(st.integers(0, 2))
    try:
        decoded = decode_message(bytes(content[: len(content) - cut]), helper())
    except DecodeError:
        return
    assert decoded.classifier(np.zeros((1, 7), np.float32)).shape == (1, 2)
