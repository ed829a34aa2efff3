"""Codec family 2: messages of heads on banks, what they compute, what is refused."""

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


@pytest.mark.parametrize(
    ("bank", "helper", "name"),
    [
        (None, VECTORS, "inputs"),
        (BANKS[0], IMAGES, "helper features"),
        (BANKS[1], IMAGES, "helper features of the upright image"),
    ],
)
def test_what_a_decoded_head_says_of_itself(bank, helper, name):
    weights = weights_of(bank, helper, 0, 0.0)
    weights[[0, 2, -2], 1], weights[2, 0], weights[-1] = 4, -1, 7
    message, ledger = bank_head.write(bank, weights, helper)
    total = len(weights) - 1
    expected = f"integer head on 3 of {total} {name}: 7 non-zero weights"
    assert decode_message(message, helper).description == expected
    names = [section for section, _ in ledger.sections]
    assert names == ["header", *([] if bank is None else ["feature bank"]), "head weights", "padding"]


def test_a_head_of_as_many_weights_as_allowed_is_read_and_a_larger_one_refused(monkeypatch):
    weights = np.eye(6, 3).astype(np.int64)
    message, _ = bank_head.write(None, weights, VECTORS)
    assert bank_head.MAX_WEIGHTS == 1 << 22
    monkeypatch.setattr(bank_head, "MAX_WEIGHTS", 18)
    np.testing.assert_array_equal(decode_message(message, VECTORS).classifier.weights, weights)
    monkeypatch.setattr(bank_head, "MAX_WEIGHTS", 17)
    with pytest.raises(DecodeError, match="at most 17 weights"):
        decode_message(message, VECTORS)


def test_a_bank_for_larger_images_is_refused():
    small = Helper((1, 7, 9), 3, IMAGES.preprocessing)
    writer = MessageWriter(bank_head.FAMILY)
    with writer.section("feature bank") as bits:
        bits.elias_gamma(9)
    with pytest.raises(DecodeError, match="bank 8"):
        decode_message(writer.finish()[0], small)


def test_images_are_taken_in_parts_and_only_rows_with_a_weight_are_computed(monkeypatch):
    bank, seen = BANKS[2], []
    weights = weights_of(bank, IMAGES, 5, 0.02)
    head = bank_head.BankHead(bank, weights, IMAGES)
    pixels = np.random.default_rng(0).integers(0, 17, (7, 1, 8, 8), dtype=np.uint8)
    whole = head.logits(pixels, torch.float64)

    def noted(bank, x, wanted):
        seen.append(len(x))
        assert wanted.tolist() == np.flatnonzero(weights.any(1)).tolist()
        return bank_features(bank, x, wanted)

    monkeypatch.setattr(bank_head, "bank_features", noted)
    monkeypatch.setattr(bank_head, "_IMAGES_AT_A_TIME", 3)
    torch.testing.assert_close(head.logits(pixels, torch.float64), whole, rtol=1e-9, atol=1e-9)
    assert seen == [3, 3, 1]
