"""Norms of a weight layer: of its kernel as a matrix ``[out, in * kernel]``, and of its map at the real input size.

| name | value | used by |
| --- | --- | --- |
| ``frobenius`` | ``||A||_F`` of the kernel | Arora 2018 (cushions, also of convolutions), Neyshabur 2015 |
| ``spectral_reshaped`` | ``||A||_2`` of the reshaped kernel | the measure collections of the field |
| ``spectral_operator`` | ``||A||_2`` of the map (:mod:`bitcert.linear.lanczos`) | Lipschitz products |
| ``norm_21`` | ``||A^T||_{2,1}``: sum over output units of the l2 norm of their weights | Bartlett 2017 |
| ``norm_1inf`` | ``||A||_{1,inf}``: largest l1 norm of an output unit's weights | Bartlett & Mendelson 2002 |
| ``stable_rank`` | ``||A||_F^2 / ||A||_2^2`` of the reshaped kernel | Arora 2018, Lemma 1 |

Bartlett, Foster & Telgarsky 2017 write layers as ``x -> A x`` and bound ``||A^T||_{2,1}``, the sum over the columns of
``A^T``, hence over *rows* of the stored ``[out, in]`` weight; their distance is ``||A^T - M^T||_{2,1}`` for a reference
``M``. Sums are in float64. Which norm a bound needs is the bound's business: nothing here is a guarantee.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.errors import InputError
from bitcert.linear.lanczos import OperatorNorm, largest_singular_value, operator_norm
from bitcert.linear.maps import LayerMap


@dataclass(frozen=True)
class LayerNorms:
    """Norms of one layer; the module's table defines them."""

    frobenius: float
    spectral_reshaped: float
    spectral_operator: OperatorNorm
    norm_21: float
    norm_1inf: float

    @property
    def stable_rank(self) -> float:
        """``||A||_F^2 / ||A||_2^2`` of the reshaped weight, between 1 and its rank; NaN for a zero weight."""
        return (self.frobenius / self.spectral_reshaped) ** 2 if self.spectral_reshaped else math.nan


def as_matrix(weight: Tensor) -> Tensor:
    """The weight as ``[out, in * kernel]`` in float64, one row per output unit.

    Raises:
        InputError: fewer than two axes, no entries, or entries that are not finite.
    """
    if weight.dim() < 2 or weight.numel() == 0:
        raise InputError("a weight of shape [out, in, ...]", f"shape {list(weight.shape)}", "pass a layer's weight")
    rows = weight.detach().to(torch.float64).flatten(1)
    if not bool(torch.isfinite(rows).all()):
        raise InputError("finite weights", "NaN or infinite entries", "repair or retrain the layer")
    return rows


def frobenius_norm(weight: Tensor) -> float:
    """``||A||_F`` of the stored weight.

    >>> frobenius_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    5.0
    """
    return float(as_matrix(weight).norm())


def reshaped_spectral_norm(weight: Tensor) -> float:
    """``||A||_2`` of the weight as ``[out, in * kernel]``, exact to float64 rounding.

    >>> round(reshaped_spectral_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]])), 12)
    4.0
    """
    return largest_singular_value(as_matrix(weight))


def norm_21(weight: Tensor) -> float:
    """Bartlett's ``||A^T||_{2,1}``: the sum over output units (rows) of the l2 norm of their weights.

    >>> norm_21(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    7.0
    """
    return float(as_matrix(weight).norm(dim=1).sum())


def norm_1inf(weight: Tensor) -> float:
    """``||A||_{1,inf}``: the largest l1 norm of the weights of an output unit (row).

    >>> norm_1inf(torch.tensor([[3.0, -4.0], [0.0, 2.0]]))
    7.0
    """
    return float(as_matrix(weight).abs().sum(1).max())


def layer_norms(layer: LayerMap, tolerance: float = 1e-7) -> LayerNorms:
    """All norms of one layer.

    Args:
        layer: its map.
        tolerance: of the operator norm, relative.

    Raises:
        InputError: the weight has entries that are not finite.
    """
    rows = as_matrix(layer.weight)
    return LayerNorms(
        frobenius=frobenius_norm(rows),
        spectral_reshaped=reshaped_spectral_norm(rows),
        spectral_operator=operator_norm(layer, tolerance),
        norm_21=norm_21(rows),
        norm_1inf=norm_1inf(rows),
    )
