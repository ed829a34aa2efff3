"""Messages beside a network: what is read, counted again, left out with a sentence, or refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Helper, Network, Role, Sample, capture, certify
from bitcert.codecs.base import Rest, Selection
from bitcert.codecs.quantise import Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.decoder import HelperWeights
from bitcert.decoder.tensors import Base
from bitcert.errors import DecodeError, InputError
from bitcert.report.bounds.words import best_guarantee, verdict
from bitcert.theory.ingredients.messages import open_messages
from bitcert.theory.inputs import MessageFacts
from bitcert.theory.papers import arora2018, guarantees
from bitcert.theory.papers.zhang2020 import theorem_2_4_message
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import Kind, Status
from tests.unit.theory import hand


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


def test_public_weights_are_named_and_those_of_this_network_left_out(digits, tmp_path):
    torch.manual_seed(0)
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8))
    public = HelperWeights.of(network.architecture, {n: v + 0.1 for n, v in network.parameters.items()})
    helper = replace(Helper.for_sample(digits, network.architecture), weights=public)
    codec = Quantise(selection=Selection(base=Base.FILE, rest=Rest.HELPER), quantiser=Uniform(2.0))
    compressed = codec.encode(network, helper=helper)
    (tmp_path / "message.bin").write_bytes(compressed.message)
    (tmp_path / "architecture.json").write_text(network.architecture.to_json())
    (tmp_path / "helper.safetensors").write_bytes(public.to_bytes())
    (tmp_path / "certificate.json").write_text(certify(compressed, digits).to_json())

    (found,), _ = open_messages([tmp_path], digits, network)
    assert public.content_hash[:16] in found.basis
    trained = Network(
        network.architecture, {n: torch.from_numpy(v.copy()) for n, v in public.values.items()}, network.report
    )
    left, note = open_messages([tmp_path], digits, trained)
    assert left == ()
    assert "its public weights are those of this network" in note


ROWS = (
    guarantees.occam_binomial,
    guarantees.occam_kl,
    guarantees.occam_hoeffding,
    arora2018.thm21_message,
    theorem_2_4_message,
)
RESTING = MessageFacts("a", 100, 2, 0.01, 0.01, 3, "a refers to public weights 0123")
BARE = MessageFacts("b", 300, 9, 0.01, 0.01, 4)


def given(*messages):
    return hand.inputs([np.eye(2)], sample=hand.sample([0.5] * 1000), messages=messages, gamma=0.1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_message_that_refers_to_public_weights_proves_nothing(row):
    found = row(given(RESTING))
    assert found.status is Status.UNKNOWN
    assert found.why.startswith("unknown: architecture and helper fixed before the sample was seen")
    assert "public weights 0123" in found.why
    assert any("decoded from a, which gives another label than this one on 3 of 1,000" in n for n in found.notes)
    line = BoundRow.of(row, found, 1000)
    assert (line.kind, line.applies) == (Kind.MEASURE, None)
    assert not line.vacuous
    assert "proved" not in verdict(line).lower()
    table = BoundTable({}, {}, None, 1.0, "by hand", 0.0, 0.05, (line,), (), {}, {}, {})
    assert best_guarantee(table) is None, "the headline must not quote it"
    free = BoundRow.of(row, row(given(BARE)), 1000)
    assert best_guarantee(replace(table, rows=(line, free))) is free


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_messages_without_public_weights_still_prove_something_beside_those_with(row):
    """The one with weights would be the smaller bound; delta is shared by both all the same."""
    alone, found = row(given(BARE)), row(given(RESTING, BARE))
    assert row(given(RESTING)).log < alone.log
    assert found.status is Status.HOLDS
    assert found.ingredients["message"] == "b"
    assert found.ingredients["delta_of_each"] == pytest.approx(0.05 / 2)
    assert found.ingredients["all_bits"] == (300.0,)
    assert found.log > alone.log, "sharing delta is not free"
    assert any(note.startswith("1 of 2 messages refers to public weights") for note in found.notes)
    both = row(given(RESTING, replace(RESTING, name="c", basis="c refers to public weights 4567")))
    assert both.status is Status.UNKNOWN
    assert "0123" in both.why
    assert "4567" in both.why


def test_many_public_weights_are_one_short_sentence():
    many = [replace(RESTING, name="x" * 150, basis=f"{'x' * 150} refers to public weights {k}") for k in range(9)]
    assert len(guarantees.occam_binomial(given(*many)).why) < 400
