"""``bitcert verify`` for certificates of an original network: what to pass, and what is said without it."""

import importlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitcert import Compressed, Helper, Role, certify, load_sample
from bitcert.certificates.original import unlabelled_sample
from bitcert.cli.common import load_original, load_unlabelled_for
from bitcert.decoder import Preprocessing
from bitcert.decoder import head as bank_head
from bitcert.errors import SampleReuseError

MODULE = """
from torch import nn

class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
"""

STATE = {
    "0.weight": torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    "0.bias": torch.zeros(4),
    "2.weight": torch.tensor([[-1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]),
    "2.bias": torch.zeros(2),
}


def quiet(task, fraction):
    del task, fraction


@pytest.fixture
def files(here, toy_data):
    """Module, weights, unlabelled data and a certificate of the original network."""
    (here / "original_networks.py").write_text(MODULE)
    save_file(STATE, here / "weights.safetensors")
    save_file({**STATE, "2.bias": torch.ones(2)}, here / "other.safetensors")
    inputs = np.random.default_rng(5).normal(size=(300, 2)).astype(np.float32)
    np.savez(here / "more.npz", x=inputs, y=np.arange(300) % 2)
    importlib.invalidate_caches()
    sample = load_sample("toy.npz", Role.TRAIN)
    unlabelled = load_unlabelled_for("more.npz", sample, False, quiet)
    original = load_original("original_networks:Mlp", "weights.safetensors", unlabelled, Preprocessing())
    helper = Helper.for_sample(sample)
    message, ledger = bank_head.write(None, np.array([[-3, 3], [0, 0], [0, 0]]), helper)
    certificate = certify(Compressed(message, ledger, helper), sample, original=original)
    (here / "message.bin").write_bytes(message)
    (here / "certificate.json").write_text(certificate.to_json())
    return certificate


def verify(bitcert, *arguments):
    return bitcert("verify", "certificate.json", "--data", "toy.npz", *arguments)


NETWORK = ("--original", "original_networks:Mlp", "--weights", "weights.safetensors")


def test_with_network_and_unlabelled_data_it_is_valid(bitcert, files):
    outcome = verify(bitcert, *NETWORK, "--unlabelled", "more.npz")
    assert outcome.code == 0, outcome.out
    assert files.sentence in outcome.out
    assert "ok   disagreements:" in outcome.out
    assert "note unlabelled data's origin:" in outcome.out


def test_without_them_the_reader_is_told_what_to_pass_and_the_rest_is_checked(bitcert, files):
    outcome = verify(bitcert)
    assert outcome.code == 2
    assert "ok   errors:" in outcome.out
    assert "CANNOT CHECK" in outcome.out
    for option in ("--original", "--weights"):
        assert option in outcome.out
    outcome = verify(bitcert, *NETWORK)
    assert outcome.code == 2
    assert "--unlabelled" in outcome.out


def test_other_weights_are_not_the_original(bitcert, files):
    outcome = verify(bitcert, *NETWORK[:3], "other.safetensors", "--unlabelled", "more.npz")
    assert outcome.code == 2
    assert "weights" in outcome.out
    assert verify(bitcert, "--weights", "weights.safetensors").code == 2


def test_training_data_are_no_unlabelled_data(files):
    sample = load_sample("toy.npz", Role.TRAIN)
    with pytest.raises(SampleReuseError, match="400 of the 400"):
        load_unlabelled_for("toy.npz", sample, False, quiet)
    held = load_sample("more.npz", Role.HOLDOUT)
    with pytest.raises(SampleReuseError, match="300 of the 300"):
        load_unlabelled_for("more.npz", sample, False, quiet, held)
    assert len(unlabelled_sample(held)) == 300
