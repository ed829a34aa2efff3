"""A network whose layers are cut and rounded: how much each may change, and how long the message is.

Let every weight layer change by at most ``delta ||A^i||`` (operator norm at the real input size), biases and every
other parameter not at all. If ``L`` is the graph's Lipschitz constant (:class:`bitcert.theory.inputs.Lipschitz`), no
value of the network is further from 0 than its own constant times ``||x||``, and at most ``d`` layers lie on a path,

    ||f_hat(x) - f(x)|| <= ||x|| L ((1 + delta)^d - 1)

by induction over the nodes: through a layer, ``||A_hat u_hat - A u|| <= (1 + delta) ||A|| ||u_hat - u|| + delta ||A||
||u||``; a sum adds, a 1-Lipschitz node that maps 0 to 0 changes nothing. (Arora 2018's proof of Thm 2.2 takes ``delta =
gamma / (3 d ||x|| L)``, Zhang 2020's of Thm 5.1 ``e`` for the 3: both are smaller than what this allows.) With biases
``b^i`` the second part fails, and on a *chain* of layers the recursion

    u_i = ||A^i|| u_(i-1) + ||b^i||,    e_i = (1 + delta) ||A^i|| e_(i-1) + delta ||A^i|| u_(i-1)

from ``u_0 = ||x||`` and ``e_0 = 0`` (times the factors of the nodes between layers) takes its place.
A convolution's map changes by at most ``sqrt(taps)`` times its matrix ``[out, in * kernel]``, as no input lies in more
patches than the kernel has taps.

**Rounding.** The logits that are measured are those of float32. In a chain of dense layers, ReLU and flattening every
float32 value is the exact value of a network whose weights and biases are changed by relative amounts of at most ``g =
(n + 1) u / (1 - (n + 1) u)``, ``u = 2^-24``, ``n`` the fan-in, in whatever order sums are taken, with or without fused
multiplication (Higham 2002, section 3.1). A layer so changes by at most ``g ||A^i||_F``, and ``e_i = (1 + t_i) ||A^i||
e_(i-1) + t_i (||A^i|| u_(i-1) + ||b^i||)`` with ``t_i = g ||A^i||_F / ||A^i||`` limits the distance between the float32
and the exact logits: :func:`log_rounding`. Underflow is left out. Other graphs have no such limit here, which is a
condition that is then unknown.

What else this needs of the network is listed as conditions by :func:`class_conditions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bitcert.theory.formulas.low_rank_code import LayerForm, shortest_form
from bitcert.theory.ingredients.conditions import OFFSETS_IN_LAYERS, PLAIN
from bitcert.theory.inputs import BoundInputs, LayerInputs, Lipschitz
from bitcert.theory.logs import log, log_sum
from bitcert.theory.value import Condition, need, outside

EXACT_BITS = 32
"""Of a bias or any other parameter that is sent as it is; captured networks are float32."""

ROUNDING = "float32 logits within a known distance of the exact ones"
"""Name of a condition."""

_UNIT = 2.0**-24
"""Unit roundoff of float32."""

_ALLOWANCE = 1e-9
"""Relative, for each layer: rounding of norms in float64."""


@dataclass(frozen=True)
class NetworkMessage:
    """The message of a network.

    Attributes:
        forms: of the layers.
        exact_numbers: biases and other parameters, sent as float32.
        bits: of the whole message.
    """

    forms: tuple[LayerForm, ...]
    exact_numbers: int
    bits: int


def class_conditions(inputs: BoundInputs) -> tuple[Condition, ...]:
    """What the error bound needs of the network."""
    convolutions = [layer.name for layer in inputs.layers if layer.op != "linear"]
    detail = f"{len(convolutions)} convolutions, whose norms are estimates" if convolutions else "dense layers only"
    biased = any(layer.has_bias for layer in inputs.layers)
    return (
        inputs.hypothesis("activations 1-Lipschitz"),
        inputs.hypothesis("positively homogeneous apart from biases"),
        inputs.hypothesis(OFFSETS_IN_LAYERS if biased else "bias-free"),
        inputs.hypothesis("every weight layer measured"),
        Condition("operator norms are exact", not convolutions, detail),
    )


def log_relative_error(inputs: BoundInputs, log_radius: float, log_allowed: float) -> float:
    """``ln delta``: the relative change of every layer for which no output moves by more than ``exp(log_allowed)``.

    Args:
        inputs: of the network.
        log_radius: ``ln`` of the largest ``||x||``.
        log_allowed: ``ln`` of the change of the output allowed.

    Raises:
        NotComputed: no Lipschitz constant, a layer that is 0, or biases in a graph that is not a chain.
    """
    growth = need(inputs.lipschitz)
    if math.isinf(log_radius) or math.isinf(growth.log_total):
        zero = next((layer.name for layer in inputs.layers if layer.norms.operator == 0), None)
        reason = "every input is 0" if zero is None else f"the weight {zero} is 0"
        raise outside(f"does not apply: {reason}, so the outputs do not depend on the inputs")
    allowed = log_allowed - _ALLOWANCE * (inputs.depth + 1)
    if not any(layer.has_bias for layer in inputs.layers):
        depth = inputs.depth if growth.depth is None else max(1, growth.depth)
        return _closed_form(allowed - log_radius - growth.log_total, depth)
    links = _chain(inputs, growth)
    low, high = -1.0, 0.0
    while _log_change(links, log_radius, low) > allowed:
        low *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_change(links, log_radius, middle) <= allowed else (low, middle)
    return low


def rounding_condition(inputs: BoundInputs) -> Condition:
    """Whether :func:`log_rounding` speaks of this network."""
    name = ROUNDING
    for fact in (inputs.hypothesis(PLAIN), inputs.hypothesis("chain of layers")):
        if fact.holds is not True:
            return Condition(name, None, f"known for a chain of {PLAIN.removeprefix('only ')} only; {fact.detail}")
    convolutions = [layer.name for layer in inputs.layers if layer.op != "linear"]
    if convolutions:
        return Condition(name, None, f"not known of convolutions: {convolutions[0]}")
    return Condition(name, True, "a limit on rounding is taken off the margin")


def log_rounding(inputs: BoundInputs, log_radius: float) -> float:
    """``ln`` of the largest distance between float32 and exact logits over ``||x|| <= exp(log_radius)``.

    ``-inf`` where :func:`rounding_condition` does not hold, or a network without biases has a layer of zeros; above
    any margin for sums of 2^23 terms and more, or where a layer of zeros comes before biases.
    """
    if rounding_condition(inputs).holds is not True:
        return -math.inf
    if any(layer.norms.operator == 0 for layer in inputs.layers):
        return math.inf if any(layer.has_bias for layer in inputs.layers) else -math.inf
    links = _chain(inputs, need(inputs.lipschitz))
    size, change = log_radius + links[0].after, -math.inf
    for layer, link in zip(inputs.layers, links[1:], strict=True):
        terms = (layer.fan_in + 1) * _UNIT
        if terms >= 0.5:
            return math.inf
        part = log(terms / (1 - terms)) + log(layer.norms.frobenius) - link.operator
        grown = link.operator + math.log1p(math.exp(min(part, 700.0)))
        exact = log_sum([link.operator + size, link.bias])
        change = log_sum([grown + change, part + exact]) + link.after
        size = exact + link.after
    return change


def _closed_form(log_ratio: float, depth: int) -> float:
    """``ln delta`` of ``(1 + delta)^d - 1 = exp(log_ratio)``, without loss where the ratio is tiny."""
    log_ratio = min(log_ratio, 0.0)  # no margin is larger than that, and a smaller delta is safe
    root = log_ratio if log_ratio < -40 else math.log(math.log1p(math.exp(log_ratio)))
    root -= math.log(depth)
    return root if root < -40 else math.log(math.expm1(math.exp(root)))


@dataclass(frozen=True)
class _Link:
    """A layer of a chain: ``ln ||A||``, ``ln ||b||`` over all positions, and ``ln`` of the factors after it."""

    operator: float
    bias: float
    after: float


def _chain(inputs: BoundInputs, growth: Lipschitz) -> tuple[_Link, ...]:
    if inputs.hypothesis("chain of layers").holds is not True:
        raise outside("does not apply: biases in a graph that is not a chain of layers")
    ends = (*growth.log_before[1:], growth.log_total)
    links = []
    for layer, start, end in zip(inputs.layers, growth.log_before, ends, strict=True):
        operator = log(layer.norms.operator)
        bias = -math.inf
        if layer.has_bias:
            if layer.bias_norm is None:
                raise outside(f"does not apply: the norm of the bias beside {layer.name} is not known")
            bias = log(layer.bias_norm) + math.log(layer.positions) / 2
        links.append(_Link(operator, bias, end - start - operator))
    # what lies between the input and the first layer multiplies the radius
    first = _Link(0.0, -math.inf, growth.log_before[0])
    return (first, *links)


def _log_change(links: Sequence[_Link], log_radius: float, log_delta: float) -> float:
    """The recursion of the module; the first link is no layer and does not change."""
    size, change = log_radius + links[0].after, -math.inf
    grown = math.log1p(math.exp(log_delta))
    for link in links[1:]:
        change = log_sum([link.operator + grown + change, link.operator + log_delta + size]) + link.after
        size = log_sum([link.operator + size, link.bias]) + link.after
    return change


def network_message(inputs: BoundInputs, log_delta: float) -> NetworkMessage:
    """The shortest message in which every layer changes by at most ``exp(log_delta) ||A^i||``."""
    forms = tuple(_form(layer, log_delta) for layer in inputs.layers)
    sent = {layer.name: layer.num_weights for layer in inputs.layers}
    exact = max(0, inputs.num_parameters - sum(sent.values()))
    return NetworkMessage(forms, exact, sum(form.bits for form in forms) + EXACT_BITS * exact)


def threshold_ranks(inputs: BoundInputs, log_delta: float) -> tuple[int, ...]:
    """Singular values of every layer above what it may change by: the ranks of Lemma 1 before rounding.

    A message takes another rank, or none, where that is shorter.
    """
    limits = [math.exp(_log_error(layer, log_delta)) for layer in inputs.layers]
    pairs = zip(inputs.layers, limits, strict=True)
    return tuple(int((layer.norms.singular_values > limit).sum()) for layer, limit in pairs)


def _log_error(layer: LayerInputs, log_delta: float) -> float:
    """``ln`` of what the matrix ``[out, in * kernel]`` may change by."""
    taps = layer.weight[0, 0].numel()
    return log_delta + log(layer.norms.operator) - math.log(taps) / 2


def _form(layer: LayerInputs, log_delta: float) -> LayerForm:
    shape = (layer.weight.shape[0], layer.fan_in)
    largest = float(layer.weight.detach().abs().max())
    return shortest_form(shape, layer.norms.singular_values, largest, _log_error(layer, log_delta))
