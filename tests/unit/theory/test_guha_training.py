"""The benchmark's training: an interrupted run ends where an uninterrupted one does."""

from __future__ import annotations

import json

import guha_training
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bitcert import Role, to_sample
from bitcert.random import stream


@pytest.fixture(scope="module")
def images():
    rng = stream(0, "test guha training")
    inputs = rng.integers(0, 256, size=(300, 1, 28, 28), dtype=np.uint8)
    return to_sample((inputs, rng.integers(0, 10, size=300)), Role.TRAIN)


def run(folder, images, *epochs):
    for count in epochs:
        training = guha_training.Training(folder, width=6, rate=0.01, epochs=count)
        guha_training.train(training, images, lambda line: None)
    return load_file(training.file("weights")), json.loads(training.file("log").read_text())


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, images):
    whole, log = run(tmp_path / "a", images, 3)
    parts, other = run(tmp_path / "b", images, 1, 2, 3)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert [e["loss"] for e in log] == [e["loss"] for e in other]
    assert len(log) == 3
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(list((tmp_path / "b").iterdir())) == 4  # init, weights, log, one state of Adam


def test_the_network_is_five_layers_without_biases(tmp_path):
    model = guha_training.build(784)
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert shapes == [(784, 784)] * 4 + [(10, 784)]
    assert all(abs(float(p.detach().abs().max()) * 28 - 1) < 1e-3 for p in model.parameters())
    assert torch.equal(guha_training.build(784)[1].weight, model[1].weight)
    assert not torch.equal(guha_training.build(784, seed=1)[1].weight, model[1].weight)
