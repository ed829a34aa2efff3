"""Readings of Table 1 of Guha 2023: every column as its theorem has it and as it seems to be printed, as logarithms.

The paper does not say whether a column is a capacity or ``sqrt(capacity / m)``, which factors of depth it has, which
margin, or which norm; the public code of its baselines takes the Frobenius norm for the 2,1-norm. So two forms stand
beside the printed number: the theorem's, and the one that fits the printed ones. Nothing here is a bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from bitcert.theory.inputs import BoundInputs
from bitcert.theory.registry import get_bound

PAPER = {
    500: (22.29, 17.91, 11.51, 3.36, -3.76),
    784: (23.56, 18.34, 11.68, 3.77, -3.84),
    1000: (24.42, 18.70, 11.87, 4.00, -3.80),
    1500: (25.12, 18.81, 11.70, 4.40, -3.85),
    2000: (27.03, 21.50, 13.96, 4.73, -3.86),
    2500: (27.72, 21.57, 13.81, 4.96, -3.87),
}
"""Table 1, natural logs by hidden width, in the order of ``COLUMNS``."""
PAPER_CIFAR = (33.19, 30.10, 22.40, 4.68, -2.41)
"""Table 2."""
COLUMNS = ("Neyshabur 2015", "Neyshabur 2017", "Bartlett 2017", "Ours", "True error")


class Kind(StrEnum):
    """What a number of the table might be."""

    GAP = "sqrt(./m)"
    SQUARE = "./m"
    """The square of the gap: the root was left out."""


FITTING = ((Kind.SQUARE, 0), (Kind.SQUARE, 1), (Kind.SQUARE, 1), (Kind.GAP, 0))
"""Kind and number of the form that the printed numbers fit, by column: see docs/guha-table.md."""


@dataclass(frozen=True)
class Reading:
    """One way to read a column of the table.

    Attributes:
        column, form, kind: which, and as what.
        log: natural logarithm of our number; ``None`` where there is none.
        theorem: whether this is the theorem's own form.
        fits: whether this is the form that the printed numbers fit.
    """

    column: str
    form: str
    kind: str
    log: float | None
    theorem: bool = False
    fits: bool = False


def _capacities(inputs: BoundInputs) -> Iterator[tuple[int, str, float]]:
    """Column, form and ``ln`` of every capacity in :data:`FITTING`; the theorem's own form first."""
    frobenius = _value(inputs, "neyshabur2015-frobenius")
    yield 0, "(4^L/gamma^2) Prod ||A||_F^2", frobenius + 2 * inputs.depth * math.log(2)
    spectral = _value(inputs, "neyshabur2018-spec-fro")
    yield 1, "(1/gamma^2) h L^2 max||x||^2 Prod ||A||_2^2 Sum ||A||_F^2/||A||_2^2", spectral
    yield 1, "the same without max||x||^2", spectral - 2 * math.log(inputs.sample.largest_input)
    yield 2, "(1/gamma^2) Prod ||A||_2^2 (Sum (||A||_2,1/||A||_2)^(2/3))^3", _value(inputs, "bartlett2017-spec-l12")
    norms = [layer.norms for layer in inputs.layers]
    product = 2 * math.fsum(math.log(n.spectral) for n in norms) - 2 * math.log(inputs.margin)
    ratios = 3 * math.log(math.fsum((n.frobenius / n.spectral) ** (2 / 3) for n in norms))
    yield 2, "the same with ||A||_F for ||A||_2,1 (the public code)", product + ratios
    yield 3, "guha2023-thm5.2", _value(inputs, "guha2023-thm5.2")


def _value(inputs: BoundInputs, name: str) -> float:
    found = get_bound(name)(inputs).log
    return math.nan if found is None else found


def readings(inputs: BoundInputs, errors: Mapping[str, float]) -> tuple[Reading, ...]:
    """Every column as the theorem's gap and in the form that fits, and the logarithms of errors.

    Args:
        inputs: gathered for one network.
        errors: shares of wrong test examples by what was tested, the trained network first.
    """
    found, numbers = [], dict.fromkeys(range(len(COLUMNS)), 0)
    for column, form, value in _capacities(inputs):
        number, numbers[column] = numbers[column], numbers[column] + 1
        squared = value - math.log(inputs.m)
        for kind, log in ((Kind.GAP, squared / 2), (Kind.SQUARE, squared)):
            theorem, fits = kind is Kind.GAP and number == 0, (kind, number) == FITTING[column]
            if theorem or fits:
                own = log if math.isfinite(log) else None
                found.append(Reading(COLUMNS[column], form, str(kind), own, theorem, fits))
    for k, (name, error) in enumerate(errors.items()):
        log_error = math.log(error) if error > 0 else None
        found.append(Reading(COLUMNS[4], name, str(Kind.GAP), log_error, k == 0, k == 0))
    return tuple(found)
