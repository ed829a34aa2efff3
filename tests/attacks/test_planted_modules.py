"""Files named like modules in the working folder: a verb that is run there imports none that the user did not name."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

PLANTED = ("z3", "statistics", "json", "torch", "pandas", "opt_einsum", "numba", "cupy", "evil", "accimage")
"""Of the standard library, installed, and optional ones that torch, sympy and scikit-learn try to import."""

NETWORK = """
import torch
from torch import nn
import neighbour

def net():
    import late_neighbour
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
"""

DRIVER = """
import json, sys
from bitcert.cli import main
codes = []
for arguments in json.loads(sys.argv[1]):
    before, finders = list(sys.path), list(sys.meta_path)
    try:
        main(arguments)
    except SystemExit as stop:
        codes.append(stop.code or 0)
    assert sys.path == before, "the path is as it was"
    assert sys.meta_path == finders, "and so are the finders"
print("codes", codes)
"""


@pytest.fixture
def planted(tmp_path):
    """A folder with data, a network as a factory and as a file, and modules that betray their import."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(60, 2)).astype(np.float32)
    np.savez(tmp_path / "toy.npz", x=inputs, y=(inputs[:, 0] > 0).astype(np.int64))
    np.savez(tmp_path / "new.npz", x=rng.normal(size=(40, 2)).astype(np.float32), y=np.arange(40) % 2)
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    program = torch.export.export(module, (torch.zeros(4, 2),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, tmp_path / "net.pt2")
    (tmp_path / "nets.py").write_text(NETWORK)
    for name in ("neighbour", "late_neighbour"):
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w').close()\n")
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w').close()\nraise ImportError('planted')\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: module://evil\n")
    return tmp_path


def every_verb(model: str) -> list[list[str]]:
    data, short = ["--data", "toy.npz"], ["--budget", "0.2", "--classes", "2"]
    original = ["--original", model, "--unlabelled", "new.npz"]
    return [
        ["check", model, *data],
        ["measure", model, *data, "--samples", "10", "--quantities", "margin", "--out", "measured"],
        ["compress", model, *data, "--codec", "quantise", "--out", "compressed"],
        ["compare", model, *data, "--codecs", "quantise", "--strengths", "1", "--out", "compared"],
        ["bounds", model, *data, "--no-profile", "--no-flatness", "--gamma", "0.05", "--out", "bounded"],
        ["certify", model, *data, *short, "--out", "certified"],
        ["certify", model, *data, *short, "--unlabelled", "new.npz", "--out", "original"],
        ["verify", "certified/certificate.json", *data],
        ["verify", "original/certificate.json", *data, *original],
    ]


@pytest.mark.parametrize("model", ["net.pt2", "nets:net"])
def test_no_verb_imports_what_lies_in_the_working_folder(planted, model):
    verbs = every_verb(model)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", DRIVER, json.dumps(verbs)]
    found = subprocess.run(command, cwd=planted, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == f"codes {[0] * len(verbs)}", found.stderr
    ran = {path.name for path in planted.iterdir() if path.name.startswith("ran-")}
    assert ran == ({"ran-neighbour", "ran-late_neighbour"} if model == "nets:net" else set())
