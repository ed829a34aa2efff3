"""Every pass over examples that runs in shards, on one small problem: what executors must agree on."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bitcert import DecisionRule, Role, Sample
from bitcert.counting import FloatClassifier, Level, count_disagreements, count_losses
from bitcert.losses import parse_loss

CLASSES = 3


class Linear(FloatClassifier):
    """Logits of a few inputs, near-ties among them."""

    def __init__(self, seed: int) -> None:
        self.weights = torch.from_numpy(np.random.default_rng(seed).integers(-2, 3, (4, CLASSES)))

    def logits(self, inputs, dtype):
        return torch.from_numpy(np.array(inputs)).to(dtype) @ self.weights.to(dtype)


def sample_of(size: int) -> Sample:
    rng = np.random.default_rng(size)
    labels = np.arange(size) % CLASSES
    return Sample(rng.integers(-3, 4, (size, 4)).astype(np.float32), labels, CLASSES, Role.UNLABELLED, "toy")


def count_everything(size: int, batch_size: int) -> tuple[object, ...]:
    """Errors, losses and disagreements at every level."""
    sample, rule, levels = sample_of(size), DecisionRule(batch_size), tuple(Level)
    losses = tuple(parse_loss(name, CLASSES) for name in ("top-2", "brier"))
    found = count_losses(Linear(1), sample, rule, losses, levels)
    return found, count_disagreements(Linear(1), Linear(2), sample, rule, levels)


def killed_once(flag: Path) -> Callable[[int, int], tuple[int, int]]:
    """A task whose first worker in the middle is killed; ``flag`` is the file that says it was."""

    def task(start: int, stop: int) -> tuple[int, int]:
        if start >= 4 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return start, stop

    return task
