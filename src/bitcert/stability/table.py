"""The table of layers: norms of the weights, worst cushions, and Arora's effective number of parameters.

Effective parameters of layer ``i`` (Arora 2018, Thm 4.1 and 5.1 per layer, as in their Table 1):
``c_i² β_i² ⌈κ/s⌉² / (μ_i² μ_{i→}²)``, with constants, logarithms, the depth and the margin dropped; for a dense layer
``β = ⌈κ/s⌉ = 1``. ``c_i`` is the contraction before the layer, as the proof of Lemma 3 uses it; Table 1 does not say
which (docs/theory.md erratum 19), so the count with the one after the layer is given too. It is a *measure*: it
compares layers and networks, and bounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from bitcert.linear.maps import LayerMap
from bitcert.linear.norms import LayerNorms, frobenius_norm, layer_norms, norm_21
from bitcert.linear.spectra import layer_spectra
from bitcert.linear.tails import TailSummary, eigenvalue_tail, weight_tail
from bitcert.network import Architecture
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.profile import LayerRow, LayerSpectrum, Reduced
from bitcert.stability.reduction import Distribution

Distributions = Mapping[str, tuple[Distribution, ...]]

_UNKNOWN = Reduced(None, None)
_COLUMNS = {
    "layer_cushion": "layer_cushion",
    "minimal_cushion": "minimal_interlayer_cushion",
    "minimal_cushion_unclipped": "minimal_interlayer_cushion_unclipped",
    "contraction": "contraction",
}
"""The quantity of each column that shows the worst value of a layer's own distribution."""

OPERATOR_TOLERANCE = 1e-4
"""Residual of an operator norm relative to it; the norm's own error is about the square of that."""


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """What is known of a layer's weight alone.

    Attributes:
        norms: of the weight, and of its map at the real input size.
        spectrum: singular values, when asked for.
        weight_tail, eigen_tail: power laws, when asked for.
        distance_frobenius, distance_21: from the initial weight, when that is known.
        note: one sentence when a number is not as exact as it should be, else ``""``.
    """

    norms: LayerNorms
    spectrum: LayerSpectrum | None = None
    weight_tail: TailSummary | None = None
    eigen_tail: TailSummary | None = None
    distance_frobenius: float | None = None
    distance_21: float | None = None
    note: str = ""


def measure_weights(
    architecture: Architecture,
    structure: Structure,
    parameters: Mapping[str, Tensor],
    spectra: bool,
    initial: Mapping[str, Tensor] | None = None,
) -> tuple[LayerWeights, ...]:
    """Norms of every layer at its real input size; singular values and tails with ``spectra``.

    Args:
        architecture: the graph, for the sizes of the layers' inputs.
        structure: the layers.
        parameters: values of the weights.
        spectra: whether to decompose the matrices and fit their tails.
        initial: initial values, for the distances ``‖A^i − A^i_0‖_F`` and ``‖A^i − A^i_0‖_{2,1}``.
    """
    values = {layer.weight: parameters[layer.weight].detach().cpu() for layer in structure.layers}
    # all at once: matrices of one size are decomposed together
    found = layer_spectra(values) if spectra else {}
    rows = []
    for layer in structure.layers:
        row = _norms(architecture, layer, values[layer.weight])
        if spectra:
            spectrum = found[layer.weight]
            row = replace(
                row,
                spectrum=LayerSpectrum(layer.index, tuple(map(float, spectrum))),
                weight_tail=weight_tail(values[layer.weight]).fit,
                eigen_tail=eigenvalue_tail(spectrum).fit,
            )
        if initial is not None:
            change = values[layer.weight].double() - initial[layer.weight].double().cpu()
            row = replace(row, distance_frobenius=frobenius_norm(change), distance_21=norm_21(change))
        rows.append(row)
    return tuple(rows)


def layer_map(architecture: Architecture, layer: MeasuredLayer, weight: Tensor) -> LayerMap:
    """The linear map of a layer with this weight, at its real input size."""
    node = next(node for node in architecture.nodes if node.name == layer.node)
    return LayerMap.of(node, weight, architecture.propagation.values[layer.source].shape[1:])


def _norms(architecture: Architecture, layer: MeasuredLayer, weight: Tensor) -> LayerWeights:
    norms = layer_norms(layer_map(architecture, layer, weight), OPERATOR_TOLERANCE)
    operator = norms.spectral_operator
    if operator.converged:
        return LayerWeights(norms)
    relative = operator.residual / operator.value if operator.value else math.inf
    note = f"operator norm of layer {layer.index} known to {relative:.1g} only: the iteration did not converge"
    return LayerWeights(norms, note=note)


def contractions_after(structure: Structure, contraction: Sequence[Distribution]) -> tuple[Reduced, ...]:
    """Of every layer the worst contraction of a layer that it feeds; 1 if it feeds none.

    Args:
        structure: the layers.
        contraction: distribution of every layer's own contraction, which is the one before it.
    """
    rows = []
    for layer in structure.layers:
        found = [own for own, feeds in zip(contraction, structure.feeds, strict=True) if layer.index in feeds]
        rows.append(_largest(found) if found else Reduced(1.0, 1.0))
    return tuple(rows)


def _largest(found: Sequence[Distribution]) -> Reduced:
    worst = [d.worst for d in found if d.worst is not None]
    zeta = [d.zeta_value for d in found if d.zeta_value is not None]
    return Reduced(max(worst, default=None), max(zeta, default=None))


def effective_parameters(
    cushion: float | None, minimal: float | None, beta: float | None, contraction: float | None, window: int
) -> float | None:
    """``c² β² window / (μ² μ_→²)``; ``None`` where a part is not known, infinite for a cushion of 0.

    Args:
        cushion: ``μ_i``.
        minimal: ``μ_{i→}``.
        beta: ``β_i``.
        contraction: ``c_i``, before or after the layer.
        window: product of ``⌈κ/s⌉`` over the spatial axes.

    >>> effective_parameters(0.5, 0.1, 1.0, 2.0, 1)
    1600.0
    """
    if cushion is None or minimal is None or beta is None or contraction is None:
        return None
    if cushion == 0 or minimal == 0 or math.isinf(contraction):
        return math.inf
    ratio = contraction * beta / (cushion * minimal)
    return ratio * ratio * window


def sampled_columns(structure: Structure, distributions: Distributions) -> tuple[dict[str, Reduced], ...]:
    """Of every layer the columns of :class:`LayerRow` that come from the sample, by name.

    Args:
        structure: the layers.
        distributions: what was measured; a missing quantity leaves its columns empty.
    """
    after = (_UNKNOWN,) * len(structure.layers)
    if "contraction" in distributions:
        after = contractions_after(structure, distributions["contraction"])
    rows = []
    for layer, own_after, beta in zip(structure.layers, after, _betas(structure, distributions), strict=True):
        row = {name: _at(distributions, quantity, layer) for name, quantity in _COLUMNS.items()}
        row |= {"beta": beta, "contraction_after": own_after}
        cushion, minimal = row["layer_cushion"], row["minimal_cushion"]
        for name, own in (("effective_parameters", row["contraction"]), ("effective_parameters_after", own_after)):
            row[name] = Reduced(
                effective_parameters(cushion.worst, minimal.worst, beta.worst, own.worst, layer.window),
                effective_parameters(cushion.zeta, minimal.zeta, beta.zeta, own.zeta, layer.window),
            )
        rows.append(row)
    return tuple(rows)


def _betas(structure: Structure, distributions: Distributions) -> tuple[Reduced, ...]:
    """Largest spread over the pairs from each layer; 1 for a layer that feeds no other (``J`` is the identity)."""
    if structure.pairs and "jacobian_spread" not in distributions:
        return (_UNKNOWN,) * len(structure.layers)
    spread = distributions.get("jacobian_spread", ())
    found: list[list[Distribution]] = [[] for _ in structure.layers]
    for (i, _), d in zip(structure.pairs, spread, strict=True):
        found[i - 1].append(d)
    return tuple(_largest(own) if own else Reduced(1.0, 1.0) for own in found)


def _at(distributions: Distributions, name: str, layer: MeasuredLayer) -> Reduced:
    found = distributions.get(name)
    if found is None:
        return _UNKNOWN
    d = found[layer.index - 1]
    return Reduced(d.worst, d.zeta_value)


def layer_rows(
    architecture: Architecture, structure: Structure, weights: Sequence[LayerWeights], distributions: Distributions
) -> tuple[LayerRow, ...]:
    """The table.

    Args:
        architecture, structure: of the network.
        weights: of every layer.
        distributions: what was measured; a missing quantity leaves its columns empty.
    """
    specs = {spec.name: spec for spec in architecture.parameters}
    names = {field.name for field in fields(LayerRow)}
    rows = []
    for layer, own, sampled in zip(structure.layers, weights, sampled_columns(structure, distributions), strict=True):
        weight, effective = specs[layer.weight], sampled["effective_parameters"]
        percent = [None if e is None else 100 * e / weight.num_entries for e in (effective.worst, effective.zeta)]
        parts = (vars(layer), vars(own.norms), vars(own), sampled)
        # what the row says in the words of its parts, under the same names
        known: dict[str, Any] = {name: value for part in parts for name, value in part.items() if name in names}
        known |= {
            "shape": weight.shape,
            "parameters": weight.num_entries + (specs[layer.bias].num_entries if layer.bias is not None else 0),
            "spectral_operator": own.norms.spectral_operator.value,
            "stable_rank": None if math.isnan(own.norms.stable_rank) else own.norms.stable_rank,
            "compression_percent": Reduced(*percent),
        }
        rows.append(LayerRow(**known))
    return tuple(rows)
