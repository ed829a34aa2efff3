"""Training a compact separable net for the certificate: ``loss + lambda * bits * ln2 / m`` over rounded weights.

Each weight ``w`` of a tensor with the learned step ``s`` enters the net as ``round(w / s)``; the gradient passes the
rounding unchanged (straight-through; Bengio et al. 2013). The rate term is the code length of the message, linear in
``|w / s|`` between zero and one and beyond one. In the second half of every stage the integers that waver least are
fixed, more and more of them (incremental network quantisation, Zhou et al. 2017), and the rest adapts: integers that
still jump between two values at the end of training would otherwise cost many errors.

Training sees the examples as given: a net with fewer weights than there are examples, under a rate term, only loses
training errors by augmentation. Candidates are decoded messages with errors counted on the whole sample; keeping the
best of them is free, each is a word of one prefix code (docs/theory.md section 2). Not guaranteed: the same message
twice, because the schedule follows the clock, nor any message with a bound below one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bitcert import clock
from bitcert.coding import MAX_MAGNITUDE, Ledger
from bitcert.counting import count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.separable import (
    SETTINGS_GRID,
    contexts,
    forward,
    is_image_shape,
    split_weights,
    tensor_shapes,
    tensor_sizes,
    write,
)
from bitcert.errors import InputError
from bitcert.random import stream, torch_stream
from bitcert.run import Candidate, Checkpoint, Compressed, Run

BATCH_SIZE = 256
LEARNING_RATE = 0.06
STEP_LEARNING_RATE = 0.003
FREEZE_FROM, FREEZE_UNTIL = 0.5, 0.9
RATE_RAMP = 0.4
INITIAL_SPREAD = 0.8
COUNTING_SHARE = 0.05
CHECKPOINT_SECONDS = 20.0
SMALL_SAMPLE = 10_000
_WAVER_DECAY = 0.98
_RATE_REFRESH = 10


@dataclass(frozen=True)
class Stage:
    """A part of the time budget.

    Args:
        until: fraction of the budget at which it ends.
        price: ``lambda``.
        heat: peak learning rate relative to the first stage's.
    """

    until: float
    price: float
    heat: float


STAGES = (Stage(0.8, 4.0, 1.0), Stage(1.0, 6.0, 0.7))
"""Most of the time at one price; what is fixed by then thaws and adapts to a dearer bit. Both are judged."""


def default_settings(sample_size: int, helper: Helper) -> int:
    """Index of the settings used unless others are asked for, from the sizes of the problem alone.

    Small images or few examples leave bits for the stem only; colour images need the deeper net.
    """
    if sample_size < SMALL_SAMPLE or min(helper.input_shape[1:]) < 16:
        return 0
    return 3 if helper.input_shape[0] == 1 else 6


@dataclass(frozen=True, eq=False)
class RateModel:
    """Code length of the weights, differentiable: piecewise linear in the magnitudes.

    The adaptive code at the present counts, with magnitudes beyond one modelled as geometric: a zero of tensor ``t``
    costs ``zero_bits[t]``, a one ``first_bits[t]`` more, each further unit ``next_bits``.
    Close to the real length while a good part of the weights is zero; above it in tensors that are nearly full.

    Args:
        zero_bits: ``[num_tensors]``.
        first_bits: ``[num_tensors]``, at least 1, so that no weight is drawn away from zero by a full tensor.
        next_bits: scalar.
    """

    zero_bits: torch.Tensor
    first_bits: torch.Tensor
    next_bits: torch.Tensor

    @classmethod
    def fit(cls, rounded: torch.Tensor, where: torch.Tensor, sizes: torch.Tensor) -> RateModel:
        """The model at integer ``rounded [n]`` of tensors ``where [n]`` of ``sizes [num_tensors]``."""
        magnitudes = rounded.abs()
        used = torch.zeros_like(sizes).index_add_(0, where, (magnitudes > 0).to(sizes.dtype))
        num_used, excess = used.sum(), (magnitudes - 1).clamp(min=0).sum()
        going = (excess + 0.5) / (excess + num_used + 1)
        zero_bits = -torch.log2((sizes - used + 0.5) / (sizes + 1))
        one_bits = 1 - torch.log2((used + 0.5) / (sizes + 1)) - torch.log2(1 - going)
        return cls(zero_bits, (one_bits - zero_bits).clamp(min=1), -torch.log2(going))

    def bits(self, scaled: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Code length in bits of the weights ``scaled [n]``, any reals; a scalar."""
        magnitudes = scaled.abs()
        first = self.first_bits[where] * magnitudes.clamp(max=1)
        return (self.zero_bits[where] + first).sum() + self.next_bits * (magnitudes - 1).clamp(min=0).sum()


@dataclass(eq=False)
class _State:
    """What is trained: latent weights ``[n]``, log-steps ``[num_tensors]``; and which integers are fixed ``[n]``."""

    latent: torch.Tensor
    log_steps: torch.Tensor
    log_temperature: torch.Tensor
    mean_rounded: torch.Tensor
    frozen: torch.Tensor
    where: torch.Tensor

    def scaled(self) -> torch.Tensor:
        """``w / s`` of every weight; for a fixed one the integer it is fixed to."""
        free = self.latent * torch.exp(-self.log_steps)[self.where]
        return torch.where(self.frozen, self.mean_rounded, free)

    def integers(self) -> NDArray[np.int64]:
        """The weights as a message would hold them."""
        rounded = self.scaled().detach().round().clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE)
        return rounded.cpu().numpy().astype(np.int64)

    def watch(self, rounded: torch.Tensor) -> None:
        """Average each free integer over the last steps."""
        mean = torch.lerp(self.mean_rounded, rounded, 1 - _WAVER_DECAY)
        self.mean_rounded = torch.where(self.frozen, self.mean_rounded, mean)

    def freeze(self, fraction: float) -> None:
        """Fix the integers that waver least until this fraction of them is fixed."""
        missing = int(fraction * len(self.frozen)) - int(self.frozen.sum())
        if missing < max(1, len(self.frozen) // 100) and fraction < 1.0:
            return
        waver = (self.mean_rounded - self.mean_rounded.round()).abs()
        chosen = torch.where(self.frozen, torch.inf, waver).argsort()[: max(0, missing)]
        self.mean_rounded[chosen] = self.mean_rounded[chosen].round()
        self.frozen[chosen] = True

    def thaw(self) -> None:
        """Let every weight move again, from where it is."""
        with torch.no_grad():
            self.latent.copy_(self.scaled() * torch.exp(self.log_steps)[self.where])
        self.frozen.zero_()

    def tensors(self) -> dict[str, torch.Tensor]:
        """For a checkpoint."""
        return {name: getattr(self, name) for name in _STATE_TENSORS}


_STATE_TENSORS = ("latent", "log_steps", "log_temperature", "mean_rounded", "frozen")


@dataclass(frozen=True, eq=False)
class _Tried:
    message: bytes
    ledger: Ledger
    candidate: Candidate


@dataclass(eq=False)
class _Search:
    """One training: the problem, its state, and the best message so far."""

    sample: Sample
    helper: Helper
    run: Run
    settings_index: int
    best: _Tried | None = None
    stage: int = 0
    step: int = 0
    count_seconds: float = 0.0
    order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))
    last_saved: float = 0.0
    last_considered: float = 0.0
    labels: torch.Tensor = field(init=False)
    where: torch.Tensor = field(init=False)
    sizes: torch.Tensor = field(init=False)
    state: _State = field(init=False)

    def __post_init__(self) -> None:
        settings, device = SETTINGS_GRID[self.settings_index], self.run.device
        self.labels = torch.from_numpy(np.array(self.sample.labels)).to(device)
        self.where = torch.from_numpy(contexts(settings, self.helper)).to(device)
        self.sizes = torch.tensor(tensor_sizes(settings, self.helper), dtype=torch.float32, device=device)
        self.state = self._initial_state()
        self.last_saved = self.run.seconds

    def _initial_state(self) -> _State:
        """Normal latent weights in units of the step, and a temperature that makes the first logits about one."""
        num_weights, num_tensors = len(self.where), len(self.sizes)
        generator = torch_stream(self.run.seed, f"separable/init/{self.settings_index}")
        latent = INITIAL_SPREAD * torch.randn(num_weights, generator=generator)
        features = tensor_shapes(SETTINGS_GRID[self.settings_index], self.helper)[-1][1]
        temperature = torch.tensor(math.log(2 / (INITIAL_SPREAD * math.sqrt(features))))
        tensors = (latent, torch.zeros(num_tensors), temperature, latent.clone(), torch.zeros(num_weights) > 0)
        return self._state(dict(zip(_STATE_TENSORS, tensors, strict=True)))

    def _state(self, tensors: dict[str, torch.Tensor]) -> _State:
        placed = {name: tensors[name].to(self.run.device) for name in _STATE_TENSORS}
        for name in ("latent", "log_steps", "log_temperature"):
            placed[name].requires_grad_()
        return _State(where=self.where, **placed)

    @property
    def fraction(self) -> float:
        """Fraction used of the budget less what the last count of errors needs."""
        return min(1.0, self.run.seconds / max(1e-9, self.run.budget_seconds - 1.5 * self.count_seconds))

    def consider(self, name: str) -> None:
        """Write the message, decode it, count its errors on the whole sample, keep it if it is the best."""
        message, ledger = write(self.settings_index, self.helper, self.state.integers())
        self.book(name, message, ledger)

    def book(self, name: str, message: bytes, ledger: Ledger) -> None:
        """Judge a message."""
        started = clock.seconds()
        count = count_errors(decode_message(message, self.helper).classifier, self.sample)
        self.count_seconds = clock.seconds() - started
        candidate = self.run.consider(name, count.errors, len(self.sample), ledger.total_bits)
        if self.best is None or _rank(candidate) < _rank(self.best.candidate):
            self.best = _Tried(message, ledger, candidate)
        self.last_considered = self.run.seconds

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next examples in an order that depends on seed and step alone."""
        size = min(BATCH_SIZE, len(self.sample))
        epoch, position = divmod(self.step, len(self.sample) // size)
        if self.order[0] != epoch:
            permutation = stream(self.run.seed, f"separable/order/{epoch}").permutation(len(self.sample))
            self.order = (epoch, permutation)
        chosen = self.order[1][position * size : (position + 1) * size]
        inputs = self.helper.preprocessing(self.sample.inputs[chosen]).to(self.run.device)
        return inputs, self.labels[torch.from_numpy(chosen).to(self.run.device)]

    def save(self) -> None:
        """Write the checkpoint."""
        if self.run.checkpoint is None:
            return
        values = {name: getattr(self, name) for name in ("settings_index", "stage", "step", "count_seconds")}
        best = self.best.message if self.best is not None else b""
        tensors = self.state.tensors() | {"best": torch.tensor(list(best), dtype=torch.uint8)}
        self.run.checkpoint.save({**values, "seconds": self.run.seconds}, tensors)
        self.last_saved = self.run.seconds


def _rank(candidate: Candidate) -> tuple[float, int]:
    return candidate.bound, candidate.message_bits


def _resume(search: _Search) -> None:
    """Go on from the checkpoint, if there is one; Adam's averages start anew."""
    checkpoint: Checkpoint | None = search.run.checkpoint
    loaded = checkpoint.load() if checkpoint is not None else None
    if loaded is None or loaded[0].get("settings_index") != search.settings_index:
        return
    values, tensors = loaded
    search.run.spent_before(float(str(values["seconds"])))
    search.stage, search.step = int(str(values["stage"])), int(str(values["step"]))
    search.count_seconds = float(str(values["count_seconds"]))
    search.state = search._state(tensors)
    best = tensors["best"].numpy().tobytes()
    if best:
        search.book("from the checkpoint", best, decode_message(best, search.helper).ledger)
    search.last_saved = search.run.seconds


def _descend(search: _Search, optimiser: torch.optim.Optimizer, rate: RateModel, price: float) -> None:
    """One step of Adam on ``loss + price * bits * ln2 / m`` of a batch."""
    state, settings = search.state, SETTINGS_GRID[search.settings_index]
    inputs, labels = search.batch()
    scaled = state.scaled()
    rounded = scaled + (scaled.round() - scaled).detach()
    logits = forward(settings, inputs, split_weights(rounded, settings, search.helper))
    loss = functional.cross_entropy(logits * torch.exp(state.log_temperature), labels)
    penalty = price * math.log(2) / len(search.sample) * rate.bits(scaled, search.where)
    optimiser.zero_grad(set_to_none=True)
    (loss + penalty).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    with torch.no_grad():
        state.watch(rounded.detach())
    search.step += 1


def _optimiser(state: _State) -> torch.optim.Adam:
    slow = [state.log_steps, state.log_temperature]
    groups = [{"params": [state.latent], "peak": LEARNING_RATE}, {"params": slow, "peak": STEP_LEARNING_RATE}]
    return torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99))


def _train_stage(search: _Search, stage: Stage, start: float) -> None:
    """Run one stage until its share of the budget is used."""
    run, optimiser = search.run, _optimiser(search.state)
    steps_taken = 0
    while (fraction := search.fraction) < stage.until:
        progress = (fraction - start) / (stage.until - start)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * stage.heat * (0.5 + 0.5 * math.cos(math.pi * progress))
        if progress > FREEZE_FROM:
            search.state.log_steps.requires_grad_(False)
            search.state.freeze(min(1.0, (progress - FREEZE_FROM) / (FREEZE_UNTIL - FREEZE_FROM)))
        if steps_taken % _RATE_REFRESH == 0:
            rate = RateModel.fit(search.state.scaled().detach().round(), search.where, search.sizes)
            run.progress("training a separable net", fraction)
        price = stage.price * (min(1.0, progress / RATE_RAMP) if start == 0 else 1.0)
        _descend(search, optimiser, rate, price)
        steps_taken += 1
        since = run.seconds - search.last_considered
        if progress > FREEZE_FROM and since * COUNTING_SHARE > max(search.count_seconds, 0.002 * run.budget_seconds):
            search.consider(f"lambda {stage.price:g} at {fraction:.0%}")
        if run.seconds - search.last_saved > CHECKPOINT_SECONDS:
            search.save()
    search.state.log_steps.requires_grad_(True)


def compress_separable(sample: Sample, helper: Helper, run: Run, *, settings: int | None = None) -> Compressed:
    """Train a separable net of family 2 for the smallest bound found in the time budget.

    Args:
        sample: the training sample, images of shape ``[channels, height, width]``; errors are counted on it as it is.
        helper: of the same problem.
        run: seed, budget, device, progress, checkpoint.
        settings: index in :data:`SETTINGS_GRID`, or ``None`` for :func:`default_settings`. It is in the message.

    Raises:
        InputError: when the inputs are not images or there are no such settings.
    """
    if not is_image_shape(helper.input_shape):
        got = f"inputs of shape {list(helper.input_shape)}"
        raise InputError("images [channels, height, width] for a separable net", got, "use another compressor")
    if settings is None:
        settings = default_settings(len(sample), helper)
    if not 0 <= settings < len(SETTINGS_GRID):
        do = "choose one of the fixed grid"
        raise InputError(f"separable settings between 0 and {len(SETTINGS_GRID) - 1}", str(settings), do)
    search = _Search(sample, helper, run, settings)
    _resume(search)
    if search.best is None:
        search.consider("untrained")
    while search.stage < len(STAGES):
        stage = STAGES[search.stage]
        start = STAGES[search.stage - 1].until if search.stage else 0.0
        _train_stage(search, stage, start)
        search.state.freeze(1.0)
        if search.step:
            search.consider(f"lambda {stage.price:g}, end of stage")
        search.state.thaw()
        search.stage += 1
        search.save()
    assert search.best is not None
    return Compressed(search.best.message, search.best.ledger, helper, tuple(run.candidates))
