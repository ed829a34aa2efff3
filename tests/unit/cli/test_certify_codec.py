"""``bitcert certify --codec``: a named codec, its options, public weights in the helper, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import save_file

MODULE = """
from torch import nn

def mlp():
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))

def other():
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 2))
"""

STATE = {
    "0.weight": torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    "0.bias": torch.zeros(4),
    "2.weight": torch.tensor([[-1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]),
    "2.bias": torch.zeros(2),
}


@pytest.fixture
def network(here, toy_data):
    (here / "nets.py").write_text(MODULE)
    save_file(STATE, here / "weights.safetensors")
    return here


MODEL = ("nets:mlp", "--weights", "weights.safetensors", "--data", "toy.npz")


def certify(bitcert, *arguments):
    outcome = bitcert("certify", *MODEL, *arguments, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_a_codec_with_its_options(bitcert, network):
    content = certify(bitcert, "--codec", "quantise", "--option", "fraction=0.5")
    assert content["errors"] < 0.1 * content["samples"]
    assert "identity" in content["description"]
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0


def test_without_options_the_best_of_its_strengths_is_kept(bitcert, network):
    best = certify(bitcert, "--codec", "quantise")
    one = certify(bitcert, "--codec", "quantise", "--option", "fraction=0.125")
    assert best["bound"] <= one["bound"]


def test_layers_and_rest(bitcert, network):
    content = certify(bitcert, "--codec", "quantise", "--layers", "2.weight", "--rest", "exact")
    sections = dict(content["sections"])
    assert sections["0.weight"] > 32 * 8 > sections["2.weight"]


def test_public_weights_in_the_helper_are_written_hashed_and_told(bitcert, network):
    save_file({name: value + 0.01 for name, value in STATE.items()}, network / "public.safetensors")
    arguments = ("--codec", "quantise", "--option", "base=file", "--helper", "public.safetensors")
    outcome = bitcert("certify", *MODEL, *arguments)
    assert outcome.code == 0, outcome.err
    assert "whose bits are not counted" in " ".join(outcome.out.split())
    assert (network / "out" / "helper.safetensors").exists()
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0
    assert "whose bits are not counted" in (network / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--codec", "quantize"), "did you mean 'quantise'"),
        (("--codec", "quantise", "--option", "fraction"), "--option NAME=VALUE"),
        (("--codec", "quantise", "--option", "fraction=-1"), "quantisation fraction"),
        (("--codec", "quantise", "--option", "rank=3"), "known option of quantise"),
        (("--codec", "quantise", "--option", "seed=1", "--option", "seed=2"), "every option once"),
        (("--codec", "quantise", "--layers", "a", "--option", "layers=b"), "every option once"),
        (("--codec", "quantise", "--layers", "nowhere"), "weight layer"),
        (("--codec", "quantise", "--option", "layers= , "), "between the commas"),
        (("--codec", "quantise", "--no-fine-tune"), "no --fine-tune or --no-fine-tune with --codec"),
        (("--codec", "quantise", "--family", "head"), "no --family for a given network"),
        (("--codec", "quantise", "--helper", "weights.safetensors", "--option", "base=file"), "the network itself"),
        (("--codec", "per-layer", "--option", "rules=*=svd rank:1 seed:9"), "give them to per-layer itself"),
        (("--codec", "auto", "--option", "seed=1"), "no options with --codec auto"),
        (("--option", "seed=1"), "a --codec for --option"),
        (("--codec", "quantise", "--option", "base=file"), "weights in the helper"),
    ],
)
def test_what_is_refused(bitcert, network, arguments, says):
    outcome = bitcert("certify", *MODEL, *arguments)
    assert outcome.code == 2
    assert len(outcome.failures) == 1
    assert says in outcome.failures[0]
    assert not (network / "out").exists()


def test_weights_that_the_message_does_not_use_are_left_out(bitcert, network):
    save_file({name: value + 0.01 for name, value in STATE.items()}, network / "public.safetensors")
    outcome = bitcert("certify", *MODEL, "--codec", "quantise", "--helper", "public.safetensors")
    assert outcome.code == 0, outcome.err
    assert "does not refer to the weights of --helper" in outcome.err
    assert "whose bits are not counted" not in " ".join(outcome.out.split())
    assert not (network / "out" / "helper.safetensors").exists()
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0


def test_helper_weights_of_another_network_are_refused(bitcert, network):
    save_file({name: value[:1] for name, value in STATE.items()}, network / "public.safetensors")
    outcome = bitcert("certify", *MODEL, "--codec", "quantise", "--helper", "public.safetensors")
    assert outcome.code == 2
    assert len(outcome.failures) == 1


def test_a_codec_without_a_model_is_refused(bitcert, network):
    outcome = bitcert("certify", "--data", "toy.npz", "--codec", "quantise")
    assert outcome.code == 2
    assert "a model for --codec" in outcome.failures[0]
