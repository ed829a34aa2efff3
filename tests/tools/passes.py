"""Every pass over examples that runs in shards, on one small problem: what executors must agree on."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bitcert import (
    DecisionRule,
    Helper,
    MeasureSettings,
    Network,
    Preprocessing,
    Role,
    Run,
    Sample,
    capture,
    compare,
    measure,
    output_deviation,
)
from bitcert.codecs.best import PlainCodecs
from bitcert.codecs.quantise import Exact, Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.counting import FloatClassifier, Level, count_disagreements, count_losses
from bitcert.losses import parse_loss
from bitcert.theory.ingredients.messages import OpenedMessage
from bitcert.theory.ingredients.sample_pass import count_holdout, pass_over

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


def count_everything(size: int, batch_size: int) -> object:
    """Errors, losses and disagreements at every level."""
    sample, rule, levels = sample_of(size), DecisionRule(batch_size), tuple(Level)
    losses = tuple(parse_loss(name, CLASSES) for name in ("top-2", "brier"))
    found = count_losses(Linear(1), sample, rule, losses, levels)
    return found, count_disagreements(Linear(1), Linear(2), sample, rule, levels)


@cache
def network() -> Network:
    torch.manual_seed(0)
    return capture(
        torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, CLASSES)), torch.zeros(2, 4)
    )


CODECS = (Exact(), *(Quantise(quantiser=Uniform(fraction)) for fraction in (0.5, 1.0, 2.0)))


def measured(size: int, batch_size: int) -> object:
    """A stability profile with every example's values."""
    settings = MeasureSettings(batch_size=batch_size, keep=True)
    profile = measure(network(), sample_of(size), settings)
    return profile.to_json(), {name: values.tobytes() for name, values in profile.arrays.items()}


def facts_for_bounds(size: int, batch_size: int) -> object:
    """What the bounds need of a sample, of a message beside the network, and of held-out labels."""
    sample, message = sample_of(size), OpenedMessage("other", 8, Linear(1), batch_size)
    facts, messages = pass_over(network(), sample, Preprocessing(), messages=(message,))
    found = {**vars(facts), "margins": facts.margins.tolist()}
    return found, messages, count_holdout(network(), sample, Preprocessing())


def compared(size: int, batch_size: int) -> object:
    """Deviations of two classifiers, and the rows of a comparison of codecs but for their seconds."""
    sample = sample_of(size)
    helper = Helper.for_sample(sample, network().architecture)
    rows = compare(network(), sample, codecs=CODECS, helper=helper).rows
    timeless = [replace(row, seconds=0.0, measured=replace(row.measured, count_seconds=0.0)) for row in rows]
    return output_deviation(Linear(1), Linear(2), sample, batch_size), timeless


def searched(size: int, batch_size: int) -> object:
    """The best message of several independent candidates, and all of them."""
    sample = sample_of(size)
    helper = Helper.for_sample(sample, network().architecture)
    found = PlainCodecs(CODECS, network())(sample, helper, Run(budget_seconds=1e9))
    return found.message, [replace(candidate, seconds=0.0) for candidate in found.candidates]


PASSES = {
    "count": count_everything,
    "measure": measured,
    "bounds": facts_for_bounds,
    "compare": compared,
    "search": searched,
}
"""By name, every pass of a verb on so many examples in batches of this size; equal results compare equal."""


def killed_once(flag: Path) -> Callable[[int, int], tuple[int, int]]:
    """A task whose first worker in the middle is killed; ``flag`` is the file that says it was."""

    def task(start: int, stop: int) -> tuple[int, int]:
        if start >= 4 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return start, stop

    return task
