"""Soft labels of an original network, for a surrogate that is to agree with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.data import Role, Sample
from bitcert.decoder import Helper
from bitcert.errors import InputError
from bitcert.run import Run
from bitcert.search import judging
from bitcert.search.judged import JudgedBest
from bitcert.search.judging import Judge, OriginalNetwork, answers_in, network_logits, soft_labels

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


def surrogate_judge(accurate: float) -> tuple[Judge, torch.Tensor, np.ndarray, np.ndarray]:
    """A judge, logits of a surrogate that is sure where it is right, where it is wrong, and where the two differ."""
    rng = np.random.default_rng(1)
    labels, count = rng.integers(0, 4, 2_000), 2_000
    sample = Sample(rng.normal(size=(count, 1)).astype(np.float32), labels, 4, Role.TRAIN, "toy")
    right = rng.random(count) < accurate
    logits = rng.random((count, 4))
    logits[np.arange(count), np.where(right, labels, (labels + 1) % 4)] += np.where(right, 8.0, 1.0)
    judge = Judge(sample, 0.01, OriginalNetwork(10 * np.eye(4, dtype=np.float32)[labels], 1_000, 0.032))
    return judge, torch.from_numpy(logits), labels, ~right


def test_a_surrogate_abstains_where_it_is_mostly_wrong() -> None:
    judge, logits, labels, wrong = surrogate_judge(0.6)
    plain = judge.worth(int(wrong.sum()), 800, int(wrong.sum()))
    best = judge.surrogate(logits, labels, labels, 800)
    assert best.message_bits == 816
    assert best.abstains is not None
    assert best.bound < plain.bound - 0.3
    assert best.errors < 20


def test_logits_that_are_no_numbers_have_no_threshold() -> None:
    judge, logits, labels, _ = surrogate_judge(0.6)
    assert judge.surrogate(torch.full_like(logits, torch.nan), labels, labels, 800).abstains is None


def test_the_answers_are_the_networks_also_where_its_label_outweighs_them() -> None:
    """At a label part of 0.3, a network that is unsure of another class has the label as its largest target."""
    logits = np.tile(np.array([[1.0, 0.8, 0.0], [0.0, 0.1, 0.2], [3.0, 0.0, 0.0]], np.float32), (100, 1))
    labels = np.tile([1, 0, 0], 100)
    sample = Sample(np.zeros((300, 1), np.float32), labels, 3, Role.TRAIN, "toy")
    targets_t = torch.from_numpy(soft_labels(logits, sample).T.copy())
    assert targets_t[:, :3].argmax(0).tolist() == [1, 0, 0], "the largest target is no answer of the network"
    assert answers_in(targets_t, torch.from_numpy(labels))[:3].tolist() == [0, 2, 0]
    judge = Judge(sample, 0.01, OriginalNetwork(logits, 200, 0.03))
    best = JudgedBest(sample, Helper.for_sample(sample), Run(), judge)
    found = best.worth(torch.from_numpy(logits), torch.from_numpy(labels), targets_t, 8)
    assert found == judge.surrogate(torch.from_numpy(logits), labels, logits.argmax(1), 8)
    assert found.bound == judge.worth(200, 8, 0).bound, "it agrees with the network everywhere"
