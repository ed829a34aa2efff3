"""Spectral norms times l2,1 norms (Bartlett, Foster & Telgarsky 2017, Thm 1.1), from 0 and from initialisation.

``(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i||_{2,1} / ||A^i||_2)^(2/3))^3`` (docs/theory.md section 3.3), where
``||A||_{2,1}`` is the paper's ``||A^T||_{2,1}``: the sum over units of the l2 norm of their weights. The paper allows
any reference matrices fixed beforehand, so the second row has ``||A - A_init||_{2,1}`` in the numerator. A public
implementation of Guha 2023's baselines computes the Frobenius norm there; the formula is used here.

Norms: the Lipschitz factors ``||A||_2`` are those of the linear map at the real input size; the l2,1 norm of a
convolution is that of its kernel, as in the papers' tables, although the theorem's matrix has a row for every output
place. The theorem holds with ``||X||_F^2 / m``, ``ln(2 h^2)``, constants and logarithms of the sample size, for a
margin fixed beforehand or with a union bound over margins; all of that is dropped, and no row is a guarantee.

The third row is the gap as the public collection of Neyshabur et al. 2019 prints it, with the reshaped spectral norm:
``ln(m) ln(W) prod_i ||A^i||_2 / gamma (sum_i (||A^i - A^i_init||_{2,1} / ||A^i||_2)^(2/3))^(3/2) / sqrt(m)``.
"""

from __future__ import annotations

import math

from bitcert.theory.formulas.products import (
    NORM_21,
    OPERATOR,
    SPECTRAL,
    chain_conditions,
    log_power_sum,
    log_ratios,
    norm_conditions,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Condition, Unit

_PAPER = "Bartlett, Foster & Telgarsky 2017, Thm 1.1"
_DROPPED = "constants, ||X||_F^2 / m, ln h, logarithms of m, and the price of choosing gamma from the data"


def _conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    chain = chain_conditions(inputs, "activations 1-Lipschitz")
    return (*chain, inputs.fully_connected, *norm_conditions(inputs))


def _capacity(inputs: BoundInputs, init: bool) -> BoundValue:
    (name, above), below = NORM_21.read(inputs, init), OPERATOR.values(inputs)
    ratios = log_ratios(inputs, above, below)
    return BoundValue(
        2 * OPERATOR.log_product(inputs) + 3 * log_power_sum(ratios, 2 / 3) - 2 * math.log(inputs.gamma),
        conditions=_conditions(inputs),
        ingredients={name: above, "operator_norm": below, **inputs.facts("gamma", "m", "d")},
    )


spec_l12 = bound(
    "bartlett2017-spec-l12",
    _PAPER,
    "spectral and l2,1 norms",
    "Examples needed if every layer stretched its input as much as it can, and more for layers of many units.",
    _DROPPED,
)(
    lambda inputs: _capacity(inputs, init=False),
    "(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i||_{2,1} / ||A^i||_2)^(2/3))^3.",
)

spec_l12_init = bound(
    "bartlett2017-spec-l12-init",
    f"{_PAPER} with the initial weights as reference",
    "spectral and l2,1 norms, from initialisation",
    "Examples needed if every layer stretched fully, where it pays only for how far training has moved it.",
    _DROPPED,
)(
    lambda inputs: _capacity(inputs, init=True),
    "(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i - A^i_init||_{2,1} / ||A^i||_2)^(2/3))^3.",
)


@bound(
    "bartlett2017-spec-l12-collection",
    "Neyshabur et al. 2019, collection of measures, Spec_L_{2,1} bound",
    "spectral and l2,1 norms, as the collection prints them",
    "How much worse the network would be on new data if every layer stretched fully what training changed.",
    "constants and additive logarithms, by the collection's own account",
    unit=Unit.GAP,
)
def spec_l12_collection(inputs: BoundInputs) -> BoundValue:
    """``ln(m) ln(W) prod ||A||_2 / gamma (sum (||A - A_init||_{2,1} / ||A||_2)^(2/3))^(3/2) / sqrt(m)``."""
    above, below = NORM_21.distances(inputs), SPECTRAL.values(inputs)
    ratios = log_ratios(inputs, above, below)
    logarithms = log(math.log(inputs.m)) + log(math.log(max(inputs.num_parameters, 1)))
    product = SPECTRAL.log_product(inputs) - math.log(inputs.gamma)
    return BoundValue(
        logarithms + product + 1.5 * log_power_sum(ratios, 2 / 3) - math.log(inputs.m) / 2,
        conditions=_conditions(inputs),
        ingredients={"distance_21": above, "spectral": below, **inputs.facts("W", "gamma", "m")},
    )
