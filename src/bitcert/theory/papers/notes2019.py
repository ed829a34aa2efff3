"""Notes of 2019 on generalization and compression, equation (2): the capacity of a network in one line.

    capacity ~ (depth * activation contraction / (layer cushion * interlayer cushion))^2

(Anonymous, "Generalization", after the talk of S. Arora at ICML 2018.) The notes do not say which layer the cushions
are of; here every quantity is the worst over the layers, so that the value is at least ``c^2 d^2 / (mu_i^2
mu_{i->}^2)`` of each layer. Against Theorem 4.1 the sum over layers and ``max ||f||^2 / gamma^2`` are missing: a
measure, no theorem. Its neighbours in the notes, equation (1) and the singular values (erratum 5: ``||Mx|| / ||x|| <=
sigma_max``, not ``>=``), are no bounds of a network.
"""

from __future__ import annotations

import math

from bitcert.theory.formulas.noise_stability import (
    Variant,
    outliers,
    stability_conditions,
    stability_ingredients,
    stability_of,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue

_SOURCE = "Notes 2019, equation (2)"
_TITLE = "depth, contraction and cushions"
_SENTENCE = (
    "A rule of thumb for the number of parameters that matter: small where the training data pass through every layer "
    "far better than noise does."
)
_DROPPED = "constants, logarithms, margin, output norm, sum over layers"


def _capacity(inputs: BoundInputs, variant: Variant) -> BoundValue:
    found = stability_of(inputs, variant)
    cushion = min(layer.cushion for layer in found.layers)
    minimal = min(layer.minimal for layer in found.layers)
    left_out, notes = outliers(inputs, variant, spread=False)
    return BoundValue(
        log=2 * (math.log(inputs.depth) + found.contraction - cushion - minimal),
        conditions=stability_conditions(inputs, variant),
        ingredients={**stability_ingredients(inputs, variant, found), **left_out},
        notes=(*notes, "every quantity is the worst over the layers; the notes do not say which"),
    )


@bound("notes2019-capacity", _SOURCE, _TITLE, _SENTENCE, _DROPPED)
def capacity(inputs: BoundInputs) -> BoundValue:
    """``(d c / (min_i mu_i * min_i mu_{i->}))^2``."""
    return _capacity(inputs, Variant.WORST)


@bound(
    "notes2019-capacity-zeta",
    _SOURCE,
    f"{_TITLE}, outliers left out",
    f"{_SENTENCE} The worst examples of each quantity are left out; the share of them is added to the error.",
    _DROPPED,
)
def capacity_zeta(inputs: BoundInputs) -> BoundValue:
    """The same after zeta outliers."""
    return _capacity(inputs, Variant.ZETA)
