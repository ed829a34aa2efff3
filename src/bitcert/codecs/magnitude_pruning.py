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
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from bitcert.codecs.base import Layer, LayerCodec, Scope, bare_helper
from bitcert.codecs.quantiser import at_exponent, finer_exponent
from bitcert.coding import MAX_MAGNITUDE
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Coefficients, Values
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.formulas.pruning_theory import (
    check_strength,
    discretisation_step,
    fourth_moment,
    keep_probability,
    naive_bits,
    output_bound,
    second_moment,
    spectral_bound,
)
from bitcert.theory.value import Condition, LayerTheory, Theory

_TRANSPARENT = frozenset({"linear", "relu", "reshape", "max_pool1d", "max_pool2d", "abs", "tanh", "dropout"})
"""1-Lipschitz in the l2 norm with 0 -> 0 (max pooling without overlap), or linear layers themselves."""

NOTES = (
    "errata 7 (d^(3/2); eq. 9-11 is the keep-probability), 8 (max ||x||_2 for the input's dimension) and 10 (alpha is "
    "the number kept)",
    "C of Lemma 4.2 is Latala's unknown constant; 1 is used unless given",
    "with C = 1 and epsilon > L, Gaussian layers meet ||Delta|| <= ||A|| / L only for d < 2 / (L^(8/3) - 1)",
    "the norm of a convolution is that of its kernel as a matrix [out, in * kernel], not of the map on images",
    "Lemma 4.1's moments are those of entries off the diagonal, which is never pruned",
)


@dataclass(frozen=True, kw_only=True)
class MagnitudePruning(LayerCodec):
    """Keep the largest entries, quantised.

    Args:
        keep: fraction of the entries kept, in (0, 1]; zeros are never kept.
        scope: of each layer, or of all compressed layers together by one threshold.
        kept: entries that each layer keeps; ``None`` until ``encode`` or ``theory`` fills it in for the global scope.

    >>> MagnitudePruning(keep=0.1).label
    'prune 0.1 layer'
    """

    name: ClassVar[str] = "prune"

    keep: float = 0.1
    scope: Scope = Scope.LAYER
    kept: Mapping[str, int] | None = None

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
        """One layer: by itself, unless :meth:`resolved` has shared out a global fraction."""
        values = layer.values
        kept = keep_largest(values, self.keep) if self.kept is None else _keep(values, self.kept[layer.target.name])
        return layer.code("identity", (), self.quantiser(kept))

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """With the global scope, one threshold over all compressed layers gives the number that each keeps."""
        del sample
        layers = self.compressed_layers(network, helper)
        if self.scope is Scope.LAYER or not layers:
            return self
        sizes = np.concatenate([np.abs(layer.values).ravel() for layer in layers])
        chosen = _largest(sizes, math.ceil(self.keep * sizes.size))
        ends = np.cumsum([layer.values.size for layer in layers])
        counts = [int(part.sum()) for part in np.split(chosen, ends[:-1])]
        return replace(self, kept={layer.target.name: count for layer, count in zip(layers, counts, strict=True)})

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Lemma D.1's count and the perturbation bound of Lemma B.2 with this network's own norms.

        Args:
            network: captured.
            sample: whose largest input enters the bound; without one no error is given.
        """
        layers = self.compressed_layers(network)
        codec = self.resolved(network, sample, bare_helper(network))
        rows = tuple(exact_row(layer, codec.code_layer(layer).coefficients[0]) for layer in layers)
        return Theory(
            source="Guha 2023, Lemmas B.2 and D.1",
            statement="sum_l log2 C(d1 d2, nnz_l) + nnz_l log2 r_l bits; ||f(x) - f~(x)|| <= e max||x|| Prod ||A^l|| "
            "Sum ||A^l - A~^l|| / ||A^l||",
            parameters=sum(row.parameters for row in rows),
            error=output_error(network, sample, rows, "change"),
            error_means="bound on max over the sample of ||f(x) - f~(x)||_2, from the exact spectral norms of this "
            "message's layers",
            conditions=(small_changes(rows, "change", len(network.weight_layers)), *structure_conditions(network)),
            layers=rows,
            notes=NOTES,
        )


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

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """With the depth of this network."""
        del sample, helper
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
        codec = self.resolved(network, sample, bare_helper(network))
        assert codec.depth is not None
        epsilon = 2.0 * codec.depth if self.epsilon is None else self.epsilon
        rows = tuple(codec._row(layer, epsilon) for layer in self.compressed_layers(network))
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


def _largest(sizes: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Which of ``sizes [n]`` are among the ``count`` largest and not zero; ties go to the first."""
    chosen = np.zeros(sizes.size, dtype=bool)
    chosen[np.argsort(-sizes, kind="stable")[:count]] = True
    return chosen & (sizes > 0)


def _keep(values: Values, count: int) -> Values:
    return np.where(_largest(np.abs(values).ravel(), count).reshape(values.shape), values, 0.0)


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


def layer_matrix(layer: Layer) -> NDArray[np.float64]:
    """The layer's values as a matrix ``[out, rest]``."""
    return layer.values.reshape(layer.target.matrix_shape)


def spectral_norm(matrix: NDArray[np.float64]) -> float:
    """The largest singular value; 0 without entries."""
    return float(np.linalg.norm(matrix, 2)) if matrix.size else 0.0


def exact_row(layer: Layer, coefficients: Coefficients) -> LayerTheory:
    """The counts and exact norms of one coded layer."""
    matrix, integers = layer_matrix(layer), coefficients.integers
    num_kept = int(np.count_nonzero(integers))
    num_values = int(integers.max(initial=0)) - int(integers.min(initial=0)) + 1
    change = spectral_norm(matrix - coefficients.values.reshape(matrix.shape))
    details = {
        "nnz": float(num_kept),
        "alphabet": float(num_values),
        "naive_bits": naive_bits(integers.size, num_kept, num_values),
        "norm": spectral_norm(matrix),
        "change": change,
    }
    return LayerTheory(layer.target.name, integers.size, float(num_kept), change, details)


def output_error(network: Network, sample: Sample | None, rows: tuple[LayerTheory, ...], change: str) -> float | None:
    """Lemma B.2's bound with the changes that the rows call ``change``; ``None`` without a sample or all layers."""
    if sample is None or not rows or len(rows) != len(network.weight_layers):
        return None
    largest = max(float(np.linalg.norm(x.reshape(len(x), -1), axis=1).max()) for x, _ in sample.batches(1024))
    norms = tuple(row.details["norm"] for row in rows)
    return output_bound(largest, norms, tuple(row.details[change] for row in rows))


def small_changes(rows: tuple[LayerTheory, ...], change: str, depth: int) -> Condition:
    """Whether every ``||Delta^l||`` (the rows' ``change``) is at most ``||A^l|| / L``, but for rounding."""
    failing = [row.layer for row in rows if row.details[change] * depth > row.details["norm"] * (1 + 1e-9)]
    detail = f"not in {', '.join(failing)}" if failing else f"L = {depth}"
    return Condition("||A^l - A~^l||_2 <= ||A^l||_2 / L in every layer", not failing, detail)


def gaussian_entries(rows: tuple[LayerTheory, ...]) -> Condition:
    """Assumption 3.1, as far as the kurtosis can refuse it."""
    far = [f"{row.layer} {row.details['kurtosis']:.1f}" for row in rows if abs(row.details["kurtosis"] - 3) > 0.5]
    detail = f"kurtosis 3 is normal; {', '.join(far)}" if far else "every kurtosis is within 0.5 of 3"
    return Condition("entries are N(0, Psi)", False if far else None, detail)


def structure_conditions(network: Network) -> tuple[Condition, ...]:
    """What the perturbation lemma asks of the network: dense layers in a chain, no biases, 1-Lipschitz activations."""
    operations = {node.op for node in network.architecture.nodes}
    biases = sum(layer.bias is not None for layer in network.weight_layers)
    others = sorted(operations - _TRANSPARENT - {"parameter", "input"})
    return (
        Condition("dense layers and 1-Lipschitz activations only", not others, ", ".join(others) or "yes"),
        Condition("no biases", biases == 0, f"{biases} layers have one"),
    )
