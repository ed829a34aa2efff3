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

import functools
import math

from bitcert.theory.formulas.products import (
    FROBENIUS,
    OPERATOR,
    SCHATTEN_15,
    SPECTRAL,
    TRACE,
    chain_conditions,
    log_ratios,
    norm_conditions,
    product_row,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Condition, Unit

_PAPER = "Neyshabur, Bhojanapalli & Srebro 2018, Thm 1"
_COLLECTION = "Neyshabur et al. 2019, collection of measures"
_DROPPED = "constants, ln(d h), ln(d m / delta), and the price of choosing gamma from the data"

_measure = functools.partial(bound, dropped="everything: it is a measure of size, not a bound", unit=Unit.PLAIN)


def _conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    chain = chain_conditions(inputs, "ReLU activations only")
    return (*chain, inputs.fully_connected, *norm_conditions(inputs))


def _capacity(inputs: BoundInputs, init: bool) -> BoundValue:
    (name, above), below = FROBENIUS.read(inputs, init), OPERATOR.values(inputs)
    ratios = log_ratios(inputs, above, below)
    common = (
        math.log(inputs.width)
        + 2 * (math.log(inputs.depth) + log(inputs.sample.largest_input) - math.log(inputs.gamma))
        + 2 * OPERATOR.log_product(inputs)
    )
    layers = inputs.parts(common + 2 * ratio for ratio in ratios)
    return BoundValue(
        log_sum(layer.log for layer in layers),
        conditions=_conditions(inputs),
        ingredients={name: above, "operator_norm": below, **inputs.facts("max_input_norm", "gamma", "m", "d", "h")},
        layers=layers,
    )


spec_fro = bound(
    "neyshabur2018-spec-fro",
    _PAPER,
    "spectral and Frobenius norms",
    "Examples needed if noise on the weights were amplified by every layer as much as it can be.",
    _DROPPED,
)(
    lambda inputs: _capacity(inputs, init=False),
    "(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A||_F^2 / ||A||_2^2.",
)

spec_fro_init = bound(
    "neyshabur2018-spec-fro-init",
    f"{_PAPER} with the prior at the initial weights",
    "spectral and Frobenius norms, from initialisation",
    "Examples needed if noise on what training has moved were amplified as much as it can be.",
    _DROPPED,
)(
    lambda inputs: _capacity(inputs, init=True),
    "(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A - A_init||_F^2 / ||A||_2^2.",
)


@bound(
    "neyshabur2018-spec-fro-collection",
    f"{_COLLECTION}, Spec_Fro bound",
    "spectral and Frobenius norms, as the collection prints them",
    "How much worse the network would be on new data if noise on what was learnt grew as much as it can.",
    "constants and additive logarithms, by the collection's own account",
    unit=Unit.GAP,
)
def spec_fro_collection(inputs: BoundInputs) -> BoundValue:
    """``d prod ||A||_2 / gamma (sum h_i ||A - A_init||_F^2 / ||A||_2^2)^(1/2) / sqrt(m)``."""
    above, below = FROBENIUS.distances(inputs), SPECTRAL.values(inputs)
    units = tuple(float(layer.channels) for layer in inputs.layers)
    ratios = log_ratios(inputs, above, below)
    total = log_sum(log(h) + 2 * ratio for h, ratio in zip(units, ratios, strict=True))
    product = SPECTRAL.log_product(inputs) - math.log(inputs.gamma)
    return BoundValue(
        math.log(inputs.depth) + product + total / 2 - math.log(inputs.m) / 2,
        conditions=_conditions(inputs),
        ingredients={"distance_frobenius": above, "spectral": below, "h": units, **inputs.facts("gamma", "m", "d")},
    )


product_spectral = _measure(
    "product-spectral",
    f"{_COLLECTION}, Spectral norm",
    "product of spectral norms over gamma",
    "How far a change of the input could be blown up at worst, in units of the margin.",
)(lambda inputs: product_row(inputs, SPECTRAL, "gamma", "d"), "prod_i ||A^i||_2 / gamma, of the reshaped weights.")

product_schatten_15 = _measure(
    "product-l1.5-operator",
    f"{_COLLECTION}, L_1.5 operator norm",
    "product of Schatten 1.5 norms over gamma",
    "The size of all layers, multiplied, in a norm that counts every direction a layer can act in.",
)(lambda inputs: product_row(inputs, SCHATTEN_15, "gamma", "d"), "prod_i (sum of sigma^1.5)^(1/1.5) / gamma.")

product_trace = _measure(
    "product-trace",
    f"{_COLLECTION}, Trace norm",
    "product of trace norms over gamma",
    "The size of all layers, multiplied, with every direction a layer can act in counted in full.",
)(lambda inputs: product_row(inputs, TRACE, "gamma", "d"), "prod_i (sum of sigma) / gamma.")
