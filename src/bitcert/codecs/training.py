"""The training loop of the codecs that learn their message: Adam on the cross-entropy of a captured architecture.

What is trained is any :class:`Model`: it makes the tensors of the architecture, differentiably, from whatever it
learns (coordinates of a subspace, scores of a mask, weights under a pruning mask). The loop brings the data in the
order of a named stream, preprocessed as the decoder will, the learning rate of a :class:`Schedule`, progress,
checkpoints without pickle that a killed run goes on from, and notices when training diverges. Its
:class:`~bitcert.codecs.best.Search` keeps the best message among those considered. One bit of message costs
``ln 2 / m`` nats of divergence (docs/theory.md section 2).

How to use it::

    search = Search(sample, helper, run)
    trainer = Trainer(search, model, Schedule(num_steps=5000), purpose="imp/0")   # or num_steps=None: by time
    state = search.resume()                                                      # None without a checkpoint
    if state is not None:
        trainer.restore(state)                   # and what you put into ``extra`` is in state.values
    status = trainer.train(until=0.5 * run.budget_seconds, looks=Looks((0.5, 0.9), look), extra=lambda: {"round": 0})
    if status is Status.DIVERGED: ...
    search.propose("trained", ComposedMessage(codes, seed, subspace))
    return search.result()

Not guaranteed: that training converges, or the same message twice where the schedule follows the clock.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bitcert.codecs.base import Codec
from bitcert.codecs.best import Search, State
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.network import network_inputs
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import stream
from bitcert.run import Compressed, Run

Tensors = dict[str, torch.Tensor]
COUNTS_KEPT_FREE = 1.3
"""Training ends this many counts of the errors before its time, so that the last candidate is judged within it."""


class Model(Protocol):
    """What is trained. Tensors named in :meth:`state` are changed in place, so that a checkpoint can restore them."""

    def weights(self) -> Tensors:
        """Every tensor of the architecture by name, differentiable in what is learned."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """Adam's parameter groups: ``{"params": [...], "factor": f}``, ``f`` times the schedule's rate (default 1)."""
        ...

    def before_step(self, fraction: float) -> None:
        """Called with gradients in place: add those of a rate term, or mask some."""
        ...

    def after_step(self, fraction: float) -> None:
        """Called when Adam has moved: project, freeze, mask."""
        ...

    def state(self) -> Tensors:
        """All tensors that training changes (Adam's own excepted)."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How training proceeds.

    Attributes:
        batch_size: examples of a step.
        rate: peak learning rate of Adam.
        warm_up: fraction of the training in which the rate rises from a tenth.
        decay_from: fraction from which it falls to 0 as a cosine.
        num_steps: steps of the whole training, or ``None`` to follow the clock.
        betas: of Adam.
        checkpoint_seconds: between two checkpoints.
    """

    batch_size: int = 64
    rate: float = 1e-3
    warm_up: float = 0.02
    decay_from: float = 0.0
    num_steps: int | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 < self.rate < math.inf or (self.num_steps is not None and self.num_steps < 1):
            got = f"batch size {self.batch_size}, rate {self.rate}, {self.num_steps} steps"
            raise InputError("a positive batch size, learning rate and number of steps", got, "check the options")

    def rate_at(self, fraction: float) -> float:
        """Learning rate at a fraction of the training.

        >>> Schedule(rate=1.0).rate_at(1.0), Schedule(rate=1.0, decay_from=0.5).rate_at(0.5)
        (0.0, 1.0)
        """
        rising = min(1.0, 0.1 + 0.9 * fraction / self.warm_up) if self.warm_up > 0 else 1.0
        falling = min(1.0, max(0.0, fraction - self.decay_from) / max(1.0 - self.decay_from, 1e-9))
        return self.rate * rising * 0.5 * (1 + math.cos(math.pi * falling))


class Status(StrEnum):
    """How a training ended."""

    DONE = "done"
    OUT_OF_TIME = "stopped by the time budget before its last step"
    DIVERGED = "diverged: the loss or a trained tensor is no longer finite"


@dataclass(frozen=True)
class Looks:
    """``look(fraction)`` is called once at each of these fractions (in rising order), e.g. to consider candidates.

    Fractions that one step passes together, because it or the last look took long, are one look. Where training has
    diverged there is none.
    """

    fractions: tuple[float, ...] = ()
    look: Callable[[float], object] = lambda fraction: None


@dataclass(eq=False)
class Trainer:
    """One training of a model: optimiser, position in the data, smoothed loss.

    Args:
        search: sample, helper, run.
        model: what is trained.
        schedule: how.
        purpose: names the stream of the data order, e.g. ``"subspace"`` or ``"imp/3"``.
        task: what progress is reported as.
    """

    search: Search
    model: Model
    schedule: Schedule = field(default_factory=Schedule)
    purpose: str = "training"
    task: str = "training"
    num_steps: int = 0
    loss: float = math.nan
    looks_done: int = 0
    started: float | None = None
    seconds: float | None = None
    _order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        groups = [{**group, "factor": group.get("factor", 1.0)} for group in self.model.groups()]
        self.optimiser = torch.optim.Adam(groups, lr=0.0, betas=self.schedule.betas, eps=1e-12)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the sample."""
        return max(1, len(self.search.sample) // self.schedule.batch_size)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of the present step: a function of seed, purpose and step alone."""
        sample, run = self.search.sample, self.search.run
        epoch, position = divmod(self.num_steps, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, stream(run.seed, f"{self.purpose}/order/{epoch}").permutation(len(sample))
        size = self.schedule.batch_size
        chosen = self._order[1][position * size : (position + 1) * size]
        x = network_inputs(self.search.predictor, self.search.helper.preprocessing, sample.inputs_at(chosen))
        return x.to(self.search.device), torch.from_numpy(sample.labels[chosen]).to(self.search.device)

    def step(self, fraction: float) -> float:
        """One step of Adam at a fraction of the training; returns the cross-entropy of its batch in nats."""
        x, y = self.batch()
        loss = F.cross_entropy(self.search.predictor.forward(x, self.model.weights()), y)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.model.before_step(fraction)
        for group in self.optimiser.param_groups:
            group["lr"] = group["factor"] * self.schedule.rate_at(fraction)
        self.optimiser.step()
        self.model.after_step(fraction)
        self.num_steps += 1
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        return value

    def train(
        self, until: float, looks: Looks | None = None, extra: Callable[[], Mapping[str, object]] | None = None
    ) -> Status:
        """Train to the schedule's last step, or (without one) up to a time; goes on where :meth:`restore` left it.

        Args:
            until: second of the run at which to end; room for one count of errors is left before it.
            looks: candidates on the way.
            extra: JSON values to keep in every checkpoint beside the trainer's own.
        """
        run, schedule, looks = self.search.run, self.schedule, looks or Looks()
        # A resumed training goes on from the time that its last step saw, so that it takes the same steps again.
        last_save = seconds = run.seconds if self.seconds is None else self.seconds
        self.seconds = None
        if self.started is None:
            self.started = seconds
        while True:
            end = until - COUNTS_KEPT_FREE * self.search.seconds_of_a_count
            late = seconds >= end or run.stopped
            fraction = min(1.0, max(0.0, seconds - self.started) / max(end - self.started, 1e-9))
            if schedule.num_steps is not None:
                fraction = self.num_steps / schedule.num_steps
            if late or fraction >= 1.0:
                ended = Status.DONE if fraction >= 1.0 else Status.OUT_OF_TIME
                return ended if self.is_finite() else Status.DIVERGED
            passed = sum(fraction >= look for look in looks.fractions)
            if passed > self.looks_done:
                self.looks_done = passed
                if self.is_finite():
                    looks.look(fraction)
            if not math.isfinite(self.step(fraction)):
                return Status.DIVERGED
            run.progress(self.task, fraction)
            seconds = run.seconds
            if seconds - last_save > schedule.checkpoint_seconds:
                self.seconds = last_save = seconds
                self.save(extra() if extra is not None else {})
                self.seconds = None

    def is_finite(self) -> bool:
        """Whether every trained tensor is."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.model.state().values())

    def save(self, extra: Mapping[str, object] | None = None) -> None:
        """Write the run's checkpoint, if it has one."""
        own = {name: getattr(self, name) for name in ("num_steps", "loss", "looks_done", "started", "seconds")}
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state().items()}
        for k, latent in enumerate(self._latents()):
            tensors |= {f"adam/{k}/{key}": moment for key, moment in self.optimiser.state.get(latent, {}).items()}
        self.search.save(State({"trainer": own, **(extra or {})}, tensors))

    def _latents(self) -> list[torch.Tensor]:
        return [latent for group in self.optimiser.param_groups for latent in group["params"]]

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Go on from a checkpoint that a trainer of the same purpose wrote."""
        for name, value in state.values["trainer"].items():
            setattr(self, name, value)
        for name, tensor in self.model.state().items():
            tensor.copy_(state.tensors[f"model/{name}"])
        for k, latent in enumerate(self._latents()):
            prefix = f"adam/{k}/"
            moments = {n.removeprefix(prefix): v for n, v in state.tensors.items() if n.startswith(prefix)}
            if moments:
                self.optimiser.state[latent] = {
                    key: value.clone() if key == "step" else value.to(latent.device, copy=True)
                    for key, value in moments.items()
                }


class TrainedCodec(Codec):
    """Base of the codecs that train on the sample; a subclass writes :meth:`train` (and ``theory``)."""

    trained: ClassVar[bool] = True
    without_sample = ("a training sample for a codec that trains", "pass the sample")

    def compress(self, network: Network, sample: Sample | None, helper: Helper, run: Run) -> Compressed:
        """The best message found in the run's time; which of the network's values matter is for the codec to say."""
        assert sample is not None
        return self.train(network, Search(sample, helper, run))

    @abstractmethod
    def train(self, network: Network, search: Search) -> Compressed:
        """The best message found."""
