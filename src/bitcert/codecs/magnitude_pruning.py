"""Magnitude pruning: keep the largest weights (Han et al. 2015), or drop small ones at random (Guha 2023, Algorithm 1).

:class:`MagnitudePruning` keeps a fraction of the entries of each layer, or of all layers together, by size.
:class:`RandomPruning` zeroes entry ``a`` with probability ``exp(-a^2 / (d Psi))``, keeps the diagonal of the matrix
``[out, in * kernel]``, and rounds what is left to multiples of ``rho_l = (||A^l||_2 / L - epsilon_l Gamma_l) / J_l``
(Lemma 4.4), of the next quarter octave below. ``Psi`` is the layer's mean square. The coins are drawn by the encoder
from a named stream of the selection's seed; the decoder does not need them, because the support is coded.

Supports and values are coded by whichever coder is shortest, among them enumeration per row. Not promised: that a
pruned network is any good. Lemma 4.4's step exists only while ``epsilon Gamma < ||A|| / L``; with ``C = 1`` and the
``epsilon > L`` that the union bound needs, Gaussian layers meet this only for ``d < 2 / (L^(8/3) - 1)``, which prunes
next to nothing. Where it fails the codec's own quantiser rounds, and :meth:`RandomPruning.theory` says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.codecs.base import Layer, LayerCodec, network_helper
from bitcert.codecs.pruning_rows import (
    NOTES,
    bare_helper,
    compressed_layers,
    exact_row,
    gaussian_entries,
    layer_matrix,
    output_error,
    small_changes,
    spectral_norm,
    structure_conditions,
)
from bitcert.codecs.quantiser import at_exponent, finer_exponent
from bitcert.coding import MAX_MAGNITUDE
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Coefficients, Values
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.run import Compressed, Run
from bitcert.theory.formulas.pruning_theory import (
    check_strength,
    discretisation_step,
    fourth_moment,
    keep_probability,
    second_moment,
    spectral_bound,
)
from bitcert.theory.prediction import Condition, LayerTheory, Theory


class Scope(StrEnum):
    """Over what the fraction is taken."""

    LAYER = "layer"
    GLOBAL = "global"


@dataclass(frozen=True, kw_only=True)
class MagnitudePruning(LayerCodec):
    """Keep the largest entries, quantised.

    Args:
        keep: fraction of the entries kept, in (0, 1]; zeros are never kept.
        scope: of each layer, or of all compressed layers together by one threshold.

    >>> MagnitudePruning(keep=0.1).label
    'prune 0.1 layer'
    """

    name: ClassVar[str] = "prune"

    keep: float = 0.1
    scope: Scope = Scope.LAYER

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError("a fraction to keep above 0 and at most 1", repr(self.keep), "use e.g. 0.1")

    @property
    def label(self) -> str:
        """Fraction and scope."""
        return f"{self.name} {self.keep:g} {self.scope.value}"

    @classmethod
    def strengths(cls) -> tuple[MagnitudePruning, ...]:
        """From nearly lossless to extreme."""
        return (cls(keep=0.5), cls(keep=0.1), cls(keep=0.03), cls(keep=0.02, scope=Scope.GLOBAL), cls(keep=0.003))

    def code_layer(self, layer: Layer) -> TensorCode:
        """One layer by itself, whatever the scope."""
        return layer.code("identity", (), self.quantiser(keep_largest(layer.values, self.keep)))

    def encode(
        self, network: Network, sample: Sample | None = None, *, helper: Helper | None = None, run: Run | None = None
    ) -> Compressed:
        """As every layer codec; with the global scope one threshold is taken over all compressed layers first."""
        helper = network_helper(network, sample, helper)
        layers = compressed_layers(network, helper, self)
        return self._resolved(layers).encode_layers(network, helper, run)

    def encode_layers(self, network: Network, helper: Helper, run: Run | None) -> Compressed:
        """Encode with fractions that are settled."""
        return LayerCodec.encode(self, network, helper=helper, run=run)

    def _resolved(self, layers: tuple[Layer, ...]) -> MagnitudePruning:
        if self.scope is Scope.LAYER or not layers:
            return self
        sizes = np.concatenate([np.abs(layer.values).ravel() for layer in layers])
        chosen = _largest(sizes, self.keep)
        ends = np.cumsum([layer.values.size for layer in layers])
        counts = [int(part.sum()) for part in np.split(chosen, ends[:-1])]
        kept = {layer.target.name: count for layer, count in zip(layers, counts, strict=True)}
        return _Allotted(**{f: getattr(self, f) for f in ("keep", "scope", "selection", "quantiser")}, kept=kept)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Lemma D.1's count and the perturbation bound of Lemma B.2 with this network's own norms.

        Args:
            network: captured.
            sample: whose largest input enters the bound; without one no error is given.
        """
        helper = bare_helper(network, self)
        layers = compressed_layers(network, helper, self)
        codec = self._resolved(layers)
        rows = tuple(exact_row(layer, codec.code_layer(layer).coefficients[0]) for layer in layers)
        return Theory(
            source="Guha 2023, Lemmas B.2 and D.1",
            statement="sum_l log2 C(d1 d2, nnz_l) + nnz_l log2 r_l bits; ||f(x) - f~(x)|| <= e max||x|| Prod ||A^l|| "
            "Sum ||A^l - A~^l|| / ||A^l||",
            parameters=sum(row.parameters for row in rows),
            error=output_error(network, sample, rows, "change"),
            error_means="bound on max over the sample of ||f(x) - f~(x)||_2, from the exact spectral norms of this "
            "message's layers",
            probability=None,
            conditions=(small_changes(rows, "change", len(network.weight_layers)), *structure_conditions(network)),
            layers=rows,
            notes=NOTES,
        )


@dataclass(frozen=True, kw_only=True)
class _Allotted(MagnitudePruning):
    """A global threshold, as the number of entries that each layer keeps."""

    kept: Mapping[str, int]

    def code_layer(self, layer: Layer) -> TensorCode:
        count = self.kept[layer.target.name]
        return layer.code("identity", (), self.quantiser(_keep(layer.values, count)))


class Rounding(StrEnum):
    """How what is left is rounded."""

    PAPER = "paper"
    """To multiples of Lemma 4.4's ``rho_l``; by the quantiser where there is none."""
    QUANTISER = "quantiser"


@dataclass(frozen=True, kw_only=True)
class RandomPruning(LayerCodec):
    """Algorithm 1 of Guha 2023.

    Args:
        d: strength; a layer of Gaussian entries keeps ``1 - sqrt(d / (d + 2))`` of them.
        rounding: see :class:`Rounding`.
        epsilon: ``epsilon_l`` of Lemma 4.2, the same for all layers: its bound fails with probability ``1 / epsilon``
            in each; ``None`` is ``2 L``, one half for the whole network.
        constant: ``C`` of Lemma 4.2, which the paper leaves open.
        keep_diagonal: as printed.
        depth: ``L``; ``None`` until ``encode`` or ``theory`` fills it in from the network. Used by itself without one,
            a layer is rounded by the quantiser.

    >>> RandomPruning(d=1.0).label
    'mbp d 1'
    """

    name: ClassVar[str] = "mbp"

    d: float = 1.0
    rounding: Rounding = Rounding.PAPER
    epsilon: float | None = None
    constant: float = 1.0
    keep_diagonal: bool = True
    depth: int | None = None

    def __post_init__(self) -> None:
        check_strength(self.d)
        if self.epsilon is not None and not 1 <= self.epsilon < math.inf:
            do = "use e.g. twice the number of layers"
            raise InputError("an epsilon of at least 1, so that 1/epsilon is a probability", repr(self.epsilon), do)
        if not 0 < self.constant < math.inf:
            raise InputError("a positive constant C", repr(self.constant), "use 1")
        if self.depth is not None and self.depth < 1:
            raise InputError("a depth of at least 1", repr(self.depth), "leave it out")

    @property
    def label(self) -> str:
        """The strength."""
        return f"{self.name} d {self.d:g}"

    @classmethod
    def strengths(cls) -> tuple[RandomPruning, ...]:
        """From nearly lossless to extreme."""
        by_quantiser = Rounding.QUANTISER
        return (cls(d=1e-3), *(cls(d=d, rounding=by_quantiser) for d in (0.5, 8.0, 100.0)))

    def code_layer(self, layer: Layer) -> TensorCode:
        """Prune and round one layer."""
        pruned = prune_at_random(layer, self.d, self.keep_diagonal)
        return layer.code("identity", (), self._round(layer, pruned)[0])

    def encode(
        self, network: Network, sample: Sample | None = None, *, helper: Helper | None = None, run: Run | None = None
    ) -> Compressed:
        """As every layer codec, with the depth of this network."""
        return LayerCodec.encode(self._with_depth(network), network, sample, helper=helper, run=run)

    def _with_depth(self, network: Network) -> RandomPruning:
        return self if self.depth else replace(self, depth=max(1, len(network.weight_layers)))

    def _round(self, layer: Layer, pruned: Values) -> tuple[Coefficients, float]:
        """The coefficients, and the ``rho`` of Lemma 4.4, which rounded them if it is positive (and not too fine)."""
        step = self._step(layer, int(np.count_nonzero(pruned)))
        largest = float(np.abs(pruned).max(initial=0.0))
        if self.rounding is Rounding.PAPER and step > 0 and largest <= MAX_MAGNITUDE / 2 * step:
            return at_exponent(pruned, finer_exponent(step)), step
        return self.quantiser(pruned), step

    def _step(self, layer: Layer, num_kept: int) -> float:
        if self.depth is None:
            return 0.0
        epsilon = 2.0 * self.depth if self.epsilon is None else self.epsilon
        matrix = layer_matrix(layer)
        gamma = spectral_bound(layer.target.matrix_shape, self.d, float(np.mean(np.square(matrix))), self.constant)
        return discretisation_step(spectral_norm(matrix), self.depth, epsilon * gamma, num_kept)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Lemmas 4.1 to 4.4 and D.1 for this network, beside what this message's coins did."""
        codec = self._with_depth(network)
        assert codec.depth is not None
        epsilon = 2.0 * codec.depth if self.epsilon is None else self.epsilon
        layers = compressed_layers(network, bare_helper(network, self), self)
        rows = tuple(codec._row(layer, epsilon) for layer in layers)
        fallen = [row.layer for row in rows if not row.details["rounded_by_rho"]]
        bound = "prediction"
        return Theory(
            source="Guha 2023, Algorithm 1, Lemmas 4.1-4.4 and D.1",
            statement="with probability at least 1 - sum_l 1/epsilon_l, ||f(x) - f~(x)|| <= e max||x|| Prod ||A^l|| "
            "Sum (epsilon_l Gamma_l + rho_l J_l) / ||A^l||",
            parameters=sum(row.parameters for row in rows),
            error=output_error(network, sample, rows, bound),
            error_means=f"bound on max over the sample of ||f(x) - f~(x)||_2, with C = {self.constant:g}",
            probability=max(0.0, 1.0 - len(rows) / epsilon),
            conditions=(
                small_changes(rows, bound, codec.depth),
                Condition(
                    "every layer rounded to its rho_l > 0",
                    not fallen,
                    f"not in {', '.join(fallen)}: rounded by the quantiser" if fallen else "multiples of rho_l",
                ),
                gaussian_entries(rows),
                *structure_conditions(network),
            ),
            layers=rows,
            notes=NOTES,
        )

    def _row(self, layer: Layer, epsilon: float) -> LayerTheory:
        pruned = prune_at_random(layer, self.d, self.keep_diagonal)
        coefficients, rho = self._round(layer, pruned)
        row, matrix = exact_row(layer, coefficients), layer_matrix(layer)
        by_rho = self.rounding is Rounding.PAPER and coefficients.step <= rho < 2 * coefficients.step
        rounding = rho if by_rho else spectral_norm((pruned - coefficients.values).reshape(matrix.shape))
        variance, shape = float(np.mean(np.square(matrix))), layer.target.matrix_shape
        gamma, kept = spectral_bound(shape, self.d, variance, self.constant), int(np.count_nonzero(pruned))
        expected = keep_probability(self.d) * matrix.size
        if self.keep_diagonal:
            expected += (1 - keep_probability(self.d)) * min(shape)
        details = {
            **row.details,
            "psi": variance,
            "chi": keep_probability(self.d),
            "expected_kept": expected,
            "kept": float(kept),
            "second_moment": second_moment(self.d, variance),
            "second_moment_measured": float(np.mean(np.square(matrix - pruned.reshape(matrix.shape)))),
            "fourth_moment": fourth_moment(self.d, variance),
            "gamma": gamma,
            "epsilon": epsilon,
            "rho": rho,
            "rounded_by_rho": float(by_rho),
            "prediction": epsilon * gamma + rounding * (kept if by_rho else 1),
            "kurtosis": float(np.mean(matrix**4) / variance**2) if variance else 3.0,
        }
        return replace(row, error=details["prediction"], details=details)


def _largest(sizes: NDArray[np.float64], fraction: float) -> NDArray[np.bool_]:
    """Which of ``sizes [n]`` are among the ``ceil(fraction n)`` largest and not zero; ties go to the first."""
    return _largest_count(sizes, math.ceil(fraction * sizes.size))


def _largest_count(sizes: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    chosen = np.zeros(sizes.size, dtype=bool)
    chosen[np.argsort(-sizes, kind="stable")[:count]] = True
    return chosen & (sizes > 0)


def _keep(values: Values, count: int) -> Values:
    return np.where(_largest_count(np.abs(values).ravel(), count).reshape(values.shape), values, 0.0)


def keep_largest(values: Values, fraction: float) -> Values:
    """The ``ceil(fraction n)`` entries largest in size, zeros elsewhere, of the same shape; ties go to the first.

    >>> keep_largest(np.array([[3.0, -5.0], [1.0, 0.0]]), 0.5)
    array([[ 3., -5.],
           [ 0.,  0.]])
    """
    return _keep(values, math.ceil(fraction * values.size))


def prune_at_random(layer: Layer, d: float, keep_diagonal: bool = True) -> Values:
    """Algorithm 1 for one layer: zeros at random, of the layer's shape; coins come from the layer's named stream."""
    values = layer.values
    variance = float(np.mean(np.square(values))) if values.size else 0.0
    if not variance:
        return np.zeros_like(values)
    coins = layer.draws.generator("random pruning").random(values.shape)
    kept = coins >= np.exp(-np.square(values) / (d * variance))
    if keep_diagonal and layer.target.size:
        rows, columns = layer.target.matrix_shape
        kept = (kept.reshape(rows, columns) | np.eye(rows, columns, dtype=bool)).reshape(values.shape)
    return np.where(kept, values, 0.0)
