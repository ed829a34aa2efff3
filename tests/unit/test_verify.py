"""Verification: what it needs, what it says, and that it does not depend on the process that made the files."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from bitcert import Compressed, DecisionRule, Helper, Role, Run, Sample, Status, capture, certify, compress, verify
from bitcert.codecs.tuned import compress_values
from bitcert.decoder import head as bank_head
from bitcert.errors import InputError
from bitcert.network import capture_opaque

CLI = [sys.executable, "-c", "from bitcert.cli import main; main()"]


def run_cli(*arguments, threads="1"):
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    return subprocess.run([*CLI, *map(str, arguments)], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_fresh_process_finds_the_files_valid_with_any_number_of_threads(digits_certificate, threads):
    done = run_cli("verify", digits_certificate, threads=threads)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "VALID. With 95 % confidence" in done.stdout
    assert done.stderr == ""


def test_every_line_is_checked_and_told(digits_certificate, digits):
    outcome = verify(digits_certificate, digits)
    assert outcome.status is Status.VALID
    names = [line.name for line in outcome.lines]
    assert all(line.holds and line.detail for line in outcome.lines)
    assert len(set(names)) == len(names)
    assert {"bound", "delta", "errors", "near-ties", "samples", "message bits", "message file", "helper"} <= set(names)
    assert outcome.certificate is not None
    assert outcome.certificate.to_json() == digits_certificate.read_text()


@pytest.mark.parametrize("data", [None, "digits", "Digits"])
def test_data_are_found_by_name(digits_certificate, data):
    assert verify(digits_certificate, data)


def test_data_that_are_not_there_cannot_be_checked(digits_certificate, tmp_path):
    outcome = verify(digits_certificate, tmp_path / "gone.npz")
    assert outcome.status is Status.CANNOT_CHECK
    assert "gone.npz" in outcome.reason


def test_built_in_data_missing_on_this_machine_cannot_be_checked(digits_certificate, forge, monkeypatch, tmp_path):
    monkeypatch.setattr("bitcert.data.names.search_roots", lambda: [tmp_path])
    forge(digits_certificate, lambda content: content["data"].update(name="mnist"))
    outcome = verify(digits_certificate)
    assert outcome.status is Status.CANNOT_CHECK
    assert "mnist" in outcome.reason


@pytest.mark.parametrize("change", ["pixel", "label", "order", "fewer"])
def test_other_data_cannot_be_checked(digits_certificate, digits, change):
    inputs, labels = digits.inputs.copy(), digits.labels.copy()
    if change == "pixel":
        inputs[5, 0, 3, 3] ^= 1
    elif change == "label":
        labels[5] = (labels[5] + 1) % 10
    elif change == "order":
        inputs, labels = inputs[::-1], labels[::-1]
    else:
        inputs, labels = inputs[1:], labels[1:]
    outcome = verify(digits_certificate, Sample(inputs, labels, 10, Role.TRAIN, "other"))
    assert outcome.status is Status.CANNOT_CHECK
    assert "content hashes differ" in outcome.reason
    assert "--data" in outcome.reason


def test_data_of_a_user_are_verified_by_path(toy, toy_compressed, tmp_path):
    path = tmp_path / "toy.npz"
    np.savez(path, x=toy.inputs, y=toy.labels)
    (tmp_path / "message.bin").write_bytes(toy_compressed.message)
    certificate = tmp_path / "certificate.json"
    certificate.write_text(certify(toy_compressed, toy).to_json())
    assert verify(certificate, path)
    assert verify(certificate, str(path))
    assert verify(certificate).status is Status.CANNOT_CHECK


def test_counts_may_differ_by_what_rounding_can_do_and_no_more(toy, tmp_path, forge):
    """One near-tie at exactly the tolerance: counted with half of it no error, with twice of it one."""
    tolerance = DecisionRule().tolerance
    inputs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0 - tolerance]], np.float32)
    sample = Sample(inputs, np.array([0, 1, 0]), 2, Role.TRAIN, "tied")
    helper = Helper.for_sample(sample)
    message, ledger = bank_head.write(None, np.array([[1, 0], [0, 1], [0, 0]]), helper)
    (tmp_path / "message.bin").write_bytes(message)
    path = tmp_path / "certificate.json"
    path.write_text(certify(Compressed(message, ledger, helper), sample).to_json())
    for errors, status in ((0, Status.VALID), (1, Status.VALID), (2, Status.INVALID)):
        forge(path, lambda content, errors=errors: content.update(errors=errors, near_ties=1), restate=True)
        assert verify(path, sample).status is status


def test_progress_is_reported(digits_certificate, digits):
    fractions = []
    verify(digits_certificate, digits, progress=lambda task, fraction: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.fixture
def network_files(digits, tmp_path):
    """Certificate, message and architecture of a captured network."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    network = capture(module, torch.zeros(2, 1, 8, 8))
    compressed = compress(digits, network, fine_tune=False, run=Run(budget_seconds=0.01))
    (tmp_path / "message.bin").write_bytes(compressed.message)
    (tmp_path / "architecture.json").write_text(network.architecture.to_json())
    path = tmp_path / "certificate.json"
    path.write_text(certify(compressed, digits).to_json())
    return path


def test_a_captured_network_is_verified_from_its_architecture_file(network_files, digits):
    assert verify(network_files, digits)
    architecture = network_files.parent / "architecture.json"
    text = architecture.read_text()
    architecture.unlink()
    missing = verify(network_files, digits)
    assert missing.status is Status.CANNOT_CHECK
    assert "architecture.json" in missing.reason
    for content in (
        b"",
        b"{}",
        text.encode()[:-5],
        b"\xff\xfe",
        b"[" * 10**6,
        text.replace("flatten", "relu").encode(),
    ):
        architecture.write_bytes(content)
        broken = verify(network_files, digits)
        assert broken.status is Status.INVALID
        assert "architecture" in broken.reason


def test_another_architecture_is_invalid(network_files, digits):
    other = capture(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False)), torch.ones(2, 1, 8, 8)
    )
    (network_files.parent / "architecture.json").write_text(other.architecture.to_json())
    outcome = verify(network_files, digits)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith("architecture:")


class Opaque(torch.nn.Module):
    """Cannot be exported: Python looks at the numbers."""

    def __init__(self, broken=False):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.broken = broken
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
            self.linear.bias.zero_()

    def forward(self, x):
        if self.broken and len(x) > 50:
            raise KeyError("no such luck")
        return self.linear(x) * (1 if float(x.abs().max()) < 1e30 else 2)


@pytest.fixture
def opaque_files(toy, tmp_path):
    opaque, values = capture_opaque(Opaque(), "mine:net", torch.from_numpy(toy.inputs[:4].copy()))
    helper = Helper.for_sample(toy, opaque)
    compressed = compress_values(values, toy, helper, Run(budget_seconds=0.01), fine_tune=False)
    (tmp_path / "message.bin").write_bytes(compressed.message)
    path = tmp_path / "certificate.json"
    path.write_text(certify(compressed, toy).to_json())
    return path, opaque


def test_an_opaque_network_needs_its_code(opaque_files, toy):
    path, opaque = opaque_files
    missing = verify(path, toy)
    assert missing.status is Status.CANNOT_CHECK
    assert "--model" in missing.reason
    assert "'mine:net'" in missing.reason
    assert verify(path, toy, model=opaque)
    assert verify(path, toy, model=lambda sample: opaque)


def test_code_that_fails_cannot_be_checked(opaque_files, toy):
    path, _ = opaque_files
    broken, _ = capture_opaque(Opaque(broken=True), "mine:net", torch.from_numpy(toy.inputs[:4].copy()))
    outcome = verify(path, toy, model=broken)
    assert outcome.status is Status.CANNOT_CHECK
    assert "KeyError" in outcome.reason

    def no_model(sample):
        raise InputError("a module", "none", "write one")

    outcome = verify(path, toy, model=no_model)
    assert outcome.status is Status.CANNOT_CHECK
    assert "expected a module" in outcome.reason


def test_code_of_another_name_is_invalid(opaque_files, toy):
    path, _ = opaque_files
    other, _ = capture_opaque(Opaque(), "other:net", torch.from_numpy(toy.inputs[:4].copy()))
    outcome = verify(path, toy, model=other)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith("architecture:")


def test_a_strangers_names_are_quoted(opaque_files, toy, forge):
    """Escape codes of a terminal in a hostile file are not passed on."""
    path, _ = opaque_files
    forge(path, lambda content: content["helper"].update(factory="\x1b[2Jgone"))
    assert "\x1b" not in verify(path, toy).reason
    forge(path, lambda content: content["data"].update(name="\x1b[2Jgone", hash="0"))
    assert "\x1b" not in verify(path, toy).reason


def test_hold_out_line_is_compared_with_its_own_counts(toy, toy_compressed, tmp_path, forge):
    held = Sample(
        np.random.default_rng(5).normal(size=(90, 2)).astype(np.float32), np.arange(90) % 2, 2, Role.HOLDOUT, "h"
    )
    (tmp_path / "message.bin").write_bytes(toy_compressed.message)
    path = tmp_path / "certificate.json"
    path.write_text(certify(toy_compressed, toy, holdout=held).to_json())
    assert verify(path, toy)
    said = json.loads(path.read_text())["holdout"]
    forge(path, lambda content: content["holdout"].update(errors=said["errors"] - 1))
    outcome = verify(path, toy)
    assert outcome.status is Status.INVALID
    assert outcome.reason.startswith("hold-out line:")
