"""The float32, differentiable twin of the subspace transform: ``P w`` of real ``w``, for training only.

The same signs, columns and order as :mod:`bitcert.decoder.transforms.subspace` draws; for integers below 2^24 in size
and in sum the two are equal (tested). The decoder never uses this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.decoder.transforms import subspace
from bitcert.decoder.transforms.base import Draws, Settings
from bitcert.decoder.transforms.subspace import Block, Kind
from bitcert.errors import InputError

MAX_DENSE_ENTRIES = 1 << 28
"""A dense P is held whole in training (one GiB); the others are not."""


class SubspaceMap:
    """``w [D] -> P w [N]``, linear and differentiable.

    Args:
        sizes, settings, draws: as for :func:`bitcert.decoder.transforms.subspace.expand`.
        device: where to train.

    Raises:
        InputError: a dense P too large to be held.
        DecodeError: settings that the transform does not take.
    """

    def __init__(self, sizes: tuple[int, ...], settings: Settings, draws: Draws, device: str = "cpu") -> None:
        self.blocks = subspace.blocks(sizes, settings)
        self.dimension = sum(block.dimension for block in self.blocks)
        self._maps = [_block_map(block, draws, device) for block in self.blocks]

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """``P w``, float32 ``[N]``."""
        parts = torch.split(coordinates, [block.dimension for block in self.blocks])
        return torch.cat([one(part) for one, part in zip(self._maps, parts, strict=True)])

    def gains(self) -> list[float]:
        """Root mean square of an entry of each block's ``P_b w`` for coordinates of root mean square 1."""
        return [math.sqrt(1 if b.kind is Kind.SPARSE else max(1, b.dimension)) for b in self.blocks]


_Map = Callable[[torch.Tensor], torch.Tensor]


def _block_map(block: Block, draws: Draws, device: str) -> _Map:
    if not block.dimension or not block.size:
        return lambda w: torch.zeros(block.size, device=device) + w.sum()
    if block.kind is Kind.DENSE:
        return _dense(block, draws, device)
    if block.kind is Kind.KRONECKER:
        left, right = (_tensor(factor, device) for factor in subspace.kronecker_factors(block, draws))
        missing = math.prod(block.columns) - block.dimension
        return lambda w: (left @ torch.nn.functional.pad(w, (0, missing)).reshape(block.columns) @ right.T).reshape(-1)[
            : block.size
        ]
    if block.kind is Kind.HADAMARD:
        columns, flips = subspace.hadamard_parts(block, draws)
        return _hadamard(block, torch.from_numpy(columns).to(device), _tensor(flips, device))
    columns, flips = subspace.sparse_parts(block, draws)
    where, signs = torch.from_numpy(columns).to(device), _tensor(flips, device)
    return lambda w: w.index_select(0, where) * signs


def _tensor(values: NDArray[np.generic], device: str) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _dense(block: Block, draws: Draws, device: str) -> _Map:
    if block.size * block.dimension > MAX_DENSE_ENTRIES:
        got = f"{block.size:,} x {block.dimension:,}"
        do = "use another kind of subspace, or fewer dimensions"
        raise InputError(f"a dense subspace of at most {MAX_DENSE_ENTRIES:,} entries to train in", got, do)
    signs = torch.cat([_tensor(rows, device) for rows in subspace.dense_rows(block, draws)])
    return lambda w: signs @ w


def _hadamard(block: Block, columns: torch.Tensor, flips: torch.Tensor) -> _Map:
    def expand(w: torch.Tensor) -> torch.Tensor:
        padded = torch.zeros(block.order, dtype=w.dtype, device=w.device).index_put((columns,), w)
        transformed: torch.Tensor = _WalshHadamard.apply(padded)  # type: ignore[no-untyped-call]
        return transformed[: block.size] * flips

    return expand


class _WalshHadamard(torch.autograd.Function):
    """``H v``; H is symmetric, so that the gradient is ``H`` times the gradient."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return _walsh_hadamard(values)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return _walsh_hadamard(gradient)


def _walsh_hadamard(values: torch.Tensor) -> torch.Tensor:
    result, half = values, 1
    while half < result.numel():
        pairs = result.reshape(-1, 2, half)
        result = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).reshape(-1)
        half *= 2
    return result
