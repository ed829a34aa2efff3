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
    distances,
    log_of_product,
    log_power_sum,
    log_ratios,
    network_conditions,
    norm_21,
    norm_conditions,
    operator,
    spectral,
    values,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Condition, Kind, Unit

_DROPPED = "constants, ||X||_F^2 / m, ln h, logarithms of m, and the price of choosing gamma from the data"


def _conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    names = ("chain of layers", "bias-free", "activations 1-Lipschitz", "every weight layer measured")
    return (*network_conditions(inputs, *names), inputs.fully_connected, *norm_conditions(inputs))


def _capacity(inputs: BoundInputs, above: tuple[float, ...], name: str) -> BoundValue:
    below = values(inputs, operator)
    ratios = log_ratios(inputs, above, below)
    product = log_of_product(inputs, operator)
    return BoundValue(
        2 * product + 3 * log_power_sum(ratios, 2 / 3) - 2 * math.log(inputs.gamma),
        conditions=_conditions(inputs),
        ingredients={name: above, "operator_norm": below, "gamma": inputs.gamma, "m": inputs.m, "d": inputs.depth},
    )


@bound(
    "bartlett2017-spec-l12",
    "Bartlett, Foster & Telgarsky 2017, Thm 1.1",
    "spectral and l2,1 norms",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed if every layer stretched its input as much as it can, and more for layers of many units.",
    dropped=_DROPPED,
)
def spec_l12(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i||_{2,1} / ||A^i||_2)^(2/3))^3``."""
    return _capacity(inputs, values(inputs, norm_21), "norm_21")


@bound(
    "bartlett2017-spec-l12-init",
    "Bartlett, Foster & Telgarsky 2017, Thm 1.1 with the initial weights as reference",
    "spectral and l2,1 norms, from initialisation",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed if every layer stretched fully, where it pays only for how far training has moved it.",
    dropped=_DROPPED,
)
def spec_l12_init(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_2^2 (sum_i (||A^i - A^i_init||_{2,1} / ||A^i||_2)^(2/3))^3``."""
    return _capacity(inputs, distances(inputs, norm_21), "distance_21")


@bound(
    "bartlett2017-spec-l12-collection",
    "Neyshabur et al. 2019, collection of measures, Spec_L_{2,1} bound",
    "spectral and l2,1 norms, as the collection prints them",
    kind=Kind.MEASURE,
    unit=Unit.GAP,
    sentence="How much worse the network would be on new data if every layer stretched fully what training changed.",
    dropped="constants and additive logarithms, by the collection's own account",
)
def spec_l12_collection(inputs: BoundInputs) -> BoundValue:
    """``ln(m) ln(W) prod ||A||_2 / gamma (sum (||A - A_init||_{2,1} / ||A||_2)^(2/3))^(3/2) / sqrt(m)``."""
    above, below = distances(inputs, norm_21), values(inputs, spectral)
    ratios = log_ratios(inputs, above, below)
    logarithms = log(math.log(inputs.m)) + log(math.log(max(inputs.num_parameters, 1)))
    product = log_of_product(inputs, spectral) - math.log(inputs.gamma)
    return BoundValue(
        logarithms + product + 1.5 * log_power_sum(ratios, 2 / 3) - math.log(inputs.m) / 2,
        conditions=_conditions(inputs),
        ingredients={
            "distance_21": above,
            "spectral": below,
            "W": inputs.num_parameters,
            "gamma": inputs.gamma,
            "m": inputs.m,
        },
    )
