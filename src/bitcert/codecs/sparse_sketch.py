"""Sparse matrix sketch: a sparse layer as ``Y = A X B^T`` (Guha 2023, section 5, after Dasarathy et al. 2013).

``X`` is the layer in integers (pruned, then quantised), ``A`` and ``B`` are 0/1 matrices of the helper with ``delta``
ones a column and ``m = ceil(s sqrt(max(j_c d1, j_r d2)) ln p)`` rows, ``p = max(d1, d2)``, where a row of ``X`` has at
most ``j_c`` and a column at most ``j_r`` non-zeros (Theorem 5.1; its constants are unknown, ``s = 1`` and ``delta =
ceil(ln p)`` here). A side with ``m >= d`` is left as it is. The decoder finds ``X`` by l1 minimisation
(:mod:`bitcert.decoder.transforms.sketch`).

The encoder decodes before it writes. A layer larger than 64 x 64, one whose sketch would not be smaller than the
matrix, or one that is not recovered exactly and uniquely, is coded directly (``identity``), and
:meth:`SparseSketch.explain` and the theory's notes say which and why. Such sketches are sized and counted there all the
same. Not promised: that a sketch saves bits. It cannot beat the entropy of ``X``, which it determines, and its entries
are many, dense and dependent: on every layer seen so far support by enumeration plus values is several times shorter.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np

from bitcert.codecs.base import Layer, LayerCodec
from bitcert.codecs.magnitude_pruning import keep_largest
from bitcert.codecs.quantiser import written_bits
from bitcert.data import Sample
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Coefficients, Integers
from bitcert.decoder.transforms.sketch import (
    MAX_SIDE,
    Ensembles,
    matrix_hash,
    paper_degree,
    paper_size,
    recovers_uniquely,
)
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import stream
from bitcert.theory.value import Condition, LayerTheory, Theory

_COUNTED_SIZE = 1 << 20
"""Sketches of larger layers are sized, and their alphabet bounded, without being computed."""


@dataclass(frozen=True)
class DistributedSparsity:
    """Definition 5.1: how the non-zeros of a matrix are spread.

    Attributes:
        nnz: non-zeros.
        max_per_row: ``j_c``, most non-zeros of any row.
        max_per_column: ``j_r``, most non-zeros of any column.
        whole_diagonal: whether no diagonal entry is zero (the definition asks for it, Remark 4.1 does not).
    """

    nnz: int
    max_per_row: int
    max_per_column: int
    whole_diagonal: bool

    @classmethod
    def of(cls, matrix: Integers) -> DistributedSparsity:
        """Of a matrix ``[d1, d2]``."""
        support = matrix != 0
        per_row, per_column = int(support.sum(1).max(initial=0)), int(support.sum(0).max(initial=0))
        return cls(int(support.sum()), per_row, per_column, bool(np.diagonal(support).all()))


@dataclass(frozen=True, eq=False)
class SketchedLayer:
    """A layer in integers, the sketch it would get, and whether the message holds that.

    Attributes:
        layer: name of the weight.
        coefficients: ``X``, quantised, of the weight's shape.
        matrix: its integers as a matrix.
        sparsity: see :class:`DistributedSparsity`.
        sketch_shape: ``(rows, columns)`` of ``Y``.
        delta: edges of every coordinate.
        ensembles: of the helper; ``None`` where the layer is too large to try.
        refusal: why the message does not hold the sketch, one sentence; empty if it does.
    """

    layer: str
    coefficients: Coefficients
    matrix: Integers
    sparsity: DistributedSparsity
    sketch_shape: tuple[int, int]
    delta: int
    ensembles: Ensembles | None
    refusal: str = ""

    @property
    def used(self) -> bool:
        """Whether the message holds the sketch."""
        return not self.refusal

    @property
    def reason(self) -> str:
        """What became of the layer, one sentence."""
        return self.refusal or "recovered exactly"

    @functools.cached_property
    def sketch(self) -> Coefficients:
        """``Y``."""
        assert self.ensembles is not None
        return Coefficients(self.ensembles.sketch(self.matrix), self.coefficients.exponent)

    @property
    def alphabet(self) -> int:
        """Number of values the entries of ``Y`` range over (a bound for large layers)."""
        if self.ensembles is None:
            terms = min(self.delta**2, self.sparsity.nnz)
            return 2 * terms * int(np.abs(self.matrix).max(initial=0)) + 1
        return int(self.sketch.integers.max(initial=0)) - int(self.sketch.integers.min(initial=0)) + 1

    @property
    def naive_bits(self) -> float:
        """Entries of ``Y`` times ``log2`` of the alphabet: the paper's way of counting."""
        return math.prod(self.sketch_shape) * math.log2(self.alphabet)

    @functools.cached_property
    def sketch_bits(self) -> float:
        """``Y`` as our coders write it, ``inf`` where the layer is too large to try."""
        return math.inf if self.ensembles is None else float(written_bits(self.sketch))

    @functools.cached_property
    def direct_bits(self) -> int:
        """``X`` as our coders write it."""
        return written_bits(self.coefficients)

    def theory(self) -> LayerTheory:
        """The row of the paper's counts."""
        shape, sparsity = self.coefficients.integers.shape, self.sparsity
        size = math.prod(shape)
        p, j = max(shape[0], size // max(shape[0], 1), 2), max(sparsity.max_per_row, sparsity.max_per_column)
        details = {
            **{key: float(value) for key, value in asdict(sparsity).items()},
            "p": float(p),
            "m_paper": float(paper_size(j, p)),
            "sketch_rows": float(self.sketch_shape[0]),
            "sketch_columns": float(self.sketch_shape[1]),
            "delta": float(self.delta),
            "alphabet": float(self.alphabet),
            "naive_bits": self.naive_bits,
            "direct_bits": float(self.direct_bits),
            "used": float(self.used),
        }
        if math.isfinite(self.sketch_bits):
            details["sketch_bits"] = self.sketch_bits
        return LayerTheory(self.layer, size, j * p * math.log(p) ** 2, 0.0 if self.used else None, details)


@dataclass(frozen=True, kw_only=True)
class SparseSketch(LayerCodec):
    """Sketches of the layers that can be recovered from them, the others coded directly.

    Args:
        keep: fraction of each layer kept by magnitude before sketching, in (0, 1]; 1 takes the weights as they are.
        scale: ``s``, positive: size of the sketch over the paper's with the constant 1.
        delta: edges of every coordinate; ``None`` for ``ceil(ln p)``.
        only_if_shorter: whether a sketch longer than the direct code is refused.

    >>> SparseSketch(keep=0.02).label
    'sketch keep 0.02'
    """

    name: ClassVar[str] = "sketch"

    keep: float = 0.02
    scale: float = 1.0
    delta: int | None = None
    only_if_shorter: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError("a fraction to keep above 0 and at most 1", repr(self.keep), "use e.g. 0.02")
        if not 0 < self.scale < math.inf:
            raise InputError("a positive scale of the sketch", repr(self.scale), "use 1")
        if self.delta is not None and self.delta < 1:
            raise InputError("an ensemble with at least 1 edge for every coordinate", f"{self.delta}", "use e.g. 5")

    @property
    def label(self) -> str:
        """What is kept."""
        return f"{self.name} keep {self.keep:g}"

    @classmethod
    def strengths(cls) -> tuple[SparseSketch, ...]:
        """From nearly lossless (nothing pruned, so nothing sketched) to extreme."""
        return (cls(keep=1.0), cls(keep=0.1), cls(keep=0.02), cls(keep=0.005))

    def code_layer(self, layer: Layer) -> TensorCode:
        """The sketch where it can be decoded, else the sparse layer itself.

        Raises:
            InputError: more edges than rows of the sketch.
        """
        found = self._sketched(layer)
        if not found.used:
            return layer.code("identity", (), found.coefficients)
        settings = (*found.sketch_shape, found.delta, matrix_hash(found.matrix))
        return layer.code("sketch", settings, found.sketch)

    def _sizes(self, shape: tuple[int, int], sparsity: DistributedSparsity) -> tuple[tuple[int, int], int]:
        rows, columns = shape
        most = max(sparsity.max_per_row * rows, sparsity.max_per_column * columns)
        p = max(rows, columns, 2)
        size = max(1, math.ceil(min(self.scale * math.sqrt(most) * math.log(p), 2.0**40)))
        sizes = min(size, rows), min(size, columns)
        sketched = min((size for size, whole in zip(sizes, shape, strict=True) if size < whole), default=p)
        if self.delta is not None and self.delta > sketched and sparsity.nnz:
            do = "use fewer edges or a larger scale"
            raise InputError(f"at most {sketched} edges for a sketch of that size", f"{self.delta}", do)
        return sizes, min(self.delta or paper_degree(p), sketched)

    def _sketched(self, layer: Layer) -> SketchedLayer:
        coefficients = self.quantiser(keep_largest(layer.values, self.keep))
        shape = layer.target.matrix_shape
        matrix = coefficients.integers.reshape(shape)
        sparsity = DistributedSparsity.of(matrix)
        sizes, delta = self._sizes(shape, sparsity)
        small = matrix.size <= _COUNTED_SIZE
        ensembles = Ensembles.draw(layer.draws, shape, sizes, delta) if small else None
        found = SketchedLayer(layer.target.name, coefficients, matrix, sparsity, sizes, delta, ensembles)
        return replace(found, refusal=self._refusal(found))

    def _refusal(self, found: SketchedLayer) -> str:
        """Why the sketch is not the message, or nothing."""
        rows, columns = found.matrix.shape
        if not found.sparsity.nnz:
            return "all zero"
        if found.sketch_shape == (rows, columns):
            return f"the sketch would not be smaller than the {rows} x {columns} matrix"
        if max(rows, columns) > MAX_SIDE or found.ensembles is None:
            return f"{rows} x {columns} is too large to recover exactly; the sketch is counted, not used"
        if self.only_if_shorter and found.sketch_bits >= found.direct_bits:
            return "the direct code is shorter"
        if not recovers_uniquely(found.ensembles, found.matrix, stream(0, f"uniqueness/{found.layer}")):
            return "l1 minimisation does not give the matrix back"
        return ""

    def explain(self, network: Network) -> tuple[SketchedLayer, ...]:
        """For every compressed layer whether the message holds its sketch, why, and both lengths.

        Raises:
            InputError: as :meth:`encode`; a base from a file.
        """
        return tuple(map(self._sketched, self.compressed_layers(network)))

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Theorems 5.1 and 5.2 for this network: sizes, counts and what recovery really did."""
        del sample  # the sketch is lossless: its error is that of what was sketched
        records = self.explain(network)
        rows = tuple(record.theory() for record in records)
        longer = [r.layer for r in records if r.sketch_bits >= r.direct_bits]
        unused = [r for r in records if not r.used]
        return Theory(
            source="Guha 2023, Theorems 5.1 and 5.2; Dasarathy et al. 2013, Theorem 1",
            statement="sum_l j_l p_l ln^2(p_l) numbers; X is the unique minimiser of ||X||_1 with its sketch, for m = "
            "O(sqrt(max(j_c d1, j_r d2)) log p) and delta = O(log p)",
            parameters=float(sum(row.parameters for row in rows)),
            error=0.0,
            error_means="||X_recovered - X||: 0 where the sketch is the message, because the encoder has decoded it",
            probability=max(0.0, 1.0 - sum(row.details["p"] ** -2 for row in rows)),
            conditions=(
                Condition(
                    "the sketch is shorter than the sparse code",
                    not longer,
                    f"not in {len(longer)} of {len(records)} layers",
                ),
                Condition("recovered exactly in every layer", not unused, f"{len(unused)} layers are coded directly"),
                Condition(
                    "no zero on any diagonal (Definition 5.1)",
                    all(r.sparsity.whole_diagonal for r in records),
                    "Remark 4.1: not needed for recovery",
                ),
            ),
            layers=rows,
            notes=(*(f"{r.layer}: {r.reason}" for r in unused), *_NOTES),
        )


_NOTES = (
    "the constants of Theorem 5.1 are unknown: 1, natural logarithms",
    "erratum 9: j_l p_l with the measured j_l and p_l = max(d1, d2), not 3 lambda chi d1 d2",
    "Definition E.1 as applied there puts the delta ones in the rows of A, which leaves coordinates without an edge "
    "when delta m < d; here, as in Dasarathy et al., they are in the columns",
    "Lemma 5.1 rests on Lemma E.1 (at most 3N/n of N balls in a bin), which is false for N of the order of n",
)
