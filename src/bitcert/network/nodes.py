"""The parts of a graph: operations, the parameters they ask for, how they are put together. Nothing is checked here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bitcert.network.attributes import Attribute

PARAMETER_KINDS = ("weight", "bias", "scale", "table", "buffer")
INPUT = "input"
"""Name of the network's input among the names of nodes."""


@dataclass(frozen=True)
class ParameterSpec:
    """A named float32 tensor that the message must supply.

    Attributes:
        name: as in the model's state dict.
        shape: sizes.
        kind: ``weight`` (matrix or filter), ``bias``, ``scale`` (norm gains), ``table`` (embedding),
            ``buffer`` (anything else the output depends on).
    """

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def num_entries(self) -> int:
        """Number of entries of the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: unique name of its result.
        op: key of :data:`bitcert.network.operations.OPERATIONS`.
        inputs: names of earlier nodes, of parameters, or ``"input"``.
        attributes: settings of the operation.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        mine, theirs = dict(self.attributes), dict(other.attributes)
        return (self.name, self.op, self.inputs, mine) == (other.name, other.op, other.inputs, theirs)

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.inputs))

    def __reduce__(self) -> tuple[object, ...]:
        # its attributes cannot be copied as they are; scikit-learn pickles fitted estimators
        return Node, (self.name, self.op, self.inputs, dict(self.attributes))


@dataclass(frozen=True)
class Graph:
    """Operations whose last one is the output ``[batch, num_outputs]``.

    Attributes:
        input_shape: sizes of one input, without the batch.
        num_outputs: number of classes.
        nodes: operations in the order they are computed.
        parameters: tensors that must be supplied, in order of first use.
        input_dtype: ``"float32"``, or ``"int64"`` for token indices.
    """

    input_shape: tuple[int, ...]
    num_outputs: int
    nodes: tuple[Node, ...]
    parameters: tuple[ParameterSpec, ...]
    input_dtype: str = "float32"

    @property
    def output(self) -> str:
        """Name of the node that holds the logits."""
        return self.nodes[-1].name if self.nodes else INPUT
