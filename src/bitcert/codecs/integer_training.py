"""Integers trained by gradient: latent reals, straight-through rounding, a price per bit, freezing of the steadiest.

The gradient of the code length at the present integers comes from :mod:`bitcert.codecs.rate`. In the second
half the integers that waver least are fixed, more and more of them (incremental network quantisation, Zhou et al.
2017), while the rest adapts. A heuristic: it proves nothing.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from bitcert.codecs.rate import RateSlopes, rate_slopes
from bitcert.coding import MAX_MAGNITUDE
from bitcert.decoder.transforms.base import Integers

FREEZE_FROM, FREEZE_UNTIL = 0.5, 0.92
PRICE_RAMP = 0.3
REFRESH = 20
_WAVER_DECAY = 0.98


class LatentIntegers:
    """An array of integers ``round(v)`` whose latent ``v`` an optimiser moves.

    Args:
        latent: first values, in steps, of the integers' shape.
        price: of a bit, in multiples of ``ln 2 / num_samples``.
        num_samples: size of the training sample.
        bounds: least and largest integer; latents are kept between them.
    """

    def __init__(
        self,
        latent: torch.Tensor,
        price: float,
        num_samples: int,
        bounds: tuple[int, int] = (-MAX_MAGNITUDE, MAX_MAGNITUDE),
    ) -> None:
        self.bounds = bounds
        self.latent = latent.clone().requires_grad_()
        self.nats_per_bit = price * math.log(2) / num_samples
        self.mean = latent.round()
        self.frozen = torch.zeros_like(latent)
        self._steps = torch.zeros(1)
        slopes = rate_slopes(self.values(), str(self.latent.device))
        self._levels, self._shared = slopes.levels, slopes.shared

    def rounded(self) -> torch.Tensor:
        """The integers, float32, gradients passing through; fixed ones have none."""
        free = self.latent + (self.latent.round() - self.latent).detach()
        return torch.where(self.frozen > 0, self.mean, free)

    def values(self) -> Integers:
        """The integers as the message holds them, int64."""
        return self.rounded().detach().clamp(*self.bounds).cpu().numpy().astype(np.int64)

    def add_rate_gradient(self, fraction: float) -> None:
        """Add the price of the bits to the gradient; it rises to its full height in the beginning."""
        assert self.latent.grad is not None
        if int(self._steps.item()) % REFRESH == 0:
            slopes = rate_slopes(self.values(), str(self.latent.device))
            self._levels.copy_(slopes.levels)
            self._shared.copy_(slopes.shared)
        strength = self.nats_per_bit * min(1.0, fraction / PRICE_RAMP)
        gradient = RateSlopes(self._levels, self._shared).gradient(self.latent.detach())
        self.latent.grad.add_(gradient * (1 - self.frozen), alpha=strength)

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        """Watch the integers; fix the steadiest when it is time."""
        self._steps += 1
        self.latent.clamp_(*self.bounds)
        average = torch.lerp(self.mean, self.latent.round(), 1 - _WAVER_DECAY)
        self.mean.copy_(torch.where(self.frozen > 0, self.mean, average))
        if fraction > FREEZE_FROM:
            self._freeze(min(1.0, (fraction - FREEZE_FROM) / (FREEZE_UNTIL - FREEZE_FROM)))

    @torch.no_grad()
    def finish(self) -> None:
        """Fix all that is still free."""
        self._freeze(1.0)

    def _freeze(self, fraction: float) -> None:
        missing = int(fraction * self.frozen.numel()) - int(self.frozen.sum())
        if missing <= 0 or (missing < self.frozen.numel() // 100 and fraction < 1.0):
            return
        mean, frozen = self.mean.view(-1), self.frozen.view(-1)
        waver = torch.where(frozen > 0, torch.inf, (mean - mean.round()).abs())
        chosen = waver.argsort(stable=True)[:missing]
        mean[chosen] = mean[chosen].round()
        frozen[chosen] = 1.0

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that changes, for a checkpoint."""
        return {
            "latent": self.latent,
            "mean": self.mean,
            "frozen": self.frozen,
            "steps": self._steps,
            "levels": self._levels,
            "shared": self._shared,
        }
