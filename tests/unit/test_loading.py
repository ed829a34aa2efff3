"""A certified classifier from its files alone: the same answers as the one that was certified."""

import shutil

import numpy as np
import pytest
import torch

import bitcert
from bitcert import Role, decode_message, load, load_sample
from bitcert.certificates import loading
from bitcert.errors import DecodeError, InputError


@pytest.fixture
def toy_folder(toy_certificate):
    return toy_certificate.parent


def test_it_answers_as_the_classifier_that_was_certified(digits, digits_compressed, digits_folder, monkeypatch):
    monkeypatch.delenv("BITCERT_DATA", raising=False)
    classifier = decode_message(digits_compressed.message, digits_compressed.helper).classifier
    expected = classifier(digits.inputs)
    certified = load(digits_folder)
    assert certified.certificate.errors == int((expected.argmax(1).numpy() != digits.labels).sum())
    assert torch.equal(torch.cat(list(certified.logits(digits.inputs))), expected)
    np.testing.assert_array_equal(certified.predict(digits), expected.argmax(1))
    np.testing.assert_array_equal(certified.predict(torch.from_numpy(digits.inputs[:7])), expected[:7].argmax(1))
    assert certified.class_names == ()
    assert certified.like.input_shape == (1, 8, 8)


def test_the_file_is_as_good_as_its_folder(toy, toy_folder):
    one, other = load(toy_folder), bitcert.load(str(toy_folder / "certificate.json"))
    np.testing.assert_array_equal(one.predict(toy), other.predict(toy.inputs))
    assert one.helper.content_hash == other.helper.content_hash == one.certificate.helper["hash"]


def test_batches_are_those_of_the_helper(toy_folder, monkeypatch):
    many = np.zeros((2_500, 2), np.float32)
    sizes = [len(logits) for logits in load(toy_folder).logits(many)]
    assert sizes == [1_000, 1_000, 500]


def test_inputs_may_be_stored_in_another_shape(toy_folder):
    values = np.random.default_rng(0).normal(size=(30, 1, 2)).astype(np.float32)
    certified = load(toy_folder)
    np.testing.assert_array_equal(certified.predict(values), certified.predict(values[:, 0]))
    with pytest.raises(InputError, match=r"^expected inputs of shape \[2\], got shape \[3\]; give data like those"):
        certified.predict(np.zeros((4, 3), np.float32))


def test_labels_of_new_data_are_not_looked_at(toy, toy_folder, tmp_path):
    np.savez(tmp_path / "new.npz", x=toy.inputs)
    found = load(toy_folder).read(tmp_path / "new.npz")
    assert found.role is Role.UNLABELLED
    np.testing.assert_array_equal(found.inputs, toy.inputs)


def test_every_changed_byte_of_the_message_is_noticed(toy_folder):
    file = toy_folder / "message.bin"
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DecodeError, match=r"^expected files of a certificate that fit each other, got message"):
            load(toy_folder)


def test_what_is_missing_is_named(toy_folder, tmp_path):
    (toy_folder / "message.bin").unlink()
    with pytest.raises(InputError, match=r"message.bin cannot be read \(No such file"):
        load(toy_folder)
    with pytest.raises(InputError, match=r"certificate.json cannot be read"):
        load(tmp_path / "nowhere" / "certificate.json")
    with pytest.raises(InputError, match=r"certificate.json cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("shape", [[], [0], [-2], [1.5], [True], "2", None, [1 << 13, 1 << 14]])
def test_a_stranger_cannot_ask_for_much_memory(toy_certificate, forge, shape):
    forge(toy_certificate, lambda content: content["data"].update(input_shape=shape))
    with pytest.raises(DecodeError, match="no shape and number of classes of a problem"):
        load(toy_certificate)
    assert loading.MAX_INPUT_SIZE == 1 << 26


@pytest.mark.parametrize("classes", [1, 0, -3, 2.0, True, None, 1 << 40])
def test_a_number_of_classes_is_a_number(toy_certificate, forge, classes):
    forge(toy_certificate, lambda content: content["data"].update(num_classes=classes))
    with pytest.raises(DecodeError, match="no shape and number of classes of a problem"):
        load(toy_certificate)


def test_another_problem_is_not_the_helpers(toy_certificate, forge):
    forge(toy_certificate, lambda content: content["data"].update(input_shape=[3]))
    with pytest.raises(DecodeError, match="got helper: shape, preprocessing and hash"):
        load(toy_certificate)


def test_a_certificate_of_an_original_network_is_not_of_what_is_decoded(toy_certificate, forge):
    forge(toy_certificate, lambda content: content.update(original={"name": "theirs"}))
    with pytest.raises(InputError, match="got one of the original network 'theirs'; use that network"):
        load(toy_certificate)


def test_a_model_is_refused_where_the_files_describe_the_network(toy_folder):
    with pytest.raises(InputError, match="expected no --model, as the files describe the network, got one"):
        load(toy_folder, model=lambda name, sample: None)


def test_a_network_needs_its_architecture_beside_it(tmp_path, digits):
    network = bitcert.capture(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), torch.ones(2, 1, 8, 8))
    compressed = bitcert.codecs.Quantise().encode(network, digits)
    certificate = bitcert.certify(compressed, digits)
    (tmp_path / "message.bin").write_bytes(compressed.message)
    (tmp_path / "certificate.json").write_text(certificate.to_json())
    with pytest.raises(InputError, match=r"architecture.json cannot be read"):
        load(tmp_path)
    (tmp_path / "architecture.json").write_text(network.architecture.to_json())
    expected = decode_message(compressed.message, compressed.helper).classifier(digits.inputs[:50])
    assert torch.equal(next(load(tmp_path).logits(digits.inputs[:50])), expected)
    shutil.rmtree(tmp_path)


def test_by_name_it_reads_the_test_part(toy_folder):
    with pytest.raises(InputError, match="a split that digits has"):
        load(toy_folder).read("digits")
    assert load_sample("digits", Role.TRAIN).input_shape == (1, 8, 8)
