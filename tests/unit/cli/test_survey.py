"""``bitcert survey`` as a user meets it: a folder of weights or models, hyperparameters, files, refusals."""

import csv

import numpy as np
import pytest
from safetensors.torch import save_file

from bitcert.folder import SURVEY_FILES
from bitcert.theory.survey_table import Survey

MODULE = """
import torch
from torch import nn

def mlp(width=4):
    torch.manual_seed(width)
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))
"""
QUICK = ("--model", "nets:mlp", "--data", "toy.npz", "--holdout", "held.npz")


@pytest.fixture
def checkpoints(here, toy_data):
    (here / "nets.py").write_text(MODULE)
    space = {}
    exec(MODULE, space)
    (here / "ckpt").mkdir()
    for width in (4, 8, 16, 32):
        save_file(space["mlp"](width).state_dict(), here / "ckpt" / f"width={width},kind=a_b.safetensors")
    rng = np.random.default_rng(9)
    inputs = rng.normal(size=(100, 2)).astype(np.float32)
    np.savez(here / "held.npz", x=inputs, y=(inputs[:, 0] > 0).astype(np.int64))
    return here


def test_one_command_makes_the_table_the_correlations_and_the_figures(checkpoints, bitcert):
    told = bitcert("survey", "ckpt", *QUICK, "--out", "so")
    assert told.code == 0, told.err
    assert "Plan: 4 networks, 400 samples" in told.err
    assert "4 networks" in told.out
    assert "needs --profile" in " ".join(told.out.split())
    assert {path.name for path in (checkpoints / "so").iterdir()} == SURVEY_FILES
    found = Survey.from_json((checkpoints / "so" / "survey.json").read_text())
    assert sorted(row.hyperparameters["width"] for row in found.rows) == [4, 8, 16, 32]
    assert {row.hyperparameters["kind"] for row in found.rows} == {"a_b"}
    assert sorted(row.num_parameters for row in found.rows) == [5 * width + 2 for width in (4, 8, 16, 32)]
    with open(checkpoints / "so" / "correlations.csv", newline="") as file:
        assert "granulated_width" in next(csv.reader(file))


def test_a_stray_file_does_not_take_the_hyperparameters_of_the_others(checkpoints, bitcert):
    (checkpoints / "ckpt" / "last.safetensors").write_bytes(b"no weights")
    told = bitcert("survey", "ckpt", *QUICK[:2], "--data", "toy.npz", "--json", "--measures", "parameters")
    assert told.code == 0, told.err
    assert "left out last" in told.err
    assert "no correlations by hyperparameter: last states" in " ".join(told.err.split())
    assert sorted(row.num_parameters for row in Survey.from_json(told.out).rows) == [22, 42, 82, 162]


def test_a_grid_file_names_the_hyperparameters_and_without_labels_there_is_no_gap(checkpoints, bitcert):
    rows = [f'"width={width},kind=a_b",{width / 10}' for width in (4, 8, 16, 32)]
    (checkpoints / "grid.csv").write_text("\n".join(["network,decay", *rows]))
    told = bitcert(
        "survey", "ckpt", *QUICK[:2], "--data", "toy.npz", "--grid", "grid.csv", "--json", "--measures", "parameters"
    )
    # the factory's own width does not fit the others' weights
    assert "left out width=8" in told.err
    found = Survey.from_json(told.out)
    assert [row.hyperparameters for row in found.rows] == [{"decay": 0.4}]
    assert found.holdout is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "a folder of networks"),
        (("ckpt", "--data", "toy.npz"), "name the factory of the weights with --model"),
        (("ckpt", *QUICK, "--measures", "jiang2020-l3"), "bound"),
        (("ckpt", *QUICK, "--measures", "parameters", "--profile"), "leave out one"),
        (("ckpt", *QUICK, "--grid", "nets.py"), "a column network"),
        (("ckpt", *QUICK, "--init", "here"), "initial weights in files"),
        (("ckpt", *QUICK, "--out", "ckpt"), "an empty folder or an earlier result"),
    ],
)
def test_bad_input_is_one_sentence(checkpoints, bitcert, arguments, words):
    told = bitcert("survey", *arguments)
    assert told.code == 2
    assert len(told.failures) == 1
    assert words in told.failures[0]


def test_onnx_files_are_networks_too(here, toy_data, bitcert):
    models = pytest.importorskip("tests.unit.network.onnx_models")
    (here / "nets").mkdir()
    nodes = [models.N("MatMul", ["x", "w"], ["y"])]
    for name in ("one", "two"):
        model = models.build(nodes, {"w": models.floats(2, 2)}, ["N", 2], 13)
        (here / "nets" / f"{name}.onnx").write_bytes(model.SerializeToString())
    told = bitcert("survey", "nets", "--data", toy_data, "--json", "--measures", "parameters")
    assert told.code == 0, told.err
    assert [row.num_parameters for row in Survey.from_json(told.out).rows] == [4, 4]


def test_a_survey_without_a_network_leaves_nothing_behind(checkpoints, refused):
    refused("survey", "ckpt", "--model", "nets:absent", "--data", "toy.npz", says="a network that can be measured")
