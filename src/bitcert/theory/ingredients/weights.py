"""Norms of every weight layer and of its distance from initialisation, as the bounds use them.

With ``A`` the stored weight as the matrix ``[out, in * kernel]`` and rows ``a_u`` (the weights of an output unit):
``||A||_F``, ``||A||_2``, ``sum_u ||a_u||_2`` (Bartlett 2017), ``max_u ||a_u||_1`` (Bartlett & Mendelson 2002),
``(sum_u ||a_u||_3^1.5)^(1/1.5)`` (Neyshabur 2015, as their collection of measures computes it), all singular values,
and the norm of the linear map at the real input size (:mod:`bitcert.linear.lanczos`: practically, not provably, the
largest singular value). Everything in float64. A norm describes a weight; it bounds nothing by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.counting import Progress
from bitcert.linear import LayerNorms, TailSummary, layer_norms, layer_spectra, weight_tail
from bitcert.linear.norms import as_matrix
from bitcert.network import Architecture
from bitcert.stability import MeasuredLayer, Structure
from bitcert.stability.table import OPERATOR_TOLERANCE, layer_map
from bitcert.theory.inputs import NO_INIT, LayerInputs, WeightNorms
from bitcert.theory.value import Absent, Condition, Status

CONVERGED = "operator norms converged"
"""Name of the condition that says so, among the facts on the graph."""


@dataclass(frozen=True, eq=False)
class WeighedLayers:
    """The layers, and whether every operator norm is as exact as it should be."""

    layers: tuple[LayerInputs, ...]
    converged: Condition


def norm_3_15(weight: Tensor) -> float:
    """``(sum over output units of (l3 norm of their weights)^1.5)^(1/1.5)``.

    >>> round(norm_3_15(torch.tensor([[1.0, 0.0], [0.0, 1.0]])), 12) == round(2 ** (1 / 1.5), 12)
    True
    """
    rows = as_matrix(weight).abs()
    top = float(rows.max())
    if top == 0:
        return 0.0
    cubes = ((rows / top) ** 3).sum(1)  # in units of the largest entry, so that no cube overflows
    return float(top * float((cubes**0.5).sum()) ** (1 / 1.5))


def weigh_layers(
    architecture: Architecture,
    structure: Structure,
    parameters: Mapping[str, Tensor],
    initial: Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> WeighedLayers:
    """Everything that is known of each layer from its weight alone.

    Args:
        architecture: the graph, for the sizes of the layers' inputs.
        structure: its weight layers.
        parameters: values by name.
        initial: initial values by name, if they are known.
        progress: called with the task and the fraction done.

    Raises:
        InputError: weights that are not finite.
    """
    weights = [parameters[layer.weight].detach().cpu() for layer in structure.layers]
    every: list[Sequence[Tensor]] = [weights]
    if initial is not None:
        starts = [initial[layer.weight].detach().cpu().double() for layer in structure.layers]
        every.append([weight.double() - start for weight, start in zip(weights, starts, strict=True)])
    done, total = itertools.count(1), len(weights) * len(every)

    def tell() -> None:
        if progress is not None:
            progress("norms of the weights", next(done) / total)

    found = [_norms(architecture, structure, own, tell) for own in every]
    norms = [norm for norm, _ in found[0]]
    distances: Sequence[WeightNorms | Absent] = (
        [d for d, _ in found[1]] if initial is not None else [NO_INIT] * len(norms)
    )
    rows = zip(structure.layers, weights, norms, distances, strict=True)
    layers = tuple(_layer(architecture, parameters, *row) for row in rows)
    return WeighedLayers(layers, _converged([rough for part in found for _, rough in part if rough], len(layers)))


def _layer(
    architecture: Architecture,
    parameters: Mapping[str, Tensor],
    layer: MeasuredLayer,
    weight: Tensor,
    norms: WeightNorms,
    distance: WeightNorms | Absent,
) -> LayerInputs:
    bias = parameters[layer.bias] if layer.bias is not None else None
    return LayerInputs(
        name=layer.weight,
        op=layer.op,
        weight=weight,
        has_bias=bias is not None and bool(torch.count_nonzero(bias)),
        channels=layer.channels,
        positions=layer.positions,
        num_inputs=layer_map(architecture, layer, weight).num_inputs,
        window=layer.window,
        norms=norms,
        distance=distance,
        tail=_tail(weight),
        bias=None if bias is None else bias.detach().cpu(),
        bias_norm=0.0 if bias is None else float(bias.double().norm()),
    )


def _norms(
    architecture: Architecture, structure: Structure, weights: Sequence[Tensor], tell: Callable[[], None]
) -> list[tuple[WeightNorms, str]]:
    """Norms of every layer, and a note where the operator norm did not converge (else ``""``)."""
    # all at once: matrices of one size are decomposed together
    spectra = layer_spectra({str(k): weight for k, weight in enumerate(weights)})
    rows = []
    for layer, weight, spectrum in zip(structure.layers, weights, spectra.values(), strict=True):
        found = layer_norms(layer_map(architecture, layer, weight), OPERATOR_TOLERANCE)
        norms = WeightNorms(
            frobenius=found.frobenius,
            spectral=found.spectral_reshaped,
            operator=found.spectral_operator.value,
            norm_21=found.norm_21,
            norm_1inf=found.norm_1inf,
            norm_3_15=norm_3_15(weight),
            singular_values=spectrum,
        )
        rows.append((norms, _rough(layer, found)))
        tell()
    return rows


def _rough(layer: MeasuredLayer, norms: LayerNorms) -> str:
    operator = norms.spectral_operator
    if operator.converged or not operator.value:
        return ""
    return f"layer {layer.index} known to {operator.residual / operator.value:.1g} only"


def _converged(rough: Sequence[str], depth: int) -> Condition:
    detail = "; ".join(rough[:3]) + (f"; {len(rough) - 3} more" if len(rough) > 3 else "")
    return Condition(CONVERGED, not rough, detail or f"{depth} layers to a relative {OPERATOR_TOLERANCE:g}")


def _tail(weight: Tensor) -> TailSummary | Absent:
    result = weight_tail(weight)
    return result.fit or Absent(Status.OUTSIDE, f"no power law was fitted: {result.reason}")
