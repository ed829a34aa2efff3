"""``bitcert randomise`` as a user meets it: words, file, refusals."""

import json

import pytest

MODULE = """
import torch
from torch import nn

def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))
"""
DATA = ("--data", "toy.npz", "--steps", "20", "--draws", "50")


@pytest.fixture
def folder(here, toy_data):
    (here / "nets.py").write_text(MODULE)
    return here


def test_it_says_what_is_certified_and_what_is_not(bitcert, folder):
    run = bitcert("randomise", "nets:mlp", *DATA)
    assert run.code == 0, run.err
    found = json.loads((folder / "randomised" / "randomised.json").read_text())
    assert found["label"].startswith("randomised classifier (PAC-Bayes)")
    assert "Certified: a randomised classifier (PAC-Bayes)" in run.out
    assert "The network with the mean weights has no bound by this." in run.out
    assert all(condition in run.out for condition in found["conditions"])
    assert found["declared_hash"] in run.out
    assert f"at most {100 * found['bound']:.2f} %" in run.out
    assert (found["delta"], found["draws_delta"], found["draws"]) == (0.05, 0.01, 50)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--draws-delta", "0.05"), "0 < share of the draws < delta"),
        (("--draws", "0"), "at least 1 draw"),
        (("--budget", "-1"), "a positive number of seconds"),
    ],
)
def test_options_that_cannot_be(folder, refused, options, says):
    refused("randomise", "nets:mlp", *DATA, *options, says=says)
