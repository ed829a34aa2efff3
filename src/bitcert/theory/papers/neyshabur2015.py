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

import math

from bitcert.theory.formulas.products import (
    Norm,
    frobenius,
    log_golowich,
    log_of_product,
    network_conditions,
    norm_1inf,
    norm_3_15,
    values,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.registry import bound
from bitcert.theory.value import Absent, BoundValue, Condition, Ingredient, Kind, Unit, need, outside

_SOURCE = "Neyshabur, Tomioka & Srebro 2015"
_COLLECTION = "Neyshabur et al. 2019, collection of measures"
_DROPPED = "constants, max ||x||, logarithms, and the price of choosing gamma from the data"
_MEASURE_DROPPED = "everything: it is a measure of size, not a bound"


def _conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    names = ("chain of layers", "bias-free", "ReLU activations only", "every weight layer measured")
    return (*network_conditions(inputs, *names), inputs.fully_connected)


def _ingredients(inputs: BoundInputs, **norms: Ingredient) -> dict[str, Ingredient]:
    return {**norms, "gamma": inputs.gamma, "m": inputs.m, "d": inputs.depth}


@bound(
    "neyshabur2015-frobenius",
    f"{_SOURCE}, Thm 1 with p = q = 2",
    "Frobenius norms",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed if every layer could act with all its weights at full strength at once.",
    dropped=f"the factor 4^(d-1), {_DROPPED}",
)
def frobenius_capacity(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_F^2``."""
    return BoundValue(
        2 * log_of_product(inputs, frobenius) - 2 * math.log(inputs.gamma),
        conditions=_conditions(inputs),
        ingredients=_ingredients(inputs, frobenius=values(inputs, frobenius)),
    )


@bound(
    "neyshabur2015-frobenius-2d",
    f"{_SOURCE}, Thm 1 with p = q = 2, with 2^d in the gap",
    "Frobenius norms with the factor for depth",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed by the Frobenius norms, with the factor of two that the proof pays for every layer.",
    dropped=_DROPPED,
)
def frobenius_capacity_with_depth(inputs: BoundInputs) -> BoundValue:
    """``(4^d / gamma^2) prod_i ||A^i||_F^2``: the gap ``sqrt(value / m)`` has the factor ``2^d``."""
    return BoundValue(
        2 * inputs.depth * math.log(2) + 2 * log_of_product(inputs, frobenius) - 2 * math.log(inputs.gamma),
        conditions=_conditions(inputs),
        ingredients=_ingredients(inputs, frobenius=values(inputs, frobenius), factor_in_the_gap="2^d"),
        notes=("The theorem's factor is 2^(d-1); 2^d is what tables print.",),
    )


@bound(
    "neyshabur2015-l3-1.5",
    f"{_SOURCE}, Thm 1 with p = 3, q = 1.5",
    "l3,1.5 norms",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="As with the Frobenius norms, in a norm that pays less for many units and learns slower from data.",
    dropped=f"the factor 4^(d-1), {_DROPPED}",
)
def l3_15_capacity(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_{3,1.5}^2 m^(1/3)``."""
    return BoundValue(
        2 * log_of_product(inputs, norm_3_15) - 2 * math.log(inputs.gamma) + math.log(inputs.m) / 3,
        conditions=_conditions(inputs),
        ingredients=_ingredients(inputs, norm_3_15=values(inputs, norm_3_15)),
        notes=("The gap is prod ||A||_{3,1.5} / (gamma m^(1/3)): a rate of m^(-1/3), not m^(-1/2).",),
    )


def _gap(inputs: BoundInputs, norm: Norm, name: str, rate: float) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i norm(A^i) / (gamma m^rate)``."""
    product = log_of_product(inputs, norm) - math.log(inputs.gamma)
    size: dict[str, Ingredient] = {"alpha": math.exp(log_golowich(inputs)), "input_size": inputs.sample.input_size}
    return BoundValue(
        log_golowich(inputs) + product - rate * math.log(inputs.m),
        conditions=_conditions(inputs),
        ingredients=_ingredients(inputs, **{name: values(inputs, norm)}, **size),
    )


@bound(
    "neyshabur2015-frobenius-collection",
    f"{_COLLECTION}, Frobenius bound",
    "Frobenius norms, as the collection prints them",
    kind=Kind.MEASURE,
    unit=Unit.GAP,
    sentence="The Frobenius norms as an estimate of how much worse the network is on new data.",
    dropped="constants and additive logarithms, by the collection's own account",
)
def frobenius_collection(inputs: BoundInputs) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i ||A^i||_F / (gamma sqrt(m))``."""
    return _gap(inputs, frobenius, "frobenius", 1 / 2)


@bound(
    "neyshabur2015-l3-1.5-collection",
    f"{_COLLECTION}, L_{{3,1.5}} bound",
    "l3,1.5 norms, as the collection prints them",
    kind=Kind.MEASURE,
    unit=Unit.GAP,
    sentence="The l3,1.5 norms as an estimate of how much worse the network is on new data.",
    dropped="constants and additive logarithms, by the collection's own account",
)
def l3_15_collection(inputs: BoundInputs) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i ||A^i||_{3,1.5} / (gamma m^(1/3))``."""
    return _gap(inputs, norm_3_15, "norm_3_15", 1 / 3)


def _product(inputs: BoundInputs, norm: Norm, name: str) -> BoundValue:
    log = log_of_product(inputs, norm) - math.log(inputs.gamma)
    return BoundValue(log, ingredients=_ingredients(inputs, **{name: values(inputs, norm)}))


@bound(
    "product-l1inf",
    f"{_COLLECTION}, L_{{1,inf}} norm",
    "product of l1,infinity norms over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far a change of the input could be blown up, measured by the largest sums of weights.",
    dropped=_MEASURE_DROPPED,
)
def product_l1inf(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_{1,inf} / gamma``."""
    return _product(inputs, norm_1inf, "norm_1inf")


@bound(
    "product-frobenius",
    f"{_COLLECTION}, Frobenius norm",
    "product of Frobenius norms over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of all layers, multiplied, in units of the margin.",
    dropped=_MEASURE_DROPPED,
)
def product_frobenius(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_F / gamma``."""
    return _product(inputs, frobenius, "frobenius")


@bound(
    "product-l3-1.5",
    f"{_COLLECTION}, L_{{3,1.5}} norm",
    "product of l3,1.5 norms over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of all layers, multiplied, in a norm between the other two.",
    dropped=_MEASURE_DROPPED,
)
def product_l3_15(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_{3,1.5} / gamma``."""
    return _product(inputs, norm_3_15, "norm_3_15")


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
            "log_path_norm": _finite(logs[p]),
            "log_path_norm_without_biases": _finite(without),
            "gamma": inputs.gamma,
        },
        notes=("Run on an input of ones with every weight and bias |w|^p; max pooling as in the network.",),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


@bound(
    "path-l1",
    f"{_COLLECTION}, L1_path norm; {_SOURCE}, Section 5",
    "l1 path norm over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="All ways through the network, each with the product of its weights, added up in units of the margin.",
    dropped=_MEASURE_DROPPED,
)
def path_l1(inputs: BoundInputs) -> BoundValue:
    """``sum over paths of prod |w|``, over gamma."""
    return _path(inputs, 1.0)


@bound(
    "path-l1.5",
    f"{_COLLECTION}, L1.5_path norm",
    "l1.5 path norm over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="All ways through the network added up, with strong ways counting for more, in units of the margin.",
    dropped=_MEASURE_DROPPED,
)
def path_l15(inputs: BoundInputs) -> BoundValue:
    """``(sum over paths of prod |w|^1.5)^(1/1.5)``, over gamma."""
    return _path(inputs, 1.5)


@bound(
    "path-l2",
    f"{_COLLECTION}, L2_path norm; {_SOURCE}, Section 5",
    "l2 path norm over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="All ways through the network by the squares of their weights, in units of the margin.",
    dropped=_MEASURE_DROPPED,
)
def path_l2(inputs: BoundInputs) -> BoundValue:
    """``sqrt(sum over paths of prod w^2)``, over gamma."""
    return _path(inputs, 2.0)
