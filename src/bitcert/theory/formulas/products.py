"""Products over layers and sums of ratios of norms, in natural logarithms: what the norm-based baselines share.

``ln prod_i ||A^i||`` is a sum of logarithms, so fifty layers neither overflow nor lose digits; ``ln sum_i
(a_i/b_i)^p`` is a log-sum-exp. A layer whose norm is 0 makes a product 0 (``-inf``) and a ratio undefined; the latter
is refused with the layer's name. Nothing here is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bitcert.theory.ingredients.weights import CONVERGED
from bitcert.theory.inputs import BoundInputs, WeightNorms
from bitcert.theory.logs import log, log_product, log_sum
from bitcert.theory.value import Condition, need, outside

Norm = Callable[[WeightNorms], float]


def values(inputs: BoundInputs, norm: Norm) -> tuple[float, ...]:
    """A norm of every layer, in order of computation."""
    return tuple(norm(layer.norms) for layer in inputs.layers)


def distances(inputs: BoundInputs, norm: Norm) -> tuple[float, ...]:
    """A norm of ``A - A_init`` of every layer.

    Raises:
        NotComputed: the initial weights were not given.
    """
    return tuple(norm(need(layer.distance)) for layer in inputs.layers)


def log_of_product(inputs: BoundInputs, norm: Norm) -> float:
    """``ln prod_i norm(A^i)``; ``-inf`` if a layer is zero."""
    return log_product(values(inputs, norm))


def log_ratios(inputs: BoundInputs, above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """``ln(above_i / below_i)`` of every layer; ``-inf`` where ``above_i`` is 0.

    Raises:
        NotComputed: a ``below_i`` is 0; the layer is named.
    """
    zero = [layer.name for layer, value in zip(inputs.layers, below, strict=True) if value == 0]
    if zero:
        raise outside(f"does not apply: the weights of {zero[0]} are all zero, so a ratio of norms divides by 0")
    return tuple(log(a) - log(b) for a, b in zip(above, below, strict=True))


def log_power_sum(logs: Sequence[float], power: float) -> float:
    """``ln sum_i exp(power * logs_i)``.

    >>> round(math.exp(log_power_sum([math.log(2), math.log(3)], 2.0)), 12)
    13.0
    """
    return log_sum(power * value for value in logs)


def network_conditions(inputs: BoundInputs, *names: str) -> tuple[Condition, ...]:
    """Hypotheses on the graph by name, each as it was gathered; one that was not is unknown."""
    return tuple(inputs.hypothesis(name) for name in names)


def norm_conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    """That the operator norms are what they should be, where the iteration did not settle; nothing where it did."""
    found = inputs.structure.get(CONVERGED)
    return () if found is None or found.holds else (found,)


def frobenius(norms: WeightNorms) -> float:
    """``||A||_F``."""
    return norms.frobenius


def spectral(norms: WeightNorms) -> float:
    """``||A||_2`` of the reshaped weight."""
    return norms.spectral


def operator(norms: WeightNorms) -> float:
    """``||A||_2`` of the map at the real input size."""
    return norms.operator


def norm_21(norms: WeightNorms) -> float:
    """``||A^T||_{2,1}``."""
    return norms.norm_21


def norm_1inf(norms: WeightNorms) -> float:
    """``||A||_{1,inf}``."""
    return norms.norm_1inf


def norm_3_15(norms: WeightNorms) -> float:
    """``||A||_{3,1.5}``."""
    return norms.norm_3_15


def schatten_15(norms: WeightNorms) -> float:
    """``(sum_i sigma_i^1.5)^(1/1.5)``."""
    return norms.schatten(1.5)


def trace(norms: WeightNorms) -> float:
    """``sum_i sigma_i``."""
    return norms.schatten(1.0)


def log_golowich(inputs: BoundInputs) -> float:
    """``ln sqrt(d + ln(input size))``: the factor alpha of the first collection, after Golowich et al. 2018."""
    return math.log(inputs.depth + math.log(max(inputs.sample.input_size, 1))) / 2
