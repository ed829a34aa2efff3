"""``bitcert bounds`` as a user meets it: what it writes and prints, what it refuses, several runs as a series."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from bitcert.folder import BOUNDS_FILES, SERIES_FILES
from bitcert.theory.table import BoundTable

from ..report.bounds_fakes import make_usual

MODULE = """
import torch
from torch import nn

def mlp():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.zero_()
            layer.bias.zero_()
        net[0].weight[0, 0], net[0].weight[1, 0] = 1.0, -1.0
        net[2].weight[0, 0], net[2].weight[1, 1] = 1.0, 1.0
        net[4].weight[1, 0], net[4].weight[0, 1] = 1.0, 1.0
    return net

class Guarded(nn.Sequential):
    def forward(self, x):
        if float(x.abs().max()) > 1e6:
            raise ValueError("not one of these")
        return super().forward(x)

def guarded():
    return Guarded(nn.Linear(2, 2))
"""
QUICK = ("--data", "toy.npz", "--margin-quantile", "0.5", "--no-profile", "--no-flatness")
SHARDS = ".bounds-out.shards"

pytestmark = pytest.mark.usefixtures("network")


@pytest.fixture
def network(here, toy_data):
    (here / "nets.py").write_text(MODULE)
    return here


@pytest.fixture
def unpictured(monkeypatch):
    """No pictures, where a test is not about them."""
    monkeypatch.setattr("bitcert.report.bounds.display._drawings", lambda table, certified=None: [])


@pytest.fixture
def faked(monkeypatch, unpictured):
    """The verb replaced by a table made by hand; what it was given is kept."""
    given = {}

    def fake(network, sample, settings=None, **more):
        given.update(more, settings=settings)
        return make_usual()

    monkeypatch.setattr("bitcert.cli.bounds.bounds", fake)
    return given


def table_in(folder) -> BoundTable:
    return BoundTable.from_json((folder / "bounds.json").read_text())


def test_it_writes_table_figures_and_page(bitcert, network, drawn):
    outcome = bitcert("bounds", "nets:mlp", *QUICK)
    assert outcome.code == 0, outcome.err
    written = {path.name for path in (network / "bounds-out").iterdir()}
    assert {"bounds.json", "report.html", "bounds.svg"} <= written <= BOUNDS_FILES
    table = table_in(network / "bounds-out")
    assert table.network["name"] == "nets:mlp"
    assert table.sample["num_samples"] == 400
    assert table.layers == (("0.weight", 12), ("2.weight", 30), ("4.weight", 10))
    for row in table.rows:
        assert (row.value is None and row.log10 is None) <= bool(row.why), row.name
    assert "Plan: 400 samples; noise stability left out; flatness left out" in outcome.err
    assert "no --weights given" in outcome.err
    assert "* guarantee: proved" in " ".join(outcome.out.split())
    assert "Results: bounds-out/report.html, bounds-out/bounds.json" in outcome.out
    assert not (network / SHARDS).exists()


def test_json_is_a_list_of_rows_and_nothing_else(bitcert, network, unpictured):
    outcome = bitcert("bounds", "nets:mlp", *QUICK, "--json", "--out", "other")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)
    assert isinstance(rows, list)
    assert rows == json.loads(table_in(network / "other").rows_json())
    for row in rows:
        assert {"name", "source", "kind", "value", "log10", "applies", "why"} <= set(row)
    missing = {row["name"]: row["why"] for row in rows if row["log10"] is None and row["value"] is None}
    assert any(why.startswith("needs --init") for why in missing.values())
    assert any(why.startswith("needs a profile") for why in missing.values())


def test_initial_weights_and_held_out_labels(bitcert, network, unpictured):
    state = {"0.weight": torch.ones(6, 2), "0.bias": torch.zeros(6), "2.weight": torch.ones(5, 6)}
    state |= {"2.bias": torch.zeros(5), "4.weight": torch.ones(2, 5), "4.bias": torch.zeros(2)}
    save_file(state, network / "start.safetensors")
    import numpy as np

    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(100, 2)).astype(np.float32)
    np.savez(network / "held.npz", x=inputs, y=(inputs[:, 0] > 0).astype(np.int64))
    outcome = bitcert("bounds", "nets:mlp", *QUICK, "--init", "start.safetensors", "--holdout", "held.npz", "--json")
    assert outcome.code == 0, outcome.err
    assert not [row for row in json.loads(outcome.out) if row["why"].startswith("needs --init")]
    table = table_in(network / "bounds-out")
    assert table.holdout["samples"] == 100
    assert table.gap is not None


def test_options_reach_the_verb(bitcert, network, faked):
    options = ("--gamma", "0.25", "--delta", "0.1", "--zeta", "0.02", "--seed", "7", "--profile-samples", "50")
    outcome = bitcert("bounds", "nets:mlp", "--data", "toy.npz", *options, "--json")
    assert outcome.code == 0, outcome.err
    settings = faked["settings"]
    assert (settings.gamma, settings.delta, settings.zeta, settings.seed) == (0.25, 0.1, 0.02, 7)
    assert (settings.profile, settings.profile_samples, settings.flatness) == (True, 50, True)
    assert "noise stability measured on 50 of them in about" in outcome.err
    assert (faked["init"], faked["profile"], faked["holdout"], faked["messages"]) == (None, None, None, ())
    assert faked["folder"].name == SHARDS
    assert bitcert("bounds", "nets:mlp", *QUICK).code == 0
    assert (faked["settings"].profile, faked["settings"].flatness) == (False, False)
    assert faked["settings"].margin_quantile == 0.5


def test_a_profile_is_read(bitcert, network, faked, monkeypatch):
    monkeypatch.setattr("bitcert.report.stability.display._drawings", lambda profile, overviews: ())
    monkeypatch.setattr("bitcert.report.stability.display._overviews", lambda profile: ())
    assert bitcert("measure", "nets:mlp", "--data", "toy.npz", "--quantities", "layer_cushion").code == 0
    outcome = bitcert("bounds", "nets:mlp", "--data", "toy.npz", "--profile", "measured/profile.json")
    assert outcome.code == 0, outcome.err
    assert faked["profile"].sample["measured"] == 400
    assert "noise stability taken from --profile" in outcome.err


def test_certificates_of_this_sample_beside_the_weights_are_found(bitcert, network, faked):
    state = {"0.weight": torch.ones(6, 2), "0.bias": torch.zeros(6), "2.weight": torch.ones(5, 6)}
    state |= {"2.bias": torch.zeros(5), "4.weight": torch.ones(2, 5), "4.bias": torch.zeros(2)}
    (network / "run").mkdir()
    save_file(state, network / "run" / "w.safetensors")
    assert bitcert("certify", "--data", "toy.npz", "--budget", "0.01", "--out", "run/proved").code == 0
    (network / "run" / "broken").mkdir()
    (network / "run" / "broken" / "certificate.json").write_text("{}")
    weights = ("--weights", "run/w.safetensors")
    outcome = bitcert("bounds", "nets:mlp", *QUICK, *weights)
    assert outcome.code == 0, outcome.err
    assert [str(path) for path in faked["messages"]] == ["run/proved/certificate.json"]
    assert "certificates: run/proved/certificate.json" in outcome.err
    assert bitcert("bounds", "nets:mlp", *QUICK, *weights, "--no-certificates").code == 0
    assert faked["messages"] == ()
    assert bitcert("bounds", "nets:mlp", *QUICK, *weights, "--certificates", "run/broken, run/proved").code == 0
    assert [str(path) for path in faked["messages"]] == ["run/broken", "run/proved"], "as named"


def test_certificates_that_are_left_out_are_counted(bitcert, network, faked, monkeypatch):
    state = {"0.weight": torch.ones(6, 2), "0.bias": torch.zeros(6), "2.weight": torch.ones(5, 6)}
    state |= {"2.bias": torch.zeros(5), "4.weight": torch.ones(2, 5), "4.bias": torch.zeros(2)}
    save_file(state, network / "w.safetensors")
    arguments = ("bounds", "nets:mlp", *QUICK, "--weights", "w.safetensors")
    for name in ("a", "b", "c"):
        assert bitcert("certify", "--data", "toy.npz", "--budget", "0.01", "--out", name).code == 0
    assert "certificates of this sample beside" not in bitcert(*arguments).err
    assert len(faked["messages"]) == 3
    monkeypatch.setattr("bitcert.cli.bounds.MOST_CERTIFICATES", 1)
    outcome = bitcert(*arguments)
    assert [str(path) for path in faked["messages"]] == ["a/certificate.json"]
    assert "3 certificates of this sample" in outcome.err
    assert "the first 1 by name are taken, 2 left out" in outcome.err.replace("\n", " ")


def test_a_message_gets_its_row(bitcert, network, unpictured):
    assert bitcert("certify", "--data", "toy.npz", "--budget", "0.01", "--out", "proved").code == 0
    outcome = bitcert("bounds", "nets:mlp", *QUICK, "--certificates", "proved", "--json")
    assert outcome.code == 0, outcome.err
    assert [row for row in json.loads(outcome.out) if row["kind"] == "guarantee" and row["value"] is not None]


def test_bounds_in_the_report_of_a_certificate(bitcert, network, unpictured):
    assert bitcert("bounds", "nets:mlp", *QUICK).code == 0
    arguments = ("certify", "--data", "toy.npz", "--budget", "0.01", "--bounds", "bounds-out/bounds.json")
    outcome = bitcert(*arguments)
    assert outcome.code == 0, outcome.err
    page = (network / "out" / "report.html").read_text()
    assert "What other bounds say" in page
    assert "ANOTHER network" in page, "the built-in network is not nets:mlp"
    assert "--bounds is of another network" in outcome.err


# Series


def write_tables(here, count=3):
    names = []
    for k in range(count):
        table = make_usual()
        table = replace(table, network={**table.network, "width": 100 * (k + 1)})
        (here / f"run{k}").mkdir()
        (here / f"run{k}" / "bounds.json").write_text(table.to_json())
        names.append(f"run{k}/bounds.json")
    return ",".join(names)


def test_a_series_of_runs(bitcert, here):
    outcome = bitcert("bounds", "--series", write_tables(here))
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (here / "series-out").iterdir()} == SERIES_FILES
    assert "3 networks against width." in outcome.out
    content = json.loads((here / "series-out" / "series.json").read_text())
    assert [row["at"] for row in content] == [100.0, 200.0, 300.0]


def test_a_series_over_epochs_as_json(bitcert, here):
    outcome = bitcert("bounds", "--series", write_tables(here), "--over", "epoch", "--at", "9,1,5", "--json")
    assert outcome.code == 0, outcome.err
    assert [(row["over"], row["at"]) for row in json.loads(outcome.out)] == [("epoch", 1), ("epoch", 5), ("epoch", 9)]


# Refusals: one sentence, exit code 2, nothing written


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gamma", "0.1"], "--gamma or --margin-quantile"),
        (["--margin-quantile", "0"], "margin_quantile"),
        (["--margin-quantile", "nan"], "margin_quantile"),
        (["--delta", "0"], "delta"),
        (["--delta", "1"], "delta"),
        (["--zeta", "1"], "zeta"),
        (["--seed", "-1"], "seed"),
        (["--profile-samples", "0"], "profile_samples"),
        (["--profile", "p.json"], "--profile or --no-profile"),
        (["--certificates", "x", "--no-certificates"], "--certificates or --no-certificates"),
        (["--certificates", "gone"], "gone"),
        (["--init", "gone.pt"], "gone.pt"),
        (["--weights", "gone.pt"], "gone.pt"),
        (["--holdout", "gone.npz"], "gone.npz"),
        (["--holdout", "toy.npz"], "toy.npz"),
        (["--data", "gone.npz"], "gone.npz"),
        (["--classes", "9"], "9 outputs"),
        (["--out", "."], "the current folder"),
        (["--device", "tpu"], "tpu"),
        (["--series", "a.json"], "a model or --series"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be(refused, options, says):
    refused("bounds", "nets:mlp", *QUICK, *options, says=says)


@pytest.mark.parametrize("gamma", ["0", "-1", "nan", "inf", "1e30"])
def test_margins_that_cannot_be(refused, gamma):
    options = ("--data", "toy.npz", "--no-profile", "--no-flatness")
    refused("bounds", "nets:mlp", *options, "--gamma", gamma, says="gamma" if gamma != "1e30" else "margin")


def test_models_that_cannot_be(refused):
    refused("bounds", says="a model")
    refused("bounds", "nets:gone", *QUICK, says="nets:gone")
    refused("bounds", "gone.pt2", *QUICK, says="gone.pt2")
    refused("bounds", "nets:guarded", *QUICK, says="a network whose layers can be seen")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff\xfe", b'{"format":"bitcert-bounds-1"}', b'{"format":"bitcert-bounds-2"}', b"[" * 100_000],
)
def test_files_that_are_no_bounds(refused, network, content):
    (network / "b.json").write_bytes(content)
    refused("bounds", "--series", "b.json,b.json", says="bounds.json")
    refused("certify", "--data", "toy.npz", "--bounds", "b.json", says="bounds.json")


def test_series_that_cannot_be(refused, network):
    names = write_tables(network)
    refused("bounds", "--series", "gone/bounds.json,gone/bounds.json", says="gone/bounds.json")
    refused("bounds", "--series", "run0/bounds.json", says="2 to 200 tables")
    refused("bounds", "--series", names, "--over", "epoch", says="values for 'epoch'")
    refused("bounds", "--series", names, "--over", "epoch", "--at", "1,2", says="3 finite numbers")
    refused("bounds", "--series", names, "--at", "1,2,x", says="--at")


def test_neither_verb_replaces_the_others_folder(bitcert, network, refused, faked):
    assert bitcert("bounds", "nets:mlp", *QUICK, "--out", "both").code == 0
    refused("certify", "--data", "toy.npz", "--out", "both", says="the result of another command")
    assert bitcert("bounds", "nets:mlp", *QUICK, "--out", "both").code == 0, "its own it may replace"


def test_an_interrupted_run_leaves_what_was_there(bitcert, network, faked, monkeypatch):
    assert bitcert("bounds", "nets:mlp", *QUICK).code == 0
    before = {path.name: path.read_bytes() for path in (network / "bounds-out").iterdir()}

    def interrupted(*given, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("bitcert.cli.bounds.bounds", interrupted)
    outcome = bitcert("bounds", "nets:mlp", *QUICK)
    assert outcome.code == 130
    assert {path.name: path.read_bytes() for path in (network / "bounds-out").iterdir()} == before
