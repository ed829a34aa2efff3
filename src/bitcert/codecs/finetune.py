"""Fine-tuning for the certificate: straight-through rounding under a differentiable rate term.

Each tensor is ``base + step * round(v)``; ``v`` and ``log step`` are trained by Adam on

    cross-entropy + strength * bits * ln 2 / m,

the rounding passing gradients through (Bengio et al. 2013) and the gradient of ``bits`` being the marginal cost of
the present integers (:mod:`bitcert.codecs.rate`). One bit of message weighs as much in the bound as ``ln 2``
nats of divergence over ``m`` examples, so a strength near one is the exchange rate; it is raised slowly, so that
weights leave while the others can still make up for them. Steps are snapped to their grid when the learning rate
begins to fall. Every candidate is written, decoded and counted; the loss here proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bitcert.codecs.quantisation import Problem, Quantisation, Setting, Tried
from bitcert.codecs.rate import RateSlopes, rate_slopes
from bitcert.coding import MAX_MAGNITUDE
from bitcert.coding.steps import MAX_EXPONENT, STEPS_PER_OCTAVE
from bitcert.decoder import decode_message
from bitcert.decoder.network import base_value, cheapest_exponents, network_inputs
from bitcert.network import OpaqueModel, ParameterSpec
from bitcert.random import stream
from bitcert.run import Candidate

State = tuple[dict[str, object], dict[str, torch.Tensor]]

LOOK_EVERY = 0.1
"""Fraction of the fine-tuning between candidates, once the steps are fixed."""
WORTH_A_COUNT = 0.9


@dataclass(frozen=True)
class Schedule:
    """How training proceeds; fractions are of the fine-tuning's share of the time budget.

    Attributes:
        batch_size: examples of a step.
        rate: learning rate of the integers, in steps of quantisation.
        rate_exponent: learning rate of the step exponents, in quarter octaves.
        first_strength: of the rate term in the beginning.
        strength: of the rate term from ``ramp_until`` on.
        ramp_until: fraction at which the strength is reached.
        snap_at: fraction at which steps are fixed.
        refresh: training steps between updates of the slopes.
        checkpoint_seconds: seconds between checkpoints.
    """

    batch_size: int = 64
    rate: float = 0.03
    rate_exponent: float = 0.03
    first_strength: float = 0.3
    strength: float = 2.5
    ramp_until: float = 0.4
    snap_at: float = 0.5
    refresh: int = 25
    checkpoint_seconds: float = 20.0

    def strength_at(self, t: float) -> float:
        """Geometric ramp to the full strength."""
        done = min(1.0, t / self.ramp_until)
        return float(self.first_strength * (self.strength / self.first_strength) ** done)

    def decay_at(self, t: float) -> float:
        """Factor of the learning rates: a short warm-up, constant, then a cosine to zero from the snap on."""
        if t < self.snap_at:
            return min(1.0, 0.1 + 30 * t)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (t - self.snap_at) / (1 - self.snap_at))))


def is_trained(spec: ParameterSpec) -> bool:
    """Buffers keep the values that the post-training search gave them."""
    return spec.kind != "buffer" and spec.num_entries > 0


class _Tensor:
    """One trainable tensor: ``base + 2^(e/4) * round(v)``."""

    def __init__(self, spec: ParameterSpec, scaled: torch.Tensor, exponent: float) -> None:
        self.spec = spec
        self.scaled = scaled.requires_grad_()
        self.exponent = torch.tensor(float(exponent), device=scaled.device, requires_grad=True)
        self.slopes: RateSlopes | None = None

    def value(self) -> torch.Tensor:
        rounded = self.scaled + (self.scaled.round() - self.scaled).detach()
        step = torch.exp2(self.exponent / STEPS_PER_OCTAVE)
        return base_value(self.spec.kind) + step * rounded

    def integers(self) -> np.ndarray:
        rounded = self.scaled.detach().round().clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE)
        return rounded.cpu().numpy().astype(np.int64)

    def refresh_slopes(self) -> None:
        self.slopes = rate_slopes(self.integers(), str(self.scaled.device))

    def add_rate_gradient(self, nats_per_bit: float) -> None:
        assert self.slopes is not None
        assert self.scaled.grad is not None
        self.scaled.grad.add_(self.slopes.gradient(self.scaled.detach()), alpha=nats_per_bit)


class Tuner:
    """The state of fine-tuning: latent tensors, optimiser, position in the data."""

    def __init__(self, problem: Problem, initial: Mapping[str, Setting], schedule: Schedule) -> None:
        self.problem, self.run, self.schedule, self.initial = problem, problem.run, schedule, initial
        self.device = "cpu" if isinstance(problem.predictor, OpaqueModel) else problem.run.device
        start = problem.quantise(initial)
        self.tensors: list[_Tensor] = []
        self.fixed: dict[str, np.ndarray] = {}
        self.fixed_exponents: dict[str, int] = {}
        self.fixed_values: dict[str, torch.Tensor] = {}
        for spec in problem.predictor.parameters:
            setting = initial[spec.name]
            if not is_trained(spec):
                self._fix(spec, start, setting)
                continue
            step = 2.0 ** (setting.exponent / STEPS_PER_OCTAVE)
            scaled = (problem.values[spec.name] - base_value(spec.kind)) / step
            dead = np.abs(scaled) < setting.dead_zone
            scaled = np.where(dead, np.clip(scaled, -0.45, 0.45), scaled)
            latent = torch.tensor(scaled, dtype=torch.float32, device=self.device)
            self.tensors.append(_Tensor(spec, latent, setting.exponent))
        self.optimiser = torch.optim.Adam(
            [
                {"params": [t.scaled for t in self.tensors], "lr": schedule.rate, "initial": schedule.rate},
                {"params": [t.exponent for t in self.tensors], "lr": 0.0, "initial": schedule.rate_exponent},
            ],
            betas=(0.9, 0.99),
            eps=1e-12,
        )
        self.num_steps = 0
        self.snapped = False
        self.started = problem.run.seconds

    def _fix(self, spec: ParameterSpec, start: Quantisation, setting: Setting) -> None:
        step = 2.0 ** (setting.exponent / STEPS_PER_OCTAVE)
        self.fixed[spec.name] = start.integers[spec.name]
        self.fixed_exponents[spec.name] = setting.exponent
        values = base_value(spec.kind) + start.integers[spec.name] * step
        self.fixed_values[spec.name] = torch.tensor(values, dtype=torch.float32, device=self.device).reshape(spec.shape)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The examples of the present step, in the order of a named stream."""
        sample, size = self.problem.sample, min(self.schedule.batch_size, len(self.problem.sample))
        per_epoch = len(sample) // size
        epoch, position = divmod(self.num_steps, per_epoch)
        if position == 0 or not hasattr(self, "_order"):
            self._order = stream(self.run.seed, f"finetune/order/{epoch}").permutation(len(sample))
        chosen = self._order[position * size : (position + 1) * size]
        x = network_inputs(self.problem.predictor, self.problem.helper.preprocessing, sample.inputs[chosen])
        return x.to(self.device), torch.from_numpy(sample.labels[chosen]).to(self.device)

    def step(self, t: float) -> float:
        """One step of Adam at the fraction ``t`` of the schedule; returns the cross-entropy."""
        schedule = self.schedule
        if not self.snapped and t >= schedule.snap_at:
            self.snap()
        if self.num_steps % schedule.refresh == 0 or self.tensors[0].slopes is None:
            for tensor in self.tensors:
                tensor.refresh_slopes()
        x, y = self.batch()
        values = {**self.fixed_values, **{t.spec.name: t.value() for t in self.tensors}}
        loss = F.cross_entropy(self.problem.predictor.forward(x, values), y)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nats_per_bit = schedule.strength_at(t) * math.log(2) / len(self.problem.sample)
        for tensor in self.tensors:
            if tensor.scaled.grad is not None:
                tensor.add_rate_gradient(nats_per_bit)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial"] * schedule.decay_at(t)
        if self.snapped:
            self.optimiser.param_groups[1]["lr"] = 0.0
        self.optimiser.step()
        self.num_steps += 1
        return float(loss.detach())

    @torch.no_grad()
    def snap(self) -> None:
        """Fix the steps on the grid of the code."""
        for tensor in self.tensors:
            tensor.exponent.round_().clamp_(-MAX_EXPONENT, MAX_EXPONENT)
        self.snapped = True

    def is_finite(self) -> bool:
        """Whether training has not diverged."""
        return all(bool(torch.isfinite(x).all()) for t in self.tensors for x in (t.scaled, t.exponent))

    def quantisation(self) -> Quantisation:
        """The present integers and the nearest step exponents."""
        integers, exponents = dict(self.fixed), dict(self.fixed_exponents)
        for tensor in self.tensors:
            integers[tensor.spec.name] = tensor.integers()
            exponent = max(-MAX_EXPONENT, min(MAX_EXPONENT, round(float(tensor.exponent.detach()))))
            exponents[tensor.spec.name] = exponent
        return Quantisation(integers, cheapest_exponents(self.problem.predictor, integers, exponents))

    def save(self) -> None:
        """Write the checkpoint."""
        best = self.problem.best
        assert self.run.checkpoint is not None
        assert best is not None
        tensors = {"best": torch.frombuffer(bytearray(best.message), dtype=torch.uint8)}
        for name, tensor in self._state_tensors().items():
            tensors[name] = tensor
        values = {
            "seconds": self.run.seconds,
            "seconds_of_a_count": self.problem.seconds_of_a_count,
            "settings": {name: asdict(setting) for name, setting in self.initial.items()},
            "started": self.started,
            "num_steps": self.num_steps,
            "snapped": self.snapped,
            "best": asdict(best.candidate),
            "candidates": [asdict(candidate) for candidate in self.run.candidates],
        }
        self.run.checkpoint.save(values, tensors)

    def _state_tensors(self) -> dict[str, torch.Tensor]:
        tensors = {}
        for k, tensor in enumerate(self.tensors):
            for part in ("scaled", "exponent"):
                latent = getattr(tensor, part)
                tensors[f"{part}/{k}"] = latent
                for key, moment in self.optimiser.state.get(latent, {}).items():
                    tensors[f"{part}/{k}/{key}"] = moment
        return tensors

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Go on from a checkpoint."""
        values, tensors = state
        self.num_steps, self.snapped = int(str(values["num_steps"])), bool(values["snapped"])
        for k, tensor in enumerate(self.tensors):
            for part in ("scaled", "exponent"):
                latent, prefix = getattr(tensor, part), f"{part}/{k}/"
                latent.copy_(tensors[f"{part}/{k}"])
                moments = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
                if moments:
                    self.optimiser.state[latent] = {
                        key: v if key == "step" else v.to(self.device) for key, v in moments.items()
                    }


def can_tune(problem: Problem) -> bool:
    """Whether the logits can be followed back to the parameters; a user's own code may not let them."""
    values = {
        spec.name: torch.tensor(problem.values[spec.name], dtype=torch.float32, requires_grad=is_trained(spec))
        for spec in problem.predictor.parameters
    }
    trained = [value for value in values.values() if value.requires_grad]
    x = network_inputs(problem.predictor, problem.helper.preprocessing, problem.sample.inputs[:2])
    try:
        logits = problem.predictor.forward(x, values)
        gradients = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
    except RuntimeError:
        return False
    return any(gradient is not None for gradient in gradients)


def tune(problem: Problem, initial: Mapping[str, Setting], schedule: Schedule | None = None) -> None:
    """Train until the time budget is used; the best message is left in ``problem.best``.

    Args:
        problem: what is compressed.
        initial: where to start, from the post-training search.
        schedule: by default :class:`Schedule`.
    """
    if any(is_trained(spec) for spec in problem.predictor.parameters):
        _train(Tuner(problem, initial, schedule or Schedule()), problem.run.seconds)


def resume(problem: Problem, state: State, schedule: Schedule | None = None) -> None:
    """Go on with a :func:`tune` that was interrupted, from its checkpoint."""
    values, tensors = state
    saved: Any = values
    run = problem.run
    run.spent_before(float(saved["seconds"]))
    run.candidates[:] = [Candidate(**candidate) for candidate in saved["candidates"]]
    message = tensors["best"].numpy().tobytes()
    problem.best = Tried(message, decode_message(message, problem.helper).ledger, Candidate(**saved["best"]))
    problem.seconds_of_a_count = float(saved["seconds_of_a_count"])
    settings = {name: Setting(**setting) for name, setting in saved["settings"].items()}
    tuner = Tuner(problem, settings, schedule or Schedule())
    tuner.restore(state)
    _train(tuner, float(saved["started"]))


def _train(tuner: Tuner, started: float) -> None:
    problem, run = tuner.problem, tuner.run
    tuner.started = started
    # the last candidates are counted within the budget
    end = max(started + 1e-3, run.budget_seconds - 1.3 * problem.seconds_of_a_count)
    next_look, last_save = tuner.schedule.snap_at, run.seconds
    while run.seconds < end and not run.stopped:
        t = max(0.0, (run.seconds - started) / (end - started))
        if not math.isfinite(tuner.step(t)):
            return
        run.progress("fine-tuning for the certificate", t)
        if t >= next_look and tuner.is_finite():
            next_look = t + LOOK_EVERY
            _look(tuner, f"fine-tuned, {100 * t:.0f} %")
        if run.checkpoint is not None and run.seconds - last_save > tuner.schedule.checkpoint_seconds:
            tuner.save()
            last_save = run.seconds
    if tuner.is_finite():
        problem.consider("fine-tuned", tuner.quantisation())


def _look(tuner: Tuner, name: str) -> None:
    """Book the present integers where the subsample says that they are much better than what is booked."""
    problem, quantisation = tuner.problem, tuner.quantisation()
    best = problem.best
    if best is None or problem.estimate(quantisation) < WORTH_A_COUNT * best.candidate.bound:
        problem.consider(name, quantisation)
