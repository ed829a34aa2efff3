"""Learned quantisation of a given network: steps searched on the bound itself, then optional fine-tuning.

Post-training: every tensor's step is a common fraction of its own root mean square, swept over a grid; then single
steps and dead zones (a wider bin around zero) are changed as long as the bound falls. Candidates are ranked on a
subsample and booked on the whole sample, and the message kept is the best of those booked. Choosing among messages of
one prefix code costs nothing (THEORY section 2). Not guaranteed: that the search finds the best steps, or any message
with a bound below one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from bitcert.certify import occam_bound
from bitcert.coding import MAX_MAGNITUDE, Ledger, step_size
from bitcert.coding.steps import MAX_EXPONENT, nearest_exponent
from bitcert.compress.run import Candidate, Compressed, Run
from bitcert.data import Sample
from bitcert.errors import InputError
from bitcert.evaluate import count_errors
from bitcert.helper import Helper, decode_message
from bitcert.helper.quantised import (
    Integers,
    QuantisedNetwork,
    UnitsInUse,
    base_value,
    cheapest_exponents,
    dequantise,
    tensor_code_bits,
    write,
)
from bitcert.network import Network, ParameterSpec, Predictor
from bitcert.random import stream

FRACTIONS_OF_RMS = tuple(2.0 ** (k / 2) for k in (-1, 1, -3, 0, -2, 2, -4, -5, 3, -6, -8))
"""Likely ones first: a short budget ends the sweep early."""
DEAD_ZONES = (0.5, 0.6, 0.75, 0.9)
SUBSAMPLE = 2000
SWEEP_FRACTION = 0.1
LEAST_FRACTIONS = 3


@dataclass(frozen=True)
class Setting:
    """How one tensor is rounded: step exponent, and the fraction of a step below which it becomes zero."""

    exponent: int
    dead_zone: float = 0.5


@dataclass(frozen=True, eq=False)
class Quantisation:
    """Integers and step exponents of every tensor, by name."""

    integers: Mapping[str, Integers]
    exponents: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Tried:
    """A message, its ledger, and what it is worth on the whole sample."""

    message: bytes
    ledger: Ledger
    candidate: Candidate


class Problem:
    """What a search over quantisations of one network shares: data, helper, run, best message so far."""

    def __init__(self, values: Mapping[str, torch.Tensor], sample: Sample, helper: Helper, run: Run) -> None:
        if helper.predictor is None:
            raise InputError("a helper with the network's architecture", "none", "pass Helper(predictor=...)")
        self.predictor: Predictor = helper.predictor
        self.values = {name: tensor.detach().double().cpu().numpy() for name, tensor in values.items()}
        self.sample, self.helper, self.run = sample, helper, run
        size = min(len(sample), SUBSAMPLE)
        chosen = np.sort(stream(run.seed, "quantise/subsample").permutation(len(sample))[:size])
        self.subsample = (
            sample
            if size == len(sample)
            else Sample(sample.inputs[chosen], sample.labels[chosen], sample.num_classes, sample.role, sample.name)
        )
        self.best: Tried | None = None
        self.seconds_of_a_count = 0.0

    @property
    def searched(self) -> tuple[ParameterSpec, ...]:
        """Tensors whose steps are chosen; the others are exact integers."""
        return tuple(spec for spec in self.predictor.parameters if not self.is_exact(spec))

    def is_exact(self, spec: ParameterSpec) -> bool:
        """Whether a tensor is a buffer of integers (such as token positions), coded without loss."""
        values = self.values[spec.name]
        whole = bool(np.all(values == np.rint(values))) and np.abs(values).max(initial=0) <= MAX_MAGNITUDE
        return spec.kind == "buffer" and whole

    def quantise(self, settings: Mapping[str, Setting]) -> Quantisation:
        """Round every tensor as its setting says."""
        integers = {}
        for spec in self.predictor.parameters:
            values = self.values[spec.name] - base_value(spec.kind)
            setting = settings[spec.name]
            scaled = values / step_size(setting.exponent)
            rounded = np.clip(np.rint(scaled), -MAX_MAGNITUDE, MAX_MAGNITUDE).astype(np.int64)
            integers[spec.name] = np.where(np.abs(scaled) < setting.dead_zone, 0, rounded)
        exponents = {name: setting.exponent for name, setting in settings.items()}
        return Quantisation(integers, cheapest_exponents(self.predictor, integers, exponents))

    def estimate(self, quantisation: Quantisation) -> float:
        """Smoothed guess of the bound from the subsample and the ideal code length (for ranking only)."""
        bits = code_bits(self.predictor, quantisation)
        weights = dequantise(self.predictor, quantisation.integers, quantisation.exponents)
        classifier = QuantisedNetwork(self.helper, self.predictor, weights)
        rate = count_errors(classifier, self.subsample).rate
        return bound_estimate(rate, bits, len(self.sample), self.run.delta)

    def consider(self, name: str, quantisation: Quantisation) -> Tried:
        """Write the message, decode it, count its errors on the whole sample, keep it if it is the best."""
        message, ledger = write(self.predictor, quantisation.integers, quantisation.exponents)
        started = self.run.seconds
        classifier = decode_message(message, self.helper).classifier
        count = count_errors(classifier, self.sample, progress=self.run.progress)
        self.seconds_of_a_count = self.run.seconds - started
        candidate = self.run.consider(name, count.errors, len(self.sample), 8 * len(message))
        tried = Tried(message, ledger, candidate)
        if self.best is None or _rank(tried) < _rank(self.best):
            self.best = tried
        return tried

    def result(self) -> Compressed:
        """The best message so far."""
        assert self.best is not None
        return Compressed(self.best.message, self.best.ledger, self.helper, tuple(self.run.candidates))


def _rank(tried: Tried) -> tuple[float, int]:
    return tried.candidate.bound, tried.candidate.message_bits


def code_bits(predictor: Predictor, quantisation: Quantisation) -> float:
    """Ideal length of the tensors' sections in bits, without the exponents."""
    units, bits = UnitsInUse(), 0.0
    for spec in predictor.parameters:
        values = quantisation.integers[spec.name]
        bits += tensor_code_bits(values, units)[0]
        units.update(values)
    return bits


def bound_estimate(rate: float, bits: float, num_samples: int, delta: float) -> float:
    """The bound these would give; where it is vacuous, 1 plus how far from saying something."""
    bound = occam_bound(round(rate * num_samples), num_samples, math.ceil(bits), delta).binomial
    return bound if bound < 0.999 else 1.0 + rate + bits / num_samples


def compress_network(
    network: Network, sample: Sample, helper: Helper, run: Run, *, fine_tune: bool = True
) -> Compressed:
    """Compress a captured network into a message of family 3 with the smallest bound found in the time budget.

    Args:
        network: the captured network with its trained values.
        sample: the training sample on which errors are counted.
        helper: its ``predictor`` is the network's architecture, or ``None`` to fill it in.
        run: budget, seed, checkpoint.
        fine_tune: also train the integers (straight-through rounding under a rate term).

    Raises:
        InputError: when the helper holds another architecture, or the data do not fit the network.
    """
    architecture = network.architecture
    if helper.predictor is None:
        helper = replace(helper, predictor=architecture)
    elif helper.predictor.content_hash != architecture.content_hash:
        raise InputError("the network's own architecture in the helper", "another one", "capture the network again")
    return compress_values(network.parameters, sample, helper, run, fine_tune=fine_tune)


def compress_values(
    values: Mapping[str, torch.Tensor], sample: Sample, helper: Helper, run: Run, *, fine_tune: bool = True
) -> Compressed:
    """The same for any predictor in the helper (an opaque module too) and the values of its tensors, by name.

    Raises:
        InputError: as :func:`compress_network`.
    """
    from bitcert.compress.finetune import resume, tune

    problem = Problem(values, sample, helper, run)
    state = run.checkpoint.load() if run.checkpoint is not None and fine_tune else None
    if state is not None:
        resume(problem, state)
        return problem.result()
    estimate, settings = sweep_precision(problem, SWEEP_FRACTION)
    problem.consider("common precision", problem.quantise(settings))
    if fine_tune:
        tune(problem, settings)
    else:
        refine_steps(problem, settings, estimate)
    return problem.result()


def sweep_precision(problem: Problem, until: float) -> tuple[float, dict[str, Setting]]:
    """The best common precision on the subsample and its estimated bound; stops at this fraction of the budget."""
    ranked = []
    for k, fraction in enumerate(FRACTIONS_OF_RMS):
        problem.run.progress("choosing quantisation steps", k / len(FRACTIONS_OF_RMS))
        settings = common_settings(problem, fraction)
        ranked.append((problem.estimate(problem.quantise(settings)), k, settings))
        if problem.run.fraction > until and k >= LEAST_FRACTIONS:
            break
    estimate, _, settings = min(ranked, key=lambda item: item[:2])
    return estimate, settings


def common_settings(problem: Problem, fraction: float) -> dict[str, Setting]:
    """Every step the same fraction of its tensor's root mean square over non-zero entries."""
    settings = {}
    for spec in problem.predictor.parameters:
        values = problem.values[spec.name] - base_value(spec.kind)
        values = values[values != 0]
        if problem.is_exact(spec) or not values.size:
            settings[spec.name] = Setting(0 if problem.is_exact(spec) else -12)
            continue
        rms = math.sqrt(float(np.mean(np.square(values))))
        settings[spec.name] = Setting(nearest_exponent(fraction * max(rms, 1e-30)))
    return settings


def refine_steps(problem: Problem, settings: dict[str, Setting], estimate: float) -> None:
    """Change one tensor's setting at a time while the estimated bound falls; book the outcome of each round."""
    # the last round is counted within the budget
    end = problem.run.budget_seconds - 1.2 * problem.seconds_of_a_count
    improved = True
    while improved and problem.run.seconds < end:
        improved = False
        for k, spec in enumerate(problem.searched):
            problem.run.progress("refining quantisation steps", k / len(problem.searched))
            for change in _changes(settings[spec.name]):
                if problem.run.seconds > end:
                    break
                trial = {**settings, spec.name: change}
                trial_estimate = problem.estimate(problem.quantise(trial))
                if trial_estimate < estimate:
                    settings, estimate, improved = trial, trial_estimate, True
        if improved:
            problem.consider("refined precision", problem.quantise(settings))


def _changes(setting: Setting) -> list[Setting]:
    exponents = [setting.exponent + d for d in (4, 1, -1) if abs(setting.exponent + d) <= MAX_EXPONENT]
    steps = [replace(setting, exponent=exponent) for exponent in exponents]
    zones = [replace(setting, dead_zone=zone) for zone in DEAD_ZONES if zone != setting.dead_zone]
    return steps + zones
