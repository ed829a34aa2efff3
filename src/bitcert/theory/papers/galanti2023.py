"""The norm bound with all constants: Galanti, Xu, Galanti & Poggio 2023, Norm-based generalization bounds for
compositionally sparse neural networks. docs/theory.md section 3.3 prints it as ::

    L <= L_hat_gamma + (2 sqrt(2) (rho + 1) / (gamma m)) (1 + sqrt(2 (d ln 2 + ln P + ln C))) sqrt(P S)
                     + 3 sqrt(ln(2 (rho + 2)^2 / delta) / (2 m))

with ``rho = prod_i ||A^i||_F``, ``P = prod_i deg_i``, ``S`` the largest pixel sum, ``C`` classes.

**Setting.** A network is a graph of nodes; a node of layer ``i`` is a vector ``relu(W v)`` where ``v`` joins the
vectors of ``deg_i`` nodes of the layer before. Here a node is a place of a convolution's map with all its channels, or
a whole dense layer: ``deg_i`` is the number of taps of a kernel, the number of places before a dense layer, else 1.
(Taking every unit as a node gives a larger bound.) Weights may differ from place to place, so shared ones are covered,
padding with zeros and groups of channels too. ``S = max over input nodes of sum over examples of ||x[:, node]||^2``.

**What is proved here.** With probability ``1 - delta``, for all such networks without biases and all gamma > 0 ::

    L <= L_hat_gamma + (4 (r + 1) / m) (1 + sqrt(2 (d ln 2 + ln P + ln C))) sqrt(P S)
                     + 3 sqrt(ln(2 (r + 2)^2 / delta) / (2 m)),    r = ||A^d||_{2,1} prod_{i<d} ||A^i||_F / gamma

Three things differ from the printed line, which is given as the printed value and is not claimed:

1. *gamma.* The printed line is for a gamma fixed beforehand; a quantile of the training margins is not. ``f / gamma``
   is a network of the same graph with ``A^d / gamma``, and its margin at 1 is that of ``f`` at gamma. So the line is
   used at margin 1 for ``f / gamma``, and its union bound over ``rho`` pays for gamma as well.
2. *4, not 2 sqrt(2).* Maurer's contraction gives ``2 sqrt(2) Lip`` and the ramp of ``u_y - max u_j`` has the Lipschitz
   constant ``sqrt(2) / gamma`` in the l2 norm, not ``1 / gamma``.
3. *l2,1 norm in the last layer.* Contraction leaves a sign for every example *and class*: ``sup sum_c w_c . u_c`` over
   ``||A^d||_F <= 1`` is ``sqrt(sum_c ||u_c||^2)``, which grows as ``sqrt(C)``, where ``ln C`` alone is printed. Over
   ``sum_c ||w_c|| <= 1`` it is ``max_c ||u_c||``, and ``ln C`` suffices. ``||A||_{2,1} <= sqrt(C) ||A||_F``.

**Proof.** (a) For losses in [0, 1]: ``L <= L_hat + 2 R + 3 sqrt(ln(2/delta) / (2m))``, R the empirical Rademacher
complexity; for the classes ``r <= t``, ``t = 1, 2, ...``, with ``delta / (t (t+1))`` each, ``t <= r + 1``. (b)
Contraction and 3. leave ``(4 t / m) E max_c sup ||sum_i e_ic v(x_i)||`` with ``v`` the input of the last layer and
weights scaled to norm 1. (c) With ``exp(lambda .)``, the maximum over classes costs ``ln C``; ``||sum_i e_i v||^2`` is
a sum over ``deg_d`` nodes; peeling a layer (Golowich et al. 2018, Lemma 1) turns ``sup_W ||sum_i e_i relu(W v)||``
into a supremum over one unit of norm 1, and costs ``ln 2``; the next layer has ``deg_{d-1}`` nodes, and so on. (d) At
the input, at most ``P`` nodes are reached; each ``||sum_i e_i x_i||`` has mean at most ``sqrt(S)`` and is sub-Gaussian
with variance ``S``. The best lambda gives the factor ``1 + sqrt(2 ln(2^d P C))``. ReLU enters by ``relu(a x) = a
relu(x)`` and its slope of at most 1.

**Biases** (second row): a bias is a weight from a constant 1. Where a dense layer gives the nodes, the 1 is one more
entry of its node, and its norm is ``sqrt(||A||_F^2 + ||b||^2 + 1)``; where a convolution or an image gives them, it is
one more node, ``deg + 1``, and the norm is ``max(1, sqrt(||A||_F^2 + ||b||^2))``. The last layer's norm is ``||[A,
b]||_{2,1}``.

NOT covered: pooling (also where it is all that is not ReLU), batch norm that is not folded, residual connections,
other activations. Examples must be independent, and the graph and the preprocessing fixed beforehand. The bound is of
the network in exact arithmetic. The margins are those of float32 logits, which are within ``t`` of the exact ones on
the sample (:func:`~bitcert.theory.formulas.low_rank_network.log_rounding`; not known of convolutions): margins above
gamma are really above ``gamma - sqrt(2) t``, which takes the place of gamma in ``r``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.canonical import finite
from bitcert.theory.formulas.low_rank_network import ROUNDING, log_rounding, rounding_condition
from bitcert.theory.ingredients.conditions import PLAIN
from bitcert.theory.inputs import BoundInputs, LayerInputs
from bitcert.theory.logs import log, log_product, log_sum
from bitcert.theory.papers.guarantees import INDEPENDENT
from bitcert.theory.registry import guarantee
from bitcert.theory.value import BoundValue, Condition, needs, outside

_SOURCE = "Galanti, Xu, Galanti & Poggio 2023, the margin bound for sparse networks (docs/theory.md section 3.3)"
_ROUNDING = 1e-9
"""Added to the logarithm: more than the rounding of the norms in float64."""

_FIXED = Condition("graph and preprocessing fixed before the sample was seen", True, "taken on trust")
_GAMMA = Condition(
    "gamma may be chosen after seeing the sample", True, "the bound is for f / gamma at margin 1: it covers every gamma"
)


@dataclass(frozen=True)
class Terms:
    """What the bound is made of.

    Attributes:
        degrees: ``deg_i`` of every layer.
        norms: of every layer but the last in the class that is bounded, then the last layer's l2,1 norm.
        pixel_sum: ``S``.
    """

    degrees: tuple[int, ...]
    norms: tuple[float, ...]
    pixel_sum: float


def _taps(layer: LayerInputs) -> int:
    return math.prod(layer.weight.shape[2:])


def _check_layers(inputs: BoundInputs) -> None:
    if inputs.hypothesis("chain of layers").holds is False:
        detail = inputs.hypothesis("chain of layers").detail
        raise outside(f"does not apply: the theorem is for layers that feed the next one only; {detail}")
    dense = False
    for layer in inputs.layers:
        convolution = layer.op.startswith("conv")
        if not convolution and layer.positions != 1:
            raise outside(f"does not apply: {layer.name} is a dense layer that acts at {layer.positions} places")
        if convolution and dense:
            raise outside(f"does not apply: {layer.name} is a convolution after a dense layer")
        dense = not convolution
    last = inputs.layers[-1]
    if last.positions != 1:
        raise outside(f"does not apply: {last.name} gives the logits at {last.positions} places")


def _degrees(inputs: BoundInputs) -> tuple[int, ...]:
    """``deg_i`` without the nodes of constants."""
    places = 1  # nodes before a layer; an input that a dense layer reads is one node
    found = []
    for layer in inputs.layers:
        found.append(_taps(layer) if layer.op.startswith("conv") else places)
        places = layer.positions
    return tuple(found)


def _total_square(inputs: BoundInputs) -> float:
    """``sum over examples of ||x||^2``, or the largest that it can be."""
    sample = inputs.sample
    return inputs.m * sample.largest_input**2 if sample.total_square is None else sample.total_square


def _sizes(inputs: BoundInputs) -> Condition:
    """Whether each layer reads exactly what the one before gives; pooling in between would change it."""
    name = "each layer reads all of the layer before"
    before = inputs.sample.input_size
    for layer in inputs.layers:
        if layer.num_inputs != before:
            return Condition(name, False, f"{layer.name} reads {layer.num_inputs} values of {before}")
        before = layer.channels * layer.positions
    return Condition(name, True, f"{inputs.depth} layers")


def _terms(inputs: BoundInputs) -> Terms:
    image = inputs.layers[0].op.startswith("conv")
    norms = [layer.norms.frobenius for layer in inputs.layers[:-1]] + [inputs.layers[-1].norms.norm_21]
    pixels = inputs.sample.largest_pixel if image else _total_square(inputs)
    return Terms(_degrees(inputs), tuple(norms), pixels)


def _bias(layer: LayerInputs) -> Tensor:
    """The bias as ``[out]`` in float64.

    Raises:
        NotComputed: there is one, but its entries were not gathered.
    """
    if layer.bias is not None:
        return layer.bias.detach().cpu().double().flatten()
    if layer.has_bias:
        raise needs(f"needs the biases: those of {layer.name} were not gathered")
    return torch.zeros(layer.channels, dtype=torch.float64)


def _terms_with_biases(inputs: BoundInputs) -> Terms:
    image = inputs.layers[0].op.startswith("conv")
    degrees, norms = [], []
    own_node = image  # whether the constant 1 before a layer is a node of its own
    for layer, degree in zip(inputs.layers, _degrees(inputs), strict=True):
        bias = _bias(layer)
        degrees.append(degree + own_node)
        square = layer.norms.frobenius**2 + float(bias.square().sum())
        own_node = layer.op.startswith("conv")
        norms.append(max(1.0, math.sqrt(square)) if own_node else math.sqrt(square + 1))
    last = inputs.layers[-1]
    rows = torch.cat([last.weight.detach().cpu().double().flatten(1), _bias(last)[:, None]], 1)
    norms[-1] = float(rows.norm(dim=1).sum())
    constant = float(inputs.m)
    pixels = max(inputs.sample.largest_pixel, constant) if image else _total_square(inputs) + constant
    return Terms(tuple(degrees), tuple(norms), pixels)


def log_bound(inputs: BoundInputs, terms: Terms, log_rho: float, log_margin: float, constant: float) -> float:
    """``ln`` of the bound.

    Args:
        inputs: for the margin loss, ``m``, ``C`` and delta.
        terms: degrees and pixel sum.
        log_rho: ``ln rho``.
        log_margin: ``ln gamma`` in ``(rho + 1) / gamma``.
        constant: 4, or the printed ``2 sqrt(2)``.
    """
    m, degrees = inputs.m, math.fsum(math.log(degree) for degree in terms.degrees)
    nats = inputs.depth * math.log(2) + degrees + math.log(inputs.sample.num_classes)
    capacity = (
        math.log(constant)
        + log_sum((log_rho, 0.0))
        - log_margin
        - math.log(m)
        + math.log1p(math.sqrt(2 * nats))
        + (degrees + log(terms.pixel_sum)) / 2
    )
    price = math.log(2) + 2 * log_sum((log_rho, math.log(2))) - math.log(inputs.delta)
    confidence = math.log(3) + (math.log(price) - math.log(2 * m)) / 2
    return log_sum((log(inputs.sample.margin_loss(inputs.margin)), capacity, confidence))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _value(inputs: BoundInputs, terms: Terms, conditions: tuple[Condition, ...], printed: float | None) -> BoundValue:
    rounding = math.sqrt(2) * _exp(log_rounding(inputs, log(inputs.sample.largest_input)))
    rounded = rounding_condition(inputs)
    gamma = inputs.margin - rounding
    if not gamma > 0:
        rounded, gamma = Condition(ROUNDING, False, f"up to {rounding:.3g}, gamma = {inputs.margin:.3g}"), inputs.margin
    log_ratio = log_product(terms.norms) - math.log(gamma)
    return BoundValue(
        log_bound(inputs, terms, log_ratio, 0.0, 4.0) + _ROUNDING,
        conditions=(*conditions, rounded),
        ingredients={
            "norms": terms.norms,
            "degrees": tuple(float(degree) for degree in terms.degrees),
            "pixel_sum": terms.pixel_sum,
            "log_r": finite(log_ratio),
            **inputs.facts("margin_loss", "gamma"),
            "rounding_of_margins": finite(rounding),
            **inputs.facts("m", "d"),
            "C": inputs.sample.num_classes,
            "delta": inputs.delta,
        },
        log_printed=printed,
        notes=("norms: Frobenius, of the last layer l2,1.",),
    )


_STRUCTURE = ("chain of layers", "ReLU activations only", PLAIN, "every weight layer measured")


@guarantee(
    "galanti2023",
    _SOURCE,
    "norm bound with all constants",
    "With probability 1 - delta this network is wrong on at most this share of new data; 1 or more says nothing.",
)
def norm_bound(inputs: BoundInputs) -> BoundValue:
    """The bound of the module's docstring, for networks without biases; biases that are there are left out."""
    _check_layers(inputs)
    terms = _terms(inputs)
    conditions = (
        *inputs.hypotheses("bias-free", *_STRUCTURE),
        _sizes(inputs),
        _GAMMA,
        _FIXED,
        INDEPENDENT,
    )
    printed_rho = log_product(layer.norms.frobenius for layer in inputs.layers)
    printed = log_bound(inputs, terms, printed_rho, math.log(inputs.margin), 2 * math.sqrt(2))
    return _value(inputs, terms, conditions, printed)


@guarantee(
    "galanti2023-biases",
    f"{_SOURCE}, extended to biases here",
    "norm bound with all constants, with biases",
    "With probability 1 - delta this network, biases included, is wrong on at most this share of new data; "
    "1 or more says nothing.",
)
def norm_bound_with_biases(inputs: BoundInputs) -> BoundValue:
    """The bound for networks whose weight layers may have biases."""
    _check_layers(inputs)
    terms = _terms_with_biases(inputs)
    conditions = (*inputs.hypotheses(*_STRUCTURE), _sizes(inputs), _GAMMA, _FIXED, INDEPENDENT)
    return _value(inputs, terms, conditions, None)
