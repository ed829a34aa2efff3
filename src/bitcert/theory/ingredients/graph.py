"""What the bounds read off a captured graph: which values vary with the input, and the values of those that do not.

A node that the input does not reach is a constant, even where it is computed (a weight made of a direction and a gain,
a class token spread over the batch). Constants are evaluated once, in float64, for a batch of one. Nothing here is a
bound, and nothing is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.errors import listed
from bitcert.network import Architecture, Node
from bitcert.network.attributes import Attribute
from bitcert.network.nodes import INPUT
from bitcert.network.operations import OPERATIONS
from bitcert.stability.hypotheses import slope_at_most_one
from bitcert.theory.value import Absent, Status


@dataclass(frozen=True, eq=False)
class Graph:
    """An architecture with its constants.

    Attributes:
        architecture: of the network.
        varying: ``"input"`` and every node that depends on it.
        constants: parameters and the other nodes by name, float64 (integers stay integers), for a batch of one.
    """

    architecture: Architecture
    varying: frozenset[str]
    constants: Mapping[str, Tensor]

    @classmethod
    def of(cls, architecture: Architecture, parameters: Mapping[str, Tensor]) -> Graph:
        """The graph of a network with these parameters."""
        varying = {INPUT}
        constants = {spec.name: _wide(parameters[spec.name]) for spec in architecture.parameters}
        with torch.no_grad():
            for node in architecture.nodes:
                if varying.intersection(node.inputs):
                    varying.add(node.name)
                    continue
                tensors = [constants[name] for name in node.inputs]
                constants[node.name] = _wide(OPERATIONS[node.op].run(tensors, node.attributes, 1))
        return cls(architecture, frozenset(varying), constants)

    @property
    def varying_nodes(self) -> tuple[Node, ...]:
        """Nodes that depend on the input, in order of computation."""
        return tuple(node for node in self.architecture.nodes if node.name in self.varying)

    def varying_inputs(self, node: Node) -> tuple[str, ...]:
        """Inputs of the node that depend on the network's input; one that is read twice is there twice."""
        return tuple(name for name in node.inputs if name in self.varying)

    def constant_inputs(self, node: Node) -> tuple[Tensor, ...]:
        """Values of the node's other inputs, in order."""
        return tuple(self.constants[name] for name in node.inputs if name not in self.varying)

    def entries(self, name: str) -> int:
        """Entries for each example of the input, a node or a parameter."""
        if name == INPUT:
            return math.prod(self.architecture.input_shape)
        found = self.architecture.propagation.elements.get(name)
        return self.constants[name].numel() if found is None else found

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes without the first axis, which must hold the batch."""
        return tuple(self.architecture.propagation.values[name].shape[1:])

    def slope_at_most_one(self, node: Node) -> bool:
        """Whether the node is an elementwise function whose slope never exceeds 1 in size."""
        return node.op == "abs" or slope_at_most_one(node, self.constants)


def number(value: Attribute) -> float:
    """A numeric attribute.

    Raises:
        TypeError: it is another one.
    """
    if not isinstance(value, (int, float)):
        raise TypeError("an attribute that is no number")
    return float(value)


def refusal(graph: Graph, statement: str, problem: Callable[[Node], str]) -> Absent | None:
    """Placeholder for a quantity that this graph does not define; ``None`` where it does.

    Args:
        graph: of the network.
        statement: what the quantity is for.
        problem: why it is not for a node that depends on the input; empty if it is.
    """
    if graph.architecture.input_dtype != "float32":
        problems = ["its inputs are tokens"]
    else:
        problems = [f"{node.name} ({node.op}: {why})" for node in graph.varying_nodes if (why := problem(node))]
    if not problems:
        return None
    named = listed(problems, separator="; ")
    return Absent(Status.OUTSIDE, f"does not apply: {statement}, which this network is not: {named}")


def _wide(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.double() if value.is_floating_point() else value
