"""What a compressor needs from a network: names and shapes of its tensors, and predictions from them.

Both a captured :class:`~bitcert.network.architecture.Architecture` and an opaque module satisfy it. It does NOT
expose layers: measures that look inside need an ``Architecture``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from bitcert.network.architecture import ParameterSpec


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
