"""The commitment: the same hash before any label is read and in the certificate that follows."""

import json
import zipfile

import numpy as np
import pytest

FACTORY = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))

def opaque():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            if bool((x > 1e9).any()):
                x = x * 0
            return self.layer(x)

    return Branching()
"""


@pytest.fixture
def factory(here):
    (here / "own.py").write_text(FACTORY)
    return here


def committed(bitcert, *arguments):
    outcome = bitcert("helper", *arguments, "--hash")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out) == 65
    return outcome.out.strip()


CASES = {
    "no network": ((), ("--budget", 0.2), ()),
    "a network": (("own:make",), ("--budget", 0.2), ()),
    "an opaque network": (("own:opaque",), ("--budget", 0.2, "--no-fine-tune"), ("--model", "own:opaque")),
    "a codec": (("own:make",), ("--codec", "quantise"), ()),
    "a network and a search": (("own:make",), ("--effort", "quick", "--budget", 0.3), ()),
    "stated preprocessing": (("--scale", 2, "--mean", "0.5,0.5", "--std", "1,1"), ("--budget", 0.2), ()),
    "a prior part": (("own:make", "--prior-split", 0.5, "--prior-seed", 3), ("--budget", 0.3), ()),
    "stated classes": (("--classes", 2), ("--budget", 0.2), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_certificate_carries_what_was_committed_to(bitcert, factory, toy_data, case):
    shared, own, checking = CASES[case]
    published = committed(bitcert, *shared, "--data", toy_data)
    made = bitcert("certify", *shared, *own, "--data", toy_data)
    assert made.code == 0, made.err
    assert json.loads((factory / "out" / "certificate.json").read_text())["commitment"]["hash"] == published
    verify = ("verify", "out/certificate.json", "--data", toy_data, *checking, "--commitment")
    valid = bitcert(*verify, published)
    assert valid.code == 0, valid.out
    other = committed(bitcert, "--data", toy_data, "--scale", 3)
    invalid = bitcert(*verify, other)
    assert invalid.code == 1
    assert "FAIL commitment published" in invalid.out


def test_the_surrogate_of_an_original_may_be_the_built_in_network(bitcert, factory, toy_data):
    shared = ("own:make", "--prior-split", 0.5, "--data", toy_data)
    np.savez(factory / "new.npz", x=np.random.default_rng(5).normal(size=(60, 2)).astype(np.float32))
    made = bitcert("certify", *shared, "--unlabelled", "new.npz", "--budget", 0.3)
    assert made.code == 0, made.err
    commitment = json.loads((factory / "out" / "certificate.json").read_text())["commitment"]
    assert len(commitment["architectures"]) == 2
    assert commitment["hash"] == committed(bitcert, *shared, "--original") != committed(bitcert, *shared)


def test_no_label_is_read(bitcert, here, toy_data):
    """The same hash from an archive whose labels are nonsense, and from one without any."""
    with np.load(here / toy_data) as arrays:
        inputs = arrays["x"]
    np.savez(here / "bare.npz", x=inputs)
    np.savez(here / "other.npz", x=inputs, y=np.array(["no", "numbers"]))
    with zipfile.ZipFile(here / "broken.npz", "w") as archive, zipfile.ZipFile(here / "bare.npz") as bare:
        archive.writestr("x.npy", bare.read("x.npy"))
        archive.writestr("y.npy", b"\x93NUMPY, but broken")
    hashes = {committed(bitcert, "--data", name) for name in (toy_data, "bare.npz", "other.npz", "broken.npz")}
    assert hashes == {committed(bitcert, "--shape", "2", "--floats")}


def test_of_a_built_in_set_nothing_is_read(bitcert, here, monkeypatch):
    monkeypatch.setenv("BITCERT_DATA", str(here / "nothing"))
    assert committed(bitcert, "--data", "mnist", "--scale", 255) != committed(bitcert, "--data", "cifar10")
    assert committed(bitcert, "--data", "MNIST") == committed(bitcert, "--data", "fashion-mnist"), "one problem"


def test_what_is_committed_to_is_said(bitcert, factory):
    outcome = bitcert("helper", "own:make", "--shape", "2", "--floats", "--prior-split", 0.25)
    assert "an architecture of 3 operations and 4 tensors" in " ".join(outcome.out.split())
    assert "prior split of fraction 0.25, seed 0" in outcome.out
    assert "1048576" not in outcome.out, "the outputs of the network are its classes"
    told = json.loads(bitcert("helper", "own:make", "--shape", "2", "--floats", "--json").out)
    assert (len(told["architectures"]), told["num_classes"], len(told["bits"])) == (1, None, 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--data or --shape"),
        (("--data", "digits", "--shape", "1,8,8"), "--data or --shape"),
        (("--shape", "1,x"), "sizes separated by commas"),
        (("--shape", "0,8"), "sizes of 1 or more"),
        (("--data", "folder"), "--shape"),
        (("--data", "missing.npz"), "missing.npz"),
        (("--shape", "4", "--prior-split", 0.5), "--classes"),
        (("nowhere:make", "--shape", "4"), "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(bitcert, here, arguments, expected):
    outcome = bitcert("helper", *arguments)
    assert outcome.code == 2
    assert len(outcome.failures) == 1
    assert expected in outcome.failures[0]
