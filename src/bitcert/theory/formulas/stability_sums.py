"""The noise-stability capacities of Arora 2018 as sums over layers, in the variants of a profile.

* Theorem 4.1: ``c^2 d^2 max ||f||^2 / gamma^2 * sum 1 / (mu_i^2 mu_{i->}^2)``, fully connected.
* Theorem 5.1: the same with ``beta_i^2 ceil(kappa_i/s_i)^2`` in the numerator; equal for fully connected layers.
* Table 1: ``c_i^2 beta_i^2 ceil(kappa_i/s_i)^2 / (mu_i^2 mu_{i->}^2)`` of each layer, everything else left out. The
  paper does not say whether ``c_i`` is of the activation before or after the layer (docs/theory.md erratum 19); the
  proof of Lemma 3 uses the one before, and so does the row, with the other sum beside it.
* Lemma 3: the numbers that Matrix-Project keeps, ``sum k_i``, with the ``eps`` of Theorem 4.1's proof,
  ``eps = gamma / (sqrt 2 max ||f||)``, which moves no margin by more than ``gamma``.

Measures: the cushions are minima over a sample, and ``O~`` hides constants and logarithms in all but the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from bitcert.theory.formulas.noise_stability import (
    Stability,
    Variant,
    log_layer_epsilons,
    log_output,
    outliers,
    stability_conditions,
    stability_ingredients,
    stability_of,
)
from bitcert.theory.formulas.projection_tail import num_projections, tail_constant
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import finite, log, log_sum
from bitcert.theory.value import MAX_LOG, BoundValue, Ingredient

StabilitySum = Callable[[BoundInputs, Variant], BoundValue]

_SMALLEST_EPSILON = 1e-5
_SAME = 1e-9
_SCALE = ("gamma", "largest_output")


def theorem41(inputs: BoundInputs, variant: Variant) -> BoundValue:
    """Theorem 4.1; refuses networks with other than dense layers."""
    inputs.require_dense("Theorem 4.1")
    found = stability_of(inputs, variant)
    factor = _factor(inputs, found)
    return _row(inputs, variant, found, [factor + layer.inverse for layer in found.layers], inputs.facts(*_SCALE))


def theorem51(inputs: BoundInputs, variant: Variant) -> BoundValue:
    """Theorem 5.1."""
    found = stability_of(inputs, variant)
    factor = _factor(inputs, found)
    logs = [factor + 2 * layer.beta + layer.window + layer.inverse for layer in found.layers]
    return _row(inputs, variant, found, logs, {**inputs.facts(*_SCALE), **_spread(inputs, found)}, spread=True)


def table1(inputs: BoundInputs, variant: Variant) -> BoundValue:
    """``sum c_i^2 beta_i^2 ceil(kappa_i/s_i)^2 / (mu_i^2 mu_{i->}^2)``: Table 1's effective parameters, added up.

    ``c_i`` is the contraction before layer ``i``, as the proof of Lemma 3 uses it; with the one after it: a note.
    """
    found = stability_of(inputs, variant)
    rest = [2 * layer.beta + layer.window + layer.inverse for layer in found.layers]
    logs = [own + 2 * layer.contraction for own, layer in zip(rest, found.layers, strict=True)]
    value = _row(inputs, variant, found, logs, _spread(inputs, found), spread=True)
    others = [layer.contraction_after for layer in found.layers]
    known = [other for other in others if other is not None]
    if len(known) < len(others):
        return value
    after = [own + 2 * other for own, other in zip(rest, known, strict=True)]
    note = f"with the contraction after each layer instead: {math.exp(min(log_sum(after), MAX_LOG)):.4g} (erratum 19)"
    same = math.isclose(log_sum(after), value.log or 0.0, abs_tol=_SAME)
    return replace(
        value,
        ingredients={**value.ingredients, "log_layers_with_contraction_after": tuple(map(finite, after))},
        notes=value.notes if same else (*value.notes, note),
    )


def lemma3(inputs: BoundInputs, variant: Variant) -> BoundValue:
    """``sum k_i`` with ``eps_i = eps mu_i mu_{i->} / (6 c d)``, at most 1, and ``ln(1/eta) = 2 ln(m d h / delta)``.

    Printed: ``72 c^2 d^2 ln(m d h / delta) / eps^2 sum 1 / (mu_i^2 mu_{i->}^2)``, which is ``k = ln(1/eta) / eps_i^2``;
    the tail that holds needs 6 to 9 times as many (:mod:`bitcert.theory.formulas.projection_tail`).
    """
    inputs.require_dense("Lemma 3")
    found = stability_of(inputs, variant)
    log_inverse_eta = 2 * (math.log(inputs.m * inputs.depth * inputs.width) - math.log(inputs.delta))
    epsilon, epsilons = log_layer_epsilons(inputs, found)
    content: dict[str, Ingredient] = {
        **inputs.facts(*_SCALE, "h", "delta"),
        "epsilon": math.exp(epsilon),
        "log_inverse_eta": log_inverse_eta,
        "log_layer_epsilons": tuple(map(finite, epsilons)),
    }
    value = _row(inputs, variant, found, [_log_projections(own, log_inverse_eta) for own in epsilons], content)
    return replace(value, log_printed=log_sum([math.log(log_inverse_eta) - 2 * own for own in epsilons]))


def _log_projections(log_epsilon: float, log_inverse_eta: float) -> float:
    """``ln k``; none for a layer that did not move (``eps`` infinite), and ``eps`` above 1 counts as 1."""
    if log_epsilon == math.inf:
        return -math.inf
    epsilon = math.exp(min(log_epsilon, 0.0))
    if epsilon >= _SMALLEST_EPSILON:
        return math.log(num_projections(epsilon, log_inverse_eta))
    # C(eps) grows with eps
    constant = math.log(tail_constant(_SMALLEST_EPSILON))
    return math.log(math.log(2) + log_inverse_eta) + constant - 2 * log_epsilon


def _factor(inputs: BoundInputs, found: Stability) -> float:
    """``ln(c^2 d^2 max ||f||^2 / gamma^2)``."""
    return 2 * (found.contraction + math.log(inputs.depth) + log_output(inputs) - math.log(inputs.gamma))


def _spread(inputs: BoundInputs, found: Stability) -> dict[str, Ingredient]:
    return {
        "betas": tuple(math.exp(layer.beta) for layer in found.layers),
        "windows": tuple(float(layer.window) for layer in inputs.layers),
    }


def _row(
    inputs: BoundInputs,
    variant: Variant,
    found: Stability,
    logs: list[float],
    content: Mapping[str, Ingredient],
    *,
    spread: bool = False,
) -> BoundValue:
    """The sum of these terms of the layers; ``spread`` for the rows with ``beta`` and any kind of layers."""
    value = log_sum(logs)
    left_out, notes = outliers(inputs, variant, spread)
    ingredients = {**content, **stability_ingredients(inputs, variant, found), **left_out}
    if variant is Variant.ZETA:
        ingredients["log_gap_with_zeta"] = log_sum([(value - math.log(inputs.m)) / 2, log(inputs.zeta)])
    return BoundValue(
        log=value,
        conditions=(*(() if spread else (inputs.fully_connected,)), *stability_conditions(inputs, variant)),
        ingredients=ingredients,
        layers=inputs.parts(logs),
        notes=notes,
    )
