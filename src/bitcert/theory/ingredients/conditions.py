"""Facts on a network's graph that theorems ask for, by name; read off the graph and the parameters, and exact.

Those of :mod:`bitcert.stability.hypotheses`, and three more: that every factor is a weight layer (a gain beside them is
in no product of norms), that every offset is a bias of a weight layer, and that there is nothing but weight layers,
ReLU and flattening. They do NOT say that a theorem's remaining hypotheses hold; each row lists its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bitcert.errors import listed
from bitcert.network import Architecture, Node
from bitcert.stability import Structure
from bitcert.stability.hypotheses import offsets, structural_hypotheses
from bitcert.theory.value import Condition

EVERY_LAYER = "every weight layer measured"
OFFSETS_IN_LAYERS = "every offset is a bias of a weight layer"
PLAIN = "only weight layers, ReLU and flattening"

_NO_FACTORS = frozenset(["add", "sub", "prelu"])
"""Operations whose parameters are offsets or slopes of an activation."""


def graph_conditions(
    architecture: Architecture, parameters: Mapping[str, Tensor], structure: Structure
) -> dict[str, Condition]:
    """Every fact by name.

    Args:
        architecture, parameters, structure: of the network.
    """
    found = [
        *structural_hypotheses(architecture, parameters, structure),
        _every_layer(architecture, structure),
        _offsets(architecture, parameters, structure),
        plain_chain(architecture),
    ]
    return {condition.name: condition for condition in found}


def _every_layer(architecture: Architecture, structure: Structure) -> Condition:
    """Whether the measured layers hold everything that can make values grow.

    Biases and shifts are no factors, and slopes of activations belong to those.
    """
    measured = {layer.weight for layer in structure.layers}
    kinds = {spec.name: spec.kind for spec in architecture.parameters}
    others = dict.fromkeys(
        name
        for node in architecture.nodes
        for name in node.inputs
        if node.op not in _NO_FACTORS and kinds.get(name, "bias") != "bias" and name not in measured
    )
    steep = [f"{node.name} ({node.op})" for node in architecture.nodes if _grows(node)]
    if structure.skipped:
        return Condition(EVERY_LAYER, False, listed(structure.skipped))
    if others or steep:
        return Condition(EVERY_LAYER, False, f"factors beside the layers: {listed([*others, *steep])}")
    return Condition(EVERY_LAYER, True, f"{len(structure.layers)} layers")


def _grows(node: Node) -> bool:
    """Whether a constant in the graph, or copying and summing entries, makes values grow."""
    if node.op in ("mul_scalar", "div_scalar"):
        value = node.attributes["value"]
        size = abs(float(value)) if isinstance(value, (int, float)) else 0.0
        return size > 1 if node.op == "mul_scalar" else size < 1
    return node.op in ("sum", "expand", "repeat")


def _offsets(architecture: Architecture, parameters: Mapping[str, Tensor], structure: Structure) -> Condition:
    biases = {layer.bias for layer in structure.layers if layer.bias is not None}
    others = [name for name in offsets(architecture, parameters) if name not in biases]
    if others:
        return Condition(OFFSETS_IN_LAYERS, False, f"also {listed(others)}")
    return Condition(OFFSETS_IN_LAYERS, True, f"{len(biases)} biases" if biases else "no offset at all")


def plain_chain(architecture: Architecture) -> Condition:
    """Whether a graph has weight layers, ReLU and flattening to a vector, and nothing else.

    A reshape to anything but one axis could move entries between places, pooling takes a maximum or mean over them: the
    theorem speaks of neither.
    """
    layers = {layer.node for layer in architecture.weight_layers}
    strange = []
    for node in architecture.nodes:
        flat = node.op == "reshape" and len(architecture.propagation.values[node.name].shape) == 2
        if node.name not in layers and node.op != "relu" and not flat:
            strange.append(f"{node.name} ({node.op})")
    detail = f"also {listed(strange)}" if strange else f"{len(architecture.nodes)} nodes"
    return Condition(PLAIN, not strange, detail)
