"""Product of the layers' l1,infinity norms (Bartlett & Mendelson 2002; as a capacity in Neyshabur et al. 2015).

``(1/gamma^2) prod_i ||A^i||_{1,inf}^2`` with ``||A||_{1,inf}`` the largest l1 norm of a unit's weights (docs/theory.md
section 3.3). For a convolution the norm of the kernel is also that of its map: a unit is one output place, and only
places at the border see fewer weights. The theorem has ``4^d``, ``max ||x||_inf^2`` and ``ln(input size)`` besides, and
holds for a ``gamma`` fixed before the sample is seen. What is computed here has neither, so it is no guarantee.

The collection of measures of Neyshabur et al. 2019 (a public repository, "generalization-bounds") prints the gap
``sqrt(d + ln(input size)) prod_i ||A^i||_{1,inf} / (gamma sqrt(m))``; that is the second row.
"""

from __future__ import annotations

from bitcert.theory.formulas.products import NORM_1INF, chain_conditions, collection_row, log_capacity
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Unit


@bound(
    "bartlett2002-l1inf",
    "Bartlett & Mendelson 2002; Neyshabur, Tomioka & Srebro 2015, Thm 1 with p = 1, q = infinity",
    "l1,infinity norms",
    "Examples needed if every unit could add up its largest inputs at once, layer after layer.",
    "the factor 4^d, max ||x||_inf^2, ln(input size), and the price of choosing gamma from the data",
)
def l1inf(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) prod_i ||A^i||_{1,inf}^2``."""
    return BoundValue(
        log_capacity(inputs, NORM_1INF),
        conditions=chain_conditions(inputs, "activations 1-Lipschitz"),
        ingredients={"norm_1inf": NORM_1INF.values(inputs), **inputs.facts("gamma", "m", "d")},
    )


@bound(
    "bartlett2002-l1inf-collection",
    "Neyshabur et al. 2019, collection of measures, L1_max bound",
    "l1,infinity norms, as the collection prints them",
    "How much worse the network would be on new data if units could add up their largest inputs at once.",
    "constants and additive logarithms, by the collection's own account",
    unit=Unit.GAP,
)
def l1inf_collection(inputs: BoundInputs) -> BoundValue:
    """``sqrt(d + ln(input size)) prod_i ||A^i||_{1,inf} / (gamma sqrt(m))``."""
    return collection_row(inputs, NORM_1INF, 1 / 2, chain_conditions(inputs, "activations 1-Lipschitz"))
