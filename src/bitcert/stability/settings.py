"""What is measured and how: the settings of one run, and the batch that every producer of numbers is given.

A setting that cannot be used is refused when it is made, in one sentence. The settings do NOT say how fast a run is;
:func:`bitcert.stability.plan_measure` does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from bitcert.errors import InputError, unknown_name
from bitcert.network import Architecture
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation

QUANTITIES = (
    "layer_cushion",
    "interlayer_cushion",
    "contraction",
    "attenuation",
    "smoothness",
    "noise_sensitivity",
    "margin",
    "spectra",
)
"""Groups of measures that can be asked for by name, in the order in which they are computed.

``interlayer_cushion`` brings the norms and the spread of the Jacobians and the minimal cushions, ``smoothness`` its
Gaussian surrogate, ``margin`` the norms of input and output, ``spectra`` singular values and tail exponents.
"""

DTYPES = {"float32": torch.float32, "float64": torch.float64}

REDUCTION_ONLY = frozenset({"zeta", "keep", "memory_bytes"})
"""Settings that change no stored number: finished shards of a run that differs only in them are used again."""

LATER = frozenset({"noise_at_inputs"})
"""Settings that profiles of earlier versions do not have; off by default."""

_MAX_LEVELS = 64

_COUNTS = {
    "seed": (0, (1 << 63) - 1),
    "draws": (1, 1 << 20),
    "smoothness_samples": (0, 1 << 40),
    "sensitivity_samples": (0, 1 << 40),
    "sensitivity_draws": (2, 1 << 20),
    "memory_bytes": (1 << 20, 1 << 50),
    "projections": (1, 1 << 32),
    "batch_size": (1, 1 << 32),
}
"""Least and largest value of every whole number."""

_FRACTIONS = {"tolerance": "in (0, 1)", "delta": "in (0, 1)", "zeta": "in [0, 1)"}


@dataclass(frozen=True)
class MeasureSettings:
    """How the noise-stability quantities of docs/theory.md section 3.1 are computed and reduced.

    Args:
        seed: of the named random streams.
        exact: Jacobian norms exactly, however large the layers are; otherwise estimated where that is cheaper.
        tolerance: root-mean-square relative standard error of the Jacobian norms over all pairs (exact ones count
            0), in (0, 1); what was reached, also over the estimated pairs alone, stands in the profile's notes.
        zeta: fraction of the sample that may be dropped as outliers, in [0, 1); 0 drops nothing.
        noise_levels: norms of the injected noise relative to the value it is added to (attenuation).
        noise_at_inputs: whether that noise is added to each layer's input, as Arora 2018 does it, instead of its value.
        draws: noise draws of the interlayer smoothness.
        projections: numbers kept of each layer by Matrix-Project, or ``None`` for as many as are affordable.
        delta: the smoothness is its ``1 - delta`` quantile over the noise, in (0, 1).
        smoothness_samples: how many examples, spread evenly over the sample, the smoothness is measured on, or ``None``
            for as many as a fixed amount of arithmetic allows
            (:func:`bitcert.stability.planning.affordable_smoothness`).
        sensitivity_samples: the same for the noise sensitivity; a number.
        sensitivity_draws: Gaussian draws for each of them, at least 2.
        batch_size: examples computed at a time, or ``None`` to fit ``memory_bytes``.
        dtype: ``"float32"`` or ``"float64"``.
        device: ``"cpu"`` or a device torch can use, e.g. ``"cuda"``.
        keep: keep every example's value in ``profile.arrays``.
        quantities: groups from :data:`QUANTITIES`, or ``None`` for all of them.
        memory_bytes: working memory that the batch size is chosen for.

    Raises:
        InputError: for a value outside its range.

    >>> MeasureSettings(quantities=["margin", "contraction"]).quantities
    ('contraction', 'margin')
    """

    seed: int = 0
    exact: bool = False
    tolerance: float = 0.01
    zeta: float = 0.0
    noise_levels: tuple[float, ...] = (0.1,)
    draws: int = 3
    projections: int | None = None
    delta: float = 0.05
    smoothness_samples: int | None = None
    sensitivity_samples: int = 64
    sensitivity_draws: int = 8
    batch_size: int | None = None
    dtype: str = "float32"
    device: str = "cpu"
    keep: bool = False
    quantities: tuple[str, ...] | None = None
    memory_bytes: int = 1 << 28
    noise_at_inputs: bool = False

    def __post_init__(self) -> None:
        optional = {f.name for f in fields(self) if f.default is None}
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
            if not fits and not (value is None and name in optional):
                self._refuse(name, f"as a whole number from {least} to {most}")
        for name in ("exact", "keep", "noise_at_inputs"):
            if not isinstance(getattr(self, name), bool):
                self._refuse(name, "as True or False", "pass one of the two")
        for name, allowed in _FRACTIONS.items():
            value = number(getattr(self, name))
            if not (0 < value < 1 or ("[" in allowed and value == 0)):
                self._refuse(name, f"as a number {allowed}")
        self._check_levels()
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", str(self.dtype), DTYPES)
        _check_device(self.device)
        self._check_quantities()

    def _refuse(self, name: str, allowed: str, do: str = "pass one in this range") -> None:
        raise InputError(f"{name} {allowed}", repr(getattr(self, name))[:100], do)

    def _check_levels(self) -> None:
        levels = _sequence(self.noise_levels, "noise levels as a sequence of numbers", "(0.1, 0.5)")
        bad = [level for level in levels if not 0 < number(level) < math.inf]
        if bad:
            raise InputError("noise levels that are positive finite numbers", repr(bad[0])[:100], "pass e.g. (0.1,)")
        if not 1 <= len(levels) <= _MAX_LEVELS or len(set(levels)) != len(levels):
            got = f"{len(levels)} of which {len(set(levels))} differ"
            raise InputError(f"1 to {_MAX_LEVELS} different noise levels", got, "leave out what is too many")
        object.__setattr__(self, "noise_levels", tuple(float(level) for level in levels))

    def _check_quantities(self) -> None:
        if self.quantities is None:
            return
        names = _sequence(self.quantities, "quantities as a sequence of names", f"({QUANTITIES[0]!r},)")
        for name in names:
            if name not in QUANTITIES:
                raise unknown_name("quantity", str(name), QUANTITIES)
        if not names:
            raise InputError("at least one quantity", "none", f"choose among {', '.join(QUANTITIES)}")
        object.__setattr__(self, "quantities", tuple(name for name in QUANTITIES if name in names))

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype everything is computed in."""
        return DTYPES[self.dtype]

    @property
    def wanted(self) -> tuple[str, ...]:
        """The groups to be measured."""
        return QUANTITIES if self.quantities is None else self.quantities

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values; those of :data:`LATER` only where they are not the default."""
        every = {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
        return {key: v for key, v in every.items() if v or key not in LATER}

    def identity(self) -> str:
        """Canonical text of everything that determines the stored numbers."""
        content = {key: value for key, value in self.describe().items() if key not in REDUCTION_ONLY}
        return json.dumps(content, sort_keys=True)

    @classmethod
    def from_description(cls, content: Mapping[str, Any]) -> MeasureSettings:
        """The settings that :meth:`describe` describes.

        Raises:
            InputError: for a missing or unknown name or a value that cannot be used.
        """
        names = set(cls.__dataclass_fields__)
        wrongs = sorted(names.symmetric_difference(content) - (LATER - set(content)))
        if wrongs:
            wrong = wrongs[0]
            raise InputError("settings with every name once", f"{wrong[:60]!r} missing or unknown", "correct them")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
        return cls(**values)


@dataclass(frozen=True, eq=False)
class BatchContext:
    """One batch of examples, with what all producers share.

    Attributes:
        structure: layers and how they are connected.
        architecture: the graph.
        parameters: its tensors, in the dtype and on the device of the run.
        linearisation: of this batch; its ``values`` are the clean activations ``[B, ...]``.
        labels: ``[B]`` int64; zeros when the sample has none.
        index: ``[B]`` int64 on the CPU, position of each example in the whole sample; names its random stream.
        num_samples: examples in the whole sample.
    """

    structure: Structure
    architecture: Architecture
    parameters: Mapping[str, Tensor]
    linearisation: Linearisation
    labels: Tensor
    index: Tensor
    num_samples: int

    def among(self, count: int | None) -> Tensor:
        """``[B]`` bool: which examples are among ``count`` that are spread evenly over the whole sample (None: all)."""
        if count is None or count >= self.num_samples:
            return torch.ones(len(self.index), dtype=torch.bool)
        return self.index * count // self.num_samples < (self.index + 1) * count // self.num_samples

    def take(self, rows: Tensor) -> BatchContext:
        """The examples at ``rows`` (positions in this batch) as a batch of their own."""
        if len(rows) == len(self.index):
            return self
        labels = self.labels[rows.to(self.labels.device)]
        return replace(self, linearisation=self.linearisation.take(rows), labels=labels, index=self.index[rows])

    @property
    def values(self) -> Mapping[str, Tensor]:
        """Clean value of the input and of every node, ``[B, ...]``."""
        return self.linearisation.values


def _sequence(value: Any, expected: str, example: str) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise InputError(expected, repr(value)[:100], f"pass e.g. {example}")
    return tuple(value)


def number(value: object) -> float:
    """A number as a float; NaN for anything else, which is in no range."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return math.nan


def _check_device(device: object) -> None:
    try:
        kind = torch.device(device).type if isinstance(device, str) else ""
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda", "mps", "xpu"):
        raise InputError("a device such as cpu or cuda", repr(device)[:100], "pass one of these")


def check_available(device: str) -> None:
    """Refuse a device that this torch cannot use; asked for when work starts, not when settings are read.

    Raises:
        InputError: naming the device.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"a device {device!r} that this torch can use", line, "pass --device cpu") from error
