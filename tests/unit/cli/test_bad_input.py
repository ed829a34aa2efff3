"""Every bad input: one sentence on stderr, exit code 2, nothing written."""

import errno
import gzip
import os
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitcert.cli import main

GOOD = {"x": np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32), "y": np.arange(60) % 2}


def save(**changes):
    np.savez("data.npz", **{**GOOD, **changes})
    return "data.npz"


# Data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("gone.npz", "gone.npz"),
        ("no/such/folder", "nothing there"),
        ("mnits", "did you mean 'mnist'"),
        ("digit", "did you mean 'digits'"),
        ("", "empty text"),
        (".", "none of them"),
    ],
)
def test_data_that_are_not_there(refused, data, says):
    refused("certify", "--data", data, says=says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x": np.zeros((0, 2), np.float32), "y": np.zeros(0, np.int64)}, "at least one example"),
        ({"y": np.zeros(60, np.int64)}, "class"),
        ({"y": np.arange(60) % 2 - 1}, "label"),
        ({"y": np.arange(59) % 2}, "one label for every input"),
        ({"y": np.linspace(0, 1, 60)}, "integer labels"),
        ({"y": np.arange(60) * 10**7}, "class"),
        ({"x": np.full((60, 2), np.nan, np.float32)}, "finite inputs"),
        ({"x": np.full((60, 2), np.inf, np.float32)}, "finite inputs"),
        ({"x": np.full((60, 2), 1 << 30)}, "at most 16,777,216"),
        ({"x": np.zeros((60, 2), np.complex64)}, "numbers"),
        ({"x": np.array([[None, None]] * 60)}, "pickle"),
        ({"x": np.zeros(60, np.float32)}, "feature axis"),
    ],
    ids=[
        "empty",
        "one class",
        "negative label",
        "lengths",
        "float labels",
        "huge labels",
        "NaN",
        "infinity",
        "int32",
        "complex",
        "objects",
        "no axis",
    ],
)
def test_data_that_cannot_be_used(refused, changes, says):
    refused("certify", "--data", save(**changes), says=says)


def test_labels_beyond_the_stated_classes(refused):
    refused("certify", "--data", save(y=np.arange(60) % 5), "--classes", 3, says="label")


@pytest.mark.parametrize("classes", ["0", "1", "-3"])
def test_number_of_classes(refused, classes):
    refused("certify", "--data", save(), "--classes", classes, says="class")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"\x93NUMPY", b"not data at all", b"\0\0\x08\x03" + b"\0" * 40, gzip.compress(b"x" * 99)],
    ids=["empty", "zip", "npy", "text", "IDX", "gzip"],
)
@pytest.mark.parametrize("name", ["data.npz", "train-images-idx3-ubyte"])
def test_a_file_of_another_kind(refused, here, name, content):
    (here / name).write_bytes(content)
    refused("certify", "--data", name)


def test_every_truncation_of_an_archive(refused, here):
    whole = (here / save()).read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 12)):
        (here / "data.npz").write_bytes(whole[:length])
        refused("certify", "--data", "data.npz")


def test_a_file_that_cannot_be_read(refused, monkeypatch):
    save()

    def denied(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", "data.npz")

    monkeypatch.setattr("bitcert.data.load.read_npz", denied)
    refused("certify", "--data", "data.npz", says="Permission denied")


def test_held_out_data(refused, here):
    np.savez("other.npz", x=np.zeros((20, 3), np.float32), y=np.arange(20) % 2)
    np.savez("more.npz", x=np.zeros((20, 2), np.float32), y=np.arange(20) % 3)
    data = save()
    refused("certify", "--data", data, "--holdout", data, says="no example in two samples")
    refused("certify", "--data", data, "--holdout", "other.npz", says="held-out data of shape [2]")
    refused("certify", "--data", data, "--holdout", "more.npz", says="label")
    refused("certify", "--data", data, "--holdout", "gone.npz", says="gone.npz")


# Options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--delta", "0"], "--delta"),
        (["--delta", "1"], "--delta"),
        (["--delta", "nan"], "--delta"),
        (["--delta", "-1"], "--delta"),
        (["--delta", "inf"], "--delta"),
        (["--delta", "5%"], "--delta"),
        (["--budget", "0"], "--budget"),
        (["--budget", "-5"], "--budget"),
        (["--budget", "nan"], "--budget"),
        (["--budget", "inf"], "--budget"),
        (["--budget", "soon"], "--budget"),
        (["--family", "haed"], "'head'"),
        (["--device", "gpu"], "'cuda'"),
        (["--seed", "x"], "--seed"),
        (["--seed", "-1"], "a --seed of 0 or more"),
        (["--scale", "0"], "scale"),
        (["--scale", "nan"], "scale"),
        (["--mean", "0.5"], "as many channel means as stds"),
        (["--std", "0.5"], "as many channel means as stds"),
        (["--mean", "0.5", "--std", "0"], "positive"),
        (["--mean", "half", "--std", "1"], "--mean"),
        (["--detla", "0.1"], "--delta"),
    ],
    ids=" ".join,
)
def test_options(refused, options, says):
    assert says in refused("certify", *options)


def test_a_device_that_is_not_there(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused("certify", "--device", "cuda", says="--device cuda")


@pytest.mark.parametrize("verb", ["certfy", "mesure"])
def test_an_unknown_verb(refused, verb):
    refused(verb, says=verb)


def test_missing_arguments(refused):
    refused("verify", says="certificate")
    refused("check", says="model")


def test_no_arguments_show_the_help(bitcert):
    outcome = bitcert()
    assert outcome.code == 0
    assert "certify" in outcome.out
    assert outcome.err == ""


def test_where_results_go(refused, here):
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("mine")
    refused("certify", "--out", "file", says="not a folder")
    refused("certify", "--out", "file/below", says="can be written")
    refused("certify", "--out", "full", says="thesis.tex")
    refused("certify", "--out", ".", says="another --out")
    refused("certify", "--out", "/", says="another --out")


# Models

MODELS = """
import torch
from torch import nn

def raises():
    raise RuntimeError("weights were\\neaten")

def number():
    return 3

class Raising(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)
    def forward(self, x):
        raise ValueError("this model\\nnever works")

class Noisy(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), 2)

class TrainMode(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    def train(self, mode=True):
        return super().train(True)

class Batch(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
    def forward(self, x):
        return super().forward(x - x.mean(0))

class Unfinite(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        with torch.no_grad():
            self.weight[0, 0] = float("nan")

def wide():
    return nn.Linear(2, 7)

def score():
    return nn.Linear(2, 1)

def narrow():
    return nn.Linear(3, 2)

def good():
    return nn.Linear(2, 2)

not_callable = 5
"""


@pytest.fixture
def models(here, toy_data):
    (here / "bad_models.py").write_text(MODELS)
    return toy_data


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("raises", "RuntimeError: weights were"),
        ("number", "torch.nn.Module"),
        ("Raising", "accepts the example, got this model"),
        ("Noisy", "randomness left"),
        ("TrainMode", "randomness left"),
        ("Batch", "depend on the rest of the batch"),
        ("Unfinite", "finite"),
        ("wide", "a network with 2 outputs"),
        (
            "score",
            "got 1 output; use the data this network was trained for, or a network with one output per class; of one",
        ),
        ("narrow", "accepts the example"),
        ("not_callable", "callable"),
        ("gone", "gone"),
    ],
)
@pytest.mark.parametrize("verb", ["certify", "check"])
def test_a_model_that_cannot_be_used(refused, models, verb, model, says):
    refused(verb, f"bad_models:{model}", "--data", models, says=says)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no_such_module:net", "no_such_module"),
        ("bad_models", "package.module:factory"),
        ("gone.pt2", "gone.pt2"),
        ("bad models:x y", "bad models"),
        (":", "factory"),
    ],
)
def test_a_model_that_is_not_there(refused, models, model, says):
    refused("certify", model, "--data", models, says=says)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"], ids=["empty", "zip", "text"])
def test_an_archive_of_another_kind(refused, here, toy_data, content):
    (here / "model.pt2").write_bytes(content)
    refused("certify", "model.pt2", "--data", toy_data, says="expected a .pt2 file")


def test_weights(refused, here, models):
    arguments = ("certify", "bad_models:good", "--data", models, "--weights")
    refused(*arguments, "gone.pt", says="gone.pt")
    save_file({"other": torch.zeros(2)}, "other.safetensors")
    refused(*arguments, "other.safetensors", says="missing weight")
    save_file({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "shape.safetensors")
    refused(*arguments, "shape.safetensors", says="[3, 2]")
    torch.save(torch.nn.Linear(2, 2), "pickled.pt")
    refused(*arguments, "pickled.pt", says="state_dict")
    (here / "broken.safetensors").write_bytes(b"\xff" * 100)
    refused(*arguments, "broken.safetensors", says="broken.safetensors")
    (here / "broken.pt").write_bytes(b"\xff" * 100)
    refused(*arguments, "broken.pt", says="broken.pt")


# Disk and memory


def test_a_full_disk_leaves_the_previous_output(bitcert, refused, here, toy_data, monkeypatch):
    assert bitcert("certify", "--data", toy_data, "--budget", "0.05").code == 0
    before = {path.name: path.read_bytes() for path in (here / "out").iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = bitcert("certify", "--data", toy_data, "--budget", "0.05", "--seed", "1")
    assert outcome.code == 2
    assert outcome.failures == [
        "bitcert: expected to read and write files, got No space left on device; check the disk"
    ]
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == before


def test_a_disk_too_full_for_a_checkpoint(bitcert, here, toy_data):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        outcome = bitcert("certify", "--data", toy_data, "--budget", "0.05")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.code == 2
    assert len(outcome.failures) == 1
    assert "too large" in outcome.failures[0]
    assert [path.name for path in here.iterdir()] == ["toy.npz"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate")])
def test_out_of_memory(refused, toy_data, monkeypatch, error):
    def greedy(*arguments, **options):
        raise error

    monkeypatch.setattr("bitcert.cli.options.load_sample", greedy)
    refused("certify", "--data", toy_data, says="enough memory")


def test_interrupted(bitcert, toy_data, here, monkeypatch):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("bitcert.cli.certify.compress_built_in", stopped)
    outcome = bitcert("certify", "--data", toy_data)
    assert outcome.code == 130
    assert "run the same command again" in outcome.failures[0]
    assert [path.name for path in here.iterdir()] == ["toy.npz"]


def test_a_bug_is_not_hidden(here, toy_data, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("bitcert.cli.certify.compress_built_in", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["certify", "--data", toy_data])
