"""``bitcert measure`` as a user meets it: what it writes and says, what it refuses, and how it goes on when killed."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bitcert.errors import DecodeError
from bitcert.folder import MEASURE_FILES
from bitcert.stability import StabilityProfile

MODULE = """
import torch
from torch import nn

def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))

class Guarded(nn.Sequential):
    def forward(self, x):
        if float(x.abs().max()) > 1e6:
            raise ValueError("not one of these")
        return super().forward(x)

def guarded():
    return Guarded(nn.Linear(2, 2))

def wide():
    return nn.Linear(2, 3)
"""
SHARDS = ".measured.shards"
QUICK = ("--data", "toy.npz", "--samples", "40", "--quantities", "layer_cushion,margin")

pytestmark = pytest.mark.usefixtures("network")


@pytest.fixture
def network(here, toy_data):
    (here / "nets.py").write_text(MODULE)
    return here


@pytest.fixture
def unpictured(monkeypatch):
    """No pictures, where a test is not about them."""
    monkeypatch.setattr("bitcert.report.stability.display._drawings", lambda profile, overviews: ())
    monkeypatch.setattr("bitcert.report.stability.display._overviews", lambda profile: ())


def profile_in(folder) -> StabilityProfile:
    return StabilityProfile.from_json((folder / "profile.json").read_text())


def test_a_file_without_a_format_is_not_one_of_a_former_format():
    for text in ("{}", '{"format":""}'):
        with pytest.raises(DecodeError, match="got another format"):
            StabilityProfile.from_json(text)


def test_a_measurement_writes_profile_figures_and_page(bitcert, network, monkeypatch):
    # the pictures of the page are those of the files and have tests of their own
    monkeypatch.setattr("bitcert.report.stability.display._drawings", lambda profile, overviews: ())
    arguments = ("measure", "nets:mlp", "--data", "toy.npz", "--samples", "50", "--projections", "20", "--keep")
    outcome = bitcert(*arguments, "--random-init")
    assert outcome.code == 0, outcome.err
    written = {path.name for path in (network / "measured").iterdir()}
    assert written <= MEASURE_FILES
    assert {"profile.json", "profile.npz", "report.html", "attenuation.svg", "margins.svg"} <= written
    profile = profile_in(network / "measured")
    assert profile.network["name"] == "nets:mlp"
    assert profile.sample["name"] == "toy.npz (drawn from 400 with seed 0)"
    assert profile.sample["measured"] == 50
    assert profile.twin is not None
    with np.load(network / "measured" / "profile.npz", allow_pickle=False) as arrays:
        assert arrays["layer_cushion"].shape == (50, 3)
    assert "Plan: 50 samples of 400, drawn with seed 0, 3 weight layers in 3 connected pairs" in outcome.err
    assert "the network and its untrained twin" in outcome.err
    assert "Noise stability of nets:mlp on toy.npz (drawn from 400 with seed 0)" in " ".join(outcome.out.split())
    assert "they explain, they never prove" in outcome.out
    assert "Results: measured/report.html, measured/profile.json" in outcome.out
    assert not (network / SHARDS).exists()


def test_json_and_nothing_else(bitcert, network, unpictured):
    outcome = bitcert("measure", "nets:mlp", *QUICK, "--json", "--out", "other")
    assert outcome.code == 0
    assert StabilityProfile.from_json(outcome.out).to_json() == (network / "other" / "profile.json").read_text()
    assert "layer_cushion" in json.loads(outcome.out)["distributions"]


def test_the_same_seed_measures_the_same_examples(bitcert, network, unpictured):
    def margins(*more):
        outcome = bitcert("measure", "nets:mlp", *QUICK, "--json", *more)
        return json.loads(outcome.out)["sample"]["content_hash"], json.loads(outcome.out)["distributions"]["margin"]

    assert margins() == margins()
    assert margins() != margins("--seed", "1")


def test_all_examples_without_samples(bitcert, network, unpictured):
    for more in ((), ("--samples", "9999")):
        outcome = bitcert("measure", "nets:mlp", "--data", "toy.npz", "--quantities", "margin", "--json", *more)
        assert json.loads(outcome.out)["sample"]["measured"] == 400
        assert json.loads(outcome.out)["sample"]["name"] == "toy.npz"
    outcome = bitcert("measure", "nets:mlp", "--data", "toy.npz", "--quantities", "margin", "--json", "--samples", "1")
    assert outcome.code == 0, "a single example has a single class, and can be measured"


def test_settings_reach_the_measurement(bitcert, network, unpictured):
    outcome = bitcert(
        *("measure", "nets:mlp", *QUICK, "--json", "--exact", "--zeta", "0.1", "--noise", "0.1,0.3"),
        *("--draws", "2", "--projections", "5", "--batch-size", "7"),
    )
    settings = json.loads(outcome.out)["settings"]
    expected = {"exact": True, "zeta": 0.1, "noise_levels": [0.1, 0.3], "draws": 2, "projections": 5, "batch_size": 7}
    assert settings.items() >= expected.items()
    outcome = bitcert("measure", "nets:mlp", *QUICK, "--json", "--tolerance", "0.05")
    assert json.loads(outcome.out)["settings"]["tolerance"] == 0.05


def test_initial_weights_stand_beside(bitcert, network, unpictured):
    state = {"0.weight": torch.ones(6, 2), "0.bias": torch.zeros(6), "2.weight": torch.ones(5, 6)}
    state |= {"2.bias": torch.zeros(5), "4.weight": torch.ones(2, 5), "4.bias": torch.zeros(2)}
    save_file(state, network / "start.safetensors")
    outcome = bitcert("measure", "nets:mlp", *QUICK, "--init", "start.safetensors", "--json")
    assert outcome.code == 0, outcome.err
    content = json.loads(outcome.out)
    assert content["twin"]["layers"][0]["frobenius"] == pytest.approx(12**0.5)
    assert content["layers"][0]["distance_frobenius"] > 0


def test_a_profile_in_the_report_of_a_certificate(bitcert, network, unpictured):
    assert bitcert("measure", "nets:mlp", *QUICK).code == 0
    arguments = ("certify", "--data", "toy.npz", "--budget", "0.01", "--profile", "measured/profile.json")
    assert bitcert(*arguments).code == 0
    page = (network / "out" / "report.html").read_text()
    assert "Why it could be compressed" in page
    assert "nets:mlp" in page
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0


# Refusals: one sentence, exit code 2, nothing written


def test_an_opaque_network_is_refused_with_the_reason(refused):
    sentence = refused("measure", "nets:guarded", *QUICK, says="a network whose layers can be seen")
    assert "cannot be captured" in sentence
    assert "torch.export" in sentence


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--samples", "0"], "--samples"),
        (["--samples", "-3"], "--samples"),
        (["--exact", "--tolerance", "0.1"], "--exact or --tolerance"),
        (["--tolerance", "0"], "tolerance"),
        (["--tolerance", "nan"], "tolerance"),
        (["--zeta", "1"], "zeta"),
        (["--zeta", "-0.1"], "zeta"),
        (["--noise", ""], "noise levels"),
        (["--noise", "0.1,x"], "--noise"),
        (["--noise", "0"], "noise levels"),
        (["--draws", "0"], "draws"),
        (["--projections", "0"], "projections"),
        (["--batch-size", "0"], "batch_size"),
        (["--quantities", "margn"], "did you mean 'margin'"),
        (["--init", "w.pt", "--random-init"], "--init or --random-init"),
        (["--init", "gone.pt"], "gone.pt"),
        (["--weights", "gone.pt"], "gone.pt"),
        (["--seed", "-1"], "seed"),
        (["--data", "gone.npz"], "gone.npz"),
        (["--classes", "9"], "9 outputs"),
        (["--mean", "0.5"], "as many channel means"),
        (["--out", "."], "the current folder"),
        (["--device", "tpu"], "tpu"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be(refused, options, says):
    refused("measure", "nets:mlp", *QUICK, *options, says=says)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(refused):
    refused("measure", "nets:mlp", *QUICK, "--device", "cuda", says="CUDA device")


def test_models_that_cannot_be(refused):
    refused("measure", "nets:gone", *QUICK, says="nets:gone")
    refused("measure", "gone.pt2", *QUICK, says="gone.pt2")
    refused("measure", "nets:wide", *QUICK, says="2 outputs")


def test_neither_verb_replaces_the_others_folder(bitcert, network, refused, unpictured):
    assert bitcert("measure", "nets:mlp", *QUICK, "--out", "both").code == 0
    refused("certify", "--data", "toy.npz", "--out", "both", says="the result of another command")
    assert bitcert("certify", "--data", "toy.npz", "--budget", "0.01", "--out", "proved").code == 0
    refused("measure", "nets:mlp", *QUICK, "--out", "proved", says="the result of another command")
    assert bitcert("measure", "nets:mlp", *QUICK, "--out", "both").code == 0, "its own it may replace"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff\xfe", b'{"format":"bitcert-profile-1"}', b'{"format":"bitcert-profile-2"}', b"[" * 100_000],
)
def test_a_profile_that_is_none(refused, network, content):
    (network / "p.json").write_bytes(content)
    refused("certify", "--data", "toy.npz", "--profile", "p.json", says="profile.json")


def test_a_profile_that_is_not_there(refused):
    refused("certify", "--data", "toy.npz", "--profile", "gone.json", says="gone.json")


# Interruption


def test_an_interrupted_run_goes_on_from_its_shards(bitcert, network, unpictured, monkeypatch):
    from bitcert.stability import measurement
    from bitcert.stability.producers import SamplePass

    arguments = ("measure", "nets:mlp", "--data", "toy.npz", "--quantities", "margin", "--batch-size", "100", "--json")
    whole = bitcert(*arguments, "--out", "whole").out
    assert bitcert(*arguments, "--samples", "10").code == 0
    previous = {path.name: path.read_bytes() for path in (network / "measured").iterdir()}
    computed = []
    plan, compute = measurement.plan_measure, SamplePass.arrays

    def small(*given):
        return replace(plan(*given), shard_size=100)

    def counted(run, start, *rest):
        computed.append(start)
        if start == 200 and computed.count(200) == 1:
            raise KeyboardInterrupt
        return compute(run, start, *rest)

    monkeypatch.setattr(measurement, "plan_measure", small)
    monkeypatch.setattr(SamplePass, "arrays", counted)
    outcome = bitcert(*arguments)
    assert outcome.code == 130
    assert "go on" in outcome.err
    assert {path.name: path.read_bytes() for path in (network / "measured").iterdir()} == previous
    assert len(list((network / SHARDS).iterdir())) == 2
    outcome = bitcert(*arguments)
    assert outcome.code == 0, outcome.err
    assert computed == [0, 100, 200, 200, 300], "finished shards were used"
    assert outcome.out == whole
    assert not (network / SHARDS).exists()
