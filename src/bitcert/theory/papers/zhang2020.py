"""Zhang 2020 ("compression framework" notes): Theorems 2.4, 3.2, 5.1, 5.7 and 6.1.

* **2.4**, corrected (docs/theory.md erratum 1): ``L_0(g) <= L_hat_gamma(f) + sqrt((ln|A| + ln(1/delta)) / (2 m))``; the
  paper multiplies the two logarithms. Erratum 4: the step to ``L_hat_gamma(f)`` needs ``|f - g| <= gamma / 2`` in every
  entry or ``||f - g||_2 <= gamma / sqrt(2)``; here ``gamma`` is what the message's own deviation asks for. So it is
  Theorem 2.1 of :mod:`bitcert.theory.papers.arora2018`, computed there; these rows show the printed form beside it.
* **3.2**: a linear separator with normalised margin ``gamma``: ``L(c_hat) <= O~((gamma^2 m)^(-1/3))`` by coins at
  ``epsilon`` = the rate; with fixed random projections (Arora 2018, appendix A.2) ``O~((gamma^2 m)^(-1/2))``.
* **5.1** (= Arora 2018, Thm 2.2): ``(1/gamma^2) h d^2 max||x||^2 prod ||A^i||_2^2 sum ||A^i||_F^2 / ||A^i||_2^2``;
  erratum 3: the square of ``max||x||`` is missing in print.
* **5.7** (= Arora 2018, Thm 4.1) with the definitions of docs/theory.md section 3.1. Definitions 5.4 to 5.6 print other
  ones (erratum 2): cushions as maxima over the sample, ``mu_{i,i} = sqrt(h_i)``, and ``c = min ||phi(x)|| / ||x||``,
  the inverse; the printed value is the theorem with all of them.
* **6.1**: residual networks: the Lipschitz recursion (:mod:`bitcert.theory.ingredients.lipschitz`) in place of the
  product, here on any graph of linear, 1-Lipschitz and addition nodes. Let ``d`` layers lie on the longest path and
  every layer change by at most ``t ||A||_2``. By induction over the nodes the output changes by at most ``||x|| L ((1 +
  t)^d - 1) <= e d t ||x|| L`` for ``t <= 1/d``, so ``t = gamma / (e d ||x|| L)`` is enough (no margin exceeds ``sqrt(2)
  ||x|| L``, so it is below ``1/d``) and a layer keeps at most ``||A||_F^2 / (t ||A||_2)^2`` singular values. A
  convolution's map changes by at most ``sqrt(prod ceil(kappa/s))`` times its kernel matrix, which is the factor
  "window"; it is 1 for a dense layer. On the printed graph this is the printed formula.

2.4 is a guarantee; the others are measures, NOT bounds on the error of this network: constants and logarithms are
dropped, ``gamma`` is chosen from the data, and they speak of the compressed network.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bitcert.theory.formulas.noise_stability import (
    Variant,
    dead_notes,
    log_output,
    stability_conditions,
    stability_ingredients,
    stability_of,
)
from bitcert.theory.formulas.products import FROBENIUS, OPERATOR, log_ratios, norm_conditions
from bitcert.theory.inputs import BoundInputs, LayerInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.papers import arora2018
from bitcert.theory.registry import bound, guarantee
from bitcert.theory.value import BoundValue, Condition, Ingredient, Unit, need, outside

_WHOLE_DROPPED = "constants (2 e^2) and logarithms (the bits of a number, ln h)"


_2_4_NOTE = (
    "the paper prints sqrt(ln(1/delta) ln|A| / (2 m)); a union bound gives the sum of the logarithms (erratum 1)"
)


def _printed_2_4(inputs: BoundInputs, loss: float, found: BoundValue) -> float:
    """``ln(loss + sqrt(ln(1/delta) ln|A| / (2 m)))`` with ``ln|A|`` from the bits of a row."""
    bits = found.ingredients["bits"]
    assert isinstance(bits, int)
    return log(loss + math.sqrt(math.log(1 / inputs.delta) * bits * math.log(2) / (2 * inputs.m)))


@guarantee(
    "zhang2020-thm2.4",
    "Zhang 2020, Theorem 2.4, corrected",
    "the network itself at 32 bits a weight",
    "An upper limit on the error that follows from writing down every weight; above 1 it says nothing.",
)
def theorem_2_4(inputs: BoundInputs) -> BoundValue:
    """``L_hat_0(f) + sqrt(((32 P + 64 k) ln 2 + ln(1/delta)) / (2 m))``, ``P`` parameters: Arora's Theorem 2.1."""
    found = arora2018.thm21.function(inputs)
    loss = max(inputs.sample.margin_loss(0.0), inputs.sample.errors / inputs.m)
    notes = (*found.notes, _2_4_NOTE, "g is f itself, so that the margin may be 0")
    return replace(found, log_printed=_printed_2_4(inputs, loss, found), notes=notes)


@guarantee(
    "zhang2020-thm2.4-message",
    "Zhang 2020, Theorem 2.4, corrected",
    "the best message found next to the model",
    "An upper limit on the error of the compressed network, from the margins of the original; above 1 it says nothing.",
)
def theorem_2_4_message(inputs: BoundInputs) -> BoundValue:
    """``L_hat_t(f) + sqrt((|c| ln 2 + ln(K/delta)) / (2 m))``, the best of ``K`` messages: Arora's Theorem 2.1."""
    found = arora2018.thm21_message.function(inputs)
    deviation = found.ingredients["deviation"]
    loss = inputs.sample.margin_loss(deviation) if isinstance(deviation, float) else 1.0
    return replace(found, log_printed=_printed_2_4(inputs, loss, found), notes=(*found.notes, _2_4_NOTE))


def _separator(inputs: BoundInputs, statement: str) -> tuple[LayerInputs, float]:
    """The only layer, and ``gamma`` divided by ``2 ||c|| max||x||``: the margin of ``sgn(c . x)`` at unit length."""
    layer = inputs.layers[0]
    shape = f"{inputs.depth} weight layers, the last with {inputs.layers[-1].channels} outputs"
    if inputs.depth != 1 or layer.op != "linear" or layer.positions != 1 or layer.channels != 2:
        raise outside(f"does not apply: {statement} is for a linear separator of two classes; this network has {shape}")
    if layer.num_inputs != inputs.sample.input_size:
        raise outside(f"does not apply: {statement} is for a linear separator of the inputs; something lies before it")
    rows = layer.matrix()
    size = float(np.linalg.norm(rows[1] - rows[0])) / 2
    if size == 0 or inputs.sample.largest_input == 0:
        raise outside(f"does not apply: {statement} needs a separator and inputs that are not 0")
    return layer, inputs.margin / (2 * size * inputs.sample.largest_input)


def _separator_value(inputs: BoundInputs, statement: str, power: float) -> BoundValue:
    layer, gamma = _separator(inputs, statement)
    log_rate = -power * (2 * math.log(gamma) + math.log(inputs.m))
    loss = inputs.sample.margin_loss(inputs.margin)
    activations = inputs.hypothesis("activations 1-Lipschitz")
    plain = True if activations.detail == "there are no activations" else None
    return BoundValue(
        log_sum([log(loss), log_rate]),
        conditions=(
            inputs.hypothesis("bias-free"),
            Condition("no activation after the layer", plain, activations.detail),
        ),
        ingredients={
            "gamma": inputs.margin,
            "gamma_normalised": gamma,
            "separator_norm": inputs.margin / (2 * gamma * inputs.sample.largest_input),
            "max_input_norm": inputs.sample.largest_input,
            "margin_loss": loss,
            "log_rate": log_rate,
            "m": inputs.m,
            "n": layer.fan_in,
        },
        notes=(
            "the margin is y c . x / (||c|| max||x||) with c = (w_1 - w_0) / 2",
            "the paper has every training margin above gamma; here the share of those that are not is added",
        ),
    )


theorem_3_2 = bound(
    "zhang2020-thm3.2",
    "Zhang 2020, Theorem 3.2",
    "linear separator, compressed by coins",
    "How often a linear separator that keeps only a few random coordinates would be wrong, up to constants.",
    "constants and logarithms",
    unit=Unit.ERROR,
)(lambda inputs: _separator_value(inputs, "Theorem 3.2", 1 / 3), "L_hat_gamma + (gamma^2 m)^(-1/3), gamma normalised.")

theorem_3_2_sqrt = bound(
    "zhang2020-thm3.2-sqrt",
    "Zhang 2020, note after Theorem 3.2; Arora et al. 2018, appendix A.2",
    "linear separator, compressed by random projections",
    "The same for a separator written as a few random projections fixed beforehand, up to constants.",
    "constants and logarithms",
    unit=Unit.ERROR,
)(
    lambda inputs: _separator_value(inputs, "the m^(-1/2) variant of Theorem 3.2", 1 / 2),
    "L_hat_gamma + (gamma^2 m)^(-1/2), gamma normalised.",
)


@bound(
    "zhang2020-thm5.1",
    "Zhang 2020, Theorem 5.1 (= Arora et al. 2018, Theorem 2.2)",
    "spectral norms and stable ranks",
    "Examples needed if every layer were cut to the singular values that matter, and amplified errors as much "
    "as it can.",
    _WHOLE_DROPPED,
)
def theorem_5_1(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) h d^2 max||x||^2 prod ||A||_2^2 sum ||A||_F^2 / ||A||_2^2``."""
    ratios = log_ratios(inputs, FROBENIUS.values(inputs), OPERATOR.values(inputs))
    common = _common(inputs, inputs.depth, OPERATOR.log_product(inputs))
    layers = inputs.parts(common + 2 * ratio for ratio in ratios)
    conditions = inputs.hypotheses(
        "ReLU activations only", "bias-free", "chain of layers", "every weight layer measured"
    )
    total = log_sum(layer.log for layer in layers)
    return BoundValue(
        total,
        conditions=(inputs.fully_connected, *conditions, *norm_conditions(inputs)),
        ingredients={**_ingredients(inputs), "d": inputs.depth},
        layers=layers,
        log_printed=total - log(inputs.sample.largest_input),
        notes=("the paper prints max||x||, its proof has the square (erratum 3)",),
    )


def _common(inputs: BoundInputs, depth: int, log_growth: float) -> float:
    """``ln`` of ``h d^2 max||x||^2 L^2 / gamma^2``.

    Raises:
        NotComputed: a factor is 0.
    """
    radius = log(inputs.sample.largest_input)
    if math.isinf(radius):
        raise outside("does not apply: every input is 0")
    if math.isinf(log_growth):
        zero = next((layer.name for layer in inputs.layers if layer.norms.operator == 0), "some node")
        raise outside(f"does not apply: the weights of {zero} are all zero, so that the outputs ignore the inputs")
    return math.log(inputs.width) + 2 * (math.log(depth) + radius + log_growth - math.log(inputs.margin))


def _ingredients(inputs: BoundInputs) -> dict[str, Ingredient]:
    norms = {"frobenius": FROBENIUS.values(inputs), "operator_norm": OPERATOR.values(inputs)}
    return {**norms, **inputs.facts("max_input_norm", "gamma", "m", "h")}


@bound(
    "zhang2020-thm5.7",
    "Zhang 2020, Theorem 5.7 (= Arora et al. 2018, Theorem 4.1)",
    "noise stability",
    "Examples needed to learn a network in which errors of one layer are damped by the next ones as measured.",
    "constants and logarithms (72 ln(m d h / delta), the bits of a number)",
)
def theorem_5_7(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) c^2 d^2 max||f(x)||^2 sum 1 / (mu_i^2 mu_{i->}^2)``."""
    inputs.require_dense("Theorem 5.7")
    found = stability_of(inputs, Variant.WORST)
    common = 2 * (math.log(inputs.depth) + log_output(inputs) - math.log(inputs.margin))
    layers = inputs.parts(common + 2 * found.contraction + layer.inverse for layer in found.layers)
    total = log_sum(layer.log for layer in layers)
    return BoundValue(
        total,
        conditions=(inputs.fully_connected, *stability_conditions(inputs, Variant.WORST)),
        ingredients={
            **stability_ingredients(inputs, Variant.WORST, found),
            "gamma": inputs.margin,
            "max_output_norm": inputs.sample.largest_output,
            "largest_layer_cushions": tuple(need(layer.stability).largest_cushion for layer in inputs.layers),
            "largest_minimal_cushions": tuple(need(layer.stability).largest_minimal_cushion for layer in inputs.layers),
        },
        layers=layers,
        log_printed=_printed_5_7(inputs, common - 2 * found.contraction),
        notes=(
            "the paper defines c as the smallest ||phi(x)|| / ||x||, the inverse, the cushions as the largest of the "
            "sample and mu_{i,i} as sqrt(h_i) (erratum 2): printed is the value with all three",
            *dead_notes(inputs),
        ),
    )


def _printed_5_7(inputs: BoundInputs, factor: float) -> float | None:
    """``factor + ln sum 1 / (mu_i^2 mu_{i->}^2)`` with Zhang's cushions; ``None`` where the profile has none."""
    logs = []
    for layer in inputs.layers:
        own = need(layer.stability)
        if not own.largest_cushion or not own.largest_minimal_cushion:
            return None
        logs.append(-2 * (math.log(own.largest_cushion) + math.log(own.largest_minimal_cushion)))
    return factor + log_sum(logs)


@bound(
    "zhang2020-thm6.1",
    "Zhang 2020, Theorem 6.1, on the captured graph",
    "spectral norms and stable ranks through shortcuts",
    "Examples needed if every layer were cut to the singular values that matter, with errors also passing "
    "through shortcuts, amplified as much as possible.",
    _WHOLE_DROPPED,
)
def theorem_6_1(inputs: BoundInputs) -> BoundValue:
    """``(1/gamma^2) h d^2 max||x||^2 L^2 sum window ||A||_F^2 / ||A||_2^2`` with ``L`` of the recursion."""
    growth = need(inputs.lipschitz)
    depth = inputs.depth if growth.depth is None else growth.depth
    common = _common(inputs, max(depth, 1), growth.log_total)
    layers = inputs.parts(common + _log_rank(layer) for layer in inputs.layers)
    total = log_sum(layer.log for layer in layers)
    homogeneous = inputs.hypothesis("positively homogeneous apart from biases")
    return BoundValue(
        total,
        conditions=(
            Condition("linear, 1-Lipschitz and addition nodes only", True, f"{depth} layers on the longest path"),
            Condition("nodes map 0 to 0 apart from biases", homogeneous.holds or None, homogeneous.detail),
            *inputs.hypotheses("bias-free", "every weight layer measured"),
            *norm_conditions(inputs),
        ),
        ingredients={
            **_ingredients(inputs),
            "d": depth,
            "log_lipschitz": growth.log_total,
            "window": tuple(float(own.window) for own in inputs.layers),
        },
        layers=layers,
        log_printed=total - log(inputs.sample.largest_input) if growth.double_skips else None,
        notes=_notes_6_1(inputs, growth.double_skips),
    )


def _log_rank(layer: LayerInputs) -> float:
    """``ln(window ||A||_F^2 / ||A||_2^2)``; a layer of zeros on a branch is exact at rank 0."""
    if layer.norms.operator == 0:
        return -math.inf
    return math.log(layer.window) + 2 * (log(layer.norms.frobenius) - log(layer.norms.operator))


def _notes_6_1(inputs: BoundInputs, double_skips: bool) -> tuple[str, ...]:
    shape = "the printed one with double-layer skips" if double_skips else "not the printed one with double-layer skips"
    convolutions = any(layer.op != "linear" for layer in inputs.layers)
    return (
        f"the graph is {shape}; d counts the layers on the longest path, the sum all layers",
        "the paper prints max||x||, its proof has the square (erratum 3)",
        *(("h counts channels; a kernel's inputs are more by its number of taps",) if convolutions else ()),
    )
