"""Certificates whose message refers to public weights: the file beside it is read, hashed, and believed in nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bitcert import Helper, Sample, Status, capture, certify, verify
from bitcert.codecs.base import Rest, Selection
from bitcert.codecs.quantise import Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.decoder import HelperWeights
from bitcert.decoder.tensors import Base


@pytest.fixture
def certified(digits: Sample, tmp_path: Path) -> Path:
    """A digits network coded as a coarse difference from public weights; the certificate's path."""
    torch.manual_seed(0)
    network = capture(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8))
    architecture = network.architecture
    public = HelperWeights.of(architecture, {n: v + 0.1 * torch.randn_like(v) for n, v in network.parameters.items()})
    helper = replace(Helper.for_sample(digits, architecture), weights=public)
    codec = Quantise(selection=Selection(base=Base.FILE, rest=Rest.HELPER), quantiser=Uniform(2.0))
    compressed = codec.encode(network, helper=helper)
    (tmp_path / "message.bin").write_bytes(compressed.message)
    (tmp_path / "architecture.json").write_text(architecture.to_json())
    (tmp_path / "helper.safetensors").write_bytes(public.to_bytes())
    (tmp_path / "certificate.json").write_text(certify(compressed, digits).to_json())
    return tmp_path / "certificate.json"


def test_it_is_valid_and_says_that_the_origin_of_the_weights_is_assumed(certified, digits):
    outcome = verify(certified, digits)
    assert outcome.status is Status.VALID, outcome.reason
    lines = {line.name: line for line in outcome.lines}
    assert lines["helper weights"].checked
    assert "650 helper weights" in lines["helper's origin"].detail
    assert not lines["helper's origin"].checked


def test_without_the_file_it_cannot_be_checked(certified, digits):
    (certified.parent / "helper.safetensors").unlink()
    outcome = verify(certified, digits)
    assert outcome.status is Status.CANNOT_CHECK
    assert "helper.safetensors" in outcome.reason


def test_other_weights_are_refused(certified, digits):
    path = certified.parent / "helper.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    outcome = verify(certified, digits)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith("helper weights: ")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", bytes(100), b"\xff" * 64])
def test_what_is_no_safetensors_file_is_refused(certified, digits, content):
    (certified.parent / "helper.safetensors").write_bytes(content)
    outcome = verify(certified, digits)
    assert outcome.status is Status.INVALID
    assert "helper.safetensors" in outcome.reason


@pytest.mark.parametrize("claim", [None, 7, "0" * 64, ["a"]])
def test_a_forged_hash_is_refused(certified, digits, forge, claim):
    forge(certified, lambda content: content["helper"].update(weights=claim))
    assert verify(certified, digits).status is Status.INVALID


def test_hiding_the_weights_is_refused(certified, digits, forge):
    forge(certified, lambda content: content["helper"].pop("weights"))
    outcome = verify(certified, digits)
    assert outcome.status is Status.INVALID
