"""Truncated SVD: drop small singular values of every layer; Arora et al. 2018 Lemma 1, Zhang 2020 Lemma 4.4.

    A = sum_i sigma_i u_i v_i^T  ->  A_hat = sum over sigma_i >= delta ||A||_2

Then ``||A_hat - A||_2 <= delta ||A||_2`` and ``rank(A_hat) <= stable rank / delta^2``, and ``A_hat`` is
``(rows + columns) * rank`` numbers. The message holds the factors ``U sqrt(Sigma)`` and ``sqrt(Sigma) V^T``, quantised
and coded, where that takes fewer bits than ``A_hat`` itself under the same quantiser; otherwise it holds ``A_hat``. A
convolution ``[out, in, kh, kw]`` is the matrix ``[out, in * kh * kw]``; its spectral norm is not that of the linear map
on images. Different thresholds for different layers: :class:`~bitcert.codecs.per_layer.PerLayer`. Not promised: the
lemma's error after quantisation, or that a low rank saves bits: it does so only well below the number of rows.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.codecs.base import Layer, LayerCodec
from bitcert.codecs.quantiser import Uniform, written_bits
from bitcert.coding.layouts import UnitsInUse, tensor_code_bits
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Coefficients, Values
from bitcert.errors import InputError
from bitcert.linear.threads import one_blas_thread
from bitcert.network import Network
from bitcert.theory.value import Condition, LayerTheory, Theory

Matrix = NDArray[np.float64]

OPTIONS = ("rank", "threshold", "energy")
DEFAULT_THRESHOLD = 0.1

_SETTING_BITS = 16
"""About what the coded rank and the second step take; only decides near-ties between the two forms."""
_NEAR = 0.03
"""Lengths that differ by less than this fraction are measured by writing instead of by formula, which is 20x faster."""

SMALL_MATRIX = 1 << 18
"""Entries up to which one thread decomposes a matrix faster than several that wait for each other."""


@dataclass(frozen=True, eq=False)
class Truncation:
    """A matrix cut at a rank.

    Attributes:
        left, right: ``U sqrt(Sigma) [rows, rank]`` and ``sqrt(Sigma) V^T [rank, columns]``.
        singular_values: of the whole matrix, largest first.
    """

    left: Matrix
    right: Matrix
    singular_values: Matrix

    @property
    def rank(self) -> int:
        """How many singular values were kept."""
        return int(self.left.shape[1])

    @property
    def relative_error(self) -> float:
        """``||A_hat - A||_2 / ||A||_2``: the first dropped singular value over the largest; 0 for ``A = 0``."""
        values, rank = self.singular_values, self.rank
        return float(values[rank] / values[0]) if rank < len(values) and values[0] > 0 else 0.0

    @property
    def stable_rank(self) -> float:
        """``||A||_F^2 / ||A||_2^2``; 0 for ``A = 0``."""
        values = self.singular_values
        return float(np.square(values / values[0]).sum()) if values.size and values[0] > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class TruncatedSVD(LayerCodec):
    """Layers of low rank. At most one of ``rank``, ``threshold`` and ``energy`` is given; none is threshold 0.1.

    Args:
        rank: singular values kept, at least 1; a layer with fewer rows or columns is refused.
        threshold: ``delta`` in (0, 1]: those below ``delta ||A||_2`` are dropped.
        energy: in (0, 1]: the fewest whose squares add to this fraction of ``||A||_F^2``.

    Raises:
        InputError: several of the three, or values out of range.

    >>> TruncatedSVD(threshold=0.1).label
    'svd threshold 0.1'
    """

    name: ClassVar[str] = "svd"

    rank: int | None = None
    threshold: float | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in OPTIONS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError("one of rank, threshold and energy", " and ".join(given), "choose one, e.g. threshold 0.1")
        option, value = self.setting
        if option == "rank":
            if isinstance(value, bool) or value != value or value < 1 or value != int(min(value, 1e9)):
                raise InputError("a rank that is a whole number of at least 1", repr(value), "use e.g. 10")
        elif not 0 < value <= 1:
            raise InputError(f"an SVD {option} above 0 and at most 1", repr(value), "use e.g. 0.1")

    @property
    def setting(self) -> tuple[str, float]:
        """Which of the three was given, and its value."""
        for name in OPTIONS:
            value = getattr(self, name)
            if value is not None:
                return name, value
        return "threshold", DEFAULT_THRESHOLD

    @property
    def label(self) -> str:
        """``svd`` and the option."""
        option, value = self.setting
        return f"{self.name} {option} {value:g}"

    @classmethod
    def strengths(cls) -> tuple[TruncatedSVD, ...]:
        """From nearly lossless to extreme."""
        fine = Uniform(2.0**-5)
        return (
            cls(threshold=0.01, quantiser=fine),
            cls(threshold=0.1),
            cls(energy=0.9),
            cls(energy=0.5),
            cls(rank=1),
        )

    def code_layer(self, layer: Layer) -> TensorCode:
        """Factors or the truncated matrix, whichever is shorter as written; nothing where no singular value is left.

        Raises:
            InputError: a layer with fewer rows or columns than the rank.
        """
        most = min(layer.target.matrix_shape)
        if self.rank is not None and self.rank > most:
            do = "use a smaller rank, or leave the layer out with --layers"
            raise InputError(f"a rank of at most {most} for {layer.target.name}", str(self.rank), do)
        return self._code(layer)[0]

    def _code(self, layer: Layer) -> tuple[TensorCode, Truncation, dict[str, float]]:
        truncation = truncate(layer.values, *self.setting)
        if truncation.rank == 0:
            return layer.code("none"), truncation, {"factored": 1.0}
        left, right = self.quantiser(truncation.left), self.quantiser(truncation.right)
        full = truncation.left @ truncation.right if truncation.relative_error else layer.values
        dense = self.quantiser(full.reshape(layer.target.shape))
        factored_bits, dense_bits = _ideal_bits(left, right), _ideal_bits(dense)
        if abs(factored_bits - dense_bits) < _NEAR * dense_bits:
            factored_bits, dense_bits = written_bits(left, right), written_bits(dense)
        factored = factored_bits + _SETTING_BITS < dense_bits
        details = {"factored": float(factored), "factored_bits": factored_bits, "dense_bits": dense_bits}
        if factored:
            return layer.code("factors", (truncation.rank,), left, right), truncation, details
        return layer.code("identity", (), dense), truncation, details

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Lemma 1 for every compressed layer: rank, its bound, the relative spectral error and ``(h1 + h2) r``.

        Raises:
            InputError: as :meth:`encode`; a base from a file needs :meth:`theory_with`.
        """
        del sample  # the lemma speaks of weights alone
        return self.theory_with(network)

    def theory_with(self, network: Network, helper: Helper | None = None) -> Theory:
        """The same, of differences from the helper's initial weights too."""
        layers = self.compressed_layers(network, helper, "call theory_with(network, helper)")
        rows = tuple(map(self._layer_theory, layers))
        factored = sum(int(row.details["factored"]) for row in rows)
        convolutions = [layer.op for layer in network.weight_layers if layer.op != "linear"]
        return Theory(
            source="Arora et al. 2018, Lemma 1; Zhang 2020, Lemma 4.4",
            statement="rank <= stable rank / delta^2, ||A_hat - A||_2 <= delta ||A||_2, (rows + columns) rank numbers",
            parameters=float(sum(row.parameters for row in rows)),
            error=max((row.error or 0.0 for row in rows), default=0.0),
            error_means="largest ||A_hat - A||_2 / ||A||_2 of a layer, before quantisation (exact, not a bound)",
            probability=1.0,
            conditions=(
                Condition("the factors are shorter", factored == len(rows), f"in {factored} of {len(rows)} layers"),
                Condition(
                    "every layer is a matrix",
                    not convolutions,
                    f"{len(convolutions)} convolutions are taken as matrices [out, in * kernel]",
                ),
            ),
            layers=rows,
            notes=(
                "the lemma speaks of the matrix before quantisation",
                "a layer whose factors take more bits than the truncated matrix is written as that matrix",
                "the proofs print ||A||_F >= r delta ||A||_2 (Arora) and ||A||_F^2 >= delta^2 ||A||_2 r (Zhang); "
                "||A||_F^2 >= r delta^2 ||A||_2^2 is meant, and both are false as printed",
            ),
        )

    def _layer_theory(self, layer: Layer) -> LayerTheory:
        _, truncation, details = self._code(layer)
        values, rank = truncation.singular_values, truncation.rank
        option, delta = self.setting
        if option != "threshold":  # the largest one that drops the same values, or more than all of them
            delta = float(values[rank - 1] / values[0]) if rank else 1.0
        return LayerTheory(
            layer=layer.target.name,
            actual=layer.target.size,
            parameters=float(sum(layer.target.matrix_shape) * rank),
            error=truncation.relative_error,
            details={
                **details,
                "rank": float(rank),
                "rank_bound": truncation.stable_rank / delta**2,
                "stable_rank": truncation.stable_rank,
                "delta": delta,
                "spectral_norm": float(values[0]) if values.size else 0.0,
            },
        )


def truncate(values: Values, option: str, setting: float) -> Truncation:
    """Cut a tensor, as a matrix ``[first axis, rest]``, by ``rank``, ``threshold`` or ``energy``.

    Raises:
        InputError: entries that are not finite.

    >>> truncate(np.diag([4.0, 2.0, 1.0]), "threshold", 0.5).rank
    2
    """
    matrix = values.reshape(values.shape[0] if values.ndim else 1, -1)
    if not np.isfinite(matrix).all():
        raise InputError("finite weights", "NaN or infinite ones", "check the network")
    if not matrix.any():
        side = min(matrix.shape)
        return Truncation(np.zeros((len(matrix), 0)), np.zeros((0, matrix.shape[1])), np.zeros(side))
    scale = float(np.abs(matrix).max())  # so that squares neither overflow nor vanish
    with one_blas_thread() if matrix.size <= SMALL_MATRIX else nullcontext():
        u, s, v = np.linalg.svd(matrix / scale, full_matrices=False)
    s = s * scale
    rank = _rank(s, option, setting, max(matrix.shape))
    root = np.sqrt(s[:rank])
    return Truncation(u[:, :rank] * root, root[:, None] * v[:rank], s)


def _rank(values: Matrix, option: str, setting: float, longest_side: int) -> int:
    # What float64 cannot tell from zero is not worth a column, whatever rank was asked for.
    present = int((values > np.finfo(np.float64).eps * longest_side * values[0]).sum())
    if option == "rank":
        return min(int(setting), present)
    if option == "threshold":
        return min(int((values >= setting * values[0]).sum()), present)
    energy = np.cumsum(np.square(values / values[0]))
    return min(int(np.searchsorted(energy, setting * energy[-1])) + 1, present)


def _ideal_bits(*arrays: Coefficients) -> float:
    """Length under the adaptive code and its layouts; a codebook may be a few percent shorter."""
    return sum(tensor_code_bits(array.integers, UnitsInUse())[0] for array in arrays)
