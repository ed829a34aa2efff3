"""Soft labels of an original network, for a surrogate that is to agree with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.data import Role, Sample
from bitcert.errors import InputError
from bitcert.search import judging
from bitcert.search.judging import network_logits, soft_labels

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
SAMPLE = Sample(X, np.arange(30) % 3, 3, Role.TRAIN, "toy")


def original(inputs: np.ndarray) -> torch.Tensor:
    return 2 * torch.tensor(inputs)


LOGITS = network_logits(original, SAMPLE)


def targets_at(monkeypatch: pytest.MonkeyPatch, temperature: float, weight: float) -> np.ndarray:
    monkeypatch.setattr(judging, "TEMPERATURE", temperature)
    monkeypatch.setattr(judging, "NETWORK_WEIGHT", weight)
    return soft_labels(LOGITS, SAMPLE)


def test_targets_are_a_mixture_of_softened_probabilities_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = targets_at(monkeypatch, 4.0, 0.25)
    soft = np.exp(X / 2) / np.exp(X / 2).sum(1, keepdims=True)
    np.testing.assert_allclose(targets, 0.25 * soft + 0.75 * np.eye(3)[SAMPLE.labels], rtol=1e-5)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(targets_at(monkeypatch, 1.0, 0.0), np.eye(3)[SAMPLE.labels])
    np.testing.assert_array_equal(targets_at(monkeypatch, 1.0, 1.0).argmax(1), X.argmax(1))


def test_logits_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match="3 classes"):
        soft_labels(np.zeros((30, 4), np.float32), SAMPLE)


@pytest.mark.parametrize("role", [Role.UNLABELLED, Role.HOLDOUT])
def test_unlabelled_and_held_out_examples_may_not_be_looked_at(role: Role) -> None:
    with pytest.raises(InputError, match="may be looked at"):
        network_logits(original, SAMPLE.with_role(role))
