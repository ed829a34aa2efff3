"""A helper network and what a message may add to it, trained for the certificate (family 7).

The helper network's values are computed once (:mod:`bitcert.search.head_features`). Candidates are the network as
it is, integer heads on the entries of the fixed list of features, and integer corrections of its logits. The entries
are screened on a subset of the examples; the best go through the row descent of the banks of features
(:mod:`bitcert.search.network_rows`). After every stage the message is a candidate, judged by its binomial bound; all
are words of one prefix code, so choosing costs nothing. Not promised: that a helper network made for other data helps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.coding import step_size
from bitcert.counting import DecisionRule, count_batch
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.features.network import feature_sources, part_sizes
from bitcert.decoder.network_head import (
    MAX_WEIGHTS,
    Form,
    NetworkHeadCode,
    fits_classes,
    helper_network,
    num_features,
    row_model,
    write,
)
from bitcert.errors import InputError
from bitcert.proof import occam_bound
from bitcert.run import Compressed, Run
from bitcert.search.head_features import FeatureCache, Part
from bitcert.search.head_moves import descend
from bitcert.search.head_objective import BankObjective
from bitcert.search.head_start import CROSS_ENTROPY, begin_convex
from bitcert.search.network_rows import RowDescent, examples_of

SCREEN_ROWS = 6_000
SCREEN_SHARE = 0.3
"""Fraction of the time after the features that screening may take."""
CORRECTION_EXPONENTS = (-8, -4, 0)

FEATURES_UNTIL = 0.6
"""Fraction of the time at which features are no longer computed: what is left is for the descent."""

_SEMIFINALISTS = 5
_FINALISTS = 2
_WORTH = 1.05
_SCREEN_ROUNDS = 25
_SCREEN_UNIT = 0.45
_START_SCALE = 0.25


@dataclass(frozen=True, eq=False)
class _Problem:
    """What does not change during a run."""

    sample: Sample
    helper: Helper
    run: Run
    targets: Tensor | None

    def objective(self, code: NetworkHeadCode, cache: FeatureCache, first: int | None = None) -> BankObjective:
        """A head without weights on the first examples of the cache, all of them by default."""
        source = feature_sources(cache.architecture)[code.source]
        matrix, labels = cache.matrix(source, code.root, code.with_logits)[:, :first], cache.labels[:first]
        targets = None if self.targets is None else self.targets[cache.rows[: len(labels)]]
        offset, scale = None, _START_SCALE
        if code.form is Form.CORRECTION:
            scale = step_size(code.exponent)
            offset = cache.logits[: len(labels)] / scale
        weight, classes = len(self.sample) / len(labels), self.helper.num_classes
        examples = examples_of(matrix, labels, classes, weight, targets, offset)
        model = row_model(part_sizes(cache.architecture, source, code.with_logits), classes)
        return BankObjective(examples, model, np.zeros((len(matrix), classes), dtype=np.int64), scale)


class _Search:
    """The best message so far, and what was tried."""

    def __init__(self, problem: _Problem) -> None:
        self.problem, self.run = problem, problem.run
        self.chosen: list[NetworkHeadCode] | None = None
        self.best: NetworkHeadCode | None = None
        self.bound = np.inf
        self.done: list[str] = []

    def out_of_time(self, limit: float = 1.0) -> bool:
        self.run.progress("training", self.run.fraction)
        return self.run.fraction >= limit

    def book(self, name: str, code: NetworkHeadCode, errors: int) -> float:
        """A candidate; ``errors`` on the whole sample, estimated where the features are those of a subset."""
        message, _ = write(self.problem.helper, code)
        candidate = self.run.consider(name, errors, len(self.problem.sample), 8 * len(message))
        if candidate.bound < self.bound:
            weights = None if code.weights is None else code.weights.copy()
            self.bound, self.best = candidate.bound, replace(code, weights=weights)
            self.save()
        return candidate.bound

    def errors(self, logits: Tensor, labels: Tensor) -> int:
        count = count_batch(logits, labels.numpy(), DecisionRule().tolerance)
        return round(count.errors * len(self.problem.sample) / count.samples)

    def as_it_is(self, cache: FeatureCache) -> None:
        """Book the helper network itself."""
        code = NetworkHeadCode(Form.NETWORK)
        self.book(label(code, self.problem.helper), code, self.errors(cache.logits, cache.labels))

    def refine(self, code: NetworkHeadCode, cache: FeatureCache) -> None:
        """By the row descent, until it no longer pays."""
        problem, name = self.problem, label(code, self.problem.helper)

        def book(stage: str, weights: NDArray[np.int64], errors: int) -> float:
            return self.book(f"{name}, {stage}", replace(code, weights=weights), errors)

        RowDescent(problem.sample, problem.helper, self.run, problem.objective(code, cache), book).search()

    def save(self) -> None:
        if self.run.checkpoint is None or self.best is None:
            return
        code = self.best
        values = {
            "choices": _choices(code),
            "bound": float(self.bound),
            "chosen": [_choices(code) for code in self.chosen or []],
            "done": self.done,
            "seconds": self.run.seconds,
        }
        weights = np.zeros((0, 0), dtype=np.int64) if code.weights is None else code.weights
        self.run.checkpoint.save(values, {"weights": torch.from_numpy(weights)})

    def resume(self) -> None:
        state = self.run.checkpoint.load() if self.run.checkpoint is not None else None
        if state is None:
            return
        values, tensors = state
        done, chosen = values["done"], values["chosen"]
        assert isinstance(done, list)
        assert isinstance(chosen, list)
        code = _code(values["choices"])
        weights = None if code.form is Form.NETWORK else tensors["weights"].numpy().copy()
        self.best, self.chosen = replace(code, weights=weights), [_code(choices) for choices in chosen]
        self.bound = float(str(values["bound"]))
        self.done = [str(name) for name in done]
        self.run.spent_before(float(str(values["seconds"])))


def _choices(code: NetworkHeadCode) -> list[int]:
    return [int(code.form), code.source, int(code.root), int(code.with_logits), code.exponent]


def _code(choices: object) -> NetworkHeadCode:
    assert isinstance(choices, list)
    form, source, root, with_logits, exponent = (int(number) for number in choices)
    return NetworkHeadCode(Form(form), source, bool(root), bool(with_logits), exponent)


def label(code: NetworkHeadCode, helper: Helper) -> str:
    """Form and features of a code, for people."""
    if code.form is Form.NETWORK:
        return "helper network as it is"
    architecture, _ = helper_network(helper)
    extra = (", roots" if code.root else "") + (", logits" if code.with_logits else "")
    form = "head" if code.form is Form.HEAD else f"correction 2^({code.exponent}/4)"
    return f"{form} on {feature_sources(architecture)[code.source].label}{extra}"


class _Screening:
    """Which forms and features are worth a full descent, judged on examples that their short descents did not see."""

    def __init__(self, problem: _Problem, cache: FeatureCache, until: float) -> None:
        self.problem, self.cache, self.until = problem, cache, until
        self.seen = max(1, len(cache.labels) // 2)

    def out_of_time(self) -> bool:
        self.problem.run.progress("choosing features", self.problem.run.fraction)
        return self.problem.run.fraction >= self.until

    def bound(self, code: NetworkHeadCode, weights: NDArray[np.int64], logits: Tensor) -> float:
        """Estimated from the second half of the cache: errors there, and the message's length."""
        count = count_batch(logits[self.seen :], self.cache.labels[self.seen :].numpy(), DecisionRule().tolerance)
        errors = round(count.rate * len(self.problem.sample)) if count.samples else 0
        message, _ = write(self.problem.helper, replace(code, weights=weights))
        return occam_bound(errors, len(self.problem.sample), 8 * len(message), self.problem.run.delta).binomial

    def head(self, code: NetworkHeadCode, rounds: int) -> float:
        """The estimated bound after so many rounds of single changes."""
        objective = self.problem.objective(code, self.cache, self.seen)
        if code.form is Form.HEAD:
            begin_convex(objective, _SCREEN_UNIT, 0.0, self.out_of_time, rounds)
        else:
            objective.rate = CROSS_ENTROPY * _SCREEN_UNIT
            descend(objective, self.out_of_time, rounds, 0.0)
        source = feature_sources(self.cache.architecture)[code.source]
        features = self.cache.matrix(source, code.root, code.with_logits)
        logits = features.T @ torch.from_numpy(objective.weights).float()
        if code.form is Form.CORRECTION:
            logits = self.cache.logits + step_size(code.exponent) * logits
        return self.bound(code, objective.weights, logits)

    def best(self, codes: list[NetworkHeadCode], rounds: int, count: int) -> list[tuple[float, NetworkHeadCode]]:
        """The ``count`` with the smallest estimated bounds; the first is always tried."""
        found: list[tuple[float, int]] = []
        for place, code in enumerate(codes):
            if found and self.out_of_time():
                break
            found.append((self.head(code, rounds), place))
        return [(bound, codes[place]) for bound, place in sorted(found)[:count]]

    def finalists(self) -> list[NetworkHeadCode]:
        """Heads and corrections to refine, the best first; none when the network as it is seems better by far."""
        helper = self.problem.helper
        order = [code for _, code in self.best(_heads(helper), 0, _SEMIFINALISTS)]
        order += [replace(code, root=False) for code in order[:_FINALISTS]]
        order += [replace(code, with_logits=True) for code in order[:1]]
        chosen = self.best(order, _SCREEN_ROUNDS, _FINALISTS)
        if not fits_classes(helper):
            return [code for _, code in chosen]
        as_it_is = self.bound(NetworkHeadCode(Form.NETWORK), np.zeros((0, 0), dtype=np.int64), self.cache.logits)
        source = chosen[0][1].source
        corrections = [
            NetworkHeadCode(Form.CORRECTION, k, False, False, exponent)
            for k in dict.fromkeys((0, source))
            for exponent in CORRECTION_EXPONENTS
        ]
        chosen = self.best(corrections, _SCREEN_ROUNDS, 1) + chosen
        return [code for bound, code in sorted(chosen, key=lambda pair: pair[0]) if bound < _WORTH * as_it_is]


def _heads(helper: Helper) -> list[NetworkHeadCode]:
    """Heads to screen on square roots, finer grids and later stages first."""
    sources = feature_sources(helper_network(helper)[0])
    order = sorted(range(len(sources)), key=lambda k: (k != 0, -sources[k].grid))
    codes = [NetworkHeadCode(Form.HEAD, k, root=True) for k in order]
    fitting = [code for code in codes if num_features(helper, code) * helper.num_classes <= MAX_WEIGHTS]
    if not fitting:
        raise InputError(f"at most {MAX_WEIGHTS} weights in a head", "more", "use a smaller helper network")
    return fitting


def compress_network_head(
    sample: Sample, helper: Helper, run: Run, *, targets: NDArray[np.floating] | None = None
) -> Compressed:
    """The best message found that says what to do with the helper's network.

    Args:
        sample: labelled examples that the helper's weights have not seen.
        helper: with a captured network (``predictor``) and its ``weights``, both fixed before the sample was seen.
        run: seed, budget, progress and checkpoint.
        targets: soft labels ``[m, classes]`` to train with; errors are counted with the sample's labels all the same.

    Raises:
        DecodeError: the helper holds no network with weights.
        InputError: targets of another shape, or too many features for any head.
    """
    if targets is not None and targets.shape != (len(sample), helper.num_classes):
        expected = f"targets of shape [{len(sample)}, {helper.num_classes}]"
        raise InputError(expected, f"shape {list(targets.shape)}", "make them for this sample")
    soft = None if targets is None else torch.from_numpy(np.asarray(targets, dtype=np.float32))
    problem, sources = _Problem(sample, helper, run, soft), feature_sources(helper_network(helper)[0])
    search = _Search(problem)
    search.resume()
    finalists = search.chosen
    if finalists is None:
        cache = FeatureCache.fill(sample, helper, sources, run, Part(2 * SCREEN_ROWS, SCREEN_SHARE / 2))
        finalists = _Screening(problem, cache, SCREEN_SHARE).finalists()
        search.chosen = finalists
    wanted = tuple(sources[k] for k in dict.fromkeys([code.source for code in finalists] or [0]))
    cache = FeatureCache.fill(sample, helper, wanted, run, Part(until=FEATURES_UNTIL))
    if fits_classes(helper):
        search.as_it_is(cache)
    for code in finalists:
        name = label(code, helper)
        if name not in search.done and (search.best is None or not search.out_of_time()):
            search.refine(code, cache)
            search.done.append(name)
            search.save()
    assert search.best is not None
    message, ledger = write(helper, search.best)
    return Compressed(message, ledger, helper, tuple(run.candidates))
