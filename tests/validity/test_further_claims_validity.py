"""Do the further claims hold as often as they promise? The search, originals, data-dependent helpers, several losses.

As in ``test_bounds_validity.py``: known truth, settings where the promise is nearly used up, and for every honest claim
a broken twin that must fail the same test. All draws are counts, so that thousands of samples take no time. In the
worst case of a union bound its parts fail on disjoint events; coins that share one random number make them so.
"""

from functools import cache

import numpy as np
import pytest
import scipy.stats

from bitcert.proof import disagreement_bound, holdout_bound, occam_bound, trials_apart
from bitcert.proof.claims import LOSS_UNITS, bounded_loss_bound, delta_plan, zero_one_loss_bound
from bitcert.search.forecast import SPLITS, best_split

DELTA = 0.05
DRAWS = 4_000
ALPHA = 1e-3
"""A correct program fails one simulation in a thousand by chance; the seeds are fixed."""


def assert_valid(failures: int, draws: int = DRAWS, delta: float = DELTA) -> None:
    """The failure rate's own Clopper-Pearson interval must not lie above delta."""
    low = scipy.stats.beta.ppf(ALPHA, failures, draws - failures + 1) if failures else 0.0
    assert low <= delta, f"{failures} of {draws} draws broke the bound, at least {low:.3f} of all, promised {delta}"


def assert_broken(failures: int, draws: int = DRAWS) -> None:
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(failures, draws)


@cache
def occam(errors: int, samples: int, bits: int, delta: float) -> float:
    return occam_bound(errors, samples, bits, delta).binomial


@cache
def holdout(errors: int, samples: int, delta: float) -> float:
    return holdout_bound(errors, samples, delta)


def each(bound, counts: np.ndarray, *arguments) -> np.ndarray:
    """``bound`` of every count, each distinct one computed once."""
    values, where = np.unique(counts, return_inverse=True)
    return np.array([bound(int(value), *arguments) for value in values])[where].reshape(counts.shape)


# The search: the best of all messages of one prefix code, of several contenders and rounds

SAMPLES, TRUTH = 2_000, 0.1
GROUPS = ((2, 3), (8, 6), (64, 9), (256, 9))
"""Contenders: how many messages each may write, and of how many bits; together they satisfy Kraft's inequality."""


def search_failures(rounds: int, charged: bool, seed: int = 1) -> int:
    """Draws in which the message that the search certifies is worse than its certificate says.

    The contenders are tried in ``rounds``: in each every contender writes a part of its messages, the best half of the
    contenders goes on, and the best message of all that were tried is kept.
    """
    assert sum(count * 0.5**bits for count, bits in GROUPS) <= 1.0
    rng = np.random.default_rng(seed)
    tried, bounds = [], []
    for count, bits in GROUPS:
        errors = rng.binomial(SAMPLES, TRUTH, size=(DRAWS, count))
        bounds.append(each(occam, errors, SAMPLES, bits if charged else 0, DELTA))
    alive = np.ones((DRAWS, len(GROUPS)), bool)
    for number in range(1, rounds + 1):
        parts = [found[:, : max(1, found.shape[1] * number // rounds)].min(axis=1) for found in bounds]
        now = np.where(alive, np.stack(parts, 1), np.inf)
        tried.append(now.min(axis=1))
        alive = now <= np.median(np.where(alive, now, 1.0), axis=1, keepdims=True)
    return int(np.sum(np.min(tried, axis=0) < TRUTH))


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_best_message_of_a_search_is_valid_and_selection_without_bits_is_not(rounds):
    assert_valid(search_failures(rounds, charged=True))
    assert_broken(search_failures(rounds, charged=False))


def test_a_search_over_a_full_code_is_nearly_tight():
    """All words of nine bits: the promise is used up, so a bit forgotten would be seen."""
    rng = np.random.default_rng(2)
    errors = rng.binomial(SAMPLES, TRUTH, size=(DRAWS, 2**9)).min(axis=1)
    failures = int(np.sum(each(occam, errors, SAMPLES, 9, DELTA) < TRUTH))
    assert_valid(failures)
    assert failures >= 0.5 * DELTA * DRAWS
    assert_broken(int(np.sum(each(occam, errors, SAMPLES, 8, DELTA) < TRUTH)))


def test_a_helper_chosen_after_the_data_is_selection_without_bits():
    """One message under 16 helper strings: with the helper declared it is valid; choosing the helper costs 4 bits."""
    errors = np.random.default_rng(3).binomial(SAMPLES, TRUTH, size=(DRAWS, 16))
    assert_valid(int(np.sum(each(occam, errors[:, 0], SAMPLES, 0, DELTA) < TRUTH)))
    assert_broken(int(np.sum(each(occam, errors.min(axis=1), SAMPLES, 0, DELTA) < TRUTH)))
    assert_valid(int(np.sum(each(occam, errors.min(axis=1), SAMPLES, 4, DELTA) < TRUTH)))


# The original network, through disagreement

UNLABELLED, APART = 500, 0.08


def dependent(rng: np.random.Generator, trials: list[tuple[int, float]]) -> list[np.ndarray]:
    """Binomial counts whose lower tails are disjoint as far as they go: one uniform number decides all of them."""
    places = rng.random(DRAWS)
    shift = 1.0 / len(trials)
    return [scipy.stats.binom.ppf((places + k * shift) % 1.0, *trial).astype(int) for k, trial in enumerate(trials)]


def original_failures(share: tuple[float, float], candidates: int = 1, seed: int = 4) -> int:
    """Draws in which one of the two statements behind the bound of the original network is false.

    Both are needed by the proof: where they fail on different draws, the sum of the two probabilities is what delta
    pays. With ``candidates`` the surrogate with the fewest disagreements on the unlabelled sample is the one kept.
    """
    rng = np.random.default_rng(seed)
    errors, disagreements = dependent(rng, [(SAMPLES, TRUTH), (UNLABELLED, APART)])
    if candidates > 1:
        disagreements = rng.binomial(UNLABELLED, APART, size=(DRAWS, candidates)).min(axis=1)
    wrong = each(holdout, errors, SAMPLES, share[0]) < TRUTH
    apart = each(holdout, disagreements, UNLABELLED, share[1]) < APART
    return int(np.sum(wrong | apart))


def honest_shares() -> tuple[float, float]:
    first, second = (entry.amount for entry in delta_plan(DELTA, look=1))
    assert first + second <= DELTA
    return first, second


def test_the_two_statements_behind_the_original_share_delta():
    failures = original_failures(honest_shares())
    assert_valid(failures)
    assert failures >= 0.6 * DELTA * DRAWS
    assert_broken(original_failures((DELTA, DELTA)))


def test_a_surrogate_tuned_on_the_unlabelled_sample_is_not_valid():
    assert_broken(original_failures(honest_shares(), candidates=8))


def original_bound_failures(second_delta: float, candidates: int, seed: int = 5) -> int:
    """The bound itself, in the worst case for it: the original is wrong where the surrogate is, and where they differ.

    The training sample is so large that the first summand is known exactly; all that can fail is the second.
    """
    rng = np.random.default_rng(seed)
    disagreements = rng.binomial(UNLABELLED, APART, size=(DRAWS, candidates)).min(axis=1)
    bounds = each(lambda a: disagreement_bound(TRUTH, a, UNLABELLED, second_delta), disagreements)
    return int(np.sum(bounds < TRUTH + APART))


def test_the_bound_of_the_original_holds_and_fails_for_a_tuned_surrogate():
    failures = original_bound_failures(DELTA, candidates=1)
    assert_valid(failures)
    assert failures >= 0.6 * DELTA * DRAWS
    assert_broken(original_bound_failures(2 * DELTA, candidates=1))
    assert_broken(original_bound_failures(DELTA, candidates=8))


def test_an_unlabelled_sample_that_was_trained_on_is_not_valid():
    """The surrogate was fitted to the original on half of these very examples: there the two differ less."""
    rng = np.random.default_rng(6)
    half = UNLABELLED // 2
    seen, unseen = rng.binomial(half, APART / 4, DRAWS), rng.binomial(half, APART, DRAWS)
    fresh = rng.binomial(half, APART, DRAWS)
    assert_valid(int(np.sum(each(holdout, fresh + unseen, UNLABELLED, DELTA) < APART)))
    assert_broken(int(np.sum(each(holdout, seen + unseen, UNLABELLED, DELTA) < APART)))


# Unlabelled rows that are in the training data too: by chance, or copied from there

SHARED = 120


def shared_failures(trials, copied: bool, seed: int = 8) -> int:
    """Draws in which the limit of the disagreement is too low.

    What is copied is right: the surrogate was fitted there. What is shared by chance differs as often as all else.
    """
    rng = np.random.default_rng(seed)
    draws = UNLABELLED - SHARED if copied else UNLABELLED
    disagreements = rng.binomial(draws, APART, DRAWS)
    return int(np.sum(each(lambda a: holdout(a, trials(a, UNLABELLED, SHARED), DELTA), disagreements) < APART))


def test_shared_rows_are_no_trials_but_their_disagreements_count():
    copied = shared_failures(trials_apart, copied=True)
    assert_valid(copied)
    assert copied >= 0.6 * DELTA * DRAWS
    assert_valid(shared_failures(trials_apart, copied=False))


def test_copied_rows_counted_as_trials_are_not_valid():
    """Nor is leaving a shared row out together with its disagreement, where those that differ are left out."""
    assert_broken(shared_failures(lambda a, n, shared: n, copied=True))
    rng = np.random.default_rng(8)
    left = np.maximum(rng.binomial(UNLABELLED, APART, DRAWS) - 10, 0)  # ten of those shared by chance differ
    assert_broken(int(np.sum(each(lambda a: holdout(a, UNLABELLED - 10, DELTA), left) < APART)))


# A helper that depends on a declared part of the data, fitted by looking at real examples

INPUTS, EXAMPLES = 24, 60


def prior_failures(counted: str, seed: int = 7) -> int:
    """A helper picks the coin that agrees best with the prior part; one bit says the coin or its opposite.

    Labels are coins, so every classifier is wrong half of the time, whatever the helper found.
    """
    rng = np.random.default_rng(seed)
    answers = rng.random((DRAWS, EXAMPLES, INPUTS)) < 0.5
    labels = rng.random((DRAWS, EXAMPLES)) < 0.5
    wrong = answers != labels[..., None]
    half = EXAMPLES // 2
    picked = wrong[:, :half].sum(1).argmin(1)
    own = np.take_along_axis(wrong, picked[:, None, None], 2)[..., 0]
    shown = {"rest": own[:, half:], "everything": own, "prior part": own[:, :half]}[counted]
    errors = shown.sum(1)
    samples = shown.shape[1]
    best = np.minimum(errors, samples - errors)
    return int(np.sum(each(occam, best, samples, 1, DELTA) < 0.5))


def test_a_helper_fitted_on_the_prior_part_is_valid_on_the_rest_only():
    assert_valid(prior_failures("rest"))
    assert prior_failures("rest") >= 0.4 * DELTA * DRAWS
    assert_broken(prior_failures("everything"))
    assert_broken(prior_failures("prior part"))


def test_a_seed_of_the_split_chosen_for_its_number_is_not_valid():
    """Ten splits of one sample, the best certificate kept: a choice after the fact that no bits pay for."""
    rng = np.random.default_rng(8)
    rest = rng.binomial(SAMPLES // 2, TRUTH, size=(DRAWS, 10))
    assert_valid(int(np.sum(each(occam, rest[:, 0], SAMPLES // 2, 0, DELTA) < TRUTH)))
    assert_broken(int(np.sum(each(occam, rest.min(axis=1), SAMPLES // 2, 0, DELTA) < TRUTH)))


def split_failures(chosen: str, seed: int = 12) -> int:
    """One of five splits of each sample, nested as the program's are; every network is wrong at the same rate.

    ``forecast`` takes the fraction that follows from the size of the sample, ``look`` the one with the best bound.
    """
    rng = np.random.default_rng(seed)
    wrong = rng.random((DRAWS, SAMPLES // 4)) < TRUTH
    bounds = []
    for fraction in SPLITS:
        rest = wrong[:, int(fraction * wrong.shape[1]) :]
        bounds.append(each(occam, rest.sum(1), rest.shape[1], 0, DELTA))
    own = SPLITS.index(best_split(wrong.shape[1]))
    return int(np.sum((bounds[own] if chosen == "forecast" else np.min(bounds, axis=0)) < TRUTH))


def test_a_split_by_forecast_is_valid_and_one_chosen_after_a_look_is_not():
    failures = split_failures("forecast")
    assert_valid(failures)
    assert failures >= 0.5 * DELTA * DRAWS
    assert_broken(split_failures("look"))


# Several losses from one delta


def losses_failures(parts: list[float], seed: int = 9) -> int:
    """Draws in which one of three bounds is false: of the 0/1 error, of a top-k error, and of a loss in [0, 1]."""
    rng = np.random.default_rng(seed)
    bits, rates = 0, (TRUTH, 0.03, 0.2)
    first, second, third = dependent(rng, [(SAMPLES, rate) for rate in rates])
    failing = each(occam, first, SAMPLES, bits, parts[0]) < rates[0]
    failing |= each(lambda e: zero_one_loss_bound(e, SAMPLES, bits, parts[1]), second) < rates[1]
    # the third loss takes 0 and 1 only, where the Chernoff bound is tightest
    failing |= each(lambda e: bounded_loss_bound(e * LOSS_UNITS, SAMPLES, bits, parts[2]), third) < rates[2]
    return int(np.sum(failing))


def test_several_losses_share_one_delta():
    parts = [entry.amount for entry in delta_plan(DELTA, ["top-3", "brier"])]
    assert len(parts) == 3
    assert sum(parts) <= DELTA
    failures = losses_failures(parts)
    assert_valid(failures)
    assert failures >= 0.5 * DELTA * DRAWS
    assert_broken(losses_failures([DELTA] * 3))


def test_the_better_of_two_losses_with_all_of_delta_is_not_valid():
    """Who reports only the loss whose bound came out well has used two budgets."""
    rng = np.random.default_rng(10)
    errors = dependent(rng, [(SAMPLES, TRUTH), (SAMPLES, TRUTH)])
    full = [each(lambda e: zero_one_loss_bound(e, SAMPLES, 0, DELTA), counts) for counts in errors]
    shared = [each(lambda e: zero_one_loss_bound(e, SAMPLES, 0, DELTA / 2), counts) for counts in errors]
    assert_valid(int(np.sum(np.min(shared, axis=0) < TRUTH)))
    assert_broken(int(np.sum(np.min(full, axis=0) < TRUTH)))


# A surrogate that abstains: silence is disagreement, never an error


CELLS = {"answers, wrong": 0.1, "answers, right, they differ": 0.03, "abstains, original wrong": 0.05, "right": 0.82}
"""The worst case: the original is wrong wherever the surrogate is wrong, differs or abstains."""


def abstaining_failures(silence_differs: bool, thresholds: int = 1, bits: int = 0, seed: int = 11) -> int:
    """Draws in which the bound of the original fails; both counts are of the same cells.

    Args:
        silence_differs: whether silence on unlabelled examples counts; in the broken twin it does not.
        thresholds: surrogates of equal truth, of which the one with the fewest errors on the sample is kept.
        bits: what the choice among them pays.
    """
    rng = np.random.default_rng(seed)
    wrong, differ, silent, _ = CELLS.values()
    first, second = honest_shares()
    errors = rng.binomial(SAMPLES, wrong, size=(DRAWS, thresholds)).min(axis=1)
    # so large an unlabelled sample that only the first summand can fail
    known = differ + (silent if silence_differs else 0.0)
    return int(np.sum(each(occam, errors, SAMPLES, bits, first + second) + known < wrong + differ + silent))


def test_a_surrogate_may_abstain_if_silence_is_disagreement_and_its_threshold_is_paid_for():
    failures = abstaining_failures(silence_differs=True)
    assert_valid(failures)
    assert failures >= 0.5 * DELTA * DRAWS
    assert_valid(abstaining_failures(silence_differs=True, thresholds=8, bits=3))
    assert_broken(abstaining_failures(silence_differs=False))
    assert_broken(abstaining_failures(silence_differs=True, thresholds=8))
