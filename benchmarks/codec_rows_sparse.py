"""Rows of sparse coding (the pruned LeNet-5 against enumeration) and of the sketch (64 x 64, sketched and recovered).

Enumerative limit of a tensor: the support at ``min(sum_rows log2 C(columns, k_row), log2 C(entries, non-zeros))``, and
the ``n`` values that are not zero at ``n H`` with their empirical frequencies. It knows the counts of the rows and the
frequencies of the values for nothing, which a message must state; so no code can follow its recipe and reach it. A
message can be shorter all the same where rows *and* columns are emptied unevenly. Two stricter limits stand in the
details, of the same support within the rows and columns in use: their masks at ``log2 C``, then rows or columns,
whichever is shorter, at their limit; and the same with the counts at their empirical entropy as well.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from codec_row import Row
from networks import load_checkpoint
from numpy.typing import NDArray

from bitcert.codecs.quantiser import Uniform
from bitcert.coding import BitReader, BitWriter
from bitcert.coding.coders import read_array, write_array
from bitcert.coding.enumerative import Enumerative
from bitcert.decoder.transforms.base import Draws
from bitcert.decoder.transforms.sketch import (
    Ensembles,
    matrix_hash,
    paper_degree,
    paper_size,
    recover,
    recovers_uniquely,
)

FRACTIONS = (0.1, 0.25, 0.5, 1.0)
TARGET_PERCENT = 1.0
TARGET_SECONDS = 5.0

Integers = NDArray[np.int64]


def sparse_row() -> Row:
    """Percent by which the written tensors exceed the enumerative limit, for the worst of four quantisers."""
    weights = [p.detach().double().numpy() for p in load_checkpoint("lenet5_sparse").parameters() if p.ndim > 1]
    excess, details = [], {}
    for fraction in FRACTIONS:
        tensors = [Uniform(fraction)(values).integers for values in weights]
        limits = np.sum([_limits(integers) for integers in tensors], axis=0)
        written = sum(_written(integers) for integers in tensors)
        excess.append(100 * (written / limits[0] - 1))
        details[f"step {fraction:g} rms"] = (
            f"{written} bits; {excess[-1]:+.1f} % of the limit, {100 * (written / limits[1] - 1):+.1f} % within rows "
            f"and columns in use, {100 * (written / limits[2] - 1):+.1f} % with their counts"
        )
    largest = max((Uniform(0.25)(values).integers for values in weights), key=np.size)
    bits, started = BitWriter(), time.perf_counter()
    Enumerative().write(bits, largest)
    again = Enumerative().read(BitReader(bits.to_bytes()), largest.shape)
    details["enumerative coder, [500, 800] written and read, s"] = round(time.perf_counter() - started, 2)
    assert np.array_equal(again, largest)
    name = "support and values of the pruned LeNet-5 over the enumerative limit"
    return Row(name, max(excess), TARGET_PERCENT, "%", at_least=False, details=details)


def _written(integers: Integers) -> int:
    bits = BitWriter()
    write_array(bits, integers)
    assert np.array_equal(read_array(BitReader(bits.to_bytes()), integers.shape), integers)
    return len(bits)


def _limits(integers: Integers) -> tuple[float, float, float]:
    """The limit, the limit within rows and columns in use, and that with the counts, in bits."""
    matrix = integers.reshape(len(integers), -1)
    support, values = matrix != 0, _entropy_bits(matrix[matrix != 0])
    plain = min(_rows_bits(support), _choose(support.size, int(support.sum())))
    rows, columns = support.any(1), support.any(0)
    inside = support[rows][:, columns]
    masks = _choose(len(rows), int(rows.sum())) + _choose(len(columns), int(columns.sum()))
    used = min(_rows_bits(inside), _rows_bits(inside.T))
    counted = min(_rows_bits(view) + _entropy_bits(view.sum(1)) for view in (inside, inside.T))
    return plain + values, masks + used + values, masks + counted + values


def _choose(total: int, chosen: int) -> float:
    return math.log2(math.comb(total, chosen))


def _rows_bits(support: NDArray[np.bool_]) -> float:
    return sum(_choose(support.shape[1], int(row.sum())) for row in support)


def _entropy_bits(values: Integers) -> float:
    _, counts = np.unique(values, return_counts=True)
    return -float(np.sum(counts * np.log2(counts / counts.sum())))


def sketch_row() -> Row:
    """Seconds to sketch a 64 x 64 layer with two non-zeros a line at the paper's size, and to recover it."""
    rng = np.random.default_rng(0)
    matrix = np.diag(rng.integers(1, 21, 64) * rng.choice([-1, 1], 64))
    matrix[np.arange(64), rng.permutation(64)] = rng.integers(-20, 21, 64)
    size, delta = paper_size(2, 64), paper_degree(64)
    started = time.perf_counter()
    ensembles = Ensembles.draw(Draws(0, "layer"), (64, 64), (size, size), delta)
    sketch = ensembles.sketch(matrix)
    found = recover(ensembles, sketch, matrix_hash(matrix))
    seconds = time.perf_counter() - started
    assert found is not None
    assert np.array_equal(found.matrix, matrix)
    checked = time.perf_counter()
    unique = recovers_uniquely(ensembles, matrix, rng)
    details = {
        "sketch": f"{size} x {size}, delta {delta}, {np.count_nonzero(matrix)} non-zeros",
        "sketch, bits": _written(sketch),
        "the sparse matrix itself, bits": _written(matrix),
        "the encoder's check of uniqueness, s": round(time.perf_counter() - checked, 2),
        "unique": bool(unique),
        "threads": torch.get_num_threads(),
    }
    name = "sketch and exact recovery of a 64 x 64 layer"
    return Row(name, seconds, TARGET_SECONDS, "s", at_least=False, details=details)
