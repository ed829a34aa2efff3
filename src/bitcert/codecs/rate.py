"""What the message would save: slopes of the code length in each weight, for training under a rate term.

The slope between two integers is the difference of their marginal cost under the adaptive code at the present
counts; the last non-zeros of a row or column also carry their share of the mask and of the zeros it would spare.
This is a linearisation around the present integers: it guides training and proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.coding import UNARY_MAGNITUDES, marginal_bits
from bitcert.decoder.network import Integers


@dataclass(frozen=True, eq=False)
class RateSlopes:
    """Slopes of one tensor's code length in ``|weight / step|``, in bits.

    Attributes:
        levels: ``[16]``, between magnitudes ``t`` and ``t + 1``; the last one is used beyond.
        shared: bits of the first level on top, a tensor that broadcasts to the weight: the entry's share of the
            row and column it keeps in use.
    """

    levels: torch.Tensor
    shared: torch.Tensor

    def gradient(self, scaled: torch.Tensor) -> torch.Tensor:
        """Gradient of the code length in bits at ``scaled = weight / step``."""
        magnitude = scaled.abs()
        level = magnitude.to(torch.int64).clamp_(max=len(self.levels) - 1)
        slope = self.levels[level] + torch.where(level == 0, self.shared, 0.0)
        return torch.sign(scaled) * slope

    def refresh(self, values: Integers) -> None:
        """Those of other integers of the tensor, in place."""
        now = rate_slopes(values)
        self.levels.copy_(now.levels)
        self.shared.copy_(now.shared)


def rate_slopes(values: Integers, device: str = "cpu") -> RateSlopes:
    """Slopes at the present integers of a tensor of any shape."""
    if values.ndim < 2 or not values.size:
        # a vector has no rows that could leave as a whole: its zeros are coded like everything else
        return _slopes(values, np.zeros((1,) * values.ndim), device)
    shape = values.shape
    blocked = values.reshape(shape[0], shape[1], -1)
    used = blocked != 0
    per_row, per_column = used.sum((1, 2)), used.sum((0, 2))
    rows, columns = per_row > 0, per_column > 0
    inside = blocked[np.ix_(rows, columns)]
    zero_bits = float(marginal_bits(inside)[UNARY_MAGNITUDES]) * blocked.shape[2]
    row = _share(per_row, zero_bits * int(columns.sum()))
    column = _share(per_column, zero_bits * int(rows.sum()))
    shared = row[:, None, None] + column[None, :, None]
    return _slopes(inside, shared.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2)), device)


def _slopes(values: Integers, shared: NDArray[np.float64], device: str) -> RateSlopes:
    """Differences of the marginal costs of these integers."""
    cost, middle = marginal_bits(values), UNARY_MAGNITUDES
    # a positive and a negative entry of one size differ in the sign only: half of it each
    magnitudes = (cost[middle:] + cost[middle::-1]) / 2
    levels = np.maximum(0.0, np.diff(magnitudes))
    return RateSlopes(
        torch.tensor(levels, dtype=torch.float32, device=device),
        torch.tensor(shared, dtype=torch.float32, device=device),
    )


def _share(num_alive: Integers, zeros_bits: float) -> NDArray[np.float64]:
    """Bits of keeping each row in use, split among its non-zeros: its flag and the zeros it adds to the code."""
    num_used = int((num_alive > 0).sum())
    flag = np.log2((len(num_alive) - num_used + 0.5) / (num_used + 0.5))
    shares: NDArray[np.float64] = np.maximum(0.0, flag + zeros_bits) / np.maximum(1, num_alive)
    return shares
