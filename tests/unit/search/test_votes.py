"""Votes trained for the certificate: what is booked is counted, terms have about their prices, laws of tables."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from bitcert import Helper, Role, Run, Sample, certify, decode_message
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.coding.votes import Ramp, Side, Term, Votes
from bitcert.decoder.votes import VotesClassifier, term_values, write
from bitcert.errors import InputError
from bitcert.run import Checkpoint
from bitcert.search.judging import Judge, OriginalNetwork, soft_labels
from bitcert.search.tree_table import Binned
from bitcert.search.vote_terms import TermModel, canonical, near, paths_of, ramps, thresholds
from bitcert.search.votes import VoteSearch, compress_votes

pytestmark = pytest.mark.usefixtures("steps")


def additive(seed: int = 0, samples: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """Columns of unlike units and offsets, three of which say a part each."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(samples, 5))
    y = (z[:, 0] + z[:, 1] + z[:, 2] + 0.3 * rng.normal(size=samples) > 0).astype(np.int64)
    return (z * [1e4, 1e-9, 1, 1, 1] + [1e6, 0, 1000, -7, 0]).astype(np.float32), y


def sample_of(x: np.ndarray, y: np.ndarray) -> Sample:
    return Sample(x, y, 2, Role.TRAIN, "additive")


def test_a_certificate_counts_what_the_search_booked_and_no_example_is_a_near_tie(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("bitcert.search.votes._MOST_TERMS", 60)
    monkeypatch.setattr("bitcert.search.votes._FEWEST_TERMS", 40)
    monkeypatch.setattr("bitcert.search.votes._FIRST_TREES", 1)
    monkeypatch.setattr("bitcert.search.votes._TREES", 1)
    sample = sample_of(*additive(0, 300))
    run = Run(budget_seconds=4.0, checkpoint=Checkpoint(tmp_path / "votes.safetensors", "votes"))
    result = compress_votes(sample, Helper.for_sample(sample), run)
    best = min(result.candidates, key=lambda candidate: candidate.bound)
    certificate = certify(result, sample)
    assert (certificate.errors, certificate.message_bits) == (best.errors, best.message_bits)
    assert certificate.bound < result.candidates[0].bound, "better than the majority class"
    again = compress_votes(sample, Helper.for_sample(sample), Run(budget_seconds=4.4, checkpoint=run.checkpoint))
    assert certify(again, sample).bound <= certificate.bound, "it goes on from its checkpoint"
    classifier = decode_message(again.message, again.helper).classifier
    assert isinstance(classifier, VotesClassifier)
    assert {c.subject.column for term in classifier.votes.terms for c in term.conditions} & {0, 1, 2}


def test_votes_for_an_original_network_are_ranked_by_its_bound(monkeypatch) -> None:
    monkeypatch.setattr("bitcert.search.votes._MOST_TERMS", 40)
    monkeypatch.setattr("bitcert.search.votes._FEWEST_TERMS", 40)
    sample = sample_of(*additive(0, 300))
    logits = np.eye(2, dtype=np.float32)[sample.labels]
    judge = Judge(sample, 0.01, OriginalNetwork(logits, 200, 0.03))
    search = VoteSearch(sample, Helper.for_sample(sample), Run(1, 1.0), soft_labels(logits, sample), judge)
    search.search()
    assert search.worths
    assert min(worth.bound for worth in search.worths.values()) == search.rank(search.best.candidates[0])[0]


def test_too_many_columns_are_refused_in_one_sentence() -> None:
    sample = Sample(np.zeros((2, 1 << 21), np.float32), np.array([0, 1]), 2, Role.TRAIN, "wide")
    with pytest.raises(InputError, match=r"^expected columns times classes of at most 2,396,745 for votes"):
        compress_votes(sample, Helper.for_sample(sample), Run(budget_seconds=1.0))


def test_terms_are_tests_of_the_table_and_ramps_rise_where_the_data_are() -> None:
    x, y = additive()
    table = Binned.of(x, y, 2)
    found = list(thresholds(table, 6))
    assert all(len(list(group)) <= 6 for _, group in itertools.groupby(found, lambda term: term[0].subject))
    for (side,) in found:
        assert 0 < term_values((side,), x).mean() < 1
    assert len(list(near(table, found[3], 2))) > len(found[3])
    for ramp in ramps(x, table.subjects):
        values = term_values(ramp, x)
        assert len(np.unique(values)) > 8
        assert values.min() == 0
        assert values.max() >= 2


def test_paths_of_a_tree_are_what_leads_to_its_nodes() -> None:
    first, second = Comparison(Subject(0), 1.0), Comparison(Subject(1), 2.0)
    tree = Split(first, Split(second, Leaf(0), Leaf(1)), Leaf(0))
    root, both, one = (Side(first),), (Side(first), Side(second)), (Side(first), Side(second, False))
    assert list(paths_of(tree)) == [root, both, one]


def test_prices_are_near_the_lengths_that_are_written() -> None:
    x, y = additive()
    table = Binned.of(x, y, 2)
    model = TermModel.of([*thresholds(table, 8), *ramps(x, table.subjects)], table)
    matrix = np.zeros((len(model.terms) + 1, 2), dtype=np.int64)
    for row in (3, 17, 40):
        before, prices = model.code_bits(matrix), model.prices(matrix)
        matrix[row, 1] = 2
        price = prices.of(np.array([row]), matrix[[row]], model)[0]
        assert abs(model.code_bits(matrix) - before - price) < 10


TERMS = (
    Term((Ramp(Subject(0), 3.0, -2),), (0, 1)),
    Term((Side(Comparison(Subject(1), 0.75)),), (0, -2)),
    Term((Side(Comparison(Subject(1), 1.5)),), (0, -2)),
    Term((Side(Comparison(Subject(3), 20.0)),), (0, 3)),
)


def bits_of(terms: tuple[Term, ...], columns: int = 6) -> int:
    votes = canonical([(term.conditions, term.votes) for term in terms], (0, -1))
    return dict(write(votes, Helper((columns,), 2))[1].sections)["votes"]


def test_the_order_of_the_columns_costs_nothing() -> None:
    def moved(term: Term, order: tuple[int, ...]) -> Term:
        (one,) = term.conditions
        seen = Subject(order[one.subject.column])
        if isinstance(one, Ramp):
            return Term((Ramp(seen, one.value, one.exponent),), term.votes)
        return Term((Side(Comparison(seen, one.test.value)),), term.votes)

    lengths = [bits_of(tuple(moved(t, order) for t in TERMS)) for order in itertools.permutations(range(6))][::97]
    assert max(lengths) - min(lengths) <= 1, "only the end of the arithmetic code may move by a bit"


@pytest.mark.parametrize("octaves", [-20, 7, 25])
def test_a_power_of_two_costs_nothing(octaves: int) -> None:
    def scaled(term: Term) -> Term:
        (one,) = term.conditions
        if isinstance(one, Ramp):
            return Term((Ramp(one.subject, math.ldexp(one.value, octaves), one.exponent + octaves),), term.votes)
        return Term((Side(Comparison(one.subject, math.ldexp(one.test.value, octaves))),), term.votes)

    assert abs(bits_of(tuple(map(scaled, TERMS))) - bits_of(TERMS)) <= 1


def test_of_two_classes_only_the_difference_is_voted_on() -> None:
    found = canonical([(TERMS[0].conditions, (2, 5)), (TERMS[1].conditions, (3, 3))], (4, 1))
    assert found == Votes((0, -3), (Term(TERMS[0].conditions, (0, 3)),))
