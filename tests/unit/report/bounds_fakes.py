"""Tables of bounds made by hand: rows of every kind, unit and status."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from bitcert.theory.registry import bound
from bitcert.theory.table import BoundRow, BoundTable
from bitcert.theory.value import BoundValue, Condition, Kind, LayerValue, Unit, needs, outside

SAMPLES = 10_000
LN10 = math.log(10)
LAYERS = (("0.weight", 78_400), ("2.weight", 30_000), ("4.weight", 1_000))

HOLDS = Condition("ReLU activations only", True, "2 of 2")
FAILS = Condition("rho >= 3d", False, "rho = 0.8, 3d = 9")
UNKNOWN = Condition("beta known", None, "not measured")


def _nothing(inputs: object) -> BoundValue:
    return BoundValue(None)


def make_row(
    name: str,
    log10: float | None,
    unit: Unit = Unit.SAMPLES,
    kind: Kind = Kind.MEASURE,
    conditions: tuple[Condition, ...] = (HOLDS,),
    *,
    samples: int = SAMPLES,
    title: str = "noise stability",
    **parts: Any,
) -> BoundRow:
    """A row of the value ``10**log10``; ``parts`` are those of :class:`BoundValue`."""
    dropped = "" if kind is Kind.GUARANTEE else "logarithms of m, d and h"
    sentence = "So many examples would do."
    made = bound(name, f"Paper of {name}", title, kind=kind, unit=unit, sentence=sentence, dropped=dropped)
    log = None if log10 is None else log10 * LN10
    return BoundRow.of(made(_nothing), BoundValue(log, conditions, **parts), samples)


def make_absent(name: str, why: str, unit: Unit = Unit.SAMPLES) -> BoundRow:
    """A row without a value: ``why`` begins with ``needs`` or ``does not apply``."""
    problem = (needs if why.startswith("needs") else outside)(why)
    made = bound(
        name, f"Paper of {name}", "a title", kind=Kind.MEASURE, unit=unit, sentence="A sentence.", dropped="all"
    )
    return BoundRow.of(made(_nothing), BoundValue(None, absent=problem.absent), SAMPLES)


def make_layers(*log10s: float) -> tuple[LayerValue, ...]:
    """Parts of the layers of :data:`LAYERS`."""
    return tuple(
        LayerValue(name, log10 * LN10, weights) for (name, weights), log10 in zip(LAYERS, log10s, strict=False)
    )


def make_table(*rows: BoundRow, held: bool = True, errors: int = 100, **changes: Any) -> BoundTable:
    """A table of these rows; the real gap is 2.5 % - 1 % unless ``errors`` says otherwise."""
    table = BoundTable(
        network={"name": "nets:mlp", "content_hash": "ab" * 32, "num_parameters": 109_400, "depth": 3, "width": 100},
        sample={
            "name": "toy",
            "content_hash": "cd" * 32,
            "num_samples": SAMPLES,
            "num_classes": 10,
            "errors": errors,
        },
        holdout={"name": "toy test", "errors": 50, "samples": 2_000} if held else None,
        gamma=1.25,
        gamma_rule="5 % quantile of the training margins",
        margin_loss=0.05,
        delta=0.05,
        rows=rows,
        layers=LAYERS,
        settings={"seed": 0, "zeta": 0.01},
        seconds={"sample": 0.5},
        versions={"bitcert": "0.1.0"},
    )
    return replace(table, **changes)


def make_usual(**changes: Any) -> BoundTable:
    """Every kind of row once."""
    error = {"unit": Unit.ERROR, "kind": Kind.GUARANTEE}
    return make_table(
        make_row("holdout", math.log10(0.03312345), **error, conditions=(), title="held-out labels"),
        make_row("occam-binomial", math.log10(0.41), **error, title="message of the certificate"),
        make_row("occam-hoeffding", math.log10(1.5), **error),
        make_row("arora2018-thm2.1", math.log10(0.2), Unit.ERROR, Kind.GUARANTEE, (HOLDS, FAILS)),
        make_row(
            "arora2018-thm4.1",
            5.25,
            conditions=(HOLDS, FAILS, UNKNOWN),
            layers=make_layers(5.0, 4.5, 3.0),
            ingredients={"gamma": 1.25, "m": SAMPLES, "mu": (0.5, 0.25, None), "first": True, "rule": "quantile"},
            notes=("mu is the smallest over the sample",),
            log_printed=4 * LN10,
            probability=0.75,
        ),
        make_row("arora2018-thm4.1-zeta", 3.5, conditions=(HOLDS, UNKNOWN), layers=make_layers(3.0, 2.5, -math.inf)),
        make_row("guha2023-thm5.2", 5.75, layers=make_layers(4.0, 3.5, 3.25)),
        make_row("bartlett2017-spectral", 18.25),
        make_row("neyshabur2018-distance", 1200.0),
        make_row("jiang2020-log-prod-of-fro", 1.5, Unit.PLAIN),
        make_row("jiang2020-gap", -1.0, Unit.GAP),
        make_row("jiang2020-zero", -math.inf, Unit.GAP),
        make_absent("zhang2020-thm6.1", "does not apply: a product of two paths (node mul)"),
        make_absent("bartlett2017-distance", "needs --init: the initial weights of the network"),
        make_absent("neyshabur2018-distance-two", "needs --init: the initial weights of the network"),
        **changes,
    )
