"""Messages of family 3: steps, bases and exponents of tensors, and what a decoded network computes in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from bitcert.coding import MessageReader, max_flags
from bitcert.decoder import Helper, Preprocessing, decode_message, network
from bitcert.decoder.network import (
    base_value,
    cheapest_exponents,
    dequantise,
    network_inputs,
    read_integers,
    run_network,
    write,
)
from bitcert.errors import DecodeError
from bitcert.network import ParameterSpec, capture


@dataclass(frozen=True)
class Names:
    """All that coding needs of a network."""

    parameters: tuple[ParameterSpec, ...]


KINDS = ("weight", "bias", "scale", "table", "buffer")
NAMES = Names(tuple(ParameterSpec(kind, (2, 3), kind) for kind in KINDS))
NETWORK = capture(nn.Linear(3, 2), torch.zeros(2, 3))
HELPER = Helper((3,), 2, Preprocessing(2.0), NETWORK.architecture)
INTEGERS = {"weight": np.array([[1, -2, 0], [3, 0, 5]]), "bias": np.array([4, -1])}
EXPONENTS = {"weight": -4, "bias": -8}


def ones(*silent: str) -> dict[str, np.ndarray]:
    return {kind: np.full((2, 3), 0 if kind in silent else 1) for kind in KINDS}


def bits_of_exponents(exponents: dict[str, int]) -> list[int]:
    """Beyond what the same tensors take with the exponents that are expected."""
    usual = dict.fromkeys(KINDS, -12) | {"buffer": 0}
    sections = [dict(write(NAMES, ones(), each)[1].sections) for each in (usual | exponents, usual)]
    return [sections[0][kind] - sections[1][kind] for kind in KINDS]


def test_gains_of_norms_are_counted_from_one() -> None:
    assert [base_value(kind) for kind in KINDS] == [0.0, 0.0, 1.0, 0.0, 0.0]
    found = dequantise(NAMES, ones(), dict.fromkeys(KINDS, -4))
    assert {kind: set(found[kind].flatten().tolist()) for kind in KINDS} == {
        kind: {1.5 if kind == "scale" else 0.5} for kind in KINDS
    }
    assert all(value.dtype == torch.float32 and value.shape == (2, 3) for value in found.values())


def test_the_first_exponent_is_expected_at_minus_12_and_of_buffers_at_0() -> None:
    assert bits_of_exponents({}) == [0] * 5
    assert bits_of_exponents({"weight": -9}) == [4, 0, 0, 0, 0]
    assert bits_of_exponents({"buffer": 3}) == [0, 0, 0, 0, 4]


def test_later_exponents_are_expected_as_the_one_before_of_their_kind() -> None:
    pair = Names(
        (ParameterSpec("a", (2,), "bias"), ParameterSpec("b", (2,), "bias"), ParameterSpec("c", (2,), "table"))
    )
    integers = {name: np.ones(2, dtype=np.int64) for name in "abc"}
    first, second = (
        dict(write(pair, integers, {"a": -20, "b": b, "c": -12})[1].sections) for b in (-20, -12)
    )  # fmt: skip
    assert second["b"] > first["b"]
    assert second["c"] == first["c"]
    message, _ = write(pair, integers, {"a": -20, "b": -12, "c": 5})
    assert read_integers(MessageReader(message), pair)[1] == {"a": -20, "b": -12, "c": 5}


def test_an_all_zero_tensor_repeats_the_exponent_before() -> None:
    given = {"weight": -3, "bias": -5, "scale": 7, "table": 1, "buffer": 2}
    integers = ones("bias", "buffer")
    integers["weight"][0, 0] = 0
    chosen = cheapest_exponents(NAMES, integers, given)
    assert chosen == {"weight": -3, "bias": -12, "scale": 7, "table": 1, "buffer": 0}
    twice = Names((ParameterSpec("a", (2, 3), "weight"), ParameterSpec("b", (2, 3), "weight")))
    integers = {"a": np.ones((2, 3), dtype=np.int64), "b": np.zeros((2, 3), dtype=np.int64)}
    assert cheapest_exponents(twice, integers, {"a": -3, "b": 9}) == {"a": -3, "b": -3}


def test_a_decoded_network_and_its_description() -> None:
    message, ledger = write(NETWORK.architecture, INTEGERS, EXPONENTS)
    decoded = decode_message(message, HELPER)
    assert decoded.description == "quantised network, 6 of 8 weights non-zero"
    assert decoded.ledger == ledger
    assert [name for name, _ in ledger.sections] == ["header", "weight", "bias", "padding"]
    x = np.array([[2, 4, 6], [1, 0, 0]], dtype=np.uint8)
    expected = x / 2 @ (INTEGERS["weight"] * 0.5).T + INTEGERS["bias"] * 0.25
    for dtype in (torch.float32, torch.float64):
        logits = decoded.classifier.logits(x, dtype)
        assert logits.dtype == dtype
        np.testing.assert_allclose(logits.numpy(), expected)
        found = run_network(NETWORK.architecture, decoded.classifier.weights, HELPER.preprocessing, x, dtype)
        assert torch.equal(found, logits)


def test_layouts_are_coded_where_there_are_rows_and_columns() -> None:
    names = Names((ParameterSpec("w", (4, 4), "weight"), ParameterSpec("b", (4,), "bias")))
    integers = {"w": np.zeros((4, 4), dtype=np.int64), "b": np.zeros(4, dtype=np.int64)}
    sections = dict(write(names, integers, {"w": -12, "b": -12})[1].sections)
    assert sections["b"] < sections["w"]
    pruned = np.zeros((40, 40), dtype=np.int64)
    pruned[3] = 7
    names = Names((ParameterSpec("w", (40, 40), "weight"), ParameterSpec("v", (40, 40), "weight")))
    integers = {"w": pruned, "v": pruned.T.copy()}
    message, ledger = write(names, integers, {"w": -12, "v": -12})
    found, _ = read_integers(MessageReader(message), names)
    assert all(np.array_equal(found[name], integers[name]) for name in ("w", "v"))
    sections = dict(ledger.sections)
    assert sections["v"] < sections["w"], "which unit is silent is known from the tensor before"


def test_masks_may_ask_three_questions_an_entry_beyond_those_of_the_integers(monkeypatch) -> None:
    asked, decoder = [], network.ArithmeticDecoder
    monkeypatch.setattr(network, "ArithmeticDecoder", lambda bits, most: asked.append(most) or decoder(bits, most))
    decode_message(write(NETWORK.architecture, INTEGERS, EXPONENTS)[0], HELPER)
    assert asked == [max_flags(6) + 18, max_flags(2) + 6]


def test_every_entry_may_be_coded_and_no_more_questions_are_asked() -> None:
    """A tensor with masks of all kinds at the limit of what its size allows is read."""
    names = Names((ParameterSpec("w", (3, 2, 2), "weight"), ParameterSpec("one", (1, 1), "weight")))
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.integers(-(1 << 23), 1 << 23, (3, 2, 2)) * rng.integers(0, 2, (3, 2, 1))
        integers = {"w": values, "one": np.array([[(1 << 24) - 1]])}
        message, _ = write(names, integers, {"w": 0, "one": 0})
        found, _ = read_integers(MessageReader(message), names)
        assert all(np.array_equal(found[name], integers[name]) for name in integers)


def test_without_an_architecture_nothing_is_read() -> None:
    message, _ = write(NETWORK.architecture, INTEGERS, EXPONENTS)
    with pytest.raises(DecodeError, match="the architecture of the quantised network, got a helper without one"):
        read_integers(MessageReader(message), None)


def test_tokens_are_seen_as_they_are() -> None:
    class Asks:
        input_dtype = "int64"

    preprocessing = Preprocessing(2.0)
    tokens = np.array([[3, 5]], dtype=np.uint8)
    seen = network_inputs(Asks(), preprocessing, tokens)
    assert (seen.dtype, seen.tolist()) == (torch.int64, [[3, 5]])
    for predictor in (NETWORK.architecture, object()):
        seen = network_inputs(predictor, preprocessing, tokens)
        assert (seen.dtype, seen.tolist()) == (torch.float32, [[1.5, 2.5]])
    assert network_inputs(object(), preprocessing, tokens, torch.float64).dtype == torch.float64
