"""Banks of helper features and an integer head that selects rows of one, trained for the certificate itself (family 2).

Banks are screened on a small part of the sample, narrow ones first. A head then grows from nothing while the price of a
bit falls, on cross-entropy, or begins as a rounded convex solution (:mod:`bitcert.search.head_start`). Of few examples
three banks are tried with both starts; of many, where the time is too short for wide banks, one with the convex start.
The head is polished by pairs, insertions and replacements of rows, and ends on a loss close to the 0/1 error
(:mod:`bitcert.search.head_objective`), with a bit priced at what it costs the certificate: at an error rate ``q`` and a
bound ``p`` one bit is worth ``ln2 / ln(p (1 - q) / (q (1 - p)))`` errors. Then a share of the rows is dropped and
sought anew, until that has not paid for as long as everything before took. Every stage's head is a candidate, a word of
one prefix code. Prices, temperatures and orders are not in the message, since decoding does not use them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder import head as bank_head
from bitcert.decoder.features.banks import BANKS, Bank, available_banks, bank_groups
from bitcert.decoder.head import BankHead
from bitcert.errors import InputError
from bitcert.random import stream
from bitcert.run import Compressed, Run
from bitcert.search.head_features import CACHE_BYTES, GROWN_ON, alike_banks, feature_examples
from bitcert.search.head_moves import delete_rows, descend, descend_pairs, insert_rows, kick, replace_rows
from bitcert.search.head_objective import BankObjective
from bitcert.search.head_start import CROSS_ENTROPY, GROWTH, SHORT_GROWTH, begin_convex, convex_operations, grow
from bitcert.search.judged import JudgedBest
from bitcert.search.judging import Judge, estimated_errors

Targets = NDArray[np.float32]
_SCREENED, _WELL_SCREENED = 3_000, 8_000
SMALL_SAMPLE = 6_000
"""So few examples make every bit dear, and a try cheap: more banks, starts and prices are tried."""

_SHORT_SECONDS, _LONG_SECONDS, _START_SCALE = 60.0, 600.0, 0.15
_STAGES = ((0.3, 2.4, 1.0), (0.6, 1.7, 1.0), (1.0, 1.0, 1.0), (1.0, 1.0, 1.5))
"""Powers ``q`` of the loss, the price of a bit relative to that of the 0/1 error, by how much logits are sharpened."""

_POLISH = (1.0, 2.0, 1.2)
"""Prices while a head is polished, relative to the final one: a dear bit drops what a cheap one would keep for good."""

_FINALISTS, _MOST_CYCLES, _MIN_RELATIVE_GAIN = 3, 8, 1e-3
_SCREEN_SHARE, GROWTH_SHARE = 0.4, 0.6
_CONVEX_SHARE, _OPERATIONS_A_SECOND = 0.2, 3e9
_KICKS, _SMALL_KICKS = (0.1, 0.2, 0.05), (0.2, 0.4, 0.1)
IDLE_KICKS, _SMALL_IDLE_KICKS = 6, 20
_FIRST_UNIT = 0.9
_DENSE_UNIT = 0.5
"""Where a convex start is priced at most: what a cheap bit brings in is given up later if it is useless."""

_PROBED, _PROBED_FROM = 16, 10**8
"""Where the numbers of a sample are so many, a few examples tell how long features take, before all are computed."""
_FEATURES_SHARE = 0.3
"""Of the time that is left: on how many examples a bank's features are computed."""
_LEAST_EXAMPLES = 50


@dataclass(frozen=True, eq=False)
class Head:
    """Integer weights ``[features, classes]`` on the features of a bank, and the temperature they were trained at."""

    bank: Bank | None
    weights: NDArray[np.int64]
    scale: float = _START_SCALE


class BankSearch(JudgedBest):
    """One run over banks and prices.

    Args:
        sample: the training sample.
        helper: of the same problem.
        run: seed, budget, progress and checkpoint.
        targets: soft labels ``[m, classes]``, or ``None`` for the labels.
        judge: of a surrogate of an original network, whose disagreements count too; ``None`` for the errors alone.

    Attributes:
        head: the best one.
        unit: price of a bit on the 0/1 error, by the best one's certificate.
    """

    def __init__(
        self, sample: Sample, helper: Helper, run: Run, targets: Targets | None, judge: Judge | None = None
    ) -> None:
        super().__init__(sample, helper, run, judge)
        self.targets = targets
        self.head: Head | None = None
        self.unit = _FIRST_UNIT
        self.order = stream(run.seed, "bank head")
        self.whole: tuple[Bank | None, BankObjective] | None = None
        self.screened_on = _WELL_SCREENED if run.budget_seconds >= _LONG_SECONDS else _SCREENED
        self.first: dict[str, NDArray[np.int64]] = {}
        self.tolerance = min(3.0, 5e-5 * len(sample))
        self.is_small = len(sample) <= SMALL_SAMPLE
        self.is_convex = self.is_small or any(self.is_affordable(bank) for bank in available_banks(helper.input_shape))
        self.idle_kicks = _SMALL_IDLE_KICKS if self.is_small else IDLE_KICKS
        self.started = self.found = run.seconds

    def search(self) -> None:
        """Screen, refine the finalists, polish the best thoroughly, and kick it; or kick the one of a checkpoint."""
        if not self.resume():
            self.book_majority()
            finalists = self.screen()[: _FINALISTS if self.is_small else 1]
            for bank in sorted(finalists, key=self.width):
                self.refine(bank)
                if self.growth_is_over():
                    break
            if self.head is None:  # no head says more than the majority class
                return
            if not self.out_of_time():
                self.improve(*self.best_again(), thorough=True)
        self.kick()

    def width(self, bank: Bank | None) -> int:
        """Number of features, the constant included."""
        return len(bank_groups(bank, self.helper.input_shape))

    def is_affordable(self, bank: Bank | None) -> bool:
        """Whether a convex start on the whole sample takes a small part of a time that is too short for wide banks."""
        size = self.width(bank) * self.helper.num_classes * len(self.sample)
        seconds = convex_operations(size) / _OPERATIONS_A_SECOND
        return self.run.budget_seconds < _LONG_SECONDS and seconds <= _CONVEX_SHARE * self.run.budget_seconds

    def some(self, bank: Bank | None, most: int) -> NDArray[np.intp]:
        """All rows of the sample, or a random part of them."""
        most = max(1, min(most, CACHE_BYTES // (4 * self.width(bank)), self.affordable_examples(bank)))
        if len(self.sample) <= most:
            return np.arange(len(self.sample))
        return np.sort(stream(self.run.seed, "training subset").permutation(len(self.sample))[:most])

    def affordable_examples(self, bank: Bank | None) -> int:
        """As many as a part of the time that is left is enough for; of small inputs, all."""
        numbers = len(self.sample) * math.prod(self.helper.input_shape)
        if numbers < _PROBED_FROM:
            return len(self.sample)
        started = self.run.seconds
        some = np.arange(min(_PROBED, len(self.sample)))
        feature_examples(self.sample, self.helper, bank, some, None)
        each = (self.run.seconds - started) / len(some)
        left = max(0.0, self.run.budget_seconds - self.run.seconds)
        return max(_LEAST_EXAMPLES, int(_FEATURES_SHARE * left / max(each, 1e-9)))

    def objective(self, bank: Bank | None, most: int) -> BankObjective:
        """A head without weights on a bank's features of at most so many examples."""
        examples = feature_examples(self.sample, self.helper, bank, self.some(bank, most), self.targets)
        model = bank_head.row_model(bank, self.helper)
        shape = (len(model.groups), self.helper.num_classes)
        return BankObjective(examples, model, np.zeros(shape, dtype=np.int64), _START_SCALE)

    def on_whole(self, bank: Bank | None) -> BankObjective:
        """The objective on the whole sample; the features of the last bank asked for are kept."""
        if self.whole is None or self.whole[0] != bank:
            self.whole = None
            self.whole = bank, self.objective(bank, len(self.sample))
        return self.whole[1]

    def best_again(self) -> tuple[Bank | None, BankObjective]:
        """The bank of the best head so far, and that head as an objective on the whole sample."""
        assert self.head is not None
        objective = self.on_whole(self.head.bank)
        objective.weights[:] = self.head.weights
        objective.scale, objective.power, objective.soft = self.head.scale, 0.0, True
        objective.refresh()
        return self.head.bank, objective

    def label(self, bank: Bank | None) -> str:
        """What a bank is called in the list of candidates."""
        return "inputs" if bank is None else f"bank {BANKS.index(bank)}"

    def write(self, bank: Bank | None, weights: NDArray[np.int64]) -> tuple[bytes, Ledger]:
        """The message of a head."""
        return bank_head.write(bank, weights, self.helper)

    def book(self, name: str, bank: Bank | None, objective: BankObjective) -> float:
        """Judge the head as a message, keep it if it is the best; its bound."""
        logits, labels = objective.logits_t().T, objective.examples.labels
        errors = estimated_errors(logits, labels, len(self.sample))
        message = self.write(bank, objective.weights)
        part = len(objective.examples.labels) < len(self.sample)
        worth = self.worth(logits, labels, objective.examples.targets_t, 8 * len(message[0]))
        candidate = self.consider(f"{self.label(bank)}, {name}", errors, *message, part, worth)
        if self.is_best(candidate):
            self.head = Head(bank, objective.weights.copy(), objective.scale)
            self.unit = self.price(candidate)
            self.found = self.run.seconds
            self.save()
        return self.rank(candidate)[0]

    def book_majority(self) -> None:
        """The most frequent class for everything: a message from the first moment on, without any feature."""
        bank = min(available_banks(self.helper.input_shape), key=self.width)
        counts = np.bincount(self.sample.labels, minlength=self.helper.num_classes)
        weights = np.zeros((self.width(bank), self.helper.num_classes), dtype=np.int64)
        weights[-1, counts.argmax()] = 1
        errors, (message, ledger) = len(self.sample) - int(counts.max()), bank_head.write(bank, weights, self.helper)
        self.consider_majority(errors, message, ledger)
        self.head = Head(bank, weights)
        self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        assert self.head is not None
        self.write_checkpoint(scale=self.head.scale)

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one with a head that uses features; whether there is."""
        state = self.read_checkpoint()
        if state is None:
            return False
        values, decoded = state
        assert isinstance(decoded.classifier, BankHead)
        assert self.best is not None
        if not decoded.classifier.weights[:-1].any():
            self.best = None
            return False
        self.head = Head(decoded.classifier.bank, decoded.classifier.weights, float(values["scale"]))
        self.unit = self.price(self.best.candidates[0])
        self.started = self.found = self.run.seconds
        return True

    def screen(self) -> list[Bank | None]:
        """The banks, the best on a small part of the sample first; wide ones are left out where time is short."""
        banks = available_banks(self.helper.input_shape)
        if len(banks) == 1:
            return list(banks)
        if self.is_convex and not self.is_small:
            banks = tuple(bank for bank in banks if self.is_affordable(bank))
        elif self.run.budget_seconds < _SHORT_SECONDS and not self.is_small:
            return [BANKS[1] if self.helper.input_shape[0] == 1 else BANKS[0]]
        values: list[float] = []
        tried: list[Bank | None] = []
        for bank, objective in self.screened(banks):
            if values and (self.out_of_time() or self.run.fraction > _SCREEN_SHARE):
                break
            grow(objective, self.unit, self.tolerance, self.out_of_time, SHORT_GROWTH, self.is_convex)
            whole = len(objective.examples.labels) == len(self.sample)
            values.append(self.book("screened", bank, objective) if whole else objective.value())
            self.first[self.label(bank)] = objective.weights
            tried.append(bank)
        return [tried[int(i)] for i in np.argsort(values)]

    def screened(self, banks: tuple[Bank | None, ...]) -> Iterator[tuple[Bank, BankObjective]]:
        """Objectives of all banks on a small part of the sample; what banks share is computed once."""
        known = [bank for bank in banks if bank is not None]
        for union, alike in sorted(alike_banks(known), key=lambda pair: self.width(pair[0])):
            if self.out_of_time():
                return
            whole = self.objective(union, self.screened_on)
            for bank in sorted(alike, key=self.width):
                numbers = [union.parts.index(part) for part in bank.parts]
                columns = [np.flatnonzero(whole.model.groups == number) for number in numbers]
                chosen = np.concatenate([*columns, np.flatnonzero(whole.model.groups < 0)])
                features = whole.examples.features_t[torch.from_numpy(chosen)]
                model = bank_head.row_model(bank, self.helper)
                weights = np.zeros((len(chosen), self.helper.num_classes), dtype=np.int64)
                examples = replace(whole.examples, features_t=features)
                yield bank, BankObjective(examples, model, weights, _START_SCALE)

    def stage(self, name: str, bank: Bank | None, objective: BankObjective, thorough: bool) -> float:
        """Descend at the objective's price until it stalls, with replacements if ``thorough``; the bound reached."""
        descend(objective, self.out_of_time, rounds=100, tolerance=self.tolerance)
        descend_pairs(objective, self.out_of_time, self.is_convex)
        delete_rows(objective)
        if not self.out_of_time():
            insert_rows(objective)
        reached = self.book(name, bank, objective)
        if thorough and not self.out_of_time():
            replace_rows(objective, self.out_of_time, self.order)
            descend(objective, self.out_of_time, rounds=100, tolerance=self.tolerance)
            reached = min(reached, self.book(f"{name}, rows replaced", bank, objective))
        return reached

    def sharpen(self, name: str, bank: Bank | None, objective: BankObjective, thorough: bool) -> None:
        """From a smooth loss to the 0/1 error."""
        for power, factor, sharper in _STAGES:
            if self.out_of_time():
                return
            objective.power, objective.soft = power, power < 0.5
            objective.rate = factor * self.unit
            objective.scale *= sharper
            objective.refresh()
            if power < 1:
                objective.fit_scale()
            self.stage(f"{name}, power {power}, scale x {sharper}", bank, objective, thorough)

    def refine(self, bank: Bank | None) -> None:
        """Heads from each start, polished and sharpened on the whole sample."""
        objective = self.on_whole(bank)
        convex = self.is_convex and objective.examples.offset_t is None
        if self.is_small or not convex:
            self.begin(bank, objective)
            objective.fit_scale()
            self.book("grown", bank, objective)
            self.improve(bank, objective, thorough=False)
        if convex and not self.growth_is_over():
            begin_convex(objective, min(self.unit, _DENSE_UNIT), self.tolerance, self.out_of_time)
            delete_rows(objective)
            self.book("convex start", bank, objective)
            self.improve(bank, objective, thorough=False)

    def begin(self, bank: Bank | None, objective: BankObjective) -> None:
        """What was grown in the screening if that says enough, else a head grown on a part of the sample."""
        known = self.first.get(self.label(bank))
        if known is not None and (self.is_small or self.growth_is_over()):
            objective.weights[:] = known
            return
        short = self.is_small or self.run.budget_seconds < _SHORT_SECONDS
        part = replace(objective, examples=objective.examples.part(GROWN_ON, self.order))
        factors = SHORT_GROWTH if short else GROWTH
        grow(part, self.unit, self.tolerance, self.growth_is_over, factors, self.is_convex)
        objective.scale = part.scale

    def improve(self, bank: Bank | None, objective: BankObjective, thorough: bool) -> None:
        """Polish, of few examples until that no longer pays, then sharpen to the 0/1 error."""
        reached = np.inf
        for _ in range(_MOST_CYCLES if self.is_convex and not thorough else 1):
            before = reached
            reached = self.polish(bank, objective, _POLISH if self.is_convex else _POLISH[:1], thorough)
            if self.out_of_time():
                return
            if reached > before * (1 - _MIN_RELATIVE_GAIN):
                break
        self.sharpen("sharpened", bank, objective, thorough)

    def polish(
        self, bank: Bank | None, objective: BankObjective, prices: tuple[float, ...], thorough: bool = False
    ) -> float:
        """Descend on cross-entropy at one price after the other; the best bound reached."""
        unit, reached = self.unit, np.inf
        for price in prices:
            objective.power, objective.soft = 0.0, True
            objective.rate = CROSS_ENTROPY * unit * price
            objective.fit_scale()
            reached = min(reached, self.stage(f"polished, price x {price}", bank, objective, thorough))
            if self.out_of_time():
                break
        return reached

    def growth_is_over(self) -> bool:
        """Whether growth has used its share of the budget."""
        return self.out_of_time() or self.run.fraction > GROWTH_SHARE

    def kick(self) -> None:
        """Drop some rows of the best head and seek others, until that has not paid for long or the time is over."""
        cycle = idle = 0
        while not self.out_of_time() and not self.is_idle(idle):
            before, (bank, objective) = self.bound, self.best_again()
            shares = _SMALL_KICKS if self.is_small else _KICKS
            objective.power, objective.rate = _STAGES[0][0], _STAGES[0][1] * self.unit
            objective.refresh()
            kick(objective, shares[cycle % len(shares)], self.order)
            if self.is_small:
                self.polish(bank, objective, _POLISH[1:])
            objective.fit_scale()
            cycle += 1
            self.sharpen(f"kick {cycle}", bank, objective, thorough=not self.is_small)
            idle = 0 if self.bound < before else idle + 1

    def is_idle(self, kicks: int) -> bool:
        """Whether so many kicks in vain are enough: several, and as long as everything before the last gain took."""
        return kicks >= self.idle_kicks and self.run.seconds - self.found >= self.found - self.started


def compress_head(
    sample: Sample, helper: Helper, run: Run, *, targets: Targets | None = None, judge: Judge | None = None
) -> Compressed:
    """Train an integer head that selects from a bank of helper features, for the best certificate of ``sample``.

    Args:
        sample: labelled training sample of ``m`` examples.
        helper: the problem; its ``predictor`` is not used.
        run: seed, budget, progress and checkpoint.
        targets: ``[m, classes]`` probabilities to learn from at first, e.g. those of a network this head stands for;
            they are not coded and the errors counted are always those on the sample's labels.
        judge: of a head that stands for an original network: the best head is the one that is worth most to it.

    Raises:
        InputError: when the problem has too many inputs and classes for a built-in head.
    """
    shape = helper.input_shape
    weights = helper.num_classes * max(len(bank_groups(bank, shape)) for bank in available_banks(shape))
    if weights > bank_head.MAX_WEIGHTS:
        do = "give a network of your own to certify"
        raise InputError(f"at most {bank_head.MAX_WEIGHTS} weights in a built-in head", str(weights), do)
    if targets is not None and targets.shape != (len(sample), helper.num_classes):
        expected = f"targets of shape {[len(sample), helper.num_classes]}"
        raise InputError(expected, f"shape {list(targets.shape)}", "give one row of probabilities for each example")
    search = BankSearch(sample, helper, run, targets, judge)
    search.search()
    return search.result()
