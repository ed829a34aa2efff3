"""Slow twin of heavy-tail replacement: one entry at a time, from the definitions, in exact fractions.

No algorithm is shared with the library: noise comes from the words of the stream and the inverse normal distribution
function, weights are sums of fractions rounded once, thresholds are found by trying every score.
"""

from __future__ import annotations

import math
from fractions import Fraction
from statistics import NormalDist

import numpy


def noise(words: list[int], count: int) -> list[int]:
    """The first ``count`` normal numbers in units of 2^-12: four of each word, low bits first."""
    numbers = []
    for index in range(count):
        bits = (words[index // 4] >> (16 * (index % 4))) & 0xFFFF
        size = NormalDist().inv_cdf((max(bits, 65535 - bits) + 0.5) / 65536)
        numbers.append(round(4096 * size) * (1 if bits >= 32768 else -1))
    return numbers


def expand(
    moments: list[int], moment_step: float, kept: list[int], kept_step: float, normals: list[int]
) -> list[float]:
    """Kept entries times their step, else mean plus standard deviation times noise; rounded to float64 once."""
    values = []
    for integer, normal in zip(kept, normals, strict=True):
        if integer:
            values.append(float(Fraction(kept_step) * integer))
        else:
            exact = Fraction(moment_step) * (moments[0] + moments[1] * Fraction(normal, 4096))
            values.append(float(exact))
    return values


def largest_tau(values: list[float], scores: list[float], allowed: float) -> float:
    """The largest score ``tau >= 0`` such that ``tau^2`` plus the variance of what it replaces is allowed."""
    best = -math.inf
    for tau in [max(score, 0.0) for score in scores]:
        replaced = [value for value, score in zip(values, scores, strict=True) if score <= tau]
        mean = sum(replaced) / len(replaced)
        variance = sum((value - mean) ** 2 for value in replaced) / len(replaced)
        if tau**2 + variance <= allowed:
            best = max(best, tau)
    return best


def binomial_tail(k: int, n: int, p: float) -> float:
    """``P(X >= k)`` as a sum."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def replacement_errors(matrix, eta: float) -> list[tuple[float, float]]:
    """Every threshold of ``|w - mean|`` that replaces one entry more, ascending, with the error that holds for it.

    ``||D||_2 + tau sqrt(2 ln(2/eta))`` by full decompositions: Gaussian noise of deviation ``tau`` in each entry.
    """
    mean = matrix.mean()
    taus = sorted({abs(value - mean) for value in matrix.flatten().tolist()})
    found = []
    for tau in taus:
        replaced = matrix.copy() - mean
        replaced[abs(matrix - mean) > tau] = 0.0
        spectral = numpy.linalg.svd(replaced, compute_uv=False)[0]
        found.append((tau, float(spectral) + tau * math.sqrt(2 * math.log(2 / eta))))
    return found
