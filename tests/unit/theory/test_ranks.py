"""Rank correlations against their definitions, and what they are for: a measure that only knows one hyperparameter."""

import itertools
import math

import numpy as np
import pytest

from bitcert.theory.ranks import conditional, granulated, kendall, spearman
from tests.reference import ranks_naive

GRID = [{"width": w, "lr": lr, "seed": s} for w, lr, s in itertools.product((8, 16, 32), (0.1, 0.01), (0, 1))]


def drawn(seed, levels):
    """Measures and gaps with ties where there are few levels."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, levels, len(GRID)) / 7).tolist() for _ in range(2)]


@pytest.mark.parametrize(("seed", "levels"), [(0, 3), (1, 5), (2, 1000), (3, 1000), (4, 2)])
def test_every_coefficient_is_its_definition(seed, levels):
    x, y = drawn(seed, levels)
    assert kendall(x, y).value == pytest.approx(ranks_naive.tau_b(x, y))
    assert spearman(x, y).value == pytest.approx(ranks_naive.rho(x, y))
    assert granulated(x, y, GRID) == {
        name: pytest.approx(ranks_naive.psi(x, y, GRID, name)) for name in ("width", "lr", "seed")
    }
    assert conditional(x, y, GRID)[0] == pytest.approx(ranks_naive.conditional(x, y, GRID), abs=1e-12)


def test_incomplete_grids_are_taken_as_they_are():
    for kept in ([0, 1, 4, 7, 9, 10], [0, 3, 5, 11]):
        own = [GRID[k] for k in kept]
        x, y = ([values[k] for k in kept] for values in drawn(5, 1000))
        found = granulated(x, y, own)
        assert found == {name: ranks_naive.psi(x, y, own, name) for name in found}
        assert conditional(x, y, own)[0] == pytest.approx(ranks_naive.conditional(x, y, own), abs=1e-12)


def test_a_measure_that_only_knows_the_width_is_found_out():
    rng = np.random.default_rng(0)
    width = [math.log(own["width"]) for own in GRID]
    gaps = [value + rng.normal(0, 0.1) for value in width]
    assert kendall(width, gaps).value > 0.8
    assert granulated(width, gaps, GRID) == {"width": 1.0, "lr": 0.0, "seed": 0.0}
    least, given = conditional(width, gaps, GRID)
    assert least == pytest.approx(0.0, abs=1e-12)
    assert "width" in given


def test_a_perfect_measure_tells_everything_and_a_reversed_one_too():
    gaps = drawn(1, 1000)[1]
    for sign in (1, -1):
        measures = [sign * gap for gap in gaps]
        assert kendall(measures, gaps).value == pytest.approx(sign)
        assert spearman(measures, gaps).value == pytest.approx(sign)
        assert set(granulated(measures, gaps, GRID).values()) == {float(sign)}
        assert conditional(measures, gaps, GRID)[0] == pytest.approx(1.0)


def test_only_the_order_counts():
    x, y = drawn(2, 1000)
    moved = [math.exp(5 * value) for value in x]
    assert (kendall(x, y), spearman(x, y)) == (kendall(moved, y), spearman(moved, y))
    assert conditional(x, y, GRID) == conditional(moved, y, GRID)
    low = [-math.inf, *x[1:]]
    assert kendall(low, y) == kendall([min(x) - 1, *x[1:]], y)


def test_where_nothing_can_be_said_nothing_is():
    assert kendall([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]) is None
    assert spearman([1.0, 2.0], [0.1, 0.1]) is None
    assert conditional([1.0, 2.0], [0.1, 0.1], [{}, {}]) is None
    assert granulated([1.0, 2.0], [0.1, 0.2], [{"a": 1, "b": 1}, {"a": 2, "b": 2}]) == {"a": None, "b": None}
    # two networks: any two numbers are in some order, which is no evidence
    assert kendall([1.0, 2.0], [0.1, 0.2]).p_value == 1.0
