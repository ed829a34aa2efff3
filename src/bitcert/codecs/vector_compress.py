"""Vector-compress: random sparsification of a linear separator; Arora et al. 2018 section 2.1, Zhang 2020 section 3.

    c_hat_i = c_i / p_i with probability p_i = min(1, 2 c_i^2 / (epsilon gamma^2)), else 0     (||c|| = 1)

is unbiased with variance ``c_i^2 (1 - p_i) / p_i <= epsilon gamma^2 / 2``, so by Chebyshev
``|c_hat . u - c . u| < gamma`` for a fixed unit vector ``u`` with probability at least ``1 - epsilon / 2``. Zhang
proves ``1 - epsilon``; Arora's ``8 c_i^2 / gamma^2`` is ``epsilon = 1/4``. For a message the sampling runs at
``gamma / 2`` and what is kept is rounded to multiples of ``gamma / (2 sqrt n)`` (here: of the next quarter octave
below), entries of at least ``2 epsilon gamma sqrt n`` becoming 0. Zhang's rate is ``O~((gamma^2 m)^(-1/3))`` at
``epsilon = (gamma^2 m)^(-1/3)``.

Two things are done otherwise than printed. Probabilities above 1 are clipped and such a coordinate is kept exactly
(erratum 15). The cap spares those coordinates: it is meant for small coordinates blown up by ``1 / p_i``, but as
printed it deletes a dominant coordinate as soon as ``2 epsilon gamma sqrt n <= 1``. Not promised: anything about
several inputs at once; the statement is about one input and may fail for a fraction ``epsilon`` of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from bitcert.codecs.base import Layer, bare_helper
from bitcert.codecs.separators import UNIT_INPUTS, SeparatorCodec, separator_vector
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Values
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.value import Condition, LayerTheory, Theory


@dataclass(frozen=True, kw_only=True)
class VectorCompress(SeparatorCodec):
    """Few coordinates of a separator, chosen by biased coins; see the module.

    Args:
        epsilon: failure probability per input in (0, 1], or ``None`` for Zhang's ``(gamma^2 m)^(-1/3)``; 1/4 is
            Arora's.
        capped: whether blown-up entries become 0.

    >>> VectorCompress(gamma=0.1).label
    'vector-compress gamma 0.1 epsilon 0.25'
    """

    name: ClassVar[str] = "vector-compress"

    epsilon: float | None = 0.25
    capped: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon is not None and not 0 < self.epsilon <= 1:
            raise InputError("an epsilon above 0 and at most 1", repr(self.epsilon), "use e.g. 0.25")

    @property
    def label(self) -> str:
        """The codec, its margin and its epsilon."""
        return f"{self.name} {self.margin_label} epsilon {'by m' if self.epsilon is None else f'{self.epsilon:g}'}"

    @classmethod
    def strengths(cls) -> tuple[VectorCompress, ...]:
        """From nearly lossless to extreme."""
        return (
            cls(gamma=0.001, epsilon=0.05),
            cls(epsilon=0.05),
            cls(),
            cls(quantile=0.5),
            cls(quantile=0.9, epsilon=1.0),
        )

    def code_vector(self, layer: Layer, vector: Values, gamma: float) -> TensorCode:
        """Sample at ``gamma / 2``, cap, round."""
        epsilon = self.epsilon
        if epsilon is None:
            raise InputError("an epsilon, or a training sample to choose it by", "neither", "pass one")
        coins = layer.draws.generator("coins").random(len(vector))
        probabilities = keep_probabilities(vector, gamma / 2, epsilon)
        kept = sample_coordinates(vector, probabilities, coins)
        if self.capped:
            kept = cap(kept, probabilities, 2 * epsilon * gamma * math.sqrt(len(vector)))
        return layer.code("separator", (), self.rounded(kept, gamma / (2 * math.sqrt(len(vector)))))

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """With ``gamma`` and ``epsilon`` filled in.

        Raises:
            InputError: as :meth:`encode`, and no sample to choose epsilon by.
        """
        codec = super().resolved(network, sample, helper)
        if codec.epsilon is not None or codec.gamma is None:
            return codec
        if sample is None:
            raise InputError("a training sample to choose epsilon by", "none", "pass one, or epsilon")
        return replace(codec, epsilon=min(1.0, (codec.gamma**2 * len(sample)) ** (-1 / 3)))

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Zhang's Theorems 3.1 and 3.2 with constants: expected non-zeros and their bound, error, probability, rate.

        Raises:
            InputError: as :meth:`encode`.
        """
        codec = self.resolved(network, sample, bare_helper(network, sample))
        vector, gamma, epsilon = separator_vector(network), float(codec.gamma or 1.0), float(codec.epsilon or 1.0)
        norm = float(np.linalg.norm(vector)) or 1.0
        probabilities = keep_probabilities(vector / norm, gamma / 2, epsilon)
        largest_mean = 8 / (epsilon * gamma**2)
        width, expected, clipped = len(vector), float(probabilities.sum()), int((probabilities == 1).sum())
        details = {
            "gamma": gamma,
            "width": float(width),
            "epsilon": epsilon,
            "expected_nonzeros": expected,
            "upper_bound_nonzeros_95": upper_bound_nonzeros(expected, 0.05),
            "upper_bound_nonzeros_printed": min((1 + 2 * math.log(width)) * largest_mean, width),
            "kept_exactly": float(clipped),
            "values_per_entry": 8 * epsilon * width + 1,
        }
        if sample is not None:
            details["rate"] = (gamma**2 * len(sample)) ** (-1 / 3)
        layer = network.weight_layers[0].weight
        return Theory(
            source="Zhang 2020, Theorems 3.1 and 3.2; Arora et al. 2018, section 2.1",
            statement="sampled at gamma/2, rounded and capped: for a fixed unit u, |c_hat.u - c.u| <= gamma ||c||",
            parameters=expected,
            error=gamma,
            error_means="|c_hat.x - c.x| / (||c|| ||x||) of one input",
            probability=1 - epsilon,
            conditions=(
                Condition("all probabilities below 1", clipped == 0, f"{clipped} coordinates are kept exactly"),
                Condition(
                    "fewer non-zeros than coordinates", expected < 0.5 * width, f"{expected:.1f} expected of {width}"
                ),
                UNIT_INPUTS,
            ),
            layers=(LayerTheory(layer, 2 * width, expected, gamma, details),),
            notes=(
                "erratum 15: probabilities above 1 are clipped and the coordinate is kept exactly",
                "the cap spares coordinates kept exactly; as printed it deletes them",
                "entries take 8 epsilon n + 1 values; printed is 4 epsilon n, which counts one sign",
                "upper_bound_nonzeros_printed is (1 + 2 ln n) 8 / (epsilon gamma^2), with probability 1 - 1/n",
            ),
        )


def keep_probabilities(vector: Values, gamma: float, epsilon: float) -> Values:
    """``min(1, 2 c_i^2 / (epsilon gamma^2))``, ``[n]``.

    >>> keep_probabilities(np.array([0.1, 1.0]), 0.4, 0.25).round(6).tolist()
    [0.5, 1.0]
    """
    with np.errstate(over="ignore"):  # an infinite probability is clipped like any other above 1
        return np.minimum(1.0, 2 * np.square(vector / gamma) / epsilon)


def sample_coordinates(vector: Values, probabilities: Values, coins: Values) -> Values:
    """``c_i / p_i`` where the coin (uniform in [0, 1)) is below ``p_i``, else 0.

    >>> sample_coordinates(np.array([0.1, 1.0]), np.array([0.5, 1.0]), np.array([0.4, 0.9])).tolist()
    [0.2, 1.0]
    """
    heads = coins < probabilities
    return np.divide(vector, probabilities, out=np.zeros(heads.shape), where=heads)


def cap(values: Values, probabilities: Values, limit: float) -> Values:
    """Entries of at least ``limit`` become 0, except those kept exactly (probability 1)."""
    return np.where((np.abs(values) >= limit) & (probabilities < 1), 0.0, values)


def upper_bound_nonzeros(mean: float, failure: float) -> float:
    """Bernstein: independent coins with this mean of their sum show at most so many heads, but for ``failure``.

    >>> round(upper_bound_nonzeros(100.0, 0.05), 1)
    125.5
    """
    log = math.log(1 / failure)
    return mean + log / 3 + math.sqrt((log / 3) ** 2 + 2 * mean * log)
