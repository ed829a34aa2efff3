"""Products over layers and sums of ratios of norms, in natural logarithms: what the norm-based baselines share.

``ln prod_i ||A^i||`` is a sum of logarithms, so fifty layers neither overflow nor lose digits; ``ln sum_i
(a_i/b_i)^p`` is a log-sum-exp. A layer whose norm is 0 makes a product 0 (``-inf``) and a ratio undefined; the latter
is refused with the layer's name. Nothing here is a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitcert.theory.ingredients.weights import CONVERGED
from bitcert.theory.inputs import BoundInputs, WeightNorms
from bitcert.theory.logs import log, log_product, log_sum
from bitcert.theory.value import Condition, need, outside


@dataclass(frozen=True)
class Norm:
    """A norm of the weight layers.

    Attributes:
        name: among the ingredients of a row.
        of: the norm.
        moved: name of the norm of ``A - A_init``, where a row has it.
    """

    name: str
    of: Callable[[WeightNorms], float]
    moved: str = ""

    def values(self, inputs: BoundInputs) -> tuple[float, ...]:
        """Of every layer, in order of computation."""
        return tuple(self.of(layer.norms) for layer in inputs.layers)

    def distances(self, inputs: BoundInputs) -> tuple[float, ...]:
        """The norm of ``A - A_init`` of every layer.

        Raises:
            NotComputed: the initial weights were not given.
        """
        return tuple(self.of(need(layer.distance)) for layer in inputs.layers)

    def log_product(self, inputs: BoundInputs) -> float:
        """``ln prod_i norm(A^i)``; ``-inf`` if a layer is zero."""
        return log_product(self.values(inputs))

    def read(self, inputs: BoundInputs, init: bool) -> tuple[str, tuple[float, ...]]:
        """Name and values, of ``A - A_init`` with ``init``."""
        return (self.moved, self.distances(inputs)) if init else (self.name, self.values(inputs))


FROBENIUS = Norm("frobenius", lambda norms: norms.frobenius, "distance_frobenius")
SPECTRAL = Norm("spectral", lambda norms: norms.spectral, "distance_spectral")
OPERATOR = Norm("operator_norm", lambda norms: norms.operator)
NORM_21 = Norm("norm_21", lambda norms: norms.norm_21, "distance_21")
NORM_1INF = Norm("norm_1inf", lambda norms: norms.norm_1inf)
NORM_3_15 = Norm("norm_3_15", lambda norms: norms.norm_3_15)
SCHATTEN_15 = Norm("schatten_1.5", lambda norms: norms.schatten(1.5))
TRACE = Norm("trace_norm", lambda norms: norms.schatten(1.0))


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

    >>> round(log_power_sum([log(2.0), log(3.0)], 2.0), 12) == round(log(13.0), 12)
    True
    """
    return log_sum(power * value for value in logs)


def log_path_norm(inputs: BoundInputs, p: float) -> float:
    """``ln`` of the path norm with biases.

    Raises:
        NotComputed: there is none of this network, or not for this ``p``.
    """
    logs = need(inputs.path_norms_with_biases)
    if p not in logs:
        raise outside(f"does not apply: no path norm with p = {p:g} was computed")
    return logs[p]


def chain_conditions(inputs: BoundInputs, activations: str) -> tuple[Condition, ...]:
    """What the product bounds ask of the graph, with their own hypothesis on the activations."""
    return inputs.hypotheses("chain of layers", "bias-free", activations, "every weight layer measured")


def norm_conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    """That the operator norms are what they should be, where the iteration did not settle; nothing where it did."""
    found = inputs.structure.get(CONVERGED)
    return () if found is None or found.holds else (found,)
