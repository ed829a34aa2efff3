"""Magnitude pruning of Guha 2023 on the layers of a network: really pruned, in logarithms (Algorithm 1, Lemma 4.4).

With ``q = d / (d + 2)`` and entries ``a``, entry ``a`` is zeroed with probability ``exp(-a^2 / (d Psi))``, ``Psi`` the
mean square of the layer; the diagonal of ``[out, in * kernel]`` is kept. A layer ``[d1, d2]`` then has

    Gamma = C sqrt(Psi) (q^(3/4) (sqrt(d1) + sqrt(d2)) + (3 d1 d2)^(1/4) q^(5/8))        (Lemma 4.2, C = 1 here)
    rho   = share ||A||_2 / (2 J),   share <= 1 / L                                      (Lemma 4.4)

with ``J`` the entries kept: half of the change that Lemma 4.4 allows a layer goes to pruning, half to rounding. The
coins come from one named stream a layer, whatever ``d`` is, so a stronger pruning keeps a subset. Pruning depends on
``a^2 / Psi`` only, and ``rho`` on ``||A||_2``, so rescaling a layer changes neither the support nor ``max |a| / rho``.

Formulas without logarithms are in :mod:`bitcert.theory.formulas.pruning_theory`. Measures: weights are not Gaussian,
``C`` is Latala's unknown constant.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitcert.errors import listed
from bitcert.random import stream
from bitcert.theory.formulas.pruning_theory import at_least, prunable_probability
from bitcert.theory.inputs import BoundInputs, LayerInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.value import Condition, outside

Matrix = NDArray[np.float64]

SLACK_PER_LAYER = 4
"""``epsilon_l = lambda_l = 4 L``: Lemma 4.2 then fails in some layer with probability 1/4 at most."""

_KURTOSIS = 3.0
_WEAKEST = -1e7
_STRONGEST = math.log(0.999)
_KAPPAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.999, 0.99999)


def log_ratio(d: float) -> float:
    """``ln q`` of a strength ``d``, ``q = d / (d + 2)``.

    >>> round(math.exp(log_ratio(1.0)), 12) == round(1 / 3, 12)
    True
    """
    return math.log(d) - math.log(d + 2)


def strength(log_q: float) -> float:
    """The inverse of :func:`log_ratio`; 0 where a float cannot hold it."""
    q = math.exp(log_q)
    return 2 * q / (1 - q)


@dataclass(frozen=True, eq=False)
class Weights:
    """One layer, in units of its largest entry, so that no square overflows.

    Attributes:
        layer: the layer.
        unit: ``A / max |a|``, ``[out, rest]``.
        log_top: ``ln max |a|``.
        variance: mean square of ``unit``.
        log_norm: ``ln ||A||_2`` of the reshaped matrix.
    """

    layer: LayerInputs
    unit: Matrix
    log_top: float
    variance: float
    log_norm: float

    @classmethod
    def of(cls, layer: LayerInputs) -> Weights:
        """Of a layer.

        Raises:
            NotComputed: every weight is 0.
        """
        matrix = layer.matrix()
        top = float(np.abs(matrix).max(initial=0.0))
        if top == 0 or layer.norms.spectral == 0:
            raise outside(f"does not apply: every weight of {layer.name} is 0, so there is nothing to prune")
        unit = matrix / top
        return cls(layer, unit, math.log(top), float(np.mean(np.square(unit))), math.log(layer.norms.spectral))

    @property
    def shape(self) -> tuple[int, int]:
        """``(d1, d2)``: output units, weights of one."""
        rows, columns = self.unit.shape
        return rows, columns

    @property
    def kurtosis(self) -> float:
        """``E a^4 / (E a^2)^2``; 3 for a normal law of mean 0."""
        return float(np.mean(self.unit**4)) / self.variance**2

    def log_gamma(self, log_q: float) -> float:
        """``ln Gamma`` of Lemma 4.2 with ``C = 1``."""
        rows, columns = self.shape
        spread = log(math.sqrt(rows) + math.sqrt(columns)) + 0.75 * log_q
        tail = 0.25 * math.log(3 * rows * columns) + 0.625 * log_q
        return self.log_top + 0.5 * math.log(self.variance) + log_sum([spread, tail])

    def prune(self, log_q: float, seed: int) -> Matrix:
        """Algorithm 1, in units of the largest entry."""
        coins = stream(seed, f"guha2023 pruning/{self.layer.name}").random(self.unit.shape)
        scale = strength(log_q) * self.variance
        if scale == 0:  # weaker than a float can say: only entries that are 0 already are pruned
            return self.unit
        with np.errstate(over="ignore"):
            kept = coins >= np.exp(-np.square(self.unit) / scale)
        return np.where(kept | np.eye(*self.shape, dtype=bool), self.unit, 0.0)


@dataclass(frozen=True, eq=False)
class Pruned:
    """A layer after pruning.

    Attributes:
        weights: before.
        values: after, in units of ``max |a|`` of the layer before.
        kept: ``J``, entries that are not 0.
        densest: ``j``, most non-zeros in a row or a column.
        full_diagonal: whether no entry of the diagonal is 0, as Definition 5.1 asks.
        log_gamma: ``ln Gamma``.
        log_rho: ``ln rho``.
    """

    weights: Weights
    values: Matrix
    kept: int
    densest: int
    full_diagonal: bool
    log_gamma: float
    log_rho: float

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.weights.layer.name

    @property
    def log_largest(self) -> float:
        """``ln max |a|`` of what is kept; ``-inf`` if nothing is."""
        return log(float(np.abs(self.values).max(initial=0.0))) + self.weights.log_top

    @property
    def side(self) -> int:
        """``p``: the longer side of the matrix."""
        return max(self.weights.shape)

    @property
    def log_values(self) -> float:
        """``ln r``: multiples of ``rho`` among which an entry is chosen, ``r = 2 round(max |a| / rho) + 1``."""
        return log_alphabet(self.log_largest - self.log_rho)


def log_alphabet(log_steps: float) -> float:
    """``ln(2 round(s) + 1)`` of ``ln s``.

    >>> round(math.exp(log_alphabet(math.log(2.2))), 9)
    5.0
    """
    return math.log(2) + log_steps if log_steps > 40 else math.log(2 * math.floor(math.exp(log_steps) + 0.5) + 1)


def all_weights(inputs: BoundInputs) -> tuple[Weights, ...]:
    """Of every layer.

    Raises:
        NotComputed: a layer is all 0.
    """
    return tuple(Weights.of(layer) for layer in inputs.layers)


def epsilon(inputs: BoundInputs) -> int:
    """``epsilon_l`` and ``lambda_l``: ``4 L``."""
    return SLACK_PER_LAYER * inputs.depth


def log_step(weights: Weights, kept: int, log_share: float) -> float:
    """``ln rho`` of a layer with so many entries kept."""
    return log_share + weights.log_norm - math.log(2) - math.log(max(kept, 1))


def prune(layers: Sequence[Weights], log_q: float, log_share: float, seed: int) -> tuple[Pruned, ...]:
    """Every layer pruned with one strength; ``log_share`` is ``ln`` of the share of ``||A||_2`` it may change by."""
    found = []
    for weights in layers:
        values = weights.prune(log_q, seed)
        full = values != 0
        kept = int(full.sum())
        densest = max(int(full.sum(0).max(initial=0)), int(full.sum(1).max(initial=0)))
        diagonal = bool(full.diagonal().all())
        step = log_step(weights, kept, log_share)
        found.append(Pruned(weights, values, kept, densest, diagonal, weights.log_gamma(log_q), step))
    return tuple(found)


def log_output_change(layers: Sequence[Pruned], slack: float, log_largest_input: float) -> float:
    """``ln`` of Lemma 4.4: ``e max||x|| Prod ||A^l|| Sum (epsilon_l Gamma_l + rho_l J_l) / ||A^l||``."""
    changes = (log_sum([math.log(slack) + own.log_gamma, own.log_rho + log(own.kept)]) for own in layers)
    relative = log_sum(change - own.weights.log_norm for change, own in zip(changes, layers, strict=True))
    return 1 + log_largest_input + math.fsum(own.weights.log_norm for own in layers) + relative


def strongest(layers: Sequence[Weights], log_share: float, slack: float) -> float:
    """``ln q`` of the largest ``d`` with ``epsilon Gamma_l <= share ||A^l|| / 2`` in every layer; ``q <= 0.999``."""

    def fits(log_q: float) -> bool:
        limits = ((w.log_gamma(log_q), log_share + w.log_norm - math.log(2)) for w in layers)
        return all(math.log(slack) + gamma <= limit for gamma, limit in limits)

    if fits(_STRONGEST):
        return _STRONGEST
    low, high = _WEAKEST, _STRONGEST
    while high - low > 1e-9 * max(1.0, -low):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class KeptClaim:
    """Lemmas D.2 and D.3 for one layer.

    Attributes:
        kept: with ``probability`` at most so many entries are kept.
        likely: ``tau``: at least so many entries are pruned with probability ``kappa`` or more (D.2).
        kappa: chosen among a few, for the fewest kept.
        probability: ``P(D.2) P(D.3)``.
    """

    kept: int
    likely: int
    kappa: float
    probability: float


def claim_kept(shape: tuple[int, int], d: float, failure: float) -> KeptClaim:
    """The fewest entries that Lemmas D.2 and D.3 promise to keep, each failing with probability at most ``failure``.

    The diagonal is kept, so the entries off it are counted only (the paper counts all ``d1 d2``).
    """
    size, trials = shape[0] * shape[1], shape[0] * shape[1] - min(shape)
    best: KeptClaim | None = None
    for kappa in _KAPPAS:
        chance = prunable_probability(kappa, d)
        likely = _most(trials, chance, failure)
        pruned = _most(likely, kappa, failure)
        if best is None or size - pruned < best.kept:
            holds = at_least(likely, trials, chance) * at_least(pruned, likely, kappa)
            best = KeptClaim(size - pruned, likely, kappa, holds)
    assert best is not None
    return best


def _most(trials: int, chance: float, failure: float) -> int:
    """The largest ``t`` with ``P[Bin(trials, chance) >= t] >= 1 - failure``."""
    return bisect_left(range(1, trials + 1), True, key=lambda t: at_least(t, trials, chance) < 1 - failure)


def gaussian(layers: Sequence[Weights]) -> Condition:
    """Assumption 3.1, as far as the kurtosis can refuse it."""
    far = [f"{w.layer.name} {w.kurtosis:.1f}" for w in layers if abs(w.kurtosis - _KURTOSIS) > 0.5]
    detail = f"a normal law has kurtosis 3; {listed(far)}" if far else "every kurtosis is within 0.5 of 3"
    return Condition("entries are N(0, Psi)", False if far else None, detail)
