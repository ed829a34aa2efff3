"""The margin of a run: order statistics, and every refusal names a value that works."""

import re

import numpy as np
import pytest

from bitcert.errors import InputError
from bitcert.theory.ingredients.margin import NO_MARGIN, choose_gamma
from bitcert.theory.settings import BoundSettings
from bitcert.theory.value import Status

MARGINS = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 9.0])


@pytest.mark.parametrize(("quantile", "gamma"), [(0.4, 0.5), (0.31, 0.5), (0.41, 1.0), (0.5, 1.0), (0.9, 4.0)])
def test_the_quantile_is_an_order_statistic(quantile, gamma):
    found, rule = choose_gamma(MARGINS, BoundSettings(margin_quantile=quantile), "toy")
    assert found == gamma
    assert rule == f"{100 * quantile:g} % quantile of the training margins"
    # at least that share of the examples has no larger margin
    assert (found >= MARGINS).mean() >= quantile


def why_not(margins, quantile):
    found, _ = choose_gamma(np.asarray(margins), BoundSettings(margin_quantile=quantile), "toy")
    assert found.status is Status.NEEDS
    assert found.why.startswith(NO_MARGIN)
    return found.why


@pytest.mark.parametrize("quantile", [0.01, 0.1, 0.3])
def test_a_quantile_without_a_positive_margin_names_the_smallest_with_one(quantile):
    named = float(re.search(r"from (0\.\d+)", why_not(MARGINS, quantile)).group(1))
    assert choose_gamma(MARGINS, BoundSettings(margin_quantile=named), "toy")[0] == 0.5


def test_the_named_quantile_works_whatever_the_number_of_examples():
    rng = np.random.default_rng(0)
    for size in (3, 7, 997, 60_000):
        margins = np.sort(rng.normal(1.0, 1.0, size))
        margins[-1] = 10.0
        margins[0] = -1.0
        margins[1] = 0.5 if size == 3 else margins[1]
        named = float(re.search(r"from (0\.\d+)", why_not(margins, 1e-9)).group(1))
        found = margins[margins > 0][0]
        assert choose_gamma(margins, BoundSettings(margin_quantile=named), "toy")[0] == found


def test_a_given_margin_lies_below_the_largest():
    assert choose_gamma(MARGINS, BoundSettings(gamma=8.9), "toy") == (8.9, "given")
    for gamma in (9.0, 100.0):
        with pytest.raises(InputError, match="below the largest on toy, 9"):
            choose_gamma(MARGINS, BoundSettings(gamma=gamma), "toy")


@pytest.mark.parametrize("settings", [BoundSettings(), BoundSettings(gamma=1.0)])
def test_a_network_that_is_always_wrong_has_no_margin(settings):
    found, _ = choose_gamma(np.array([-3.0, -1.0, 0.0]), settings, "toy")
    assert "every example of toy is an error" in found.why


def test_the_largest_margin_is_no_choice():
    assert "smaller margin quantile" in why_not(MARGINS, 0.95)
    assert "pass a gamma below" in why_not([-1.0, 3.0, 3.0], 0.5)
