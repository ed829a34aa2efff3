"""What the training of a compact net carries along: the price of a bit, and the weights on their way to integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import UNARY_MAGNITUDES

START_PRICE = 0.5
TARGET_AT = 0.5
_HASTE = 0.02
_PRICE_RANGE = (0.5, 12.0)
_WAVER_DECAY = 0.98


@dataclass(eq=False)
class Price:
    """The price of a bit: it follows the code length down to a target and holds it there.

    A fixed price from the start kills a young net; a slow rise leaves it too long for the certificate. So the length
    is led from where it starts to the target, by equal factors in equal times, and the price follows.

    Args:
        start_bits: code length at the start.
        target_bits: code length from ``TARGET_AT`` of the stage on.
        value: the price now.
    """

    start_bits: float
    target_bits: float
    value: float = START_PRICE

    def follow(self, progress: float, bits: float) -> None:
        """Adapt to a code length at a fraction of the stage."""
        done = min(1.0, progress / TARGET_AT)
        wanted = self.start_bits * (self.target_bits / self.start_bits) ** done
        lowest, highest = _PRICE_RANGE
        self.value = min(highest, max(lowest, self.value * (max(bits, 1.0) / wanted) ** _HASTE))


@dataclass(eq=False)
class State:
    """Latent weights ``[n]`` in units of integers, log-temperature; average integers and which are fixed ``[n]``."""

    latent: torch.Tensor
    log_temperature: torch.Tensor
    mean_rounded: torch.Tensor
    frozen: torch.Tensor

    def scaled(self) -> torch.Tensor:
        """The weights; for a fixed one the integer it is fixed to."""
        return torch.where(self.frozen, self.mean_rounded, self.latent)

    def integers(self) -> NDArray[np.int64]:
        """The weights as a message would hold them."""
        rounded = self.scaled().detach().round().clamp(-UNARY_MAGNITUDES, UNARY_MAGNITUDES)
        return rounded.cpu().numpy().astype(np.int64)

    def watch(self, rounded: torch.Tensor) -> None:
        """Average each free integer over the last steps."""
        mean = torch.lerp(self.mean_rounded, rounded, 1 - _WAVER_DECAY)
        self.mean_rounded = torch.where(self.frozen, self.mean_rounded, mean)

    def freeze(self, fraction: float) -> None:
        """Fix the integers that waver least until this fraction of them is fixed."""
        missing = int(fraction * len(self.frozen)) - int(self.frozen.sum())
        if missing < max(1, len(self.frozen) // 100) and fraction < 1.0:
            return
        waver = (self.mean_rounded - self.mean_rounded.round()).abs()
        chosen = torch.where(self.frozen, torch.inf, waver).argsort()[: max(0, missing)]
        self.mean_rounded[chosen] = self.mean_rounded[chosen].round()
        self.frozen[chosen] = True

    def thaw(self) -> None:
        """Let every weight move again, from where it is."""
        with torch.no_grad():
            self.latent.copy_(self.scaled())
        self.frozen.zero_()
