"""KL-Chernoff, PAC-Bayes-kl and Hoeffding against a slow twin and their own definitions."""

import math

import mpmath as mp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.errors import InputError
from bitcert.proof import binary_kl, hoeffding, kl_chernoff, pac_bayes_kl
from bitcert.proof.chernoff import deviance
from tests.reference import bounds_mpmath as twin

LOSSES = [0.0, 5e-324, 1e-12, 1e-3, 0.1, 1 / 3, 0.5, 0.9, 1 - 1e-9, 1 - 2.0**-53, 1.0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("samples", [1, 1000, 10**9])
def test_kl_chernoff_matches_twin(loss: float, samples: int) -> None:
    for nats in (1e-9, 0.1, 3.0, 500.0, 7e6):
        result = kl_chernoff(loss, samples, nats)
        expected = twin.kl_inverse(loss, mp.mpf(nats) / samples)
        assert -1e-13 <= result - expected <= 1e-9


@settings(max_examples=300)
@given(st.floats(0.0, 1.0), st.integers(1, 10**9), st.floats(1e-30, 1e8))
def test_kl_chernoff_is_rounded_up(loss: float, samples: int, nats: float) -> None:
    result = kl_chernoff(loss, samples, nats)
    assert loss <= result <= 1.0
    if loss < result < 1.0:
        with mp.workdps(100):
            assert twin.kl(mp.mpf(loss), mp.mpf(result)) * samples >= nats


@given(st.floats(0.0, 1.0), st.integers(1, 10**9), st.floats(0.0, 1e8), st.floats(1.0, 2.0))
def test_monotone_and_below_hoeffding(loss: float, samples: int, nats: float, factor: float) -> None:
    result = kl_chernoff(loss, samples, nats)
    assert result <= hoeffding(loss, samples, nats) + 1e-12
    assert kl_chernoff(loss, samples, nats * factor) >= result - 1e-12
    assert kl_chernoff(min(1.0, loss * factor), samples, nats) >= result - 1e-12
    assert kl_chernoff(loss, 2 * samples, nats) <= result + 1e-12


@pytest.mark.parametrize(("q", "p"), [(0.0, 0.3), (1.0, 0.3), (0.3, 0.3000001), (0.3, 0.9), (1e-9, 1e-8), (0.5, 1e-12)])
def test_binary_kl_matches_its_definition(q: float, p: float) -> None:
    with mp.workdps(60):
        assert binary_kl(q, p) == pytest.approx(float(twin.kl(mp.mpf(q), mp.mpf(p))), rel=1e-9)


def test_binary_kl_at_the_ends() -> None:
    assert binary_kl(0.0, 0.0) == binary_kl(1.0, 1.0) == 0.0
    assert binary_kl(0.5, 0.0) == binary_kl(0.5, 1.0) == binary_kl(0.0, 1.0) == binary_kl(1.0, 0.0) == math.inf


def test_no_complexity_costs_nothing() -> None:
    assert kl_chernoff(0.25, 10, 0.0) == 0.25
    assert hoeffding(0.25, 10, 0.0) == 0.25


def test_hoeffding_is_its_formula_rounded_up_and_vacuous_at_one() -> None:
    exact = mp.mpf(0.1) + mp.sqrt(mp.mpf(7) / 2000)
    assert 0 <= hoeffding(0.1, 1000, 7.0) - exact < 1e-15
    assert hoeffding(0.1, 10, 7000.0) == 1.0


@pytest.mark.parametrize("samples", range(1, 30))
def test_the_moment_bound_behind_pac_bayes_kl(samples: int) -> None:
    rates = [k / samples for k in range(samples + 1)]
    xi = sum(math.comb(samples, k) * r**k * (1 - r) ** (samples - k) for k, r in enumerate(rates))
    assert xi <= 2.0 * math.sqrt(samples)


def test_pac_bayes_kl_charges_more_than_the_occam_form() -> None:
    assert pac_bayes_kl(0.1, 1000, 20.0, 0.05) > kl_chernoff(0.1, 1000, 20.0 - math.log(0.05))
    twice = kl_chernoff(0.1, 1000, 20.0 + math.log(2 * math.sqrt(1000) / 0.05))
    assert pac_bayes_kl(0.1, 1000, 20.0, 0.05) == pytest.approx(twice, abs=1e-12)


@pytest.mark.parametrize("bound", [kl_chernoff, hoeffding])
@pytest.mark.parametrize(
    "arguments",
    [
        (-0.1, 10, 1.0),
        (1.1, 10, 1.0),
        (math.nan, 10, 1.0),
        (0.1, 0, 1.0),
        (0.1, 2.5, 1.0),
        (0.1, 10, -1.0),
        (0.1, 10, math.nan),
        (0.1, 10, math.inf),
        ("0.1", 10, 1.0),
        (True, 10, 1.0),
    ],
)
def test_refuses_what_it_cannot_use(bound: object, arguments: tuple) -> None:
    with pytest.raises(InputError):
        bound(*arguments)


def test_pac_bayes_kl_and_binary_kl_refuse_what_they_cannot_use() -> None:
    for arguments in ((0.1, 10, -1.0, 0.05), (0.1, 10, 1.0, 0.0), (0.1, 10, 1.0, 1.0), (2.0, 10, 1.0, 0.05)):
        with pytest.raises(InputError):
            pac_bayes_kl(*arguments)
    with pytest.raises(InputError):
        binary_kl(0.5, 1.5)


@pytest.mark.parametrize(
    ("x", "mean"), [(0.0, 3.0), (3.0, 3.0), (3.0, 3.5), (0.3, 0.300001), (40.0, 7.0), (7e8, 7.1e8)]
)
def test_deviance_matches_its_definition(x: float, mean: float) -> None:
    with mp.workdps(60):
        exact = (mp.mpf(x) * mp.log(mp.mpf(x) / mean) if x else 0) + mp.mpf(mean) - x
        assert deviance(x, mean) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize(
    ("bound", "arguments", "name"),
    [
        (binary_kl, (1.5, 0.5), "q"),
        (binary_kl, (0.5, 1.5), "p"),
        (kl_chernoff, (1.5, 1, 1.0), "empirical_loss"),
        (kl_chernoff, (0.5, 0, 1.0), "num_samples"),
        (kl_chernoff, (0.5, 1, -1.0), "complexity_nats"),
        (hoeffding, (1.5, 1, 1.0), "empirical_loss"),
        (hoeffding, (0.5, 0, 1.0), "num_samples"),
        (hoeffding, (0.5, 1, -1.0), "complexity_nats"),
        (pac_bayes_kl, (0.5, 0, 1.0, 0.05), "num_samples"),
        (pac_bayes_kl, (0.5, 1, -1.0, 0.05), "kl_nats"),
    ],
)
def test_says_which_argument_it_cannot_use(bound: object, arguments: tuple, name: str) -> None:
    with pytest.raises(InputError, match=f"^expected {name} "):
        bound(*arguments)


def test_the_smallest_usable_arguments_of_pac_bayes_kl() -> None:
    """The posterior is the prior, and one example: ``kl(0 || L) = ln(2 / delta)``."""
    assert pac_bayes_kl(0.0, 1, 0.0, 0.5) == pytest.approx(0.75, rel=1e-14)
