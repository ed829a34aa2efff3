"""A table of bounds in sentences and cells that a person can read; shared by the page, the figures and the terminal.

Numbers are rounded: a guarantee upwards, so that what is printed is still a bound, all else to nearest. A sentence says
what the row says; it does NOT make a measure a guarantee, and nothing here is computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from bitcert.report.text import UNKNOWN, clean, delta_text, number, percent, percent_up, share
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import TRUST, Kind, Status, Unit

PAPERS = {
    "arora2018": "Arora, Ge, Neyshabur & Zhang 2018",
    "notes2019": "Notes on Arora 2018, 2019",
    "zhang2020": "Zhang 2020",
    "guha2023": "Guha et al. 2023",
    "shin2021": "Shin 2021",
    "bartlett2002": "Bartlett & Mendelson 2002",
    "neyshabur2015": "Neyshabur, Tomioka & Srebro 2015",
    "bartlett2017": "Bartlett, Foster & Telgarsky 2017",
    "neyshabur2018": "Neyshabur et al. 2018",
    "jiang2020": "Dziugaite et al. 2020 and Jiang et al. 2020",
    "galanti2023": "Galanti et al. 2023",
    "holdout": "Guarantees",
    "occam": "Guarantees",
    "parameters": "Counting parameters",
    "vc": "Counting parameters",
    "product": "Products of norms over γ",
    "path": "Path norms over γ",
}
"""Headings of the groups, by what stands before the first ``-`` of a row's name; any other prefix is its own."""

STATUSES = {
    Status.HOLDS: "conditions hold",
    Status.UNKNOWN: "conditions not all known",
    Status.FAILS: "conditions fail",
    Status.OUTSIDE: "does not apply",
    Status.NEEDS: "needs more",
}
MOST_ENTRIES = 40
MAX_REASON = 400
_SHORT_LOW, _SHORT_HIGH = -3.0, 6.0
_LARGEST_EXPONENT = 10**9


def power(log10: float | None) -> str:
    """A number by its base-10 logarithm, with two digits where it is very large or very small.

    >>> power(3.0), power(18.28), power(-5.0), power(1203.0), power(None)
    ('1,000', '1.9e+18', '1.0e-05', '1.0e+1203', '–')
    """
    if log10 is None or math.isnan(log10):
        return UNKNOWN
    if math.isinf(log10) or abs(log10) > _LARGEST_EXPONENT:
        return "0" if log10 < 0 else "beyond all bounds"
    if _SHORT_LOW <= log10 < _SHORT_HIGH:
        value = 10**log10
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    exponent = math.floor(log10)
    mantissa = f"{10 ** (log10 - exponent):.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa}e{exponent:+03d}"


def papers(rows: Iterable[BoundRow]) -> list[tuple[str, list[BoundRow]]]:
    """Rows under the heading of their paper; papers in the order in which the table first names them."""
    groups: dict[str, list[BoundRow]] = {}
    for row in rows:
        groups.setdefault(_paper(row), []).append(row)
    return list(groups.items())


def _paper(row: BoundRow) -> str:
    prefix = row.name.partition("-")[0]
    return PAPERS.get(prefix, clean(prefix, 60))


def _is_rate(row: BoundRow) -> bool:
    return row.unit in (Unit.ERROR, Unit.GAP)


def _rate(value: float | None, log10: float | None, kind: str) -> str:
    """A probability in percent; what is far above 1 or far below a hundredth of a percent by its size."""
    if value is None or value > 1 or (log10 is not None and log10 < -4 and kind != Kind.GUARANTEE):
        return power(log10) if value is None or value > 0 else "0.00 %"
    return percent_up(value) if kind == Kind.GUARANTEE else percent(value)


def value_text(row: BoundRow) -> str:
    """The value: in percent where it is a probability, else a number; a dash where there is none."""
    if row.value is None and row.log10 is None:
        return UNKNOWN
    if _is_rate(row):
        return _rate(row.value, row.log10, row.kind)
    return "0" if row.log10 is None else power(row.log10)


def order_text(row: BoundRow) -> str:
    """The order of magnitude: the base-10 logarithm with one decimal, ``"-inf"`` for exactly 0."""
    if row.log10 is None:
        return UNKNOWN if row.value is None else "-inf"
    rounded = round(row.log10, 1) + 0.0  # no "-0.0"
    return f"{rounded:.1f}" if abs(row.log10) < _LARGEST_EXPONENT else power(row.log10)


def gap_text(row: BoundRow) -> str:
    """What the row says of errors: a capacity as ``sqrt(value / m)``, a probability as it is; else a dash."""
    if _is_rate(row):
        return value_text(row)
    if row.unit != Unit.SAMPLES or (row.gap is None and row.gap_log10 is None):
        return UNKNOWN
    return _rate(row.gap, row.gap_log10, Kind.MEASURE)


def kind_text(row: BoundRow) -> str:
    """``guarantee`` or ``measure``; of a theorem whose conditions are not met: what it would be."""
    if row.kind != row.theorem_kind and row.log10 is not None:
        return f"measure (a {row.theorem_kind} where its conditions hold)"
    return row.kind if row.kind == row.theorem_kind else row.theorem_kind


def status_text(row: BoundRow) -> str:
    """The status in words, and that a value says nothing where it does not."""
    if row.status == Status.HOLDS and not row.conditions:
        word = "no conditions"
    elif row.status == Status.NEEDS:
        word = clean(row.why.partition(":")[0], 40)
    else:
        word = STATUSES[Status(row.status)]
    return f"{word}, vacuous" if row.vacuous else word


def verdict(row: BoundRow) -> str:
    """One sentence: what may be concluded from the row here, and why not more."""
    why = clean(row.why, MAX_REASON)
    if row.status in (Status.OUTSIDE, Status.NEEDS):
        return f"Not computed: {why}."
    said = f"{why[:1].upper()}{why[1:]}."
    if row.unit == Unit.PLAIN:
        return f"A quantity to compare networks by; no number of errors follows. {said}"
    if row.kind == Kind.GUARANTEE:
        return ("Proved, but vacuous: 100 % or more holds of every network. " if row.vacuous else "Proved. ") + said
    told = f"Vacuous: as a bound on the gap {gap_text(row)}, where 1 already says nothing. " if row.vacuous else ""
    return f"{told}{said}"


def reasons(table: BoundTable) -> list[tuple[str, list[str]]]:
    """Why rows have no value or do not apply, each reason once, with the rows' names."""
    found: dict[str, list[str]] = {}
    for row in table.rows:
        if row.status != Status.HOLDS:
            found.setdefault(clean(row.why, MAX_REASON), []).append(clean(row.name, 60))
    return list(found.items())


def best_guarantee(table: BoundTable) -> BoundRow | None:
    """The smallest bound on the error that is a guarantee here; ``None`` if all are vacuous or there is none."""
    proved = [r for r in table.rows if r.kind == Kind.GUARANTEE and r.unit == Unit.ERROR and not r.vacuous]
    return min(proved, key=lambda row: 0.0 if row.value is None else row.value, default=None)


def headline(table: BoundTable) -> str:
    """One sentence: how many bounds, what is proved, and what the gap really is."""
    computed = sum(row.log10 is not None or row.value is not None for row in table.rows)
    best = best_guarantee(table)
    told = (
        f"at most {value_text(best)} errors are proved{_of_what(best)} ({clean(best.name, 60)})"
        f"{_beside_guessing(table, best)}"
        if best
        else "no guarantee is below 100 %"
    )
    gap = "" if table.gap is None else f", the real gap is {percent(table.gap)}"
    name = clean(table.network["name"], 80)
    return f"{number(computed)} of {number(len(table.rows))} bounds computed for {name}: {told}{gap}"


def _beside_guessing(table: BoundTable, best: BoundRow) -> str:
    """A bound that naming a class at random meets is below 100 %, but says nothing of use."""
    guessing = 1 - 1 / int(table.sample["num_classes"])
    return (
        "" if best.value is None or best.value < guessing else f", where guessing a class errs on {percent(guessing)}"
    )


def _of_what(row: BoundRow) -> str:
    """A message's bound is on the network that it decodes to, not on the one of the table."""
    message = row.ingredients.get("message")
    return f" of the network decoded from {clean(message, 60)}" if isinstance(message, str) else ""


def facts(table: BoundTable) -> list[tuple[str, str]]:
    """Term and sentence: network, sample, held-out labels, margin, delta."""
    network, sample, held = table.network, table.sample, table.holdout
    told = [
        (
            "Network",
            f"{clean(network['name'], 80)}: {number(network['num_parameters'])} parameters, "
            f"{number(network['depth'])} weight layers, at most {number(network['width'])} units wide.",
        ),
        (
            "Training sample",
            f"m = {number(sample['num_samples'])} examples of {clean(sample['name'], 120)}, "
            f"{number(sample['num_classes'])} classes, {number(sample['errors'])} errors "
            f"({share(sample['errors'], sample['num_samples'])}).",
        ),
        (
            "Margin",
            _margin(table),
        ),
        (
            "Guarantees",
            f"Each by itself fails with probability at most δ = {delta_text(table.delta)} over the draw of the sample; "
            "they do not all hold at once with that probability. Rows of messages share δ among the certificates named "
            "here: others that were made of this sample are not counted.",
        ),
    ]
    if held is not None:
        told.insert(
            2,
            (
                "Real gap",
                f"{percent(table.gap)}: {share(held['errors'], held['samples'])} errors on "
                f"{number(held['samples'])} held-out examples of {clean(held['name'], 120)}, less the training error.",
            ),
        )
    return told


def _margin(table: BoundTable) -> str:
    rule = clean(table.gamma_rule, 120)
    if table.gamma is None:
        return f"None: the {rule} is not above 0, or the largest. Rows that need a margin say so, all others stand."
    return f"γ = {table.gamma:.4g} ({rule}); {percent(table.margin_loss)} of the training margins are at most γ."


def condition_lines(row: BoundRow) -> list[str]:
    """Every hypothesis, whether it holds here, and the numbers behind it."""
    words = {True: "holds", False: "fails", None: "unknown"}
    return [
        f"{clean(c.name, 200)}: {'assumed' if c.holds and c.detail.startswith(TRUST) else words[c.holds]} "
        f"({clean(c.detail, 300)})"
        for c in row.conditions[:MOST_ENTRIES]
    ]


def ingredient_lines(row: BoundRow) -> list[tuple[str, str]]:
    """Name and value of everything the row is computed from; of long lists the beginning."""
    items: Sequence[tuple[str, Any]] = sorted(row.ingredients.items())[:MOST_ENTRIES]
    return [(clean(name, 80), ingredient(value)) for name, value in items]


def ingredient(value: object) -> str:
    """A number, a list or a word; of long lists the beginning."""
    if isinstance(value, tuple | list):
        shown = ", ".join(ingredient(item) for item in value[:MOST_ENTRIES])
        return shown + (f", … ({number(len(value))} in all)" if len(value) > MOST_ENTRIES else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return UNKNOWN if value is None else clean(f"{value:,}" if isinstance(value, int) else value, 200)


def layers_text(row: BoundRow) -> list[tuple[str, str, str]]:
    """Layer, its part of the bound in samples, its actual number of weights; at most forty."""
    return [
        (clean(part.layer, 60), power(part.log / math.log(10)), number(part.actual))
        for part in row.layers[:MOST_ENTRIES]
    ]
