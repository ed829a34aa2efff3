"""Screening in a verification: what it confirms is what both ways say; what it cannot confirm is counted in full."""

import numpy as np
import pytest
import torch

from bitcert import DecisionRule, Role, Sample
from bitcert.certificates import screening
from bitcert.certificates.screening import DOUBT, EVERY, count_again, screened_ways
from bitcert.counting import FloatClassifier, Level, SummingClassifier, both_ways, count_losses
from bitcert.losses import parse_loss

RULE, SIZE = DecisionRule(100), 800


class Plain(FloatClassifier):
    """Logits as given, in float64 with a difference added; notes how many were computed in float64."""

    def __init__(self, difference: torch.Tensor | float = 0.0, terms: float = 1.0) -> None:
        self.difference, self.terms, self.doubled = difference, terms, 0

    def logits(self, inputs, dtype):
        logits = torch.from_numpy(np.array(inputs)).to(dtype)
        if dtype == torch.float64:
            self.doubled += len(inputs)
            logits = logits + self.difference
        return logits


class Conditioned(Plain, SummingClassifier):
    """Which says how large the terms are that its logits sum."""

    def with_terms(self, inputs):
        logits = self.logits(inputs, torch.float32)
        return logits, self.terms * logits.abs().amax(1)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(SIZE, 4)).astype(np.float32)
    inputs[::7, 1] = inputs[::7, 0] * (1 + 1e-4 * rng.normal(size=len(inputs[::7]))).astype(np.float32)
    return Sample(inputs, inputs.argmax(1) * (rng.random(SIZE) < 0.9), 4, Role.TRAIN, "logits")


def counts(classifier, sample, ways):
    return count_losses(classifier, sample, RULE, (), tuple(Level), ways=ways)


@pytest.mark.parametrize("difference", [0.0, 1e-7, torch.tensor([1e-6, 0, -1e-6, 0], dtype=torch.float64)])
def test_a_screened_count_of_a_well_conditioned_classifier_is_the_full_one(sample, difference):
    full, screened = Conditioned(difference), Conditioned(difference)
    assert counts(screened, sample, screened_ways) == counts(full, sample, both_ways)
    near = (sample.inputs.max(1) - np.sort(sample.inputs, 1)[:, -2]) <= DOUBT * abs(sample.inputs).max(1)
    assert near.sum() <= screened.doubled <= near.sum() + SIZE // EVERY + 2 * SIZE // 100
    assert screened.doubled < full.doubled / 2


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_logits_that_are_mostly_rounding_are_counted_in_full(sample, size):
    """The broken twin counts what float32 says: errors that float64 sees are missing."""
    rng = np.random.default_rng(1)
    differences = torch.from_numpy(size * rng.normal(size=4))
    full = counts(Conditioned(differences), sample, both_ways)
    assert counts(Conditioned(differences), sample, screened_ways) == full
    alone = counts(Conditioned(), sample, both_ways)
    assert alone[2].errors.errors < full[2].errors.errors


class Claim:
    """What of a certificate is compared."""

    def __init__(self, errors: int, near_ties: int) -> None:
        self.errors, self.near_ties = errors, near_ties


def test_only_a_claim_that_is_confirmed_needs_no_full_count(sample, monkeypatch):
    low, _, high = counts(Conditioned(), sample, both_ways)
    claim = Claim(high.errors.errors, high.errors.near_ties)
    found, screened = count_again(claim, Conditioned(), sample, RULE, (), None)
    assert screened
    assert found == (low, high)
    for wrong in (Claim(low.errors.errors - 1, claim.near_ties), Claim(claim.errors, high.errors.near_ties + 1)):
        classifier = Conditioned()
        found, screened = count_again(wrong, classifier, sample, RULE, (), None)
        assert not screened
        assert found == (low, high)
        assert classifier.doubled > SIZE
    # losses, and classifiers that are not known to be well conditioned, are counted in full at once
    monkeypatch.setattr(screening, "screened_ways", None)
    losses = (parse_loss("brier", 4),)
    assert count_again(claim, Conditioned(), sample, RULE, losses, None)[1] is False
    assert count_again(claim, Plain(), sample, RULE, (), None)[1] is False


def test_without_float64_every_example_is_counted_twice_in_float32(sample):
    class Single(Conditioned):
        seen = 0

        def logits(self, inputs, dtype):
            if dtype == torch.float64:
                raise RuntimeError("no float64")
            self.seen += len(inputs)
            return super().logits(inputs, dtype)

    low, _, high = counts(Single(), sample, both_ways)
    classifier = Single()
    claim = Claim(high.errors.errors, high.errors.near_ties)
    found, screened = count_again(claim, classifier, sample, RULE, (), None)
    assert (found, screened) == ((low, high), False)
    assert classifier.seen >= 2 * SIZE


def test_logits_whose_terms_cancel_are_counted_in_full(sample):
    """One clear example, which is not looked at twice, is decided otherwise in float64."""
    gaps = np.sort(sample.inputs, 1)[:, -1] - np.sort(sample.inputs, 1)[:, -2]
    clear = np.flatnonzero(gaps > 0.5)
    place = next(row for row in clear if row % 100 % EVERY)
    difference = torch.zeros(SIZE, 4, dtype=torch.float64)
    difference[place] = torch.from_numpy(-2.0 * sample.inputs[place])

    class Hostile(Conditioned):
        def logits(self, inputs, dtype):
            logits = torch.from_numpy(np.array(inputs)).to(dtype)
            if dtype == torch.float64:
                rows = [int(np.flatnonzero((sample.inputs == row).all(1))[0]) for row in inputs]
                logits = logits + difference[rows]
            return logits

    full = counts(Hostile(), sample, both_ways)
    assert counts(Hostile(terms=1e5), sample, screened_ways) == full
    assert counts(Hostile(terms=1.0), sample, screened_ways) != full  # what a twin without the terms says
