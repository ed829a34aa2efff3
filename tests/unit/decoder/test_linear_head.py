"""Codec family 1: messages of heads, what they compute, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.coding import MAX_MAGNITUDE, MessageWriter
from bitcert.decoder import Helper, Preprocessing, decode_message, linear_head
from bitcert.decoder.features.edges import FEATURE_GRID, features, num_features
from bitcert.decoder.linear_head import LinearHead, available_settings
from bitcert.errors import DecodeError

IMAGES = Helper((1, 8, 8), 3, Preprocessing(scale=16.0))
VECTORS = Helper((5,), 3)


def weights_of(rows: int, classes: int, seed: int, scale: float = 0.7) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_cauchy((rows, classes)) * scale
    return np.clip(np.round(draws), -MAX_MAGNITUDE, MAX_MAGNITUDE).astype(np.int64)


def decoded(message: bytes, helper: Helper) -> LinearHead:
    head = decode_message(message, helper).classifier
    assert isinstance(head, LinearHead)
    return head


@settings(max_examples=12, deadline=None)
@given(
    index=st.integers(0, 23), seed=st.integers(0, 99), inferred=st.booleans(), scale=st.sampled_from([0.01, 0.7, 50])
)
def test_round_trip_of_image_heads(index: int, seed: int, inferred: bool, scale: float) -> None:
    helper = Helper((1, 8, 8), 3, IMAGES.preprocessing, classes_inferred=inferred)
    weights = weights_of(num_features(FEATURE_GRID[index], (1, 8, 8)), 3, seed, scale)
    message, ledger = linear_head.write(FEATURE_GRID[index], weights, helper)
    assert ledger.total_bits == 8 * len(message)
    found = decode_message(message, helper)
    assert found.ledger == ledger
    assert isinstance(found.classifier, LinearHead)
    assert found.classifier.settings == FEATURE_GRID[index]
    np.testing.assert_array_equal(found.classifier.weights, weights)
    assert str(np.count_nonzero(weights)) in found.description


@pytest.mark.parametrize("weights", [np.zeros((6, 3)), np.eye(6, 3), np.full((6, 3), -MAX_MAGNITUDE)])
def test_round_trip_of_vector_heads(weights: np.ndarray) -> None:
    message, ledger = linear_head.write(None, weights.astype(np.int64), VECTORS)
    assert [name for name, _ in ledger.sections] == ["header", "head weights", "padding"]
    np.testing.assert_array_equal(decoded(message, VECTORS).weights, weights)


def test_logits_are_features_times_integers() -> None:
    chosen = FEATURE_GRID[9]
    weights = weights_of(num_features(chosen, (1, 8, 8)), 3, 5, 3.0)
    head = decoded(linear_head.write(chosen, weights, IMAGES)[0], IMAGES)
    pixels = np.random.default_rng(0).integers(0, 17, (4, 1, 8, 8), dtype=np.uint8)
    x = features(chosen, torch.tensor(pixels).float() / 16).double().numpy()
    logits = head(pixels)
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits, x @ weights, rtol=1e-4, atol=1e-4 * np.abs(weights).max())


def test_weights_up_to_the_largest_magnitude_are_exact_in_float32() -> None:
    weights = np.zeros((6, 3), dtype=np.int64)
    weights[-1] = [MAX_MAGNITUDE, MAX_MAGNITUDE - 1, -MAX_MAGNITUDE]
    head = decoded(linear_head.write(None, weights, VECTORS)[0], VECTORS)
    assert head(np.zeros((1, 5), dtype=np.float32)).tolist() == [weights[-1].tolist()]


def test_available_settings() -> None:
    assert available_settings(VECTORS) == (None,)
    assert {s.grid for s in available_settings(IMAGES) if s} == {3, 4, 5, 6, 7, 8}
    assert available_settings(Helper((1, 28, 28), 10)) == FEATURE_GRID
    assert {s.grid for s in available_settings(Helper((1, 50, 4), 10)) if s} == {3, 4}


def test_settings_that_do_not_fit_the_images_are_refused() -> None:
    writer = MessageWriter(linear_head.FAMILY)
    with writer.section("feature settings") as bits:
        bits.binary(len(FEATURE_GRID) - 1, 5)
    writer.integers("head weights", np.zeros(num_features(FEATURE_GRID[-1], (1, 8, 8)) * 3, dtype=np.int64))
    with pytest.raises(DecodeError, match="setting 31"):
        decode_message(writer.finish()[0], IMAGES)


def test_the_constant_row_is_counted_apart() -> None:
    weights = np.zeros((1001, 20), dtype=np.int64)
    weights[-1] = 1
    helper = Helper((1000,), 20)
    message, _ = linear_head.write(None, weights, helper)
    weights[-1], weights[500] = 0, 1
    assert len(message) + 10 < len(linear_head.write(None, weights, helper)[0])


@pytest.mark.parametrize(("helper", "num_classes"), [(IMAGES, 4), (IMAGES, 2), (VECTORS, 4)])
def test_a_message_for_another_number_of_classes_is_refused(helper: Helper, num_classes: int) -> None:
    chosen = available_settings(helper)[0]
    weights = weights_of(num_features(chosen, helper.input_shape), helper.num_classes, 1)
    inferred = Helper(helper.input_shape, helper.num_classes, classes_inferred=True)
    message, ledger = linear_head.write(chosen, weights, inferred)
    assert dict(ledger.sections)["number of classes"] > 0
    other = Helper(helper.input_shape, num_classes, classes_inferred=True)
    with pytest.raises(DecodeError, match="classes"):
        decode_message(message, other)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match="family 77"):
        decode_message(MessageWriter(77).finish()[0], IMAGES)
