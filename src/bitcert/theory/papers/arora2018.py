"""Arora, Ge, Neyshabur & Zhang 2018, "Stronger generalization bounds for deep nets via a compression approach".

Guarantees, with every constant (docs/theory.md section 2): Theorem 2.1 for the network itself at 32 bits a weight, and
for each message found; Theorem 2.2 with a real code length, for the cut and rounded network and for the original one.
Unusual numbers of graph and preprocessing may have been learnt as well, so that each costs 64 bits in the rows of a
network without a message. Measures: Theorem 2.2 as printed, with noise stability Theorems 4.1 and 5.1, Table 1 and the
number of parameters of Lemma 3; each of the latter also with outliers left out (``-zeta``) and for the difference from
initialisation (``-init``).

Errata honoured (docs/theory.md section 4): 3 (``max ||x||^2``), 4 (an entrywise error of ``gamma`` costs ``2 gamma`` of
margin; an l2 error of ``gamma / sqrt 2`` costs ``gamma``). Constant of Lemma 3:
:mod:`bitcert.theory.formulas.projection_tail`.
"""

from __future__ import annotations

import math

from bitcert.canonical import finite
from bitcert.counting import DecisionRule
from bitcert.proof import complexity_nats
from bitcert.theory.formulas.low_rank_network import (
    ROUNDING,
    class_conditions,
    log_relative_error,
    log_rounding,
    network_message,
    rounding_condition,
    threshold_ranks,
)
from bitcert.theory.formulas.noise_stability import StabilitySum, Variant, lemma3, table1, theorem41, theorem51
from bitcert.theory.formulas.products import FROBENIUS, OPERATOR, log_ratios, norm_conditions
from bitcert.theory.inputs import BoundInputs, MessageFacts
from bitcert.theory.logs import log, log_sum
from bitcert.theory.papers.guarantees import HELPER_FIXED, INDEPENDENT, citable, helpers_fixed, speaks_of
from bitcert.theory.registry import Bound, bound, guarantee
from bitcert.theory.value import BoundValue, Condition, need, needs, outside

_PAPER = "Arora et al. 2018"
_DROPPED = "constants, logarithms, training margin loss"
_WEIGHT_BITS = 32
_THRESHOLD_BITS = 64
_CONSTANT_BITS = 64
_OUTWARD = 2.0**-40
"""A bound on an error is rounded up by this fraction, for the rounding of logarithms."""


def _hoeffding_log(loss: float, bits: int, delta: float, m: int) -> float:
    """``ln(loss + sqrt((bits ln 2 + ln(1/delta)) / (2 m)))``, rounded up; above 0 it says nothing."""
    gap = (log(complexity_nats(bits, delta)) - math.log(2 * m)) / 2
    return log_sum([log(loss), gap]) + _OUTWARD


@guarantee(
    "arora2018-thm2.1",
    f"{_PAPER}, Theorem 2.1, with constants (docs/theory.md 2)",
    "Occam bound of the network itself, 32 bits a weight",
    "What the training data alone prove about the network's error when it is described weight by weight.",
)
def thm21(inputs: BoundInputs) -> BoundValue:
    """``L_0(f) <= hat L_0(f) + sqrt(((32 q + 64 k) ln 2 + ln(1/delta)) / (2 m))``: ``q`` parameters, ``k`` constants.

    The network is its own compression: ``2^32`` values for each parameter and ``2^64`` for each unusual number outside
    them, which may have been learnt as well; deviation 0, so no margin is lost.
    """
    bits = _WEIGHT_BITS * inputs.num_parameters + _CONSTANT_BITS * inputs.constants
    loss = max(inputs.sample.errors / inputs.m, inputs.sample.margin_loss(0.0))
    return BoundValue(
        log=_hoeffding_log(loss, bits, inputs.delta, inputs.m),
        conditions=(_float32(inputs), HELPER_FIXED, INDEPENDENT),
        ingredients={
            "m": inputs.m,
            "parameters": inputs.num_parameters,
            "constants": inputs.constants,
            "bits": bits,
            "delta": inputs.delta,
            "training_loss": loss,
        },
        notes=_constant_notes(inputs),
    )


def _constant_notes(inputs: BoundInputs) -> tuple[str, ...]:
    if not inputs.constants:
        return ()
    return (
        f"{inputs.constants:,} unusual numbers in graph and preprocessing count {_CONSTANT_BITS} bits each: no program "
        "can tell whether they were learnt",
    )


def _float32(inputs: BoundInputs) -> Condition:
    name = "parameters are float32 numbers"
    tensors = inputs.parameters or {layer.name: layer.weight for layer in inputs.layers}
    others = [key for key, value in tensors.items() if not bool((value.float().to(value.dtype) == value).all())]
    return Condition(name, not others, f"not {others[0]}" if others else f"{inputs.num_parameters} of them")


@guarantee(
    "arora2018-thm2.1-message",
    f"{_PAPER}, Theorem 2.1, with constants (docs/theory.md 2)",
    "Occam bound of a message, by the margins it leaves",
    "What the paper's main theorem says of the compressed network in the message: its length, and how many "
    "training examples the network classifies with more margin than compression moved its outputs.",
)
def thm21_message(inputs: BoundInputs) -> BoundValue:
    """``L_0(g) <= hat L_t(f) + sqrt((|c| ln 2 + ln(K/delta)) / (2 m))`` for the best of ``K`` messages.

    ``t`` is twice the largest entrywise deviation on the sample, or ``sqrt 2`` times the largest l2 deviation if that
    is smaller. The ``K`` messages may have different helpers, so they share ``delta``.
    """
    messages, share, notes = citable(inputs)
    losses = [_message_loss(inputs, message, _threshold(message)) for message in messages]
    pairs = zip(messages, losses, strict=True)
    logs = [_hoeffding_log(loss, message.bits, share, inputs.m) for message, loss in pairs]
    best = min(range(len(messages)), key=lambda k: logs[k])
    chosen = messages[best]
    printed = _message_loss(inputs, chosen, chosen.deviation)
    return BoundValue(
        log=logs[best],
        log_printed=_hoeffding_log(printed, chosen.bits, share, inputs.m),
        conditions=(helpers_fixed(messages), INDEPENDENT),
        ingredients={
            **inputs.facts("m", "delta"),
            "delta_of_each": share,
            "message": chosen.name,
            "bits": chosen.bits,
            "errors_of_message": chosen.errors,
            "deviation": finite(chosen.deviation),
            "deviation_l2": finite(chosen.deviation_l2),
            "threshold": finite(_threshold(chosen)),
            "margin_loss": losses[best],
            "all_bits": tuple(float(message.bits) for message in messages),
            "all_deviations": tuple(finite(message.deviation) for message in messages),
            "all_margin_losses": tuple(losses),
            "all_logs": tuple(logs),
        },
        notes=(
            speaks_of(chosen, inputs.m),
            "the paper prints the margin loss at one entrywise deviation, which does not follow (erratum 4)",
            *notes,
        ),
    )


def _threshold(message: MessageFacts) -> float:
    return min(2 * message.deviation, math.sqrt(2) * message.deviation_l2)


def _message_loss(inputs: BoundInputs, message: MessageFacts, threshold: float) -> float:
    # near-ties count as errors of the message, so its own count may be the larger one
    return max(inputs.sample.margin_loss(threshold), message.errors / inputs.m)


@bound(
    "arora2018-thm2.2",
    f"{_PAPER}, Theorem 2.2 (Neyshabur et al. 2017)",
    "product of spectral norms, sum of stable ranks",
    "How many examples would be needed if errors made in a layer grew as much as its weights allow at all.",
    _DROPPED,
)
def thm22(inputs: BoundInputs) -> BoundValue:
    """``h d^2 max ||x||^2 prod ||A^i||_2^2 sum ||A^i||_F^2 / ||A^i||_2^2 / gamma^2``; printed with ``max ||x||``.

    ``||A^i||_2`` is the norm of the map at the real input size, which is the matrix norm of a dense layer.
    """
    frobenius, operators = FROBENIUS.values(inputs), OPERATOR.values(inputs)
    ratios = [2 * ratio for ratio in log_ratios(inputs, frobenius, operators)]
    largest = inputs.sample.largest_input
    if largest == 0:
        raise outside("does not apply: every input is 0")
    product = OPERATOR.log_product(inputs)
    factor = math.log(inputs.width) + 2 * (math.log(inputs.depth * largest) + product - math.log(inputs.margin))
    size = factor + log_sum(ratios)
    names = ("ReLU activations only", "bias-free", "chain of layers", "every weight layer measured")
    return BoundValue(
        log=size,
        log_printed=size - math.log(largest),
        conditions=(inputs.fully_connected, *inputs.hypotheses(*names), *norm_conditions(inputs)),
        ingredients={
            **inputs.facts("m", "d", "h", "gamma", "largest_input"),
            "operator_norms": operators,
            "frobenius_norms": frobenius,
            "log_product_of_operator_norms": product,
        },
        layers=inputs.parts(factor + ratio for ratio in ratios),
        notes=("printed with max ||x||; units and proof need max ||x||^2 (erratum 3)",),
    )


@guarantee(
    "arora2018-thm2.2-constants",
    f"{_PAPER}, proof of Theorem 2.2, with constants and a real code",
    "cut and rounded layers, worst-case growth",
    "What the training data prove about a network whose layers are cut to low rank and rounded so finely that "
    "no training example can lose its margin, whatever the layers do to the rounding errors.",
)
def thm22_constants(inputs: BoundInputs) -> BoundValue:
    """``L_0(g) <= hat L_gamma(f) + sqrt((|c| ln 2 + ln(1/delta)) / (2 m))`` with ``||f - g|| <= gamma/sqrt 2`` on S.

    The largest ``||x||`` of the sample suffices, and gamma may be chosen on it: both steer the encoder only.
    """
    return _low_rank(inputs, inputs.sample.largest_input, inputs.margin, 0, ())


@guarantee(
    "arora2018-thm2.2-original",
    f"{_PAPER}, Theorem 2.2 and remark (1) below Theorem 2.1, with constants and a real code",
    "the same for the network itself",
    "What the training data prove about the network itself, as its cut and rounded form stays close to it on "
    "every possible input; needs a limit on the size of inputs that is known without the data.",
)
def thm22_original(inputs: BoundInputs) -> BoundValue:
    """``L_0(f) <= hat L_gamma(f) + sqrt((|c| ln 2 + ln(1/delta)) / (2 m))`` with ``||f - g|| <= gamma/(2 sqrt 2)``.

    For every ``||x|| <= R``: ``L_0(f) <= L_(gamma/2)(g)``, and ``hat L_(gamma/2)(g) <= hat L_gamma(f)``. The threshold
    ``gamma/2`` is part of the classifier that the message describes: 64 bits.
    """
    limit = inputs.sample.norm_limit
    if limit is None:
        raise needs("needs inputs of 8-bit pixels: no limit on ||x|| is known without the data")
    largest = inputs.sample.largest_input
    inside = Condition("inputs within the limit", largest <= limit, f"max ||x|| = {largest:.6g}, limit {limit:.6g}")
    return _low_rank(inputs, limit, inputs.margin / 2, _THRESHOLD_BITS, (inside,))


def _low_rank(
    inputs: BoundInputs, radius: float, margin: float, extra_bits: int, conditions: tuple[Condition, ...]
) -> BoundValue:
    """The bound when no margin may change by more than ``margin``, less what is left to float32.

    A change of ``t`` in l2 changes a margin by at most ``sqrt(2) t``.
    """
    rounding = math.sqrt(2) * math.exp(min(log_rounding(inputs, log(radius)), 700.0))
    rounded, reserve = rounding_condition(inputs), DecisionRule().tolerance * inputs.sample.largest_output
    if rounding >= margin:
        rounded = Condition(ROUNDING, False, f"up to {rounding:.3g}, where {margin:.3g} is left of the margin")
    else:
        reserve = max(rounding, reserve)
    if not margin > reserve:
        raise outside(f"does not apply: a margin of {margin:.3g} is within the rounding of outputs, {reserve:.3g}")
    allowed = (margin - reserve) / math.sqrt(2)
    log_delta = log_relative_error(inputs, log(radius), math.log(allowed))
    message = network_message(inputs, log_delta)
    bits = message.bits + extra_bits + _CONSTANT_BITS * inputs.constants
    loss = inputs.sample.margin_loss(inputs.margin)
    return BoundValue(
        log=_hoeffding_log(loss, bits, inputs.delta, inputs.m),
        conditions=(*class_conditions(inputs), *conditions, rounded, HELPER_FIXED, INDEPENDENT),
        ingredients={
            **inputs.facts("m", "d", "delta", "gamma", "margin_loss"),
            "radius": radius,
            "log_lipschitz": need(inputs.lipschitz).log_total,
            "reserve": reserve,
            "output_error_allowed": allowed,
            "log_relative_error": log_delta,
            "ranks_at_threshold": tuple(map(float, threshold_ranks(inputs, log_delta))),
            "ranks": tuple(None if form.rank is None else float(form.rank) for form in message.forms),
            "step_exponents": tuple(float(form.exponent) for form in message.forms),
            "entry_bits": tuple(float(form.width) for form in message.forms),
            "layer_bits": tuple(float(form.bits) for form in message.forms),
            "numbers_sent_exactly": message.exact_numbers,
            "bits": bits,
            "constants": inputs.constants,
        },
        layers=inputs.parts(log(form.numbers) for form in message.forms),
        notes=(
            "of the decoded network in exact arithmetic; what rounding can do to logits is taken off the margin",
            "a rank of null: the layer is sent whole, which is shorter than its factors",
            *_constant_notes(inputs),
        ),
    )


_IN_WORDS = {
    Variant.WORST: ("", "", ""),
    Variant.ZETA: (
        ", remark (ii)",
        ", outliers left out",
        " The worst examples of each quantity are left out; the share of them is added to the error.",
    ),
    Variant.INIT: (
        ", remark (i)",
        ", from initialisation",
        " What is compressed is how far each layer has moved from its initial weights, which the decoder knows.",
    ),
}


def _variants(
    name: str, place: str, title: str, sentence: str, dropped: str, function: StabilitySum
) -> tuple[Bound, Bound, Bound]:
    """The rows of a formula for the worst values, without outliers and from initialisation."""

    def row(variant: Variant) -> Bound:
        remark, ending, more = _IN_WORDS[variant]
        full, source = f"arora2018-{name}{variant.suffix}", f"{_PAPER}, {place}{remark}"
        make = bound(full, source, title + ending, sentence + more, dropped)
        return make(lambda inputs: function(inputs, variant), function.__doc__)

    return row(Variant.WORST), row(Variant.ZETA), row(Variant.INIT)


THEOREM_41, THEOREM_41_ZETA, THEOREM_41_INIT = _variants(
    "thm4.1",
    "Theorem 4.1",
    "noise stability, fully connected",
    "How many examples would be needed if errors made in a layer grew as much as they do on the training data.",
    _DROPPED,
    theorem41,
)

THEOREM_51, THEOREM_51_ZETA, THEOREM_51_INIT = _variants(
    "thm5.1",
    "Theorem 5.1",
    "noise stability, convolutional",
    "How many examples would be needed if errors made in a layer, convolutions included, grew as much as they do on "
    "the training data.",
    _DROPPED,
    theorem51,
)

TABLE_1, TABLE_1_ZETA, TABLE_1_INIT = _variants(
    "table1",
    "Table 1",
    "effective parameters of the layers",
    "How many numbers each layer could be described by, as far as noise stability tells, added up.",
    f"{_DROPPED}, depth, margin and output norm",
    table1,
)

LEMMA_3, LEMMA_3_ZETA, LEMMA_3_INIT = _variants(
    "lemma3",
    "Lemma 3, with the constant that holds",
    "numbers kept by random projection",
    "How many numbers the paper's compression must keep of the network so that no training example loses its margin.",
    "bits of a number, training margin loss",
    lemma3,
)
