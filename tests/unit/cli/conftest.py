"""The program run inside the test, in an empty folder of its own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from markupsafe import Markup

from bitcert.cli import main
from bitcert.report.model import Picture


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a run."""

    code: int
    out: str
    err: str

    @property
    def failures(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("bitcert: ")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; modules made in it are forgotten afterwards."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path, modules = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def bitcert(here, capsys) -> Callable[..., Outcome]:
    """``bitcert("certify", "--data", path)`` runs the program and tells exit code, stdout and stderr."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def drawn():
    """Asked for by tests whose pages have their pictures; elsewhere none are drawn, which takes time."""


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(Picture, "svg", property(lambda picture: Markup("")))


@pytest.fixture
def toy_data(here):
    """``toy.npz`` with 400 noisy half planes, [2], two classes."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 2)).astype(np.float32)
    labels = (inputs[:, 0] + 0.1 * rng.normal(size=400) > 0).astype(np.int64)
    np.savez(here / "toy.npz", x=inputs, y=labels)
    return "toy.npz"


@pytest.fixture
def refused(bitcert, here) -> Callable[..., str]:
    """Run and check what holds of every refusal: one sentence, exit code 2, nothing written; returns the sentence."""

    def files():
        return {path for path in here.rglob("*") if "__pycache__" not in str(path)}

    def run(*arguments: object, says: str = "") -> str:
        before = files()
        outcome = bitcert(*arguments)
        assert outcome.code == 2
        assert outcome.out == ""
        assert len(outcome.failures) == 1
        assert outcome.err.endswith(outcome.failures[0] + "\n")
        assert says in outcome.failures[0]
        assert len(outcome.failures[0]) < 600
        assert files() == before, "something was written"
        return outcome.failures[0]

    return run
