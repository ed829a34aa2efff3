"""What a paper says of a compression, beside what was measured: frozen records, no computation.

A ``theory()`` is a *measure*: it holds under conditions that this network may not meet, and constants that the paper
printed or we checked. No certificate rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from bitcert.theory.value import Condition

__all__ = ["Condition", "LayerTheory", "Theory"]


@dataclass(frozen=True)
class LayerTheory:
    """The prediction for one layer.

    Attributes:
        layer: name of the weight.
        actual: entries of the weight.
        parameters: numbers the paper counts after compression.
        error: predicted (bound on the) error, in the units of ``Theory.error_means``, or ``None``.
        details: the ingredients by name (rank, stable rank, k, chi, ...), so that the row can be recomputed.
    """

    layer: str
    actual: int
    parameters: float
    error: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Theory:
    """A paper's analysis of a codec on one network.

    Attributes:
        source: paper and number of the statement.
        statement: what it says, with the constants used.
        parameters: total numbers the paper counts (with its constants), or ``None``.
        error: predicted error of the whole network, or ``None`` where the paper gives none.
        error_means: what ``error`` is, in words and a formula.
        probability: with which the statement holds, or ``None``.
        conditions: what it needs, and whether it holds here.
        layers: per layer.
        notes: errata, constants dropped or changed.
    """

    source: str
    statement: str
    parameters: float | None
    error: float | None
    error_means: str
    probability: float | None
    conditions: tuple[Condition, ...] = ()
    layers: tuple[LayerTheory, ...] = ()
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)
