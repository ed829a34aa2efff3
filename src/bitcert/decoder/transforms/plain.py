"""The transforms that change nothing: quantised weights themselves, exact float32 weights, and nothing at all."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Arrays, Draws, Settings, Shape, Target, Transform, Values


class Identity(Transform):
    """The coefficients are the weights: pruning and quantisation need no other transform."""

    name: ClassVar[str] = "identity"

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """One array of the tensor's shape."""
        return (target.shape,)

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """The coefficients."""
        return coefficients[0].values


class Nothing(Transform):
    """The tensor is its base: neutral, random, or as in the helper's file."""

    name: ClassVar[str] = "none"

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """No arrays."""
        return ()

    def expand(self, target: Target, settings: Settings, coefficients: Arrays, draws: Draws) -> Values:
        """Zeros."""
        return np.zeros(target.shape)
