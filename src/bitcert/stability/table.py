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

from torch import Tensor

from bitcert.linear.maps import LayerMap
from bitcert.linear.norms import layer_norms, norm_21
from bitcert.linear.spectra import layer_spectra
from bitcert.linear.tails import TailSummary, eigenvalue_tail, weight_tail
from bitcert.network import Architecture
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.profile import LayerRow, LayerSpectrum, Reduced
from bitcert.stability.reduction import Distribution

Distributions = Mapping[str, tuple[Distribution, ...]]

_UNKNOWN = Reduced(None, None)
_OPERATOR_TOLERANCE = 1e-4
"""Residual of an operator norm relative to it; the norm's own error is about the square of that."""


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """What is known of a layer's weight alone.

    Attributes:
        frobenius, spectral_reshaped, spectral_operator, norm_21, norm_1inf, stable_rank: as in :class:`LayerRow`.
        spectrum: singular values, when asked for.
        weight_tail, eigen_tail: power laws, when asked for.
        note: one sentence when a number is not as exact as it should be, else ``""``.
    """

    frobenius: float
    spectral_reshaped: float
    spectral_operator: float
    norm_21: float
    norm_1inf: float
    stable_rank: float | None
    spectrum: LayerSpectrum | None = None
    weight_tail: TailSummary | None = None
    eigen_tail: TailSummary | None = None
    note: str = ""


def measure_weights(
    architecture: Architecture, structure: Structure, parameters: Mapping[str, Tensor], spectra: bool
) -> tuple[LayerWeights, ...]:
    """Norms of every layer at its real input size; singular values and tails with ``spectra``.

    Args:
        architecture: the graph, for the sizes of the layers' inputs.
        structure: the layers.
        parameters: values of the weights.
        spectra: whether to decompose the matrices and fit their tails.
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
        rows.append(row)
    return tuple(rows)


def _norms(architecture: Architecture, layer: MeasuredLayer, weight: Tensor) -> LayerWeights:
    node = next(node for node in architecture.nodes if node.name == layer.node)
    shape = architecture.propagation.values[layer.source].shape[1:]
    norms = layer_norms(LayerMap.of(node, weight, shape), _OPERATOR_TOLERANCE)
    operator = norms.spectral_operator
    note = ""
    if not operator.converged:
        relative = operator.residual / operator.value if operator.value else math.inf
        note = f"operator norm of layer {layer.index} known to {relative:.1g} only: the iteration did not converge"
    rank = None if math.isnan(norms.stable_rank) else norms.stable_rank
    known = (norms.frobenius, norms.spectral_reshaped, operator.value, norms.norm_21, norms.norm_1inf, rank)
    return LayerWeights(*known, note=note)


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


def layer_rows(
    architecture: Architecture,
    structure: Structure,
    weights: Sequence[LayerWeights],
    distributions: Distributions,
    distances: Sequence[tuple[float, float] | None],
) -> tuple[LayerRow, ...]:
    """The table.

    Args:
        architecture, structure: of the network.
        weights: of every layer.
        distributions: what was measured; a missing quantity leaves its columns empty.
        distances: Frobenius and 2,1 distance of every layer from its initial value, or ``None``.
    """
    after = (_UNKNOWN,) * len(structure.layers)
    if "contraction" in distributions:
        after = contractions_after(structure, distributions["contraction"])
    betas = _betas(structure, distributions)
    rows = zip(structure.layers, weights, after, betas, distances, strict=True)
    return tuple(_row(architecture, *row, distributions) for row in rows)


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


def _row(
    architecture: Architecture,
    layer: MeasuredLayer,
    weights: LayerWeights,
    after: Reduced,
    beta: Reduced,
    distance: tuple[float, float] | None,
    distributions: Distributions,
) -> LayerRow:
    specs = {spec.name: spec for spec in architecture.parameters}
    weight = specs[layer.weight]
    bias = specs[layer.bias].num_entries if layer.bias is not None else 0
    cushion = _at(distributions, "layer_cushion", layer)
    minimal = _at(distributions, "minimal_interlayer_cushion", layer)
    before = _at(distributions, "contraction", layer)
    effective, effective_after = (
        Reduced(
            effective_parameters(cushion.worst, minimal.worst, beta.worst, own.worst, layer.window),
            effective_parameters(cushion.zeta, minimal.zeta, beta.zeta, own.zeta, layer.window),
        )
        for own in (before, after)
    )
    percent = [None if e is None else 100 * e / weight.num_entries for e in (effective.worst, effective.zeta)]
    names = {field.name for field in fields(LayerRow)}
    # what the row says in the words of the layer and of its weight, under the same names
    known = {name: value for part in (layer, weights) for name, value in vars(part).items() if name in names}
    return LayerRow(
        **known,
        shape=weight.shape,
        parameters=weight.num_entries + bias,
        layer_cushion=cushion,
        minimal_cushion=minimal,
        minimal_cushion_unclipped=_at(distributions, "minimal_interlayer_cushion_unclipped", layer),
        beta=beta,
        contraction=before,
        contraction_after=after,
        distance_frobenius=None if distance is None else distance[0],
        distance_21=None if distance is None else distance[1],
        effective_parameters=effective,
        effective_parameters_after=effective_after,
        compression_percent=Reduced(*percent),
    )


def distances_from(
    structure: Structure, parameters: Mapping[str, Tensor], initial: Mapping[str, Tensor]
) -> tuple[tuple[float, float], ...]:
    """``‖A^i − A^i_0‖_F`` and ``‖A^i − A^i_0‖_{2,1}`` of every layer."""
    result = []
    for layer in structure.layers:
        change = (parameters[layer.weight].double().cpu() - initial[layer.weight].double().cpu()).flatten(1)
        result.append((float(change.norm()), norm_21(change)))
    return tuple(result)
