"""A killed run leaves the previous output or none, and a rerun goes on from its checkpoint."""

import errno
import json
import math
import os
import signal
import subprocess
import sys

import pytest
from safetensors import safe_open

KILLED = """
import itertools, os, signal, sys
from bitcert import clock
from bitcert.cli import main
from bitcert.search import Checkpoint

looks, below, save = itertools.count(), float(sys.argv.pop(1)), Checkpoint.save


def save_and_die(self, values, tensors):
    save(self, values, tensors)
    if values["best"]["bound"] < below:
        os.kill(os.getpid(), signal.SIGKILL)


clock.seconds = lambda: next(looks) * 2.0**-9
Checkpoint.save = save_and_die
main()
"""
CHECKPOINT = ".out.checkpoint.safetensors"


def checkpoint_values(path):
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {})["values"])


def kill_during_training(folder, arguments, below):
    """Run the program, which kills itself as soon as a checkpoint holds a bound below this."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(below), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_run_is_resumed(bitcert, here):
    arguments = ["certify", "--budget", "60", "--seed", "3"]
    fresh = bitcert("certify", "--budget", "0.01", "--seed", "3", "--out", "fresh", "--json")
    first = json.loads(fresh.out)["bound"]
    kill_during_training(here, arguments, 0.99 * first)
    assert not (here / "out").exists()
    reached = checkpoint_values(here / CHECKPOINT)["best"]["bound"]
    assert reached < first

    outcome = bitcert("certify", "--budget", "0.01", "--seed", "3", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["bound"] <= reached * (1 + 1e-9), "the checkpoint was used"
    assert not (here / CHECKPOINT).exists()
    assert {path.name for path in here.iterdir()} == {"out", "fresh"}
    assert bitcert("verify", "out/certificate.json").code == 0


def test_a_killed_run_leaves_the_previous_output(bitcert, here):
    assert bitcert("certify", "--budget", "0.01").code == 0
    before = {path.name: path.read_bytes() for path in (here / "out").iterdir()}
    kill_during_training(here, ["certify", "--budget", "60", "--seed", "4"], math.inf)
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, b"\x08\0\0\0\0\0\0\0{}      "], ids=["empty", "noise", "bare"])
def test_a_damaged_checkpoint_is_ignored(bitcert, here, content):
    (here / CHECKPOINT).write_bytes(content)
    assert bitcert("certify", "--budget", "0.01").code == 0
    assert not (here / CHECKPOINT).exists()


def test_a_checkpoint_of_another_run_is_ignored(bitcert, here, toy_data, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert bitcert("certify", "--budget", "0.01").code == 2
    assert (here / CHECKPOINT).exists(), "the training is not lost with the disk full"
    assert bitcert("certify", "--budget", "0.01", "--data", toy_data).code == 0
    assert bitcert("verify", "out/certificate.json", "--data", toy_data).code == 0
