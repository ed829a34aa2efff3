"""``bitcert predict``: what was certified answers on new data, in the user's own words."""

import csv

import numpy as np
import pytest

from bitcert import load


@pytest.fixture
def table(here):
    def rows(seed, label=True, order=(0, 1, 2)):
        rng = np.random.default_rng(seed)
        lines = [["delay", "hour", "late"]]
        for _ in range(200):
            delay = rng.normal()
            lines.append([f"{delay:.5f}", str(rng.integers(24)), "yes" if delay > 0.25 else "no"])
        return "".join(",".join(line[k] for k in order if label or k != 2) + "\n" for line in lines)

    (here / "t.csv").write_text(rows(1))
    (here / "new.csv").write_text(rows(2, label=False))
    (here / "truth.csv").write_text(rows(2))
    (here / "turned.csv").write_text(rows(2, order=(2, 1, 0)))
    (here / "s.json").write_text('{"columns": [{"name": "delay"}, {"name": "hour"}]}')
    return here


def classes(text):
    header, *rows = csv.reader(text.splitlines())
    assert header == ["class"]
    return [row[0] for row in rows]


def test_a_table_is_answered_in_the_names_of_its_classes(bitcert, table):
    made = bitcert("certify", "--data", "t.csv", "--label", "late", "--class-names", "no,yes", "--budget", 2)
    assert made.code == 0, made.err
    (table / "t.csv").unlink()
    outcome = bitcert("predict", "out", "--data", "new.csv")
    assert outcome.code == 0
    assert "With 95 % confidence this classifier is wrong on at most" in outcome.err
    truth = [line.rpartition(",")[2] for line in (table / "truth.csv").read_text().splitlines()[1:]]
    found = classes(outcome.out)
    assert set(found) == {"no", "yes"}
    assert np.mean([a != b for a, b in zip(found, truth, strict=True)]) < load(table / "out").certificate.bound
    assert bitcert("predict", "out/certificate.json", "--data", "truth.csv").out == outcome.out
    assert bitcert("predict", "out", "--data", "turned.csv").out == outcome.out, "columns in another order"


def test_a_schema_finds_the_columns_in_any_order(bitcert, table, refused):
    options = ("--label", "late", "--class-names", "no,yes", "--schema", "s.json")
    assert bitcert("certify", "--data", "t.csv", *options, "--budget", 2).code == 0
    says = "expected the schema that the data were certified with"
    refused("predict", "out", "--data", "turned.csv", says=says)
    one = bitcert("predict", "out", "--data", "new.csv", "--schema", "s.json")
    other = bitcert("predict", "out", "--data", "turned.csv", "--schema", "s.json")
    assert one.code == other.code == 0
    assert classes(one.out) == classes(other.out)


def test_classes_go_to_a_file(bitcert, toy_data, here):
    assert bitcert("certify", "--data", toy_data, "--budget", 0.5).code == 0
    printed = bitcert("predict", "out", "--data", toy_data)
    assert set(classes(printed.out)) == {"0", "1"}
    written = bitcert("predict", "out", "--data", toy_data, "--out", "found.csv")
    assert written.out == ""
    assert (here / "found.csv").read_text() == printed.out
    assert sorted(path.name for path in here.iterdir()) == ["found.csv", "out", "toy.npz"]


def test_an_opaque_network_runs_only_code_that_is_named(bitcert, toy_data, here, refused):
    (here / "own.py").write_text(
        "import torch\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner = torch.nn.Linear(2, 2)\n"
        "    def forward(self, x):\n"
        "        return self.inner(x) if x.sum().item() > 0 else self.inner(x)\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return Own()\n"
    )
    made = bitcert("certify", "own:make", "--data", toy_data, "--budget", 3, "--classes", 2)
    assert made.code == 0, made.err
    says = "the network is the Python code 'own:make'; to run it, pass it with --model"
    refused("predict", "out-weights", "--data", toy_data, says=says)
    outcome = bitcert("predict", "out-weights", "--data", toy_data, "--model", "own:make")
    assert outcome.code == 0
    assert len(classes(outcome.out)) == 400


def test_refusals_are_one_sentence(bitcert, toy_data, refused):
    refused("predict", "nowhere", "--data", toy_data, says="cannot be read")
    assert bitcert("certify", "--data", toy_data, "--budget", 0.5).code == 0
    refused("predict", "out", "--data", "digits", says="a split that digits has")
    np.savez("wide.npz", x=np.zeros((3, 5), np.float32))
    refused("predict", "out", "--data", "wide.npz", says="expected inputs of shape [2], got shape [5]")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--check", "a.onnx", "--data", "toy.npz"), "--data or --check"),
        (("--check", "a.onnx", "--out", "b.onnx"), "--out or --check"),
        (("--to", "hub", "--check", "a"), "a file of one format to --check"),
        (("--to", "hub", "--data", "toy.npz"), "--data or --to hub"),
        (("--to", "hub", "--push", "me/x", "--out", "b"), "--out or --push"),
        (("--to", "state_dict", "--data", "toy.npz"), "--data or --to state_dict"),
        (("--push", "me/x"), "--push with --to hub"),
        (("--to", "tflite"), "'state_dict', 'hub'"),
    ],
)
def test_options_of_export_that_would_be_ignored_are_refused(refused, options, says):
    refused("export", "out", *options, says=says)
