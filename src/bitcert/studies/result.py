"""What a study found, as data: the paper's numbers beside ours, figures to be drawn, what was trained.

The JSON form is canonical, and a file is read by the types of the fields. Reading does NOT check that numbers are true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Literal

from bitcert.canonical import Source, Stored, finite

LOGARITHMS = ("ln", "log10")
Numbers = tuple[float | None, ...]


class Size(StrEnum):
    """How much of the paper's protocol is carried out."""

    QUICK = "quick"
    DEFAULT = "default"
    FULL = "full"


@dataclass(frozen=True)
class Row:
    """A quantity as the paper prints it and as it came out here; ``None`` where there is none.

    Attributes:
        quantity: what it is.
        paper, ours: the two numbers, in ``unit``.
        comment: what the reader has to know to compare them.
        unit: ``"%"``, ``"ln"`` and ``"log10"`` are compared by their difference, anything else by its ratio.
    """

    quantity: str
    paper: float | None
    ours: float | None
    comment: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        for name in ("paper", "ours"):
            object.__setattr__(self, name, finite(getattr(self, name)))

    @property
    def compared(self) -> str:
        """Ours as a multiple of the paper's, or how many points more it is; empty where one of them is missing.

        >>> Row("bits", 200.0, 100.0).compared, Row("error", 10.0, 12.5, unit="%").compared
        ('× 0.5', '+2.5 points')
        """
        if self.paper is None or self.ours is None:
            return ""
        if self.unit == "%":
            return f"{self.ours - self.paper:+.3g} points"
        if self.unit in LOGARITHMS:
            return f"{self.ours - self.paper:+.3g}"
        return f"× {self.ours / self.paper:.3g}" if self.paper else ""


@dataclass(frozen=True)
class Curve:
    """Points of one name. ``paper`` marks what the paper itself prints."""

    label: str
    x: Numbers
    y: Numbers
    look: Literal["line", "points", "both", "dashed", "steps"] = "line"
    paper: bool = False

    @classmethod
    def of(cls, label: str, x: Iterable[float | None], y: Iterable[float | None], **look: Any) -> Curve:
        """From any numbers; what is not finite is left out of the drawing."""
        return cls(label, tuple(map(finite, x)), tuple(map(finite, y)), **look)


@dataclass(frozen=True)
class Field:
    """A function of two variables, drawn as contour lines: ``values[k][j]`` at ``(x[j], y[k])``."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[Numbers, ...]
    levels: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes: their names, what is drawn in them, and ``names`` said at 0, 1, 2, ... of the first axis."""

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...] = ()
    log_x: bool = False
    log_y: bool = False
    field: Field | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """Panels below each other, and what is said of them."""

    title: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Trained:
    """A network that was trained for a study.

    Attributes:
        name: of the network and its data.
        parameters: how many it has.
        epochs, seconds: of training, interrupted sittings included.
        train_error, test_error: shares of wrong examples (``None`` where not counted).
        cores: threads of torch.
        settings: optimiser, rates, seed.
    """

    name: str
    parameters: int
    epochs: int
    seconds: float
    train_error: float | None
    test_error: float | None
    cores: int
    settings: str


@dataclass(frozen=True)
class Outcome:
    """What the function of a study returns.

    Attributes:
        rows: the table.
        figures: to be drawn as ``figure.svg``, ``figure-2.svg``, ...
        findings: what was found, one sentence each, made from the numbers.
        scaled: which part of the paper's protocol was scaled, and how; empty where none was.
        trained: the networks.
        settings: everything else that the numbers depend on, as JSON values.
    """

    rows: tuple[Row, ...]
    figures: tuple[Figure, ...] = ()
    findings: tuple[str, ...] = ()
    scaled: str = ""
    trained: tuple[Trained, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyResult(Stored):
    """An outcome with what it is the outcome of.

    Attributes:
        study, title, printed: as in :class:`bitcert.studies.study.Study`.
        size, seed: how it was run.
        seconds: of this run; finished pieces and networks of earlier ones are not counted again.
        cores: threads of torch.
        versions: of the program and of what its numbers depend on.
    """

    SOURCE: ClassVar = Source("result.json", "bitcert study", "bitcert-study-1")

    study: str
    title: str
    printed: str
    size: str
    seed: int
    seconds: float
    cores: int
    versions: Mapping[str, str]
    outcome: Outcome
