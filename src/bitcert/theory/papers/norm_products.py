"""Capacities of products of norms: the baselines of 2002 to 2018, and what a public collection of measures prints.

``||A||_{p,q}`` is the l_q norm over units of the l_p norms of their weights (docs/theory.md section 3.3).

- Bartlett & Mendelson 2002: ``(1/gamma^2) prod_i ||A^i||_{1,inf}^2`` with ``||A||_{1,inf}`` the largest l1 norm of a
  unit's weights. For a convolution the norm of the kernel is also that of its map: a unit is one output place, and only
  places at the border see fewer weights. The theorem has ``4^d``, ``max ||x||_inf^2`` and ``ln(input size)`` besides.
- Neyshabur, Tomioka & Srebro 2015: ``(1/gamma^2) prod_i ||A^i||_F^2``, and the same times ``4^d``. The theorem has
  ``(2^(d-1))^2``; tables that print ``2^d`` multiply the gap by it (Guha 2023's baselines), which multiplies a capacity
  by its square. In the l3,1.5 norm ``(1/gamma^2) prod_i ||A^i||_{3,1.5}^2 m^(1/3)``: its gap falls as ``m^(-1/3)``, so
  the capacity, with the gap ``sqrt(value / m)``, grows with ``m``.
- Bartlett, Foster & Telgarsky 2017: ``(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i||_{2,1} / ||A^i||_2)^(2/3))^3``,
  where ``||A||_{2,1}`` is the paper's ``||A^T||_{2,1}``: the sum over units of the l2 norm of their weights. Any
  reference matrices fixed beforehand are allowed, so a second row has ``||A - A_init||_{2,1}`` in the numerator. A
  public implementation of Guha 2023's baselines computes the Frobenius norm there; the formula is used here. The l2,1
  norm of a convolution is that of its kernel, as in the papers' tables, although the theorem's matrix has a row for
  every output place. The theorem holds with ``||X||_F^2 / m`` and ``ln(2 h^2)``.
- Neyshabur, Bhojanapalli & Srebro 2018: ``(1/gamma^2) h d^2 max||x||^2 prod_i ||A^i||_2^2 sum_i ||A^i||_F^2 /
  ||A^i||_2^2`` with ``h`` the largest number of units or channels. The PAC-Bayes proof may centre its prior at any
  weights fixed beforehand, so a second row has ``||A - A_init||_F^2``. For a convolution the theorem's matrix is the
  map, so it speaks of fully connected networks only; ``max||x||`` is the sample's where the theorem needs a limit for
  all of the distribution.

The Lipschitz factors ``||A||_2`` are those of the linear map at the real input size; other norms are the kernel's.

Rows that end in ``-collection`` are gaps as the collection of Neyshabur et al. 2019 (a public repository,
"generalization-bounds") prints them, with the reshaped spectral norm and ``h_i`` the units of layer ``i``.
``product-*`` and ``path-*`` are its measures: products over layers divided by gamma, and ``(sum over paths of prod
|w|^p)^(1/p) / gamma`` with biases as weights from an input of 1.

Every theorem holds for a ``gamma`` fixed before the sample is seen, or with a union bound over margins. That, constants
and logarithms are dropped everywhere: no row is a guarantee.
"""

from __future__ import annotations

import functools
import math

from bitcert.canonical import finite
from bitcert.theory.formulas.products import (
    FROBENIUS,
    NORM_1INF,
    NORM_3_15,
    NORM_21,
    OPERATOR,
    SCHATTEN_15,
    SPECTRAL,
    TRACE,
    Norm,
    chain_conditions,
    log_path_norm,
    log_power_sum,
    log_ratios,
    norm_conditions,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.registry import Bound, Function, bound
from bitcert.theory.value import Absent, BoundValue, Condition, Ingredient, Unit

_OF_2015 = "Neyshabur, Tomioka & Srebro 2015"
_OF_2017 = "Bartlett, Foster & Telgarsky 2017, Thm 1.1"
_OF_2018 = "Neyshabur, Bhojanapalli & Srebro 2018, Thm 1"
_COLLECTION = "Neyshabur et al. 2019, collection of measures"
_LIPSCHITZ = "activations 1-Lipschitz"
_GAMMA = "the price of choosing gamma from the data"
_DROPPED_2015 = f"constants, max ||x||, logarithms, and {_GAMMA}"
_DROPPED_2017 = f"constants, ||X||_F^2 / m, ln h, logarithms of m, and {_GAMMA}"
_DROPPED_2018 = f"constants, ln(d h), ln(d m / delta), and {_GAMMA}"

_measure = functools.partial(bound, dropped="everything: it is a measure of size, not a bound", unit=Unit.PLAIN)


def _dense(inputs: BoundInputs, activations: str = "ReLU activations only") -> tuple[Condition, ...]:
    return (*chain_conditions(inputs, activations), inputs.fully_connected)


def _group_norms(
    inputs: BoundInputs,
    norm: Norm,
    conditions: tuple[Condition, ...],
    *notes: str,
    log_depth: float = 0.0,
    log_rate: float = 0.0,
    **more: Ingredient,
) -> BoundValue:
    """``(1/gamma^2) prod_i norm(A^i)^2`` times factors for the depth and for the rate in ``m``, by their logarithms."""
    return BoundValue(
        log_depth + 2 * norm.log_product(inputs) - 2 * math.log(inputs.margin) + log_rate,
        conditions=conditions,
        ingredients={norm.name: norm.values(inputs), **more, **inputs.facts("gamma", "m", "d")},
        notes=notes,
    )


def _collection_gap(inputs: BoundInputs, norm: Norm, rate: float, conditions: tuple[Condition, ...]) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i norm(A^i) / (gamma m^rate)``.

    The root is the factor alpha of the collection, after Golowich et al. 2018.
    """
    log_alpha = math.log(inputs.depth + math.log(max(inputs.sample.input_size, 1))) / 2
    alpha: dict[str, Ingredient] = {norm.name: norm.values(inputs), "alpha": math.exp(log_alpha)}
    return BoundValue(
        log_alpha + (norm.log_product(inputs) - math.log(inputs.margin)) - rate * math.log(inputs.m),
        conditions=conditions,
        ingredients={**alpha, **inputs.facts("input_size", "gamma", "m", "d")},
    )


def _spectral_21(inputs: BoundInputs, init: bool) -> BoundValue:
    (name, above), below = NORM_21.read(inputs, init), OPERATOR.values(inputs)
    ratios = log_ratios(inputs, above, below)
    return BoundValue(
        2 * OPERATOR.log_product(inputs) + 3 * log_power_sum(ratios, 2 / 3) - 2 * math.log(inputs.margin),
        conditions=(*_dense(inputs, _LIPSCHITZ), *norm_conditions(inputs)),
        ingredients={name: above, "operator_norm": below, **inputs.facts("gamma", "m", "d")},
    )


def _spectral_21_gap(inputs: BoundInputs) -> BoundValue:
    above, below = NORM_21.distances(inputs), SPECTRAL.values(inputs)
    ratios = log_ratios(inputs, above, below)
    logarithms = log(math.log(inputs.m)) + log(math.log(max(inputs.num_parameters, 1)))
    product = SPECTRAL.log_product(inputs) - math.log(inputs.margin)
    return BoundValue(
        logarithms + product + 1.5 * log_power_sum(ratios, 2 / 3) - math.log(inputs.m) / 2,
        conditions=(*_dense(inputs, _LIPSCHITZ), *norm_conditions(inputs)),
        ingredients={NORM_21.moved: above, "spectral": below, **inputs.facts("W", "gamma", "m")},
    )


def _spectral_frobenius(inputs: BoundInputs, init: bool) -> BoundValue:
    (name, above), below = FROBENIUS.read(inputs, init), OPERATOR.values(inputs)
    ratios = log_ratios(inputs, above, below)
    common = (
        math.log(inputs.width)
        + 2 * (math.log(inputs.depth) + log(inputs.sample.largest_input) - math.log(inputs.margin))
        + 2 * OPERATOR.log_product(inputs)
    )
    layers = inputs.parts(common + 2 * ratio for ratio in ratios)
    return BoundValue(
        log_sum(layer.log for layer in layers),
        conditions=(*_dense(inputs), *norm_conditions(inputs)),
        ingredients={name: above, "operator_norm": below, **inputs.facts("max_input_norm", "gamma", "m", "d", "h")},
        layers=layers,
    )


def _spectral_frobenius_gap(inputs: BoundInputs) -> BoundValue:
    above, below = FROBENIUS.distances(inputs), SPECTRAL.values(inputs)
    units = tuple(float(layer.channels) for layer in inputs.layers)
    ratios = log_ratios(inputs, above, below)
    total = log_sum(log(h) + 2 * ratio for h, ratio in zip(units, ratios, strict=True))
    product = SPECTRAL.log_product(inputs) - math.log(inputs.margin)
    return BoundValue(
        math.log(inputs.depth) + product + total / 2 - math.log(inputs.m) / 2,
        conditions=(*_dense(inputs), *norm_conditions(inputs)),
        ingredients={FROBENIUS.moved: above, "spectral": below, "h": units, **inputs.facts("gamma", "m", "d")},
    )


def _path(inputs: BoundInputs, p: float) -> BoundValue:
    """``(sum over paths of prod |w|^p)^(1/p) / gamma``, biases included; the norm without them as an ingredient."""
    value, plain = log_path_norm(inputs, p), inputs.path_norms
    without = None if isinstance(plain, Absent) else plain.get(p)
    return BoundValue(
        value - math.log(inputs.margin),
        ingredients={
            "p": p,
            "log_path_norm": finite(value),
            "log_path_norm_without_biases": finite(without),
            "gamma": inputs.margin,
        },
        notes=("Run on an input of ones with every weight and bias |w|^p; max pooling as in the network.",),
    )


def _gap(paper: str, norms: str, called: str, sentence: str, formula: str, function: Function) -> Bound:
    """A gap under the name that the collection calls it by."""
    title = f"{norms}, as the collection prints them"
    dropped = "constants and additive logarithms, by the collection's own account"
    make = bound(f"{paper}-collection", f"{_COLLECTION}, {called}", title, sentence, dropped, unit=Unit.GAP)
    return make(function, formula)


def _product(name: str, norm: Norm, norms: str, called: str, sentence: str, formula: str, *more: str) -> Bound:
    """``prod_i norm(A^i) / gamma``, a measure without conditions; ``more`` are ingredients beside gamma and d."""

    def value(inputs: BoundInputs) -> BoundValue:
        product = norm.log_product(inputs) - math.log(inputs.margin)
        return BoundValue(product, ingredients={norm.name: norm.values(inputs), **inputs.facts("gamma", *more, "d")})

    title = f"product of {norms} norms over gamma"
    return _measure(f"product-{name}", f"{_COLLECTION}, {called}", title, sentence)(value, formula)


ROWS = (
    bound(
        "bartlett2002-l1inf",
        f"Bartlett & Mendelson 2002; {_OF_2015}, Thm 1 with p = 1, q = infinity",
        "l1,infinity norms",
        "Examples needed if every unit could add up its largest inputs at once, layer after layer.",
        f"the factor 4^d, max ||x||_inf^2, ln(input size), and {_GAMMA}",
    )(
        lambda inputs: _group_norms(inputs, NORM_1INF, chain_conditions(inputs, _LIPSCHITZ)),
        "(1/gamma^2) prod_i ||A^i||_{1,inf}^2.",
    ),
    _gap(
        "bartlett2002-l1inf",
        "l1,infinity norms",
        "L1_max bound",
        "How much worse the network would be on new data if units could add up their largest inputs at once.",
        "sqrt(d + ln(input size)) prod_i ||A^i||_{1,inf} / (gamma sqrt(m)).",
        lambda inputs: _collection_gap(inputs, NORM_1INF, 1 / 2, chain_conditions(inputs, _LIPSCHITZ)),
    ),
    bound(
        "neyshabur2015-frobenius",
        f"{_OF_2015}, Thm 1 with p = q = 2",
        "Frobenius norms",
        "Examples needed if every layer could act with all its weights at full strength at once.",
        f"the factor 4^(d-1), {_DROPPED_2015}",
    )(lambda inputs: _group_norms(inputs, FROBENIUS, _dense(inputs)), "(1/gamma^2) prod_i ||A^i||_F^2."),
    bound(
        "neyshabur2015-frobenius-2d",
        f"{_OF_2015}, Thm 1 with p = q = 2, with 2^d in the gap",
        "Frobenius norms with the factor for depth",
        "Examples needed by the Frobenius norms, with the factor of two that the proof pays for every layer.",
        _DROPPED_2015,
    )(
        lambda inputs: _group_norms(
            inputs,
            FROBENIUS,
            _dense(inputs),
            "The theorem's factor is 2^(d-1); 2^d is what tables print.",
            log_depth=2 * inputs.depth * math.log(2),
            factor_in_the_gap="2^d",
        ),
        "(4^d / gamma^2) prod_i ||A^i||_F^2: the gap sqrt(value / m) has the factor 2^d.",
    ),
    bound(
        "neyshabur2015-l3-1.5",
        f"{_OF_2015}, Thm 1 with p = 3, q = 1.5",
        "l3,1.5 norms",
        "As with the Frobenius norms, in a norm that pays less for many units and learns slower from data.",
        f"the factor 4^(d-1), {_DROPPED_2015}",
    )(
        lambda inputs: _group_norms(
            inputs,
            NORM_3_15,
            _dense(inputs),
            "The gap is prod ||A||_{3,1.5} / (gamma m^(1/3)): a rate of m^(-1/3), not m^(-1/2).",
            log_rate=math.log(inputs.m) / 3,
        ),
        "(1/gamma^2) prod_i ||A^i||_{3,1.5}^2 m^(1/3).",
    ),
    _gap(
        "neyshabur2015-frobenius",
        "Frobenius norms",
        "Frobenius bound",
        "The Frobenius norms as an estimate of how much worse the network is on new data.",
        "sqrt(d + ln(input size)) prod_i ||A^i||_F / (gamma sqrt(m)).",
        lambda inputs: _collection_gap(inputs, FROBENIUS, 1 / 2, _dense(inputs)),
    ),
    _gap(
        "neyshabur2015-l3-1.5",
        "l3,1.5 norms",
        "L_{3,1.5} bound",
        "The l3,1.5 norms as an estimate of how much worse the network is on new data.",
        "sqrt(d + ln(input size)) prod_i ||A^i||_{3,1.5} / (gamma m^(1/3)).",
        lambda inputs: _collection_gap(inputs, NORM_3_15, 1 / 3, _dense(inputs)),
    ),
    _product(
        "l1inf",
        NORM_1INF,
        "l1,infinity",
        "L_{1,inf} norm",
        "How far a change of the input could be blown up, measured by the largest sums of weights.",
        "prod_i ||A^i||_{1,inf} / gamma.",
        "m",
    ),
    _product(
        "frobenius",
        FROBENIUS,
        "Frobenius",
        "Frobenius norm",
        "The size of all layers, multiplied, in units of the margin.",
        "prod_i ||A^i||_F / gamma.",
        "m",
    ),
    _product(
        "l3-1.5",
        NORM_3_15,
        "l3,1.5",
        "L_{3,1.5} norm",
        "The size of all layers, multiplied, in a norm between the other two.",
        "prod_i ||A^i||_{3,1.5} / gamma.",
        "m",
    ),
    _measure(
        "path-l1",
        f"{_COLLECTION}, L1_path norm; {_OF_2015}, Section 5",
        "l1 path norm over gamma",
        "All ways through the network, each with the product of its weights, added up in units of the margin.",
    )(lambda inputs: _path(inputs, 1.0), "sum over paths of prod |w|, over gamma."),
    _measure(
        "path-l1.5",
        f"{_COLLECTION}, L1.5_path norm",
        "l1.5 path norm over gamma",
        "All ways through the network added up, with strong ways counting for more, in units of the margin.",
    )(lambda inputs: _path(inputs, 1.5), "(sum over paths of prod |w|^1.5)^(1/1.5), over gamma."),
    _measure(
        "path-l2",
        f"{_COLLECTION}, L2_path norm; {_OF_2015}, Section 5",
        "l2 path norm over gamma",
        "All ways through the network by the squares of their weights, in units of the margin.",
    )(lambda inputs: _path(inputs, 2.0), "sqrt(sum over paths of prod w^2), over gamma."),
    bound(
        "bartlett2017-spec-l12",
        _OF_2017,
        "spectral and l2,1 norms",
        "Examples needed if every layer stretched its input as much as it can, and more for layers of many units.",
        _DROPPED_2017,
    )(
        lambda inputs: _spectral_21(inputs, init=False),
        "(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i||_{2,1} / ||A^i||_2)^(2/3))^3.",
    ),
    bound(
        "bartlett2017-spec-l12-init",
        f"{_OF_2017} with the initial weights as reference",
        "spectral and l2,1 norms, from initialisation",
        "Examples needed if every layer stretched fully, where it pays only for how far training has moved it.",
        _DROPPED_2017,
    )(
        lambda inputs: _spectral_21(inputs, init=True),
        "(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i - A^i_init||_{2,1} / ||A^i||_2)^(2/3))^3.",
    ),
    _gap(
        "bartlett2017-spec-l12",
        "spectral and l2,1 norms",
        "Spec_L_{2,1} bound",
        "How much worse the network would be on new data if every layer stretched fully what training changed.",
        "ln(m) ln(W) prod ||A||_2 / gamma (sum (||A - A_init||_{2,1} / ||A||_2)^(2/3))^(3/2) / sqrt(m).",
        _spectral_21_gap,
    ),
    bound(
        "neyshabur2018-spec-fro",
        _OF_2018,
        "spectral and Frobenius norms",
        "Examples needed if noise on the weights were amplified by every layer as much as it can be.",
        _DROPPED_2018,
    )(
        lambda inputs: _spectral_frobenius(inputs, init=False),
        "(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A||_F^2 / ||A||_2^2.",
    ),
    bound(
        "neyshabur2018-spec-fro-init",
        f"{_OF_2018} with the prior at the initial weights",
        "spectral and Frobenius norms, from initialisation",
        "Examples needed if noise on what training has moved were amplified as much as it can be.",
        _DROPPED_2018,
    )(
        lambda inputs: _spectral_frobenius(inputs, init=True),
        "(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A - A_init||_F^2 / ||A||_2^2.",
    ),
    _gap(
        "neyshabur2018-spec-fro",
        "spectral and Frobenius norms",
        "Spec_Fro bound",
        "How much worse the network would be on new data if noise on what was learnt grew as much as it can.",
        "d prod ||A||_2 / gamma (sum h_i ||A - A_init||_F^2 / ||A||_2^2)^(1/2) / sqrt(m).",
        _spectral_frobenius_gap,
    ),
    _product(
        "spectral",
        SPECTRAL,
        "spectral",
        "Spectral norm",
        "How far a change of the input could be blown up at worst, in units of the margin.",
        "prod_i ||A^i||_2 / gamma, of the reshaped weights.",
    ),
    _product(
        "l1.5-operator",
        SCHATTEN_15,
        "Schatten 1.5",
        "L_1.5 operator norm",
        "The size of all layers, multiplied, in a norm that counts every direction a layer can act in.",
        "prod_i (sum of sigma^1.5)^(1/1.5) / gamma.",
    ),
    _product(
        "trace",
        TRACE,
        "trace",
        "Trace norm",
        "The size of all layers, multiplied, with every direction a layer can act in counted in full.",
        "prod_i (sum of sigma) / gamma.",
    ),
)
"""The rows of each paper in turn."""
