"""Splits, losses and the original network on the terminal and on the page."""

import dataclasses
import re

import pytest

from bitcert.proof import disagreement_bound, holdout_bound, occam_bound
from bitcert.report import render_report, terminal_summary
from bitcert.report.certificate.claims import loss_rows, original_facts, rest_facts, split_facts
from bitcert.run import Candidate

from .test_page import show

pytestmark = pytest.mark.usefixtures("undrawn")

OF_COMPRESSED, REST = "of the compressed network only", "the rest of the training set"
HOSTILE = '"><script>alert(1)</script>\x1b[2J'


def told(certificate):
    return " ".join(show(terminal_summary(certificate)).split())


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page[page.index("<main>") :]).split())


@pytest.fixture
def full(make_certificate):
    """Everything at once: 60,000 samples left of 120,000, delta in four parts."""
    occam = occam_bound(7920, 60000, 3224, 0.005)
    apart = holdout_bound(70, 10000, 0.02)
    bounds = {name: getattr(occam, name) for name in ("binomial", "kl_chernoff", "hoeffding")}
    return make_certificate(
        certifies="original",
        bound=disagreement_bound(occam.binomial, 70, 10000, 0.02),
        bounds=bounds,
        delta_ledger=(("message", 0.005), ("disagreement", 0.02), ("loss brier", 0.0125), ("loss top-3", 0.0125)),
        prior={"fraction": 0.5, "seed": 3, "samples": 60000, "hash": "0", "rest_hash": "1"},
        rest={"samples": 60000, "errors": 900, "bound": holdout_bound(900, 60000, 0.05), "in_helper": True},
        original={
            "name": "lenet",
            "hash": "ab" * 32,
            "unlabelled": {"name": "leaves of May", "hash": "0", "samples": 10000},
            "disagreements": 70,
            "disagreement_bound": apart,
        },
        losses=(
            {"name": "brier", "values": "0 to 1", "total": 5, "mean": 0.11, "bound": 0.2},
            {"name": "top-3", "values": "0 or 1", "total": 60, "mean": 0.001, "bound": 0.0771},
        ),
    )


def test_every_claim_is_on_the_terminal(full):
    text = told(full)
    assert text.startswith(full.sentence)
    assert "the original network is wrong on at most" in text
    for part in (
        "errors on the rest of the training set 13.20 %",
        "prior part 60,000 spent on the helper: fraction 0.5, seed 3 (not 0",
        "differs from the compressed one 0.70 % 70 of 10,000 unlabelled examples of leaves of May",
        f"{original_facts(full)['disagreement']} delta = 0.02",
        "the compressed network's own bound, delta = 0.005",
        f"bound, brier 20.00 % {OF_COMPRESSED}; 11.00 % on {REST}; KL–Chernoff, delta = 0.0125",
        f"bound, top-3 7.71 % {OF_COMPRESSED}; 0.10 % on {REST}; exact binomial tail, delta = 0.0125",
        f"holding out the rest would have said {rest_facts(full)['bound']}",
    ):
        assert part in text, part


def test_of_a_surrogate_that_abstains_the_errors_are_those_of_its_answers(full):
    silent = dataclasses.replace(full, decision_rule={**full.decision_rule, "abstains_within": 2.0})
    text, page = told(silent), text_of(render_report(silent))
    assert "13.20 % 7,920 of 60,000, where the surrogate answers" in text
    assert "differs or abstains 0.70 %" in text
    assert "wrong answers of the compressed one" in text
    assert f"11.00 % on {REST};" in text, "other losses are of all examples"
    assert "the compressed network answers and is wrong on at most" in page
    assert "Upper bound on how often the compressed network answers and is wrong, on new data" in page
    assert "or the compressed one abstains" in page
    assert "abstain" not in told(full) + text_of(render_report(full))


def test_every_claim_is_on_the_page(full):
    page = render_report(full)
    text = text_of(page)
    for part in (
        full.sentence,
        "60,000 examples (fraction 0.5, seed 3 (not 0",
        "70 of 10,000",
        original_facts(full)["disagreement"],
        original_facts(full)["compressed"],
        "the right class is not among the first 3",
        "simply holding out the rest",
        rest_facts(full)["bound"],
        "did not pay for its bits",
        "--original MODEL --weights FILE --unlabelled DATA",
    ):
        assert part in text, part
    assert "the one that counts" in text[: text.index("of the compressed network on new data")]


def test_a_plain_certificate_says_nothing_of_all_that(make_certificate):
    certificate = make_certificate()
    assert (split_facts(certificate), rest_facts(certificate), original_facts(certificate)) == (None, None, None)
    assert loss_rows(certificate) == []
    text = text_of(render_report(certificate)) + told(certificate)
    for part in ("holding out the rest", "disagree", "prior part", "Other losses"):
        assert part not in text


def test_hostile_entries_are_shown_as_text_or_a_dash(make_certificate):
    certificate = make_certificate(
        certifies="original",
        prior={"fraction": HOSTILE, "seed": HOSTILE, "samples": HOSTILE},
        rest={"bound": HOSTILE},
        original={"name": HOSTILE, "hash": [HOSTILE], "unlabelled": HOSTILE},
        losses=({"name": HOSTILE, "mean": [], "bound": {}}, {}),
        delta_ledger=(("x", 0.05),),
    )
    page = render_report(certificate)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\x1b" not in told(certificate)


def test_long_lists_of_candidates_are_folded(make_certificate):
    candidates = [Candidate(f"message {i}", 9000 - i, 3000, 0.5 - i / 1000, float(i)) for i in range(45)]
    page = render_report(make_certificate(), candidates)
    best = page[page.index("Messages tried") : page.index("<details><summary>All 45 messages")]
    assert len(re.findall(r"message \d+<", best)) == 20
    assert "message 44<" in best
    assert "message 24<" not in best
    assert len(re.findall(r"message \d+<", page)) == 65
