"""Messages beside a network: what is read, counted again, left out with a sentence, or refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from bitcert import Role, Sample
from bitcert.bounds.ingredients.messages import open_messages
from bitcert.errors import DecodeError, InputError


def test_a_folder_or_a_file_is_read(toy, toy_certificate, toy_compressed):
    for path in (toy_certificate, toy_certificate.parent, str(toy_certificate)):
        (found,), note = open_messages([path], toy)
        assert found.bits == 8 * len(toy_compressed.message)
        assert found.name == str(path)
        assert note == "1 message read"
        x = np.array([[1.0, 2.0]], np.float32)
        assert found.classifier(x).shape == (1, 2)


def test_a_single_path_is_one_path(toy, toy_certificate):
    assert len(open_messages(str(toy_certificate), toy)[0]) == 1


def test_nothing_named_is_said():
    data = Sample(np.zeros((2, 1), np.float32), np.array([0, 1]), 2, Role.TRAIN, "two")
    assert open_messages((), data) == ((), "no certificate was named")


def test_a_certificate_of_other_data_is_left_out_with_a_sentence(toy, toy_certificate):
    labels = toy.labels.copy()
    labels[0] = 1 - labels[0]
    other = Sample(toy.inputs, labels, 2, Role.TRAIN, "other")
    found, note = open_messages([toy_certificate], other)
    assert found == ()
    assert "of other data" in note
    assert str(toy_certificate) in note


def test_a_certificate_named_twice_counts_once(toy, toy_certificate):
    found, note = open_messages([toy_certificate, toy_certificate.parent], toy)
    assert len(found) == 1
    assert "given twice" in note


def test_python_code_is_not_run(toy, toy_certificate, forge):
    forge(toy_certificate, lambda content: content["helper"].update(factory="os:system", architecture="0" * 64))
    found, note = open_messages([toy_certificate], toy)
    assert found == ()
    assert "is not run here" in note


@pytest.mark.parametrize("missing", ["certificate.json", "message.bin"])
def test_files_that_are_not_there_are_refused(toy, toy_certificate, missing):
    (toy_certificate.parent / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} cannot be read"):
        open_messages([toy_certificate.parent], toy)


def test_a_pipe_is_not_waited_for(toy, tmp_path):
    import os

    os.mkfifo(tmp_path / "certificate.json")
    with pytest.raises(InputError, match="is not a file"):
        open_messages([tmp_path], toy)


def claims(content):
    content.update(message_bits=content["message_bits"] - 8)


def kind(content):
    content["helper"].update(scale=[])


@pytest.mark.parametrize("change", [claims, kind])
def test_a_certificate_that_contradicts_its_message_is_refused(toy, toy_certificate, forge, change):
    forge(toy_certificate, change)
    with pytest.raises(DecodeError, match=r"^expected a certificate.json written by bitcert, got .*certified|toy"):
        open_messages([toy_certificate], toy)


def test_hostile_files_end_in_a_sentence(toy, toy_certificate):
    message = toy_certificate.parent / "message.bin"
    rng = np.random.default_rng(0)
    text, whole = toy_certificate.read_text(), message.read_bytes()
    for _ in range(40):
        message.write_bytes(rng.integers(0, 256, rng.integers(0, 64), dtype=np.uint8).tobytes())
        with pytest.raises(DecodeError):
            open_messages([toy_certificate], toy)
    message.write_bytes(whole)
    for cut in range(0, len(text) - 1, 97):
        toy_certificate.write_text(text[:cut])
        with pytest.raises(DecodeError):
            open_messages([toy_certificate], toy)


def test_a_claim_of_fewer_errors_changes_nothing(toy, toy_certificate, forge):
    """Errors are counted from the message; what the file claims is not looked at."""
    forge(toy_certificate, lambda content: content.update(errors=0, near_ties=0), restate=True)
    (found,), _ = open_messages([toy_certificate], toy)
    wrong = int((found.classifier(toy.inputs).argmax(1) != torch.from_numpy(toy.labels.copy())).sum())
    assert wrong > 0


def test_names_are_short(toy, toy_certificate, tmp_path):
    deep = tmp_path / ("x" * 120) / ("y" * 120)
    shutil.copytree(toy_certificate.parent, deep)
    (found,), note = open_messages([deep], toy)
    assert len(found.name) <= 200
    assert json.dumps(note)
