"""``bitcert compress`` and ``bitcert compare`` as a user meets them: files, words, refusals, interruption."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitcert.codecs.quantise import Quantise
from bitcert.comparison import Comparison
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.weights import HelperWeights
from bitcert.folder import COMPARE_FILES, COMPRESS_FILES
from bitcert.network.decode import decode_architecture

MODULE = """
import torch
from torch import nn

def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))

def other():
    return nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2))

class Guarded(nn.Sequential):
    def forward(self, x):
        if float(x.abs().max()) > 1e6:
            raise ValueError("not one of these")
        return super().forward(x)

def guarded():
    return Guarded(nn.Linear(2, 2))
"""
DATA = ("--data", "toy.npz")
QUICK = (*DATA, "--codecs", "quantise", "--strengths", "2")

pytestmark = pytest.mark.usefixtures("network")


@pytest.fixture
def network(here, toy_data):
    (here / "nets.py").write_text(MODULE)
    return here


@pytest.fixture
def unpictured(monkeypatch):
    """No picture, where a test is not about it."""
    monkeypatch.setattr("bitcert.report.comparison.display._pictures", lambda comparison: [])


def test_a_compression_writes_message_and_description(bitcert, network):
    outcome = bitcert(
        *("compress", "nets:mlp", *DATA, "--codec", "quantise", "--option", "fraction=0.5"),
        *("--layers", "0.weight", "--rest", "exact", "--shape", "2"),
    )
    assert outcome.code == 0, outcome.err
    folder = network / "compressed"
    assert {path.name for path in folder.iterdir()} == COMPRESS_FILES - {"helper.safetensors"}
    told = json.loads((folder / "compression.json").read_text())
    assert told["codec"]["name"] == "quantise"
    assert told["codec"]["options"]["fraction"] == "0.5"
    assert told["codec"]["options"]["layers"] == "0.weight"
    message = (folder / "message.bin").read_bytes()
    assert told["message"]["bits"] == 8 * len(message) == sum(bits for _, bits in told["message"]["sections"])
    assert told["network"]["parameters"] == 32
    assert told["theory"]["source"].startswith("Bennett")
    assert told["deviation"]["entrywise"]["maximum"] > 0
    assert "bound" not in told
    architecture = decode_architecture((folder / "architecture.json").read_text())
    decoded = decode_message(message, Helper((2,), 2, predictor=architecture))
    assert decoded.classifier.weights["2.weight"].numel() == 12
    assert "Compressed with quantise 0.5." in outcome.out
    last = outcome.out.strip().splitlines()[-1]
    assert last == (
        "To certify it: bitcert certify nets:mlp --data toy.npz --shape 2 --codec quantise --layers 0.weight "
        "--rest exact --option fraction=0.5"
    )
    assert "no --weights given" in outcome.err


def test_ten_draws_of_the_noise_are_told_with_their_spread(bitcert, network):
    run = bitcert("compress", "nets:mlp", *DATA, "--codec", "heavy-tail", "--option", "draws=10")
    found = json.loads((network / "compressed" / "compression.json").read_text())
    rates = [100 * errors / found["training"]["samples"] for _, errors in found["tried"]]
    assert len(rates) == 10
    assert f"over the 10 messages tried: {np.mean(rates):.2f} ± {np.std(rates, ddof=1):.2f} %" in run.out
    assert min(rates) == pytest.approx(100 * found["training"]["errors"] / found["training"]["samples"])


def test_options_that_a_label_does_not_say_are_told(bitcert, network):
    outcome = bitcert(
        "compress", "nets:mlp", *DATA, "--codec", "prune", "--option", "keep=0.5", "--option", "fraction=2"
    )
    assert "Compressed with prune 0.5 layer (fraction=2)." in outcome.out


def test_json_and_nothing_else(bitcert, network):
    outcome = bitcert("compress", "nets:mlp", *DATA, "--codec", "exact", "--json", "--out", "other", "--scale", "4")
    assert json.loads(outcome.out)["helper"]["scale"] == 4.0
    assert json.loads(outcome.out) == json.loads((network / "other" / "compression.json").read_text())


def test_weights_of_the_helper(bitcert, network):
    state = {"0.weight": torch.ones(6, 2), "0.bias": torch.zeros(6), "2.weight": torch.ones(2, 6)}
    save_file({**state, "2.bias": torch.zeros(2)}, network / "public.safetensors")
    arguments = ("compress", "nets:mlp", *DATA, "--codec", "quantise", "--helper", "public.safetensors")
    outcome = bitcert(*arguments, "--option", "base=file", "--option", "fraction=100", "--rest", "helper")
    assert outcome.code == 0, outcome.err
    assert "matter with" not in outcome.err
    folder = network / "compressed"
    assert {path.name for path in folder.iterdir()} == COMPRESS_FILES
    architecture = decode_architecture((folder / "architecture.json").read_text())
    weights = HelperWeights.from_bytes((folder / "helper.safetensors").read_bytes(), architecture)
    helper = Helper((2,), 2, predictor=architecture, weights=weights)
    decoded = decode_message((folder / "message.bin").read_bytes(), helper)
    assert torch.equal(decoded.classifier.weights["0.weight"], torch.ones(6, 2))
    assert "--helper public.safetensors" in outcome.out
    assert "--helper weights matter with --option base=file" in bitcert(*arguments).err


def test_training_gets_its_budget_and_goes_on(bitcert, network, monkeypatch):
    runs = []

    def encode(self, network, sample=None, *, helper=None, run=None):
        runs.append(run)
        if run.checkpoint.load() is None:
            run.checkpoint.save({"steps": 3}, {})
            raise KeyboardInterrupt
        return Quantise().encode(network, sample, helper=helper)

    monkeypatch.setattr("bitcert.codecs.quantise.TunedQuantise.encode", encode)
    arguments = ("compress", "nets:mlp", *DATA, "--codec", "tuned", "--budget", "7", "--seed", "3")
    outcome = bitcert(*arguments)
    assert outcome.code == 130
    assert "at most 7 s of training" in outcome.err
    assert not (network / "compressed").exists()
    assert (network / ".compressed.checkpoint.safetensors").exists()
    assert bitcert(*arguments[:-1], "4").code == 130, "another seed is another run"
    outcome = bitcert(*arguments[:-1], "4")
    assert outcome.code == 0
    assert outcome.out.strip().endswith("--codec tuned --seed 4 --budget 7")
    assert (runs[-1].budget_seconds, runs[-1].seed) == (7.0, 4)
    assert not (network / ".compressed.checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--codec", "quantis"], "did you mean 'quantise'?"),
        ([], "--codec"),
        (["--codec", "quantise", "--option", "fraction"], "NAME=VALUE"),
        (["--codec", "quantise", "--option", "fractoin=1"], "did you mean 'fraction'?"),
        (["--codec", "quantise", "--option", "fraction=-1"], "positive quantisation fraction"),
        (["--codec", "quantise", "--option", "fraction=x"], "a number for quantise --option fraction"),
        (["--codec", "quantise", "--option", "seed=-1"], "a seed of 0 or more"),
        (["--codec", "quantise", "--option", "base=file"], "weights in the helper for base=file"),
        (["--codec", "quantise", "--layers", "1.weight"], "among 0.weight, 2.weight, got '1.weight'"),
        (["--codec", "quantise", "--rest", "gone"], "gone"),
        (["--codec", "quantise", "--layers", "0.weight", "--option", "layers=0.weight"], "every option once"),
        (["--codec", "tuned", "--layers", "0.weight"], "expected a known option of tuned"),
        (["--codec", "per-layer", "--option", "rules=*=tuned"], "works layer by layer"),
        (["--codec", "exact", "--budget", "0"], "--budget"),
        (["--codec", "exact", "--budget", "nan"], "--budget"),
        (["--codec", "exact", "--seed", "-1"], "--seed"),
        (["--codec", "exact", "--helper", "gone.safetensors"], "gone.safetensors"),
        (["--codec", "exact", "--out", "."], "the current folder"),
        (["--codec", "exact", "--data", "gone.npz"], "gone.npz"),
    ],
    ids=" ".join,
)
def test_compressions_that_cannot_be(refused, options, says):
    refused("compress", "nets:mlp", *DATA, *options, says=says)


def test_networks_that_cannot_be(refused, network):
    refused("compress", "nets:guarded", *DATA, "--codec", "exact", says="a network whose layers can be captured")
    refused("compare", "nets:guarded", *QUICK, says="a network whose layers can be captured")
    refused("compress", "nets:gone", *DATA, "--codec", "exact", says="nets:gone")
    save_file({"0.weight": torch.full((2, 2), float("nan")), "0.bias": torch.zeros(2)}, network / "nan.safetensors")
    (network / "one.py").write_text(
        "import torch\n\ndef linear():\n    return torch.nn.Sequential(torch.nn.Linear(2, 2))\n"
    )
    for verb in (("compress", "--codec", "quantise"), ("compare", "--codecs", "quantise")):
        arguments = (verb[0], "one:linear", *DATA, *verb[1:], "--weights", "nan.safetensors")
        refused(*arguments, says="finite")


# Compare


def test_a_comparison_writes_table_figure_and_page(bitcert, network, drawn):
    outcome = bitcert("compare", "nets:mlp", *DATA, "--codecs", "quantise, exact,per-layer", "--strengths", "2")
    assert outcome.code == 0, outcome.err
    folder = network / "compared"
    assert {path.name for path in folder.iterdir()} == COMPARE_FILES
    comparison = Comparison.from_json((folder / "comparison.json").read_text())
    assert comparison.network["name"] == "nets:mlp"
    assert [row.label for row in comparison.rows] == ["quantise 0.125", "quantise 4", "exact"]
    assert "Plan: 3 messages counted on 400 samples" in outcome.err
    assert "no usual strengths: per-layer" in outcome.err
    assert "2 codecs on nets:mlp" in outcome.out
    assert "Results: compared/report.html, compared/comparison.json" in outcome.out
    assert not (network / ".compared.rows").exists()


def test_a_comparison_as_json(bitcert, network, unpictured):
    outcome = bitcert("compare", "nets:mlp", *QUICK, "--delta", "0.1", "--seed", "5", "--json", "--out", "other")
    comparison = Comparison.from_json(outcome.out)
    assert comparison.delta == 0.1
    assert comparison.settings["seed"] == 5
    assert (network / "other" / "comparison.json").read_text() == outcome.out


def test_held_out_labels_stand_beside(bitcert, network, unpictured):
    with np.load(network / "toy.npz") as data:
        np.savez(network / "held.npz", x=data["x"] + np.float32(0.01), y=data["y"])
    outcome = bitcert("compare", "nets:mlp", *QUICK, "--holdout", "held.npz", "--json")
    assert outcome.code == 0, outcome.err
    comparison = Comparison.from_json(outcome.out)
    assert comparison.original.holdout.samples == 400
    assert comparison.original.holdout.bound > 0
    assert all(measured.holdout.samples == 400 for _, measured in comparison.messages)


def test_an_interrupted_comparison_goes_on(bitcert, network, unpictured, monkeypatch):
    labels = []
    encode = Quantise.encode

    def counted(self, *given, **named):
        labels.append(self.label)
        if len(labels) == 2:
            raise KeyboardInterrupt
        return encode(self, *given, **named)

    monkeypatch.setattr(Quantise, "encode", counted)
    outcome = bitcert("compare", "nets:mlp", *QUICK)
    assert outcome.code == 130
    assert not (network / "compared").exists()
    assert (network / ".compared.rows").exists()
    assert bitcert("compare", "nets:mlp", *QUICK).code == 0
    assert labels == ["quantise 0.125", "quantise 4", "quantise 4"]
    assert not (network / ".compared.rows").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--codecs", "quantise,exakt"], "did you mean 'exact'?"),
        (["--codecs", ","], "names of codecs"),
        (["--codecs", "per-layer"], "codecs with strengths of their own"),
        (["--budget", "0"], "seconds for training"),
        (["--budget", "inf"], "seconds for training"),
        (["--delta", "0"], "delta"),
        (["--strengths", "0"], "at least 1 strength"),
        (["--seed", "-1"], "a seed of 0 or more"),
        (["--holdout", "toy.npz"], "toy.npz"),
        (["--out", "."], "the current folder"),
        (["--helper", "gone.pt"], "gone.pt"),
    ],
    ids=" ".join,
)
def test_comparisons_that_cannot_be(refused, options, says):
    refused("compare", "nets:mlp", *QUICK, *options, says=says)


def test_no_verb_replaces_anothers_folder(bitcert, network, refused, unpictured):
    assert bitcert("compare", "nets:mlp", *QUICK, "--out", "compared").code == 0
    assert bitcert("compress", "nets:mlp", *DATA, "--codec", "exact", "--out", "compressed").code == 0
    whose = "the result of another command"
    refused("compress", "nets:mlp", *DATA, "--codec", "exact", "--out", "compared", says=whose)
    refused("compare", "nets:mlp", *QUICK, "--out", "compressed", says=whose)
    refused("certify", *DATA, "--out", "compared", says=whose)
    assert bitcert("compare", "nets:mlp", *QUICK, "--out", "compared").code == 0, "its own it may replace"
