"""Which function computes which quantity, what it must prepare once per run, and what it gives.

Every producer maps a batch to arrays ``[B, ...]`` by name; the table below is the only place where the verb
:func:`bitcert.stability.measure` knows them. It does NOT reduce anything over the sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bitcert.network import Architecture
from bitcert.stability import forward
from bitcert.stability.attenuation import attenuation
from bitcert.stability.interlayer import interlayer, prepare_jacobians
from bitcert.stability.jacobians import JacobianPlan
from bitcert.stability.layers import Structure
from bitcert.stability.reduction import maximum_over_pairs, minimal_cushions, nan_mean, quantile_over_draws
from bitcert.stability.sensitivity import noise_sensitivity
from bitcert.stability.settings import BatchContext, MeasureSettings
from bitcert.stability.smoothness import ProjectedWeights, prepare_projections, smoothness

Arrays = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Preparation:
    """What a producer may use before the first batch.

    Attributes:
        structure, architecture, parameters, settings: of the run.
        pilot: makes the context of a few examples spread over the sample, always the same ones.
    """

    structure: Structure
    architecture: Architecture
    parameters: Mapping[str, Tensor]
    settings: MeasureSettings
    pilot: Callable[[], BatchContext]


def _nothing(preparation: Preparation) -> None:
    return None


@dataclass(frozen=True)
class Producer:
    """One row of the table.

    Attributes:
        compute: ``(context, settings, prepared) -> arrays``.
        prepare: what is made once per run and handed to ``compute``.
        problem: why a network has nothing to measure, or ``""``.
    """

    compute: Callable[[BatchContext, MeasureSettings, Any], Arrays]
    prepare: Callable[[Preparation], Any] = _nothing
    problem: Callable[[Structure], str] = lambda structure: ""


def _needs_pairs(structure: Structure) -> str:
    return "" if structure.pairs else "no layer feeds another one"


def _prepare_interlayer(preparation: Preparation) -> JacobianPlan:
    return prepare_jacobians(preparation.pilot().linearisation, preparation.structure, preparation.settings)


def _prepare_smoothness(preparation: Preparation) -> ProjectedWeights:
    return prepare_projections(preparation.structure, preparation.parameters, preparation.settings)


def _alone(function: Callable[[BatchContext, MeasureSettings], Arrays]) -> Producer:
    """A producer that prepares nothing."""
    return Producer(lambda context, settings, _: function(context, settings))


PRODUCERS: Mapping[str, Producer] = {
    "layer_cushion": _alone(forward.layer_cushions),
    "interlayer_cushion": Producer(interlayer, _prepare_interlayer, _needs_pairs),
    "contraction": _alone(forward.contractions),
    "attenuation": _alone(attenuation),
    "smoothness": Producer(smoothness, _prepare_smoothness, _needs_pairs),
    "noise_sensitivity": _alone(noise_sensitivity),
    "margin": _alone(forward.margins),
}
"""By quantity, in the order of computation; ``spectra`` is of the weights alone and has no producer."""


def derive(
    arrays: Mapping[str, NDArray[Any]], structure: Structure, settings: MeasureSettings
) -> dict[str, NDArray[Any]]:
    """What follows from the arrays of the same examples: minimal cushions, and smoothness reduced over its draws."""
    derived: dict[str, NDArray[Any]] = {}
    if "interlayer_cushion" in arrays:
        channels = [layer.channels for layer in structure.layers]
        clipped, unclipped = minimal_cushions(arrays["interlayer_cushion"], structure.pairs, channels)
        derived["minimal_interlayer_cushion"] = clipped
        derived["minimal_interlayer_cushion_unclipped"] = unclipped
    for name in ("smoothness", "smoothness_gaussian"):
        if name in arrays:
            derived[f"{name}_quantile"] = quantile_over_draws(arrays[name], settings.delta)
            derived[f"{name}_maximum"] = maximum_over_pairs(arrays[name])
    if "smoothness_noise" in arrays:
        noise = arrays["smoothness_noise"]
        derived["smoothness_noise_mean"] = nan_mean(noise, 1)
        flat = noise.reshape(len(noise), -1, 1)
        derived["smoothness_noise_median"] = quantile_over_draws(flat, 0.5)[:, 0]
    return derived


def as_array(tensor: Tensor, settings: MeasureSettings) -> NDArray[np.floating]:
    """A producer's result as it is stored: on the CPU, in the dtype of the run."""
    return tensor.detach().to("cpu", settings.torch_dtype).numpy()
