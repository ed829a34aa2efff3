"""Train a module by a stated recipe, epoch after epoch, so that a killed process goes on after its last whole epoch.

Everything random of epoch ``k`` (order, dropout, augmentation) comes from a stream named for ``k``, and each checkpoint
holds weights, the optimiser's state and the log. An interrupted training therefore ends with the same weights, bit for
bit, as an uninterrupted one on the same machine with the same number of threads. It is NOT the same on another machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitcert import clock
from bitcert.canonical import hash_of
from bitcert.certificates.certification import versions
from bitcert.counting import count_errors
from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError
from bitcert.random import stream, torch_stream
from bitcert.run import Checkpoint, Run
from bitcert.search.prior_network import augment
from bitcert.studies.result import Trained

Tensors = dict[str, Tensor]
_UNSAID = ("name", "epochs", "keep_every", "stop_at")
Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How a network is built and trained; everything that its weights depend on besides the sample.

    Attributes:
        name: of the network, for people; part of its folder's name.
        build: makes the module, its values drawn from torch's global stream (which is seeded and put back).
        epochs: passes over the sample.
        rate: learning rate; halved every ``halve_every`` epochs (0: never).
        optimiser: ``"sgd"`` or ``"adam"``.
        momentum, decay: of SGD, and the weight decay of either.
        batch_size: examples of a step.
        mean, std: of the channels; the scale is the usual one of the sample.
        augmented: whether images are changed at random.
        bfloat16: whether products are computed in bfloat16 with channels last; the weights are float32 either way.
        keep_every: the weights after every so many epochs are kept, and those before the first; 0 keeps the last only.
        stop_at: training ends once this share of the examples is wrong at most, as met during an epoch.
    """

    name: str
    build: Builder
    epochs: int
    rate: float = 0.05
    halve_every: int = 0
    optimiser: str = "sgd"
    momentum: float = 0.9
    decay: float = 0.0
    batch_size: int = 128
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augmented: bool = False
    bfloat16: bool = False
    keep_every: int = 0
    stop_at: float = -1.0

    def preprocessing(self, sample: Sample) -> Preprocessing:
        """From stored examples to the network's inputs."""
        return Preprocessing(Preprocessing.usual(sample).scale, self.mean, self.std)

    def describe(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "build"}


@dataclass(frozen=True)
class Epoch:
    """What is logged of an epoch: mean loss, examples wrong when they were met, seconds."""

    loss: float
    wrong: int
    seconds: float


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A module with its trained weights, and what is known of the training.

    Attributes:
        module: in evaluation mode.
        initial: the weights before the first epoch.
        preprocessing: that it was trained with.
        log: one entry an epoch.
        trained: the facts for a result; errors counted on the whole samples in float32.
        snapshots: files of the weights by the number of epochs that were done, as far as the recipe keeps them.
    """

    module: nn.Module
    initial: Tensors
    preprocessing: Preprocessing
    log: tuple[Epoch, ...]
    trained: Trained
    snapshots: Mapping[int, Path]

    def after(self, epochs: int) -> nn.Module:
        """The module with the weights after so many epochs, in place (the last ones: ``after(len(log))``)."""
        state = Checkpoint(self.snapshots[epochs], "weights").load()
        if state is None:
            do = "delete its folder and run the study again"
            raise InputError(f"weights at {self.snapshots[epochs]}", "none that can be read", do)
        self.module.load_state_dict(state[1])
        return self.module.eval()


def errors_of(module: nn.Module, sample: Sample, preprocessing: Preprocessing) -> float:
    """Share of wrong examples of a module in evaluation mode, in float32."""
    with torch.no_grad():
        return count_errors(lambda inputs: module(preprocessing(inputs)), sample).rate


def build(recipe: Recipe, seed: int) -> nn.Module:
    """The module before training; torch's global stream is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_stream(seed, f"study/init/{recipe.name}").initial_seed())
        return recipe.build()


def train(recipe: Recipe, sample: Sample, test: Sample | None, folder: Path, run: Run) -> TrainedNetwork:
    """Train, or take from ``folder`` what was trained there before by the same recipe, sample, seed and versions.

    Args:
        recipe: how.
        sample: the training examples.
        test: others, whose errors are counted after the training.
        folder: of all trained networks.
        run: seed, progress, device.

    Raises:
        InputError: the training diverged.
        OSError: when the disk is full or fails; the last whole epoch is then still there.
    """
    training = _Training(recipe, sample, folder, run)
    training.go_on()
    module = training.module.cpu().eval()
    if recipe.bfloat16:
        module = module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    preprocessing = recipe.preprocessing(sample)
    counts = [math.nan, math.nan]
    key = f"{sample.content_hash}/{'' if test is None else test.content_hash}"
    known = Checkpoint(training.folder / "errors.safetensors", key).load()
    if known is None:
        counts[0] = errors_of(module, sample, preprocessing)
        counts[1] = math.nan if test is None else errors_of(module, test, preprocessing)
        Checkpoint(training.folder / "errors.safetensors", key).save({"rates": [str(c) for c in counts]}, {})
    else:
        counts = [float(text) for text in known[0]["rates"]]
    settings = {key: value for key, value in recipe.describe().items() if key not in _UNSAID}
    facts = Trained(
        name=f"{recipe.name} on {sample.name}",
        parameters=sum(value.numel() for value in module.parameters()),
        epochs=len(training.log),
        seconds=round(math.fsum(epoch.seconds for epoch in training.log), 1),
        train_error=counts[0],
        test_error=None if test is None else counts[1],
        cores=training.cores,
        settings=f"seed {run.seed}, " + ", ".join(f"{key} {value}" for key, value in settings.items() if value),
    )
    return TrainedNetwork(
        module, training.initial, preprocessing, tuple(training.log), facts, dict(training.snapshots())
    )


class _Training:
    """The state of one training and its folder."""

    def __init__(self, recipe: Recipe, sample: Sample, folder: Path, run: Run) -> None:
        self.recipe, self.sample, self.run = recipe, sample, run
        self.module = build(recipe, run.seed)
        self.initial = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module = self.module.to(run.device)
        if recipe.bfloat16:
            self.module = self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts = [recipe.describe(), repr(self.module), sample.content_hash, run.seed, run.device, versions()]
        self.identity = hash_of(parts)
        plain = "".join(c if c.isalnum() else "-" for c in recipe.name.lower())
        self.folder = folder / f"{plain}-{self.identity[:12]}"
        self.log: list[Epoch] = []
        self.cores = torch.get_num_threads()
        self.optimiser = self._optimiser()
        self.checkpoint = Checkpoint(self.folder / "state.safetensors", self.identity)

    def _optimiser(self) -> torch.optim.Optimizer:
        recipe, parameters = self.recipe, self.module.parameters()
        if recipe.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=recipe.rate, weight_decay=recipe.decay, fused=True)
        return torch.optim.SGD(parameters, lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.decay)

    def snapshot(self, epochs: int) -> Path:
        """File of the weights after so many epochs."""
        return self.folder / f"epoch-{epochs:04d}.safetensors"

    def snapshots(self) -> Iterator[tuple[int, Path]]:
        """Those that are kept."""
        every = self.recipe.keep_every
        for epochs in range(0, len(self.log) + 1, every) if every else ():
            yield epochs, self.snapshot(epochs)

    @property
    def finished(self) -> bool:
        """Whether there is no further epoch."""
        few = bool(self.log) and self.log[-1].wrong <= self.recipe.stop_at * len(self.sample)
        return few or len(self.log) >= self.recipe.epochs

    def go_on(self) -> None:
        """Restore the last whole epoch, and train the rest."""
        self._restore()
        if self.finished:
            return
        inputs = self.recipe.preprocessing(self.sample)
        labels = torch.from_numpy(self.sample.labels.copy())
        if not self.log:
            self._keep()
        while not self.finished:
            self.run.progress(f"training {self.recipe.name}", len(self.log) / self.recipe.epochs)
            self.log.append(self._epoch(inputs, labels))
            if not math.isfinite(self.log[-1].loss):
                got = f"a loss that is not finite in epoch {len(self.log)}"
                raise InputError(f"a training of {self.recipe.name} that converges", got, "lower its learning rate")
            self._keep()
            self._save()
        self.run.progress(f"training {self.recipe.name}", 1.0)

    def _keep(self) -> None:
        if self.recipe.keep_every and len(self.log) % self.recipe.keep_every == 0:
            Checkpoint(self.snapshot(len(self.log)), "weights").save({}, self.module.state_dict())

    def _epoch(self, inputs: Preprocessing, labels: Tensor) -> Epoch:
        recipe, purpose, started = self.recipe, f"study/{self.recipe.name}/epoch {len(self.log)}", clock.seconds()
        halvings = len(self.log) // recipe.halve_every if recipe.halve_every else 0
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate / 2**halvings
        order = stream(self.run.seed, purpose).permutation(len(labels))
        changes = torch_stream(self.run.seed, f"{purpose}/augment")
        self.module.train()
        total, wrong = 0.0, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_stream(self.run.seed, f"{purpose}/dropout").initial_seed())
            for start in range(0, len(order), recipe.batch_size):
                chosen = np.sort(order[start : start + recipe.batch_size])
                x = inputs(self.sample.inputs[chosen])
                if recipe.augmented:
                    x = augment(x, changes, torch.rand(len(x), generator=changes) < 0.5)
                loss, errors = self._step(x, labels[chosen])
                total, wrong = total + loss * len(chosen), wrong + errors
                self.run.progress(
                    f"training {recipe.name}", (len(self.log) + start / len(order)) / max(recipe.epochs, 1)
                )
        return Epoch(total / len(order), wrong, clock.seconds() - started)

    def _step(self, x: Tensor, y: Tensor) -> tuple[float, int]:
        device, recipe = self.run.device, self.recipe
        if recipe.bfloat16 and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        x, y = x.to(device), y.to(device)
        with torch.autocast(device, torch.bfloat16, enabled=recipe.bfloat16):
            logits = self.module(x)
        logits = logits.float()
        loss = F.cross_entropy(logits, y)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach()), int((logits.detach().argmax(1) != y).sum())

    def _save(self) -> None:
        state = self.optimiser.state_dict()["state"]
        tensors = {f"{k}.{name}": value for k, own in state.items() for name, value in own.items() if value is not None}
        tensors |= {f"weights.{name}": value for name, value in self.module.state_dict().items()}
        self.checkpoint.save({"log": [asdict(epoch) for epoch in self.log], "cores": self.cores}, tensors)

    def _restore(self) -> None:
        found = self.checkpoint.load()
        if found is None:
            return
        values, tensors = found
        weights = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("weights.")}
        self.module.load_state_dict(weights)
        state: dict[int, Tensors] = {}
        for name, value in tensors.items():
            index, _, what = name.partition(".")
            if index != "weights":
                state.setdefault(int(index), {})[what] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        self.log = [Epoch(**epoch) for epoch in values["log"]]
        self.cores = int(values["cores"])
