"""Singular values of weight layers, a kernel ``[out, in, *kernel]`` as the matrix ``[out, in * kernel]``.

Method and accuracy. Singular values are square roots of the eigenvalues of the smaller Gram matrix in float64. A small
eigenvalue comes out with an error of about ``eps * lambda_max`` (0.1 to 0.2 of it for sides of 16 to 500; the worst
case has a factor of the side's length), so its *relative* error is about 1e-6, and that of the singular value half of
it, while ``lambda_min / lambda_max >= 2e-10``. Matrices outside that range are decomposed by an SVD in float64 instead,
whose singular values are off by a few ``eps * sigma_max``: those near zero are then accurate absolutely, not
relatively. Weights stored in float32 carry a larger uncertainty of their own (6e-8 of ``sigma_max``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.errors import InputError

_SMALLEST_RATIO = 2e-10
"""Smallest over largest eigenvalue of a Gram matrix below which the singular values come from an SVD."""

_WORTH_THREADS = 32
"""Matrices in a stack from which on threads pay."""


def layer_spectra(weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """Singular values of many layers by name, largest first; weights of one shape are decomposed together.

    Args:
        weights: by layer name, ``[out, in]`` or ``[out, in, *kernel]``.

    Raises:
        InputError: a weight with fewer than two axes, no entries, or entries that are not finite.

    >>> layer_spectra({"w": torch.tensor([[0.0, 2.0], [3.0, 0.0]])})["w"].round(12).tolist()
    [3.0, 2.0]
    """
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for name, weight in weights.items():
        if weight.dim() < 2 or weight.numel() == 0:
            got = f"shape {list(weight.shape)}"
            raise InputError(f"a weight of shape [out, in, ...] for {name!r}", got, "pass a layer's weight")
        groups[tuple(weight.shape)].append(name)
    values: dict[str, NDArray[np.float64]] = {}
    for names in groups.values():
        stack = _stack(names, weights)
        matrices = stack.reshape(len(names), stack.shape[1], -1).astype(np.float64)
        values |= zip(names, np.sort(_singular_values(matrices), axis=1)[:, ::-1], strict=True)
    return {name: values[name] for name in weights}


def _stack(names: list[str], weights: Mapping[str, Tensor]) -> NDArray[np.floating]:
    """Weights of one shape, ``[layers, out, in, *kernel]``."""
    # numpy, not torch: on arrays of this size starting torch's threads can cost more than the work
    stack = np.stack([weights[name].detach().cpu().numpy() for name in names])
    # a sum in float64 is finite only if its terms are, and costs less than looking at each
    for name, total in zip(names, stack.reshape(len(names), -1).sum(1, dtype=np.float64), strict=True):
        if not math.isfinite(total):
            raise InputError(f"finite weights in {name!r}", "NaN or infinite entries", "repair or retrain the layer")
    return stack


def _squares(wide: NDArray[np.float64]) -> NDArray[np.float64]:
    """Eigenvalues of the smaller Gram matrices, smallest first."""
    stack = torch.from_numpy(wide)
    found: NDArray[np.float64] = torch.linalg.eigvalsh(stack @ stack.mT).numpy()
    return found


def _singular_values(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """``[count, short side]`` of ``[count, rows, columns]``."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.transpose(0, 2, 1)
    # LAPACK takes small matrices one by one on one core; halves of the stack go to threads of their own
    threads = torch.get_num_threads() if len(wide) >= _WORTH_THREADS else 1
    parts = np.array_split(wide, threads)
    if threads == 1:
        squares = _squares(wide)
    else:
        with ThreadPoolExecutor(threads) as pool:
            squares = np.concatenate(list(pool.map(_squares, parts)))
    inaccurate = ~(squares[:, 0] >= _SMALLEST_RATIO * squares[:, -1])
    values: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0))
    if inaccurate.any():
        values[inaccurate] = np.linalg.svd(wide[inaccurate], compute_uv=False)
    return values
