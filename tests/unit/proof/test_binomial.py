"""The binomial tail and its inverse against PEERS' table, a slow twin, scipy, and the laws they must obey."""

import math

import mpmath as mp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.errors import InputError
from bitcert.proof import binomial as parts
from bitcert.proof import binomial_tail_inverse, holdout_bound, kl_chernoff, log_binomial_cdf, occam_bound, pac_bayes_kl
from tests.reference import bounds_mpmath as twin
from tests.tools.counted import at_most

LN2 = math.log(2.0)
DELTA = 0.05


# error rate, bits, m, then KL-Chernoff, Maurer, binomial in %: the public reference values.
REFERENCE = [
    (0.70083, 636.55, 12000, 81.366, 81.426, 81.320),
    (0.3216, 8258.01, 50000, 55.916, 55.928, 55.905),
    (0.03935, 6846.47, 60000, 16.597, 16.608, 16.589),
    (0.01, 800, 60000, 3.011, 3.026, 3.002),
    (0.0093, 320, 34560, 2.481, 2.507, 2.464),
    (0.02, 1638, 60000, 6.015, 6.029, 6.005),
    (0.05, 50, 1000, 13.261, 13.829, 12.920),
]


@pytest.mark.parametrize(("rate", "bits", "samples", "kl", "maurer", "binomial"), REFERENCE)
def test_reference_table(rate: float, bits: float, samples: int, kl: float, maurer: float, binomial: float) -> None:
    nats = bits * LN2 - math.log(DELTA)
    got = (
        kl_chernoff(rate, samples, nats),
        pac_bayes_kl(rate, samples, bits * LN2, DELTA),
        binomial_tail_inverse(round(rate * samples), samples, -nats),
    )
    assert [f"{100 * value:.3f}" for value in got] == [f"{value:.3f}" for value in (kl, maurer, binomial)]


def test_naive_scipy_inversion_underflows_where_ours_does_not() -> None:
    errors, samples, log_eta = 2361, 60000, math.log(DELTA) - 6846.47 * LN2
    naive = scipy.optimize.brentq(
        lambda p: max(float(scipy.stats.binom.logcdf(errors, samples, p)), -1e300) - log_eta, errors / samples, 0.999
    )
    assert f"{100 * naive:.1f}" == "7.8"
    assert f"{100 * binomial_tail_inverse(errors, samples, log_eta):.3f}" == "16.589"


def _assert_matches_twin(errors: int, samples: int, log_eta: float) -> None:
    """The twin's root lies in [result - 1e-9, result]: a comparison to 1e-9 that also forbids rounding down."""
    result = binomial_tail_inverse(errors, samples, log_eta)
    with mp.workdps(60):
        if result < 1.0:
            assert twin.log_cdf(errors, samples, mp.mpf(result)) <= log_eta
        below = mp.mpf(result) - mp.mpf("1e-9")
        if below > 0:
            assert twin.log_cdf(errors, samples, below) > log_eta


@pytest.mark.parametrize("bits", [0, 1, 40, 1000, 10**5, 10**7])
@pytest.mark.parametrize("samples", [1, 2, 10, 1797, 60000, 10**9])
def test_matches_twin_on_the_grid(samples: int, bits: int) -> None:
    for errors in sorted({0, 1, samples // 100, samples // 2, samples - 1, samples}):
        if errors <= samples:
            _assert_matches_twin(errors, samples, math.log(DELTA) - bits * LN2)


@pytest.mark.parametrize("log_eta", [-1e-300, -1e-12, -1e-3, -0.3, -0.69, -0.7])
@pytest.mark.parametrize("samples", [1, 7, 5000, 10**9])
def test_matches_twin_at_large_eta(samples: int, log_eta: float) -> None:
    for errors in sorted({0, 3 * samples // 10, samples - 1}):
        _assert_matches_twin(errors, samples, log_eta)


@pytest.mark.parametrize("errors", [0, 3, 100, 600, 999])
@pytest.mark.parametrize("bits", [0, 60, 5000])
def test_equals_the_twins_own_inversion(errors: int, bits: int) -> None:
    log_eta = math.log(DELTA) - bits * LN2
    result = binomial_tail_inverse(errors, 1000, log_eta)
    assert 0.0 <= result - twin.binomial_tail_inverse(errors, 1000, mp.mpf(log_eta)) + 1e-13 <= 1e-9


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_matches_twin_at_random(data: st.DataObject) -> None:
    samples = int(10 ** data.draw(st.floats(0.0, 6.0)))
    errors = data.draw(st.integers(0, samples))
    _assert_matches_twin(errors, samples, -(10 ** data.draw(st.floats(-6.0, 6.8))))


def test_is_the_beta_quantile_where_scipy_can_say() -> None:
    for samples in (1, 12, 400, 10**5):
        for errors in sorted({0, samples // 7, samples // 2, samples - 1}):
            expected = scipy.special.betaincinv(errors + 1.0, samples - errors, 1.0 - DELTA)
            assert holdout_bound(errors, samples, DELTA) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("errors", "samples"), [(0, 1), (0, 50), (3, 50), (25, 50), (49, 50), (400, 10**4), (7, 10**6)]
)
@pytest.mark.parametrize("p", [1e-7, 0.01, 0.3, 0.5, 0.8, 0.999])
def test_log_cdf_matches_twin(errors: int, samples: int, p: float) -> None:
    with mp.workdps(60):
        expected = twin.log_cdf(errors, samples, mp.mpf(p))
        assert abs(log_binomial_cdf(errors, samples, p) - expected) <= 1e-11 * max(mp.mpf(1), -expected)


@pytest.mark.parametrize("deviations", [-2.0, 0.01, 0.5, 1.5, 2.9, 3.1])
@pytest.mark.parametrize("samples", [12_000, 10**7])
def test_log_cdf_matches_twin_where_quadrature_takes_over(samples: int, deviations: float) -> None:
    p = 0.4
    errors = round(samples * p - deviations * math.sqrt(samples * p * (1 - p)))
    with mp.workdps(60):
        assert abs(log_binomial_cdf(errors, samples, p) - twin.log_cdf(errors, samples, mp.mpf(p))) <= 1e-10


def test_log_cdf_at_the_ends() -> None:
    assert log_binomial_cdf(5, 5, 1.0) == 0.0
    assert log_binomial_cdf(2, 5, 0.0) == 0.0
    assert log_binomial_cdf(4, 5, 1.0) == -math.inf
    assert log_binomial_cdf(0, 1000, 0.5) == pytest.approx(-1000 * LN2, rel=1e-14)


@given(st.integers(1, 10**9), st.floats(1e-6, 1.0 - 1e-6), st.floats(-7e6, -1e-6))
def test_closed_forms(samples: int, delta: float, log_eta: float) -> None:
    assert binomial_tail_inverse(samples, samples, log_eta) == 1.0
    none_wrong = -math.expm1(log_eta / samples)
    assert binomial_tail_inverse(0, samples, log_eta) == pytest.approx(none_wrong, abs=1e-12)
    one_right = math.exp(math.log1p(-delta) / samples)
    assert binomial_tail_inverse(samples - 1, samples, math.log(delta)) == pytest.approx(one_right, abs=1e-12)


@given(st.data())
def test_upward_rounding_and_self_consistency(data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, 10**9))
    errors = data.draw(st.integers(0, samples - 1))
    log_eta = -(10 ** data.draw(st.floats(-3.0, 6.8)))
    result = binomial_tail_inverse(errors, samples, log_eta)
    assert log_binomial_cdf(errors, samples, result) <= log_eta
    assert result <= 2e-9 or log_binomial_cdf(errors, samples, result - 2e-9) > log_eta


@given(st.data())
def test_monotone_in_every_argument(data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, 10**6))
    errors = data.draw(st.integers(0, samples))
    bits, more = data.draw(st.integers(0, 10**6)), data.draw(st.integers(1, 1000))
    delta = data.draw(st.floats(1e-9, 0.5))
    bound = occam_bound(errors, samples, bits, delta).binomial
    slack = 1e-12
    assert occam_bound(min(samples, errors + more), samples, bits, delta).binomial >= bound - slack
    assert occam_bound(errors, samples, bits + more, delta).binomial >= bound - slack
    assert occam_bound(errors, samples, bits, delta / 2).binomial >= bound - slack
    assert occam_bound(errors * (1 + more), samples * (1 + more), bits, delta).binomial <= bound + slack
    assert bound >= errors / samples


def test_strictly_monotone_where_it_matters() -> None:
    base = occam_bound(600, 60000, 800, DELTA).binomial
    assert occam_bound(601, 60000, 800, DELTA).binomial > base + 1e-5
    assert occam_bound(600, 60000, 801, DELTA).binomial > base + 1e-6
    assert occam_bound(600, 60001, 800, DELTA).binomial < base - 1e-8
    assert occam_bound(600, 60000, 800, 0.051).binomial < base - 1e-7


def test_a_call_is_fast_enough_for_a_search() -> None:
    rng = np.random.default_rng(0)
    cases = [
        (int(e), 60000, -float(b)) for e, b in zip(rng.integers(0, 60000, 300), rng.uniform(3, 7e3, 300), strict=True)
    ]
    cases += [(int(e), 10**9, -3.0) for e in rng.integers(0, 10**9, 100)]
    with at_most(1500 * len(cases)):
        for case in cases:
            binomial_tail_inverse(*case)


@pytest.mark.parametrize("n", [16, 17, 40, 10**6])
def test_the_error_of_stirlings_formula_is_five_terms_of_its_series(n: int) -> None:
    with mp.workdps(40):
        series = mp.fsum(mp.bernoulli(2 * k) / (2 * k * (2 * k - 1) * mp.mpf(n) ** (2 * k - 1)) for k in range(1, 6))
        assert abs(parts._stirling_error(n) - series) <= 2.0**-51 * series


@pytest.mark.parametrize("n", range(1, 16))
def test_small_factorials_have_their_exact_error(n: int) -> None:
    with mp.workdps(40):
        exact = mp.loggamma(n + 1) - (mp.log(2 * mp.pi * n) / 2 + n * mp.log(n) - n)
        assert abs(parts._stirling_error(n) - exact) <= 1e-14


def test_no_error_among_very_many_examples_keeps_all_digits() -> None:
    assert log_binomial_cdf(0, 10**9, 3e-7) == pytest.approx(10**9 * math.log1p(-3e-7), rel=1e-15)


TAILS = [
    *((k, m, p) for k, m in [(0, 1), (0, 50), (3, 50), (25, 50), (49, 50)] for p in (1e-3, 0.3, 0.5, 0.8, 0.999)),
    *((0.4 * m - d * (0.24 * m) ** 0.5, m, 0.4) for m in (12_000, 10**7, 10**9) for d in (-9, -3.1, -1, 1, 3.1, 9)),
    *((100.0, 10**9, p) for p in (5e-8, 1e-7, 2e-7)),
]


@pytest.mark.parametrize(("errors", "samples", "p"), TAILS)
def test_a_tail_comes_with_its_slope_and_a_bound_on_its_rounding(errors: float, samples: int, p: float) -> None:
    """``d P / dp`` is minus ``m`` times the probability of exactly E errors among the other m - 1 examples."""
    k = round(errors)
    tail = parts._tail(k, samples, p)
    with mp.workdps(60):
        exact, q = twin.log_cdf(k, samples, mp.mpf(p)), 1 - mp.mpf(p)
        choices = mp.loggamma(samples) - mp.loggamma(k + 1) - mp.loggamma(samples - k)
        pmf = choices + k * mp.log(p) + (samples - k - 1) * mp.log(q)
        assert abs(tail.log - exact) <= tail.error <= 1e-9 * max(1.0, -tail.slope), "in p less than the promised 1e-9"
        assert tail.slope == pytest.approx(float(-samples * mp.exp(pmf - exact)), rel=1e-6)


def test_the_ends_of_a_tail_are_exact() -> None:
    assert parts._tail(2, 5, 0.0) == (0.0, 0.0, 0.0)
    assert parts._tail(2, 5, 1.0) == (-math.inf, -math.inf, 0.0)


def test_what_always_holds_needs_no_error_rate() -> None:
    assert binomial_tail_inverse(3, 10, 0.0) == 0.0
    assert binomial_tail_inverse(9, 10, -0.0) == 0.0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 0, -0.5), "num_samples"), ((2, 1, -0.5), "num_errors"), ((0, 1, math.nan), "log_eta_nats|p")],
)
def test_says_which_argument_it_cannot_use(arguments: tuple, name: str) -> None:
    with pytest.raises(InputError, match=f"^expected ({name}) "):
        binomial_tail_inverse(*arguments)
    with pytest.raises(InputError, match=f"^expected ({name}) "):
        log_binomial_cdf(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (1, 0, -3.0),
        (-1, 10, -3.0),
        (11, 10, -3.0),
        (1.0, 10, -3.0),
        (True, 10, -3.0),
        (1, 10.0, -3.0),
        (1, 2**54, -3.0),
        (1, 10, 0.1),
        (1, 10, math.nan),
        (1, 10, -math.inf),
        (1, 10, "-3"),
        (1, 10, -(10**400)),
    ],
)
def test_refuses_what_it_cannot_use(arguments: tuple) -> None:
    with pytest.raises(InputError, match=r"^expected .*, got .*; "):
        binomial_tail_inverse(*arguments)


@pytest.mark.parametrize(
    "arguments", [(1, 0, 0.5), (11, 10, 0.5), (1.0, 10, 0.5), (1, 10, -0.1), (1, 10, 1.1), (1, 10, math.nan)]
)
def test_log_cdf_refuses_what_it_cannot_use(arguments: tuple) -> None:
    with pytest.raises(InputError):
        log_binomial_cdf(*arguments)


def test_accepts_numpy_numbers() -> None:
    assert binomial_tail_inverse(np.int64(3), np.int32(50), np.float64(-3.0)) == binomial_tail_inverse(3, 50, -3.0)
