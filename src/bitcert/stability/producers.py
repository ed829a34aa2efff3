"""The pass over a sample: which function computes which quantity, what it must prepare once, and what it gives.

Every producer maps a batch to arrays ``[B, ...]`` by name; the table below is the only place where the verb
:func:`bitcert.stability.measure` and the tracker know them. It does NOT reduce anything over the sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.network import Network
from bitcert.stability import forward
from bitcert.stability.attenuation import attenuation
from bitcert.stability.estimates import prepare_jacobians
from bitcert.stability.jacobians import JacobianPlan, interlayer
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.reduction import maximum_over_pairs, minimal_cushions, nan_mean, quantile_over_draws
from bitcert.stability.sensitivity import noise_sensitivity
from bitcert.stability.settings import BatchContext, MeasureSettings
from bitcert.stability.smoothness import ProjectedWeights, prepare_projections, smoothness

Arrays = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class SamplePass:
    """One network on one sample, a batch of examples at a time.

    Attributes:
        network, sample, settings, preprocessing, structure: of the run.
        pilot_size: examples, spread over the sample, that producers prepare themselves on.
    """

    network: Network
    sample: Sample
    settings: MeasureSettings
    preprocessing: Preprocessing
    structure: Structure
    pilot_size: int

    @functools.cached_property
    def parameters(self) -> dict[str, Tensor]:
        """In the dtype and on the device of the run; integers stay integers."""
        dtype, device = self.settings.torch_dtype, self.settings.device
        values = self.network.parameters.items()
        return {name: v.to(device, dtype) if v.is_floating_point() else v.to(device) for name, v in values}

    @functools.cached_property
    def wanted(self) -> tuple[str, ...]:
        """Quantities with a producer that this network can be measured by."""
        return wanted_of(self.settings.wanted, self.structure)

    @functools.cached_property
    def prepared(self) -> dict[str, Any]:
        """What each producer makes once; only when there is a batch to compute."""
        return {name: PRODUCERS[name].prepare(self) for name in self.wanted}

    def pilot(self) -> BatchContext:
        """A few examples spread over the sample, always the same ones."""
        count = min(len(self.sample), self.pilot_size)
        return self.context(np.linspace(0, len(self.sample) - 1, count).astype(np.int64))

    def context(self, index: NDArray[np.int64]) -> BatchContext:
        """The batch of these examples."""
        device = self.settings.device
        x = self.preprocessing(self.sample.inputs_at(index)).to(device, self.settings.torch_dtype)
        # without labels there are no margins; producers still see one label for each example
        labels = self.sample.labels[index] if self.sample.has_labels else np.zeros(len(index), np.int64)
        return BatchContext(
            structure=self.structure,
            architecture=self.network.architecture,
            parameters=self.parameters,
            linearisation=Linearisation(self.network.architecture, self.parameters, x),
            labels=torch.from_numpy(np.array(labels)).to(device),
            index=torch.from_numpy(np.array(index)),
            num_samples=len(self.sample),
        )

    def arrays(
        self, start: int, stop: int, batch_size: int, progress: Callable[[int], None] | None = None
    ) -> dict[str, NDArray[Any]]:
        """``[stop - start, ...]`` by name, examples ``start .. stop - 1``; ``progress`` is given how many are done."""
        batches = []
        for first in range(start, stop, batch_size):
            last = min(first + batch_size, stop)
            batches.append(self._batch(np.arange(first, last, dtype=np.int64)))
            if progress is not None:
                progress(last)
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _batch(self, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        with torch.no_grad():
            prepared, context = self.prepared, self.context(index)
            for name in self.wanted:
                found = PRODUCERS[name].compute(context, self.settings, prepared[name])
                # as they are stored: on the CPU, in the dtype of the run
                arrays |= {key: v.detach().to("cpu", self.settings.torch_dtype).numpy() for key, v in found.items()}
        if not self.sample.has_labels:
            arrays.pop("margin", None)
        if "interlayer_cushion" in self.settings.wanted and not self.structure.pairs:
            # a layer that feeds no other still has its own cushion 1/sqrt(h)
            arrays["interlayer_cushion"] = np.empty((len(index), 0), self.settings.dtype)
        return {**arrays, **derive(arrays, self.structure, self.settings)}


@dataclass(frozen=True)
class Producer:
    """One row of the table.

    Attributes:
        compute: ``(context, settings, prepared) -> arrays``.
        prepare: what is made once per run and handed to ``compute``.
        needs_pairs: whether a network in which no layer feeds another has nothing to measure.
    """

    compute: Callable[[BatchContext, MeasureSettings, Any], Arrays]
    prepare: Callable[[SamplePass], Any] = lambda run: None
    needs_pairs: bool = False


def _prepare_interlayer(run: SamplePass) -> JacobianPlan:
    return prepare_jacobians(run.pilot().linearisation, run.structure, run.settings)


def _prepare_smoothness(run: SamplePass) -> ProjectedWeights:
    return prepare_projections(run.structure, run.parameters, run.settings)


def _alone(function: Callable[[BatchContext, MeasureSettings], Arrays]) -> Producer:
    """A producer that prepares nothing."""
    return Producer(lambda context, settings, _: function(context, settings))


PRODUCERS: Mapping[str, Producer] = {
    "layer_cushion": _alone(forward.layer_cushions),
    "interlayer_cushion": Producer(interlayer, _prepare_interlayer, needs_pairs=True),
    "contraction": _alone(forward.contractions),
    "attenuation": _alone(attenuation),
    "smoothness": Producer(smoothness, _prepare_smoothness, needs_pairs=True),
    "noise_sensitivity": _alone(noise_sensitivity),
    "margin": _alone(forward.margins),
}
"""By quantity, in the order of computation; ``spectra`` is of the weights alone and has no producer."""


def wanted_of(names: Collection[str], structure: Structure) -> tuple[str, ...]:
    """Those of ``names`` with a producer that a network of this structure can be measured by."""
    return tuple(name for name, own in PRODUCERS.items() if name in names and (structure.pairs or not own.needs_pairs))


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
