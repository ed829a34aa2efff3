"""The stability profile: every noise-stability number of one network on one sample, as data.

Source of the quantities: Arora 2018 section 3 and 5 as corrected in docs/theory.md section 3.1. These are *measures*:
they say why a network can be compressed, and are never a guarantee. The JSON form is canonical; reading it checks
types, ranges and that its parts fit together, NOT that its numbers are true.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bitcert.canonical import Former, Source, StoredOfNetwork, check_keys, require
from bitcert.errors import unknown_name
from bitcert.linear.tails import TailSummary
from bitcert.stability.reduction import NUM_BINS, QUANTITY, AttenuationCurve, Distribution, SmoothnessSummary
from bitcert.stability.settings import MeasureSettings

_LARGEST_EDGE = 1e100
"""Beyond what float32 measures give; figures could not be drawn at the end of float64's range."""


@dataclass(frozen=True)
class Reduced:
    """The worst value of a quantity over the sample, and the value after ζ outliers; ``None`` where not measured."""

    worst: float | None
    zeta: float | None


@dataclass(frozen=True)
class LayerSpectrum:
    """Singular values of a layer's matrix (a convolution's kernel as ``[channels, rest]``), descending."""

    index: int
    singular_values: tuple[float, ...]


@dataclass(frozen=True)
class LayerRow:
    """One row of the table of layers; ``None`` where a quantity was not measured.

    Attributes:
        index, node, op: number from 1, node and operation.
        shape: of the weight.
        channels, positions, kernel_size, stride: as in :class:`bitcert.stability.layers.MeasuredLayer`.
        parameters: entries of weight and bias.
        frobenius: ``‖A‖_F`` of the parameter.
        spectral_reshaped: largest singular value of the parameter as a matrix ``[out, rest]``.
        spectral_operator: of the linear map at the real input size; the same for a dense layer.
        norm_21: ``‖A‖_{2,1}``; ``norm_1inf``: ``‖A‖_{1,∞}``, with the conventions of :mod:`bitcert.linear`.
        stable_rank: ``‖A‖_F² / ‖A‖_2²`` of the matrix ``[out, rest]``.
        weight_tail, eigen_tail: power law of ``|w|`` and of the eigenvalues of ``A Aᵀ``.
        layer_cushion, minimal_cushion, minimal_cushion_unclipped: ``μ_i``, ``μ_{i→}`` (minima).
        beta: spread of the Jacobians from this layer, the largest over the pairs; 1 where it has a single position.
        contraction: ``c_i`` of what lies between the layers before and this one, as the proof of Lemma 3 uses it; 1 for
            a layer that the network's input feeds.
        contraction_after: the largest of the layers that this one feeds; 1 if it feeds none.
        distance_frobenius, distance_21: of the weight from its initial value, when that was given.
        effective_parameters: ``c_i² β_i² ⌈κ/s⌉² / (μ_i² μ_{i→}²)`` (Arora 2018 Table 1), constants and logs dropped.
        effective_parameters_after: the same with ``contraction_after`` (Table 1 does not say which, docs/theory.md
        erratum 19). compression_percent: 100 times ``effective_parameters`` over the number of weights.
    """

    index: int
    node: str
    op: str
    shape: tuple[int, ...]
    channels: int
    positions: int
    kernel_size: int
    stride: int
    parameters: int
    frobenius: float | None
    spectral_reshaped: float | None
    spectral_operator: float | None
    norm_21: float | None
    norm_1inf: float | None
    stable_rank: float | None
    weight_tail: TailSummary | None
    eigen_tail: TailSummary | None
    layer_cushion: Reduced
    minimal_cushion: Reduced
    minimal_cushion_unclipped: Reduced
    beta: Reduced
    contraction: Reduced
    contraction_after: Reduced
    distance_frobenius: float | None
    distance_21: float | None
    effective_parameters: Reduced
    effective_parameters_after: Reduced
    compression_percent: Reduced


@dataclass(frozen=True)
class Hypothesis:
    """A condition that some bound needs, whether it holds here (``None``: not measured), and the numbers behind it."""

    name: str
    holds: bool | None
    detail: str


@dataclass(frozen=True)
class StabilityProfile(StoredOfNetwork):
    """What :func:`bitcert.stability.measure` returns; two are equal if all but their arrays are.

    Attributes:
        network: ``name``, ``content_hash``, ``num_parameters``, ``chain``, ``bias_free``, ``relu_only``.
        sample: ``name``, ``content_hash``, ``num_samples``, ``measured``.
        settings: of the run, as :meth:`MeasureSettings.describe`.
        layers: one row for each measured weight layer.
        pairs: ``(i, j)`` with a path from layer ``i`` to layer ``j``, in the order of the distributions.
        distributions: by quantity; one for each layer, pair, injection (0 = input) or one in all, see
            :data:`~bitcert.stability.reduction.QUANTITY`. A quantity that was not measured
            is absent. The contraction of a layer is of what feeds it.
        attenuation: one curve for each noise level and injection.
        spectra: singular values of each layer, when measured.
        smoothness: ``1/ρ_δ``, when measured.
        hypotheses: conditions of the bounds and whether they hold here.
        notes: what was left out and why, one sentence each.
        twin: the profile of the untrained twin, when asked for.
        arrays: every example's values by quantity, ``[n, ...]``, with ``keep``; not part of the JSON.
    """

    SOURCE: ClassVar = Source(
        *("profile.json", "bitcert", "bitcert-profile-2"),
        Former(
            "bitcert-profile-1",
            "contractions leave out what pools between two layers",
            "measure the network again",
        ),
    )

    network: Mapping[str, Any]
    sample: Mapping[str, Any]
    settings: Mapping[str, Any]
    layers: tuple[LayerRow, ...]
    pairs: tuple[tuple[int, int], ...]
    distributions: Mapping[str, tuple[Distribution, ...]]
    attenuation: tuple[AttenuationCurve, ...]
    spectra: tuple[LayerSpectrum, ...]
    smoothness: SmoothnessSummary | None
    hypotheses: tuple[Hypothesis, ...]
    notes: tuple[str, ...]
    twin: StabilityProfile | None = None
    arrays: Mapping[str, NDArray[np.floating]] | None = field(default=None, compare=False, metadata={"stored": False})

    __hash__ = None  # type: ignore[assignment]

    def arrays_npz(self) -> bytes | None:
        """Content of ``profile.npz`` (no pickle): :attr:`arrays` by name, or ``None`` without them."""
        if self.arrays is None:
            return None
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{name: np.asarray(a) for name, a in self.arrays.items()})
        return buffer.getvalue()

    def distribution(self, quantity: str, place: int | str | None = None) -> Distribution:
        """One distribution.

        Args:
            quantity: a key of :attr:`distributions`.
            place: number of the layer (or, for a pair, ``"i,j"`` or ``"i→j"``); ``None`` where there is only one.

        Raises:
            InputError: for a quantity or place that was not measured.
        """
        if quantity not in self.distributions:
            raise unknown_name("measured quantity", quantity, self.distributions)
        found = self.distributions[quantity]
        if place is None and len(found) == 1:
            return found[0]
        labels = {d.label: d for d in found}
        wanted = f"layer {place}" if isinstance(place, int) else str(place).replace(" ", "").replace(",", "→")
        match = labels.get(wanted) or labels.get(str(place))
        if match is None:
            raise unknown_name(f"place of {quantity}", str(place), labels)
        return match

    def check(self) -> None:
        """Check what a display relies on: one distribution for each layer, pair or injection, sane indices.

        Raises:
            FormatProblem: naming the part that does not fit.
            InputError: for settings that cannot be.
        """
        check_keys(self.network, _NETWORK, "network")
        check_keys(self.sample, _SAMPLE, "sample")
        MeasureSettings.from_description(self.settings)
        depth = len(self.layers)
        require(
            [row.index for row in self.layers] == list(range(1, depth + 1)), "layers that are not numbered 1, 2, .."
        )
        require(all(1 <= i < j <= depth for i, j in self.pairs), "a pair of layers that do not exist")
        require(len(set(self.pairs)) == len(self.pairs), "a pair of layers given twice")
        at = {"layer": depth, "pair": len(self.pairs), "injection": depth + 1, "network": 1}
        sizes = {name: at[quantity.place] for name, quantity in QUANTITY.items() if quantity.place in at}
        for name, found in self.distributions.items():
            require(name in sizes, f"an unknown quantity {name[:60]!r}")
            require(len(found) == sizes[name], f"{len(found)} distributions of {name} where {sizes[name]} belong")
            for d in found:
                _check_distribution(d, name, self.sample["measured"])
        _check_curves(self.attenuation, depth)
        numbers = [spectrum.index for spectrum in self.spectra]
        require(
            numbers == sorted(set(numbers)) and set(numbers) <= set(range(1, depth + 1)), "spectra of unknown layers"
        )
        if self.twin is not None:
            require(self.twin.twin is None, "a twin of a twin")
            self.twin.check()


_NETWORK = {
    "name": str,
    "content_hash": str,
    "num_parameters": int,
    "chain": bool,
    "bias_free": bool,
    "relu_only": bool,
}
_SAMPLE = {"name": str, "content_hash": str, "num_samples": int, "measured": int}


def _check_distribution(d: Distribution, name: str, measured: int) -> None:
    require(d.name == name, f"a distribution of {d.name[:60]!r} among those of {name}")
    require(min(d.count, d.skipped, d.infinite) >= 0 and d.count + d.skipped == measured, f"counts of {name}")
    require(d.reduction in ("min", "max", None), f"a reduction of {name}")
    require((d.minimum is None) == (d.count == 0) == (not d.quantiles), f"{name} with values for no examples")
    require(all(0 <= index < measured for index in d.zeta_dropped), f"dropped examples of {name}")
    require(d.worst_index is None or 0 <= d.worst_index < measured, f"the worst example of {name}")
    if d.histogram is not None:
        edges, counts = d.histogram.edges, d.histogram.counts
        require(2 <= len(counts) + 1 == len(edges) <= NUM_BINS + 1, f"a histogram of {name}")
        require(_increasing(edges) and min(counts) >= 0, f"a histogram of {name}")
        require(all(abs(edge) <= _LARGEST_EDGE for edge in edges), f"a histogram of {name}")


def _increasing(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _check_curves(curves: tuple[AttenuationCurve, ...], depth: int) -> None:
    for curve in curves:
        require(0 <= curve.injection <= depth, "an attenuation curve of an unknown layer")
        require(all(1 <= j <= depth for j in curve.targets), "an attenuation curve to an unknown layer")
        series = (curve.mean, curve.lower, curve.median, curve.upper, curve.skipped)
        require(all(len(s) == len(curve.targets) for s in series), "an attenuation curve of uneven lengths")
