"""Soft labels of an original network, for a surrogate that is to agree with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.data import Role, Sample
from bitcert.errors import InputError
from bitcert.search.distil import distillation_targets, network_logits

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
SAMPLE = Sample(X, np.arange(30) % 3, 3, Role.TRAIN, "toy")


def original(inputs: np.ndarray) -> torch.Tensor:
    return 2 * torch.tensor(inputs)


LOGITS = network_logits(original, SAMPLE)


def test_targets_are_a_mixture_of_softened_probabilities_and_labels() -> None:
    targets = distillation_targets(LOGITS, SAMPLE, 4.0, 0.25)
    soft = np.exp(X / 2) / np.exp(X / 2).sum(1, keepdims=True)
    np.testing.assert_allclose(targets, 0.25 * soft + 0.75 * np.eye(3)[SAMPLE.labels], rtol=1e-5)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(distillation_targets(LOGITS, SAMPLE, 1.0, 0.0), np.eye(3)[SAMPLE.labels])
    np.testing.assert_array_equal(distillation_targets(LOGITS, SAMPLE, 1.0, 1.0).argmax(1), X.argmax(1))


@pytest.mark.parametrize(("temperature", "weight"), [(0.0, 0.5), (-1.0, 0.5), (np.inf, 0.5), (1.0, 1.1), (1.0, -0.1)])
def test_settings_out_of_range_are_refused(temperature: float, weight: float) -> None:
    with pytest.raises(InputError, match="temperature"):
        distillation_targets(LOGITS, SAMPLE, temperature, weight)


def test_logits_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match="3 classes"):
        distillation_targets(np.zeros((30, 4), np.float32), SAMPLE)


@pytest.mark.parametrize("role", [Role.UNLABELLED, Role.HOLDOUT])
def test_unlabelled_and_held_out_examples_may_not_be_looked_at(role: Role) -> None:
    with pytest.raises(InputError, match="may be looked at"):
        network_logits(original, SAMPLE.with_role(role))
