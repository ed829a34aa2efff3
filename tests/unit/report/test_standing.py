"""What a certificate says of its place: against guessing and holding out, and what would lower a weak bound."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bitcert import Compressed, Helper, Preprocessing, Role, Sample, capture, certify
from bitcert.certificates.original import Original
from bitcert.decoder import head as bank_head
from bitcert.proof import disagreement_bound, holdout_bound, occam_bound
from bitcert.report.certificate.standing import standing, weak_because
from bitcert.report.text import percent_up


def test_a_strong_bound_is_placed_and_not_lectured(make_certificate):
    certificate = make_certificate()
    assert weak_because(certificate) == ""
    against, held = standing(replace(certificate, bound=0.2))
    assert "errs on 90.00 %; the bound is 78 % below that" in against
    expected = percent_up(holdout_bound(792, 6_000, certificate.delta))
    assert "(6,000) held out" in held
    assert f"about {expected} (estimate); most err more on new data" in held


def test_a_weak_bound_names_what_would_help_most_first(make_certificate):
    certificate = make_certificate(errors=100, samples=1000, sections=(("w", 2_000),))
    assert certificate.bound > 0.45
    help_line = standing(certificate)[-1]
    assert help_line.startswith(
        "What would help most, estimated from these counts: half of the examples as a prior part"
    )
    for errors, samples, bits in ((100, 1000, 1000), (50, 1000, 2000), (200, 2000, 2000), (50, 500, 100)):
        assert percent_up(occam_bound(errors, samples, bits, certificate.delta).binomial) in help_line


def test_a_rare_class_is_placed_against_the_most_frequent_one(make_certificate):
    certificate = make_certificate(errors=25, samples=1000, sections=(("w", 24),), data={"num_classes": 2})
    assert 0.03 < certificate.bound < 0.1
    for others, words in ((0.03, "on 3.00 % of the training sample; the bound says no more."), (0.48, "that.")):
        against = standing(certificate, others)[0]
        assert against.startswith("Against guessing: one of 2 classes at random errs on 50.00 %")
        assert against.endswith(words)
        assert ("the most frequent class alone" in against) is (others == 0.03)


def test_what_would_not_lower_the_bound_is_no_help(make_certificate):
    certificate = make_certificate(errors=463, samples=1000, sections=(("w", 16),), data={"num_classes": 2})
    help_line = standing(certificate)[-1]
    assert "half as many errors" in help_line
    assert "prior part" not in help_line  # about 72 %, of 54 %


@pytest.mark.parametrize(
    ("errors", "bits", "why"), [(900, 16, "errors"), (100, 100_000, "bits"), (899, 8, "errors"), (10, 16, "")]
)
def test_why_a_bound_says_nothing_is_told_by_its_cause(make_certificate, errors, bits, why):
    certificate = make_certificate(errors=errors, samples=1000, sections=(("w", bits),))
    assert weak_because(certificate) == why


def test_where_the_counts_cannot_be_nothing_is_said(make_certificate):
    certificate = make_certificate()
    assert standing(replace(certificate, errors=certificate.samples + 1)) == []
    assert standing(replace(certificate, data={})) == []


@pytest.fixture(scope="module")
def of_original():
    """A certificate as the program makes it, of a network that a head of three weights stands for."""
    rng = np.random.default_rng(3)
    inputs = rng.normal(size=(600, 2)).astype(np.float32)
    sample = Sample(inputs, (inputs[:, 0] > 0).astype(np.int64), 2, Role.TRAIN, "half planes")
    unlabelled = Sample(rng.normal(size=(500, 2)).astype(np.float32), None, 2, Role.UNLABELLED, "more")
    module = torch.nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[-3.0, 2.0], [3.0, 0.0]]))
        module.bias.zero_()
    helper = Helper.for_sample(sample)
    message, ledger = bank_head.write(None, np.array([[-3, 2], [0, 1], [0, 0]]), helper)
    original = Original.of(capture(module, torch.zeros(2, 2)), Preprocessing(), unlabelled)
    return certify(Compressed(message, ledger, helper), sample, original=original)


def test_labelling_the_unlabelled_examples_is_priced(of_original):
    errors = math.ceil(of_original.errors / 600 * 500)
    expected = percent_up(holdout_bound(errors, 500, of_original.delta))
    told = " ".join(standing(of_original))
    assert f"Labelling the 500 unlabelled examples instead would certify about {expected}" in told


def test_of_an_original_network_what_would_help_is_its_own_bound(of_original):
    apart, bits = of_original.original["disagreements"], of_original.message_bits
    first, second = (amount for _, amount in of_original.delta_ledger[:2])
    now = occam_bound(of_original.errors, 600, bits, first).binomial
    shorter = occam_bound(of_original.errors, 600, bits // 2, first).binomial
    told = standing(replace(of_original, bound=0.4))[-1]
    for words, value in (
        ("half as many bits of the surrogate", disagreement_bound(shorter, apart, 500, second)),
        ("half as many disagreements", disagreement_bound(now, apart // 2, 500, second)),
        ("four times as many unlabelled examples", disagreement_bound(now, 4 * apart, 2_000, second)),
    ):
        assert value < of_original.bound
        (found,) = (part for part in told.split("; ") if words in part)
        assert found.rstrip(".").endswith(percent_up(value))


def test_an_original_that_differs_too_often_is_weak_by_its_errors(of_original):
    weak = replace(of_original, bound=1.0, original={**of_original.original, "disagreements": 300})
    assert weak_because(weak) == "errors", "no message is short enough"


@pytest.mark.parametrize("facts", [{}, {"unlabelled": 5}, {"unlabelled": {"samples": -3}, "disagreements": 2}])
def test_what_a_strange_file_says_of_an_original_is_left_out(make_certificate, facts):
    told = " ".join(standing(make_certificate(errors=100, samples=1000, certifies="original", original=facts)))
    assert "unlabelled" not in told


@pytest.mark.parametrize(("apart", "told"), [(0, "(1.00 %)"), (500, "(2.00 %)"), (1_000, None)])
def test_of_a_surrogate_the_errors_are_shared_among_its_answers(make_certificate, apart, told):
    """One that is silent on every example says nothing of what a hold-out would find."""
    certificate = replace(
        make_certificate(errors=10, samples=1000, sections=(("w", 16),)),
        original={"unlabelled": {"samples": 1_000}, "disagreements": apart},
        decision_rule={"abstains_within": 1.0},
    )
    lines = " ".join(standing(certificate))
    assert ("Against holding out" in lines) is ("Labelling the 1,000" in lines) is (told is not None)
    assert told is None or told in lines
