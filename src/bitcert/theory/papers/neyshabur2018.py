"""Spectral norms times Frobenius norms (Neyshabur, Bhojanapalli & Srebro 2018, Thm 1), from 0 and from initialisation.

``(1/gamma^2) h d^2 max||x||^2 prod_i ||A^i||_2^2 sum_i ||A^i||_F^2 / ||A^i||_2^2`` (docs/theory.md section 3.3), with
``h`` the largest number of units or channels. The PAC-Bayes proof may centre its prior at any weights fixed beforehand,
so the second row has ``||A - A_init||_F^2``. The Lipschitz factors ``||A||_2`` are those of the linear map at the real
input size, ``||A||_F`` is that of the kernel; for a convolution the theorem's matrix is the map, so it speaks of fully
connected networks only. Constants, ``ln(d h)``, ``ln(d m / delta)`` and the union over margins are dropped, and
``max||x||`` is the sample's where the theorem needs a limit for all of the distribution: no row is a guarantee.

The third row is the gap as the public collection of Neyshabur et al. 2019 prints it, with the reshaped spectral norm
and ``h_i`` the units of layer ``i``: ``d prod_i ||A^i||_2 / gamma (sum_i h_i ||A^i - A^i_init||_F^2 /
||A^i||_2^2)^(1/2) / sqrt(m)``. ``product-spectral``, ``product-l1.5-operator`` and ``product-trace`` are its products
of Schatten norms (``p`` = infinity, 1.5 and 1) over gamma.
"""

from __future__ import annotations

import math

from bitcert.theory.formulas.products import (
    Norm,
    distances,
    frobenius,
    log_of_product,
    log_ratios,
    network_conditions,
    norm_conditions,
    operator,
    schatten_15,
    spectral,
    trace,
    values,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Condition, Kind, LayerValue, Unit

_DROPPED = "constants, ln(d h), ln(d m / delta), and the price of choosing gamma from the data"
_COLLECTION = "Neyshabur et al. 2019, collection of measures"
_MEASURE_DROPPED = "everything: it is a measure of size, not a bound"


def _conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    names = ("chain of layers", "bias-free", "ReLU activations only", "every weight layer measured")
    return (*network_conditions(inputs, *names), inputs.fully_connected, *norm_conditions(inputs))


def _capacity(inputs: BoundInputs, above: tuple[float, ...], name: str) -> BoundValue:
    below = values(inputs, operator)
    ratios = log_ratios(inputs, above, below)
    common = (
        math.log(inputs.width)
        + 2 * (math.log(inputs.depth) + log(inputs.sample.largest_input) - math.log(inputs.gamma))
        + 2 * log_of_product(inputs, operator)
    )
    layers = tuple(
        LayerValue(own.name, common + 2 * ratio, own.num_weights)
        for own, ratio in zip(inputs.layers, ratios, strict=True)
    )
    return BoundValue(
        log_sum(layer.log for layer in layers),
        conditions=_conditions(inputs),
        ingredients={
            name: above,
            "operator_norm": below,
            "max_input_norm": inputs.sample.largest_input,
            "gamma": inputs.gamma,
            "m": inputs.m,
            "d": inputs.depth,
            "h": inputs.width,
        },
        layers=layers,
    )


@bound(
    "neyshabur2018-spec-fro",
    "Neyshabur, Bhojanapalli & Srebro 2018, Thm 1",
    "spectral and Frobenius norms",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed if noise on the weights were amplified by every layer as much as it can be.",
    dropped=_DROPPED,
)
def spec_fro(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A||_F^2 / ||A||_2^2``."""
    return _capacity(inputs, values(inputs, frobenius), "frobenius")


@bound(
    "neyshabur2018-spec-fro-init",
    "Neyshabur, Bhojanapalli & Srebro 2018, Thm 1 with the prior at the initial weights",
    "spectral and Frobenius norms, from initialisation",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed if noise on what training has moved were amplified as much as it can be.",
    dropped=_DROPPED,
)
def spec_fro_init(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A - A_init||_F^2 / ||A||_2^2``."""
    return _capacity(inputs, distances(inputs, frobenius), "distance_frobenius")


@bound(
    "neyshabur2018-spec-fro-collection",
    f"{_COLLECTION}, Spec_Fro bound",
    "spectral and Frobenius norms, as the collection prints them",
    kind=Kind.MEASURE,
    unit=Unit.GAP,
    sentence="How much worse the network would be on new data if noise on what was learnt grew as much as it can.",
    dropped="constants and additive logarithms, by the collection's own account",
)
def spec_fro_collection(inputs: BoundInputs) -> BoundValue:
    """``d prod ||A||_2 / gamma (sum h_i ||A - A_init||_F^2 / ||A||_2^2)^(1/2) / sqrt(m)``."""
    above, below = distances(inputs, frobenius), values(inputs, spectral)
    units = tuple(float(layer.channels) for layer in inputs.layers)
    ratios = log_ratios(inputs, above, below)
    total = log_sum(log(h) + 2 * ratio for h, ratio in zip(units, ratios, strict=True))
    product = log_of_product(inputs, spectral) - math.log(inputs.gamma)
    return BoundValue(
        math.log(inputs.depth) + product + total / 2 - math.log(inputs.m) / 2,
        conditions=_conditions(inputs),
        ingredients={
            "distance_frobenius": above,
            "spectral": below,
            "h": units,
            "gamma": inputs.gamma,
            "m": inputs.m,
            "d": inputs.depth,
        },
    )


def _product(inputs: BoundInputs, norm: Norm, name: str) -> BoundValue:
    found = log_of_product(inputs, norm) - math.log(inputs.gamma)
    return BoundValue(found, ingredients={name: values(inputs, norm), "gamma": inputs.gamma, "d": inputs.depth})


@bound(
    "product-spectral",
    f"{_COLLECTION}, Spectral norm",
    "product of spectral norms over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="How far a change of the input could be blown up at worst, in units of the margin.",
    dropped=_MEASURE_DROPPED,
)
def product_spectral(inputs: BoundInputs) -> BoundValue:
    """``prod_i ||A^i||_2 / gamma``, of the reshaped weights."""
    return _product(inputs, spectral, "spectral")


@bound(
    "product-l1.5-operator",
    f"{_COLLECTION}, L_1.5 operator norm",
    "product of Schatten 1.5 norms over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of all layers, multiplied, in a norm that counts every direction a layer can act in.",
    dropped=_MEASURE_DROPPED,
)
def product_schatten_15(inputs: BoundInputs) -> BoundValue:
    """``prod_i (sum of sigma^1.5)^(1/1.5) / gamma``."""
    return _product(inputs, schatten_15, "schatten_1.5")


@bound(
    "product-trace",
    f"{_COLLECTION}, Trace norm",
    "product of trace norms over gamma",
    kind=Kind.MEASURE,
    unit=Unit.PLAIN,
    sentence="The size of all layers, multiplied, with every direction a layer can act in counted in full.",
    dropped=_MEASURE_DROPPED,
)
def product_trace(inputs: BoundInputs) -> BoundValue:
    """``prod_i (sum of sigma) / gamma``."""
    return _product(inputs, trace, "trace_norm")
