"""Comparisons made up for tests of what is said and shown of them."""

from dataclasses import replace

from bitcert.comparison.records import (
    Comparison,
    ComparisonRow,
    DeviationRow,
    HoldoutCount,
    Measured,
    Original,
    Spread,
    TheoryRow,
)
from bitcert.theory.value import Condition

SAMPLES = 1000


def make_measured(bits: int, errors: int, bound: float, **changes) -> Measured:
    spread = Spread(0.5, 1.5, 2.0)
    measured = Measured(
        message_bits=bits,
        message_sha256=f"{bits:064x}",
        parameters=bits // 8,
        errors=errors,
        near_ties=0,
        samples=SAMPLES,
        bound=bound,
        holdout=HoldoutCount(errors // 10, 100),
        deviation=DeviationRow(spread, spread, Spread(0.01, 0.05, 0.25), errors // 2, 0.75, 0.5),
        count_seconds=0.25,
    )
    return replace(measured, **changes)


def make_theory(**changes) -> TheoryRow:
    theory = TheoryRow(
        source="Arora et al. 2018, Lemma 2",
        statement="k projections suffice",
        parameters=1234.0,
        error=0.125,
        error_means="relative error of the output",
        probability=0.95,
        conditions=(Condition("rho >= 3d", True, "rho = 9"), Condition("k <= N", False, "k = 10")),
        notes=("erratum 2",),
    )
    return replace(theory, **changes)


def make_row(codec: str, bits: int, errors: int, bound: float, **changes) -> ComparisonRow:
    row = ComparisonRow(
        codec=codec,
        label=f"{codec} {bits}",
        options={"rank": "3"},
        trained=False,
        budget_seconds=0.0,
        seconds=1.0,
        measured=make_measured(bits, errors, bound),
        theory=make_theory(),
    )
    return replace(row, **changes)


def make_refused(codec: str, refusal: str) -> ComparisonRow:
    return replace(make_row(codec, 0, 0, 1.0), label=f"{codec} odd", measured=None, refusal=refusal, theory=None)


def make_comparison(*rows: ComparisonRow, held: bool = True, **changes) -> Comparison:
    comparison = Comparison(
        network={"name": "nets:mlp", "content_hash": "ab" * 32, "num_parameters": 500},
        sample={"name": "toy", "content_hash": "cd" * 32, "num_samples": SAMPLES, "num_classes": 10},
        helper={"content_hash": "ef" * 32},
        holdout={"name": "toy test", "content_hash": "01" * 32} if held else None,
        delta=0.05,
        settings={"budget_seconds": 300.0, "seed": 0},
        original=Original(500, 480, 10, 1, SAMPLES, HoldoutCount(2, 100, 0.0616) if held else None, 0.5),
        rows=rows,
        conclusions=("One sentence.",),
        versions={"bitcert": "0.1.0"},
    )
    return replace(comparison, **changes)


def make_usual() -> Comparison:
    return make_comparison(
        make_row("svd", 4000, 12, 1.0),
        make_row("svd", 1000, 200, 0.95),
        make_row("matrix-project", 2000, 700, 1.0),
        make_row("tuned", 300, 15, 0.41, trained=True, budget_seconds=20.0),
        make_row("exact", 16000, 10, 1.0, theory=None),
        make_refused("sketch", "expected a matrix with enough edges, got 3; use more"),
    )
