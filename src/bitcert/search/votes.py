"""A sum of votes trained for the certificate itself (family 6): terms are selected like the features of a head.

The terms of a first round are thresholds, equalities and ramps of all columns, of the pairs that a tree finds useful,
and the paths of trees grown with noise (:mod:`bitcert.search.vote_terms`). The descent of the head
(:mod:`bitcert.search.head`) selects among them and ends close to the 0/1 error. While that pays, new rounds keep the
terms in use and offer others beside them: thresholds nearby, and paths of trees grown on the examples that are wrong or
nearly so. Every stage is a candidate and the best message is kept; choosing costs nothing: all are words of one code.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import Ledger
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder import votes as family
from bitcert.decoder.features.banks import Bank
from bitcert.decoder.votes import VotesClassifier, term_values
from bitcert.errors import InputError
from bitcert.run import Compressed, Run
from bitcert.search.head import BankSearch, Head
from bitcert.search.head_objective import BankObjective, Examples
from bitcert.search.judging import Judge
from bitcert.search.tree_growth import grow, prune
from bitcert.search.tree_table import LEAST_BINS, MOST_COUNTS
from bitcert.search.trees import TreeSearch, tree_memory_bytes
from bitcert.search.vote_terms import Conditions, TermModel, near, paths_of, ramps, thresholds

MOST_ENTRIES = 1 << 26
"""Terms times examples that are kept at once."""
MOST_EXAMPLES = 1 << 16
_FEWEST_TERMS, _MOST_TERMS = 400, 4_000

_FIRST_TREES, _TREES = 12, 6
_PRUNED_AT = 0.35
_TREE_SHARE = 0.15
"""Of the time: trees before the first descent."""
_REACH = 3
_SAME_TERMS = 2
"""So many kicks use the same terms."""
_START_SCALE = 0.5


class VoteSearch(BankSearch):
    """One run on one table; the rows of a head's matrix are terms.

    Args:
        sample: the training sample.
        helper: of the same problem.
        run: seed, budget, progress and checkpoint.
        targets: soft labels ``[m, classes]``, or ``None`` for the labels.
        judge: of a surrogate of an original network, as of a head.
    """

    def __init__(
        self, sample: Sample, helper: Helper, run: Run, targets: NDArray[np.float32] | None, judge: Judge | None = None
    ) -> None:
        super().__init__(sample, helper, run, targets, judge)
        self.trees = TreeSearch(sample, helper, run.share(_TREE_SHARE * run.budget_seconds))
        self.trees.run.spent_before(run.seconds)
        if len(self.trees.table) < len(sample):
            self.targets = self.judge = None  # both speak of all rows
        columns, labels = self.trees.columns, self.trees.table.labels
        part = np.sort(self.order.permutation(len(labels))[:MOST_EXAMPLES])
        self.part = part[np.argsort(labels[part], kind="stable")]
        self.columns, self.labels = columns[self.part], labels[self.part]
        self.most_terms = int(np.clip(MOST_ENTRIES // len(self.part), _FEWEST_TERMS, _MOST_TERMS))
        self.kept: list[tuple[Conditions, NDArray[np.int64]]] = []
        self.always = np.zeros(helper.num_classes, dtype=np.int64)
        self.rounds = 0
        self.model: TermModel
        self.examples: Examples

    def search(self) -> None:
        """Terms and a head on them, then rounds of others, until the time is over or they no longer pay."""
        self.trees.begin()
        if not self.resume():
            self.book_majority()
            self.find_trees()
            self.offer_terms(self.first_terms())
            self.refine(None)
            if not self.kept:
                return
            if not self.out_of_time():
                self.improve(*self.best_again(), thorough=True)
        else:
            self.find_trees()
        self.kick()

    def find_trees(self) -> None:
        """Which pairs of columns say something, and what a bit is worth."""
        self.trees.start()
        if not self.out_of_time():
            self.trees.look_for_pairs()

    def first_terms(self) -> Iterator[Conditions]:
        """Paths of trees, ramps and thresholds of all subjects, the most promising first."""
        yield from self.paths(_FIRST_TREES, self.trees.rows)
        table = self.trees.table
        chosen = [*self.trees.telling(max(8, self.most_terms // 12)), *range(table.num_columns, len(table.subjects))]
        yield from ramps(self.columns, [table.subjects[place] for place in chosen])
        yield from thresholds(table, max(4, self.most_terms // (2 * len(chosen))), np.array(chosen))

    def paths(self, count: int, rows: NDArray[np.intp]) -> Iterator[Conditions]:
        """Rules of so many trees grown with noise on some rows."""
        trees = self.trees
        for number in range(count):
            if number and self.out_of_time():
                return
            noise = trees.noise(trees.table) if number else lambda: 1.0
            nats = trees.rate * float(self.order.choice((1.0, 0.5)))
            grown = grow(trees.table, rows, Counter(), nats, lambda: self.run.fraction >= 1, noise)
            yield from paths_of(prune(grown, _PRUNED_AT * trees.rate)[0])

    def other_terms(self) -> Iterator[Conditions]:
        """Near those in use, then paths of trees grown where votes are wrong, then some of the first ones."""
        for conditions, _ in self.kept:
            yield from near(self.trees.table, conditions, _REACH)
        yield from self.paths(_TREES, self.doubtful())
        rest = list(self.first_terms())
        yield from (rest[place] for place in self.order.permutation(len(rest)))

    def doubtful(self) -> NDArray[np.intp]:
        """Rows of the table drawn by how wrong the votes are there."""
        sums = self.sums()
        own = torch.log_softmax(sums, 0).gather(0, self.examples.labels[None])[0].exp().double().numpy()
        weight = 1.02 - own
        size = len(self.part)
        return self.part[self.order.choice(size, size, p=weight / weight.sum())]

    def sums(self) -> torch.Tensor:
        """Logits ``[classes, m]`` of the best votes at their temperature."""
        assert self.head is not None
        weights = torch.from_numpy(self.head.weights).float()
        return self.head.scale * (weights.T @ self.examples.features_t)

    def offer_terms(self, others: Iterable[Conditions]) -> None:
        """Compute the values of the terms in use and of others."""
        terms = dict.fromkeys(itertools.islice(dict.fromkeys([*(c for c, _ in self.kept), *others]), self.most_terms))
        matrix = torch.empty(len(terms) + 1, len(self.part))
        for place, conditions in enumerate(terms):
            matrix[place] = torch.from_numpy(term_values(conditions, self.columns))
        matrix[-1] = 1
        counts = np.bincount(self.labels, minlength=self.helper.num_classes)
        self.model = TermModel.of(list(terms), self.trees.table)
        self.examples = Examples(matrix, counts, len(self.sample) / len(self.part), self.soft())
        weights = np.zeros((len(matrix), self.helper.num_classes), dtype=np.int64)
        weights[: len(self.kept)] = [votes for _, votes in self.kept] if self.kept else 0
        weights[-1] = self.always
        self.head = Head(None, weights, _START_SCALE if self.head is None else self.head.scale)
        self.whole = None

    def soft(self) -> torch.Tensor | None:
        """Soft labels ``[classes, m]`` of the rows in use."""
        if self.targets is None:
            return None
        return torch.from_numpy(np.ascontiguousarray(self.targets[self.part].T, dtype=np.float32))

    def objective(self, bank: Bank | None, most: int) -> BankObjective:
        """Votes without weights on the terms on offer."""
        del bank, most
        weights = np.zeros((len(self.model.terms) + 1, self.helper.num_classes), dtype=np.int64)
        return BankObjective(self.examples, self.model, weights, _START_SCALE)

    def best_again(self) -> tuple[Bank | None, BankObjective]:
        """The best votes so far, among new terms from time to time."""
        if self.rounds % _SAME_TERMS == 0:
            self.offer_terms(self.other_terms() if self.rounds else self.model.terms)
        self.rounds += 1
        return super().best_again()

    def is_affordable(self, bank: Bank | None) -> bool:
        """Of many examples votes grow from nothing."""
        del bank
        return False

    def label(self, bank: Bank | None) -> str:
        """What the list of candidates calls it."""
        del bank
        return "votes"

    def width(self, bank: Bank | None) -> int:
        """Number of terms, the constant included."""
        del bank
        return len(self.model.terms) + 1

    def write(self, bank: Bank | None, weights: NDArray[np.int64]) -> tuple[bytes, Ledger]:
        """The message of a matrix of weights."""
        del bank
        return family.write(self.model.votes(weights), self.helper)

    def save(self) -> None:
        """Remember the terms in use, and write the checkpoint."""
        assert self.head is not None
        weights = self.head.weights
        used = np.flatnonzero((weights[:-1] != 0).any(1))
        self.kept = [(self.model.terms[row], weights[row]) for row in used]
        self.always = weights[-1]
        super().save()

    def book_majority(self) -> None:
        """The most frequent class for everything: a message from the first moment on."""
        self.model = TermModel.of([], self.trees.table)
        counts = np.bincount(self.sample.labels, minlength=self.helper.num_classes)
        weights = np.zeros((1, self.helper.num_classes), dtype=np.int64)
        weights[-1, counts.argmax()] = 1
        self.head = Head(None, weights, _START_SCALE)
        self.consider_majority(len(self.sample) - int(counts.max()), *self.write(None, weights))
        self.save()

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one that uses terms; whether there is."""
        state = self.read_checkpoint()
        if state is None:
            return False
        values, decoded = state
        assert isinstance(decoded.classifier, VotesClassifier)
        votes = decoded.classifier.votes
        if not votes.terms:
            self.best = None
            return False
        self.kept = [(term.conditions, np.array(term.votes)) for term in votes.terms]
        self.always = np.array(votes.always)
        self.head = Head(None, np.zeros((1, 1), dtype=np.int64), float(values["scale"]))
        self.offer_terms([])
        self.rounds = 2
        self.started = self.found = self.run.seconds
        return True


def vote_memory_bytes(num_samples: int, num_columns: int) -> int:
    """Peak memory of a search beside the program and the data: trees, values of terms, and some of them again."""
    return tree_memory_bytes(num_samples, num_columns) + 6 * min(MOST_ENTRIES, _MOST_TERMS * num_samples)


def compress_votes(
    sample: Sample,
    helper: Helper,
    run: Run,
    *,
    targets: NDArray[np.float32] | None = None,
    judge: Judge | None = None,
) -> Compressed:
    """Train a sum of votes for the best certificate of ``sample``.

    Args:
        sample: labelled training sample of ``m`` examples of ``d`` numbers each.
        helper: the problem; its ``predictor`` is not used.
        run: seed, budget, progress and checkpoint.
        targets: ``[m, classes]`` probabilities to learn from at first; they are not coded.
        judge: of votes that stand for an original network, as for a head.

    Raises:
        InputError: for too many columns and classes.
    """
    least = LEAST_BINS * math.prod(helper.input_shape) * helper.num_classes
    if least > MOST_COUNTS:
        expected = f"columns times classes of at most {MOST_COUNTS // LEAST_BINS:,} for votes"
        raise InputError(expected, f"{least // LEAST_BINS:,}", "leave out columns, or give a network of your own")
    search = VoteSearch(sample, helper, run, targets, judge)
    search.search()
    return search.result()
