"""How the bounds of a network are computed: margin, failure probability, outliers, what is measured.

A setting that cannot be used is refused when it is made, in one sentence. The settings do NOT decide which rows there
are: every bound gets its row, and what was switched off is named there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bitcert.errors import InputError
from bitcert.stability import MeasureSettings
from bitcert.stability.settings import number

MARGIN_QUANTILE = 0.05
"""The papers take the margin that 5 % or 10 % of the training examples do not exceed."""

_CLEAR = 0.8
"""Share of it that may be wrong: the margin at the quantile is then of examples that are right."""


def positive_quantile(error_rate: float | None) -> float:
    """The quantile of a margin above 0: :data:`MARGIN_QUANTILE`, or that much above the share of wrong examples.

    >>> positive_quantile(0.01), positive_quantile(0.3)
    (0.05, 0.35)
    """
    wrong = error_rate or 0.0
    return MARGIN_QUANTILE if wrong < _CLEAR * MARGIN_QUANTILE else min(0.999, round(wrong + MARGIN_QUANTILE, 3))


QUANTITIES = ("layer_cushion", "interlayer_cushion", "contraction", "smoothness")
"""Groups of a stability profile that the bounds need."""

_SHARED = ("seed", "zeta", "device")
"""Settings of a measurement that are those of the bounds."""


@dataclass(frozen=True)
class BoundSettings:
    """What the bounds are computed with.

    Args:
        gamma: the margin, above 0 and below the largest training margin; ``None`` to take a quantile.
        margin_quantile: share of the training examples whose margin is at most ``gamma``, in (0, 1); 0.05 if neither
            is given. Only one of the two may be given.
        delta: failure probability of the guarantees, in (0, 1).
        zeta: share of the examples that may be left out as outliers when a profile is measured, in [0, 1).
        seed: of the named random streams.
        profile: whether noise stability is measured when no profile is given; rows that need it say so otherwise.
        profile_samples: examples that it is measured on, drawn as ``bitcert measure --samples`` does; ``None``: all.
        flatness: whether the flatness of the training error is measured.
        device: ``"cpu"`` or a device torch can use, for the passes over the sample.
        measure: how noise stability is measured; seed, zeta and device are those given here.

    Raises:
        InputError: for a value outside its range.

    >>> BoundSettings().quantile
    0.05
    >>> BoundSettings(gamma=1.5).quantile is None
    True
    """

    gamma: float | None = None
    margin_quantile: float | None = None
    delta: float = 0.05
    zeta: float = 0.01
    seed: int = 0
    profile: bool = True
    profile_samples: int | None = None
    flatness: bool = True
    device: str = "cpu"
    measure: MeasureSettings = field(default_factory=lambda: MeasureSettings(quantities=QUANTITIES))

    def __post_init__(self) -> None:
        if self.gamma is not None and self.margin_quantile is not None:
            raise InputError("a margin or its quantile", "both", "leave out one of gamma and margin_quantile")
        quantile, count = self.margin_quantile, self.profile_samples
        gamma_fits = self.gamma is None or 0 < number(self.gamma) < math.inf
        count_fits = count is None or (isinstance(count, int) and not isinstance(count, bool) and 1 <= count < 1 << 63)
        checks = {
            "gamma": (gamma_fits, "a positive number", "pass a margin above 0, or leave it out"),
            "margin_quantile": (quantile is None or 0 < number(quantile) < 1, "a number in (0, 1)", "pass e.g. 0.05"),
            "delta": (0 < number(self.delta) < 1, "a number in (0, 1)", "pass e.g. 0.05"),
            "profile": (isinstance(self.profile, bool), "True or False", "pass one of the two"),
            "flatness": (isinstance(self.flatness, bool), "True or False", "pass one of the two"),
            "profile_samples": (count_fits, "a whole number of at least 1", "leave it out for all examples"),
        }
        for name, (fits, allowed, do) in checks.items():
            if not fits:
                raise InputError(f"{name} as {allowed}", repr(getattr(self, name))[:100], do)
        if not isinstance(self.measure, MeasureSettings):
            got = type(self.measure).__name__
            raise InputError("measure as MeasureSettings", got, "pass MeasureSettings(...), or leave it out")
        # the ranges of seed, zeta and device are those of a measurement; checked here, before any work
        measure = replace(self.measure, **{name: getattr(self, name) for name in _SHARED})
        object.__setattr__(self, "measure", measure)

    @property
    def quantile(self) -> float | None:
        """The margin's quantile, or ``None`` where the margin itself is given."""
        if self.gamma is not None:
            return None
        return MARGIN_QUANTILE if self.margin_quantile is None else self.margin_quantile

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values; those of the measurement under ``measure.<name>``."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "measure"}
        own["margin_quantile"] = self.quantile
        inner = {f"measure.{key}": value for key, value in self.measure.describe().items() if key not in _SHARED}
        return {**own, **inner}
