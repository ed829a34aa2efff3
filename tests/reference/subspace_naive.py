"""Naive twins of the subspace and mask transforms: every entry of P on its own, from the bits of the words."""

from __future__ import annotations

import numpy as np

from bitcert.decoder.transforms.base import Draws, Target
from bitcert.decoder.transforms.subspace import Block, Kind


def _bit_sign(words: np.ndarray, index: int) -> int:
    return -1 if (int(words[index // 64]) >> (index % 64)) & 1 else 1


def _order(draws: Draws, purpose: str, count: int) -> list[int]:
    words = [int(word) for word in draws.words(purpose, count)]
    return sorted(range(count), key=lambda k: (words[k], k))


def _dense(block: Block, draws: Draws) -> np.ndarray:
    per_row = -(-block.dimension // 64)
    words = draws.words(f"dense/{block.index}", block.size * per_row)
    rows = [words[i * per_row : (i + 1) * per_row] for i in range(block.size)]
    return np.array([[_bit_sign(row, j) for j in range(block.dimension)] for row in rows])


def _kronecker(block: Block, draws: Draws) -> np.ndarray:
    a = int(np.ceil(np.sqrt(block.size)))
    b = int(np.ceil(block.size / a))
    p = int(np.ceil(np.sqrt(block.dimension)))
    q = int(np.ceil(block.dimension / p))
    left = draws.words(f"kronecker/a/{block.index}", -(-a * p // 64))
    right = draws.words(f"kronecker/b/{block.index}", -(-b * q // 64))
    matrix = np.zeros((block.size, block.dimension), dtype=np.int64)
    for i in range(block.size):
        for j in range(block.dimension):
            one = _bit_sign(left, (i // b) * p + j // q)
            matrix[i, j] = one * _bit_sign(right, (i % b) * q + j % q)
    return matrix


def _hadamard(block: Block, draws: Draws) -> np.ndarray:
    order = 1
    while order < max(block.size, block.dimension):
        order *= 2
    columns = _order(draws, f"hadamard/columns/{block.index}", order)
    flips = draws.words(f"hadamard/signs/{block.index}", -(-block.size // 64))
    matrix = np.zeros((block.size, block.dimension), dtype=np.int64)
    for i in range(block.size):
        for j in range(block.dimension):
            matrix[i, j] = _bit_sign(flips, i) * (-1) ** bin(i & columns[j]).count("1")
    return matrix


def _sparse(block: Block, draws: Draws) -> np.ndarray:
    order = _order(draws, f"sparse/columns/{block.index}", block.size)
    flips = draws.words(f"sparse/signs/{block.index}", -(-block.size // 64))
    matrix = np.zeros((block.size, block.dimension), dtype=np.int64)
    for place, row in enumerate(order):
        matrix[row, place % block.dimension] = _bit_sign(flips, row)
    return matrix


def naive_projection(block: Block, draws: Draws) -> np.ndarray:
    """``P_b`` as a dense integer matrix ``[size, dimension]``."""
    makers = {Kind.DENSE: _dense, Kind.KRONECKER: _kronecker, Kind.HADAMARD: _hadamard, Kind.SPARSE: _sparse}
    return makers[block.kind](block, draws)


def naive_mask_signs(target: Target, draws: Draws) -> np.ndarray:
    """The signs under a mask, one at a time."""
    words = draws.words("mask", -(-target.size // 64))
    return np.array([_bit_sign(words, k) for k in range(target.size)]).reshape(target.shape)
