"""The largest singular value of a layer's map at its real input size, with a residual.

Dense layers and maps with a small unrolled matrix: exact, from the eigenvalues of the smaller Gram matrix in float64.
Larger convolutions: Rayleigh-Ritz on a growing block Krylov space of ``A^T A`` with restarts that keep the best Ritz
vectors (a thick-restart block Lanczos method, Wu & Simon 2000, with full orthogonalisation), in float64.

For the returned ``v`` (unit) and ``value = ||A v||``: ``value <= ||A||`` always, and some singular value ``s`` of ``A``
has ``|s^2 - value^2| <= ||A^T A v - value^2 v||``, so ``|s - value| <= residual`` (the right side over ``value``).
That ``s`` is the largest one is NOT proved: a start orthogonal to its singular vector would miss it, which random
starting blocks make practically impossible. A bound that must be sound should not rest on it.
The eigenvalues of the kernel's Fourier transform (Sedghi et al. 2019) are those of the *circular* convolution; zero
padding has a norm at most that large, and usually smaller, so they are not used here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitcert.errors import InputError
from bitcert.linear.maps import LayerMap
from bitcert.random import torch_stream

EXACT_ENTRIES = 2**20
"""Unrolled matrices up to this size are decomposed exactly."""

_BLOCK, _BASIS = 4, 48
_ROUGH = 1e-5


@dataclass(frozen=True)
class OperatorNorm:
    """Largest singular value of a linear map.

    Attributes:
        value: ``||A v||`` of the best unit vector found, never above the norm (up to rounding).
        residual: a singular value lies within this distance of ``value``; 0 when computed exactly.
        iterations: blocks of products with ``A`` and ``A^T``; 0 when computed exactly.
        converged: ``residual <= tolerance * value``.
    """

    value: float
    residual: float
    iterations: int
    converged: bool


def largest_singular_value(matrix: Tensor) -> float:
    """``||M||_2`` of a matrix ``[rows, columns]`` from its smaller Gram matrix, in float64.

    >>> round(largest_singular_value(torch.tensor([[3.0, 0.0], [4.0, 0.0]])), 12)
    5.0
    """
    wide = matrix.detach().to(torch.float64)
    wide = wide if wide.shape[0] <= wide.shape[1] else wide.T
    # the largest eigenvalue of a Gram matrix keeps full relative accuracy; the smallest ones would not
    top = float(torch.linalg.eigvalsh(wide @ wide.T)[-1])
    return math.sqrt(max(top, 0.0))


def operator_norm(layer: LayerMap, tolerance: float = 1e-7, max_iterations: int = 500) -> OperatorNorm:
    """The spectral norm of ``layer`` at its real input size.

    Args:
        layer: the map.
        tolerance: stop when ``residual <= tolerance * value``.
        max_iterations: give up (``converged`` False) after so many blocks.

    Raises:
        InputError: the weight has entries that are not finite, or ``tolerance`` is not positive.
    """
    if not tolerance > 0:
        raise InputError("a positive tolerance", str(tolerance), "pass for example 1e-7")
    if not bool(torch.isfinite(layer.weight).all()):
        raise InputError("finite weights", "NaN or infinite entries", "repair or retrain the layer")
    if layer.op == "linear":
        return OperatorNorm(largest_singular_value(layer.weight), 0.0, 0, True)
    if layer.num_inputs * layer.num_outputs <= EXACT_ENTRIES:
        unrolled = replace(layer, weight=layer.weight.to(torch.float64)).matrix()
        return OperatorNorm(largest_singular_value(unrolled), 0.0, 0, True)
    scale = float(layer.weight.abs().max())
    if scale == 0:
        return OperatorNorm(0.0, 0.0, 0, True)
    # to unit size, so that squares stay within float32's range
    found = _iterate(replace(layer, weight=layer.weight.to(torch.float64) / scale), tolerance, max_iterations)
    return replace(found, value=found.value * scale, residual=found.residual * scale)


@dataclass(frozen=True)
class _Ritz:
    """State of the iteration: the best pair, and orthonormal vectors ``[kept, inputs]`` to go on from, best last."""

    value: float
    residual: float
    iterations: int
    vectors: Tensor


def _iterate(layer: LayerMap, tolerance: float, max_iterations: int) -> OperatorNorm:
    start = torch.randn(_BLOCK, layer.num_inputs, generator=torch_stream(0, "linear/operator-norm"))
    start = start.to(layer.weight.device)
    # float32 finds the neighbourhood several times faster; float64 then earns the tolerance from there
    rough = _krylov(replace(layer, weight=layer.weight.float()), start, max(tolerance, _ROUGH), max_iterations // 2)
    fine = _krylov(layer, rough.vectors.double(), tolerance, max_iterations - rough.iterations)
    converged = fine.residual <= tolerance * fine.value
    return OperatorNorm(fine.value, fine.residual, rough.iterations + fine.iterations, converged)


def _krylov(layer: LayerMap, block: Tensor, tolerance: float, max_iterations: int) -> _Ritz:
    """Rayleigh-Ritz on ``span(block, A^T A block, ...)`` until the best residual is small."""
    basis, images = block[:0], block.new_zeros(0, layer.num_outputs)
    value, residual, iterations = 0.0, math.inf, 0
    while iterations < max_iterations:
        iterations += 1
        block = _orthonormal(block, basis)
        if block.shape[0] == 0:
            break
        basis = torch.cat([basis, block])
        images = torch.cat([images, layer.apply(block.reshape(-1, *layer.input_shape)).flatten(1)])
        # rows become the Ritz vectors, best last; beyond the memory kept, the worst are dropped
        squares, mix = torch.linalg.eigh(images @ images.T)
        keep = len(squares) if len(squares) <= _BASIS else _BASIS // 2
        basis, images, squares = mix[:, -keep:].T @ basis, mix[:, -keep:].T @ images, squares[-keep:]
        back = layer.transpose(images[-_BLOCK:].reshape(-1, *layer.output_shape)).flatten(1)
        block = back - squares[-_BLOCK:, None] * basis[-_BLOCK:]
        value = math.sqrt(max(float(squares[-1]), 0.0))
        residual = 0.0 if value == 0 else float(block[-1].norm()) / value
        if not residual > tolerance * value:
            break
    return _Ritz(value, residual, iterations, basis[-_BASIS // 2 :])


def _orthonormal(block: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of what ``block`` adds to the orthonormal rows of ``basis``."""
    scale = block.norm(dim=1, keepdim=True)
    block = block[scale[:, 0] > 0] / scale[scale[:, 0] > 0]
    for _ in range(2):
        # one pass leaves rounding behind when the vectors nearly lie in the basis; two do not ("twice is enough")
        block = block - (block @ basis.T) @ basis
        q, r = torch.linalg.qr(block.T)
        block = q.T[r.diagonal().abs() > 100 * torch.finfo(block.dtype).eps]
    return block
