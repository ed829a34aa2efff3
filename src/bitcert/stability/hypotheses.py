"""Conditions that the bounds of docs/theory.md section 3 rest on, checked on this network and sample; printed, never
assumed.

What is structural (biases, activations, pooling, chain) is read off the graph and the parameters and is exact. What is
measured (``ρ_δ ≥ 3d``, dead inputs, margins) holds on the examples and noise draws at hand and is NOT shown for
others. ``holds`` is ``None`` for what was not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from bitcert.errors import listed
from bitcert.network import Architecture, Network, Node
from bitcert.network.attributes import Attribute
from bitcert.network.nodes import INPUT
from bitcert.stability.layers import ACTIVATIONS, Structure
from bitcert.stability.pooling import pooling_between, pooling_growth
from bitcert.stability.profile import Hypothesis
from bitcert.stability.reduction import Distribution, SmoothnessSummary
from bitcert.stability.rules import LINEAR, MAXIMA, PASSING

_BENT = frozenset(["abs", "maximum", "minimum", "amax"])
_HOMOGENEOUS = (LINEAR | PASSING | MAXIMA | _BENT).union(
    ("linear", "conv1d", "conv2d", "affine_channel", "matmul", "relu", "leaky_relu", "prelu"),
    ("add", "sub", "expand", "cat"),
)
"""Operations with ``f(a x) = a f(x)`` for ``a > 0`` once biases and constants are gone; others need not have it.

The bent ones are not linear, and neither activations nor pooling.
"""

_LIPSCHITZ = frozenset(["relu", "tanh", "sigmoid", "hardsigmoid", "softplus", "clamp"])
"""Activations whose slope never exceeds 1, whatever their settings."""

POOLING_1_LIPSCHITZ = "pooling 1-Lipschitz"
_ROUNDING = 1e-9

_DEAD = ("layer_cushion", "interlayer_cushion", "contraction", "smoothness")
"""Quantities in which a missing value is a dead input and not one that was never asked for."""


def _activations(architecture: Architecture) -> list[Node]:
    return [node for node in architecture.nodes if node.op in ACTIVATIONS]


def _named(node: Node) -> str:
    return f"{node.name} ({node.op})"


def _number(value: Attribute) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def slope_at_most_one(node: Node, parameters: Mapping[str, Tensor]) -> bool:
    """Whether the node is an activation whose slope never exceeds 1 in size, with the slopes of a PReLU by name."""
    if node.op == "leaky_relu":
        return abs(_number(node.attributes["negative_slope"])) <= 1
    if node.op == "prelu":
        slopes = parameters.get(node.inputs[1])
        return slopes is not None and bool((slopes.abs() <= 1).all())
    if node.op == "elu":
        return 0 <= _number(node.attributes["alpha"]) <= 1
    return node.op in _LIPSCHITZ


def is_relu_only(architecture: Architecture) -> bool:
    """Whether ReLU and max pooling are all that is not linear in the network."""
    return all(node.op == "relu" for node in _activations(architecture)) and not other_nonlinear(architecture)


def other_nonlinear(architecture: Architecture) -> list[str]:
    """Nodes that are not linear in what depends on the input, activations and max pooling apart: products, norms, …"""
    varying = Structure.of(architecture).reaches[INPUT]
    found = []
    for node in architecture.nodes:
        inputs = sum(name in varying or name == INPUT for name in node.inputs)
        divided = node.op == "div" and node.inputs[1] in varying
        product = divided or (node.op in ("mul", "div", "matmul") and inputs > 1)
        linear = node.op in (_HOMOGENEOUS | {"mul", "div"}) - _BENT and not product
        if inputs and not linear and node.op not in ACTIVATIONS:
            found.append(_named(node))
    return found


def offsets(architecture: Architecture, parameters: Mapping[str, Tensor]) -> list[str]:
    """What makes the network affine rather than linear between activations: biases, shifts, added constants.

    A bias that is all zero is none.
    """
    found = [
        spec.name
        for spec in architecture.parameters
        if spec.kind == "bias" and bool(torch.count_nonzero(parameters[spec.name]))
    ]
    constant = {spec.name for spec in architecture.parameters}
    for node in architecture.nodes:
        adds = node.op in ("add", "sub", "maximum", "minimum", "cat") and constant.intersection(node.inputs)
        if adds or (node.op in ("add_scalar", "pad") and _number(node.attributes.get("value", 0.0)) != 0):
            found.append(node.name)
        if all(name in constant for name in node.inputs):
            constant.add(node.name)
    return found


def _without(name: str, exceptions: Sequence[str], said: str, otherwise: str) -> Hypothesis:
    """A condition that ``exceptions`` break, if there are any."""
    return Hypothesis(name, not exceptions, said + listed(exceptions) if exceptions else otherwise)


def structural_hypotheses(
    architecture: Architecture, parameters: Mapping[str, Tensor], structure: Structure
) -> tuple[Hypothesis, ...]:
    """The conditions that are read off the graph and the parameters, exact: biases, activations, pooling, chain.

    Args:
        architecture, parameters, structure: of the network.
    """
    activations = _activations(architecture)
    others = sorted({node.op for node in activations if node.op != "relu"})
    steep = [_named(node) for node in activations if not slope_at_most_one(node, parameters)]
    strange = other_nonlinear(architecture)
    homogeneous = _HOMOGENEOUS | {"mul", "div"}  # products of two values that vary are among the strange
    bent = [_named(node) for node in architecture.nodes if node.op not in homogeneous]
    bent += [text for text in strange if text not in bent and not text.endswith(tuple(f"({op})" for op in _BENT))]
    none = "there are no activations"
    counted = f"{len(activations)} activations" if activations else none
    branches = "branches meet: J^{i,j} is the partial derivative in the graph"
    chain = "each layer feeds the next one only" if structure.chain else branches
    return (
        _without("bias-free", offsets(architecture, parameters), "offsets: ", "no bias, shift or added constant"),
        _without(
            "ReLU activations only", others + strange, "also ", f"{len(activations)} ReLU" if activations else none
        ),
        Hypothesis(
            "activations 1-Lipschitz",
            False if steep else None if strange else True,
            f"steeper: {listed(steep)}" if steep else f"not known of {listed(strange)}" if strange else counted,
        ),
        _pooling(architecture),
        _without("positively homogeneous apart from biases", bent, "not: ", "f(a x) = a f(x) for a > 0 at every node"),
        Hypothesis("chain of layers", structure.chain, chain),
        _without("every weight layer measured", structure.skipped, "", f"{len(structure.layers)} layers"),
    )


def _pooling(architecture: Architecture) -> Hypothesis:
    """Arora 2018 has none: the proof of Lemma 3 covers pooling that makes no norm larger, as a part of ``φ``."""
    nodes = pooling_between(architecture)
    growth = [(_named(node), pooling_growth(architecture, node)) for node in nodes]
    large = [f"{name} by up to {size:.3g}" for name, size in growth if size > 1 + _ROUNDING]
    counted = f"counted in the contraction: {listed([name for name, _ in growth])}"
    otherwise = counted if nodes else "no pooling between the layers"
    return _without(POOLING_1_LIPSCHITZ, large, "windows overlap, a norm may grow: ", otherwise)


def smoothness_hypothesis(summary: SmoothnessSummary | None, depth: int) -> Hypothesis:
    """``ρ_δ ≥ 3d`` (Arora 2018, Lemma 3 and Thm 4.1), as ``1/ρ_δ ≤ 1/(3d)``."""
    name = "interlayer smoothness ρ_δ ≥ 3d"
    if summary is None or summary.value is None:
        return Hypothesis(name, None, "not measured" if summary is None else "no pair of layers to measure")
    limit = 1 / (3 * depth)
    draws = f"{summary.draws} draws of projected weights" if summary.draws > 1 else "1 draw of projected weights"
    detail = f"1/ρ = {summary.value:.4g} over {draws} (order statistic {summary.order}), needed at most {limit:.4g}"
    return Hypothesis(name, summary.value <= limit, detail)


def _dead_inputs(distributions: Mapping[str, tuple[Distribution, ...]], unmeasured: int) -> Hypothesis:
    name = "no dead inputs"
    measured = [key for key in _DEAD if distributions.get(key)]
    if not measured:
        return Hypothesis(name, None, "not measured")
    left_out = {"smoothness": unmeasured}
    counts = {key: sum(d.skipped - left_out.get(key, 0) for d in distributions[key]) for key in measured}
    infinite = {key: sum(d.infinite for d in distributions[key]) for key in measured}
    parts = [f"{count} of {key} skipped" for key, count in counts.items() if count]
    parts += [f"{count} of {key} infinite" for key, count in infinite.items() if count]
    return Hypothesis(name, not parts, "; ".join(parts) or "every ratio has a nonzero denominator")


def _margins(found: Iterable[Distribution], positive: int | None) -> Hypothesis:
    name = "margins positive"
    distribution = next(iter(found), None)
    if distribution is None or positive is None or not distribution.count:
        return Hypothesis(name, None, "not measured")
    percent = 100 * positive / distribution.count
    detail = f"{positive} of {distribution.count} examples ({percent:.4g} %)"
    return Hypothesis(name, positive == distribution.count, detail)


def check_hypotheses(
    network: Network,
    structure: Structure,
    distributions: Mapping[str, tuple[Distribution, ...]],
    smoothness: SmoothnessSummary | None,
    num_positive_margins: int | None,
    num_without_smoothness: int = 0,
) -> tuple[Hypothesis, ...]:
    """Every condition, in the order in which a reader meets them.

    Args:
        network: that was measured.
        structure: its layers.
        distributions: what was measured, by quantity.
        smoothness: the summary, or ``None`` when it was not measured.
        num_positive_margins: examples with a margin above 0 (a tie is an error), or ``None``.
        num_without_smoothness: examples that the smoothness was not measured on, which says nothing about them.
    """
    return (
        smoothness_hypothesis(smoothness, len(structure.layers)),
        *structural_hypotheses(network.architecture, network.parameters, structure),
        _dead_inputs(distributions, num_without_smoothness),
        _margins(distributions.get("margin", ()), num_positive_margins),
    )
