"""Messages of surrogates that abstain: prefix, ledger, refusals, and how such a classifier is counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.coding.steps import MAX_EXPONENT, step_size
from bitcert.counting import DecisionRule, Level, TwoWays
from bitcert.decoder import Helper, abstaining, decode_message
from bitcert.decoder import head as bank_head
from bitcert.errors import DecodeError

HELPER = Helper((2,), 2)
INNER, LEDGER = bank_head.write(None, np.array([[-3, 2], [0, 1], [0, 0]]), HELPER)


@pytest.mark.parametrize("exponent", [-MAX_EXPONENT, -1, 0, 7, MAX_EXPONENT])
def test_the_threshold_and_the_classifier_come_back(exponent: int) -> None:
    message = abstaining.write(INNER, exponent)
    decoded = decode_message(message, HELPER)
    assert decoded.abstains_within == step_size(exponent)
    assert decoded.ledger.sections == (("abstention", 16), *LEDGER.sections)
    assert decoded.ledger.total_bits == 8 * len(message)
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    assert torch.equal(decoded.classifier(x), decode_message(INNER, HELPER).classifier(x))


def test_the_prefix_is_written_as_the_page_says() -> None:
    bits = "".join(f"{byte:08b}" for byte in abstaining.write(b"", 5))
    assert bits == "1" + "00111" + f"{5 + 240:010b}"


def test_messages_that_nobody_writes_are_refused() -> None:
    with pytest.raises(DecodeError):
        abstaining.write(INNER, MAX_EXPONENT + 1)
    with pytest.raises(DecodeError, match="threshold exponent"):
        decode_message(bytes([0b10011101, 0b11111111]) + INNER, HELPER)
    for message in (
        abstaining.write(abstaining.write(INNER, 1), 1),
        abstaining.write(INNER, 1)[:1],
        abstaining.write(b"", 1),
    ):
        with pytest.raises(DecodeError):
            decode_message(message, HELPER)


def counted(rule: DecisionRule, level: Level) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether the surrogate is counted as wrong, whether the two differ, and whether the original is wrong.

    Small integers make near-ties and gaps at the threshold itself; noise makes the two ways differ.
    """
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 4_000)
    ways = []
    for _ in range(2):
        logits = torch.from_numpy(rng.integers(-3, 4, (4_000, 3)).astype(float))
        noise = torch.from_numpy(rng.normal(size=(4_000, 3))) * torch.from_numpy(rng.choice([0, 1e-7, 0.2], (4_000, 1)))
        ways.append(TwoWays(logits + noise, logits))
    # where the surrogate is unsure, the original mostly agrees with it, right or wrong
    ways[0] = (
        ways[0]
        if len(ways) < 2
        else TwoWays(
            *(
                torch.where(torch.from_numpy(rng.random((4_000, 1))) < 0.5, a, b)
                for a, b in zip((ways[0].single, ways[0].double), (ways[1].single, ways[1].double), strict=True)
            )
        )
    )
    f, g = ways
    target = torch.from_numpy(labels)
    wrong = torch.tensor([TwoWays(s[None], d[None]).count(y[None], rule, level).errors for s, d, y in
                          zip(g.single, g.double, labels, strict=True)]).bool()  # fmt: skip
    differ = ~((f.double.argmax(1) == g.double.argmax(1)) & f.clear(rule, level) & g.answers(rule, level))
    return wrong, differ, f.double.argmax(1) != target


@pytest.mark.parametrize("abstains_within", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("level", Level)
def test_where_the_original_is_wrong_one_of_the_two_is_counted(abstains_within: float, level: Level) -> None:
    """The inequality behind the bound, example by example; without the disagreements of silence it would not hold."""
    rule = DecisionRule(abstains_within=abstains_within)
    wrong, differ, original_wrong = counted(rule, level)
    assert bool((original_wrong <= (wrong | differ)).all())
    if abstains_within > 2:
        heard = counted(DecisionRule(), level)[1]
        assert not bool((original_wrong <= (wrong | heard)).all()), "the broken twin: silence as agreement"


def test_stricter_levels_count_no_less_of_either() -> None:
    rule = DecisionRule(abstains_within=1.0)
    lenient, certified, strict = (counted(rule, level) for level in Level)
    for kind in (0, 1):
        assert bool((lenient[kind] <= certified[kind]).all())
        assert bool((certified[kind] <= strict[kind]).all())
    assert int(lenient[0].sum()) < int(counted(DecisionRule(), Level.LENIENT)[0].sum()), "silence spares errors"


def test_the_rule_of_a_classifier_that_always_answers_is_described_as_before() -> None:
    assert "abstains_within" not in DecisionRule().describe(True)
    assert DecisionRule(abstains_within=2.0).describe(True)["abstains_within"] == 2.0
