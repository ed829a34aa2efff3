"""What a certificate says of its place: against guessing and holding out, and what would lower a weak bound."""

from dataclasses import replace

import pytest

from bitcert.proof import holdout_bound, occam_bound
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


def test_labelling_the_unlabelled_examples_is_priced(make_certificate):
    certificate = make_certificate(errors=100, samples=1000)
    told = standing(replace(certificate, original={"samples": 500}))
    expected = percent_up(holdout_bound(50, 500, certificate.delta))
    assert any(f"Labelling the 500 unlabelled examples instead would certify about {expected}" in line for line in told)
