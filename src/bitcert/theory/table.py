"""All bounds of one network side by side, as frozen records that are written to JSON and read back.

A row is one bound: value, what kind of statement it is, conditions and whether they hold here, ingredients. No row is
left out: what cannot be computed says why. The file is read from strangers, so reading checks types and ranges; it does
NOT show that the numbers are true.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bitcert.canonical import FormatProblem, decode, encode, encode_text, parse
from bitcert.errors import DecodeError, unknown_name
from bitcert.theory.registry import Bound, all_bounds
from bitcert.theory.value import BoundValue, Condition, Ingredient, Kind, LayerValue, Status, Unit

FORMAT = "bitcert-bounds-2"
_FORMER = "bitcert-bounds-1"
_EXPECTED = "a bounds.json written by bitcert bounds"


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
        gap_log = None
        if bound.unit is Unit.SAMPLES and found.log is not None:
            gap_log = (found.log - math.log(num_samples)) / 2
        gap = BoundValue(gap_log)
        size = gap if bound.unit is Unit.SAMPLES else found
        limited = bound.unit is not Unit.PLAIN and size.log is not None
        proves = bound.kind is Kind.GUARANTEE and found.status is Status.HOLDS
        printed = found.log_printed
        return cls(
            **{name: getattr(bound, name) for name in ("name", "source", "title", "sentence", "dropped", "formula")},
            **{name: getattr(found, name) for name in ("probability", "conditions", "layers", "notes")},
            kind=str(Kind.GUARANTEE if proves else Kind.MEASURE),
            theorem_kind=str(bound.kind),
            unit=str(bound.unit),
            value=found.value,
            log10=found.log10,
            gap=gap.value,
            gap_log10=gap.log10,
            status=str(found.status),
            applies=found.status.applies,
            why=f"exactly 0; {found.why}" if found.log == -math.inf else found.why,
            vacuous=limited and size.log is not None and size.log >= 0,
            printed_log10=None if printed is None or math.isinf(printed) else printed / math.log(10),
            ingredients={name: _storable(value) for name, value in found.ingredients.items()},
        )


def _storable(value: Ingredient) -> Any:
    """An ingredient as it comes back from a file; an infinite one (the logarithm of 0) is not a number to print."""
    if isinstance(value, tuple):
        return [_storable(item) for item in value]
    return None if isinstance(value, float) and math.isinf(value) else value


@dataclass(frozen=True)
class BoundTable:
    """Every bound on one network.

    Attributes:
        network: ``name``, ``content_hash``, ``num_parameters``, ``depth``, ``width``.
        sample: ``name``, ``content_hash``, ``num_samples``, ``num_classes``, ``errors``.
        holdout: ``name``, ``errors``, ``samples``, or ``None``.
        gamma, gamma_rule, margin_loss: the margin, how it was chosen, share of training margins ``<= gamma``.
        delta: of the guarantees.
        rows: in the order of the registry.
        layers: names and numbers of weights of the layers, for the figure of effective parameters.
        settings: of the run.
        seconds: by stage.
        versions: of the program and what it rests on.
    """

    network: Mapping[str, Any]
    sample: Mapping[str, Any]
    holdout: Mapping[str, Any] | None
    gamma: float
    gamma_rule: str
    margin_loss: float
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

    def named(self, name: str) -> BoundTable:
        """The same with another name of the network."""
        return replace(self, network={**self.network, "name": name[:200]})

    def rows_json(self) -> str:
        """The rows alone as a JSON list of objects, for scripts."""
        return json.dumps([encode(row) for row in self.rows], indent=1, ensure_ascii=True, allow_nan=False) + "\n"

    def to_json(self) -> str:
        """Canonical JSON text of everything; what is not known is null."""
        return encode_text(self, {"format": FORMAT})

    @classmethod
    def from_json(cls, text: str) -> BoundTable:
        """Read :meth:`to_json` from an untrusted source.

        Raises:
            DecodeError: anything that :meth:`to_json` would not have written.
        """
        content = parse(text, _EXPECTED)
        found = content.pop("format", None) if isinstance(content, dict) else None
        if found == _FORMER:
            got = f"one of format {_FORMER!r}, whose noise-stability rows leave out what pools between two layers"
            raise DecodeError(f"a bounds.json of format {FORMAT!r}", got, "compute the bounds again")
        if found != FORMAT:
            raise DecodeError(_EXPECTED, "another format", "ask for the file again")
        try:
            table = decode(cls, content, "bounds")
            _check(table)
        except (FormatProblem, ValueError, RecursionError) as problem:
            raise DecodeError(_EXPECTED, str(problem)[:300], "ask for the file again") from None
        if table.to_json() != text:
            raise DecodeError(_EXPECTED, "a text that is not in canonical form", "ask for the file again")
        return table


_NETWORK = {"name": str, "content_hash": str, "num_parameters": int, "depth": int, "width": int}
_SAMPLE = {"name": str, "content_hash": str, "num_samples": int, "num_classes": int, "errors": int}
_HOLDOUT = {"name": str, "errors": int, "samples": int}


def _check(table: BoundTable) -> None:
    parts = [("network", table.network, _NETWORK), ("sample", table.sample, _SAMPLE)]
    if table.holdout is not None:
        parts.append(("holdout", table.holdout, _HOLDOUT))
    for where, content, types in parts:
        if {key: type(value) for key, value in content.items()} != types:
            raise FormatProblem(f"{where} with missing, unknown or mistyped keys")
    counts = [(table.sample["errors"], table.sample["num_samples"])]
    counts += [(table.holdout["errors"], table.holdout["samples"])] if table.holdout is not None else []
    if not all(0 <= errors <= samples > 0 for errors, samples in counts) or not 0 < table.delta < 1:
        raise FormatProblem("impossible counts")
    if not 0 < table.gamma < math.inf or not 0 <= table.margin_loss <= 1:
        raise FormatProblem("an impossible margin")
    sizes = [*(table.network[key] for key in ("num_parameters", "depth", "width")), *(size for _, size in table.layers)]
    sizes += [layer.actual for row in table.rows for layer in row.layers]
    if min(sizes) < 0 or table.sample["num_classes"] < 2:
        raise FormatProblem("a negative size, or fewer than two classes")
    names = [row.name for row in table.rows]
    if len(set(names)) != len(names):
        raise FormatProblem("a row given twice")
    for row in table.rows:
        numbers = (row.value, row.log10, row.gap, row.gap_log10, row.printed_log10)
        if any(number is not None and math.isinf(number) for number in numbers):
            raise FormatProblem(f"an infinite value of {row.name[:60]}")
        if any(layer.log == math.inf for layer in row.layers):
            raise FormatProblem(f"an infinite part of {row.name[:60]}")
        allowed = (Kind(row.kind), Kind(row.theorem_kind), Unit(row.unit), Status(row.status))  # ValueError otherwise
        if allowed[3].applies is not row.applies:
            raise FormatProblem(f"a status that contradicts itself, of {row.name[:60]}")
        if not _fits_registry(row):
            raise FormatProblem(f"another kind or unit of statement than {row.name[:60]} is")
        if not (_fits_status(row) and _fits_value(row, table.sample["num_samples"])):
            raise FormatProblem(f"a row that contradicts itself, {row.name[:60]}")


def _fits_registry(row: BoundRow) -> bool:
    """Whether a row makes the kind of statement that its bound makes; no stranger's bound is a guarantee."""
    known = {bound.name: (str(bound.kind), str(bound.unit)) for bound in all_bounds()}
    said = (row.theorem_kind, row.unit)
    return known.get(row.name, (str(Kind.MEASURE), row.unit)) == said


def _fits_status(row: BoundRow) -> bool:
    """Whether status and kind are what the conditions say, and only a row with a value has one of its own."""
    guaranteed = row.theorem_kind == Kind.GUARANTEE and row.status == Status.HOLDS
    if (row.kind == Kind.GUARANTEE) is not guaranteed:
        return False
    if row.status in (Status.OUTSIDE, Status.NEEDS):
        numbers = (row.value, row.log10, row.gap, row.gap_log10, row.printed_log10)
        return not row.vacuous and not row.conditions and all(number is None for number in numbers)
    return BoundValue(0.0, row.conditions).status == row.status


def _fits_value(row: BoundRow, num_samples: int) -> bool:
    """Whether value, logarithm, gap and verdict of a row that was computed are those of one number."""
    if row.status in (Status.OUTSIDE, Status.NEEDS):
        return True
    capacity = row.unit == Unit.SAMPLES
    gap = None if not capacity or row.log10 is None else (row.log10 - math.log10(num_samples)) / 2
    size = gap if capacity else row.log10
    vacuous = row.unit != Unit.PLAIN and size is not None and size >= 0
    return (
        _is_power(row.value, row.log10)
        and (gap is None) is (row.gap_log10 is None)
        and (gap is None or row.gap_log10 is None or math.isclose(gap, row.gap_log10, rel_tol=1e-9, abs_tol=1e-9))
        and (_is_power(row.gap, row.gap_log10) if capacity else row.gap is None)
        and (row.vacuous is vacuous or (size is not None and abs(size) < 1e-9))
    )


def _is_power(value: float | None, log10: float | None) -> bool:
    """Whether ``value = 10^log10``, as far as a float can hold it; 0 has no logarithm."""
    if log10 is None:
        return value == 0
    if value is None or value == 0:
        return log10 > 308 if value is None else log10 < -300
    return value > 0 and math.isclose(math.log10(value), log10, rel_tol=1e-9, abs_tol=1e-9)
