"""Networks as people write them, through every verb: each works, or ends with one sentence and exit code 2.

What is drawn is left out here (figures have their own tests); time is counted in looks at the clock.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bitcert.cli import bounds, certify, measure
from bitcert.errors import CaptureError

from .zoo import CLASSES, ZOO

capturing = importlib.import_module("bitcert.network.capturing")
SHAPES = {"image": (1, 8, 8), "vector": (10,), "sequence": (20,), "tokens": (6,)}
SHORT = ("--budget", "0.5", "--classes", str(CLASSES))
VERBS = {
    "check": ("check",),
    "measure": ("measure", "--samples", "6", "--classes", str(CLASSES), "--out", "out"),
    "bounds": ("bounds", "--no-profile", "--no-flatness", "--margin-quantile", "0.9", "--out", "out"),
    "compress": ("compress", "--codec", "quantise", "--out", "out"),
    "certify": ("certify", *SHORT),
    "search": ("certify", *SHORT, "--effort", "quick"),
    "prior part": ("certify", *SHORT, "--prior-split", "0.5"),
    "original": ("certify", *SHORT, "--unlabelled", "new.npz"),
}
NEED_LAYERS = ("measure", "bounds", "compress", "prior part")
OPAQUE = (
    "layers can be seen|layers can be captured|mixes samples of a batch|for any batch size|supported operations|"
    "export accepts"
)
NO_LAYER = "a linear or convolution layer"
REFUSED = {
    ("Functional", "measure"): NO_LAYER,
    ("Functional", "bounds"): NO_LAYER,
    # pixels from 0 to 1 are all token 0, so that its logits are the same for all
    ("NoParameters", "measure"): NO_LAYER,
    ("NoParameters", "bounds"): NO_LAYER,
    ("NoParameters", "prior part"): "does not require grad",
    ("Frozen", "prior part"): "does not require grad",
    ("OnlyEvaluates", "prior part"): "NotImplementedError: no training here on a batch of 24",
    ("Attention", "compress"): "a coarser quantiser",
    ("SmallBatches", "check"): "",
    **{("SmallBatches", verb): "captured|seen|export" for verb in NEED_LAYERS},
    **{(name, "prior part"): "export|batch size" for name in ("EvenBatches", "NoSingles")},
}
"""What is refused of a network that is otherwise taken, and in which words; empty for what works all the same."""
OTHERS_CERTIFIED = {("SmallBatches", "certify"), ("SmallBatches", "search")}
"""Where the network's own refusal is told beside the certificate of another option."""


def samples(kind: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Examples of three classes that can be told apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    spread = labels.reshape(-1, *(1,) * len(SHAPES[kind]))
    if kind in ("image", "tokens"):
        inputs = (rng.integers(0, 4, (count, *SHAPES[kind])) + 3 * spread).astype(np.uint8)
    else:
        inputs = (rng.normal(size=(count, *SHAPES[kind])) + spread).astype(np.float32)
    return {"x": inputs, "y": labels}


@pytest.fixture(scope="module")
def exported():
    """``torch.export`` of the same module with the same values is done once: it takes most of the time here."""
    export_once = capturing._export
    found = {}

    def export(module, example):
        digest = hashlib.sha256(repr((type(module).__name__, example.shape, example.dtype)).encode())
        for name, value in module.state_dict().items():
            digest.update(name.encode() + value.numpy().tobytes())
        key = digest.hexdigest()
        if key not in found:
            try:
                found[key] = export_once(module, example)
            except CaptureError as error:
                found[key] = error
        if isinstance(found[key], CaptureError):
            raise CaptureError(found[key].expected, found[key].got, found[key].do)
        return found[key]

    return export


@pytest.fixture(scope="module")
def decomposed():
    """So is what torch decomposes such a program into."""
    decompose_once = capturing._decomposed
    found = {}

    def decompose(program):
        key = id(program.exported)
        if key not in found:
            found[key] = decompose_once(program), program.exported
        return found[key][0]

    return decompose


@pytest.fixture
def folder(here, monkeypatch, ticking, exported, decomposed):
    """A user's folder with the module; nothing is drawn, and a budget is a number of steps."""
    shutil.copy(Path(__file__).with_name("zoo.py"), here / "zoo.py")
    monkeypatch.setattr(measure, "stability_files", lambda profile: {})
    monkeypatch.setattr(bounds, "bounds_files", lambda table: {})
    monkeypatch.setattr(certify, "render_report", lambda *facts: "")
    monkeypatch.setattr(capturing, "_export", exported)
    monkeypatch.setattr(capturing, "_decomposed", decomposed)
    ticking(0.05)
    return here


@pytest.fixture
def run(bitcert, folder):
    """The program, with the same random weights of a factory each time."""

    def start(*arguments):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return bitcert(*arguments)

    return start


def expected(name: str, verb: str) -> str:
    """Words of the refusal, or nothing."""
    if (name, verb) in REFUSED:
        return REFUSED[name, verb]
    becomes = ZOO[name][1]
    if becomes == "opaque":
        return OPAQUE * (verb in NEED_LAYERS)
    return "" if becomes == "captured" else becomes


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ZOO)
def test_it_works_or_ends_with_one_sentence(run, folder, name, verb):
    kind = ZOO[name][0]
    np.savez(folder / "data.npz", **samples(kind, 48, 1))
    np.savez(folder / "new.npz", **samples(kind, 30, 2))
    before = {path.name for path in folder.iterdir()} | {"__pycache__"}
    model, data = f"zoo:{name}", ("--data", "data.npz")
    command, *options = VERBS[verb]
    outcome = run(command, model, *data, *options)
    words = expected(name, verb)
    told_beside = (name, verb) in OTHERS_CERTIFIED
    assert outcome.code == (2 if words and not told_beside else 0), outcome.err
    if told_beside:
        (told,) = (line for line in outcome.err.splitlines() if "nothing was certified of its weights" in line)
        assert words in told
        assert "File " not in outcome.err
        assert run("verify", "out/certificate.json", *data).code == 0
    elif words:
        assert len(outcome.failures) == 1
        assert any(part in outcome.failures[0] for part in words.split("|"))
        assert "File " not in outcome.err, "nothing that torch says beside the sentence"
        left = {path.name for path in folder.iterdir()} - before
        assert all(name.startswith(".out.") for name in left), "nothing was written but what a rerun goes on from"
    elif verb == "check":
        seen = "Captured" if ZOO[name][1] == "captured" else "It can be certified as an opaque module"
        assert seen in outcome.out
    elif command == "certify":
        original = ("--original", model, "--unlabelled", "new.npz") if verb == "original" else ()
        verified = run("verify", "out/certificate.json", *data, "--model", model, *original)
        assert verified.code == 0, verified.out
