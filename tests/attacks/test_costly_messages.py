"""Messages of a few bytes that ask for minutes of work: refused before any of it is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, capture, decode_message
from bitcert.coding import MessageWriter
from bitcert.decoder import tensors as composed
from bitcert.decoder.transforms import NUMBERS, subspace
from bitcert.errors import DecodeError

NEUTRAL = 1


def small_message(transform: str, settings: tuple[int, ...], tail: bytes = bytes(40)) -> bytes:
    """The first tensor announces this; what follows is ``tail``."""
    writer = MessageWriter(composed.FAMILY)
    with writer.section("hostile") as bits:
        bits.elias_gamma(1)
        bits.elias_gamma(NUMBERS[transform])
        bits.elias_gamma(NEUTRAL)
        for setting in settings:
            bits.elias_delta(setting + 1)
        bits.extend(np.unpackbits(np.frombuffer(tail, dtype=np.uint8)))
    return writer.finish()[0]


def helper_for(module: nn.Module, shape: tuple[int, ...]) -> Helper:
    architecture = capture(module, torch.zeros(2, *shape)).architecture
    return Helper(shape, architecture.num_outputs, predictor=architecture)


@pytest.mark.parametrize(
    ("transform", "settings"),
    [
        ("signs", (245_808, 0)),
        ("signs", (900_000, 1)),
        ("hadamard", ((1 << 26) - 8, 0)),
        ("factors", (1 << 40,)),
        ("sketch", (40, 40, 20, 5)),
        ("mask", (7,)),
        ("heavy tail", (1 << 50,)),
        ("separator projection", (1 << 40,)),
        ("filter projection", (1 << 30, 1 << 20)),
    ],
)
def test_one_tensor_cannot_ask_for_minutes(transform, settings):
    helper = helper_for(nn.Linear(1024, 1024, bias=False), (1024,))
    with pytest.raises(DecodeError):
        decode_message(small_message(transform, settings), helper)


def test_a_dense_linear_program_is_refused():
    helper = helper_for(nn.Linear(64, 64, bias=False), (64,))
    with pytest.raises(DecodeError, match="edges"):
        decode_message(small_message("sketch", (40, 40, 20, 5)), helper)


def test_filters_for_every_position_are_limited():
    helper = helper_for(nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.Flatten(), nn.Linear(32768, 4)), (16, 32, 32))
    with pytest.raises(DecodeError):
        decode_message(small_message("filter projection", (1024, 7)), helper)


@pytest.mark.parametrize("kind", list(subspace.Kind))
def test_a_subspace_beyond_the_limits_is_refused(kind):
    """One tensor is a member; the section behind it asks for as much as there are weights."""
    helper = helper_for(nn.Linear(3000, 3000, bias=False), (3000,))
    writer = MessageWriter(composed.FAMILY)
    with writer.section("hostile") as bits:
        bits.elias_gamma(1)
        bits.elias_gamma(NUMBERS["subspace"])
        bits.elias_gamma(NEUTRAL)
        for setting in (int(kind), 9_000_000 if kind is not subspace.Kind.DENSE else 1000, 9):
            bits.elias_delta(setting + 1)
        bits.binary(0, 60)
    with pytest.raises(DecodeError):
        decode_message(writer.finish()[0], helper)
