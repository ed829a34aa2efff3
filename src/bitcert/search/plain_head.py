"""Helper features and an integer head, trained for the certificate itself (family 1).

For each feature setting tried: a convex sparse start, rounding, and exact discrete descent on ``loss + rate * bits``
while the rate goes up and down; after every stage the head is a candidate, judged by its binomial bound, and the best
message is kept. Settings and rates come from fixed lists; the setting used is in the message, the rate need not be,
since decoding does not use it. Selecting among candidates costs nothing: all are words of one prefix code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.counting import DecisionRule, ErrorCount, count_batch
from bitcert.data import Sample
from bitcert.decoder import Helper, linear_head
from bitcert.decoder.features.edges import FeatureSettings, features, num_features
from bitcert.errors import InputError
from bitcert.random import stream
from bitcert.run import Compressed, Run
from bitcert.search.plain_descent import descend_pairs, descend_singles
from bitcert.search.plain_objective import LIMIT, HeadObjective
from bitcert.search.plain_start import sparse_softmax

RATES = (1.5, 3.0, 1.8)
"""Prices of a bit in nats of loss over ln 2; cycled. An error at a few percent is worth about 1.7 bits."""

FEATURE_MEMORY_BYTES = 3 << 29
"""Training features beyond this are those of a random subset; errors are always counted on the whole sample."""

_START_UNIT = 0.3
_START_L1 = 100 / 60_000
_START_ITERATIONS = 80
_SMALL_SAMPLE = 6_000
_FINALISTS = 3
_MAX_CYCLES = 8
_MIN_RELATIVE_GAIN = 1e-3
_CHUNK = 500


@dataclass(eq=False)
class _Best:
    """The best head so far."""

    bound: float = np.inf
    settings: FeatureSettings | None = None
    weights: NDArray[np.int64] | None = None


def choose_settings(helper: Helper, num_samples: int) -> tuple[FeatureSettings | None, ...]:
    """Which settings to try, by a rule that looks at sizes only.

    Small samples: all that leave at least two pixels a window, screened first. Large ones: seven windows across
    for images of about 28 pixels, where a window spans a stroke, with smoothing.
    """
    available = linear_head.available_settings(helper)
    if available == (None,):
        return available
    side = min(helper.input_shape[1:])
    grids = sorted({s.grid for s in available if s is not None})
    if num_samples <= _SMALL_SAMPLE:
        return tuple(s for s in available if s is not None and (s.grid * 1.5 <= side or s.grid == grids[0]))
    preferred = min(grids, key=lambda grid: abs(grid - side / 4))
    colour = helper.input_shape[0] > 1
    return tuple(s for s in available if s and s.grid == preferred and s.smoothing == 1 and s.intensity == colour)


def head_memory_bytes(helper: Helper, num_samples: int) -> int:
    """Peak memory of a descent beside the program and the data: features, their gathered part, probabilities."""
    widest = max(num_features(s, helper.input_shape) for s in choose_settings(helper, num_samples))
    rows = min(num_samples, FEATURE_MEMORY_BYTES // (4 * widest))
    return 4 * rows * (2 * widest + 6 * helper.num_classes)


def _feature_matrix(
    sample: Sample, helper: Helper, settings: FeatureSettings | None, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``features_t [features, m']`` and ``labels [m']`` of the training subset that fits in memory."""
    width = num_features(settings, helper.input_shape)
    most = FEATURE_MEMORY_BYTES // (4 * width)
    rows = np.arange(len(sample))
    if len(sample) > most:
        rows = np.sort(stream(seed, "training subset").permutation(len(sample))[:most])
    matrix = torch.empty(width, len(rows))
    for start in range(0, len(rows), _CHUNK):
        chosen = rows[start : start + _CHUNK]
        batch = helper.preprocessing(sample.inputs[chosen])
        matrix[:, start : start + len(chosen)] = features(settings, batch).T
    return matrix, torch.tensor(sample.labels[rows])


def _count(objective: HeadObjective, rule: DecisionRule) -> ErrorCount:
    return count_batch(objective.logits_t().T, objective.labels.numpy(), rule.tolerance)


class _Search:
    """One run over settings and rates."""

    def __init__(self, sample: Sample, helper: Helper, run: Run) -> None:
        self.sample, self.helper, self.run = sample, helper, run
        self.best = _Best()
        self.done: list[str] = []

    def objective(self, settings: FeatureSettings | None) -> HeadObjective:
        matrix, labels = _feature_matrix(self.sample, self.helper, settings, self.run.seed)
        loss_weight = len(self.sample) / len(labels)
        l1 = _START_L1 * len(labels)
        start = sparse_softmax(matrix, labels, self.helper.num_classes, l1, _START_ITERATIONS)
        weights = torch.round(start / _START_UNIT).clamp(-LIMIT, LIMIT).long().numpy()
        if self.best.weights is not None and self.best.settings == settings:
            weights = self.best.weights.copy()
        objective = HeadObjective(matrix, labels, weights, _START_UNIT, RATES[0], loss_weight)
        objective.fit_scale()
        return objective

    def book(self, name: str, settings: FeatureSettings | None, objective: HeadObjective) -> float:
        count = _count(objective, DecisionRule())
        errors = round(count.errors * len(self.sample) / count.samples)
        message, _ = linear_head.write(settings, objective.weights, self.helper)
        candidate = self.run.consider(name, errors, len(self.sample), 8 * len(message))
        if candidate.bound < self.best.bound:
            self.best = _Best(candidate.bound, settings, objective.weights.copy())
        self.save()
        return candidate.bound

    def save(self) -> None:
        if self.run.checkpoint is None or self.best.weights is None:
            return
        grid = linear_head.available_settings(self.helper)
        values = {
            "setting": grid.index(self.best.settings),
            "bound": self.best.bound,
            "done": self.done,
            "seconds": self.run.seconds,
        }
        self.run.checkpoint.save(values, {"weights": torch.from_numpy(self.best.weights)})

    def resume(self) -> None:
        state = self.run.checkpoint.load() if self.run.checkpoint is not None else None
        if state is None:
            return
        values, tensors = state
        settings = linear_head.available_settings(self.helper)[int(str(values["setting"]))]
        self.best = _Best(float(str(values["bound"])), settings, tensors["weights"].numpy())
        done = values["done"]
        self.done = [str(name) for name in done] if isinstance(done, list) else []
        self.run.spent_before(float(str(values["seconds"])))

    def out_of_time(self) -> bool:
        self.run.progress("training", self.run.fraction)
        return self.run.fraction >= 1.0

    def stage(self, name: str, settings: FeatureSettings | None, objective: HeadObjective, pairs: bool) -> float:
        if pairs:
            descend_pairs(objective, self.out_of_time)
        descend_singles(objective, self.out_of_time)
        objective.fit_scale()
        return self.book(name, settings, objective)

    def screen(self, options: tuple[FeatureSettings | None, ...]) -> list[FeatureSettings | None]:
        """The settings whose first descent gives the best bounds."""
        bounds = []
        for settings in options:
            if bounds and self.out_of_time():
                break
            bounds.append(self.stage(f"screen {_label(settings)}", settings, self.objective(settings), pairs=False))
        order = np.argsort(bounds)[:_FINALISTS]
        return [options[int(i)] for i in order]

    def refine(self, settings: FeatureSettings | None) -> None:
        """Cycle through the rates until a whole cycle no longer pays or the time is over."""
        objective = self.objective(settings)
        descend_singles(objective, self.out_of_time)
        objective.fit_scale()
        reached = np.inf
        for cycle in range(_MAX_CYCLES):
            before = reached
            for rate in RATES:
                objective.rate = rate
                bound = self.stage(f"{_label(settings)}, cycle {cycle + 1}, rate {rate}", settings, objective, True)
                reached = min(reached, bound)
                if self.out_of_time():
                    return
            if reached > before * (1 - _MIN_RELATIVE_GAIN):
                return


def _label(settings: FeatureSettings | None) -> str:
    if settings is None:
        return "inputs"
    extra = " + intensity" if settings.intensity else ""
    return f"{settings.grid}x{settings.grid}, smoothing {settings.smoothing}{extra}"


def compress_head(sample: Sample, helper: Helper, run: Run) -> Compressed:
    """Train an integer head on helper features for the best certificate of ``sample``.

    Args:
        sample: labelled training sample of ``m`` examples.
        helper: the problem; its ``predictor`` is not used.
        run: seed, budget, progress and checkpoint.

    Raises:
        InputError: when the problem has too many inputs and classes for a linear head.
    """
    options = choose_settings(helper, len(sample))
    weights = num_features(options[0], helper.input_shape) * helper.num_classes
    if weights > linear_head.MAX_WEIGHTS:
        do = "give a network of your own to certify"
        raise InputError(f"at most {linear_head.MAX_WEIGHTS} weights in a built-in head", str(weights), do)
    search = _Search(sample, helper, run)
    search.resume()
    if len(options) > 1:
        options = tuple(search.screen(options))
    for settings in options:
        if _label(settings) in search.done:
            continue
        search.refine(settings)
        if search.out_of_time():
            break
        search.done.append(_label(settings))
        search.save()
    assert search.best.weights is not None
    message, ledger = linear_head.write(search.best.settings, search.best.weights, helper)
    return Compressed(message, ledger, helper, tuple(run.candidates))
