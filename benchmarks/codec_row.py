"""What a row of ``benchmarks/codecs.py`` measures."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measured number beside its target.

    Attributes:
        name: what was done.
        measured, target: in the same unit.
        unit: ``"x"`` for a ratio of times in one run, ``"s"``, ``"%"``, ``"MiB"``.
        at_least: whether larger is better.
        details: what the number was made of.
    """

    name: str
    measured: float
    target: float
    unit: str
    at_least: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return bool(self.measured >= self.target if self.at_least else self.measured <= self.target)

    def describe(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reached": self.reached}


def peak_mebibytes() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
