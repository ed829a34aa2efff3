"""The transforms that change nothing: quantised weights themselves, exact float32 weights, and nothing at all."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bitcert.decoder.transforms.base import Coefficients, Draws, Settings, Shape, Target, Values


class Identity:
    """The coefficients are the weights: pruning and quantisation need no other transform."""

    name: ClassVar[str] = "identity"
    num_settings: ClassVar[int] = 0
    local: ClassVar[bool] = False

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """One array of the tensor's shape."""
        return (target.shape,)

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return 0

    def expand(
        self, target: Target, settings: Settings, coefficients: tuple[Coefficients, ...], draws: Draws
    ) -> Values:
        """The coefficients."""
        return coefficients[0].values


class Nothing:
    """The tensor is its base: neutral, random, or as in the helper's file."""

    name: ClassVar[str] = "none"
    num_settings: ClassVar[int] = 0
    local: ClassVar[bool] = False

    def shapes(self, target: Target, settings: Settings) -> tuple[Shape, ...]:
        """No arrays."""
        return ()

    def operations(self, target: Target, settings: Settings) -> int:
        """Elementary operations of :meth:`expand`."""
        return 0

    def expand(
        self, target: Target, settings: Settings, coefficients: tuple[Coefficients, ...], draws: Draws
    ) -> Values:
        """Zeros."""
        return np.zeros(target.shape)
