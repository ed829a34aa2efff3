"""All bounds of one network side by side, as frozen records that are written to JSON and read back.

A row is one bound: value, what kind of statement it is, conditions and whether they hold here, ingredients. No row is
left out: what cannot be computed says why. The file is read from strangers, so reading checks types and ranges; it does
NOT show that the numbers are true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from bitcert.canonical import FormatProblem, Former, Source, StoredOfNetwork, check_keys, encode, require
from bitcert.errors import unknown_name
from bitcert.theory.registry import Bound, all_bounds
from bitcert.theory.value import Absent, BoundValue, Condition, Ingredient, Kind, LayerValue, Status, Unit

_SAME, _SMALLEST = 1e-9, 1e-300


@dataclass(frozen=True)
class BoundRow:
    """One bound of one network.

    Attributes:
        name, source, title, unit, sentence, dropped: as in :class:`bitcert.theory.registry.Bound`.
        kind: ``"guarantee"`` only if all its conditions hold here, else ``"measure"``.
        theorem_kind: what it is where they hold.
        value: ``None`` if it was not computed or a float cannot hold it (then ``log10`` has it).
        log10: of the value; ``None`` if not computed or the value is 0.
        gap: for a capacity, ``sqrt(value / m)``; else ``None``. ``gap_log10`` its logarithm.
        status: see :class:`bitcert.theory.value.Status`. ``applies``: ``None`` where a condition is not known.
        why: one sentence.
        vacuous: a bound on an error of 1 or more, or a capacity of ``m`` or more.
        printed_log10: as the paper prints it, where an erratum changes the value.
        probability: with which the claim holds where the paper states one.
        formula: what was computed, in the symbols of the paper.
        conditions, ingredients, layers, notes: as in :class:`bitcert.theory.value.BoundValue`; layers' logs natural.
    """

    name: str
    source: str
    title: str
    kind: str
    theorem_kind: str
    unit: str
    value: float | None
    log10: float | None
    gap: float | None
    gap_log10: float | None
    status: str
    applies: bool | None
    why: str
    vacuous: bool
    printed_log10: float | None
    probability: float | None
    conditions: tuple[Condition, ...]
    ingredients: Mapping[str, Any]
    layers: tuple[LayerValue, ...]
    notes: tuple[str, ...]
    sentence: str
    dropped: str
    formula: str

    @classmethod
    def of(cls, bound: Bound, found: BoundValue, num_samples: int) -> BoundRow:
        """The row of a bound on a sample of ``num_samples``."""
        printed = found.log_printed
        return cls(
            **{name: getattr(bound, name) for name in ("name", "source", "title", "sentence", "dropped", "formula")},
            **{name: getattr(found, name) for name in ("probability", "conditions", "layers", "notes")},
            **_derived(bound.kind, bound.unit, found, num_samples),
            theorem_kind=str(bound.kind),
            unit=str(bound.unit),
            why=f"exactly 0; {found.why}" if found.log == -math.inf else found.why,
            printed_log10=None if printed is None or math.isinf(printed) else printed / math.log(10),
            ingredients={name: _storable(value) for name, value in found.ingredients.items()},
        )


def _derived(kind: Kind, unit: Unit, found: BoundValue, num_samples: int) -> dict[str, Any]:
    """What follows for a row from the kind and unit of its bound and the value that was found."""
    gap_log = None
    if unit is Unit.SAMPLES and found.log is not None:
        gap_log = (found.log - math.log(num_samples)) / 2
    gap = BoundValue(gap_log)
    size = {Unit.SAMPLES: gap_log, Unit.PLAIN: None}.get(unit, found.log)
    proves = kind is Kind.GUARANTEE and found.status is Status.HOLDS
    return {
        "kind": str(Kind.GUARANTEE if proves else Kind.MEASURE),
        "value": found.value,
        "log10": found.log10,
        "gap": gap.value,
        "gap_log10": gap.log10,
        "status": str(found.status),
        "applies": found.status.applies,
        "vacuous": size is not None and size >= 0,
    }


def _storable(value: Ingredient) -> Any:
    """An ingredient as it comes back from a file; an infinite one (the logarithm of 0) is not a number to print."""
    if isinstance(value, tuple):
        return [_storable(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


@dataclass(frozen=True)
class BoundTable(StoredOfNetwork):
    """Every bound on one network.

    Attributes:
        network: ``name``, ``content_hash``, ``num_parameters``, ``depth``, ``width``.
        sample: ``name``, ``content_hash``, ``num_samples``, ``num_classes``, ``errors``.
        holdout: ``name``, ``errors``, ``samples``, or ``None``.
        gamma, gamma_rule, margin_loss: the margin, how it was chosen, share of training margins ``<= gamma``; ``None``
            where that rule gives no positive margin.
        delta: of the guarantees.
        rows: in the order of the registry.
        layers: names and numbers of weights of the layers, for the figure of effective parameters.
        settings: of the run.
        seconds: by stage.
        versions: of the program and what it rests on.
    """

    SOURCE: ClassVar = Source(
        *("bounds.json", "bitcert bounds", "bitcert-bounds-2"),
        Former(
            "bitcert-bounds-1",
            "noise-stability rows leave out what pools between two layers",
            "compute the bounds again",
        ),
    )

    network: Mapping[str, Any]
    sample: Mapping[str, Any]
    holdout: Mapping[str, Any] | None
    gamma: float | None
    gamma_rule: str
    margin_loss: float | None
    delta: float
    rows: tuple[BoundRow, ...]
    layers: tuple[tuple[str, int], ...]
    settings: Mapping[str, Any]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]

    @property
    def gap(self) -> float | None:
        """The real generalization gap: held-out error less training error; ``None`` without held-out labels."""
        if self.holdout is None:
            return None
        errors, samples = self.sample["errors"], self.sample["num_samples"]
        return float(self.holdout["errors"] / self.holdout["samples"] - errors / samples)

    def row(self, name: str) -> BoundRow:
        """The row of that name.

        Raises:
            InputError: there is none.
        """
        found = {row.name: row for row in self.rows}
        if name not in found:
            raise unknown_name("bound", name, found)
        return found[name]

    def rows_json(self) -> str:
        """The rows alone as a JSON list of objects, for scripts."""
        return json.dumps([encode(row) for row in self.rows], indent=1, ensure_ascii=True, allow_nan=False) + "\n"

    def check(self) -> None:
        """Refuse counts, sizes and margins that cannot be, and rows that contradict themselves."""
        parts = [("network", self.network, _NETWORK), ("sample", self.sample, _SAMPLE)]
        if self.holdout is not None:
            parts.append(("holdout", self.holdout, _HOLDOUT))
        for where, content, types in parts:
            check_keys(content, types, where)
        counts = [(self.sample["errors"], self.sample["num_samples"])]
        counts += [(self.holdout["errors"], self.holdout["samples"])] if self.holdout is not None else []
        fit = all(0 <= errors <= samples > 0 for errors, samples in counts) and 0 < self.delta < 1
        require(fit, "impossible counts")
        require((self.gamma is None) == (self.margin_loss is None), "an impossible margin")
        if self.gamma is not None:
            require(0 < self.gamma < math.inf and 0 <= (self.margin_loss or 0.0) <= 1, "an impossible margin")
        sizes = [0, *(size for _, size in self.layers), *(layer.actual for row in self.rows for layer in row.layers)]
        require(min(sizes) >= 0 and self.sample["num_classes"] >= 2, "a negative size, or fewer than two classes")
        names = [row.name for row in self.rows]
        require(len(set(names)) == len(names), "a row given twice")
        for row in self.rows:
            _check_row(row, self.sample["num_samples"])


_NETWORK = {"name": str, "content_hash": str, "num_parameters": int, "depth": int, "width": int}
_SAMPLE = {"name": str, "content_hash": str, "num_samples": int, "num_classes": int, "errors": int}
_HOLDOUT = {"name": str, "errors": int, "samples": int}


def _check_row(row: BoundRow, num_samples: int) -> None:
    """Refuse a row that its bound would not make of such a value; no stranger's bound is a guarantee."""
    named = row.name[:60]
    numbers = (row.value, row.log10, row.gap, row.gap_log10, row.printed_log10)
    if any(number is not None and math.isinf(number) for number in numbers):
        raise FormatProblem(f"an infinite value of {named}")
    if any(layer.log == math.inf for layer in row.layers):
        raise FormatProblem(f"an infinite part of {named}")
    _, kind, unit, status = Kind(row.kind), Kind(row.theorem_kind), Unit(row.unit), Status(row.status)  # or ValueError
    if status.applies is not row.applies:
        raise FormatProblem(f"a status that contradicts itself, of {named}")
    known = {bound.name: (bound.kind, bound.unit) for bound in all_bounds()}
    if known.get(row.name, (Kind.MEASURE, unit)) != (kind, unit):
        raise FormatProblem(f"another kind or unit of statement than {named} is")
    computed = status not in (Status.OUTSIDE, Status.NEEDS)
    log = -math.inf if row.log10 is None else row.log10 * math.log(10)
    if computed:
        found = BoundValue(log, row.conditions)
    else:
        found = BoundValue(None, absent=Absent(status, row.why))
    said = _derived(kind, unit, found, num_samples)
    size = row.log10 if row.gap_log10 is None else row.gap_log10
    said["vacuous"] = row.vacuous if size is not None and abs(size) < _SAME else said["vacuous"]
    bare = row.printed_log10 is None and not row.conditions
    if not ((computed or bare) and all(_same(name, getattr(row, name), value) for name, value in said.items())):
        raise FormatProblem(f"a row that contradicts itself, {named}")


def _same(name: str, given: object, made: object) -> bool:
    """Whether an entry of a row is the one that was made again, but for the rounding of logarithms."""
    if isinstance(given, float) and isinstance(made, float):
        return math.isclose(given, made, rel_tol=_SAME, abs_tol=_SAME if name.endswith("log10") else _SMALLEST)
    return given == made
