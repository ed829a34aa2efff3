"""The plan before anything is tried: rules of thumb that move the right way and never claim what the counts exclude."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bitcert.errors import InputError
from bitcert.proof import binomial_tail_inverse, holdout_bound, occam_bound
from bitcert.search.contenders import Option
from bitcert.search.forecast import SPLITS, Facts, best_split, forecasts

SMALL = Facts(samples=60_000, num_classes=10, weights=6_000, error_rate=0.01, seconds_of_a_count=15.0)


def by_option(facts: Facts) -> dict[str, float | None]:
    return {row.option: row.bound for row in forecasts(facts)}


def test_every_option_is_in_the_plan_once_with_what_it_needs() -> None:
    rows = forecasts(SMALL)
    assert [row.option for row in rows][:3] == list(Option)
    assert len({row.option for row in rows}) == len(rows) == 6
    assert all(row.needs and row.words for row in rows)
    assert [row.option for row in rows if row.minutes == 0] == ["held out, for comparison"]


def test_forecasts_are_the_bounds_of_the_counts_they_suppose() -> None:
    found = by_option(SMALL)
    assert found[Option.WEIGHTS] == occam_bound(900, 60_000, 2_400, 0.05).binomial
    assert found["with a prior part"] == occam_bound(300, 30_000, 100, 0.05).binomial
    assert found["held out, for comparison"] == holdout_bound(60, 6_000, 0.05)


def test_more_weights_forecast_less_until_nothing_is_forecast() -> None:
    """A network with many weights for its sample may lose most of them: no number says how many."""
    bounds = [by_option(replace(SMALL, weights=count))[Option.WEIGHTS] for count in (600, 6_000, 75_000)]
    assert bounds == sorted(bounds)
    many = forecasts(replace(SMALL, weights=75_001))[0]
    assert many.bound is None
    assert "many weights (75,001) for 60,000 examples" in many.words


def test_an_architecture_that_cannot_be_seen_is_not_in_the_plan() -> None:
    assert Option.ARCHITECTURE not in by_option(replace(SMALL, captured=False))


def test_a_forecast_that_says_no_more_than_guessing_is_none() -> None:
    for errors in (0.5, 0.9, 1.0):
        assert by_option(Facts(200, 2, 10, errors, 0.0))[Option.WEIGHTS] is None


def test_the_price_of_unlabelled_examples_is_that_of_their_number() -> None:
    original = next(row for row in forecasts(SMALL) if "original" in row.option)
    for size, errors in ((1_000, 20), (10_000, 200)):
        points = 100 * (binomial_tail_inverse(errors, size, math.log(0.05)) - 0.02)
        assert f"{points:.1f} points with {size:,}" in original.words


@pytest.mark.parametrize("samples", [1, 2, 9])
def test_a_tiny_sample_has_a_plan_too(samples: int) -> None:
    assert all(row.bound is None or 0 < row.bound <= 1 for row in forecasts(replace(SMALL, samples=samples)))


def test_a_delta_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="delta"):
        replace(SMALL, delta=1.0)


def test_a_split_by_forecast_leaves_enough_to_count_on_and_gives_the_prior_part_more_of_a_larger_sample() -> None:
    sizes = [4, 100, 3_000, 10**5, 10**7]
    found = [best_split(size) for size in sizes]
    assert found == sorted(found)
    assert set(found) <= set(SPLITS)
    assert found[0] == 0.5 < found[-1]
    assert best_split(10**5) == best_split(10**5, 0.05)
