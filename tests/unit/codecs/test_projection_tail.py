"""How many projections are enough: the constant we ship holds, the printed one does not."""

import math

import numpy as np
import pytest

from bitcert.errors import InputError
from bitcert.theory.formulas.projection_tail import (
    check_accuracy,
    error_at,
    num_projections,
    printed_projections,
    simultaneous_eta,
    tail_constant,
    tail_exponent,
)

EPSILON, ETA = 0.5, 0.05
TRIALS = 4000


def flat(size):
    """``A = W = u v^T`` with flat unit vectors: the largest variance, almost 2."""
    return np.full(size, 1 / np.sqrt(size))


def failures(values, form, count, epsilon, trials=TRIALS, seed=0):
    """How often ``|<A_hat - A, W>| >= eps``."""
    generator = np.random.default_rng(seed)
    failed = 0
    for start in range(0, trials, 200):
        signs = generator.integers(0, 2, (min(200, trials - start), count, len(values)), dtype=np.int8) * 2.0 - 1
        estimates = ((signs @ values) * (signs @ form)).mean(1)
        failed += int((np.abs(estimates - values @ form) >= epsilon - 1e-12).sum())
    return failed / trials


def test_the_printed_constant_fails():
    count = printed_projections(EPSILON, -math.log(ETA))
    assert count == 12
    rate = failures(flat(64), flat(64), count, EPSILON)
    assert rate > 3 * ETA  # claimed: at most 5 %
    assert rate == pytest.approx(0.22, abs=0.04)


def test_the_printed_constant_fails_for_orthogonal_forms_too():
    values, form = flat(64), flat(64) * np.where(np.arange(64) % 2, 1, -1)
    epsilon, eta = 0.25, 0.05
    rate = failures(values, form, printed_projections(epsilon, -math.log(eta)), epsilon)
    assert rate > eta + 4 * math.sqrt(eta / TRIALS)


@pytest.mark.parametrize("values", [flat(64), np.eye(1, 64)[0] * 0.8 + np.eye(1, 64, 3)[0] * 0.6])
@pytest.mark.parametrize("form", [flat(64), np.eye(1, 64)[0] * 0.6 + np.eye(1, 64, 3)[0] * 0.8])
def test_the_shipped_constant_holds(values, form):
    count = num_projections(EPSILON, -math.log(ETA))
    assert failures(values, form, count, EPSILON, trials=1000) <= ETA


def test_the_shipped_constant_holds_in_the_limit_of_many_entries():
    # <A,M> and <W,M> become Gaussian; the worst case is A = W, a chi-square average
    generator, epsilon, eta = np.random.default_rng(0), 0.3, 0.01
    count = num_projections(epsilon, -math.log(eta))
    deviations = generator.chisquare(count, 200_000) / count - 1
    assert (np.abs(deviations) >= epsilon).mean() <= eta
    printed = printed_projections(epsilon, -math.log(eta))
    assert (np.abs(generator.chisquare(printed, 200_000) / printed - 1) >= epsilon).mean() > 5 * eta


def test_the_exponent_is_the_best_of_chernoffs_bounds():
    for epsilon in (1e-3, 0.1, 0.5, 1.0):
        t = np.linspace(0, 0.499, 200_001)
        best = (t * epsilon - ((1 - 2 * t) ** -0.5 - 1 - t)).max()
        assert tail_exponent(epsilon) == pytest.approx(best, rel=1e-4)


def test_the_moment_generating_function_bounds_the_true_one():
    generator = np.random.default_rng(1)
    for _ in range(20):
        values, form = (v / np.linalg.norm(v) for v in generator.standard_normal((2, 10)))
        signs = (np.arange(1024)[:, None] >> np.arange(10) & 1) * 2.0 - 1
        products = (signs @ values) * (signs @ form)
        for t in (-0.45, -0.2, 0.2, 0.45):
            true = math.log(np.exp(t * (products - values @ form)).mean())
            assert true <= (1 - 2 * abs(t)) ** -0.5 - 1 - abs(t)


def test_the_constant_runs_from_6_to_9():
    found = [tail_constant(e) for e in (1e-6, 0.01, 0.1, 0.5, 1.0)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(6, abs=1e-4)
    assert found[-1] < 9.1


def test_zhangs_constant_follows_for_small_errors():
    for epsilon in (0.01, 0.1, 0.25):
        for eta in (0.01, 1e-4):
            log_inverse = -math.log(eta)
            assert num_projections(epsilon, log_inverse) <= printed_projections(epsilon, log_inverse, 8)


def test_error_is_the_inverse_of_the_count():
    for epsilon in (0.05, 0.3, 1.0):
        count = num_projections(epsilon, -math.log(0.01))
        assert error_at(count, 0.01) <= epsilon < error_at(count - 1, 0.01)
    assert error_at(1, 0.01) > 1


def test_lemma_2_holds_for_all_pairs_at_once():
    generator, delta, epsilon = np.random.default_rng(0), 0.2, 0.9
    weight = np.full((3, 4), 1 / np.sqrt(12))
    pairs = [(generator.standard_normal((2, 3)), generator.standard_normal(4)) for _ in range(5)]
    count = num_projections(epsilon, -math.log(simultaneous_eta(delta, 5, 2)))
    failed = 0
    for _ in range(200):
        signs = generator.integers(0, 2, (count, 3, 4)) * 2.0 - 1
        error = np.tensordot((signs * weight).sum((1, 2)), signs, 1) / count - weight
        failed += any(np.linalg.norm(u @ error @ x) > epsilon * np.linalg.norm(u) * np.linalg.norm(x) for u, x in pairs)
    assert failed / 200 <= delta


@pytest.mark.parametrize(("epsilon", "eta"), [(0, 0.1), (1.1, 0.1), (math.nan, 0.1), (0.5, 0), (0.5, 1), (0.5, -1)])
def test_accuracies_that_are_none_are_refused(epsilon, eta):
    with pytest.raises(InputError, match="epsilon in"):
        check_accuracy(epsilon, eta)


@pytest.mark.parametrize(("delta", "pairs", "rows"), [(0, 1, 1), (1, 1, 1), (0.1, 0, 1), (0.1, 1, 0)])
def test_simultaneous_claims_of_nothing_are_refused(delta, pairs, rows):
    with pytest.raises(InputError):
        simultaneous_eta(delta, pairs, rows)
