"""Capacities that count parameters: their number, and the VC dimension's order of growth ``d W ln W``.

``W`` is the number of all parameters of the network (biases and shifts included), ``d`` the number of weight layers.
Bartlett, Harvey, Liaw & Mehrabian 2019 show that a network of piecewise linear activations has a VC dimension of at
most a constant times ``d W ln W``. Arora 2018 (Fig. 3) and Guha 2023 plot the plain count. The constants, and the
logarithms in the step from a dimension to a gap, are dropped, so neither row promises anything.
"""

from __future__ import annotations

import math

from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, outside


def require_parameters(inputs: BoundInputs) -> int:
    """The number of parameters.

    Raises:
        NotComputed: there are none.
    """
    if inputs.num_parameters < 1:
        raise outside("does not apply: the network has no parameters")
    return inputs.num_parameters


@bound(
    "parameters",
    "folklore; Arora et al. 2018, Section 6 (naive parameter count)",
    "number of parameters",
    "As many examples as the network has numbers: the count every other capacity is compared with.",
    "all constants, the depth, and the logarithms of a proof by counting",
)
def parameters(inputs: BoundInputs) -> BoundValue:
    """``W``; the part of a layer is the number of its weights."""
    count = require_parameters(inputs)
    layers = inputs.parts(log(own.num_weights) for own in inputs.layers)
    return BoundValue(math.log(count), ingredients=inputs.facts("W", "d", "m"), layers=layers)


@bound(
    "vc-dimension",
    "Bartlett, Harvey, Liaw & Mehrabian 2019, upper bound for piecewise linear activations",
    "order of the VC dimension",
    "Examples needed if nothing but the shape of the network were known: it also fits random labels.",
    "the constant, the step from two classes to more, and the logarithms of uniform convergence",
)
def vc_dimension(inputs: BoundInputs) -> BoundValue:
    """``d W ln W``."""
    count = require_parameters(inputs)
    return BoundValue(
        math.log(inputs.depth) + math.log(count) + log(math.log(count)),
        conditions=(inputs.hypothesis("ReLU activations only"),),
        ingredients=inputs.facts("W", "d", "m"),
        notes=("The theorem holds for other piecewise linear activations too; only ReLU is checked.",),
    )
