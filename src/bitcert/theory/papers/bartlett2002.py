"""Product of the layers' l1,infinity norms (Bartlett & Mendelson 2002; as a capacity in Neyshabur et al. 2015).

``(1/gamma^2) prod_i ||A^i||_{1,inf}^2`` with ``||A||_{1,inf}`` the largest l1 norm of a unit's weights (docs/theory.md
section 3.3). For a convolution the norm of the kernel is also that of its map: a unit is one output place, and only
places at the border see fewer weights. The theorem has ``4^d``, ``max ||x||_inf^2`` and ``ln(input size)`` besides, and
holds for a ``gamma`` fixed before the sample is seen. What is computed here has neither, so it is no guarantee.

The collection of measures of Neyshabur et al. 2019 (a public repository, "generalization-bounds") prints the gap
``sqrt(d + ln(input size)) prod_i ||A^i||_{1,inf} / (gamma sqrt(m))``; that is the second row.
"""

from __future__ import annotations

import math

from bitcert.theory.formulas.products import log_golowich, log_of_product, network_conditions, norm_1inf, values
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Kind, Unit

_CONDITIONS = ("chain of layers", "bias-free", "activations 1-Lipschitz", "every weight layer measured")


@bound(
    "bartlett2002-l1inf",
    "Bartlett & Mendelson 2002; Neyshabur, Tomioka & Srebro 2015, Thm 1 with p = 1, q = infinity",
    "l1,infinity norms",
    kind=Kind.MEASURE,
    unit=Unit.SAMPLES,
    sentence="Examples needed if every unit could add up its largest inputs at once, layer after layer.",
    dropped="the factor 4^d, max ||x||_inf^2, ln(input size), and the price of choosing gamma from the data",
)
def l1inf(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_{1,inf}^2``."""
    return BoundValue(
        2 * log_of_product(inputs, norm_1inf) - 2 * math.log(inputs.gamma),
        conditions=network_conditions(inputs, *_CONDITIONS),
        ingredients={"norm_1inf": values(inputs, norm_1inf), "gamma": inputs.gamma, "m": inputs.m, "d": inputs.depth},
    )


@bound(
    "bartlett2002-l1inf-collection",
    "Neyshabur et al. 2019, collection of measures, L1_max bound",
    "l1,infinity norms, as the collection prints them",
    kind=Kind.MEASURE,
    unit=Unit.GAP,
    sentence="How much worse the network would be on new data if units could add up their largest inputs at once.",
    dropped="constants and additive logarithms, by the collection's own account",
)
def l1inf_collection(inputs: BoundInputs) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i ||A^i||_{1,inf} / (gamma sqrt(m))``."""
    product = log_of_product(inputs, norm_1inf) - math.log(inputs.gamma)
    return BoundValue(
        log_golowich(inputs) + product - math.log(inputs.m) / 2,
        conditions=network_conditions(inputs, *_CONDITIONS),
        ingredients={
            "norm_1inf": values(inputs, norm_1inf),
            "alpha": math.exp(log_golowich(inputs)),
            "input_size": inputs.sample.input_size,
            "gamma": inputs.gamma,
            "m": inputs.m,
            "d": inputs.depth,
        },
    )
