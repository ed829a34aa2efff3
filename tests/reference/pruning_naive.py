"""Guha 2023 and Shin 2021 entry by entry and in plain floats: what the bounds compute in logarithms and with arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bitcert.random import stream


@dataclass
class Pruned:
    matrix: list[list[float]]
    kept: int
    densest: int
    gamma: float
    rho: float
    values: int


def prune(matrix: np.ndarray, name: str, d: float, seed: int) -> list[list[float]]:
    """Algorithm 1 with the coins of the layer's stream."""
    rows, columns = matrix.shape
    coins = stream(seed, f"guha2023 pruning/{name}").random((rows, columns))
    psi = sum(float(a) ** 2 for a in matrix.ravel()) / (rows * columns)
    found = [[0.0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            a = float(matrix[i, j])
            if i == j or coins[i, j] >= math.exp(-(a**2) / (d * psi)):
                found[i][j] = a
    return found


def layer(matrix: np.ndarray, name: str, d: float, share: float, seed: int = 0) -> Pruned:
    """One layer pruned, with Gamma (C = 1), rho and the number of values an entry can take."""
    rows, columns = matrix.shape
    found = prune(matrix, name, d, seed)
    kept = sum(a != 0 for row in found for a in row)
    by_row = [sum(a != 0 for a in row) for row in found]
    by_column = [sum(found[i][j] != 0 for i in range(rows)) for j in range(columns)]
    psi = float((matrix**2).mean())
    second = psi * (d / (d + 2)) ** 1.5
    fourth = 3 * psi**2 * (d / (d + 2)) ** 2.5
    gamma = math.sqrt(second) * (math.sqrt(rows) + math.sqrt(columns)) + (rows * columns * fourth) ** 0.25
    rho = share * float(np.linalg.norm(matrix, 2)) / 2 / kept
    largest = max(abs(a) for row in found for a in row)
    return Pruned(found, kept, max(by_row + by_column), gamma, rho, 2 * math.floor(largest / rho + 0.5) + 1)


def sketch(layers: list[Pruned], shapes: list[tuple[int, int]]) -> float:
    """Theorem 5.2."""
    return sum(
        own.densest * max(shape) * math.log(max(shape)) ** 2 * math.log(own.values)
        for own, shape in zip(layers, shapes, strict=True)
    )


def counted(layers: list[Pruned], shapes: list[tuple[int, int]]) -> float:
    """Lemma D.1 in bits."""
    return sum(
        math.log2(math.comb(shape[0] * shape[1], own.kept)) + own.kept * math.log2(own.values)
        for own, shape in zip(layers, shapes, strict=True)
    )


def output_change(matrices: list[np.ndarray], layers: list[Pruned], epsilon: float, largest_input: float) -> float:
    """Lemma 4.4."""
    norms = [float(np.linalg.norm(m, 2)) for m in matrices]
    total = sum((epsilon * own.gamma + own.rho * own.kept) / norm for own, norm in zip(layers, norms, strict=True))
    return math.e * largest_input * math.prod(norms) * total


def kept_by_heavy_tail(matrix: np.ndarray, tau: float) -> tuple[int, int]:
    """Entries with ``|w - mean| > tau``, and with ``w > tau``."""
    mean = sum(map(float, matrix.ravel())) / matrix.size
    entries = [float(a) for a in matrix.ravel()]
    return sum(abs(a - mean) > tau for a in entries), sum(a > tau for a in entries)
