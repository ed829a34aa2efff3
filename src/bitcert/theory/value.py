"""What a bound says of one network: a number in log domain, its conditions, and everything to recompute it by hand.

Values are natural logarithms, because products of norms over fifty layers leave the range of a float. A value that
cannot be computed is not a number at all: the bound then says what it would need, or why it does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TypeVar

from bitcert.errors import listed
from bitcert.stability.profile import Hypothesis

Ingredient = float | int | bool | str | None | tuple[float | None, ...]
"""A number that went into a bound (or one for each layer)."""

T = TypeVar("T")

MAX_LOG = math.log(1.7e308)


class Kind(StrEnum):
    """What may be concluded from a row."""

    GUARANTEE = "guarantee"
    """Holds with probability ``1 - delta``, every constant present."""
    MEASURE = "measure"
    """Asymptotic, constants or logarithms dropped, or a quantity without a theorem."""


class Unit(StrEnum):
    """What the value of a row is."""

    SAMPLES = "samples"
    """A capacity: the generalization gap is of order ``sqrt(value / m)``."""
    ERROR = "error"
    """A bound on the probability of an error."""
    GAP = "gap"
    """A bound on, or an estimate of, the generalization gap itself."""
    PLAIN = "plain"
    """A quantity by which networks are compared; no number of errors follows from it."""


class Status(StrEnum):
    """Whether a theorem speaks of this network."""

    HOLDS = "applies"
    UNKNOWN = "conditions unknown"
    FAILS = "conditions fail"
    OUTSIDE = "does not apply"
    NEEDS = "needs more"

    @property
    def applies(self) -> bool | None:
        """``None`` where a condition could not be checked."""
        return {Status.HOLDS: True, Status.UNKNOWN: None}.get(self, False)


Condition = Hypothesis
"""A hypothesis of a theorem, whether it holds here (``None``: cannot be told), and the numbers behind it."""


def in_every_layer(name: str, failing: Sequence[str], otherwise: str = "in every layer") -> Condition:
    """A condition on each layer, which some are ``failing``.

    >>> in_every_layer("small", ["conv1"]).detail
    'not in conv1'
    """
    return Condition(name, not failing, f"not in {listed(failing)}" if failing else otherwise)


@dataclass(frozen=True)
class Absent:
    """Stands for an ingredient that is not there: ``status`` is ``NEEDS`` or ``OUTSIDE``, ``why`` one sentence."""

    status: Status
    why: str


TRUST = "taken on trust"
"""How the detail of a condition begins that no program can check."""


class NotComputed(Exception):
    """A bound met an ingredient that is not there; :class:`~bitcert.theory.registry.Bound` turns it into a row."""

    def __init__(self, absent: Absent) -> None:
        self.absent = absent
        super().__init__(absent.why)


def need(value: T | Absent) -> T:
    """The ingredient.

    Raises:
        NotComputed: it is absent.
    """
    if isinstance(value, Absent):
        raise NotComputed(value)
    return value


def outside(why: str) -> NotComputed:
    """For ``raise``: the network is outside the theorem's class."""
    return NotComputed(Absent(Status.OUTSIDE, why))


def needs(why: str) -> NotComputed:
    """For ``raise``: something was not given; ``why`` begins with what, e.g. ``"needs --init: ..."``."""
    return NotComputed(Absent(Status.NEEDS, why))


@dataclass(frozen=True)
class LayerValue:
    """One layer's part of a bound, in samples (effective parameters): ``log`` natural, ``actual`` its weights."""

    layer: str
    log: float
    actual: int


@dataclass(frozen=True)
class BoundValue:
    """The result of one bound on one network.

    Attributes:
        log: natural logarithm of the value; ``-inf`` for exactly 0; ``None`` when it was not computed.
        conditions: of the theorem.
        ingredients: by name, so that the row can be recomputed by hand.
        layers: parts of the layers, where the bound is a sum over layers.
        log_printed: the value as the paper prints it, where an erratum changes it.
        probability: with which the claim holds, where the paper states one other than ``1 - delta``.
        notes: choices made here, one sentence each.
        absent: why there is no value.
    """

    log: float | None
    conditions: tuple[Condition, ...] = ()
    ingredients: Mapping[str, Ingredient] = field(default_factory=dict)
    layers: tuple[LayerValue, ...] = ()
    log_printed: float | None = None
    probability: float | None = None
    notes: tuple[str, ...] = ()
    absent: Absent | None = None

    def __post_init__(self) -> None:
        for value in (self.log, self.log_printed, *(layer.log for layer in self.layers)):
            if value is not None and (math.isnan(value) or value == math.inf):
                raise ValueError("a bound that is NaN or infinite; raise outside(...) with the reason")

    @property
    def status(self) -> Status:
        """Whether the theorem speaks of this network."""
        if self.absent is not None:
            return self.absent.status
        held = [condition.holds for condition in self.conditions]
        return Status.FAILS if False in held else Status.UNKNOWN if None in held else Status.HOLDS

    @property
    def why(self) -> str:
        """One sentence: what is missing, what fails, what is unknown, or that every condition holds."""
        if self.absent is not None:
            return self.absent.why
        for verdict, words in ((False, "fails"), (None, "unknown")):
            found = [f"{c.name} ({c.detail})" for c in self.conditions if c.holds is verdict]
            if found:
                return f"{words}: {'; '.join(found)}"
        if not self.conditions:
            return "needs no condition"
        assumed = [c.name for c in self.conditions if c.detail.startswith(TRUST)]
        if len(assumed) == len(self.conditions):
            return f"{TRUST}: {'; '.join(assumed)}"
        told = "every condition holds on this network and sample"
        return f"{told}, as far as it can be checked; {TRUST}: {'; '.join(assumed)}" if assumed else told

    @property
    def value(self) -> float | None:
        """``exp(log)``, or ``None`` where it was not computed or a float cannot hold it."""
        if self.log is None or self.log > MAX_LOG:
            return None
        return math.exp(self.log)

    @property
    def log10(self) -> float | None:
        """Base-10 logarithm; ``None`` where it was not computed or the value is 0."""
        return None if self.log is None or math.isinf(self.log) else self.log / math.log(10)


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
    """A paper's analysis of a codec on one network, to be set beside what was measured.

    A *measure*: it holds under conditions that this network may not meet, and constants that the paper printed or we
    checked. No certificate rests on it.

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
    error: float | None = None
    error_means: str = ""
    probability: float | None = None
    conditions: tuple[Condition, ...] = ()
    layers: tuple[LayerTheory, ...] = ()
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)
