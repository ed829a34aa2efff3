"""Convolution Matrix-Project: random filters per location from few shared numbers (Arora et al. 2018, Alg. 4).

Compressing a convolution's filter once makes the same error at every location, and the errors add up; compressing each
location's copy by itself costs as many numbers as there are locations. In between, the message holds the filter's
coordinates in a random subspace of dimension ``k p`` and each location makes its own Matrix-Project estimate inside
it: ``p`` times the numbers of one compression, and errors that correlate about ``1/(p + 1)`` between locations. The
decoded layer is locally connected. The paper prints only the idea; docs/theory.md 3.2 has the construction and
:mod:`bitcert.decoder.transforms.filter_projection` its law. Dense layers are projected by the Hadamard variant with
least squares.

Not promised: a usable network, nor that the exponential tail of Lemma 2 carries over with its constant (variance and
covariance are exact; ``epsilon`` uses the constant of i.i.d. signs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

from bitcert.codecs.base import Layer, LayerCodec
from bitcert.codecs.matrix_project import Decoder, Kind, MatrixProject
from bitcert.codecs.quantiser import Uniform
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Target
from bitcert.decoder.transforms.filter_projection import FilterProjection
from bitcert.decoder.transforms.hadamard import hadamard_coefficients, padded_size
from bitcert.decoder.transforms.signs import LEAST_SQUARES
from bitcert.errors import DecodeError, InputError
from bitcert.network import Network
from bitcert.network.localise import localised
from bitcert.theory.formulas.projection_tail import check_accuracy, num_projections
from bitcert.theory.value import Condition, LayerTheory, Theory

_USUAL_RATIO = 0.125
_TRANSFORM = FilterProjection()


@dataclass(frozen=True, kw_only=True)
class ConvolutionProject(LayerCodec):
    """Arora 2018, algorithm 4. At most one of ``k``, ``epsilon`` and ``ratio`` is given.

    Args:
        copies: ``p``, the dimension of the subspace over ``k``; ``None`` for ``ceil(log(1/eta))``.
        k: Gaussian tensors of a location.
        epsilon: error of a bilinear form at one location over ``||A||_F ||u|| ||v||``, but for a probability ``eta``.
        eta: with ``epsilon`` and for ``copies``.
        ratio: ``k p`` over the entries of the filter (padded to a power of two); 1/8 by default. A location
            draws ``k^2 p`` normal numbers, so large ratios of large filters are refused.
        dense_ratio: of the layers that are no convolution, which are projected with a randomised Hadamard transform
            and least squares (:mod:`bitcert.codecs.matrix_project`).
    """

    name: ClassVar[str] = "convolution-project"

    copies: int | None = None
    k: int | None = None
    epsilon: float | None = None
    eta: float = 0.05
    ratio: float | None = None
    dense_ratio: float = 0.5

    def __post_init__(self) -> None:
        given = [name for name in ("k", "epsilon", "ratio") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError("one of k, epsilon and ratio", " and ".join(given), "leave the others out")
        if (self.k is not None and self.k < 1) or (self.copies is not None and self.copies < 1):
            raise InputError("k and p of at least 1", f"k = {self.k}, p = {self.copies}", "use larger ones")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise InputError("a ratio of coordinates to entries in (0, 1]", f"{self.ratio}", "use e.g. 0.5")
        if not 0 < self.dense_ratio <= 1:
            raise InputError("a dense ratio in (0, 1]", f"{self.dense_ratio}", "use e.g. 0.5")
        check_accuracy(1.0 if self.epsilon is None else self.epsilon, self.eta)

    @property
    def label(self) -> str:
        """How many tensors, and ``p``."""
        if self.epsilon is not None:
            how = f"eps {self.epsilon:g}"
        else:
            how = f"k {self.k}" if self.k is not None else f"{self.ratio or _USUAL_RATIO:g}N"
        return f"conv project {how} p {self.num_copies}"

    @property
    def dense(self) -> MatrixProject:
        """The codec of the layers that are no convolution."""
        squares = Decoder.LEAST_SQUARES
        return MatrixProject(kind=Kind.HADAMARD, decoder=squares, ratio=self.dense_ratio, quantiser=self.quantiser)

    @property
    def num_copies(self) -> int:
        """``p``."""
        return self.copies if self.copies is not None else max(1, math.ceil(-math.log(self.eta)))

    def num_tensors(self, target: Target) -> int:
        """``k`` of a convolution."""
        if self.k is not None:
            return self.k
        if self.epsilon is not None:
            return num_projections(self.epsilon, -math.log(self.eta))
        return max(1, int((self.ratio or _USUAL_RATIO) * padded_size(target.size)) // self.num_copies)

    def resolved(self, network: Network, sample: Sample | None, helper: Helper) -> Self:
        """Itself, if the locally connected layers are not too large.

        Raises:
            InputError: they are, or two output maps share a filter.
        """
        local = [target.name for _, target in self.compressed_targets(network) if self._is_local(target)]
        try:
            localised(network.architecture, local)
        except DecodeError as problem:
            raise InputError(problem.expected, problem.got, problem.do) from None
        return self

    def code_layer(self, layer: Layer) -> TensorCode:
        """The coordinates of one convolution, or the coefficients of a dense layer.

        Raises:
            InputError: a convolution that is not 2-D, or a subspace that does not fit it.
        """
        if not self._is_local(layer.target):
            return self.dense.code_layer(layer)
        settings = (self.num_tensors(layer.target), self.num_copies)
        try:
            (shape,) = _TRANSFORM.shapes(layer.target, settings)
        except DecodeError as problem:
            do = "use a smaller k, p or ratio, or select other layers"
            raise InputError(problem.expected, problem.got, do) from None
        coefficients = hadamard_coefficients(layer.draws, layer.values, shape[0], LEAST_SQUARES)
        return layer.code(_TRANSFORM.name, settings, self.quantiser(coefficients))

    @staticmethod
    def _is_local(target: Target) -> bool:
        return len(target.shape) > 2

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """The law of one location's error and its correlation between locations; dense layers by Lemma 2."""
        del sample
        layers = tuple(
            self._filter_theory(target) if self._is_local(target) else self.dense.layer_theory(target, index)
            for index, target in self.compressed_targets(network)
        )
        return Theory(
            source="Arora et al. 2018, section 5 and algorithm 4, as docs/theory.md 3.2 constructs it",
            statement=(
                "each location's filter is unbiased with the variance of its own Matrix-Project of k tensors; errors "
                "of two locations correlate about 1/(p + 1)"
            ),
            parameters=float(sum(layer.parameters for layer in layers)),
            error_means="expected ||A_hat(l) - A||_F^2 / ||A||_F^2 at one location, before quantisation",
            conditions=(
                Condition(
                    "p-wise independent locations",
                    None,
                    "given the subspace the locations are independent; their common part has the stated correlation",
                ),
            ),
            layers=layers,
            notes=(
                "algorithm 4 is not printed in the paper's main text; a random subspace of exactly orthogonal sign "
                "rows takes the place of orthonormalised Gaussians, with the same mean projector",
            ),
        )

    def _filter_theory(self, target: Target) -> LayerTheory:
        count, copies, size = self.num_tensors(target), self.num_copies, target.size
        own, shared = location_error(count, copies, size)
        positions = math.prod(target.positions)
        details = {"k": count, "p": copies, "positions": positions, "correlation": shared / own if own else 0.0}
        return LayerTheory(target.name, size, float(count * copies), own, details)

    @classmethod
    def strengths(cls) -> tuple[ConvolutionProject, ...]:
        """From bad to hopeless: each location's squared error is ``N/k``; the first keeps the dense layers."""
        return (
            cls(ratio=0.125, copies=2, dense_ratio=1.0, quantiser=Uniform(2.0**-4)),
            cls(ratio=0.125, copies=8),
            cls(ratio=0.03125, copies=4),
        )


def location_error(count: int, copies: int, size: int) -> tuple[float, float]:
    """Expected squared error of one location and expected product of two locations' errors, over ``||A||_F^2``.

    Args:
        count: ``k``, Gaussian tensors of a location.
        copies: ``p``.
        size: entries ``N`` of the filter.

    >>> own, shared = location_error(16, 4, 64)  # the subspace is the whole space
    >>> round(own, 4), shared
    (4.0625, 0.0)
    """
    full, dimension = padded_size(size), count * copies
    common = 0.0 if full == 1 else (full - dimension) / (dimension * (full - 1))
    shared = common * (size - 1)
    return (size + 1) / count + (1 + 1 / count) * shared, shared
