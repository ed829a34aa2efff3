"""PAC-Bayes from draws of the weights: how often the bound fails with a known truth, and broken twins that fail more.

Hypotheses are right on everything or wrong on everything a share of the time; the posterior is the prior (``KL = 0``)
and the sample is large, so that nearly all that can go wrong is the estimate of the training loss: nearly tight there.
"""

from __future__ import annotations

import numpy as np
import pytest

from bitcert.proof import pac_bayes_kl, pac_bayes_sampled
from tests.validity.test_bounds_validity import DRAWS, assert_valid

DELTA, SHARE = 0.05, 0.045
SAMPLES, PART = 1_000_000, 100


def honest(wrong: int, draws: int) -> float:
    return pac_bayes_sampled(wrong / draws, draws, SAMPLES, 0.0, DELTA, SHARE)[1]


def without_the_draws(wrong: int, draws: int) -> float:
    """The mean over the draws is taken for the expectation."""
    return pac_bayes_kl(wrong / draws, SAMPLES, 0.0, DELTA)


def each_example_a_draw(wrong: int, draws: int) -> float:
    """All examples of a draw share its weights, but are counted as if each had its own."""
    return pac_bayes_sampled(wrong / draws, PART * draws, SAMPLES, 0.0, DELTA, SHARE)[1]


def failures(bound, draws: int, loss: float) -> int:
    rng = np.random.default_rng(7)
    counts = rng.binomial(draws, loss, DRAWS)
    values = {int(wrong): bound(int(wrong), draws) for wrong in np.unique(counts)}
    return sum(values[int(wrong)] < loss for wrong in counts)


@pytest.mark.parametrize(("draws", "loss"), [(200, 0.3), (1_000, 0.02)])
def test_the_bound_holds_as_often_as_it_promises(draws, loss):
    failed = failures(honest, draws, loss)
    assert_valid(failed, DRAWS)
    assert failed > 0  # the setting is near the limit: Chernoff's inequality is loose by a factor of a few


@pytest.mark.parametrize("broken", [without_the_draws, each_example_a_draw])
@pytest.mark.parametrize(("draws", "loss"), [(200, 0.3), (1_000, 0.02)])
def test_the_broken_twins_fail_the_same_test(broken, draws, loss):
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(failures(broken, draws, loss), DRAWS)


def test_draws_of_weights_and_parts_have_the_training_loss_as_their_mean():
    """With few hypotheses and a small sample, the mean over all draws and parts is exactly ``L_hat(Q)``."""
    rng = np.random.default_rng(3)
    wrong = rng.random((4, 12)) < np.array([[0.1], [0.4], [0.7], [0.2]])
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    exact = float(weights @ wrong.mean(1))
    draws = 20_000
    chosen = rng.choice(4, size=draws, p=weights)
    parts = np.argsort(rng.random((draws, 12)), axis=1)[:, :3]
    mean = np.take_along_axis(wrong[chosen], parts, axis=1).mean()
    assert mean == pytest.approx(exact, abs=0.01)
