"""Generalization of magnitude-pruned networks (Guha, Dubey & Huo 2023): Theorems 5.2, 6.2, D.1; Lemmas 4.4, C.4, D.1.

    Theorem 5.2   sum_l j_l p_l ln^2(p_l) ln(r_l)
    Lemma D.1     sum_l log2 C(d1 d2, J_l) + J_l log2 r_l                                         (bits)
    Theorem 6.2   (n d_0 + L n^2) ln^2(D_G) ln(1 / rho)

``j_l`` (most non-zeros in a row or column) and ``J_l`` (entries kept) come from really pruning every layer
(:mod:`bitcert.theory.formulas.pruning`), ``p_l`` is the longer side. Rows come at the stated strength ``d = 1``, which
keeps about 42 % of a Gaussian layer and almost never meets the paper's margin condition, and *at gamma*: with
the strongest ``d`` that meets it. ``r_l`` counts the multiples of ``rho_l`` within the layer's range. The paper writes
``1 / rho_l``, which supposes weights of size 1 and changes when layers are rescaled by ``a`` and ``1 / a``.

Errata (docs/theory.md section 4): 4 (what is needed is ``||f - g||_2 <= gamma / sqrt 2``), 6 (margins of *at most*
gamma count: a slip in a definition), 7, 8 (``max ||x||_2``, not the input's dimension), 9 (``j_l p_l``, not ``3 lambda
chi d1 d2``), 10 (``alpha`` is the number kept), 11 (one line of a proof prints ``exp(-2 tau n)`` for ``exp(-2 tau^2
n)``; Theorem D.1 as printed is right). ``log_printed`` has the printed forms where a theorem's value differs. Found
here as well:

* Theorem 5.2's probability leaves out the ``d1^(-1/3) + d2^(-1/3)`` of Lemma 5.1, on which its printed value rests;
  with them that claim has probability 0 for five layers of width 784. The measured ``j_l`` needs no Lemma 5.1.
* Lemma C.1 takes a union over the examples but not over singular directions, signs and layers. It is then applied to
  differences ``x_hat - x``, of which Condition C.1 says nothing. Its larger side ``d1`` must be the *input*: only a
  matrix with fewer outputs than inputs loses part of a spread vector.
* Theorem 6.1 prints ``O(d_0 D_G + D_G^2 L)`` active weights; the proof of 6.2 has the width of the target for ``D_G``.

All rows are measures: constants of ``O(.)``, Latala's ``C`` and the polynomial ``D_G`` are unknown, and the bits that
would name ``J_l``, ``rho_l`` and the range of each layer are not counted (a certificate counts them).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from bitcert.errors import listed
from bitcert.linear.lanczos import largest_singular_value
from bitcert.theory.formulas.pruning import Pruned, claim_kept, epsilon, log_alphabet, log_step
from bitcert.theory.formulas.pruning_setting import (
    SPREAD,
    Setting,
    at_gamma,
    claim,
    facts,
    log_change_of_outputs,
    log_kappas,
    printed_claim,
    pruning_conditions,
    sketch_conditions,
    stated,
    structure,
)
from bitcert.theory.formulas.pruning_theory import keep_probability, naive_bits, union_deviation
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log, log_sum
from bitcert.theory.registry import bound
from bitcert.theory.value import BoundValue, Condition, Unit, in_every_layer, outside

_DROPPED = "the constant of O(.), Latala's constant C (1 taken), the alphabet of the sketch's sums"
_SPREAD_DROPPED = ", the constants of Condition C.1 (those of the sphere taken)"
_SPREAD_WORDS = " Here the input of every layer is supposed to point in a random direction."
_SKETCH_WORDS = (
    "Numbers that a random sketch of the pruned weights would need; the pruned network could not overfit much if they "
    "were far fewer than the training examples."
)


@bound("guha2023-thm5.2", "Guha 2023, Theorem 5.2", "pruned at d = 1, sketched", _SKETCH_WORDS, _DROPPED)
def sketch_at_stated_strength(inputs: BoundInputs) -> BoundValue:
    """Theorem 5.2 with the layers pruned at ``d = 1``; convolutions by their kernels as matrices."""
    return _sketch(inputs, stated(inputs))


@bound(
    "guha2023-thm5.2-at-gamma",
    "Guha 2023, Theorem 5.2",
    "pruned as far as gamma allows, sketched",
    _SKETCH_WORDS + " Here the pruning is as weak as the theorem's own condition on the margin demands.",
    _DROPPED,
)
def sketch_at_gamma(inputs: BoundInputs) -> BoundValue:
    """Theorem 5.2 with the strongest pruning that its condition on gamma allows."""
    inputs.require_dense("Theorem 5.2's condition on the margin")
    return _sketch(inputs, at_gamma(inputs))


@bound(
    "guha2023-appendixC",
    "Guha 2023, Theorem 5.2 with Lemma C.4",
    "pruned as far as gamma allows if inputs are spread, sketched",
    _SKETCH_WORDS + _SPREAD_WORDS,
    _DROPPED + _SPREAD_DROPPED,
)
def sketch_with_kappa(inputs: BoundInputs) -> BoundValue:
    """Theorem 5.2 with the sub-Gaussian factors ``kappa_l`` of Appendix C in the condition on gamma."""
    inputs.require_dense("Lemma C.4")
    return _spread(inputs, _sketch(inputs, at_gamma(inputs, with_kappa=True)))


def _sketch(inputs: BoundInputs, found: Setting) -> BoundValue:
    logs = [_log_sketch(own.densest * own.side, own.side, own.log_values) for own in found.layers]
    chi, slack = keep_probability(found.d) if found.d > 0 else 1.0, epsilon(inputs)
    printed = [_log_sketch(3 * slack * chi * own.values.size, own.side, -own.log_rho) for own in found.layers]
    honest = printed_claim(inputs, found.weights)
    return BoundValue(
        log=log_sum(logs),
        conditions=pruning_conditions(inputs, found) + sketch_conditions(inputs, found),
        ingredients=facts(inputs, found)
        | {
            "j": tuple(own.densest for own in found.layers),
            "p": tuple(own.side for own in found.layers),
            "chi": chi,
            "lambda": slack,
            "j_of_lemma_5.1": tuple(3 * slack * chi * own.side for own in found.layers),
            "printed_probability": honest,
        },
        layers=inputs.parts(logs),
        log_printed=None if any(own.log_rho >= 0 for own in found.layers) else log_sum(printed),
        probability=claim(inputs, found.weights),
        notes=(
            f"epsilon_l = lambda_l = 4 L = {slack}; half of what a layer may change is left for rounding",
            f"with the d^(-1/3) of Lemma 5.1 the printed value holds with probability {honest:.3g}",
        ),
    )


def _log_sketch(numbers: float, side: int, log_values: float) -> float:
    """``ln(numbers ln^2(side) ln(values))``."""
    return log(numbers) + 2 * log(math.log(side)) + log(log_values)


def _spread(inputs: BoundInputs, found: BoundValue) -> BoundValue:
    """The same under Condition C.1, which may fail with probability ``delta``."""
    left = None if found.probability is None else max(0.0, found.probability - inputs.delta)
    return replace(found, conditions=found.conditions + SPREAD, probability=left)


_CHANGE_WORDS = (
    "How far pruning and rounding might move the outputs in the worst case, in units of the margin; above 0.7 the "
    "lemma cannot exclude that every prediction changes."
)


@bound(
    "guha2023-lemma4.4",
    "Guha 2023, Lemma 4.4",
    "change of outputs over gamma, pruned at d = 1",
    _CHANGE_WORDS,
    "Latala's constant C (1 taken)",
    unit=Unit.PLAIN,
)
def output_change(inputs: BoundInputs) -> BoundValue:
    """``e max||x|| Prod ||A^l|| Sum (epsilon Gamma + rho J) / ||A^l|| / gamma`` at ``d = 1``; printed with ``d_0``."""
    inputs.require_dense("Lemma 4.4")
    found = stated(inputs)
    return _change(inputs, found, found)


@bound(
    "guha2023-lemmaC.4",
    "Guha 2023, Lemma C.4",
    "change of outputs over gamma if inputs are spread, pruned at d = 1",
    _CHANGE_WORDS + _SPREAD_WORDS,
    "Latala's constant C (1 taken)" + _SPREAD_DROPPED,
    unit=Unit.PLAIN,
)
def output_change_if_spread(inputs: BoundInputs) -> BoundValue:
    """Lemma 4.4 with the sub-Gaussian factors ``kappa_l``; printed with ``d_0`` and the smaller union."""
    inputs.require_dense("Lemma C.4")
    found = stated(inputs)
    kappas, printed = (log_kappas(inputs, found.weights, as_printed) for as_printed in (False, True))
    return _spread(inputs, _change(inputs, replace(found, log_kappas=kappas), replace(found, log_kappas=printed)))


def _change(inputs: BoundInputs, found: Setting, printed: Setting) -> BoundValue:
    slack, in_gammas = math.log(epsilon(inputs)), math.log(inputs.margin)
    removed = tuple(_log_removed(own) for own in found.layers)
    beyond = [own.name for own, size in zip(found.layers, removed, strict=True) if size > slack + own.log_gamma]
    input_size = inputs.layers[0].num_inputs
    return BoundValue(
        log=log_change_of_outputs(inputs, found, log(inputs.sample.largest_input)) - in_gammas,
        conditions=(
            *pruning_conditions(inputs, found),
            in_every_layer("||A - A_hat||_2 <= epsilon Gamma in this draw", beyond),
        ),
        ingredients=facts(inputs, found) | {"input_size": input_size, "log_removed_norm": removed},
        log_printed=log_change_of_outputs(inputs, printed, math.log(input_size)) - in_gammas,
        probability=1 - inputs.depth / epsilon(inputs),
        notes=("at most 1 / sqrt 2 is needed, so that every margin above gamma keeps its sign (erratum 4)",),
    )


def _log_removed(own: Pruned) -> float:
    """``ln ||A - A_hat||_2`` of the draw."""
    removed = own.weights.unit - own.values
    return log(largest_singular_value(torch.from_numpy(removed)) if removed.any() else 0.0) + own.weights.log_top


_COUNT_WORDS = "Bits that write down which weights survive pruning and their rounded values, entry by entry."


@bound(
    "guha2023-lemmaD.1",
    "Guha 2023, Lemma D.1",
    "pruned at d = 1, counted",
    _COUNT_WORDS,
    "the constant of O(.), the bits that name J_l, rho_l and the range",
)
def count_at_stated_strength(inputs: BoundInputs) -> BoundValue:
    """``sum_l log2 C(d1 d2, J_l) + J_l log2 r_l`` of the layers pruned at ``d = 1``; printed with ``alpha`` pruned."""
    found = stated(inputs)
    return _counted(inputs, found, [own.kept for own in found.layers])


@bound(
    "guha2023-lemmaD.1-predicted",
    "Guha 2023, Lemma D.1 with Lemmas D.2 and D.3",
    "pruned at d = 1, counted before pruning",
    _COUNT_WORDS + " Here the number of survivors is predicted for normal weights, not counted.",
    "the constant of O(.), the bits that name rho_l and the range",
)
def count_as_predicted(inputs: BoundInputs) -> BoundValue:
    """Lemma D.1 with the number kept that Lemmas D.2 and D.3 promise with probability ``1 - delta``."""
    found = stated(inputs)
    claims = [claim_kept(own.weights.shape, found.d, inputs.delta / (2 * inputs.depth)) for own in found.layers]
    value = _counted(inputs, found, [own.kept for own in claims])
    exceeded = [own.name for own, said in zip(found.layers, claims, strict=True) if own.kept > said.kept]
    detail = f"more were kept in {listed(exceeded)}" if exceeded else "in every layer"
    return replace(
        value,
        conditions=(*value.conditions, Condition("no more kept in this draw than predicted", not exceeded, detail)),
        ingredients=dict(value.ingredients)
        | {
            "likely_pruned": tuple(own.likely for own in claims),
            "kappa": tuple(own.kappa for own in claims),
            "layer_probability": tuple(own.probability for own in claims),
        },
        probability=max(0.0, 1 - math.fsum(1 - own.probability for own in claims)),
    )


def _bits(found: Setting, kept: Sequence[int], alphabets: Sequence[float]) -> list[float]:
    """Lemma D.1 of each layer; ``ln r`` may be larger than a float's logarithm."""
    counts = zip(found.layers, kept, alphabets, strict=True)
    return [naive_bits(own.values.size, number, 1) + number * ln_r / math.log(2) for own, number, ln_r in counts]


def _alphabets(found: Setting, kept: Sequence[int]) -> list[float]:
    """``ln r_l`` with the rounding step that so many kept entries leave."""
    counts = zip(found.layers, kept, strict=True)
    steps = ((own, log_step(own.weights, number, found.log_share)) for own, number in counts)
    return [log_alphabet(own.log_largest - step) for own, step in steps]


def _counted(inputs: BoundInputs, found: Setting, kept: Sequence[int]) -> BoundValue:
    alphabets = _alphabets(found, kept)
    bits = _bits(found, kept, alphabets)
    compressed = [own.values.size - number for own, number in zip(found.layers, kept, strict=True)]
    return BoundValue(
        log=log(math.fsum(bits)),
        conditions=pruning_conditions(inputs, found),
        ingredients=facts(inputs, found) | {"alpha": tuple(kept), "log_r": tuple(alphabets), "bits": tuple(bits)},
        layers=inputs.parts(map(log, bits)),
        log_printed=log(math.fsum(_bits(found, compressed, alphabets))),
        notes=("a value in bits; printed: alpha read as the number pruned, as Lemma D.3 has it (erratum 10)",),
    )


@bound(
    "guha2023-thmD.1",
    "Guha 2023, Theorem D.1 with Lemma D.1",
    "union over the pruned networks, as far as gamma allows",
    "The error rate of the pruned network that the count of all pruned networks would promise.",
    "the bits that name J_l, rho_l and the range, Latala's constant C (1 taken)",
    unit=Unit.ERROR,
)
def union_error(inputs: BoundInputs) -> BoundValue:
    """``L_hat_gamma + sqrt(ln(J / delta) / (2 m))``, ``J`` the matrices of Lemma D.1 pruned as far as gamma allows.

    That is what the theorem prints, ``sqrt(ln sqrt(J / delta) / m)``.
    """
    inputs.require_dense("Theorem D.1's condition on the margin")
    found = at_gamma(inputs)
    kept = [own.kept for own in found.layers]
    bits = math.fsum(_bits(found, kept, _alphabets(found, kept)))
    loss = inputs.sample.margin_loss(inputs.margin)
    return BoundValue(
        log=log(loss + union_deviation(bits, inputs.m, inputs.delta)),
        conditions=pruning_conditions(inputs, found),
        ingredients=facts(inputs, found) | {"bits": bits, "delta": inputs.delta, "margin_loss": loss},
        probability=max(0.0, 1 - inputs.delta - inputs.depth / epsilon(inputs)),
        notes=(
            "the theorem is right as printed; slips: exp(-2 tau n) for exp(-2 tau^2 n) in its proof (erratum 11), and "
            "margins of at least gamma in the definition of the margin loss (erratum 6)",
        ),
    )


@bound(
    "guha2023-thm6.2",
    "Guha 2023, Theorem 6.2",
    "winning ticket that imitates the network",
    "Numbers that would describe a subnetwork of a much larger random network which computes nearly the same.",
    "the constant of O(.) and the polynomial D_G (degree 1 taken: a degree k multiplies by about k^2)",
)
def winning_ticket(inputs: BoundInputs) -> BoundValue:
    """``(n d_0 + L n^2) ln^2(D_G) ln(1/rho)`` with this network as the target of Malach et al. 2020.

    The target must have ``||A||_2 <= 1``, ``max |a| <= 1 / sqrt(fan-in)`` and inputs in the unit ball, so every layer
    is divided by ``c_l``, the smallest number that does it, and the input by ``max ||x||``: a homogeneous network keeps
    its decisions and its outputs shrink. Half of what ``gamma / 2`` is then goes to imitation, ``epsilon``, half to
    rounding: ``rho = epsilon / (e L n)``. ``D_G = d_0 n L (1/epsilon) ln(1/delta)``.
    """
    inputs.require_dense("Theorem 6.2")
    dead = [layer.name for layer in inputs.layers if layer.norms.spectral == 0]
    if dead:
        raise outside(f"does not apply: every weight of {dead[0]} is 0, so there is nothing to imitate")
    width, incoming, depth = inputs.width, inputs.layers[0].num_inputs, inputs.depth
    scales = tuple(
        max(log(own.norms.spectral), log(float(own.weight.detach().abs().max())) + 0.5 * math.log(own.fan_in))
        for own in inputs.layers
    )
    # an input norm below 1 and layers below the limits need no division, but dividing loses nothing
    shrink = log(inputs.sample.largest_input) + math.fsum(scales)
    if math.isinf(shrink):
        raise outside("does not apply: every input of the sample is 0")
    log_epsilon = math.log(inputs.margin) - math.log(4) - shrink
    log_rho = log_epsilon - 1 - math.log(depth * width)
    log_side = math.log(incoming * width * depth) - log_epsilon + log(-math.log(inputs.delta))
    if log_epsilon >= 0:
        raise outside("does not apply: the margin is larger than the layers without biases could make it")
    value = log_sum([math.log(width * incoming), math.log(depth) + 2 * math.log(width)])
    size = "degree 1 taken: d_0 n L ln(1/delta) / epsilon"
    conditions = (
        *structure(inputs),
        inputs.hypothesis("ReLU activations only"),
        inputs.hypothesis("positively homogeneous apart from biases"),
        Condition("D_G is the polynomial of Malach et al.", None, size),
    )
    return BoundValue(
        log=value + 2 * math.log(log_side) + math.log(-log_rho),
        conditions=conditions,
        ingredients={
            **inputs.facts("gamma", "delta"),
            "n": width,
            "d_0": incoming,
            "L": depth,
            **inputs.facts("max_input_norm"),
            "log_c": scales,
            "log_epsilon": log_epsilon,
            "log_rho": log_rho,
            "log_D_G": log_side,
        },
        probability=max(0.0, 1 - inputs.delta - depth * math.exp(-2 * log_side)),
        notes=("the layers are divided so that the target meets Theorem 6.1; a homogeneous network allows it",),
    )
