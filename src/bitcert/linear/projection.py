"""Matrix-Project (Arora 2018, algorithm 1), the plain reference: random signs against the whole weight.

``A_hat = (1/k) sum_j <A, M_j> M_j`` with independent uniform sign arrays ``M_j`` of the weight's shape. It is unbiased,
and ``E (A_hat - A)_ab^2 = (||A||_F^2 - A_ab^2) / k`` for every entry, hence ``E ||A_hat - A||_F^2 = (N - 1) ||A||_F^2
/ k`` with ``N`` entries: the noise is larger than ``A`` itself unless ``k`` exceeds ``N``.

The ``k`` numbers ``<A, M_j>`` are the compressed weight; the signs come from a named Philox stream. Sign ``n`` of
``M_j`` is bit ``n mod 64`` (least significant first) of word ``j * ceil(N / 64) + n // 64``, set meaning ``+1``, so
the result does not depend on how the work is cut. It does NOT choose ``k`` or promise an error: with the constant
Arora prints (``C = 1`` in ``k = C log(1/eta) / eps^2``) the claimed probability does not follow (docs/theory.md 3.2).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bitcert.errors import InputError
from bitcert.random import stream

_WORD = 64
_SIGNS = 2**17
"""Signs expanded at a time: 512 KiB in float32, which stays in a core's cache for both products."""
_ROWS = 8
"""Sign arrays at a time for a large weight: enough to read the running sum rarely."""
_MOST_SIGNS = 2**24
"""Bound on the above, unless one array alone is larger."""


def matrix_project(weight: Tensor, num_projections: int, seed: int, purpose: str) -> Tensor:
    """One draw of ``A_hat``, of the weight's shape, dtype and device.

    Args:
        weight: any shape, float32 or float64.
        num_projections: ``k``, at least 1; the cost is ``k`` times the number of entries.
        seed, purpose: name of the random stream; another purpose gives an independent draw.

    Raises:
        InputError: ``num_projections`` below 1, an empty weight, or another dtype.

    >>> weight = torch.tensor([[2.0]])
    >>> matrix_project(weight, 3, 0, "doctest")  # one entry: every sign array returns it exactly
    tensor([[2.]])
    """
    if num_projections < 1:
        raise InputError("at least 1 projection", str(num_projections), "raise the number of projections")
    if weight.numel() == 0 or weight.dtype not in (torch.float32, torch.float64):
        got = f"{weight.numel()} entries of {weight.dtype}"
        raise InputError("a float32 or float64 weight with entries", got, "convert the weight")
    flat = weight.detach().cpu().flatten()
    total, size = torch.zeros_like(flat), flat.numel()
    rows = max(_SIGNS // size, min(_ROWS, _MOST_SIGNS // size), 1)
    bits = stream(seed, purpose).bit_generator
    octets = np.arange(256, dtype=np.uint8)[:, None]
    # eight signs at a time by table: fewer passes over memory than unpacking, converting and scaling
    table = np.unpackbits(octets, axis=1, bitorder="little").astype(flat.numpy().dtype) * 2 - 1
    words = -(-size // _WORD)
    buffer = np.empty((8 * words * min(rows, num_projections), 8), table.dtype)
    for start in range(0, num_projections, rows):
        count = min(rows, num_projections - start)
        drawn = np.asarray(bits.random_raw(count * words), dtype="<u8").view(np.uint8)
        signs = buffer[: len(drawn)]
        # "clip" skips numpy's buffering; a byte never leaves the table
        np.take(table, drawn, axis=0, out=signs, mode="clip")
        chunk = torch.from_numpy(signs.reshape(count, -1)[:, :size])
        total.addmv_(chunk.T, chunk @ flat)
    return (total / num_projections).reshape(weight.shape).to(weight.device)
