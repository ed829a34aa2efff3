"""``bitcert randomise`` as a user meets it: words, file, refusals."""

import json

import pytest

from bitcert.cli.randomise import _lines
from bitcert.report.text import percent_up
from bitcert.search.randomised import RandomisedCertificate

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
    assert f"at most {percent_up(found['bound'])}" in run.out
    assert all(condition in run.out for condition in found["conditions"])
    assert found["declared_hash"] in run.out
    assert found["declared_hash"] in run.err, "told before the training"
    assert (found["delta"], found["draws_delta"], found["draws"]) == (0.05, 0.01, 50)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--draws-delta", "0.05"), "0 < share of the draws < delta"),
        (("--draws", "0"), "at least 1 draw"),
        (("--seed", "-1"), "a --seed of 0 or more"),
        (("--budget", "-1"), "a positive number of seconds"),
    ],
)
def test_options_that_cannot_be(folder, refused, options, says):
    refused("randomise", "nets:mlp", *DATA, *options, says=says)


def test_a_bound_is_rounded_up_and_a_vacuous_one_is_said_to_be():
    for bound, said in ((0.33331, "at most 33.34 %,"), (0.99995, "at most 100.00 % (vacuous),")):
        found = RandomisedCertificate("x", bound, 0.12341, 0.12341, 1.0, 1.0, 9, 9, 0.05, 0.01, 9, "", "", (), "", 1)
        _, first, second, *_ = _lines(found)
        assert said in first
        assert "12.34 % errors" in second
        assert "at most 12.35 % training error" in second


@pytest.mark.parametrize("verb", ["randomise", "compress"])
def test_processes_are_no_option_where_they_would_do_nothing(folder, refused, verb):
    refused(verb, "nets:mlp", "--workers", "2", "--budget", "0", says="--workers")
