"""Certificates of family 5 verified from their files, and refused with another helper network beside them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bitcert.certificates.certification import certify
from bitcert.certificates.verification import Status, verify
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, HelperWeights, Preprocessing
from bitcert.decoder.network_head import Form, NetworkHeadCode, num_features, write
from bitcert.network import capture
from bitcert.run import Compressed


def sample() -> Sample:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(300, 4)).astype(np.float32)
    return Sample.from_arrays(x, (x[:, 0] > 0) + (x[:, 1] > 0).astype(np.int64), Role.TRAIN, "corners")


def helper(outputs: int, seed: int = 0) -> Helper:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, outputs))
    network = capture(module, torch.ones(2, 4))
    weights = HelperWeights.of(network.architecture, network.parameters)
    return Helper.for_sample(sample(), network.architecture, Preprocessing(), weights)


def files(folder: Path, outputs: int, form: Form) -> Path:
    known = helper(outputs)
    code = NetworkHeadCode(form)
    if form is not Form.NETWORK:
        shape = (num_features(known, code), 3)
        code = NetworkHeadCode(form, weights=np.random.default_rng(1).integers(-2, 3, shape))
    message, ledger = write(known, code)
    certificate = certify(Compressed(message, ledger, known), sample())
    (folder / "message.bin").write_bytes(message)
    (folder / "architecture.json").write_text(known.predictor.to_json())
    (folder / "helper.safetensors").write_bytes(known.weights.to_bytes())
    (folder / "certificate.json").write_text(certificate.to_json())
    return folder / "certificate.json"


@pytest.mark.parametrize(
    ("outputs", "form"), [(3, Form.NETWORK), (3, Form.HEAD), (3, Form.CORRECTION), (7, Form.HEAD), (2, Form.HEAD)]
)
def test_valid_from_the_files(tmp_path: Path, outputs: int, form: Form) -> None:
    found = verify(files(tmp_path, outputs, form), sample())
    assert found.status is Status.VALID, found.reason
    assert any("not checked" in line.detail and "helper weights" in line.detail for line in found.lines)


def test_another_helper_network_is_noticed(tmp_path: Path) -> None:
    path = files(tmp_path, 3, Form.NETWORK)
    (tmp_path / "helper.safetensors").write_bytes(helper(3, seed=5).weights.to_bytes())
    found = verify(path, sample())
    assert found.status is Status.INVALID
    assert "helper weights" in found.reason
    (tmp_path / "helper.safetensors").unlink()
    assert verify(path, sample()).status is Status.CANNOT_CHECK


def test_classes_left_out_of_a_message_are_noticed(tmp_path: Path) -> None:
    """A network of seven outputs says nothing of three classes: the message must."""
    path = files(tmp_path, 7, Form.HEAD)
    text = path.read_text()
    assert '"classes_inferred": true' in text
    path.write_text(text.replace('"classes_inferred": true', '"classes_inferred": false'))
    assert verify(path, sample()).status is Status.INVALID


def test_valid_in_a_fresh_process_on_another_thread_count(tmp_path: Path) -> None:
    path = files(tmp_path, 7, Form.HEAD)
    np.savez(tmp_path / "data.npz", x=sample().inputs, y=sample().labels)
    code = (
        "import sys, torch; torch.set_num_threads(2)\n"
        "from bitcert.certificates.verification import verify\n"
        "sys.exit(int(verify(sys.argv[1], sys.argv[2]).status))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), str(tmp_path / "data.npz")])
    assert done.returncode == 0
