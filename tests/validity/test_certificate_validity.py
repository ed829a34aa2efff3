"""Do whole certificates hold? Real messages, decoded and counted by the program, on data whose truth is known.

``test_bounds_validity.py`` simulates the formulas; here every failure is one of ``certify`` itself: of the length of
a written file, of the errors of what it decodes to, and of the bound made from the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from scipy.stats import binom

from bitcert import Certificate, Compressed, Helper, Role, Run, Sample, certify, decode_message
from bitcert.certificates import certification
from bitcert.coding.trees import Comparison, Leaf, Split, Subject
from bitcert.coding.votes import Side, Term, Votes
from bitcert.data.schema import Column, Schema, Table
from bitcert.decoder import head as bank_head
from bitcert.decoder import trees as decision_tree
from bitcert.decoder import votes as sum_of_votes
from bitcert.proof import occam_bound
from bitcert.search import compress_head
from bitcert.search.trees import compress_trees
from bitcert.search.votes import compress_votes

DELTA = 0.05
DRAWS = 800

# Finite families: heads, trees or votes that look at one of 16 random bits. The labels are coins, so each is wrong half
# of the time, and their errors on a sample are independent. No code of real messages is short enough for a failure to
# be seen in 2,000 plain draws of the sample (all of a family's together may fail once in 70,000), so samples are drawn
# from a mixture in which one member, picked at random, is better than it is, and weighted by the ratio of
# probabilities.

NUM_BITS = 16
SAMPLES = 400
TRUTH = 0.5


CATEGORIES = ("a", "b")
NAMES = tuple(f"c{k:02}" for k in range(NUM_BITS))
DECLARED = Table(Schema(tuple(Column(name, categories=CATEGORIES) for name in NAMES), "y"), (*NAMES, "y"))


class Member(NamedTuple):
    """One classifier: its message, the input it looks at, and its sign."""

    compressed: Compressed
    feature: int
    sign: int
    bits: int


def head_of(feature: int, sign: int) -> Compressed:
    weights = np.zeros((NUM_BITS + 1, 2), np.int64)
    weights[feature, 1] = sign
    helper = Helper((NUM_BITS,), 2)
    return Compressed(*bank_head.write(None, weights, helper), helper)


def tree_of(feature: int, sign: int) -> Compressed:
    tree = Split(Comparison(Subject(feature), 0.0), Leaf(int(sign < 0)), Leaf(int(sign > 0)))
    helper = Helper((NUM_BITS,), 2)
    return Compressed(*decision_tree.write(tree, helper), helper)


def votes_of(feature: int, sign: int) -> Compressed:
    term = Term((Side(Comparison(Subject(feature), 0.0)),), (0, -2 * sign))
    helper = Helper((NUM_BITS,), 2)
    return Compressed(*sum_of_votes.write(Votes((0, sign), (term,)), helper), helper)


def equality_of(feature: int, sign: int) -> Compressed:
    """Tests for two of the declared categories, each paid as one of so many numbers."""
    first, second = (Comparison(Subject(feature), value, equal=True) for value in (1.0, 0.0))
    yes, no = Leaf(int(sign > 0)), Leaf(int(sign < 0))
    tree = Split(first, yes, Split(second, no, yes))
    helper = Helper((NUM_BITS,), 2, table=DECLARED)
    return Compressed(*decision_tree.write(tree, helper), helper)


class Family:
    """All members of one kind; or of several, each of which looks at inputs of its own: errors are then independent."""

    def __init__(self, *makes: Callable[[int, int], Compressed]) -> None:
        self.members = []
        for feature, sign in product(range(NUM_BITS), (-1, 1)):
            compressed = makes[feature * len(makes) // NUM_BITS](feature, sign)
            self.members.append(Member(compressed, feature, sign, 8 * len(compressed.message)))
        self.bits = np.array([member.bits for member in self.members])

    @property
    def promised(self) -> float:
        """The union bound gives every message ``delta * 2^-bits``, and the sample one of them at most."""
        return DELTA * float(np.sum(0.5**self.bits))

    def errors(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Errors of every member, [..., members], from inputs of -1 and 1, [..., samples, NUM_BITS]."""
        agree = np.sum((inputs > 0) == (labels[..., None] == 1), axis=-2)
        columns = [agree[..., m.feature] if m.sign < 0 else SAMPLES - agree[..., m.feature] for m in self.members]
        return np.stack(columns, -1)

    def draw(self, num_draws: int, seed: int) -> list[Draw]:
        """Samples of the mixture."""
        rng = np.random.default_rng(seed)
        share = 0.5**self.bits / np.sum(0.5**self.bits)
        tilted = np.array([largest_failing_count(bits) / SAMPLES for bits in self.bits])
        draws = []
        for picked in rng.choice(len(self.members), size=num_draws, p=share):
            inputs = rng.integers(0, 2, (SAMPLES, NUM_BITS)) * 2 - 1
            member = self.members[picked]
            answers = inputs[:, member.feature] * member.sign > 0
            labels = (answers ^ (rng.random(SAMPLES) < tilted[picked])).astype(np.int64)
            errors = self.errors(inputs, labels)
            log_ratio = SAMPLES * np.log(2) + errors * np.log(tilted) + (SAMPLES - errors) * np.log1p(-tilted)
            draws.append(Draw(inputs.astype(np.float32), labels, errors, float(1 / np.sum(share * np.exp(log_ratio)))))
        return draws

    def certified(self, draw: Draw, delta: float = DELTA, among: slice = slice(None)) -> Certificate:
        """The best certificate of the family, or of these members, on this sample."""
        counts = zip(draw.errors[among], self.bits[among], strict=True)
        bounds = [bound_of(int(errors), int(bits)) for errors, bits in counts]
        sample = coins(draw, self.members[0].compressed)
        return certify(self.members[among][int(np.argmin(bounds))].compressed, sample, delta=delta)


def coins(draw: Draw, like: Compressed) -> Sample:
    """The sample; a declared column holds 0 and 1, the others -1 and 1."""
    inputs = draw.inputs if like.helper.table is None else (draw.inputs + 1) / 2
    return Sample(inputs, draw.labels, 2, Role.TRAIN, "coins", table=like.helper.table)


def largest_failing_count(bits: int) -> int:
    return max(count for count in range(SAMPLES // 2) if bound_of(count, int(bits)) < TRUTH)


class Draw(NamedTuple):
    """A sample of the mixture, the errors of all members on it, and its weight."""

    inputs: np.ndarray
    labels: np.ndarray
    errors: np.ndarray
    weight: float


@cache
def bound_of(errors: int, bits: int, delta: float = DELTA) -> float:
    return occam_bound(errors, SAMPLES, bits, delta).binomial


Maker = Callable[[Certificate], float]
"""From the honest certificate, what a program would have printed."""


def honest(certificate: Certificate) -> float:
    return certificate.bound


def delta_doubled(certificate: Certificate) -> float:
    return bound_of(certificate.errors, certificate.message_bits, 2 * DELTA)


def section_not_counted(certificate: Certificate) -> float:
    return bound_of(certificate.errors, certificate.message_bits - dict(certificate.sections)["header"])


def column_not_coded(certificate: Certificate) -> float:
    """Which column is looked at is read off the data, and nobody pays for it."""
    return bound_of(certificate.errors, certificate.message_bits - int(np.log2(NUM_BITS)))


def value_not_coded(certificate: Certificate) -> float:
    """The threshold, or the category, is read off the data and not paid: two bits of it are enough to see."""
    return bound_of(certificate.errors, certificate.message_bits - 2)


def errors_counted_on_an_easier_sample(certificate: Certificate) -> float:
    """Of the labels that the classifier gets wrong a twentieth has been cleaned away as accidents."""
    return bound_of(round(0.95 * certificate.errors), certificate.message_bits)


class Simulated(NamedTuple):
    """A family, with weights and honest certificates of the samples drawn: one a sample, or one for each option."""

    family: Family
    certificates: Sequence[tuple[float, tuple[Certificate, ...]]]

    def failure_rate(self, maker: Maker) -> tuple[float, float]:
        """Estimated probability that any certificate lies below the truth, and its standard error."""
        losses = np.array([weight * (min(map(maker, printed)) < TRUTH) for weight, printed in self.certificates])
        return float(losses.mean()), float(losses.std() / np.sqrt(len(losses)))

    def assert_valid(self, rate: float, standard_error: float) -> None:
        """As for the formulas: a correct program fails this with a probability of a thousandth; the seeds are fixed."""
        low, promised = rate - 3.1 * standard_error, self.family.promised
        assert low <= promised, f"fails with probability {low:.3g} at least, promised {promised:.3g}"


@pytest.fixture(scope="module", autouse=True)
def _described_once():
    """The members' helpers are the same for every sample, and so is what their descriptions cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certification, "helper_ledger", cache(certification.helper_ledger))
        yield


FAMILIES = {
    "heads": Family(head_of),
    "trees": Family(tree_of),
    "votes": Family(votes_of),
    "declared categories": Family(equality_of),
}


@pytest.fixture(scope="module", params=FAMILIES)
def simulated(request: pytest.FixtureRequest) -> Simulated:
    family = FAMILIES[request.param]
    return Simulated(family, [(draw.weight, (family.certified(draw),)) for draw in family.draw(DRAWS, seed=1)])


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_simulation_knows_what_it_simulates(kind: str) -> None:
    """The members decode to what is meant, and their errors are those the program counts."""
    family = FAMILIES[kind]
    for draw in family.draw(5, seed=2):
        sample = coins(draw, family.members[0].compressed)
        for member, errors in zip(family.members, draw.errors, strict=True):
            certificate = certify(member.compressed, sample)
            assert (certificate.errors, certificate.near_ties) == (errors, 0)
            assert certificate.message_bits == member.bits
        assert delta_doubled(family.certified(draw)) == family.certified(draw, 2 * DELTA).bound


def test_certificates_of_a_finite_family_are_valid_and_nearly_tight(simulated: Simulated) -> None:
    rate, standard_error = simulated.failure_rate(honest)
    simulated.assert_valid(rate, standard_error)
    assert rate >= 0.5 * simulated.family.promised
    assert standard_error < 0.1 * simulated.family.promised, "precise enough to see a factor of two"


BROKEN = (delta_doubled, section_not_counted, column_not_coded, value_not_coded, errors_counted_on_an_easier_sample)


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_certificates_fail_the_same_test(simulated: Simulated, broken: Maker) -> None:
    rate, standard_error = simulated.failure_rate(broken)
    with pytest.raises(AssertionError, match="fails with probability"):
        simulated.assert_valid(rate, standard_error)


def test_the_estimate_is_that_of_the_exact_binomial(simulated: Simulated) -> None:
    """The members' failures are almost disjoint, so their probability is nearly a sum of binomial tails."""
    members = simulated.family.members
    exact = sum(binom.cdf(largest_failing_count(member.bits), SAMPLES, TRUTH) for member in members)
    rate, standard_error = simulated.failure_rate(honest)
    assert abs(rate - exact) < 4 * standard_error
    assert exact <= simulated.family.promised


# Several options, each with its own certificate from one delta


@pytest.fixture(scope="module")
def options() -> Simulated:
    """The best head and the best tree of every sample are certified both."""
    family = Family(head_of, tree_of)
    half = len(family.members) // 2
    printed = [
        (draw.weight, tuple(family.certified(draw, among=part) for part in (slice(half), slice(half, None))))
        for draw in family.draw(500, seed=3)
    ]
    return Simulated(family, printed)


def test_certificates_of_all_options_hold_together_and_are_nearly_tight(options: Simulated) -> None:
    """Their messages are words of one code: the family is named in each, and that is all it takes."""
    rate, standard_error = options.failure_rate(honest)
    options.assert_valid(rate, standard_error)
    assert rate >= 0.5 * options.family.promised
    assert standard_error < 0.1 * options.family.promised


@pytest.mark.parametrize("broken", [section_not_counted, delta_doubled])
def test_options_with_codes_of_their_own_or_a_delta_each_fail_the_same_test(options: Simulated, broken: Maker) -> None:
    """Best of two from one delta: without the header nobody pays for which code a message is read with."""
    rate, standard_error = options.failure_rate(broken)
    with pytest.raises(AssertionError, match="fails with probability"):
        options.assert_valid(rate, standard_error)


# Training


def budget() -> Run:
    return Run(budget_seconds=0.02)


def random_labels(seed: int, classes: int, shape: tuple[int, ...], num_samples: int) -> Sample:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(num_samples, *shape)).astype(np.float32)
    return Sample(inputs, rng.integers(0, classes, num_samples), classes, Role.TRAIN, "coins")


RANDOM_PROBLEMS = [(2, (40,), 60), (3, (8,), 200), (5, (2,), 40), (2, (1, 6, 6), 100), (10, (20,), 300)]


@pytest.mark.parametrize(
    ("compress", "seeds", "least"), [(compress_trees, 6, 10), (compress_votes, 1, 0), (compress_head, 6, 0)]
)
def test_what_is_trained_on_random_labels_is_never_certified_below_its_true_error(
    compress, seeds, least, ticking, monkeypatch
) -> None:
    """Trees are grown before they are pruned, and learn by heart; heads pay for each bit as they grow, and do not."""
    monkeypatch.setattr("bitcert.search.votes._MOST_TERMS", 100)
    monkeypatch.setattr("bitcert.search.votes._FEWEST_TERMS", 50)
    memorised = 0
    for classes, shape, num_samples in RANDOM_PROBLEMS:
        truth = 1 - 1 / classes
        for seed in range(seeds):
            sample = random_labels(seed, classes, shape, num_samples)
            ticking(4e-3)  # five looks at the clock: a search cut short still meets chance patterns
            result = compress(sample, Helper.for_sample(sample), budget())
            assert certify(result, sample).bound >= truth
            assert min(candidate.bound for candidate in result.candidates) >= truth, "nor would any other have been"
            memorised += any(candidate.errors < truth * num_samples for candidate in result.candidates)
    assert memorised >= least, "training must find chance patterns, or nothing was tested"


def angles_error(weights: np.ndarray, noise: float) -> float:
    """Exact error on the unit circle of labels ``x1 > 0`` flipped with probability ``noise``."""
    angles = (np.arange(200_000) + 0.5) * 2 * np.pi / 200_000
    points = np.stack([np.cos(angles), np.sin(angles), np.ones_like(angles)], 1)
    logits = points @ weights
    wrong = np.mean((logits[:, 1] > logits[:, 0]) != (points[:, 0] > 0))
    return float(noise + (1 - 2 * noise) * wrong)


def circle(seed: int, num_samples: int, noise: float) -> Sample:
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, num_samples)
    inputs = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels = (inputs[:, 0] > 0) ^ (rng.random(num_samples) < noise)
    return Sample(inputs, labels.astype(np.int64), 2, Role.TRAIN, "circle")


@pytest.mark.parametrize(("num_samples", "noise"), [(60, 0.1), (200, 0.2), (2_000, 0.05)])
def test_a_trained_head_is_certified_above_its_true_error(num_samples: int, noise: float, ticking) -> None:
    gaps, optimistic = [], 0
    for seed in range(8):
        ticking(1e-4)  # training may look at the clock 200 times, however fast the machine is
        sample = circle(seed, num_samples, noise)
        compressed = compress_head(sample, Helper.for_sample(sample), budget())
        classifier = decode_message(compressed.message, compressed.helper).classifier
        assert isinstance(classifier, bank_head.BankHead)
        truth = angles_error(classifier.weights, noise)
        certificate = certify(compressed, sample)
        gaps.append(certificate.bound - truth)
        optimistic += certificate.errors / certificate.samples < truth
    assert min(gaps) >= 0
    assert min(gaps) < 0.35, "bounds that say nothing would pass, too"
    assert optimistic >= 1, "the training error is no bound: it must fail where the certificate holds"


def test_counting_on_the_training_data_of_another_is_caught(toy: Sample, toy_compressed: Compressed) -> None:
    """A certificate states of which sample it is; the same message on another sample is another certificate."""
    other = dataclasses.replace(toy, labels=1 - toy.labels)
    first, second = certify(toy_compressed, toy), certify(toy_compressed, other)
    assert first.errors + second.errors == len(toy)
    assert first.data["hash"] != second.data["hash"]
