"""``bitcert certify`` as a search: efforts, the original network, prior parts, helpers, losses, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from bitcert import Run, clock
from bitcert.cli.live import LiveBoard, live_board, stopped_by_interrupt
from bitcert.search import Board, Row

MODULE = """
from torch import nn

def mlp():
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))

def three():
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))

def quarter(logits, labels):
    return 0.25 * (logits.argmax(1) != labels)
"""

STATE = {
    "0.weight": torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
    "0.bias": torch.zeros(4),
    "2.weight": torch.tensor([[-1.0, 1.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.0]]),
    "2.bias": torch.zeros(2),
}
SHORT = ("--budget", "0.2", "--classes", "2", "--json")
MODEL = ("nets:mlp", "--weights", "weights.safetensors")


@pytest.fixture
def network(here, toy_data):
    """A network, its weights, and unlabelled points that were used for nothing else."""
    (here / "nets.py").write_text(MODULE)
    save_file(STATE, here / "weights.safetensors")
    rng = np.random.default_rng(11)
    np.savez(here / "new.npz", x=rng.normal(size=(300, 2)).astype(np.float32), y=np.arange(300) % 2)
    return here


def certify(bitcert, *arguments):
    outcome = bitcert("certify", *arguments, "--data", "toy.npz", *SHORT)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out), outcome


def test_an_effort_searches_and_can_be_prolonged(bitcert, here, toy_data):
    first, outcome = certify(bitcert, "--effort", "quick")
    assert "Trying: decision tree, sum of votes, bank head" in outcome.err
    assert "best so far" in outcome.err
    assert (here / ".out.search").is_dir()
    again, _ = certify(bitcert, "--effort", "thorough")
    assert again["bound"] <= first["bound"]
    assert bitcert("verify", "out/certificate.json", "--data", toy_data).code == 0
    assert "decision tree: " in (here / "out" / "report.html").read_text(), "what was tried is listed"


def test_the_original_network_is_certified(bitcert, network):
    content, _ = certify(bitcert, *MODEL, "--unlabelled", "new.npz")
    assert content["certifies"] == "original"
    assert content["original"]["unlabelled"]["samples"] == 300
    assert sum(amount for _, amount in content["delta_ledger"]) <= 0.05
    arguments = ("--data", "toy.npz", "--original", "nets:mlp", "--weights", "weights.safetensors")
    assert bitcert("verify", "out/certificate.json", *arguments, "--unlabelled", "new.npz").code == 0


def test_training_examples_as_unlabelled_ones_are_refused(bitcert, network):
    outcome = bitcert("certify", *MODEL, "--data", "toy.npz", "--unlabelled", "toy.npz", *SHORT)
    assert outcome.code == 2
    assert len(outcome.failures) == 1
    assert not (network / "out").exists()


def test_a_prior_part_trains_the_helper(bitcert, network):
    content, _ = certify(bitcert, "nets:mlp", "--prior-split", "0.5", "--prior-seed", "7")
    assert content["samples"] == 200
    assert (content["prior"]["fraction"], content["prior"]["seed"]) == (0.5, 7)
    assert content["rest"]["samples"] == 200
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0


def test_the_split_by_forecast_is_said_and_verified_like_any_other(bitcert, network):
    content, outcome = certify(bitcert, "nets:mlp", "--prior-split", "auto")
    assert content["prior"]["fraction"] == 0.5
    assert "--prior-split auto is 0.5 for 400 examples" in outcome.err


def test_public_weights_need_no_codec(bitcert, network):
    content, _ = certify(bitcert, "nets:mlp", "--helper", "weights.safetensors")
    assert content["message_bits"] == 8, "the helper network as it is"
    assert "weights" in content["helper"]
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0


def test_a_helper_network_may_be_for_other_classes(bitcert, network):
    state = STATE | {"2.weight": torch.eye(3, 4), "2.bias": torch.zeros(3)}
    save_file(state, network / "three.safetensors")
    content, _ = certify(bitcert, "nets:three", "--helper", "three.safetensors")
    assert content["bound"] < 0.5
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz").code == 0


def test_several_losses_share_one_delta(bitcert, network):
    content, _ = certify(bitcert, "--loss", "brier,margin:0.5", "--loss", "nets:quarter")
    assert [loss["name"] for loss in content["losses"]] == ["brier", "margin:0.5", "nets:quarter"]
    assert sum(amount for _, amount in content["delta_ledger"]) <= 0.05
    assert bitcert("verify", "out/certificate.json", "--data", "toy.npz", "--loss", "nets:quarter").code == 0


def test_random_labels_are_said_to_be_vacuous_or_no_better_than_guessing(bitcert, here):
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(300, 2)).astype(np.float32)
    np.savez(here / "noise.npz", x=inputs, y=rng.integers(0, 2, 300))
    outcome = bitcert("certify", "--data", "noise.npz", "--effort", "quick", "--budget", "0.2", "--classes", "2")
    assert outcome.code == 0
    content = json.loads((here / "out" / "certificate.json").read_text())
    assert content["bound"] >= 0.5
    words = " ".join(outcome.out.split())
    assert "vacuous" in words or "guess" in words


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--unlabelled", "digits"), "a model for --unlabelled"),
        (("--prior-seed", "1"), "--prior-split for --prior-seed"),
        (("--prior-split", "0.5", "--helper", "a.pt2"), "--helper or --prior-split"),
        (("a:b", "--prior-split", "0.5", "--weights", "w"), "no --weights with --prior-split"),
        (("a:b", "--prior-split", "0.5", "--codec", "svd"), "no --codec with --prior-split"),
        (("--helper", "w.safetensors"), "a model for --helper, or a .pt2 or .onnx file"),
        (("--prior-split", "1.5"), "strictly between 0 and 1"),
        (("--prior-split", "half"), "strictly between 0 and 1, or auto, got 'half'"),
        (("--prior-split", "-1"), "strictly between 0 and 1, or auto, got '-1'"),
        (("--prior-split", "nan"), "strictly between 0 and 1"),
        (("--loss", "top-99"), "fewer places than classes"),
        (("--loss", "hinge"), "hinge"),
        (("--effort", "enormous"), "enormous"),
        (("--budget", "-1", "--effort", "quick"), "--budget"),
        (("--classes", "cat,dog"), "names of classes go into --class-names or --schema"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(bitcert, here, arguments, says):
    outcome = bitcert("certify", *arguments)
    assert outcome.code == 2
    assert len(outcome.failures) == 1
    assert says in outcome.failures[0]
    assert not (here / "out").exists()


@pytest.mark.parametrize("verb", ["certify", "randomise a:b", "study arora2018.table1"])
def test_a_negative_seed_is_refused_before_any_work(bitcert, verb):
    outcome = bitcert(*verb.split(), "--seed", "-1")
    assert outcome.err == "bitcert: expected a --seed of 0 or more, got -1; give e.g. 0\n"


def test_the_first_interrupt_stops_the_run_and_the_second_one_the_program():
    before = signal.getsignal(signal.SIGINT)
    run = Run(budget_seconds=1e6)

    def interrupted_twice():
        with stopped_by_interrupt(run, Console(stderr=True)):
            os.kill(os.getpid(), signal.SIGINT)
            assert run.fraction == 1.0
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert run.stopped
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_search_writes_a_valid_certificate(bitcert, here, toy_data, monkeypatch):
    watch = LiveBoard.watch

    def interrupting(self, board):
        watch(self, board)
        if board.best is not None and not interrupted:
            interrupted.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    interrupted = []
    monkeypatch.setattr(LiveBoard, "watch", interrupting)
    outcome = bitcert("certify", "--data", toy_data, "--effort", "thorough", "--json")
    assert outcome.code == 0, outcome.err
    assert "Interrupted after" in outcome.err
    assert "same command goes on" in outcome.err
    assert json.loads(outcome.out)["bound"] < 1
    assert bitcert("verify", "out/certificate.json", "--data", toy_data).code == 0


BOARD = Board(
    (Row("bank head", "running", 3.0, 1234, 56, 0.1234), Row("linear head", "waiting"), Row("mask", "too little time")),
    12.0,
    120.0,
)


def test_without_a_terminal_the_best_so_far_is_told_in_lines(capsys):
    with live_board(Console(stderr=True, width=200)) as shown:
        shown.watch(BOARD)
        shown.watch(BOARD)
        shown.progress("bank head", 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Trying: bank head, linear head."
    told = "12 of 120 s best so far: bank head, 1,234 bits, 56 errors, bound 12.34 %"
    assert " ".join(lines[1].split()) == told
    assert len(lines) == 2, "nothing is told twice"


def test_without_a_terminal_long_work_between_two_states_is_told(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(clock, "seconds", lambda: now)
    with live_board(Console(stderr=True, width=200)) as shown:
        for now in (1.0, 100.0, 101.0):
            shown.progress("training the helper network", now / 200)
    assert capsys.readouterr().err.split() == ["100", "s", "training", "the", "helper", "network", "50%"]


def test_on_a_terminal_a_table_is_shown(capsys):
    console = Console(force_terminal=True, width=100, stderr=True)
    with live_board(console) as shown:
        shown.watch(BOARD)
        shown.progress("bank head", 0.5)
        console.print(shown._shown())
    text = capsys.readouterr().err
    for part in ("contender", "1,234", "12.34 %", "too little time", "12 of 120 s", "bank head 50%"):
        assert part in text
