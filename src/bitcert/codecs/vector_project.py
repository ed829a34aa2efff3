"""Vector-project: a linear separator from its projections on random directions; Arora et al. 2018, appendix A.2.

    z_i = <v_i, c>,  v_i ~ N(0, I) from the helper,  c_hat = (1/k) sum_i z_i v_i,  k = ceil(16 ln(1/eta) / gamma^2)

with ``z_i`` rounded to multiples of ``gamma / (2 sqrt(n k))`` times ``||c||`` (here: of the next quarter octave below).
``c_hat`` is unbiased, and for unit ``u`` the variance of ``c_hat . u`` is ``(1 + (c . u)^2) / k <= 2 / k``. With
normal numbers ``P[|c_hat . u - c . u| > gamma] <= 2 exp(-k (gamma - ln(1 + gamma)) / 2)`` (Chernoff; ``u = c`` is the
worst case), which is about ``2 eta^4`` at the printed constant: 16 is enough, 4 is about what is needed, and with 1 the
claim is false. Unlike Vector-compress the failure probability enters as a logarithm, hence ``O~((gamma^2 m)^(-1/2))``.

Not promised: the tail for the numbers actually drawn, which lie on a grid of 65,536 values whose variance is 2e-5
below 1; that factor scales ``c_hat`` and changes no decision of a separator without bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitcert.codecs.base import Layer, bare_helper
from bitcert.codecs.separators import UNIT_INPUTS, SeparatorCodec, separator_vector
from bitcert.data import Sample
from bitcert.decoder.tensors import SPARE_COEFFICIENTS, TensorCode
from bitcert.decoder.transforms.base import MAX_EXPANSION, Draws, Values
from bitcert.decoder.transforms.normal import UNIT
from bitcert.decoder.transforms.separator import NORMAL_COST, projections
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.value import Condition, LayerTheory, Theory

CONSTANT = 16.0
"""``k = CONSTANT ln(1/eta) / gamma^2``, as printed."""


@dataclass(frozen=True, kw_only=True)
class VectorProject(SeparatorCodec):
    """Random projections of a separator; see the module.

    Args:
        eta: failure probability per input in (0, 1).
        projections: ``k`` itself, instead of the one that follows from ``gamma`` and ``eta``.

    >>> VectorProject(gamma=0.1).label
    'vector-project gamma 0.1 eta 0.05'
    """

    name: ClassVar[str] = "vector-project"

    eta: float = 0.05
    projections: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eta < 1:
            raise InputError("an eta between 0 and 1", repr(self.eta), "use e.g. 0.05")
        if self.projections is not None and (isinstance(self.projections, bool) or self.projections < 1):
            raise InputError("at least one projection", repr(self.projections), "use e.g. 1000")

    @property
    def label(self) -> str:
        """The codec, its margin, and its eta or number of projections."""
        how = f"eta {self.eta:g}" if self.projections is None else f"k {self.projections}"
        return f"{self.name} {self.margin_label} {how}" + ("" if self.printed_rounding else " coarse")

    @classmethod
    def strengths(cls) -> tuple[VectorProject, ...]:
        """From nearly lossless (``k`` far above the width) to extreme."""
        return (
            cls(projections=20_000),
            cls(),
            cls(quantile=0.25, eta=0.2),
            cls(quantile=0.5, eta=0.5),
            cls(quantile=0.5, projections=100, printed_rounding=False),
        )

    def count(self) -> int:
        """``k``.

        Raises:
            InputError: no ``gamma`` to compute it from.
        """
        if self.projections is not None:
            return self.projections
        if self.gamma is None:
            raise InputError("a margin gamma, or a number of projections", "neither", "pass one")
        return num_projections(self.gamma, self.eta)

    def code_vector(self, layer: Layer, vector: Values, gamma: float) -> TensorCode:
        """Project and round."""
        count, width = self.count(), len(vector)
        if count > SPARE_COEFFICIENTS or NORMAL_COST * count * width > MAX_EXPANSION:
            most = min(SPARE_COEFFICIENTS, MAX_EXPANSION // (NORMAL_COST * width))
            raise InputError(f"at most {most:,} projections", f"{count:,}", "use a larger gamma, quantile or eta")
        coefficients = project(vector, count, layer.draws)
        step = gamma / (2 * math.sqrt(width * count))
        return layer.code("separator projection", (count,), self.rounded(coefficients, step))

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Arora's A.2 with constants: ``k``, the error, its probability as printed and as proved here, the rate.

        Raises:
            InputError: as :meth:`encode`.
        """
        codec = self.resolved(network, sample, bare_helper(network, sample))
        vector, gamma, count = separator_vector(network), float(codec.gamma or 1.0), codec.count()
        width = len(vector)
        proved = upper_bound_failure(count, gamma, width)
        printed = math.exp(-count * gamma**2 / CONSTANT)
        details = {
            "gamma": gamma,
            "width": float(width),
            "projections": float(count),
            "eta": printed,
            "upper_bound_failure": proved,
            "variance": 2.0 / count,
        }
        if sample is not None:
            details["rate"] = (gamma**2 * len(sample)) ** (-1 / 2)
        return Theory(
            source="Arora et al. 2018, appendix A.2",
            statement="k = 16 ln(1/eta) / gamma^2 projections: for a fixed unit u, |c_hat.u - c.u| <= gamma ||c||",
            parameters=float(count),
            error=gamma,
            error_means="|c_hat.x - c.x| / (||c|| ||x||) of one input",
            probability=max(0.0, 1 - printed),
            conditions=(
                Condition("the printed k is enough", proved <= printed, f"failure at most {proved:.3g} by Chernoff"),
                Condition("fewer numbers than coordinates", count < width, f"{count} of {width}"),
                UNIT_INPUTS,
            ),
            layers=(LayerTheory(network.weight_layers[0].weight, 2 * width, float(count), gamma, details),),
            notes=("where k exceeds the width, coding the vector itself is shorter and exact up to rounding",),
        )


def num_projections(gamma: float, eta: float, constant: float = CONSTANT) -> int:
    """``ceil(constant * ln(1/eta) / gamma^2)``, at least 1.

    >>> num_projections(0.5, 0.05)
    192
    """
    return max(1, math.ceil(constant * math.log(1 / eta) / gamma**2))


def project(vector: Values, count: int, draws: Draws) -> Values:
    """``z_i = <v_i, c>``, ``[count]``; the same vectors that the decoder draws."""
    coefficients = np.empty(count)
    for rows, normals in projections(draws, count, len(vector)):
        coefficients[rows] = normals @ (vector * UNIT)
    return coefficients


def upper_bound_failure(count: int, gamma: float, width: int) -> float:
    """Upper bound on ``P[|c_hat . u - c . u| > gamma]`` for unit ``c``, ``u`` and normal ``v_i``, rounding included.

    Rounding moves ``c_hat . u`` by at most ``gamma / (4 sqrt(n k)) * ||V u|| / sqrt(k)``, and ``||V u|| > 2 sqrt(k)``
    has probability at most ``exp(-k / 2)``. What is left of ``gamma`` bounds the mean of ``k`` products of normals.

    >>> upper_bound_failure(192, 0.5, 784) < 0.05 ** 2
    True
    """
    left = gamma * (1 - 1 / (2 * math.sqrt(width * count)))
    exponent = (left - math.log1p(left)) / 2
    return min(1.0, 2 * math.exp(-count * exponent) + math.exp(-count / 2))
