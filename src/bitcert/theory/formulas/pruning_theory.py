"""The formulas of magnitude-based pruning (Guha 2023, section 4 and appendices B and D), errata honoured.

Entries ``a ~ N(0, Psi)`` are zeroed with probability ``exp(-a^2 / (d Psi))``; ``Delta = A - A_hat``. Then

    keep probability  chi = 1 - sqrt(d / (d + 2)),   E Delta = 0,
    E Delta^2 = Psi (d / (d + 2))^(3/2),             E Delta^4 = 3 Psi^2 (d / (d + 2))^(5/2).

Errata (docs/theory.md section 4): 7 (``d^(3/2)``, not ``d_2^(3/2)``; eq. 9-11 is the *keep* probability), 8 (``max
||x||``, not the input's dimension), 10 (``alpha`` is the number kept). Found here as well: Lemmas D.2 and D.3 print
``1 - I_(1-p)(n - t, t + 1)``, which is the probability of *more* than ``t`` successes in ``n``, where "at least ``t``"
is meant; the printed value is a valid lower bound, not the probability, and is undefined for ``t = n``. The diagonal is
kept, so the moments hold off it only. Measures all: real weights are not Gaussian, and ``C`` of Lemma 4.2 is unknown.
"""

from __future__ import annotations

import math

from bitcert.errors import InputError


def check_strength(d: float) -> float:
    """``d`` itself.

    Raises:
        InputError: zero, negative, infinite or NaN.
    """
    if not 0 < d < math.inf:
        raise InputError("a pruning strength d above 0", repr(d), "use e.g. 1: about 42 % of a layer is kept")
    return d


def keep_probability(d: float) -> float:
    """``chi``: the probability that an entry survives.

    >>> round(keep_probability(1.0), 4)
    0.4226
    """
    return 1.0 - math.sqrt(d / (d + 2.0))


def second_moment(d: float, variance: float) -> float:
    """``E Delta^2`` of one entry off the diagonal, Lemma 4.1."""
    return variance * math.pow(d / (d + 2.0), 1.5)


def fourth_moment(d: float, variance: float) -> float:
    """``E Delta^4`` of one entry off the diagonal, Lemma 4.1."""
    return 3.0 * variance**2 * math.pow(d / (d + 2.0), 2.5)


def spectral_bound(shape: tuple[int, int], d: float, variance: float, constant: float = 1.0) -> float:
    """``Gamma``, Lemma 4.2: a bound on ``E ||Delta||_2`` of a matrix ``[d1, d2]``, up to Latala's constant ``C``.

    ``C [sqrt(E Delta^2) (sqrt(d1) + sqrt(d2)) + (d1 d2 E Delta^4)^(1/4)]``
    """
    rows, columns = shape
    spread = math.sqrt(second_moment(d, variance)) * (math.sqrt(rows) + math.sqrt(columns))
    return constant * (spread + math.pow(rows * columns * fourth_moment(d, variance), 0.25))


def discretisation_step(norm: float, depth: int, epsilon_gamma: float, num_kept: int) -> float:
    """``rho = (||A||_2 / L - epsilon Gamma) / J``, Lemma 4.4; not positive where the lemma's condition fails."""
    return (norm / depth - epsilon_gamma) / max(num_kept, 1)


def output_bound(largest_input: float, norms: tuple[float, ...], changes: tuple[float, ...]) -> float:
    """``e max||x|| Prod ||A^l|| Sum ||Delta^l|| / ||A^l||``: Lemmas 4.3, 4.4 and B.2 with 1-Lipschitz activations.

    Holds if every ``||Delta^l|| <= ||A^l|| / L`` and the network is a chain of dense layers without biases.

    Args:
        largest_input: ``max_S ||x||_2``.
        norms: ``||A^l||_2``, positive.
        changes: ``||Delta^l||_2`` or bounds on it.
    """
    relative = sum(
        change / norm if norm else (math.inf if change else 0.0) for change, norm in zip(changes, norms, strict=True)
    )
    return math.e * largest_input * math.prod(norms) * relative


def naive_bits(size: int, num_kept: int, num_values: float) -> float:
    """Lemma D.1: ``log2 C(d1 d2, nnz) + nnz log2 r`` with ``nnz`` the number kept and ``r`` values an entry can take.

    >>> round(naive_bits(4, 2, 8), 3)
    8.585
    """
    chosen = math.lgamma(size + 1) - math.lgamma(num_kept + 1) - math.lgamma(size - num_kept + 1)
    return chosen / math.log(2) + num_kept * math.log2(max(num_values, 1.0))


def prunable_probability(kappa: float, d: float) -> float:
    """``p_1 = erf(sqrt(-d ln(kappa) / 2))``: that an entry is zeroed with probability at least ``kappa``, eq. (8)."""
    if not 0 < kappa <= 1:
        raise InputError("a probability kappa above 0 and at most 1", repr(kappa), "use e.g. 0.5")
    return math.erf(math.sqrt(-d * math.log(kappa) / 2.0))


def at_least(threshold: int, trials: int, probability: float) -> float:
    """``P[Bin(trials, probability) >= threshold] = I_p(threshold, trials - threshold + 1)``.

    Lemma D.2 with ``trials = d1 d2`` and :func:`prunable_probability`, Lemma D.3 with ``trials = tau`` and ``kappa``.

    >>> at_least(2, 2, 0.5)
    0.25
    """
    from scipy.special import betainc

    if threshold <= 0:
        return 1.0
    if threshold > trials:
        return 0.0
    return float(betainc(threshold, trials - threshold + 1, probability))


def union_deviation(log2_configurations: float, num_samples: int, delta: float) -> float:
    """``tau`` with ``J exp(-2 tau^2 n) = delta``: Theorem D.1 with its square (erratum 11), ``log2 J`` bits.

    A form of the paper's; certificates use the exact binomial tail instead.

    >>> round(union_deviation(0.0, 200, 0.05), 4)
    0.0865
    """
    if num_samples < 1 or not 0 < delta < 1:
        got = f"{num_samples} samples, delta {delta}"
        raise InputError("at least one sample and a delta between 0 and 1", got, "use e.g. 0.05")
    return math.sqrt((log2_configurations * math.log(2) - math.log(delta)) / (2 * num_samples))
