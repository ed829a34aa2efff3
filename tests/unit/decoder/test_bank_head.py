"""Codec family 5: messages of heads on banks, what they compute, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.coding import MessageWriter
from bitcert.decoder import Helper, Preprocessing, decode_message
from bitcert.decoder import head as bank_head
from bitcert.decoder.features.banks import BANKS, bank_features, bank_groups
from bitcert.errors import DecodeError

IMAGES = Helper((1, 8, 8), 3, Preprocessing(scale=16.0))
VECTORS = Helper((5,), 3)


def weights_of(bank, helper, seed, share=0.1):
    rows = len(bank_groups(bank, helper.input_shape))
    rng = np.random.default_rng(seed)
    return rng.integers(-3, 4, (rows, helper.num_classes)) * (rng.random(rows) < share)[:, None]


@pytest.mark.parametrize("index", range(len(BANKS)))
@pytest.mark.parametrize("inferred", [False, True])
def test_round_trip_of_image_heads(index, inferred):
    helper = Helper((1, 8, 8), 3, IMAGES.preprocessing, classes_inferred=inferred)
    weights = weights_of(BANKS[index], helper, index)
    message, ledger = bank_head.write(BANKS[index], weights, helper)
    assert ledger.total_bits == 8 * len(message)
    found = decode_message(message, helper)
    assert found.ledger == ledger
    assert isinstance(found.classifier, bank_head.BankHead)
    assert found.classifier.bank == BANKS[index]
    np.testing.assert_array_equal(found.classifier.weights, weights)
    assert f"{np.count_nonzero(weights)} non-zero weights" in found.description


def test_round_trip_of_vector_heads():
    for weights in (np.zeros((6, 3)), np.eye(6, 3), np.full((6, 3), -40)):
        message, ledger = bank_head.write(None, weights.astype(np.int64), VECTORS)
        assert [name for name, _ in ledger.sections] == ["header", "head weights", "padding"]
        np.testing.assert_array_equal(decode_message(message, VECTORS).classifier.weights, weights)


def test_logits_are_features_times_integers():
    bank = BANKS[3]
    weights = weights_of(bank, IMAGES, 5, 0.3)
    head = decode_message(bank_head.write(bank, weights, IMAGES)[0], IMAGES).classifier
    pixels = np.random.default_rng(0).integers(0, 17, (4, 1, 8, 8), dtype=np.uint8)
    x = bank_features(bank, torch.tensor(pixels).float() / 16).double().numpy()
    logits = head(pixels)
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits, x @ weights, rtol=1e-4, atol=1e-3)


def test_a_head_without_a_weight_has_zero_logits():
    weights = weights_of(BANKS[0], IMAGES, 0, 0.0)
    head = decode_message(bank_head.write(BANKS[0], weights, IMAGES)[0], IMAGES).classifier
    assert not head(np.zeros((2, 1, 8, 8), dtype=np.uint8)).any()


def test_an_unknown_bank_is_refused():
    writer = MessageWriter(bank_head.FAMILY)
    with writer.section("feature bank") as bits:
        bits.elias_gamma(len(BANKS) + 1)
    with pytest.raises(DecodeError, match=f"bank {len(BANKS)}"):
        decode_message(writer.finish()[0], IMAGES)


def test_too_large_a_head_is_refused():
    helper = Helper((1 << 16,), 1000)
    with pytest.raises(DecodeError, match="at most"):
        decode_message(MessageWriter(bank_head.FAMILY).finish()[0], helper)


def test_a_message_for_another_number_of_classes_is_refused():
    bank = BANKS[0]
    helper = Helper((1, 8, 8), 3, IMAGES.preprocessing, classes_inferred=True)
    message, _ = bank_head.write(bank, weights_of(bank, helper, 1), helper)
    with pytest.raises(DecodeError, match="classes"):
        decode_message(message, Helper((1, 8, 8), 4, IMAGES.preprocessing, classes_inferred=True))
