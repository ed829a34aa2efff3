"""A network pruned in one way, as the rows of Guha 2023 need it: strength, share of change, conditions, ingredients.

Two ways: at a stated strength ``d``, or *at gamma*, with the strongest ``d`` for which Lemma 4.4 (or C.4) stays within
``gamma / sqrt 2``. The factors ``kappa_l`` of Appendix C are here as well: ``kappa_l = sqrt(d_out) t_l`` for a layer
with fewer outputs than inputs, where ``t_l`` makes Condition C.1 fail with probability ``delta`` at most.

Conditions are those of the paper, each with its numbers; whether weights are Gaussian or inputs spread can be refused,
not shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitcert.errors import listed
from bitcert.theory.formulas.pruning import (
    Pruned,
    Weights,
    all_weights,
    epsilon,
    gaussian,
    log_output_change,
    log_ratio,
    prune,
    strength,
    strongest,
)
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.logs import log
from bitcert.theory.value import Condition, Ingredient, in_every_layer

STRENGTH = 1.0
"""``d`` of the rows at a stated strength: a Gaussian layer keeps ``1 - sqrt(1/3)``, 42 %, of its entries."""

SKETCH_EXPONENT = 2
"""``c``: Theorem 5.1 holds with probability ``1 - p^(-c)``, and Remark 5.1 takes ``c = 2``."""

_TAIL_A, _TAIL_B = 1.0, 0.5
"""Condition C.1 for the uniform law on the sphere: ``P(<x, v> >= t) <= exp(-t^2 dim / 2)``."""

_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Setting:
    """A network pruned in one way.

    Attributes:
        log_q: ``ln(d / (d + 2))``.
        log_share: ``ln`` of the share of ``||A^l||_2`` that a layer may change by, at most ``1 / L``.
        layers: after pruning.
        log_kappas: ``ln kappa_l``; 0 without Appendix C.
    """

    log_q: float
    log_share: float
    layers: tuple[Pruned, ...]
    log_kappas: tuple[float, ...]

    @property
    def d(self) -> float:
        """The strength; 0 where a float cannot hold it."""
        return strength(self.log_q)

    @property
    def weights(self) -> tuple[Weights, ...]:
        """The layers before pruning."""
        return tuple(own.weights for own in self.layers)


def stated(inputs: BoundInputs) -> Setting:
    """Pruned at ``d = 1``.

    Raises:
        NotComputed: a layer is all 0.
    """
    share, log_q = -math.log(inputs.depth), log_ratio(STRENGTH)
    return Setting(log_q, share, prune(all_weights(inputs), log_q, share, inputs.seed), (0.0,) * inputs.depth)


def at_gamma(inputs: BoundInputs, with_kappa: bool = False) -> Setting:
    """The strongest pruning whose Lemma 4.4 (C.4) stays within ``gamma / sqrt 2``.

    Raises:
        NotComputed: a layer is all 0.
    """
    weights = all_weights(inputs)
    kappas = log_kappas(inputs, weights) if with_kappa else (0.0,) * len(weights)
    growth = 1 + log(inputs.sample.largest_input) + math.fsum(w.log_norm for w in weights) + math.fsum(kappas)
    share = min(0.0, log_allowed(inputs) - growth) - math.log(inputs.depth)
    log_q = strongest(weights, share, epsilon(inputs))
    return Setting(log_q, share, prune(weights, log_q, share, inputs.seed), kappas)


def log_allowed(inputs: BoundInputs) -> float:
    """``ln(gamma / sqrt 2)``: the change of outputs in the l2 norm that keeps every margin above gamma (erratum 4)."""
    return math.log(inputs.margin) - math.log(2) / 2


def log_change_of_outputs(inputs: BoundInputs, found: Setting, log_largest_input: float) -> float:
    """``ln`` of Lemma 4.4, or of C.4 where the setting has factors ``kappa_l``."""
    return log_output_change(found.layers, epsilon(inputs), log_largest_input) + math.fsum(found.log_kappas)


def log_kappas(inputs: BoundInputs, weights: Sequence[Weights], printed: bool = False) -> tuple[float, ...]:
    """``ln kappa_l`` of every layer, at most 0.

    ``2 m d_out L a exp(-b t^2 d_in) = delta``: both signs, every example, singular direction and layer. As ``printed``
    the union is over examples (and layers) only.
    """
    found = []
    for own in weights:
        outputs, incoming = own.shape
        events = math.log(inputs.m * inputs.depth * _TAIL_A / inputs.delta)
        if not printed:
            events += math.log(2 * outputs)
        square = outputs * events / (_TAIL_B * incoming)
        found.append(0.5 * math.log(square) if outputs < incoming and square < 1 else 0.0)
    return tuple(found)


def claim(inputs: BoundInputs, layers: Sequence[Weights]) -> float:
    """Probability that Lemma 4.2 and Theorem 5.1 hold in every layer, as the paper adds it up; at least 0."""
    failing = [1 / epsilon(inputs) + max(own.shape) ** -SKETCH_EXPONENT for own in layers]
    return max(0.0, 1 - math.fsum(failing))


def printed_claim(inputs: BoundInputs, layers: Sequence[Weights]) -> float:
    """The same with Lemma 5.1, which fails with ``1/lambda + d1^(-1/3) + d2^(-1/3)``; the printed value rests on it.

    Lemma 5.1 bounds the non-zeros of any row or column by ``3 lambda max(d1, d2) chi``. It rests on Lemma E.1, "``N``
    balls in ``n`` bins: at most ``3N/n`` in any bin with probability ``1 - n^(-1/3)``", which is false when ``N`` is
    not much larger than ``n log n`` (``N < n/3`` balls would fill no bin at all), and it drops the diagonal, which is
    kept whatever ``d`` is.
    """
    rest = [1 / epsilon(inputs) + own.shape[0] ** (-1 / 3) + own.shape[1] ** (-1 / 3) for own in layers]
    return max(0.0, claim(inputs, layers) - math.fsum(rest))


def structure(inputs: BoundInputs) -> tuple[Condition, ...]:
    """What the perturbation lemma asks of the network (Guha 2023, section 3.1 and Lemma B.2)."""
    homogeneous = inputs.hypothesis("positively homogeneous apart from biases")
    at_zero = Condition("activations map 0 to 0", True if homogeneous.holds else None, homogeneous.detail)
    names = ("chain of layers", "bias-free", "activations 1-Lipschitz")
    return (inputs.fully_connected, *inputs.hypotheses(*names), at_zero)


def pruning_conditions(inputs: BoundInputs, found: Setting) -> tuple[Condition, ...]:
    """Structure, Lemmas 4.2 and 4.4, and the condition on gamma of every theorem."""
    half = found.log_share - math.log(2) + _ROUNDING
    slack = math.log(epsilon(inputs))
    wide = [own.name for own in found.layers if slack + own.log_gamma > half + own.weights.log_norm]
    return (
        *structure(inputs),
        _change_condition(inputs, found),
        in_every_layer("epsilon_l Gamma_l is at most half of the change a layer may make", wide),
        gaussian(found.weights),
        Condition("Lemma 4.2 with C = 1", None, "Latala's constant is unknown; 1 held in simulated Gaussian layers"),
    )


def _change_condition(inputs: BoundInputs, found: Setting) -> Condition:
    name = "Lemma 4.4's change of outputs is at most gamma / sqrt 2"
    if not inputs.fully_connected.holds:
        return Condition(name, None, "the lemma is for fully connected layers")
    change, allowed = log_change_of_outputs(inputs, found, log(inputs.sample.largest_input)), log_allowed(inputs)
    return Condition(name, change <= allowed + _ROUNDING, f"e^{change:.4g} against e^{allowed:.4g}")


def sketch_conditions(inputs: BoundInputs, found: Setting) -> tuple[Condition, ...]:
    """What Theorems 5.1 and 5.2 need beyond :func:`pruning_conditions`."""
    holes = [own.name for own in found.layers if not own.full_diagonal]
    detail = f"zeros in {listed(holes)}" if holes else "none"
    probability = claim(inputs, found.weights)
    return (
        Condition("no zero on the diagonal (Definition 5.1)", not holes, detail),
        Condition("the claim has a positive probability", probability > 0, f"{probability:.4g}"),
    )


SPREAD = (
    Condition(
        "Condition C.1: inputs of every layer are spread as on a sphere", None, "not measured; a = 1, b = 1/2 taken"
    ),
    Condition("Lemma C.1 for differences of activations", None, "Condition C.1 speaks of inputs only"),
)
"""What Appendix C supposes."""


def facts(inputs: BoundInputs, found: Setting) -> dict[str, Ingredient]:
    """The numbers that every row of a pruned network is made of."""
    layers = found.layers
    return {
        **inputs.facts("gamma", "m"),
        "L": inputs.depth,
        "d": found.d,
        "log_q": found.log_q,
        "epsilon": epsilon(inputs),
        "max_input_norm": inputs.sample.largest_input,
        "log_spectral_norm": tuple(own.weights.log_norm for own in layers),
        "log_Gamma": tuple(own.log_gamma for own in layers),
        "log_rho": tuple(own.log_rho for own in layers),
        "log_r": tuple(own.log_values for own in layers),
        "kept": tuple(own.kept for own in layers),
        "entries": tuple(own.values.size for own in layers),
        "log_kappa": found.log_kappas,
    }
