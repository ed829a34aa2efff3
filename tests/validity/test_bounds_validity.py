"""Do the bounds hold as often as they promise? Simulation with known truth, at settings where they are nearly tight.

``assert_valid`` is the one test every simulation must pass; the broken twins below must fail it. A failure is a draw
in which the bound lies below the known true error of the hypothesis that was chosen.
"""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from bitcert.proof import disagreement_bound, holdout_bound, kl_chernoff, occam_bound

DELTA = 0.05
DRAWS = 2_000
SETTINGS = [(1_000, 0.3), (5_000, 0.02)]
# One simulation in a thousand would fail by chance alone; the seeds are fixed.
ALPHA = 1e-3

Bound = Callable[[int, int, int], float]


def honest(errors: int, samples: int, bits: int) -> float:
    return occam_bound(errors, samples, bits, DELTA).binomial


def delta_doubled(errors: int, samples: int, bits: int) -> float:
    return occam_bound(errors, samples, bits, 2 * DELTA).binomial


def one_bit_section_not_counted(errors: int, samples: int, bits: int) -> float:
    return occam_bound(errors, samples, bits - 1, DELTA).binomial


def assert_valid(failures: int, draws: int, delta: float = DELTA) -> None:
    """The failure rate's own Clopper-Pearson interval must not lie above delta."""
    low = scipy.stats.beta.ppf(ALPHA, failures, draws - failures + 1) if failures else 0.0
    assert low <= delta, f"{failures} of {draws} draws broke the bound, at least {low:.3f} of all, promised {delta}"


def assert_nearly_tight(failures: int, draws: int, delta: float = DELTA) -> None:
    """A bound that fails far less often than promised could hide a mistake of a factor two."""
    assert failures / draws >= 0.6 * delta


def bounds_of(errors: np.ndarray, samples: int, bits: np.ndarray, bound: Bound) -> np.ndarray:
    """``bound`` for arrays of counts and code lengths, each distinct pair computed once."""
    pairs, where = np.unique(np.stack([errors.ravel(), bits.ravel()]), axis=1, return_inverse=True)
    values = np.array([bound(int(e), samples, int(b)) for e, b in pairs.T])
    return values[where.ravel()].reshape(errors.shape)


def fixed_code(width: int) -> np.ndarray:
    return np.full(2**width, width)


def unary_code(count: int) -> np.ndarray:
    return np.append(np.arange(1, count), count - 1)


def select_by_bound(
    rates: np.ndarray, bits: np.ndarray, samples: int, bound: Bound, seed: int, counted_rate_factor: float = 1.0
) -> int:
    """Failures when, in every draw, the hypothesis with the smallest certificate on the data is the one kept.

    Args:
        rates: true error of each hypothesis, [hypotheses]; their errors are independent.
        bits: code length of each hypothesis, [hypotheses].
        counted_rate_factor: 1, or how much easier the sample is on which the errors are (wrongly) counted.
    """
    assert np.sum(0.5**bits) <= 1.0, "the code lengths break Kraft's inequality"
    rng = np.random.default_rng(seed)
    errors = rng.binomial(samples, rates * counted_rate_factor, size=(DRAWS, len(rates)))
    certified = bounds_of(errors, samples, np.broadcast_to(bits, errors.shape), bound)
    chosen = certified.argmin(axis=1)
    return int(np.sum(certified[np.arange(DRAWS), chosen] < rates[chosen]))


CODES = {"fixed": fixed_code(5), "unary": unary_code(12)}


@pytest.mark.parametrize(("samples", "rate"), SETTINGS)
def test_holdout_is_valid_and_nearly_tight(samples: int, rate: float) -> None:
    errors = np.random.default_rng(1).binomial(samples, rate, size=DRAWS)
    certified = bounds_of(errors, samples, np.zeros_like(errors), lambda e, m, _: holdout_bound(e, m, DELTA))
    failures = int(np.sum(certified < rate))
    assert_valid(failures, DRAWS)
    assert_nearly_tight(failures, DRAWS)


@pytest.mark.parametrize(("samples", "rate"), SETTINGS)
@pytest.mark.parametrize("code", CODES)
def test_selection_is_valid_and_nearly_tight(code: str, samples: int, rate: float) -> None:
    bits = CODES[code]
    failures = select_by_bound(np.full(len(bits), rate), bits, samples, honest, seed=2)
    assert_valid(failures, DRAWS)
    assert_nearly_tight(failures, DRAWS)


@pytest.mark.parametrize(("samples", "rate"), SETTINGS)
def test_selection_among_good_and_bad_hypotheses_is_valid(samples: int, rate: float) -> None:
    bits = fixed_code(6)
    rates = rate * np.linspace(0.9, 1.6, len(bits))
    assert_valid(select_by_bound(rates, bits, samples, honest, seed=3), DRAWS)


@pytest.mark.parametrize(("samples", "rate"), SETTINGS)
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("broken", [delta_doubled, one_bit_section_not_counted])
def test_a_broken_bound_fails_the_same_test(broken: Bound, code: str, samples: int, rate: float) -> None:
    bits = CODES[code]
    failures = select_by_bound(np.full(len(bits), rate), bits, samples, broken, seed=4)
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(failures, DRAWS)


@pytest.mark.parametrize(("samples", "rate"), SETTINGS)
def test_errors_counted_on_an_easier_sample_fail_the_same_test(samples: int, rate: float) -> None:
    bits = fixed_code(5)
    failures = select_by_bound(np.full(32, rate), bits, samples, honest, seed=5, counted_rate_factor=0.9)
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(failures, DRAWS)


def _helper_from_first_half(samples: int, rate: float, count_all: bool) -> int:
    """A helper picks the best of 64 hypotheses on S1, the message is empty; E, m are those of S2, or wrongly of S."""
    rng = np.random.default_rng(6)
    first = rng.binomial(samples // 2, rate, size=(DRAWS, 64)).min(axis=1)
    second = rng.binomial(samples // 2, rate, size=DRAWS)
    errors, counted = (first + second, samples // 2 * 2) if count_all else (second, samples // 2)
    return int(np.sum(bounds_of(errors, counted, np.zeros_like(errors), honest) < rate))


@pytest.mark.parametrize(("samples", "rate"), SETTINGS)
def test_data_dependent_helper_is_valid_only_on_the_other_half(samples: int, rate: float) -> None:
    failures = _helper_from_first_half(samples, rate, count_all=False)
    assert_valid(failures, DRAWS)
    assert_nearly_tight(failures, DRAWS)
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(_helper_from_first_half(samples, rate, count_all=True), DRAWS)


@pytest.mark.parametrize("samples", [1, 2, 9, 40, 300])
def test_exact_coverage_without_simulation(samples: int) -> None:
    """The probability of failure, summed over all outcomes, for every true error on a grid and all three forms."""
    bounds = [occam_bound(e, samples, 1, 0.2) for e in range(samples + 1)]
    promised = 0.2 / 2
    tightest = 0.0
    for rate in np.linspace(0.001, 0.999, 400):
        weights = scipy.stats.binom.pmf(np.arange(samples + 1), samples, rate)
        for form in ("binomial", "kl_chernoff", "hoeffding"):
            failing = weights[[getattr(bound, form) < rate for bound in bounds]].sum()
            assert failing <= promised + 1e-12
            tightest = max(tightest, failing)
    assert tightest >= 0.9 * promised


def test_kl_chernoff_is_valid_for_a_loss_that_is_not_zero_one() -> None:
    samples, nats = 200, -np.log(DELTA)
    values, weights = np.array([0.0, 0.25, 1.0]), np.array([0.7, 0.1, 0.2])
    counts = np.random.default_rng(7).multinomial(samples, weights, size=DRAWS)
    losses, truth = counts @ values / samples, float(values @ weights)
    certified = np.array([kl_chernoff(float(loss), samples, nats) for loss in losses])
    assert_valid(int(np.sum(certified < truth)), DRAWS)
    unpaid = np.array([kl_chernoff(float(loss), samples, nats / 8) for loss in losses])
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(int(np.sum(unpaid < truth)), DRAWS)


def _transfer_failures(second_bound: Callable[[float, int, int], float]) -> int:
    """The worst case for the original network f: it is wrong where it disagrees with g, and where g is wrong."""
    samples, rate, unlabelled, disagreement = 5_000, 0.02, 200, 0.1
    rng = np.random.default_rng(8)
    errors = rng.binomial(samples, rate, size=DRAWS)
    disagreements = rng.binomial(unlabelled, disagreement, size=DRAWS)
    first = bounds_of(errors, samples, np.zeros_like(errors), lambda e, m, _: holdout_bound(e, m, DELTA / 2))
    certified = np.array(
        [second_bound(float(b), int(a), unlabelled) for b, a in zip(first, disagreements, strict=True)]
    )
    return int(np.sum(certified < rate + disagreement))


def test_transfer_to_the_original_network_is_valid() -> None:
    assert_valid(_transfer_failures(lambda b, a, n: disagreement_bound(b, a, n, DELTA / 2)), DRAWS)
    with pytest.raises(AssertionError, match="broke the bound"):
        assert_valid(_transfer_failures(lambda b, a, n: min(1.0, b + a / n)), DRAWS)
