"""The structure of a network as data: which operations, in which order, on which named parameters.

An :class:`Architecture` is part of the helper (what the decoder knows before it sees the message); the
parameters are not in it, only their names and shapes. It can be replayed at any batch size, is differentiable
in input and parameters, and every node treats the samples of a batch independently.
Scalars written in the model's code (a slope, an epsilon) are attributes of nodes and thus part of the
architecture. It does NOT promise that these were chosen before the training data was seen: whoever fixes the
helper must.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.canonical import encode_text
from bitcert.errors import InputError
from bitcert.network.memory import is_out_of_memory
from bitcert.network.nodes import INPUT, Graph, Node
from bitcert.network.operations import OPERATIONS, WEIGHT_OPERATIONS
from bitcert.network.shapes import Propagation, propagate
from bitcert.network.user_code import one_line

FORMAT = "bitcert-architecture/1"


@dataclass(frozen=True)
class WeightLayer:
    """An affine layer ``x -> A x + b`` of a network: its node and the names of its parameters."""

    node: str
    op: str
    source: str
    weight: str
    bias: str | None


@dataclass(frozen=True)
class Architecture(Graph):
    """A graph of whitelisted operations that can be evaluated.

    Raises:
        ShapeError: on construction, when the graph cannot be evaluated, mixes samples or exceeds the limits.
    """

    def __post_init__(self) -> None:
        # evaluated here so that no invalid architecture can exist
        _ = self.propagation

    def __deepcopy__(self, memo: dict[int, object]) -> Architecture:
        # nothing in it ever changes, so a copy of a module that holds it may share it
        return self

    @functools.cached_property
    def propagation(self) -> Propagation:
        """Shapes, sizes and costs of every node."""
        return propagate(self)

    @property
    def num_parameters(self) -> int:
        """Total number of parameter entries."""
        return sum(spec.num_entries for spec in self.parameters)

    @property
    def weight_layers(self) -> tuple[WeightLayer, ...]:
        """Linear and convolution nodes whose weight is a parameter, in order of computation."""
        names = {spec.name for spec in self.parameters}
        return tuple(
            WeightLayer(node.name, node.op, node.inputs[0], node.inputs[1], (*node.inputs, None)[2])
            for node in self.nodes
            if node.op in WEIGHT_OPERATIONS and names.issuperset(node.inputs[1:])
        )

    @functools.cached_property
    def _last_use(self) -> Mapping[str, int]:
        return {name: k for k, node in enumerate(self.nodes) for name in node.inputs}

    def forward(self, x: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[batch, num_outputs]``; differentiable in ``x`` and in ``parameters``.

        Args:
            x: ``[batch, *input_shape]`` of dtype ``input_dtype``.
            parameters: a tensor of the right shape for every name in ``parameters``.

        Raises:
            InputError: shape or dtype of ``x`` is wrong, or a parameter is missing or has another shape.
        """
        return self.values_of(x, parameters, (self.output,))[self.output]

    def values_of(self, x: Tensor, parameters: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Results of the named nodes, the others freed as soon as they can be; else as :meth:`forward`.

        Raises:
            KeyError: a name that is no node's.
        """
        self._check_inputs(x, parameters)
        kept = set(names)
        values = {spec.name: parameters[spec.name] for spec in self.parameters}
        values[INPUT] = x
        double = any(value.dtype == torch.float64 for value in values.values())
        with torch.device(x.device):
            for k, node in enumerate(self.nodes):
                tensors = [values[name] for name in node.inputs]
                result = self._compute(node, tensors, x.shape[0])
                # what a node makes itself (a mask, positions) is float32 whatever the network computes in
                values[node.name] = result.double() if double and result.dtype == torch.float32 else result
                for name in set(node.inputs) - kept:
                    if self._last_use[name] == k:
                        del values[name]
        return {name: values[name] for name in names}

    def activations(self, x: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Results of every node by name, for measures; arguments and errors as in :meth:`forward`."""
        return self.values_of(x, parameters, [node.name for node in self.nodes])

    @staticmethod
    def _compute(node: Node, tensors: list[Tensor], batch: int) -> Tensor:
        try:
            return OPERATIONS[node.op].run(tensors, node.attributes, batch)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if is_out_of_memory(error):
                raise
            # e.g. a token outside its table
            expected = f"inputs that node {node.name!r} can compute with"
            raise InputError(expected, one_line(error), "check data") from error

    def _check_inputs(self, x: Tensor, parameters: Mapping[str, Tensor]) -> None:
        if tuple(x.shape[1:]) != self.input_shape or x.dim() == 0:
            wanted = ", ".join(str(size) for size in ("batch", *self.input_shape))
            raise InputError(f"inputs of shape [{wanted}]", f"shape {list(x.shape)}", "reshape the data")
        if self.input_dtype == "int64" and x.dtype != torch.int64:
            raise InputError("token indices of dtype int64", str(x.dtype), "pass integer tokens")
        if self.input_dtype != "int64" and not x.dtype.is_floating_point:
            raise InputError("inputs of a floating dtype", str(x.dtype), "convert the data to float32")
        for spec in self.parameters:
            got = parameters.get(spec.name)
            if got is None or tuple(got.shape) != spec.shape:
                found = "none" if got is None else f"shape {list(got.shape)}"
                raise InputError(f"parameter {spec.name!r} of shape {list(spec.shape)}", found, "pass every parameter")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII; equal architectures give equal text."""
        return encode_text(self, {"format": FORMAT}).rstrip()

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
