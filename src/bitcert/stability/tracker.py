"""Noise stability over the course of training (Arora 2018, Figure 3 right; Guha 2023, Figure 2).

::

    tracker = Tracker(model, sample, Path("track.jsonl"))
    for epoch in range(epochs):
        ...
        tracker.update(epoch)

Each update captures the module's present weights (:class:`~bitcert.network.recapture.Recapture`: exported once), and
measures the chosen quantities on one fixed subsample. The module's mode, its gradients, its batch-norm statistics and
the global random state are as they were before. What is recorded describes the subsample; it is NOT a profile of the
whole sample, and no guarantee.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitcert.data import Sample
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError, unknown_name
from bitcert.linear.norms import frobenius_norm, norm_21, reshaped_spectral_norm
from bitcert.network import Network
from bitcert.network.recapture import Recapture
from bitcert.random import stream
from bitcert.stability.assembly import labels as places_of
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.planning import plan_measure
from bitcert.stability.producers import PRODUCERS, Preparation, as_array, derive
from bitcert.stability.reduction import Distribution, reduce_values
from bitcert.stability.settings import BatchContext, MeasureSettings
from bitcert.stability.table import LayerWeights, layer_rows
from bitcert.stability.track_file import STATISTICS, Statistics, TrackedEpoch, TrackFile

__all__ = ["TRACKABLE", "TrackedEpoch", "Tracker"]

NORMS = ("frobenius", "spectral_reshaped", "norm_21", "stable_rank")
TRACKABLE = ("layer_cushion", "interlayer_cushion", "contraction", "smoothness", "noise_sensitivity", "margin", "norms")
"""What can be tracked; the first two with ``contraction`` bring the effective parameters too."""

_EFFECTIVE = {"layer_cushion", "interlayer_cushion", "contraction"}
_SHOWN = {
    "layer_cushion": ("layer_cushion",),
    "interlayer_cushion": ("interlayer_cushion", "minimal_interlayer_cushion", "jacobian_spread"),
    "contraction": ("contraction",),
    "smoothness": ("smoothness", "smoothness_gaussian"),
    "noise_sensitivity": ("noise_sensitivity",),
    "margin": ("margin", "output_norm"),
}
_STORED_AS = {"smoothness": "smoothness_quantile", "smoothness_gaussian": "smoothness_gaussian_quantile"}
_EXAMPLE = 4

Columns = Mapping[str, NDArray[np.floating]]


@dataclass(eq=False)
class Tracker:
    """Measures a module that is being trained, epoch after epoch, into a file of JSON lines.

    Args:
        model: the module; captured as it behaves in evaluation mode.
        sample: examples as they are stored, with labels for margins.
        path: the file; one of an interrupted run of the same network, sample and settings is gone on with.
        quantities: names from :data:`TRACKABLE`; the default is cheap (one pass over the subsample).
        samples: size of the subsample, drawn once with the seed.
        every: measure at epochs that are multiples of this.
        seed: of the subsample and of all noise.
        preprocessing: from stored examples to the module's inputs; by default as ``certify`` does it.
        settings: everything else that :class:`MeasureSettings` says (noise, tolerance, device).

    Raises:
        InputError: unknown quantities, a file of another run, a sample that does not fit the module.
        CaptureError: the module cannot be captured.
    """

    model: nn.Module
    sample: Sample
    path: Path
    quantities: tuple[str, ...] = ("layer_cushion", "contraction", "margin", "norms")
    samples: int = 256
    every: int = 1
    seed: int = 0
    preprocessing: Preprocessing | None = None
    settings: MeasureSettings | None = None

    def __post_init__(self) -> None:
        self.quantities, self.path = tuple(self.quantities), Path(self.path)
        for name in self.quantities:
            if name not in TRACKABLE:
                raise unknown_name("quantity to track", str(name), TRACKABLE)
        for name in ("samples", "every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise InputError(f"{name} as a whole number from 1", repr(getattr(self, name))[:100], "pass one")
        groups = tuple(name for name in self.quantities if name != "norms") or ("layer_cushion",)
        self._settings = replace(self.settings or MeasureSettings(), seed=self.seed, quantities=groups)
        self._part = _subsample(self.sample, self.samples, self.seed)
        self._preprocess = self.preprocessing or Preprocessing.usual(self.sample)
        self._recapture = Recapture(self.model, self._preprocess(self._part.inputs[:_EXAMPLE]))
        network = self._recapture()
        self._architecture = network.architecture
        self._structure = Structure.of(network.architecture)
        self._check()
        self._batch_size = plan_measure(network, self._part, self._settings).batch_size
        self._file = TrackFile(self.path, self._identity(), self.labels)
        self._file.read()  # so that a file of another run is refused before the training begins

    @functools.cached_property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """By measure, the places (layers, pairs, injections) that its numbers belong to."""
        layers = tuple(f"layer {layer.index}" for layer in self._structure.layers)
        found = {name: places_of(self._structure, name) for name in self._measures()}
        if "norms" in self.quantities:
            found |= dict.fromkeys(NORMS, layers)
        if _EFFECTIVE.issubset(self.quantities):
            found |= {"effective_parameters": layers, "effective_parameters_total": ("",)}
        return found

    def update(self, epoch: int) -> TrackedEpoch | None:
        """Measure the module as it is now and append a line; nothing at epochs that ``every`` leaves out.

        Args:
            epoch: from 0; lines of this and of later epochs, from a run that was interrupted, are replaced.

        Raises:
            InputError: the module's structure has changed.
            CaptureError: the module cannot be captured any more, e.g. because its weights are no longer finite.
        """
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0:
            raise InputError("an epoch from 0", repr(epoch)[:100], "count epochs with whole numbers")
        if epoch % self.every:
            return None
        network = self._recapture()
        if network.architecture != self._architecture:
            do = "track it with a new Tracker and another path"
            raise InputError("the network that the tracker began with", "one of another structure", do)
        with torch.no_grad():
            record = TrackedEpoch(epoch, self._measure(network))
        self._file.append(record)
        return record

    def history(self) -> list[TrackedEpoch]:
        """All records in the file, those of an earlier, interrupted run included."""
        return self._file.read()

    def _check(self) -> None:
        if not self._structure.layers:
            raise InputError("a network with a linear or convolution layer", "none", "track another network")
        if self._part.has_labels and self._part.num_classes > self._architecture.num_outputs:
            expected = f"a network with one output for each of the {self._part.num_classes} classes"
            got = f"{self._architecture.num_outputs} outputs"
            raise InputError(expected, got, "use the data this network is trained on")

    def _identity(self) -> str:
        scaling = [self._preprocess.scale, list(self._preprocess.mean), list(self._preprocess.std)]
        parts = [self._architecture.content_hash, self._part.content_hash, scaling, self._settings.identity()]
        return hashlib.sha256(json.dumps([*parts, sorted(self.quantities)]).encode()).hexdigest()

    def _wanted(self) -> list[str]:
        groups = (name for name in PRODUCERS if name in self.quantities)
        return [name for name in groups if not PRODUCERS[name].problem(self._structure)]

    def _measures(self) -> list[str]:
        names = [measure for name in self._wanted() for measure in _SHOWN[name]]
        return [name for name in names if name != "margin" or self._part.has_labels]

    def _measure(self, network: Network) -> dict[str, Statistics]:
        columns = self._columns(network)
        found: dict[str, tuple[Distribution, ...]] = {}
        for name in self._measures():
            values = columns[_STORED_AS.get(name, name)]
            values = values[:, None] if values.ndim == 1 else values
            found[name] = tuple(
                reduce_values(column, name, place) for place, column in zip(self.labels[name], values.T, strict=True)
            )
        result = {name: _statistics(distributions) for name, distributions in found.items()}
        weights = self._weights(network) if "norms" in self.quantities else [_NO_WEIGHTS] * len(self._structure.layers)
        if "norms" in self.quantities:
            result |= {name: {"value": tuple(_finite(getattr(w, name)) for w in weights)} for name in NORMS}
        if _EFFECTIVE.issubset(self.quantities):
            nothing = (None,) * len(weights)
            rows = layer_rows(self._architecture, self._structure, weights, found, nothing)
            effective = tuple(_finite(row.effective_parameters.worst) for row in rows)
            known = [value for value in effective if value is not None]
            total = math.fsum(known) if len(known) == len(effective) else None
            result["effective_parameters"] = {"value": effective}
            result["effective_parameters_total"] = {"value": (total,)}
        return result

    def _columns(self, network: Network) -> Columns:
        """Every example's values, ``[n, ...]`` by name."""
        settings, device = self._settings, self._settings.device
        parameters = {
            name: value.to(device, settings.torch_dtype) if value.is_floating_point() else value.to(device)
            for name, value in network.parameters.items()
        }
        count = len(self._part)
        context = functools.partial(self._context, parameters)
        pilot = functools.partial(context, np.linspace(0, count - 1, min(count, 32)).astype(np.int64))
        preparation = Preparation(self._structure, self._architecture, parameters, settings, pilot)
        prepared = {name: PRODUCERS[name].prepare(preparation) for name in self._wanted()}
        batches = []
        for start in range(0, count, self._batch_size):
            batch = context(np.arange(start, min(start + self._batch_size, count), dtype=np.int64))
            arrays: dict[str, NDArray[np.floating]] = {}
            for name in prepared:
                made = PRODUCERS[name].compute(batch, settings, prepared[name])
                arrays |= {key: as_array(value, settings) for key, value in made.items()}
            batches.append({**arrays, **derive(arrays, self._structure, settings)})
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    def _context(self, parameters: Mapping[str, Tensor], index: NDArray[np.int64]) -> BatchContext:
        device = self._settings.device
        x = self._preprocess(self._part.inputs[index]).to(device, self._settings.torch_dtype)
        labels = self._part.labels[index] if self._part.has_labels else np.zeros(len(index), np.int64)
        return BatchContext(
            structure=self._structure,
            architecture=self._architecture,
            parameters=parameters,
            linearisation=Linearisation(self._architecture, parameters, x),
            labels=torch.from_numpy(np.array(labels)).to(device),
            index=torch.from_numpy(index),
            num_samples=len(self._part),
        )

    def _weights(self, network: Network) -> list[LayerWeights]:
        found = []
        for layer in self._structure.layers:
            weight = network.parameters[layer.weight]
            frobenius, top = frobenius_norm(weight), reshaped_spectral_norm(weight)
            rank = (frobenius / top) ** 2 if top > 0 else None
            found.append(LayerWeights(frobenius, top, math.nan, norm_21(weight), math.nan, rank))
        return found


_NO_WEIGHTS = LayerWeights(math.nan, math.nan, math.nan, math.nan, math.nan, None)


def _subsample(sample: Sample, count: int, seed: int) -> Sample:
    if count >= len(sample):
        return sample
    chosen = np.sort(stream(seed, "track/subsample").choice(len(sample), count, replace=False))
    return sample.take(chosen)


def _statistics(distributions: tuple[Distribution, ...]) -> Statistics:
    rows = [(d.worst, d.quantiles.get(0.5), d.mean, d.quantiles.get(0.1), d.quantiles.get(0.9)) for d in distributions]
    return {name: tuple(_finite(row[k]) for row in rows) for k, name in enumerate(STATISTICS)}


def _finite(value: float | None) -> float | None:
    """Nine digits, all that float32 has; what JSON cannot say (NaN, infinity) is nothing."""
    return float(f"{value:.9g}") if value is not None and math.isfinite(value) else None
