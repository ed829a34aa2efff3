"""Group norms of the layers and path norms (Neyshabur, Tomioka & Srebro 2015, Norm-based capacity control).

``||A||_{p,q}`` is the l_q norm over units of the l_p norms of their weights. Capacities (docs/theory.md section 3.3):

- Frobenius: ``(1/gamma^2) prod_i ||A^i||_F^2``, and the same times ``4^d``. The theorem has ``(2^(d-1))^2``; tables
  that print ``2^d`` multiply the gap by it (Guha 2023's baselines), which multiplies a capacity by its square.
- l3,1.5: ``(1/gamma^2) prod_i ||A^i||_{3,1.5}^2 m^(1/3)``. The gap of this norm falls as ``m^(-1/3)``, so the
  capacity, with the gap ``sqrt(value / m)``, grows with ``m``.

Rows that end in ``-collection`` are gaps as the public collection of Neyshabur et al. 2019 prints them, ``product-*``
and ``path-*`` its measures: products over layers divided by gamma, and ``(sum over paths of prod |w|^p)^(1/p) /
gamma`` with biases as weights from an input of 1. Constants, ``max ||x||`` and the price of a gamma chosen from the
data are dropped everywhere: no row is a guarantee. For convolutions the norms are those of the kernel, as in the
collection.
"""

from __future__ import annotations

import functools
import math

from bitcert.theory.formulas.products import (
    FROBENIUS,
    NORM_1INF,
    NORM_3_15,
    Norm,
    chain_conditions,
    collection_row,
    log_capacity,
    product_row,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import finite
from bitcert.theory.registry import bound
from bitcert.theory.value import Absent, BoundValue, Condition, Ingredient, Unit, need, outside

_SOURCE = "Neyshabur, Tomioka & Srebro 2015"
_COLLECTION = "Neyshabur et al. 2019, collection of measures"
_DROPPED = "constants, max ||x||, logarithms, and the price of choosing gamma from the data"

_gap = functools.partial(
    bound, dropped="constants and additive logarithms, by the collection's own account", unit=Unit.GAP
)
_measure = functools.partial(bound, dropped="everything: it is a measure of size, not a bound", unit=Unit.PLAIN)


def _conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    return (*chain_conditions(inputs, "ReLU activations only"), inputs.fully_connected)


def _capacity(inputs: BoundInputs, norm: Norm, value: float, *notes: str, **more: Ingredient) -> BoundValue:
    ingredients = {norm.name: norm.values(inputs), **more, **inputs.facts("gamma", "m", "d")}
    return BoundValue(value, conditions=_conditions(inputs), ingredients=ingredients, notes=notes)


@bound(
    "neyshabur2015-frobenius",
    f"{_SOURCE}, Thm 1 with p = q = 2",
    "Frobenius norms",
    "Examples needed if every layer could act with all its weights at full strength at once.",
    f"the factor 4^(d-1), {_DROPPED}",
)
def frobenius_capacity(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_F^2``."""
    return _capacity(inputs, FROBENIUS, log_capacity(inputs, FROBENIUS))


@bound(
    "neyshabur2015-frobenius-2d",
    f"{_SOURCE}, Thm 1 with p = q = 2, with 2^d in the gap",
    "Frobenius norms with the factor for depth",
    "Examples needed by the Frobenius norms, with the factor of two that the proof pays for every layer.",
    _DROPPED,
)
def frobenius_capacity_with_depth(inputs: BoundInputs) -> BoundValue:
    """``(4^d / gamma^2) prod_i ||A^i||_F^2``: the gap ``sqrt(value / m)`` has the factor ``2^d``."""
    value = 2 * inputs.depth * math.log(2) + 2 * FROBENIUS.log_product(inputs) - 2 * math.log(inputs.gamma)
    note = "The theorem's factor is 2^(d-1); 2^d is what tables print."
    return _capacity(inputs, FROBENIUS, value, note, factor_in_the_gap="2^d")


@bound(
    "neyshabur2015-l3-1.5",
    f"{_SOURCE}, Thm 1 with p = 3, q = 1.5",
    "l3,1.5 norms",
    "As with the Frobenius norms, in a norm that pays less for many units and learns slower from data.",
    f"the factor 4^(d-1), {_DROPPED}",
)
def l3_15_capacity(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_{3,1.5}^2 m^(1/3)``."""
    note = "The gap is prod ||A||_{3,1.5} / (gamma m^(1/3)): a rate of m^(-1/3), not m^(-1/2)."
    return _capacity(inputs, NORM_3_15, log_capacity(inputs, NORM_3_15) + math.log(inputs.m) / 3, note)


@_gap(
    "neyshabur2015-frobenius-collection",
    f"{_COLLECTION}, Frobenius bound",
    "Frobenius norms, as the collection prints them",
    "The Frobenius norms as an estimate of how much worse the network is on new data.",
)
def frobenius_collection(inputs: BoundInputs) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i ||A^i||_F / (gamma sqrt(m))``."""
    return collection_row(inputs, FROBENIUS, 1 / 2, _conditions(inputs))


@_gap(
    "neyshabur2015-l3-1.5-collection",
    f"{_COLLECTION}, L_{{3,1.5}} bound",
    "l3,1.5 norms, as the collection prints them",
    "The l3,1.5 norms as an estimate of how much worse the network is on new data.",
)
def l3_15_collection(inputs: BoundInputs) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i ||A^i||_{3,1.5} / (gamma m^(1/3))``."""
    return collection_row(inputs, NORM_3_15, 1 / 3, _conditions(inputs))


product_l1inf = _measure(
    "product-l1inf",
    f"{_COLLECTION}, L_{{1,inf}} norm",
    "product of l1,infinity norms over gamma",
    "How far a change of the input could be blown up, measured by the largest sums of weights.",
)(lambda inputs: product_row(inputs, NORM_1INF, "gamma", "m", "d"), "prod_i ||A^i||_{1,inf} / gamma.")

product_frobenius = _measure(
    "product-frobenius",
    f"{_COLLECTION}, Frobenius norm",
    "product of Frobenius norms over gamma",
    "The size of all layers, multiplied, in units of the margin.",
)(lambda inputs: product_row(inputs, FROBENIUS, "gamma", "m", "d"), "prod_i ||A^i||_F / gamma.")

product_l3_15 = _measure(
    "product-l3-1.5",
    f"{_COLLECTION}, L_{{3,1.5}} norm",
    "product of l3,1.5 norms over gamma",
    "The size of all layers, multiplied, in a norm between the other two.",
)(lambda inputs: product_row(inputs, NORM_3_15, "gamma", "m", "d"), "prod_i ||A^i||_{3,1.5} / gamma.")


def _path(inputs: BoundInputs, p: float) -> BoundValue:
    """``(sum over paths of prod |w|^p)^(1/p) / gamma``, biases included; the norm without them as an ingredient."""
    logs = need(inputs.path_norms_with_biases)
    if p not in logs:
        raise outside(f"does not apply: no path norm with p = {p:g} was computed")
    plain = inputs.path_norms
    without = None if isinstance(plain, Absent) else plain.get(p)
    return BoundValue(
        logs[p] - math.log(inputs.gamma),
        ingredients={
            "p": p,
            "log_path_norm": finite(logs[p]),
            "log_path_norm_without_biases": finite(without),
            "gamma": inputs.gamma,
        },
        notes=("Run on an input of ones with every weight and bias |w|^p; max pooling as in the network.",),
    )


path_l1 = _measure(
    "path-l1",
    f"{_COLLECTION}, L1_path norm; {_SOURCE}, Section 5",
    "l1 path norm over gamma",
    "All ways through the network, each with the product of its weights, added up in units of the margin.",
)(lambda inputs: _path(inputs, 1.0), "sum over paths of prod |w|, over gamma.")

path_l15 = _measure(
    "path-l1.5",
    f"{_COLLECTION}, L1.5_path norm",
    "l1.5 path norm over gamma",
    "All ways through the network added up, with strong ways counting for more, in units of the margin.",
)(lambda inputs: _path(inputs, 1.5), "(sum over paths of prod |w|^1.5)^(1/1.5), over gamma.")

path_l2 = _measure(
    "path-l2",
    f"{_COLLECTION}, L2_path norm; {_SOURCE}, Section 5",
    "l2 path norm over gamma",
    "All ways through the network by the squares of their weights, in units of the margin.",
)(lambda inputs: _path(inputs, 2.0), "sqrt(sum over paths of prod w^2), over gamma.")
