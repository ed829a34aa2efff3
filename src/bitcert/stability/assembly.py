"""From the stored per-example arrays to what a :class:`StabilityProfile` reports: one column in memory at a time.

Nothing is computed here that needs the network at an example; what is missing in the store is missing in the profile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bitcert.stability.attenuation import injections
from bitcert.stability.layers import Structure
from bitcert.stability.producers import SamplePass
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
from bitcert.stability.store import ShardStore
from bitcert.stability.table import LayerWeights

Values = NDArray[np.floating]

_JOINT = ("layer_cushion", "minimal_interlayer_cushion", "contraction", "jacobian_spread")
"""Quantities that the effective parameters use together."""


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


def _has(store: ShardStore, quantity: str) -> bool:
    return store.shape(stored_as(quantity)) is not None


def _errors(store: ShardStore, quantity: str) -> Iterator[Values | None]:
    """Standard errors beside the columns of a quantity; a cushion's relative error is that of its Jacobian norm."""
    if quantity == "jacobian_norm":
        yield from store.columns("jacobian_error")
    elif quantity == "noise_sensitivity":
        yield from store.columns("noise_sensitivity_error")
    elif quantity == "interlayer_cushion":
        parts = (store.columns(name) for name in (quantity, "jacobian_norm", "jacobian_error"))
        with np.errstate(divide="ignore", invalid="ignore"):
            yield from (cushion * (error / norm) for cushion, norm, error in zip(*parts, strict=True))
    else:
        while True:
            yield None


def distributions(
    run: SamplePass, store: ShardStore, weights: Sequence[LayerWeights]
) -> dict[str, tuple[Distribution, ...]]:
    """Every quantity that was measured, reduced over the sample; normalised margins, too.

    Args:
        run: network, sample and settings.
        store: per-example arrays of the whole sample.
        weights: of every layer.
    """
    found: dict[str, tuple[Distribution, ...]] = {}
    for quantity, kind in QUANTITY.items():
        if kind.place == "curve" or not _has(store, quantity):
            continue
        # the columns end first: the list of missing errors has no end
        columns = zip(
            labels(run.structure, quantity), store.columns(stored_as(quantity)), _errors(store, quantity), strict=False
        )
        found[quantity] = tuple(
            reduce_values(values, quantity, place, zeta=run.settings.zeta, errors=errors)
            for place, values, errors in columns
        )
    if _has(store, "margin"):
        found |= _normalised_margins(run, store, weights)
    return found


def _normalised_margins(
    run: SamplePass, store: ShardStore, weights: Sequence[LayerWeights]
) -> dict[str, tuple[Distribution, ...]]:
    """``margin / ‖f(x)‖``, and ``margin / (‖x‖ Π ‖A^i‖_2)`` with the operator norms at the real input size."""
    margin = store.array("margin").astype(np.float64)
    operators = [own.norms.spectral_operator.value for own in weights]
    product = math.fsum(math.log(operator) if operator > 0 else -math.inf for operator in operators)

    def reduced(name: str, values: Values) -> dict[str, tuple[Distribution, ...]]:
        return {name: (reduce_values(values, name, zeta=run.settings.zeta),)}

    # a column of all examples is large: as few as can be are there at a time
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        found = reduced("margin_normalised", margin / store.array("output_norm"))
        size = store.array("input_norm").astype(np.float64)
        zero = (margin == 0) & (size > 0) & np.isfinite(product)
        # in logarithms: the product over many layers overflows before the quotient does
        spectral = np.log(np.abs(margin))
        spectral -= np.log(size, out=size)
        spectral -= product
        np.exp(spectral, out=spectral)
        spectral *= np.sign(margin)
    spectral[zero] = 0.0
    return found | reduced("margin_spectral", spectral)


def num_positive_margins(store: ShardStore) -> int | None:
    """Examples with a margin above 0, or ``None`` without margins."""
    if not _has(store, "margin"):
        return None
    return sum(int(np.count_nonzero(column > 0)) for column in store.columns("margin"))


def attenuation_curves(run: SamplePass, store: ShardStore) -> tuple[AttenuationCurve, ...]:
    """One curve for each noise level and injection; none where the attenuation was not measured."""
    if not _has(store, "attenuation"):
        return ()
    structure, depth = run.structure, len(run.structure.layers)
    columns = store.columns("attenuation")
    curves = []
    for level in run.settings.noise_levels:
        sources = injections(structure, run.settings)
        for injection, source in enumerate(sources):
            row = [next(columns) for _ in range(depth)]
            targets = [
                layer.index
                for layer in structure.layers
                if layer.node == source or layer.node in structure.reaches[source]
            ]
            points = [attenuation_point(row[j - 1]) for j in targets]
            mean, lower, median, upper, skipped = zip(*points, strict=True) if points else ((),) * 5
            curves.append(AttenuationCurve(level, injection, tuple(targets), mean, lower, median, upper, skipped))
        for _ in range(depth * (depth + 1 - len(sources))):
            next(columns)
    return tuple(curves)


def smoothness_summary(run: SamplePass, store: ShardStore, projections: tuple[int, ...]) -> SmoothnessSummary | None:
    """``1/ρ_δ`` of the network, or ``None`` where it was not measured; ``projections`` of each layer are passed on."""
    if not _has(store, "smoothness"):
        return None
    settings = run.settings
    results: dict[str, tuple[float | None, float | None, tuple[float | None, ...]]] = {}
    for name in ("smoothness", "smoothness_gaussian"):
        maxima = store.array(f"{name}_maximum")
        value, per_draw = summarise_draws(maxima, settings.delta, 0.0)
        results[name] = value, summarise_draws(maxima, settings.delta, settings.zeta)[0], per_draw
    noise = reduce_values(store.array("smoothness_noise_median"), "smoothness_noise")
    return SmoothnessSummary(
        delta=settings.delta,
        draws=settings.draws,
        order=order_index(complement(settings.delta), settings.draws) + 1,
        projections=projections,
        value=results["smoothness"][0],
        gaussian=results["smoothness_gaussian"][0],
        zeta_value=results["smoothness"][1],
        gaussian_zeta_value=results["smoothness_gaussian"][1],
        per_draw=results["smoothness"][2],
        median_relative_noise=noise.quantiles.get(0.5),
    )


def reduction_notes(run: SamplePass, store: ShardStore) -> Iterator[str]:
    """How many examples a ``zeta`` above 0 drops together, and how exact estimated norms are."""
    zeta = run.settings.zeta
    if zeta:
        columns = ((name, values) for name in _JOINT if _has(store, name) for values in store.columns(stored_as(name)))
        total = store.num_samples
        dropped = len(dropped_by(columns, zeta))
        share = f"{dropped} of {total} examples ({100 * dropped / total:.3g} %)"
        yield (
            f"zeta = {zeta:g} drops the worst examples of each quantity and layer by themselves; those of the "
            f"cushions, contractions and spreads together are {share}"
        )
    squares, count, estimated = 0.0, 0, 0
    if _has(store, "jacobian_norm"):
        for norm, error in zip(store.columns("jacobian_norm"), store.columns("jacobian_error"), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                relative = np.square(error / norm, dtype=np.float64)
            known = np.isfinite(relative)
            squares += math.fsum(np.sort(relative[known]))
            count += int(known.sum())
            estimated += int((relative[known] > 0).sum())
    if estimated:
        reached, alone = math.sqrt(squares / count), math.sqrt(squares / estimated)
        text = f"root-mean-square relative standard error {reached:.2%} over all pairs, {alone:.2%} where estimated"
        yield f"Jacobian norms: {text}; asked for {run.settings.tolerance:.2%}"
