"""Fine-tuning for the certificate: straight-through rounding under a differentiable rate term.

Each tensor is ``base + step * round(v)``; ``v`` and ``log step`` are trained by Adam on

    cross-entropy + strength * bits * ln 2 / m,

the rounding passing gradients through (Bengio et al. 2013) and the gradient of ``bits`` being the marginal cost of
the present integers (:mod:`bitcert.codecs.integer_training`). One bit of message weighs as much in the bound as
``ln 2`` nats of divergence over ``m`` examples, so a strength near one is the exchange rate; it is raised slowly, so
that weights leave while the others can still make up for them. Steps are snapped to their grid when the learning rate
begins to fall. Every candidate is written, decoded and counted; the loss here proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch

from bitcert.codecs.best import State
from bitcert.codecs.integer_training import FREEZE_FROM, IntegerModel, PricedIntegers
from bitcert.codecs.quantisation import Problem, Quantisation, Setting
from bitcert.codecs.training import Looks, Schedule, Status, Tensors, Trainer
from bitcert.coding import step_size
from bitcert.coding.steps import MAX_EXPONENT, STEPS_PER_OCTAVE
from bitcert.decoder.network import base_value, cheapest_exponents, dequantise, network_inputs
from bitcert.network import ParameterSpec

SCHEDULE = Schedule(rate=0.03, warm_up=0.03, decay_from=FREEZE_FROM)
LOOKS = (FREEZE_FROM, 0.6, 0.7, 0.8, 0.9)
"""Fractions of the fine-tuning at which candidates are looked at: once the steps are fixed."""
FIRST_STRENGTH, STRENGTH, RAMP_UNTIL = 0.3, 2.5, 0.4
"""Of the rate term, in the beginning and from a fraction of the fine-tuning on."""
WORTH_A_COUNT = 0.9


def strength_at(fraction: float) -> float:
    """Strength of the rate term: a geometric ramp.

    >>> strength_at(0.0), strength_at(1.0)
    (0.3, 2.5)
    """
    return float(FIRST_STRENGTH * (STRENGTH / FIRST_STRENGTH) ** min(1.0, fraction / RAMP_UNTIL))


def is_trained(spec: ParameterSpec) -> bool:
    """Buffers keep the values that the post-training search gave them."""
    return spec.kind != "buffer" and spec.num_entries > 0


class TunedNetwork(IntegerModel):
    """What is trained: integers and step exponents of every tensor but the buffers.

    Args:
        problem: what is compressed.
        initial: where to start.
    """

    def __init__(self, problem: Problem, initial: Mapping[str, Setting]) -> None:
        super().__init__()
        self.predictor, self.initial = problem.predictor, initial
        start = problem.quantise(initial)
        self.trained = [spec for spec in self.predictor.parameters if is_trained(spec)]
        fixed = [spec for spec in self.predictor.parameters if not is_trained(spec)]
        self.fixed = {spec.name: start.integers[spec.name] for spec in fixed}
        values = dequantise(self.predictor, start.integers, start.exponents)
        self.fixed_values = {name: values[name].to(problem.device) for name in self.fixed}
        nats = math.log(2) / len(problem.sample)
        self.integers = [
            PricedIntegers(self._first(problem, spec), lambda fraction: nats * strength_at(fraction))
            for spec in self.trained
        ]
        self.scales = [
            torch.tensor(float(initial[spec.name].exponent), device=problem.device, requires_grad=True)
            for spec in self.trained
        ]

    def _first(self, problem: Problem, spec: ParameterSpec) -> torch.Tensor:
        """The trained values in steps; what the dead zone makes zero begins where it is rounded to zero."""
        setting = self.initial[spec.name]
        scaled = (problem.values[spec.name] - base_value(spec.kind)) / step_size(setting.exponent)
        scaled = np.where(np.abs(scaled) < setting.dead_zone, np.clip(scaled, -0.45, 0.45), scaled)
        return torch.tensor(scaled, dtype=torch.float32, device=problem.device)

    def weights(self) -> Tensors:
        """Every tensor, differentiable in integers and step exponents."""
        values = dict(self.fixed_values)
        for spec, integers, exponent in zip(self.trained, self.integers, self.scales, strict=True):
            step = torch.exp2(exponent / STEPS_PER_OCTAVE)
            values[spec.name] = base_value(spec.kind) + step * integers.rounded()
        return values

    def quantisation(self) -> Quantisation:
        """The present integers and the nearest step exponents."""
        integers = dict(self.fixed)
        exponents = {name: self.initial[name].exponent for name in self.fixed}
        for spec, latent, exponent in zip(self.trained, self.integers, self.scales, strict=True):
            integers[spec.name] = latent.values()
            exponents[spec.name] = max(-MAX_EXPONENT, min(MAX_EXPONENT, round(float(exponent.detach()))))
        return Quantisation(integers, cheapest_exponents(self.predictor, integers, exponents))


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


def trainer(
    problem: Problem, initial: Mapping[str, Setting], schedule: Schedule = SCHEDULE
) -> tuple[Trainer, TunedNetwork]:
    """The training that :func:`tune` runs, and what it trains."""
    model = TunedNetwork(problem, initial)
    return Trainer(problem, model, schedule, "finetune", "fine-tuning for the certificate"), model


def resume(problem: Problem) -> bool:
    """Go on with a :func:`tune` that was interrupted, if its run has a checkpoint; whether it had one."""
    state = problem.resume()
    if state is not None:
        tune(problem, {name: Setting(**kept) for name, kept in state.values["settings"].items()}, state=state)
    return state is not None


def tune(
    problem: Problem, initial: Mapping[str, Setting], schedule: Schedule = SCHEDULE, state: State | None = None
) -> None:
    """Train until the time budget is used; the best message is left in ``problem.best``.

    Args:
        problem: what is compressed.
        initial: where to start, from the post-training search.
        schedule: of the learning rates.
        state: of an interrupted training, to go on from.
    """
    if not any(is_trained(spec) for spec in problem.predictor.parameters):
        return
    training, model = trainer(problem, initial, schedule)
    if state is not None:
        training.restore(state)
    settings = {name: asdict(setting) for name, setting in initial.items()}

    def look(fraction: float) -> None:
        """Book the present integers where the subsample says that they are much better than what is booked."""
        quantisation = model.quantisation()
        if problem.estimate(quantisation) < WORTH_A_COUNT * problem.bound:
            problem.keep(f"fine-tuned, {100 * fraction:.0f} %", quantisation)

    status = training.train(problem.run.budget_seconds, Looks(LOOKS, look), lambda: {"settings": settings})
    if status is not Status.DIVERGED:
        problem.keep("fine-tuned", model.quantisation())
