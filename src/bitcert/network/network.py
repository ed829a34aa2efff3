"""A captured network: its structure, the values of its parameters, and what capture did to them.

``Network`` is the object measures and compressors start from. It does NOT keep the user's module: predictions come
from replaying the architecture, which is what a decoder will do. ``Predictor`` is what a compressor needs of it: names
and shapes of the tensors, and predictions from them. An opaque module satisfies it as well as an architecture does;
measures that look inside need an architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from bitcert.network.architecture import Architecture, WeightLayer
from bitcert.network.nodes import ParameterSpec


@runtime_checkable
class Predictor(Protocol):
    """A classifier whose parameters are supplied from outside."""

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """Every tensor the predictions depend on, in a fixed order."""
        ...

    @property
    def num_outputs(self) -> int:
        """Number of classes."""
        ...

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything but the parameters' values."""
        ...

    def forward(self, x: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[batch, num_outputs]``."""
        ...


@dataclass(frozen=True)
class CaptureReport:
    """What capture found and changed, one sentence a line.

    Attributes:
        folded: batch norms and where they went.
        tied: names that share one tensor with the first of them, e.g. ``("decoder.weight = encoder.weight",)``.
        dropped: state that does not reach the output and need not be coded.
        notes: everything else worth reading, e.g. a change of dtype.
        deviation: largest difference between replay and eager outputs, relative to the largest output.
    """

    folded: tuple[str, ...] = ()
    tied: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    deviation: float = 0.0


@dataclass(frozen=True, eq=False)
class Network:
    """Architecture and float32 parameters on the CPU."""

    architecture: Architecture
    parameters: Mapping[str, Tensor]
    report: CaptureReport

    def __call__(self, x: Tensor) -> Tensor:
        """Logits ``[batch, num_outputs]`` of ``x`` ``[batch, *input_shape]``, without gradients."""
        with torch.no_grad():
            return self.architecture.forward(x, self.parameters)

    @property
    def num_parameters(self) -> int:
        """Number of parameter entries, tied tensors counted once."""
        return self.architecture.num_parameters

    @property
    def weight_layers(self) -> tuple[WeightLayer, ...]:
        """Affine layers in order of computation."""
        return self.architecture.weight_layers
