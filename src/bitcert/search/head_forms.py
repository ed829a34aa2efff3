"""A helper network and what a message may add to it, trained for the certificate (family 7).

The helper network's values are computed once (:mod:`bitcert.search.head_features`). Candidates are the network as
it is, integer heads on the entries of the fixed list of features, and integer corrections of its logits. The entries
are screened on a subset of the examples; the best go through the row descent of the banks of features
(:mod:`bitcert.search.head`). After every stage the message is a candidate, judged by its binomial bound; all
are words of one prefix code, so choosing costs nothing. Not promised: that a helper network made for other data helps.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.coding import Ledger, step_size
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.features.banks import Bank
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
from bitcert.run import Best, Candidate, Compressed, Run
from bitcert.search.head import GROWTH_SHARE, IDLE_KICKS, BankSearch
from bitcert.search.head_features import FeatureCache, examples_of
from bitcert.search.head_moves import descend
from bitcert.search.head_objective import BankObjective
from bitcert.search.head_start import CROSS_ENTROPY, begin_convex
from bitcert.search.judging import estimated_errors

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


class _Search(Best):
    """The best message so far, and what was tried."""

    def __init__(self, sample: Sample, helper: Helper, run: Run, targets: Tensor | None) -> None:
        super().__init__(sample, helper, run)
        self.targets = targets
        self.chosen: list[NetworkHeadCode] | None = None
        self.done: list[str] = []

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

    def consider(self, name: str, errors: int, message: bytes, ledger: Ledger, estimated: bool = False) -> Candidate:
        """Book a message, and save it if it is the best one."""
        candidate = super().consider(name, errors, message, ledger, estimated)
        if self.is_best(candidate):
            self.save()
        return candidate

    def as_it_is(self, cache: FeatureCache) -> None:
        """Book the helper network itself."""
        code, errors = NetworkHeadCode(Form.NETWORK), estimated_errors(cache.logits, cache.labels, len(self.sample))
        part = len(cache.labels) < len(self.sample)
        self.consider(label(code, self.helper), errors, *write(self.helper, code), part)

    def save(self) -> None:
        """Write the checkpoint."""
        self.write_checkpoint(chosen=[asdict(code) for code in self.chosen or []], done=self.done)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        state = self.read_checkpoint()
        if state is not None:
            chosen, self.done = state[0]["chosen"], list(state[0]["done"])
            self.chosen = [NetworkHeadCode(**{**choices, "form": Form(choices["form"])}) for choices in chosen]


class _RowDescent(BankSearch):
    """The search of the banks (:mod:`bitcert.search.head`) on one given matrix of features.

    The head grows from nothing while the price of a bit falls, is polished on cross-entropy, and ends on a loss close
    to the 0/1 error; then a share of its rows is dropped and sought anew, until that no longer pays. Book and
    checkpoint are the owner's.
    """

    def __init__(self, owner: _Search, code: NetworkHeadCode, cache: FeatureCache) -> None:
        super().__init__(owner.sample, owner.helper, owner.run, None)
        self.owner, self.code = owner, code
        self.empty, self.begun = owner.objective(code, cache), owner.run.fraction
        self.idle_kicks = IDLE_KICKS  # there are other matrices to come

    def resume(self) -> bool:
        """The checkpoint is the owner's."""
        return False

    def save(self) -> None:
        """The owner has saved it."""

    def book_majority(self) -> None:
        """What a head must beat; being a head on a bank, it is none of the owner's messages."""
        super().book_majority()
        self.head = None

    def is_affordable(self, bank: object) -> bool:
        """Of many examples the head grows."""
        del bank
        return False

    def begin(self, bank: Bank | None, objective: BankObjective) -> None:
        """Where the time for growing is over already, a convex start is better than nothing."""
        if self.growth_is_over() and objective.examples.offset_t is None:
            begin_convex(objective, self.unit, self.tolerance, lambda: False, 10)
        else:
            super().begin(bank, objective)

    def screen(self) -> list[Bank | None]:
        """There is one matrix only."""
        return [None]

    def objective(self, bank: object, most: int) -> BankObjective:
        """A head without weights; there is one matrix only, whatever the bank."""
        del bank, most
        return replace(self.empty, weights=np.zeros_like(self.empty.weights))

    def label(self, bank: object) -> str:
        """Form and features."""
        del bank
        return label(self.code, self.helper)

    def write(self, bank: object, weights: NDArray[np.int64]) -> tuple[bytes, Ledger]:
        """A message of the owner."""
        del bank
        return write(self.helper, replace(self.code, weights=weights))

    def consider(
        self,
        name: str,
        errors: int,
        message: bytes,
        ledger: Ledger,
        estimated: bool = False,
        worth: Candidate | None = None,
    ) -> Candidate:
        """Book a message with the owner."""
        del worth
        candidate = self.owner.consider(name, errors, message, ledger, estimated)
        self.offer(candidate, Compressed(message, ledger, self.helper))
        return candidate

    def growth_is_over(self) -> bool:
        """Whether growth has used its share of the time since the features were known."""
        return self.out_of_time() or self.run.fraction > self.begun + GROWTH_SHARE * (1 - self.begun)


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

    def __init__(self, search: _Search, cache: FeatureCache, until: float) -> None:
        self.search, self.cache, self.until = search, cache, until
        self.seen = max(1, len(cache.labels) // 2)

    def out_of_time(self) -> bool:
        return self.search.out_of_time(self.until, "choosing features")

    def bound(self, code: NetworkHeadCode, weights: NDArray[np.int64], logits: Tensor) -> float:
        """Estimated from the second half of the cache: errors there, and the message's length."""
        search, labels = self.search, self.cache.labels[self.seen :]
        errors = estimated_errors(logits[self.seen :], labels, len(search.sample)) if len(labels) else 0
        message, _ = write(search.helper, replace(code, weights=weights))
        return occam_bound(errors, len(search.sample), 8 * len(message), search.run.delta).binomial

    def head(self, code: NetworkHeadCode, rounds: int) -> float:
        """The estimated bound after so many rounds of single changes."""
        objective = self.search.objective(code, self.cache, self.seen)
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
        helper = self.search.helper
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
    search, sources = _Search(sample, helper, run, soft), feature_sources(helper_network(helper)[0])
    search.resume()
    if search.chosen is None:
        cache = FeatureCache.fill(sample, helper, sources, run, 2 * SCREEN_ROWS, SCREEN_SHARE / 2)
        search.chosen = _Screening(search, cache, SCREEN_SHARE).finalists()
    wanted = tuple(sources[k] for k in dict.fromkeys([code.source for code in search.chosen] or [0]))
    cache = FeatureCache.fill(sample, helper, wanted, run, until=FEATURES_UNTIL)
    if fits_classes(helper):
        search.as_it_is(cache)
    for code in search.chosen:
        name = label(code, helper)
        if name not in search.done and (search.best is None or not search.out_of_time()):
            _RowDescent(search, code, cache).search()
            search.done.append(name)
            search.save()
    return search.result()
