"""Small entries of a layer replaced by Gaussian noise (Shin 2021, Algorithm 1): what is kept, and the error.

Entries with ``|w - mean| <= tau`` become ``mean + tau g``, ``g`` standard normal: variance ``t = tau^2``, as Appendix E
has it at one standard deviation. Let ``D`` be the replaced entries less their mean. For fixed unit vectors ``|u^T D v|
<= ||D||_2``, and ``u^T G v`` is normal with variance at most ``tau^2``, so

    |u^T (W - W(t)) v| <= ||D||_2 + tau sqrt(2 ln(2/eta))      with probability 1 - eta,

without the second term where nothing is replaced. Proposition 1.1 prints ``sqrt((tau^2 + t) ln(3/eta))`` instead, whose
proof is invalid (docs/theory.md erratum 12). NOT promised: that the threshold found is the largest one that an error
allows, since ``||D||_2`` need not grow with ``tau``; it does allow it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.linear.lanczos import largest_singular_value
from bitcert.theory.inputs import LayerInputs
from bitcert.theory.logs import log
from bitcert.theory.value import outside


@dataclass(frozen=True, eq=False)
class Replaced:
    """One layer with its small entries replaced; all numbers but ``log_unit`` in units of the largest entry.

    Attributes:
        layer: before.
        log_unit: ``ln max |w|``.
        tau: threshold of ``|w - mean|``, and standard deviation of the noise.
        mean, std: of all entries.
        kept: entries with ``|w - mean| > tau``.
        kept_signed: entries with ``w > tau``, as printed.
        spectral: ``||D||_2`` of the replaced entries less ``mean``.
    """

    layer: LayerInputs
    log_unit: float
    tau: float
    mean: float
    std: float
    kept: int
    kept_signed: int
    spectral: float

    @classmethod
    def of(cls, layer: LayerInputs, tau: float | None = None) -> Replaced:
        """At this threshold in units of the largest entry, or at one standard deviation."""
        unit, top = scaled(layer)
        mean, std = float(unit.mean()), float(unit.std())
        tau = std if tau is None else tau
        kept = np.abs(unit - mean) > tau
        spectral = _replaced_norm(unit - mean, kept)
        signed = int(np.count_nonzero(unit > tau))
        return cls(layer, math.log(top), tau, mean, std, int(kept.sum()), signed, spectral)

    @classmethod
    def within(cls, layer: LayerInputs, log_allowed: float, eta: float) -> Replaced:
        """At a threshold whose error is at most ``exp(log_allowed) ||A||_F`` while the next larger one's is not."""
        unit, top = scaled(layer)
        centred = unit - unit.mean()
        distance = np.abs(centred)
        allowed = math.exp(log_allowed + log(layer.norms.frobenius) - math.log(top))
        factor = _noise_factor(eta)
        taus, counts = np.unique(distance, return_counts=True)
        # ||D||_2 lies between 0 and ||D||_F, so that norms are needed for the thresholds in between only
        frobenius = np.sqrt(np.cumsum(taus**2 * counts))
        low = int(np.searchsorted(frobenius + taus * factor, allowed, side="right"))
        high = int(np.searchsorted(taus * factor, allowed, side="right")) + 1
        while high - low > 1:
            middle = (low + high) // 2
            tau = float(taus[middle - 1])
            fits = _replaced_norm(centred, distance > tau) + tau * factor <= allowed
            low, high = (middle, high) if fits else (low, middle)
        return cls.of(layer, float(taus[low - 1]) if low else 0.0)

    @property
    def noise(self) -> float:
        """Standard deviation of what the replaced entries become; 0 where there are none."""
        return 0.0 if self.kept == self.layer.num_weights else self.tau

    def log_error(self, eta: float) -> float:
        """``ln`` of the error that does hold for fixed vectors, relative to ``||A||_F``."""
        return log(self.spectral + self.noise * _noise_factor(eta)) + self.log_unit - log(self.layer.norms.frobenius)

    def log_printed_error(self, eta: float) -> float:
        """The same of Proposition 1.1 as printed: ``sqrt((tau^2 + t) ln(3/eta))`` with ``t = tau^2``."""
        squares = 2 * self.tau**2 * math.log(3 / eta)
        return 0.5 * log(squares) + self.log_unit - log(self.layer.norms.frobenius)


def _noise_factor(eta: float) -> float:
    """``s`` with ``P(|g| > s) <= 2 exp(-s^2 / 2) = eta`` for a standard normal ``g``."""
    return math.sqrt(2 * math.log(2 / eta))


def _replaced_norm(centred: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
    """``||D||_2`` of the entries that are not kept."""
    replaced = np.where(kept, 0.0, centred)
    return largest_singular_value(torch.from_numpy(replaced)) if replaced.any() else 0.0


def scaled(layer: LayerInputs) -> tuple[NDArray[np.float64], float]:
    """The matrix in units of its largest entry, and that entry.

    Raises:
        NotComputed: every weight is 0.
    """
    matrix = layer.matrix()
    top = float(np.abs(matrix).max(initial=0.0))
    if top == 0:
        raise outside(f"does not apply: every weight of {layer.name} is 0, so there is no tail")
    return matrix / top, top


def log_printed_tau(layer: LayerInputs, log_allowed: float, eta: float) -> float:
    """``ln tau`` with ``tau^2 + t = eps^2 ||A||_F^2 / ln(3/eta)`` and ``t = tau^2``: Proposition 1.1 as printed."""
    return log_allowed + log(layer.norms.frobenius) - 0.5 * math.log(2 * math.log(3 / eta))
