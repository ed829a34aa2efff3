"""From the stored per-example arrays to a :class:`StabilityProfile`: one column in memory at a time.

Nothing is computed here that needs the network at an example; what is missing in the store is missing in the profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitcert.network.nodes import INPUT
from bitcert.stability.hypotheses import check_hypotheses, is_relu_only, offsets
from bitcert.stability.layers import Structure
from bitcert.stability.producers import SamplePass
from bitcert.stability.profile import StabilityProfile
from bitcert.stability.reduction import (
    QUANTITY,
    AttenuationCurve,
    Distribution,
    SmoothnessSummary,
    attenuation_point,
    complement,
    dropped_by,
    order_index,
    reduce_values,
    stored_as,
    summarise_draws,
)
from bitcert.stability.settings import MeasureSettings
from bitcert.stability.store import ShardStore
from bitcert.stability.table import LayerWeights, layer_rows

Values = NDArray[np.floating]

_JOINT = ("layer_cushion", "minimal_interlayer_cushion", "contraction", "jacobian_spread")
"""Quantities that the effective parameters use together."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run: its store, and what was computed of the weights alone.

    Attributes:
        run: network, sample and settings.
        store: per-example arrays of the whole sample.
        weights: of every layer.
        distances: of every layer from its initial value, or ``None`` for each.
        projections: numbers that Matrix-Project kept, by weight, or ``None``.
        network, sample: descriptions for the profile.
        notes: what was left out so far.
    """

    run: SamplePass
    store: ShardStore
    weights: Sequence[LayerWeights]
    distances: Sequence[tuple[float, float] | None]
    projections: tuple[int, ...] | None
    network: Mapping[str, Any]
    sample: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def structure(self) -> Structure:
        """Layers and how they are connected."""
        return self.run.structure

    @property
    def settings(self) -> MeasureSettings:
        """What was measured and how."""
        return self.run.settings

    @property
    def zeta(self) -> float:
        """Fraction of outliers."""
        return self.settings.zeta

    def columns(self, quantity: str) -> Iterator[Values]:
        """Columns ``[n]`` of what a distribution shows."""
        return self.store.columns(stored_as(quantity))

    def has(self, quantity: str) -> bool:
        """Whether it was measured."""
        return self.store.shape(stored_as(quantity)) is not None


def labels(structure: Structure, quantity: str) -> tuple[str, ...]:
    """The places of a quantity's distributions, in order.

    Args:
        structure: of the network.
        quantity: a key of ``StabilityProfile.distributions``.
    """
    layers = tuple(f"layer {layer.index}" for layer in structure.layers)
    pairs = tuple(f"{i}→{j}" for i, j in structure.pairs)
    found = {"layer": layers, "pair": pairs, "injection": ("input", *layers)}
    return found.get(QUANTITY[quantity].place, ("",))


def _errors(run: Finished, quantity: str) -> Iterator[Values | None]:
    """Standard errors beside the columns of a quantity; a cushion's relative error is that of its Jacobian norm."""
    if quantity == "jacobian_norm":
        yield from run.store.columns("jacobian_error")
    elif quantity == "noise_sensitivity":
        yield from run.store.columns("noise_sensitivity_error")
    elif quantity == "interlayer_cushion":
        parts = (run.store.columns(name) for name in (quantity, "jacobian_norm", "jacobian_error"))
        with np.errstate(divide="ignore", invalid="ignore"):
            yield from (cushion * (error / norm) for cushion, norm, error in zip(*parts, strict=True))
    else:
        while True:
            yield None


def _distributions(run: Finished) -> dict[str, tuple[Distribution, ...]]:
    found: dict[str, tuple[Distribution, ...]] = {}
    for quantity, kind in QUANTITY.items():
        if kind.place == "curve" or not run.has(quantity):
            continue
        places = labels(run.structure, quantity)
        # the columns end first: the list of missing errors has no end
        columns = zip(places, run.columns(quantity), _errors(run, quantity), strict=False)
        found[quantity] = tuple(
            reduce_values(values, quantity, place, zeta=run.zeta, errors=errors) for place, values, errors in columns
        )
    if run.has("margin"):
        found |= _normalised_margins(run)
    return found


def _without_smoothness(run: Finished) -> int:
    """Examples that the smoothness was not asked of."""
    limit = run.settings.smoothness_samples
    total = int(run.sample["num_samples"])
    return 0 if limit is None else max(0, total - limit)


def _estimate_note(run: Finished) -> tuple[str, ...]:
    """How exact the estimated norms are, in one sentence; nothing when all are exact."""
    squares, count, estimated = 0.0, 0, 0
    if run.has("jacobian_norm"):
        parts = (run.store.columns(name) for name in ("jacobian_norm", "jacobian_error"))
        for norm, error in zip(*parts, strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.square(error / norm, dtype=np.float64)
            known = np.isfinite(relative)
            squares += math.fsum(np.sort(relative[known]))
            count += int(known.sum())
            estimated += int((relative[known] > 0).sum())
    if not estimated:
        return ()
    reached, alone = math.sqrt(squares / count), math.sqrt(squares / estimated)
    text = f"root-mean-square relative standard error {reached:.2%} over all pairs, {alone:.2%} where estimated"
    return (f"Jacobian norms: {text}; asked for {run.settings.tolerance:.2%}",)


def _normalised_margins(run: Finished) -> dict[str, tuple[Distribution, ...]]:
    """``margin / ‖f(x)‖``, and ``margin / (‖x‖ Π ‖A^i‖_2)`` with the operator norms at the real input size."""
    margin, output, size = (
        run.store.array(name).astype(np.float64) for name in ("margin", "output_norm", "input_norm")
    )
    product = math.fsum(math.log(w.spectral_operator) if w.spectral_operator > 0 else -math.inf for w in run.weights)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        normalised = margin / output
        # in logarithms: the product over many layers overflows before the quotient does
        spectral = np.sign(margin) * np.exp(np.log(np.abs(margin)) - np.log(size) - product)
    spectral[(margin == 0) & (size > 0) & np.isfinite(product)] = 0.0
    values = {"margin_normalised": normalised, "margin_spectral": spectral}
    return {name: (reduce_values(array, name, zeta=run.zeta),) for name, array in values.items()}


def _curves(run: Finished) -> tuple[AttenuationCurve, ...]:
    if not run.has("attenuation"):
        return ()
    structure, depth = run.structure, len(run.structure.layers)
    columns = run.columns("attenuation")
    curves = []
    for level in run.settings.noise_levels:
        for injection, source in enumerate((INPUT, *structure.nodes)):
            row = [next(columns) for _ in range(depth)]
            targets = [
                layer.index
                for layer in structure.layers
                if layer.index == injection or layer.node in structure.reaches[source]
            ]
            points = [attenuation_point(row[j - 1]) for j in targets]
            mean, lower, median, upper, skipped = zip(*points, strict=True) if points else ((),) * 5
            curves.append(AttenuationCurve(level, injection, tuple(targets), mean, lower, median, upper, skipped))
    return tuple(curves)


def _smoothness(run: Finished) -> SmoothnessSummary | None:
    if not run.has("smoothness"):
        return None
    settings = run.settings
    results: dict[str, tuple[float | None, float | None, tuple[float | None, ...]]] = {}
    for name in ("smoothness", "smoothness_gaussian"):
        maxima = run.store.array(f"{name}_maximum")
        value, per_draw = summarise_draws(maxima, settings.delta, 0.0)
        results[name] = value, summarise_draws(maxima, settings.delta, run.zeta)[0], per_draw
    noise = reduce_values(run.store.array("smoothness_noise_median"), "smoothness_noise")
    return SmoothnessSummary(
        delta=settings.delta,
        draws=settings.draws,
        order=order_index(complement(settings.delta), settings.draws) + 1,
        projections=run.projections,
        value=results["smoothness"][0],
        gaussian=results["smoothness_gaussian"][0],
        zeta_value=results["smoothness"][1],
        gaussian_zeta_value=results["smoothness_gaussian"][1],
        per_draw=results["smoothness"][2],
        median_relative_noise=noise.quantiles.get(0.5),
    )


def _zeta_note(run: Finished) -> tuple[str, ...]:
    if run.zeta == 0:
        return ()
    columns = ((name, values) for name in _JOINT if run.has(name) for values in run.columns(name))
    total = run.store.num_samples
    dropped = len(dropped_by(columns, run.zeta))
    share = f"{dropped} of {total} examples ({100 * dropped / total:.3g} %)"
    return (
        f"zeta = {run.zeta:g} drops the worst examples of each quantity and layer by themselves; those of the "
        f"cushions, contractions and spreads together are {share}",
    )


def _positive_margins(run: Finished) -> int | None:
    if not run.has("margin"):
        return None
    return sum(int(np.count_nonzero(column > 0)) for column in run.store.columns("margin"))


def _arrays(run: Finished) -> dict[str, Values] | None:
    if not run.settings.keep:
        return None
    return {name: run.store.array(name) for name in run.store.names()}


def assemble(run: Finished) -> StabilityProfile:
    """The profile of a finished run, without a twin."""
    distributions = _distributions(run)
    smoothness = _smoothness(run)
    positive = _positive_margins(run)
    architecture, structure, parameters = run.run.network.architecture, run.structure, run.run.network.parameters
    return StabilityProfile(
        network={
            **run.network,
            "num_parameters": architecture.num_parameters,
            "chain": structure.chain,
            "bias_free": not offsets(architecture, parameters),
            "relu_only": is_relu_only(architecture),
        },
        sample=run.sample,
        settings=run.settings.describe(),
        layers=layer_rows(architecture, structure, run.weights, distributions, run.distances),
        pairs=structure.pairs,
        distributions=distributions,
        attenuation=_curves(run),
        spectra=tuple(w.spectrum for w in run.weights if w.spectrum is not None),
        smoothness=smoothness,
        hypotheses=check_hypotheses(
            architecture, parameters, structure, distributions, smoothness, positive, _without_smoothness(run)
        ),
        notes=(*run.notes, *(w.note for w in run.weights if w.note), *_zeta_note(run), *_estimate_note(run)),
        arrays=_arrays(run),
    )
