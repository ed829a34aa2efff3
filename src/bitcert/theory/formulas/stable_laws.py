"""Shin 2021, section 5: symmetric stable laws, large entries in a row by powers of ``c``, and the energy of the spikes.

A symmetric stable law of stability ``alpha`` in (0, 2] and scale ``c`` has the characteristic function
``exp(-|c u|^alpha)``: normal of variance ``2 c^2`` at ``alpha = 2``, Cauchy of scale ``c`` at ``alpha = 1``. Beyond
large ``x`` its density is ``alpha c^alpha c_alpha x^-(alpha + 1)`` with ``c_alpha = sin(pi alpha / 2) Gamma(alpha) /
pi`` (eq. 12). An entry of scale ``c`` then lies in the power bracket ``(c^i, c^(i+1)]`` with probability

    p = c_alpha c^(-alpha (i - 1)) (1 - c^-alpha)          (eq. 14)

and Prop. 1.2's bound of a binomial tail says how often ``c^(M - i)`` of the ``N`` entries of a row do (eqs. 15, 16).

What differs from the print. Eq. 14 is the tail's, and the brackets of Figure 2 (``1.3^0`` to ``1.3^6``) are not in the
tail: :func:`bracket_probability` of the law itself is given beside it. Eq. 15 holds for ``k > N p`` only; elsewhere the
bound is 1, where the printed expression falls again. Eq. 10 drops ``E[B_ij] E[B_ij']``, which is right for entries of
mean 0 and wrong for the positive entries of section 3.2, and writes ``N_2 x_j^2`` for ``|x|^2``
(:func:`spike_energy`). Eq. 13 leaves out negative entries and those below 1 (:func:`power_brackets` counts them).
Everything here describes a model of weights; nothing bounds an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcert.decoder.transforms.base import Values
from bitcert.errors import InputError
from bitcert.theory.formulas.heavy_tail_theory import sparsity_log_probability


def _check(alpha: float, scale: float) -> None:
    if not 0 < alpha <= 2 or not 0 < scale < math.inf:
        got = f"alpha {alpha:g}, scale {scale:g}"
        raise InputError("a stability alpha in (0, 2] and a positive scale", got, "use e.g. alpha 1.5, scale 1")


def stable_density(x: Values, alpha: float, scale: float = 1.0) -> Values:
    """Density of the symmetric stable law at each ``x`` (any shape): Figure 1.

    Raises:
        InputError: ``alpha`` outside (0, 2], or a scale that is not positive.

    >>> np.round(stable_density(np.array([0.0]), 1.0) * math.pi, 9)
    array([1.])
    """
    from scipy.stats import levy_stable  # takes a second to load

    _check(alpha, scale)
    # scipy drops the axes of a single number
    return np.asarray(levy_stable.pdf(x, alpha, 0.0, scale=scale), dtype=np.float64).reshape(np.shape(x))


def tail_constant(alpha: float) -> float:
    """``c_alpha = sin(pi alpha / 2) Gamma(alpha) / pi`` (eq. 12): ``P(X > x) ~ c_alpha (scale / x)^alpha``.

    >>> round(tail_constant(1.0) * math.pi, 12)
    1.0
    """
    return math.sin(math.pi * alpha / 2) * math.gamma(alpha) / math.pi


def bracket_tail_probability(alpha: float, i: float, c: float) -> float:
    """Eq. 14 as printed: ``c_alpha c^(-alpha (i - 1)) (1 - c^-alpha)``, the integral of eq. 12 over the bracket."""
    _check_powers(alpha, c)
    start: float = c ** (-alpha * (i - 1))
    return tail_constant(alpha) * start * -math.expm1(-alpha * math.log(c))


def bracket_probability(alpha: float, i: float, c: float) -> float:
    """``P(c^i < X <= c^(i+1))`` of the stable law of scale ``c`` itself."""
    from scipy.stats import levy_stable

    _check_powers(alpha, c)
    low, high = (float(levy_stable.sf(c**power, alpha, 0.0, scale=c)) for power in (i, i + 1))
    return max(0.0, low - high)


def _check_powers(alpha: float, c: float) -> None:
    _check(alpha, c)
    if c <= 1:
        raise InputError("a scale c above 1, whose powers rise", f"{c:g}", "use e.g. 1.3")


@dataclass(frozen=True)
class Path:
    """One way to a logit of ``c^M``: ``k = c^(M-i)`` entries of a row in the bracket ``i`` (eq. 16).

    Attributes:
        k: entries that are needed, not rounded, as printed.
        p: probability that an entry is in the bracket.
        log_printed: ``ln`` of the right side of eq. 16, whether or not ``k > N p``; ``-inf`` for ``k > N``.
        log_bound: ``ln`` of what the bound says: the same for ``k > N p``, else 0.
        log_exact: ``ln P(X >= k)`` of the binomial law itself.
    """

    k: float
    p: float
    log_printed: float
    log_bound: float
    log_exact: float


def path(p: float, i: float, c: float, top: float, row: int) -> Path:
    """Eq. 16 for entries that are in the bracket ``i`` with probability ``p``.

    Args:
        p: of :func:`bracket_tail_probability` (as printed) or :func:`bracket_probability`.
        i: of the bracket.
        c: scale, above 1.
        top: ``M``.
        row: ``N``, entries of a row.
    """
    from scipy.stats import binom

    k = c ** (top - i)
    return Path(
        k=k,
        p=p,
        log_printed=_log_printed(k, row, p),
        log_bound=sparsity_log_probability(k, row, p),
        log_exact=float(binom.logsf(math.ceil(k) - 1, row, min(p, 1.0))),
    )


def _log_printed(k: float, n: int, p: float) -> float:
    """``k ln(n p / k) + (n - k) ln((1 - p) / (1 - k / n))``."""
    if k > n or not 0 < p < 1:
        return -math.inf if p < 1 else 0.0
    rest = 0.0 if k == n else (n - k) * (math.log1p(-p) - math.log1p(-k / n))
    return k * math.log(n * p / k) + rest


def spike_energy(x: Values, tau: float, w_m: float, alpha: float, *, signed: bool) -> float:
    """``E[(B x)_i^2]`` for a row of independent entries of density ``alpha w_m^alpha w^-(alpha+1)``, kept above tau.

    ``E[w^2; w > tau] |x|^2`` with ``E[w^2; w > tau] = alpha w_m^alpha tau^(2 - alpha) / (alpha - 2)`` for signs that
    are fair coins (``signed``), as eq. 10 has it; for positive entries ``E[w; w > tau]^2 ((sum x)^2 - |x|^2)`` more.

    Args:
        x: input of the row, ``[N_2]``.
        tau: threshold, above ``w_m``.
        w_m: where the law begins, above 0.
        alpha: exponent of the *tail*, ``P(w > x) = (w_m / x)^alpha``, as the paper's formulas have it.
        signed: whether entries have a random sign.

    Returns:
        The expectation; infinite for ``alpha <= 2``.

    Raises:
        InputError: not ``tau > w_m > 0``, or ``alpha`` not positive.

    >>> spike_energy(np.ones(4), 1.0, 0.5, 3.0, signed=True)
    1.5
    """
    if not tau > w_m > 0 or not alpha > 0:
        got = f"tau {tau:g}, w_m {w_m:g}, alpha {alpha:g}"
        raise InputError("tau > w_m > 0 and a positive alpha", got, "fit a power law first")
    if alpha <= 2:
        return math.inf
    squares = float(np.square(x).sum())
    mass: float = alpha * w_m**alpha
    energy: float = mass * tau ** (2 - alpha) / (alpha - 2) * squares
    if signed:
        return energy
    mean: float = mass * tau ** (1 - alpha) / (alpha - 1)
    return energy + mean**2 * (float(x.sum()) ** 2 - squares)


@dataclass(frozen=True, eq=False)
class Brackets:
    """Entries of a matrix by powers of ``c`` (eq. 13), row by row.

    Attributes:
        counts: ``[rows, M + 1]``, entries in ``(c^i, c^(i+1)]`` for ``i = 0 .. M``.
        above: entries above ``c^(M+1)``: of ``D``.
        small: entries of size 1 or less, which eq. 13 leaves out.
        negative: entries below -1, which it leaves out, too.
    """

    counts: NDArray[np.int64]
    above: int
    small: int
    negative: int


def power_brackets(weight: Values, c: float, top: int) -> Brackets:
    """Count the entries of ``weight`` (``[rows, columns]``) by brackets.

    >>> found = power_brackets(np.array([[0.5, 1.2, 2.0, -3.0], [9.0, 1.5, 1.0, 4.0]]), 2.0, 1)
    >>> found.counts.tolist(), found.above, found.small, found.negative
    ([[2, 0], [1, 1]], 1, 2, 1)
    """
    _check_powers(1.0, c)
    edges = c ** np.arange(top + 2, dtype=np.float64)
    where = np.searchsorted(edges, weight, side="left")
    counts = np.stack([(where == i + 1).sum(1) for i in range(top + 1)], axis=1)
    return Brackets(
        counts=counts.astype(np.int64),
        above=int((where == top + 2).sum()),
        small=int((np.abs(weight) <= 1).sum()),
        negative=int((weight < -1).sum()),
    )
