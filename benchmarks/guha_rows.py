"""Readings of Table 1 of Guha 2023: every column in the forms that a reader might take it for, as natural logarithms.

The paper does not say whether a column is a capacity or ``sqrt(capacity / m)``, which factors of depth it has, which
margin, or which norm; the public code of its baselines takes the Frobenius norm for the 2,1-norm. So each form stands
beside the printed number. Nothing here is a bound.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import torch
from guha_training import Training, build
from safetensors.torch import load_file

from bitcert import Network, Preprocessing, Role, Sample, capture, load_sample
from bitcert.certificates.certification import versions
from bitcert.theory.formulas.pruning_setting import Setting, at_gamma, stated
from bitcert.theory.gathering import gather
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.registry import all_bounds, get_bound
from bitcert.theory.settings import BoundSettings
from bitcert.theory.value import BoundValue

PAPER = {
    500: (22.29, 17.91, 11.51, 3.36, -3.76),
    784: (23.56, 18.34, 11.68, 3.77, -3.84),
    1000: (24.42, 18.70, 11.87, 4.00, -3.80),
    1500: (25.12, 18.81, 11.70, 4.40, -3.85),
    2000: (27.03, 21.50, 13.96, 4.73, -3.86),
    2500: (27.72, 21.57, 13.81, 4.96, -3.87),
}
"""Table 1, natural logs by hidden width, in the order of ``COLUMNS``."""


class Kind(StrEnum):
    """What a number of the table might be."""

    GAP = "sqrt(./m)"
    SQUARE = "./m"
    """The square of the gap: the root was left out."""
    CAPACITY = "."


@dataclass(frozen=True)
class Reading:
    """One way to read a column of the table.

    Attributes:
        column, form, kind: which, and as what.
        log: natural logarithm of our number.
        paper: the printed one.
        theorem: whether this is the theorem's own form.
        fits: whether this is the form that the printed numbers fit.
    """

    column: str
    form: str
    kind: Kind
    log: float
    paper: float | None
    theorem: bool = False
    fits: bool = False

    @property
    def decades(self) -> float | None:
        """Orders of magnitude by which ours is larger."""
        return None if self.paper is None else (self.log - self.paper) / math.log(10)


def _load(training: Training, what: str, sample: Sample) -> Network:
    model = build(training.width, training.seed)
    model.load_state_dict(load_file(training.file(what)))
    return capture(model, Preprocessing(255.0)(sample.inputs[:2]))


def _error(network: Network, sample: Sample) -> float:
    """Share of errors; a tie is one."""
    process, wrong = Preprocessing(255.0), 0
    for inputs, labels in sample.batches(2000):
        logits, right = network(process(inputs)), torch.from_numpy(labels.copy()).long()[:, None]
        own = logits.gather(1, right)
        wrong += int((logits.scatter(1, right, -math.inf).max(1, keepdim=True).values >= own).sum())
    return wrong / len(sample)


def _pruned(network: Network, found: Setting) -> Network:
    """The network with the layers of a setting."""
    layers = {own.name: torch.from_numpy(own.values * math.exp(own.weights.log_top)).float() for own in found.layers}
    return replace(network, parameters={**network.parameters, **layers})


def _capacities(inputs: BoundInputs) -> Iterator[tuple[int, str, float]]:
    """Column, form and ``ln`` of every capacity that a reader might take a column for; the theorem's own form first."""
    frobenius = _value(inputs, "neyshabur2015-frobenius")
    yield 0, "(4^L/gamma^2) Prod ||A||_F^2", frobenius + 2 * inputs.depth * math.log(2)
    yield 0, "the same with 2^L", frobenius + inputs.depth * math.log(2)
    yield 0, "the same without 4^L", frobenius
    spectral = _value(inputs, "neyshabur2018-spec-fro")
    yield 1, "(1/gamma^2) h L^2 max||x||^2 Prod ||A||_2^2 Sum ||A||_F^2/||A||_2^2", spectral
    yield 1, "the same without max||x||^2", spectral - 2 * math.log(inputs.sample.largest_input)
    yield 2, "(1/gamma^2) Prod ||A||_2^2 (Sum (||A||_2,1/||A||_2)^(2/3))^3", _value(inputs, "bartlett2017-spec-l12")
    norms = [layer.norms for layer in inputs.layers]
    product = 2 * math.fsum(math.log(n.spectral) for n in norms) - 2 * math.log(inputs.gamma)
    ratios = 3 * math.log(math.fsum((n.frobenius / n.spectral) ** (2 / 3) for n in norms))
    yield 2, "the same with ||A||_F for ||A||_2,1 (the public code)", product + ratios
    for name in ("guha2023-thm5.2", "guha2023-thm5.2-at-gamma"):
        value = get_bound(name)(inputs)
        yield 3, f"{name} (d = {value.ingredients['d']:.3g})", math.nan if value.log is None else value.log
        if value.log_printed is not None:
            yield 3, f"{name} as printed: 3 lambda chi d1 d2 for j p, 1/rho for r", value.log_printed


def _value(inputs: BoundInputs, name: str) -> float:
    found = get_bound(name)(inputs).log
    return math.nan if found is None else found


COLUMNS = ("Neyshabur 2015", "Neyshabur 2017", "Bartlett 2017", "Ours", "True error")

FITTING = ((Kind.SQUARE, 0), (Kind.SQUARE, 1), (Kind.SQUARE, 1), (Kind.GAP, 0))
"""Kind and number of the form that the printed numbers fit, by column: see docs/guha-table.md."""


def readings(inputs: BoundInputs, errors: dict[str, float], width: int) -> list[Reading]:
    """Every column in every form, as the gap, its square, and the capacity."""
    paper = PAPER.get(width, (None,) * len(COLUMNS))
    found, numbers = [], dict.fromkeys(range(len(COLUMNS)), 0)
    for column, form, value in _capacities(inputs):
        number, numbers[column] = numbers[column], numbers[column] + 1
        squared = value - math.log(inputs.m)
        for kind, log in ((Kind.GAP, squared / 2), (Kind.SQUARE, squared), (Kind.CAPACITY, value)):
            theorem, fits = kind is Kind.GAP and number == 0, (kind, number) == FITTING[column]
            found.append(Reading(COLUMNS[column], form, kind, log, paper[column], theorem, fits))
    for k, (name, error) in enumerate(errors.items()):
        found.append(Reading(COLUMNS[4], name, Kind.GAP, math.log(error), paper[4], k == 0, k == 0))
    return found


def rows(training: Training, quantile: float) -> dict[str, object]:
    """Gather once, and read every column in every form."""
    start = time.perf_counter()
    sample = load_sample("mnist", Role.TRAIN)
    test = load_sample("mnist", Role.HOLDOUT, split="test")
    network = _load(training, "weights", sample)
    settings = BoundSettings(margin_quantile=quantile, profile=False, flatness=False)
    inputs = gather(
        network,
        sample,
        settings,
        preprocessing=Preprocessing(255.0),
        init=_load(training, "init", sample),
        holdout=test,
    )
    errors = {
        "trained network": _error(network, test),
        "pruned at d = 1": _error(_pruned(network, stated(inputs)), test),
        "pruned as far as gamma allows": _error(_pruned(network, at_gamma(inputs)), test),
    }
    found = readings(inputs, errors, training.width)
    norms = [layer.norms for layer in inputs.layers]
    return {
        "benchmark": "guha",
        "name": training.name,
        "epochs": len(json.loads(training.file("log").read_text())),
        "quantile": quantile,
        "gamma": inputs.gamma,
        "train_errors": inputs.sample.errors,
        "m": inputs.m,
        "max_input_norm": inputs.sample.largest_input,
        "spectral": [round(n.spectral, 3) for n in norms],
        "frobenius": [round(n.frobenius, 3) for n in norms],
        "norm_21": [round(n.norm_21, 3) for n in norms],
        "readings": [{**asdict(own), "log": round(own.log, 3)} for own in found],
        "bounds": {b.name: _log(b(inputs)) for b in all_bounds() if b.name.startswith(("guha2023", "shin2021"))},
        "seconds": round(time.perf_counter() - start, 1),
        "versions": versions(),
    }


def _log(value: BoundValue) -> float | None:
    return None if value.log is None else round(value.log, 3)


def show(result: dict[str, Any]) -> Iterator[str]:
    """The theorems' own forms in the order of their size, the forms that fit, and every other one."""
    yield f"{result['name']}: {result['epochs']} epochs, gamma {result['gamma']:.4g}, {result['train_errors']} errors"
    every = [Reading(**own) for own in result["readings"]]
    parts = {
        "theorems' gaps": sorted((r for r in every if r.theorem), key=lambda r: -r.log),
        "forms that fit": [r for r in every if r.fits],
        "other forms": [r for r in every if not r.theorem and not r.fits],
    }
    for title, chosen in parts.items():
        yield f"{title:<15} {'ln':>8} {'paper':>8} {'decades':>8}  {'kind':<9}  form"
        for reading in chosen:
            paper = "" if reading.paper is None else f"{reading.paper:.2f}"
            decades = "" if reading.decades is None else f"{reading.decades:+.1f}"
            kind = "" if reading.column == COLUMNS[4] else reading.kind
            yield f"{reading.column:<15} {reading.log:>8.2f} {paper:>8} {decades:>8}  {kind:<9}  {reading.form}"
