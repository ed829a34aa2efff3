"""The table of bounds: every :class:`Bound` of the modules below, in the order in which they are shown.

Adding a bound touches one file: decorate a function ``BoundInputs -> BoundValue`` with :func:`bound` in the module of
its paper, or add a line to the module's tuple of rows. A new paper is a new module and one name in :data:`MODULES`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from bitcert.errors import unknown_name
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.value import Absent, BoundValue, Kind, NotComputed, Status, Unit

MODULES = (
    "guarantees",
    "arora2018",
    "notes2019",
    "zhang2020",
    "guha2023",
    "shin2021",
    "counting",
    "norm_products",
    "jiang2020",
    "galanti2023",
)
"""Modules of :mod:`bitcert.theory.papers`, one for each paper or family of rows."""

Function = Callable[[BoundInputs], BoundValue]


@dataclass(frozen=True)
class Bound:
    """One row of the catalogue.

    Attributes:
        name: unique, e.g. ``"arora2018-thm4.1"``.
        source: paper and number of the statement.
        title: a few words.
        kind: a guarantee is one only where all its conditions hold.
        unit: what the value is.
        sentence: what the number says, for a reader who is no theorist.
        dropped: constants and logarithms left out; empty for a guarantee.
        function: pure.
        formula: the formula in words and symbols, as the function documents it.
    """

    name: str
    source: str
    title: str
    kind: Kind
    unit: Unit
    sentence: str
    dropped: str
    function: Function
    formula: str = ""

    def __call__(self, inputs: BoundInputs) -> BoundValue:
        """The bound on this network; one that cannot be computed says why."""
        try:
            return self.function(inputs)
        except NotComputed as problem:
            return BoundValue(log=None, absent=problem.absent)
        except (ArithmeticError, ValueError) as error:
            # one row that leaves the range of a float must not take the table with it, and must say so
            why = f"does not apply: it cannot be computed in float64 ({error})"
            return BoundValue(log=None, absent=Absent(Status.OUTSIDE, why[:300]))


def bound(
    name: str,
    source: str,
    title: str,
    sentence: str,
    dropped: str = "",
    *,
    kind: Kind = Kind.MEASURE,
    unit: Unit = Unit.SAMPLES,
) -> Callable[..., Bound]:
    """Decorator that makes a function ``BoundInputs -> BoundValue`` a row; attributes as in :class:`Bound`.

    The function's docstring is the formula; rows that share a function give theirs as a second argument.
    """

    def make(function: Function, formula: str = "") -> Bound:
        text = " ".join((formula or inspect.getdoc(function) or "").replace("``", "").split())
        return Bound(name, source, title, kind, unit, sentence, dropped, function, text)

    return make


guarantee = functools.partial(bound, kind=Kind.GUARANTEE, unit=Unit.ERROR)
"""The same for a bound on the error with every constant present."""


@functools.cache
def all_bounds() -> tuple[Bound, ...]:
    """Every bound, in order."""
    found: list[Bound] = []
    for name in MODULES:
        for value in vars(importlib.import_module(f"bitcert.theory.papers.{name}")).values():
            rows = value if isinstance(value, tuple) else (value,)
            found += [row for row in rows if isinstance(row, Bound)]
    names = [b.name for b in found]
    if len(set(names)) != len(names):
        raise ValueError("two bounds of one name")
    return tuple(found)


def get_bound(name: str) -> Bound:
    """The bound of that name.

    Raises:
        InputError: there is none; the nearest name is suggested.
    """
    known = {b.name: b for b in all_bounds()}
    if name not in known:
        raise unknown_name("bound", name, known)
    return known[name]
