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
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from bitcert.canonical import FormatProblem, decode, encode_text, parse
from bitcert.data import Sample
from bitcert.decoder import Preprocessing, example_for
from bitcert.errors import DecodeError, InputError, unknown_name
from bitcert.linear.norms import frobenius_norm, norm_21, reshaped_spectral_norm
from bitcert.locking import replacing
from bitcert.network import Network
from bitcert.network.recapture import Recapture
from bitcert.stability.assembly import labels as places_of
from bitcert.stability.layers import Structure
from bitcert.stability.planning import drawn, plan_measure
from bitcert.stability.producers import SamplePass, wanted_of
from bitcert.stability.reduction import Distribution, reduce_values, stored_as
from bitcert.stability.settings import MeasureSettings
from bitcert.stability.table import sampled_columns

__all__ = ["TRACKABLE", "TrackedEpoch", "Tracker"]

NORMS = ("frobenius", "spectral_reshaped", "norm_21", "stable_rank")
_EFFECTIVE = {"layer_cushion", "interlayer_cushion", "contraction"}
_SHOWN = {
    "layer_cushion": ("layer_cushion",),
    "interlayer_cushion": ("interlayer_cushion", "minimal_interlayer_cushion", "jacobian_spread"),
    "contraction": ("contraction",),
    "smoothness": ("smoothness", "smoothness_gaussian"),
    "noise_sensitivity": ("noise_sensitivity",),
    "margin": ("margin", "output_norm"),
}
TRACKABLE = (*_SHOWN, "norms")
"""What can be tracked; the first three together bring the effective parameters too."""

_EXAMPLE = 4
_PILOT_SIZE = 32

FORMAT = "bitcert-track-2"
_FORMER = "bitcert-track-1"
STATISTICS = ("worst", "median", "mean", "low", "high")
"""Over the examples: the extreme that the theory uses, then the 50 % quantile, the mean, the 10 and 90 % quantiles."""

_MAX_BYTES = 1 << 30

Statistics = Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class TrackedEpoch:
    """What was measured at one epoch.

    Attributes:
        epoch: its number.
        values: by measure, by statistic (:data:`STATISTICS`; ``"value"`` for what is one number), one number for
            every place of ``Tracker.labels``; ``None`` where nothing finite was measured.
    """

    epoch: int
    values: Mapping[str, Statistics]


@dataclass(frozen=True, eq=False)
class TrackFile:
    """The file of a :class:`Tracker`: a header line, then one JSON line an epoch.

    A line is appended with one write and brought to the disk before the call returns; a line that a killed process left
    half written is dropped when the file is next opened. Replacing lines writes a new file beside and renames it. It
    does NOT lock the file: two runs that append to one file at a time spoil each other's record.

    Args:
        path: made when the first record is written.
        identity: hash of everything that determines the numbers but the weights.
        labels: the places of every measure.
    """

    path: Path
    identity: str
    labels: Mapping[str, Sequence[str]]

    def read(self) -> list[TrackedEpoch]:
        """The records in the order of their epochs; a damaged last line is left out.

        Raises:
            InputError: the file is of another run or damaged elsewhere.
        """
        return [record for _, record in self._records()]

    def append(self, record: TrackedEpoch) -> None:
        """Write a record; records of this and of later epochs, and a damaged last line, are dropped first.

        Raises:
            InputError: as :meth:`read`.
            OSError: when the disk is full or fails.
        """
        line = encode_text(record).encode()
        kept = b"".join([self._header, *(old for old, known in self._records() if known.epoch < record.epoch)])
        if self.path.exists() and self.path.stat().st_size == len(kept):
            self._write(self.path, "ab", line)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial:
            self._write(partial, "wb", kept + line)

    def _write(self, path: Path, mode: Literal["ab", "wb"], content: bytes) -> None:
        with open(path, mode, buffering=0) as file:
            if file.write(content) != len(content):
                raise OSError(f"only part of a line could be written to {self.path}")
            os.fsync(file.fileno())

    @property
    def _header(self) -> bytes:
        labels = {name: list(places) for name, places in self.labels.items()}
        return encode_text({"format": FORMAT, "identity": self.identity, "labels": labels}).encode()

    def _records(self) -> list[tuple[bytes, TrackedEpoch]]:
        """Complete lines after the header, and what they say; none when there is no file yet."""
        if not self.path.exists():
            return []
        if self.path.stat().st_size > _MAX_BYTES:
            raise self._other(f"more than {_MAX_BYTES >> 20} MiB")
        header, content = self._header, self.path.read_bytes()
        if header.startswith(content):
            return []  # killed before the header was whole, or just after
        lines = content.splitlines(keepends=True)
        if len(lines) > 1 and (not lines[-1].endswith(b"\n") or _parsed(lines[-1]) is None):
            lines.pop()
        if lines[0] != header:
            ours = _parsed(lines[0])
            found = str(ours.get("format")) if isinstance(ours, dict) else ""
            known = {
                FORMAT: "that of another network, sample or setting",
                _FORMER: "one of an earlier version, whose contractions leave out what pools between two layers",
            }
            raise self._other(known.get(found, "another kind of file"))
        return [(line, _record(line, number, self.path)) for number, line in enumerate(lines[1:], start=2)]

    def _other(self, got: str) -> InputError:
        return InputError(f"this run's record at {self.path}", got, "choose another path, or delete that file")


def _parsed(line: bytes) -> Any:
    try:
        return parse(line.decode(), "a line of JSON")
    except (DecodeError, UnicodeDecodeError):
        return None


def _record(line: bytes, number: int, path: Path) -> TrackedEpoch:
    try:
        record = decode(TrackedEpoch, _parsed(line))
        numbers = (x for found in record.values.values() for series in found.values() for x in series if x is not None)
        if not all(map(math.isfinite, numbers)):
            raise FormatProblem("a number that is not finite")
        return record
    except FormatProblem:
        got = f"line {number} that is none"
        raise InputError(f"one record a line in {path}", got, "delete the file, or restore it") from None


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
        self._part = drawn(self.sample, self.samples, self.seed, "track/subsample")
        self._preprocess = self.preprocessing or Preprocessing.usual(self.sample)
        self._recapture = Recapture(self.model, example_for(self.model, self._part, self._preprocess, _EXAMPLE))
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

    def _measures(self) -> list[str]:
        names = [measure for name in wanted_of(self.quantities, self._structure) for measure in _SHOWN[name]]
        return [name for name in names if name != "margin" or self._part.has_labels]

    def _measure(self, network: Network) -> dict[str, Statistics]:
        run = SamplePass(network, self._part, self._settings, self._preprocess, self._structure, _PILOT_SIZE)
        columns = run.arrays(0, len(self._part), self._batch_size)
        found: dict[str, tuple[Distribution, ...]] = {}
        for name in self._measures():
            values = columns[stored_as(name)]
            values = values[:, None] if values.ndim == 1 else values
            found[name] = tuple(
                reduce_values(column, name, place) for place, column in zip(self.labels[name], values.T, strict=True)
            )
        result = {name: _statistics(distributions) for name, distributions in found.items()}
        if "norms" in self.quantities:
            norms = zip(*self._norms(network), strict=True)
            result |= {name: {"value": tuple(map(_finite, own))} for name, own in zip(NORMS, norms, strict=True)}
        if _EFFECTIVE.issubset(self.quantities):
            rows = sampled_columns(self._structure, found)
            effective = tuple(_finite(row["effective_parameters"].worst) for row in rows)
            known = [value for value in effective if value is not None]
            total = math.fsum(known) if len(known) == len(effective) else None
            result["effective_parameters"] = {"value": effective}
            result["effective_parameters_total"] = {"value": (total,)}
        return result

    def _norms(self, network: Network) -> Iterator[tuple[float | None, ...]]:
        """Of every layer, in the order of :data:`NORMS`."""
        for layer in self._structure.layers:
            weight = network.parameters[layer.weight]
            frobenius, top = frobenius_norm(weight), reshaped_spectral_norm(weight)
            yield frobenius, top, norm_21(weight), (frobenius / top) ** 2 if top > 0 else None


def _statistics(distributions: tuple[Distribution, ...]) -> Statistics:
    rows = [(d.worst, d.quantiles.get(0.5), d.mean, d.quantiles.get(0.1), d.quantiles.get(0.9)) for d in distributions]
    return {name: tuple(_finite(row[k]) for row in rows) for k, name in enumerate(STATISTICS)}


def _finite(value: float | None) -> float | None:
    """Nine digits, all that float32 has; what JSON cannot say (NaN, infinity) is nothing."""
    return float(f"{value:.9g}") if value is not None and math.isfinite(value) else None
