"""The noise-stability capacities of Arora 2018 as sums over layers, in three variants of a stability profile.

* Theorem 4.1: ``c^2 d^2 max ||f||^2 / gamma^2 * sum 1 / (mu_i^2 mu_{i->}^2)``, fully connected.
* Theorem 5.1: the same with ``beta_i^2 ceil(kappa_i/s_i)^2`` in the numerator; equal for fully connected layers.
* Table 1: ``c_i^2 beta_i^2 ceil(kappa_i/s_i)^2 / (mu_i^2 mu_{i->}^2)`` of each layer, everything else left out. The
  paper does not say whether ``c_i`` is of the activation before or after the layer (docs/theory.md erratum 19); the
  proof of Lemma 3 uses the one before, and so does the row, with the other sum beside it.
* Lemma 3: the numbers that Matrix-Project keeps, ``sum k_i``, with the ``eps`` of Theorem 4.1's proof,
  ``eps = gamma / (sqrt 2 max ||f||)``, which moves no margin by more than ``gamma``.

All are measures: the cushions are minima over a sample, and ``O~`` hides constants and logarithms in all but the last.

``worst`` takes the extreme value over the sample (docs/theory.md section 3.1). ``zeta`` takes the values that hold once
the fraction ``zeta`` of outliers is left out (remark (ii) below Lemma 3); the bound on the error then adds ``zeta``.
Every extreme leaves out its own examples, so together they may leave out more than one ``zeta``: at most one for each
extreme that is used, which the rows state. ``init`` projects ``A - A_init`` in place of ``A`` with ``A_init`` in the
helper string (remark (i)): the error of the projection is relative to ``||A - A_init||_F``, so ``mu_i`` is multiplied
by ``||A||_F / ||A - A_init||_F`` and nothing else changes.

The proof needs ``J^{i,j} x^i = x^j``, which a bias breaks; the paper's remark that biases have "no effect
on any calculations" (section 1) is not right for Lemma 3, so "bias-free" is a condition here. Pooling between layers is
part of the activation ``phi`` and of its contraction; the proof covers it where it makes no norm larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from bitcert.canonical import finite
from bitcert.stability import Reduced
from bitcert.stability.hypotheses import POOLING_1_LIPSCHITZ
from bitcert.theory.formulas.projection_tail import num_projections, tail_constant
from bitcert.theory.inputs import BoundInputs, LayerInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.value import MAX_LOG, Absent, BoundValue, Condition, Ingredient, need, needs, outside

SMOOTHNESS = "interlayer smoothness ρ_δ ≥ 3d"

_SMALLEST_EPSILON = 1e-5
_SAME = 1e-9
_SCALE = ("gamma", "largest_output")


class Variant(StrEnum):
    """Which values of the profile are used."""

    WORST = "worst"
    ZETA = "zeta"
    INIT = "init"

    @property
    def suffix(self) -> str:
        """What the name of a row ends with."""
        return "" if self is Variant.WORST else f"-{self.value}"

    def of(self, reduced: Reduced) -> float | None:
        """The value over the sample, or after outliers."""
        return reduced.zeta if self is Variant.ZETA else reduced.worst


@dataclass(frozen=True)
class LayerTerms:
    """One layer, natural logarithms; with ``init``, ``cushion`` is infinite for a layer that did not move.

    Attributes:
        cushion, minimal, contraction, beta, window: ``mu_i``, ``mu_{i->}``, ``c_i`` before the layer, ``beta_i``,
            ``ceil(kappa/s)^2``.
        contraction_after: ``c_i`` after the layer, where the profile has it.
    """

    cushion: float
    minimal: float
    contraction: float
    beta: float
    window: float
    contraction_after: float | None = None

    @property
    def inverse(self) -> float:
        """``ln(1 / (mu_i^2 mu_{i->}^2))``."""
        return -2 * (self.cushion + self.minimal)


@dataclass(frozen=True)
class Stability:
    """Every layer's terms, and the contraction ``c`` of the network (the largest of a layer)."""

    layers: tuple[LayerTerms, ...]

    @property
    def contraction(self) -> float:
        """``ln c``."""
        return max(layer.contraction for layer in self.layers)


def stability_of(inputs: BoundInputs, variant: Variant) -> Stability:
    """The profile's values.

    Raises:
        NotComputed: no profile or initial weights, a quantity that was not measured, a cushion of 0, or a contraction
            that is infinite; naming the layer.
    """
    return Stability(tuple(_terms(layer, variant) for layer in inputs.layers))


def _terms(layer: LayerInputs, variant: Variant) -> LayerTerms:
    found = need(layer.stability)

    def value(reduced: Reduced, words: str) -> float:
        return _log_of(variant.of(reduced), words, layer.name, variant)

    cushion = value(found.cushion, "layer cushion")
    if variant is Variant.INIT:
        if layer.norms.frobenius == 0:
            raise outside(f"does not apply: the weights of {layer.name} are all zero")
        cushion += log(layer.norms.frobenius) - log(need(layer.distance).frobenius)
    after = variant.of(found.contraction_after)
    return LayerTerms(
        cushion=cushion,
        minimal=value(found.minimal_cushion, "minimal interlayer cushion"),
        contraction=value(found.contraction, "activation contraction"),
        beta=value(found.beta, "spread of the Jacobians"),
        window=math.log(layer.window),
        contraction_after=None if after is None or not 0 < after < math.inf else math.log(after),
    )


def _log_of(value: float | None, words: str, layer: str, variant: Variant) -> float:
    if value is None:
        raise needs(f"needs a profile with the {words} of {layer}: it was not measured, or every example is dead there")
    if value <= 0:
        hint = "" if variant is Variant.ZETA else "; the row with outliers left out may have a value"
        raise outside(f"does not apply: the {words} of {layer} is 0 on this sample{hint}")
    if math.isinf(value):
        raise outside(f"does not apply: the {words} of {layer} is infinite, what feeds it is 0 for some example")
    return math.log(value)


def log_layer_epsilons(inputs: BoundInputs, found: Stability) -> tuple[float, list[float]]:
    """``ln eps``, and ``ln eps_i = ln(eps mu_i mu_{i->} / (6 c d))``: the error that Lemma 3 lets each layer make.

    ``eps = gamma / (sqrt 2 max ||f||)``, at most 1, moves no margin by more than ``gamma``; infinite for a layer that
    did not move (``init``).
    """
    epsilon = min(0.0, math.log(inputs.margin) - math.log(2) / 2 - log_output(inputs))
    divisor = math.log(6) + found.contraction + math.log(inputs.depth)
    return epsilon, [epsilon - layer.inverse / 2 - divisor for layer in found.layers]


def log_output(inputs: BoundInputs) -> float:
    """``ln max ||f||``.

    Raises:
        NotComputed: every output is 0.
    """
    if inputs.sample.largest_output == 0:
        raise outside("does not apply: every output is 0")
    return math.log(inputs.sample.largest_output)


def stability_conditions(inputs: BoundInputs, variant: Variant) -> tuple[Condition, ...]:
    """Hypotheses of Lemma 3 and Theorems 4.1 and 5.1 apart from the kind of layers."""
    names = (
        "ReLU activations only",
        "bias-free",
        POOLING_1_LIPSCHITZ,
        "chain of layers",
        "every weight layer measured",
    )
    return (*inputs.hypotheses(*names), _smoothness(inputs, variant), _whole_sample(inputs))


def _smoothness(inputs: BoundInputs, variant: Variant) -> Condition:
    if isinstance(inputs.smoothness, Absent):
        return Condition(SMOOTHNESS, None, inputs.smoothness.why)
    if variant is Variant.INIT:
        return Condition(SMOOTHNESS, None, "measured with projections of A itself, not of A - A_init")
    return inputs.smoothness


def _whole_sample(inputs: BoundInputs) -> Condition:
    name, measured = "profile of the whole sample", inputs.measured_samples
    if measured is None:
        return Condition(name, None, "not known how many examples were measured")
    return Condition(name, measured == inputs.m, f"{measured} of {inputs.m} examples")


def dead_notes(inputs: BoundInputs) -> tuple[str, ...]:
    """Examples whose ratio is 0/0 are in no extreme (docs/theory.md section 3.1); how many there are, if any."""
    dead = inputs.structure.get("no dead inputs")
    return () if dead is None or dead.holds is not False else (f"dead inputs are in no extreme: {dead.detail}",)


def stability_ingredients(inputs: BoundInputs, variant: Variant, found: Stability) -> dict[str, Ingredient]:
    """What the rows are computed from; cushions as the profile has them, the distance beside them."""
    profiles = [need(layer.stability) for layer in inputs.layers]
    content: dict[str, Ingredient] = {
        **inputs.facts("m", "d"),
        "contraction": math.exp(found.contraction),
        "contractions": tuple(variant.of(p.contraction) for p in profiles),
        "contractions_after": tuple(variant.of(p.contraction_after) for p in profiles),
        "layer_cushions": tuple(variant.of(p.cushion) for p in profiles),
        "minimal_interlayer_cushions": tuple(variant.of(p.minimal_cushion) for p in profiles),
    }
    if variant is Variant.INIT:
        content["frobenius"] = tuple(layer.norms.frobenius for layer in inputs.layers)
        content["frobenius_of_distance"] = tuple(need(layer.distance).frobenius for layer in inputs.layers)
    return content


def outliers(inputs: BoundInputs, variant: Variant, spread: bool) -> tuple[dict[str, Ingredient], tuple[str, ...]]:
    """``zeta``, the largest fraction of the sample that all extremes can leave out together, and notes on what is lost.

    Extremes: two cushions and a contraction of each layer, and the ``spread`` of each pair of layers where it is used.
    """
    if variant is not Variant.ZETA:
        return {}, dead_notes(inputs)
    measured, depth = inputs.measured_samples or inputs.m, inputs.depth
    extremes = 3 * depth + (depth * (depth - 1) // 2 if spread else 0)
    together = min(1.0, extremes * math.floor(inputs.zeta * measured) / measured)
    note = (
        f"the bound on the error adds zeta = {inputs.zeta:g}; the {extremes} extremes leave out "
        f"examples of their own, together at most {together:.3g} of the sample, which is what a proof would add"
    )
    content: dict[str, Ingredient] = {"zeta": inputs.zeta, "extremes": extremes, "outliers_together_at_most": together}
    return content, (note, *dead_notes(inputs))


StabilitySum = Callable[[BoundInputs, Variant], BoundValue]


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
    return 2 * (found.contraction + math.log(inputs.depth) + log_output(inputs) - math.log(inputs.margin))


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
