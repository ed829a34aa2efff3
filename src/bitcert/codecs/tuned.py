"""Learned quantisation of a given network: steps searched on the bound itself, then optional fine-tuning.

Post-training: every tensor's step is a common fraction of its own root mean square, swept over a grid; then single
steps and dead zones (a wider bin around zero) are changed as long as the bound falls. Candidates are ranked on a
subsample and booked on the whole sample, and the message kept is the best of those booked. Choosing among messages of
one prefix code costs nothing (docs/theory.md section 2). Not guaranteed: that the search finds the best steps, or any
message with a bound below one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from bitcert.codecs.base import network_helper
from bitcert.codecs.finetune import can_tune, resume, tune
from bitcert.codecs.quantisation import Problem, Setting
from bitcert.coding.steps import MAX_EXPONENT, nearest_exponent
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.network import base_value
from bitcert.network import Network
from bitcert.run import Compressed, Run

FRACTIONS_OF_RMS = tuple(2.0 ** (k / 2) for k in (-1, 1, -3, 0, -2, 2, -4, -5, 3, -6, -8))
"""Likely ones first: a short budget ends the sweep early."""
DEAD_ZONES = (0.5, 0.6, 0.75, 0.9)
SWEEP_FRACTION = 0.1
REFINE_FRACTION = 0.2
"""Until then a run with fine-tuning refines without it: where time is short, that is the better message."""
LEAST_FRACTIONS = 3


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
    helper = network_helper(network, sample, helper)
    return compress_values(network.parameters, sample, helper, run, fine_tune=fine_tune)


def compress_values(
    values: Mapping[str, torch.Tensor], sample: Sample, helper: Helper, run: Run, *, fine_tune: bool = True
) -> Compressed:
    """The same for any predictor in the helper (an opaque module too) and the values of its tensors, by name.

    Raises:
        InputError: as :func:`compress_network`.
    """
    problem = Problem(values, sample, helper, run)
    if fine_tune and resume(problem):
        return problem.result()
    estimate, settings = sweep_precision(problem, SWEEP_FRACTION)
    problem.keep("common precision", problem.quantise(settings))
    if fine_tune and can_tune(problem):
        refine_steps(problem, dict(settings), estimate, REFINE_FRACTION)
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


def refine_steps(problem: Problem, settings: dict[str, Setting], estimate: float, until: float = 1.0) -> None:
    """Change one tensor's setting at a time while the estimated bound falls; book the outcome of each round.

    It ends, the last count included, at the fraction ``until`` of the time budget.
    """
    end = until * problem.run.budget_seconds - 1.2 * problem.seconds_of_a_count
    improved = True
    while improved and problem.run.seconds < end and not problem.run.stopped:
        improved = False
        for k, spec in enumerate(problem.searched):
            problem.run.progress("refining quantisation steps", k / len(problem.searched))
            for change in _changes(settings[spec.name]):
                if problem.run.seconds > end or problem.run.stopped:
                    break
                trial = {**settings, spec.name: change}
                trial_estimate = problem.estimate(problem.quantise(trial))
                if trial_estimate < estimate:
                    settings, estimate, improved = trial, trial_estimate, True
        if improved:
            problem.keep("refined precision", problem.quantise(settings))


def _changes(setting: Setting) -> list[Setting]:
    exponents = [setting.exponent + d for d in (4, 1, -1) if abs(setting.exponent + d) <= MAX_EXPONENT]
    steps = [replace(setting, exponent=exponent) for exponent in exponents]
    zones = [replace(setting, dead_zone=zone) for zone in DEAD_ZONES if zone != setting.dead_zone]
    return steps + zones
