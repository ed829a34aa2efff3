"""Convolutions -> locally connected layers: the same graph with one filter for every output position.

``conv2d`` with a weight ``[out, in / groups, kh, kw]`` becomes ``local_conv2d`` with ``[positions, out, in / groups,
kh, kw]``, positions in row-major order of the output map; with equal filters at all positions it computes the same.
Arora 2018 (section 5) asks for it: its compressed filters differ between locations. The bias stays shared. Only the
structure is made here; it does NOT say where the filters come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bitcert.errors import DecodeError
from bitcert.network.architecture import Architecture
from bitcert.network.nodes import Node
from bitcert.network.shapes import ShapeError

_LOCAL = {"conv2d": "local_conv2d"}


def localised(architecture: Architecture, weights: Sequence[str]) -> Architecture:
    """The network with the convolutions of these weights replaced by locally connected layers.

    Args:
        architecture: a captured network.
        weights: names of parameters that are filters of 2-D convolutions and nothing else.

    Raises:
        DecodeError: a weight that is none, that is used by output maps of different sizes, or too large a network.
    """
    positions: dict[str, int] = {}
    nodes = tuple(_local_node(architecture, node, frozenset(weights), positions) for node in architecture.nodes)
    missing = [name for name in weights if name not in positions]
    if missing:
        raise _problem("filters of a 2-D convolution", f"the weight {missing[0]!r}")
    parameters = tuple(
        replace(spec, shape=(positions[spec.name], *spec.shape)) if spec.name in positions else spec
        for spec in architecture.parameters
    )
    try:
        return replace(architecture, nodes=nodes, parameters=parameters)
    except ShapeError as error:
        raise _problem("locally connected layers within the limits", str(error)) from error


def _local_node(architecture: Architecture, node: Node, weights: frozenset[str], positions: dict[str, int]) -> Node:
    used = weights.intersection(node.inputs)
    if not used:
        return node
    if node.op not in _LOCAL or used != {node.inputs[1]} or node.inputs.count(node.inputs[1]) > 1:
        raise _problem("filters that only 2-D convolutions use", f"{min(used)!r} in node {node.name!r} ({node.op})")
    size = math.prod(architecture.propagation.values[node.name].shape[2:])
    if positions.setdefault(node.inputs[1], size) != size:
        raise _problem(
            "one output map for each filter", f"{node.inputs[1]!r} with {positions[node.inputs[1]]} and {size}"
        )
    return Node(node.name, _LOCAL[node.op], node.inputs, node.attributes)


def _problem(expected: str, got: str) -> DecodeError:
    return DecodeError(expected, got, "compress these layers with another codec")
