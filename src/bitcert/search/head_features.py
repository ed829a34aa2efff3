"""Features of a training sample, computed in a streaming pass and kept as vectors: a bank's, or a helper network's.

Of a network are kept the pooled values of the graph, before square roots and scaling, one block for each pair of node
and grid, and the network's logits. What does not fit in :data:`CACHE_BYTES` is replaced by a random subset of the
examples; errors of a certificate are always counted on the whole sample, by decoding the message.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.features.banks import Bank, available_banks, bank_features, bank_groups
from bitcert.decoder.features.network import FeatureSource, part_sizes, pooled, scaled
from bitcert.decoder.network import network_inputs
from bitcert.decoder.network_head import helper_network
from bitcert.network.architecture import Architecture
from bitcert.random import stream
from bitcert.run import Run
from bitcert.search.head_objective import Examples

CACHE_BYTES = 3 << 29
"""Features beyond this are those of a random subset of the examples."""
GROWN_ON = 20_000
"""A head grows on at most so many examples."""

_EXAMPLES_AT_ONCE, _NUMBERS_AT_ONCE = 500, 1 << 22
_LARGEST = 65536.0
_CHUNK = 250
_STAGING = 8

Block = tuple[str, int]
"""A node and the grid its value is averaged on."""


def feature_examples(
    sample: Sample, helper: Helper, bank: Bank | None, rows: NDArray[np.intp], targets: NDArray[np.float32] | None
) -> Examples:
    """Features and labels of ``rows`` of the sample, sorted by label.

    Large features, as of a column in a small unit, are divided by a common number. No decision depends on it, and sums
    of fourth powers stay within float32.
    """
    rows = rows[np.argsort(sample.labels[rows], kind="stable")]
    matrix = torch.empty(len(bank_groups(bank, helper.input_shape)), len(rows))
    chunk = max(1, min(_EXAMPLES_AT_ONCE, _NUMBERS_AT_ONCE // math.prod(helper.input_shape)))
    for start in range(0, len(rows), chunk):
        chosen = rows[start : start + chunk]
        batch = helper.preprocessing(sample.inputs_at(chosen))
        matrix[:, start : start + len(chosen)] = bank_features(bank, batch).T
    largest = float(matrix.abs().max())
    if largest > _LARGEST:
        matrix *= 4 / largest
    counts = np.bincount(sample.labels[rows], minlength=helper.num_classes)
    soft = None if targets is None else torch.from_numpy(np.ascontiguousarray(targets[rows].T, dtype=np.float32))
    return Examples(matrix, counts, len(sample) / len(rows), soft)


def examples_of(
    features_t: Tensor, labels: Tensor, num_classes: int, weight: float, *others: Tensor | None
) -> Examples:
    """The examples in the order of their labels.

    Args:
        features_t: ``[features, m]``.
        labels: ``[m]``.
        num_classes: number of classes.
        weight: how many training examples each stands for.
        others: ``[m, classes]`` soft labels, or ``None``; then a fixed part of the logits, or ``None``.
    """
    order = torch.argsort(labels, stable=True)
    counts = np.bincount(labels.numpy(), minlength=num_classes)
    more = (None if values is None else values[order].T.contiguous() for values in others)
    return Examples(features_t[:, order].contiguous(), counts, weight, *more)


def head_memory_bytes(helper: Helper, num_samples: int) -> int:
    """Peak memory of a descent beside the program and the data: features and a dozen arrays of probabilities."""
    widest = max(len(bank_groups(bank, helper.input_shape)) for bank in available_banks(helper.input_shape))
    rows = min(num_samples, CACHE_BYTES // (4 * widest))
    return 4 * (rows + min(rows, GROWN_ON)) * (widest + 16 * helper.num_classes)


def alike_banks(banks: Sequence[Bank]) -> list[tuple[Bank, list[Bank]]]:
    """Banks that share their front end, each lot with the bank of all their parts: it is computed once for them."""
    lots = []
    for upright, mirrored in dict.fromkeys((bank.upright, bank.mirrored) for bank in banks):
        alike = [bank for bank in banks if (bank.upright, bank.mirrored) == (upright, mirrored)]
        parts = tuple(dict.fromkeys(part for bank in alike for part in bank.parts))
        lots.append((Bank(upright, parts, mirrored), alike))
    return lots


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Pooled values and logits of a helper network.

    Attributes:
        architecture: of the helper network.
        rows: indices into the sample, in random order.
        labels: of those rows, ``[len(rows)]``.
        blocks: ``[len(rows), entries]`` for each node and grid.
        logits: ``[len(rows), outputs]``.
    """

    architecture: Architecture
    rows: NDArray[np.int64]
    labels: Tensor
    blocks: dict[Block, Tensor]
    logits: Tensor

    @classmethod
    def fill(
        cls,
        sample: Sample,
        helper: Helper,
        sources: tuple[FeatureSource, ...],
        run: Run,
        most: int | None = None,
        until: float = 1.0,
    ) -> FeatureCache:
        """One pass over the sample; when its time is over, the examples that were done are kept, at least one batch.

        Args:
            sample: labelled examples.
            helper: with the network.
            sources: whose values are kept.
            run: seed, time and progress.
            most: at most so many examples; all that fit in memory by default.
            until: that fraction of the run's time.

        Raises:
            DecodeError: the helper holds no network with weights.
        """
        architecture, parameters = helper_network(helper)
        wanted = _blocks(sources)
        widths = {block: part_sizes(architecture, FeatureSource(*_single(block)), False)[0] for block in wanted}
        fitting = max(1, CACHE_BYTES // (4 * (sum(widths.values()) + architecture.num_outputs)))
        # in random order, so that whatever was done when the time is over is a random subset
        order = stream(run.seed, "training subset").permutation(len(sample))
        rows = order[: min(most or len(sample), fitting)]
        blocks = {block: torch.empty(len(rows), width) for block, width in widths.items()}
        logits = torch.empty(len(rows), architecture.num_outputs)
        names = (*dict.fromkeys(node for node, _ in wanted), architecture.output)
        done = 0
        while done < len(rows) and not (done and run.fraction >= until):
            chosen = rows[done : done + min(_CHUNK, helper.batch_size)]
            x = network_inputs(architecture, helper.preprocessing, sample.inputs_at(chosen))
            with torch.no_grad():
                values = architecture.values_of(x, parameters, names)
            for node, grid in wanted:
                blocks[node, grid][done : done + len(chosen)] = pooled(values[node], grid)
            logits[done : done + len(chosen)] = values[architecture.output]
            done += len(chosen)
            run.progress("features of the helper network", done / len(rows))
        blocks = {block: values[:done] for block, values in blocks.items()}
        labels = torch.tensor(sample.labels[rows[:done]])
        return cls(architecture, rows[:done], labels, blocks, logits[:done])

    def matrix(self, source: FeatureSource, root: bool, with_logits: bool) -> Tensor:
        """``[features, rows]`` of a source, the constant last; what ``network_features`` gives, transposed."""
        count = len(self.labels)
        sizes = part_sizes(self.architecture, source, with_logits)
        matrix = torch.ones(sum(sizes) + 1, count)
        parts = [(self.blocks[block], root) for block in _blocks((source,))]
        if with_logits:
            parts.append((self.logits, False))
        start = 0
        for (part, rooted), size in zip(parts, sizes, strict=True):
            for first in range(0, count, _CHUNK * _STAGING):
                piece = part[first : first + _CHUNK * _STAGING]
                matrix[start : start + size, first : first + len(piece)] = scaled(piece, rooted).T
            start += size
        return matrix


def _single(block: Block) -> tuple[Any, int]:
    return (block[0],), block[1]


def _blocks(sources: tuple[FeatureSource, ...]) -> tuple[Block, ...]:
    return tuple(dict.fromkeys((node, source.grid) for source in sources for node in source.nodes))
