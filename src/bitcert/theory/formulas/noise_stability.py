"""What the bounds of Arora 2018 need of a stability profile, in logarithms, in three variants.

``worst`` takes the extreme value over the sample (docs/theory.md section 3.1). ``zeta`` takes the values that hold once
the fraction ``zeta`` of outliers is left out (remark (ii) below Lemma 3); the bound on the error then adds ``zeta``.
Every extreme leaves out its own examples, so together they may leave out more than one ``zeta``: at most one for each
extreme that is used, which the rows state. ``init`` projects ``A - A_init`` in place of ``A`` with ``A_init`` in the
helper string (remark (i)): the error of the projection is relative to ``||A - A_init||_F``, so ``mu_i`` is multiplied
by ``||A||_F / ||A - A_init||_F`` and nothing else changes.

Measures all. The proof needs ``J^{i,j} x^i = x^j``, which a bias breaks; the paper's remark that biases have "no effect
on any calculations" (section 1) is not right for Lemma 3, so "bias-free" is a condition here. Pooling between layers is
part of the activation ``phi`` and of its contraction; the proof covers it where it makes no norm larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from bitcert.stability import Reduced
from bitcert.stability.hypotheses import POOLING_1_LIPSCHITZ
from bitcert.theory.inputs import BoundInputs, LayerInputs
from bitcert.theory.logs import log
from bitcert.theory.value import Absent, Condition, Ingredient, need, needs, outside

SMOOTHNESS = "interlayer smoothness ρ_δ ≥ 3d"


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
    epsilon = min(0.0, math.log(inputs.gamma) - math.log(2) / 2 - log_output(inputs))
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
