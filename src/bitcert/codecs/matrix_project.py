"""Matrix-Project: a layer as its inner products with random sign arrays (Arora et al. 2018, algorithm 1, Lemma 2, 3).

    c_j = <A, M_j>, j = 1 .. k      A_hat = (1/k) sum_j c_j M_j   (or the least-norm solution of <X, M_j> = c_j)

``A`` may be the difference from the initial weights (``Selection.base``; the paper's improvement (i)). The ``k``
coefficients are quantised and coded; the ``M_j`` are drawn by the decoder. ``Kind.HADAMARD`` draws the ``M_j`` from a
randomised Hadamard transform: the same mean and variance, much faster. How many: ``k`` itself, ``epsilon`` and ``eta``
(with the constant of :mod:`bitcert.theory.formulas.projection_tail`), the network's :class:`Cushions`, or a ``ratio``
of the entries.

Not promised: a usable network. The average's squared error is ``(N - 1)/k`` times ``||A||_F^2``, more than ``A``
itself unless ``k`` exceeds the number of entries; least squares leaves ``1 - k/N``. No certificate rests on the
lemmas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from bitcert.codecs.base import Layer, LayerCodec
from bitcert.codecs.quantiser import Quantiser, Uniform
from bitcert.data import Sample
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Target, Transform
from bitcert.decoder.transforms.hadamard import Hadamard, hadamard_coefficients, padded_size
from bitcert.decoder.transforms.signs import AVERAGE, LEAST_SQUARES, Signs, inner_products
from bitcert.errors import DecodeError, InputError
from bitcert.network import Network
from bitcert.theory.formulas.cushions import Cushions
from bitcert.theory.formulas.projection_tail import (
    PRINTED_ARORA,
    PRINTED_ZHANG,
    check_accuracy,
    error_at,
    num_projections,
    printed_projections,
)
from bitcert.theory.value import Condition, LayerTheory, Theory

_USUAL_RATIO = 0.25


class Kind(StrEnum):
    """Where the sign arrays come from."""

    SIGNS = "signs"
    """Independent uniform signs, as in the paper."""
    HADAMARD = "hadamard"
    """Random rows of a Hadamard matrix under random column signs."""


class Decoder(StrEnum):
    """What is made of the coefficients; a better decoder costs no bits."""

    AVERAGE = "average"
    """The paper's: unbiased."""
    LEAST_SQUARES = "least-squares"
    """The projection onto the span of the arrays: biased, with a far smaller error."""


_TRANSFORMS: dict[Kind, Transform] = {Kind.SIGNS: Signs(), Kind.HADAMARD: Hadamard()}
_NUMBERS = {Decoder.AVERAGE: AVERAGE, Decoder.LEAST_SQUARES: LEAST_SQUARES}


@dataclass(frozen=True, kw_only=True)
class MatrixProject(LayerCodec):
    """Arora 2018, algorithm 1. At most one of ``k``, ``epsilon``, ``cushions`` and ``ratio`` is given.

    Args:
        kind: see :class:`Kind`.
        decoder: see :class:`Decoder`.
        k: coefficients of every layer.
        epsilon: error of a bilinear form over ``||A||_F ||u|| ||v||``, but for a probability ``eta``.
        eta: with ``epsilon``; Lemma 2: ``simultaneous_eta(delta, m, n)`` for all of ``m`` pairs at once.
        cushions: of this network; layer ``i`` gets Lemma 3's ``epsilon_i``.
        ratio: coefficients over entries of the layer (of the next power of two for ``Kind.HADAMARD``); 1/4 by default.
    """

    name: ClassVar[str] = "matrix-project"

    kind: Kind = Kind.SIGNS
    decoder: Decoder = Decoder.AVERAGE
    k: int | None = None
    epsilon: float | None = None
    eta: float = 0.05
    cushions: Cushions | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("k", "epsilon", "cushions", "ratio") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError("one of k, epsilon, cushions and ratio", " and ".join(given), "leave the others out")
        if self.k is not None and self.k < 1:
            raise InputError("at least 1 projection", f"{self.k}", "use a larger k")
        if self.ratio is not None and not 0 < self.ratio <= 1024:
            raise InputError("a ratio of projections to entries in (0, 1024]", f"{self.ratio}", "use e.g. 0.25")
        check_accuracy(1.0 if self.epsilon is None else self.epsilon, self.eta)

    @property
    def label(self) -> str:
        """Arrays, decoder and how many."""
        if self.cushions is not None:
            how = f"cushions eps {self.cushions.epsilon:g}"
        elif self.epsilon is not None:
            how = f"eps {self.epsilon:g}"
        else:
            how = f"k {self.k}" if self.k is not None else f"{self.ratio or _USUAL_RATIO:g}N"
        decoder = "" if self.decoder is Decoder.AVERAGE else " lsq"
        return f"project {self.kind.value}{decoder} {how}"

    def num_projections(self, target: Target, index: int) -> int:
        """``k`` of a layer.

        Args:
            target: the layer's weight.
            index: number of the weight layer, from 1.

        Raises:
            InputError: the cushions are of fewer layers, or one is none of such a layer.
        """
        if self.k is not None:
            return self.k
        if self.epsilon is not None:
            return num_projections(self.epsilon, -math.log(self.eta))
        if self.cushions is not None:
            self.cushions.check_layer(index, target.shape)
            return self.cushions.num_projections(index)
        size = padded_size(target.size) if self.kind is Kind.HADAMARD else target.size
        return max(1, math.ceil((self.ratio or _USUAL_RATIO) * size))

    def code_layer(self, layer: Layer) -> TensorCode:
        """The coefficients of one layer.

        Raises:
            InputError: more projections than can be decoded in seconds, or least squares with too many.
        """
        count = self.num_projections(layer.target, layer.index)
        decoder, transform = _NUMBERS[self.decoder], _TRANSFORMS[self.kind]
        try:
            transform.shapes(layer.target, (count, decoder))
        except DecodeError as problem:
            do = "use fewer projections (k, ratio) or the hadamard kind; theory() gives the paper's count at any size"
            raise InputError(problem.expected, problem.got, do) from None
        if self.kind is Kind.SIGNS:
            coefficients = inner_products(layer.draws, layer.values, count)
        else:
            coefficients = hadamard_coefficients(layer.draws, layer.values, count, decoder)
        return layer.code(transform.name, (count, decoder), self.quantiser(coefficients))

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """What Lemma 2 and Lemma 3 predict for this network, at any ``k``.

        Raises:
            InputError: cushions of another number of layers.
        """
        del sample
        layers = tuple(self.layer_theory(target, index) for index, target in self.compressed_targets(network))
        if self.cushions is None:
            return self._lemma_2(layers)
        expected, depth = len(network.weight_layers), self.cushions.depth
        if depth != expected:
            raise InputError(
                f"cushions of {expected} weight layers", f"cushions of {depth} layers", "measure this network"
            )
        return self._lemma_3(network, layers, self.cushions)

    def layer_theory(self, target: Target, index: int) -> LayerTheory:
        """The row of one layer; arguments as :meth:`num_projections`."""
        count, size = self.num_projections(target, index), target.size
        epsilon, log_inverse = self.epsilon, -math.log(self.eta)
        if self.cushions is not None:
            epsilon, log_inverse = self.cushions.layer_epsilon(index), self.cushions.log_inverse_eta
        error = (size - 1) / count
        if self.decoder is Decoder.LEAST_SQUARES:
            error = self._least_squares_error(count, size)
        details: dict[str, float] = {"k": count, "log_inverse_eta": log_inverse}
        details["epsilon"] = error_at(count, self.eta) if epsilon is None else epsilon
        if epsilon is not None:
            details["k_arora"] = printed_projections(epsilon, log_inverse, PRINTED_ARORA)
            details["k_zhang"] = printed_projections(epsilon, log_inverse, PRINTED_ZHANG)
        return LayerTheory(target.name, size, details.get("k_arora", float(count)), error, details)

    def _least_squares_error(self, count: int, size: int) -> float:
        """Expected ``||A_hat - A||_F^2 / ||A||_F^2`` of a projection, cut to the tensor if it was padded with zeros."""
        if self.kind is Kind.SIGNS:
            return max(0.0, 1 - count / size)
        full = padded_size(size)
        kept = min(1.0, count / full)
        return (1 - kept) ** 2 + kept * (1 - kept) * (size - 1) / max(full - 1, 1)

    def _conditions(self) -> tuple[Condition, ...]:
        tail = Condition(
            "independent sign arrays",
            self.kind is Kind.SIGNS,
            "the tail is shown for them; the Hadamard variant has the same variance, and Chebyshev's inequality",
        )
        average = Condition(
            "the average as decoder",
            self.decoder is Decoder.AVERAGE,
            "the lemmas speak of it; least squares has a smaller error in the Frobenius norm",
        )
        return tail, average

    def _lemma_2(self, layers: tuple[LayerTheory, ...]) -> Theory:
        return Theory(
            source="Arora et al. 2018, algorithm 1 and Lemma 2; Zhang 2020, Lemma 4.5",
            statement=(
                "for fixed u and v, |u^T A_hat v - u^T A v| < epsilon ||A||_F ||u|| ||v|| but for a probability eta, "
                "with k = ceil(C(epsilon) log(2/eta) / epsilon^2), C from 6 to 9.1"
            ),
            parameters=float(sum(layer.parameters for layer in layers)),
            error_means="expected ||A_hat - A||_F^2 / ||A||_F^2 of a layer, before quantisation",
            probability=1 - self.eta,
            conditions=self._conditions(),
            layers=layers,
            notes=_NOTES,
        )

    def _lemma_3(self, network: Network, layers: tuple[LayerTheory, ...], cushions: Cushions) -> Theory:
        dense = all(layer.op == "linear" for layer in network.weight_layers)
        biases = any(layer.bias for layer in network.weight_layers)
        shape = Condition("fully connected", dense, "Lemma 3 is for dense layers" if not dense else "all layers are")
        bias = Condition("no biases", not biases, "the proof has none; they are coded as the rest" if biases else "")
        return Theory(
            source="Arora et al. 2018, Lemma 3",
            statement=(
                "||f(x) - f~(x)|| <= epsilon ||f(x)|| for all x of the sample, with 72 c^2 d^2 log(mdh/delta)/epsilon^2"
                " sum 1/(mu_i^2 mu_i->^2) numbers as printed (C = 1); details have the k that holds"
            ),
            parameters=cushions.printed_total,
            error=cushions.epsilon,
            error_means="||f(x) - f~(x)|| / ||f(x)|| over the sample",
            probability=1 - cushions.delta / 2,
            conditions=(cushions.smooth, shape, bias, *self._conditions()),
            layers=layers,
            notes=_NOTES,
        )

    @classmethod
    def strengths(cls) -> tuple[MatrixProject, ...]:
        """From nearly lossless to hopeless."""
        fine: Quantiser = Uniform(2.0**-4)
        fast, squares = Kind.HADAMARD, Decoder.LEAST_SQUARES
        return (
            cls(kind=fast, decoder=squares, ratio=1.0, quantiser=fine),
            cls(kind=fast, decoder=squares, ratio=0.5),
            cls(kind=fast, decoder=squares, ratio=0.125),
            cls(kind=fast, ratio=0.5),
            cls(kind=fast, ratio=0.03125),
        )


_NOTES = (
    "constant C = 1 (Arora) is too small for the printed probability: the variance alone needs C = 4; details give the "
    "count that is proved",
    "the two-sided tail has log(2/eta) where the papers print log(1/eta)",
    "quantisation of the coefficients is not in the lemmas",
)
