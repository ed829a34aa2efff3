"""Public weights of a helper: their hash, their file, and what is no file of this network's weights."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from bitcert.decoder.weights import HELPER_FILE, MAX_HELPER_BYTES, HelperWeights
from bitcert.errors import DecodeError, InputError
from bitcert.network import Architecture
from bitcert.network.nodes import Node, ParameterSpec

SPECS = (ParameterSpec("w", (2, 3), "weight"), ParameterSpec("b", (2,), "bias"))
NETWORK = Architecture((3,), 2, (Node("out", "linear", ("input", "w", "b")),), SPECS)
VALUES = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([0.5, -1.0], dtype=np.float32)}


def tensors(**changed: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.asarray(value)) for name, value in {**VALUES, **changed}.items()}


def test_the_hash_is_of_names_shapes_and_values_by_name() -> None:
    digest = hashlib.sha256()
    for name, shape in (("b", "[2]"), ("w", "[2, 3]")):
        digest.update(f"{name}{shape}".encode() + VALUES[name].astype("<f4").tobytes())
    assert HelperWeights(VALUES).content_hash == digest.hexdigest()
    assert HelperWeights(dict(reversed(VALUES.items()))).content_hash == digest.hexdigest()


def test_the_weights_of_a_network_are_its_tensors_in_float32() -> None:
    given = tensors(w=VALUES["w"].astype(np.float64), more=np.zeros(1))
    given["w"] = given["w"].t().contiguous().t().requires_grad_()
    found = HelperWeights.of(NETWORK, given)
    assert list(found.values) == ["w", "b"]
    for name, value in found.values.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, VALUES[name])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"b": np.zeros(3)}, r"helper weights with 'b' of shape \[2\], got shape \[3\]"),
        ({"w": np.zeros((3, 2))}, r"helper weights with 'w' of shape \[2, 3\], got shape \[3, 2\]"),
        ({"b": np.array([0.0, np.nan])}, "finite helper weights in 'b'"),
        ({"w": np.full((2, 3), -np.inf)}, "finite helper weights in 'w'"),
        ({"w": np.full((2, 3), 1e300)}, "finite helper weights in 'w'"),
    ],
)
def test_other_tensors_are_refused(changed, sentence) -> None:
    with pytest.raises(InputError, match=sentence):
        HelperWeights.of(NETWORK, tensors(**changed))


def test_a_missing_tensor_is_named() -> None:
    given = tensors()
    del given["w"]
    with pytest.raises(InputError, match=r"'w' of shape \[2, 3\], got none"):
        HelperWeights.of(NETWORK, given)


def test_a_file_comes_back() -> None:
    weights = HelperWeights({**VALUES, "w": np.asfortranarray(VALUES["w"])})
    content = weights.to_bytes()
    assert (
        content
        == HelperWeights(dict(reversed(weights.values.items()))).to_bytes()
        == save(dict(sorted(VALUES.items())))
    )
    found = HelperWeights.from_bytes(content, NETWORK)
    assert found.content_hash == weights.content_hash
    assert found.values.keys() == VALUES.keys()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "helper.safetensors with the network's tensors, got "),
        (b"no safetensors", "helper.safetensors with the network's tensors, got "),
        (
            save({"w": VALUES["w"]}),
            "helper.safetensors with the network's tensors, got expected helper weights with 'b'",
        ),
    ],
)
def test_what_is_no_file_of_this_network_is_refused_in_one_line(content, sentence) -> None:
    with pytest.raises(DecodeError) as caught:
        HelperWeights.from_bytes(content, NETWORK)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"), [("", "unreadable"), (" \n ", "unreadable"), ("first\nsecond", "first"), ("x" * 300, "x" * 200)]
)
def test_of_an_error_the_first_line_is_told_at_most_200_characters(text, line, monkeypatch) -> None:
    def broken(content: bytes) -> dict[str, np.ndarray]:
        raise ValueError(text)

    monkeypatch.setattr("bitcert.decoder.weights.load", broken)
    with pytest.raises(DecodeError) as caught:
        HelperWeights.from_bytes(b"", NETWORK)
    assert f"tensors, got {line};" in str(caught.value)


def test_the_name_and_the_size_of_the_file() -> None:
    assert HELPER_FILE == "helper.safetensors"
    assert MAX_HELPER_BYTES == 512 * 1024 * 1024
