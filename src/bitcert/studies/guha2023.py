"""Guha, Dubey and Huo 2023: Tables 1 and 2, Figures 1 and 2, on networks of five dense layers trained here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from bitcert.counting import count_errors
from bitcert.data import Role, Sample
from bitcert.decoder import Preprocessing
from bitcert.network import Network, capture
from bitcert.stability import MeasureSettings, measure
from bitcert.studies.context import Context
from bitcert.studies.guha_readings import COLUMNS, PAPER, PAPER_CIFAR, Reading, readings
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row, Trained
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork
from bitcert.theory.formulas.pruning_setting import Setting, at_gamma, stated
from bitcert.theory.gathering import gather
from bitcert.theory.inputs import BoundInputs
from bitcert.theory.ranks import spearman
from bitcert.theory.registry import get_bound
from bitcert.theory.settings import BoundSettings, positive_quantile

NAME = "Guha et al. 2023"
DEPTH, BATCH, RATE, PRINTED_RATE, PRINTED_EPOCHS = 5, 256, 0.001, 0.02, 300
LOW_QUANTILE = 0.01
"""Of the margins in Figure 2: the paper's margin is negative at first, so it must be a low quantile."""


def mlp(inputs: int, width: int, classes: int = 10) -> nn.Sequential:
    """The network of section 7: no biases (the theorems have none), weights as ``nn.Linear`` draws them."""
    sizes = [inputs, *[width] * (DEPTH - 1), classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def recipe_of(width: int, inputs: int, epochs: int, bfloat16: bool = False) -> Recipe:
    """How it is trained: Adam at 0.001, since the printed rate of 0.02 does not train it (docs/guha-table.md)."""
    return Recipe(
        f"Guha MLP {width}",
        partial(mlp, inputs, width),
        epochs,
        rate=RATE,
        optimiser="adam",
        batch_size=BATCH,
        bfloat16=bfloat16,
        keep_every=1 if width in (64, 784) else 0,
    )


@dataclass(frozen=True)
class Column:
    """What was read of one network.

    Attributes:
        readings: of every column, see :func:`readings`.
        gamma, gamma_means: the margin, and how it was chosen.
    """

    readings: tuple[Reading, ...]
    gamma: float
    gamma_means: str

    def theorem(self, column: int) -> float | None:
        """``ln`` of the theorem's gap, or of the true error."""
        return next(own.log for own in self.readings if own.column == COLUMNS[column] and own.theorem)

    def fitting(self, column: int) -> Reading:
        """The form that the printed numbers fit."""
        return next(own for own in self.readings if own.column == COLUMNS[column] and own.fits)


def _pruned(network: Network, found: Setting) -> Network:
    """The network with the layers of a setting."""
    layers = {own.name: torch.from_numpy(own.values * math.exp(own.weights.log_top)).float() for own in found.layers}
    return replace(network, parameters={**network.parameters, **layers})


def _error(network: Network, sample: Sample, preprocessing: Preprocessing) -> float:
    with torch.no_grad():
        return count_errors(lambda inputs: network(preprocessing(inputs)), sample).rate


def _gathered(
    context: Context, network: Network, sample: Sample, preprocessing: Preprocessing, **chosen: float | None
) -> BoundInputs:
    settings = BoundSettings(**chosen, seed=context.seed, profile=False, flatness=False, device=context.run.device)  # type: ignore[arg-type]
    return gather(network, sample, settings, preprocessing, progress=context.run.progress)


def _column(context: Context, trained: TrainedNetwork, sample: Sample, test: Sample) -> Column:
    preprocessing = trained.preprocessing
    network = capture(trained.module, preprocessing(sample.inputs[:2]))
    quantile = positive_quantile(trained.trained.train_error)
    inputs = _gathered(context, network, sample, preprocessing, margin_quantile=quantile)
    errors = {
        "trained network": _error(network, test, preprocessing),
        "pruned at d = 1": _error(_pruned(network, stated(inputs)), test, preprocessing),
        "pruned as far as gamma allows": _error(_pruned(network, at_gamma(inputs)), test, preprocessing),
    }
    return Column(readings(inputs, errors), inputs.margin, inputs.gamma_rule)


def _rows(title: str, found: Column, paper: tuple[float | None, ...]) -> list[Row]:
    rows = []
    for k, name in enumerate(COLUMNS):
        comment = f"theorem's own form{_orders(paper[k], found.theorem(k))}"
        rows.append(Row(f"{title}: {name}, ln of the gap", paper[k], found.theorem(k), comment, unit="ln"))
        fits = found.fitting(k)
        if not fits.theorem:
            comment = f"{fits.kind} of {fits.form}{_orders(paper[k], fits.log)}"
            rows.append(Row(f"{title}: {name}, ln", paper[k], fits.log, comment, unit="ln"))
    for own in found.readings:
        if own.column == COLUMNS[-1] and not own.theorem:
            rows.append(Row(f"{title}: {own.column}, {own.form}, ln", None, own.log, unit="ln"))
    rows.append(Row(f"{title}: margin", None, found.gamma, found.gamma_means))
    return rows


def _orders(paper: float | None, ours: float | None) -> str:
    """How many orders of magnitude ours is larger, in words."""
    return "" if paper is None or ours is None else f"; {(ours - paper) / math.log(10):+.1f} orders of magnitude"


def _bars(title: str, found: Column, paper: tuple[float | None, ...]) -> Panel:
    places = range(len(COLUMNS))
    curves = (
        Curve.of("the paper prints", places, paper, look="points", paper=True),
        Curve.of("ours, gaps as the theorems have them", places, map(found.theorem, range(5)), look="both"),
        Curve.of("ours in the form that fits", places, (found.fitting(k).log for k in range(5)), look="both"),
    )
    return Panel(title, "", "natural logarithm", curves, names=COLUMNS)


def _compared(found: Column, paper: tuple[float | None, ...]) -> str:
    ours, bartlett = found.theorem(3), found.theorem(2)
    if ours is None or bartlett is None:
        return "One of the rows has no value."
    printed = "" if paper[2] is None or paper[3] is None else f", where the paper prints {paper[2] - paper[3]:.2f}"
    words = "smaller" if ours < bartlett else "larger"
    return (
        f"compared as gaps, Theorem 5.2 is {words} than Bartlett's bound by {abs(bartlett - ours):.2f} in the natural "
        f"logarithm{printed}"
    )


def _scaled(context: Context, epochs: int, examples: int, batch: str = "") -> str:
    count = f", {examples:,} examples, width 64" if context.choose(True, False, False) else ""
    return (
        f"{epochs} epochs instead of {PRINTED_EPOCHS}{count}, Adam at {RATE} because the printed {PRINTED_RATE} does "
        f"not train this network{batch}."
    )


def table1(context: Context) -> Outcome:
    """All widths, all rows, and the figure over the width."""
    widths = context.choose((64,), *2 * (tuple(PAPER),))
    count, epochs = context.choose((2_000, 2), (None, 5), (None, 300))
    sample = context.sample("mnist", count)
    test = context.sample("mnist", count, role=Role.HOLDOUT, split="test")
    found, trained = dict[int, Column](), list[Trained]()
    for width in widths:
        network = context.train(recipe_of(width, 784, epochs, context.bfloat16), sample, test)
        found[width] = context.piece(f"width {width}", Column, partial(_column, context, network, sample, test))
        trained.append(network.trained)
    rows = [
        row for width, column in found.items() for row in _rows(f"width {width}", column, PAPER.get(width, (None,) * 5))
    ]
    shown = 784 if 784 in found else widths[0]
    figures = (
        Figure(
            "Bounds on MNIST (Figure 1a)",
            f"Hidden width {shown}. Which form fits was chosen after the fact: docs/guha-table.md.",
            (_bars("", found[shown], PAPER.get(shown, (None,) * 5)),),
        ),
        Figure("Dependence on the width (Figure 1c)", "Natural logarithms.", _over_widths(found)),
    )
    findings = [
        f"Width {width}: {_compared(column, PAPER.get(width, (None,) * 5))}." for width, column in found.items()
    ]
    return Outcome(
        tuple(rows),
        figures,
        findings=(*findings, *_growth(found)),
        scaled=_scaled(context, epochs, len(sample)),
        trained=tuple(trained),
        settings={"widths": list(widths), "epochs": epochs, "rate": RATE, "batch": BATCH},
    )


def _over_widths(found: dict[int, Column]) -> tuple[Panel, ...]:
    panels = []
    for k, name in enumerate(COLUMNS[:4]):
        curves = [
            Curve.of("the paper prints", PAPER, [own[k] for own in PAPER.values()], look="points", paper=True),
            Curve.of("ours as a gap", found, [column.theorem(k) for column in found.values()], look="both"),
        ]
        if not next(iter(found.values())).fitting(k).theorem:
            fits = [column.fitting(k).log for column in found.values()]
            curves.append(Curve.of("ours in the form that fits", found, fits, look="both"))
        panels.append(Panel(name, "hidden width", "natural logarithm", tuple(curves)))
    return tuple(panels)


def _growth(found: dict[int, Column]) -> list[str]:
    if len(found) < 2:
        return []
    first, last = min(found), max(found)
    grown = [found[last].theorem(k) for k in range(4)]
    before = [found[first].theorem(k) for k in range(4)]
    parts = [
        f"{name} by {now - then:+.2f} (paper {PAPER[last][k] - PAPER[first][k]:+.2f})"
        for k, (name, now, then) in enumerate(zip(COLUMNS, grown, before, strict=False))
        if now is not None and then is not None
    ]
    return [f"From width {first} to {last} the logarithms change: {', '.join(parts)}."]


def table2(context: Context) -> Outcome:
    """The same for CIFAR-10."""
    width = context.choose(64, 784, 784)
    count, epochs = context.choose((2_000, 2), (None, 20), (None, 300))
    sample = context.sample("cifar10", count)
    test = context.sample("cifar10", count, role=Role.HOLDOUT, split="test")
    network = context.train(recipe_of(width, 3072, epochs, context.bfloat16), sample, test)
    column = context.piece("table 2", Column, partial(_column, context, network, sample, test))
    figure = Figure("Bounds on CIFAR-10 (Figure 1b)", "Natural logarithms.", (_bars("", column, PAPER_CIFAR),))
    return Outcome(
        tuple(_rows(f"width {width}", column, PAPER_CIFAR)),
        (figure,),
        findings=(f"CIFAR-10: {_compared(column, PAPER_CIFAR)}.",),
        scaled=_scaled(context, epochs, len(sample), f", batches of {BATCH} instead of 4"),
        trained=(network.trained,),
        settings={"width": width, "epochs": epochs, "rate": RATE, "batch": BATCH},
    )


@dataclass(frozen=True)
class Moment:
    """One epoch of Figure 2: the low margin, ``ln`` of the gaps (``None`` without a positive margin), the error."""

    epoch: int
    margin: float
    stated: float | None
    at_gamma: float | None
    error: float


def _moment(context: Context, module: nn.Module, epoch: int, sample: Sample, test: Sample) -> Moment:
    preprocessing = Preprocessing.usual(sample)
    network = capture(module, preprocessing(sample.inputs[:2]))
    profile = measure(network, sample, MeasureSettings(quantities=("margin",), keep=True), preprocessing=preprocessing)
    assert profile.arrays is not None
    margins = sorted(float(value) for value in profile.arrays["margin"])
    margin = margins[max(math.ceil(LOW_QUANTILE * len(margins)), 1) - 1]
    # the row at a stated strength does not depend on the margin; without a positive one the other has no value
    chosen = {"margin_quantile": LOW_QUANTILE} if margin > 0 else {"gamma": margins[-1] / 2}
    gaps: dict[str, float | None] = dict.fromkeys(("guha2023-thm5.2", "guha2023-thm5.2-at-gamma"))
    if margins[-1] > 0:
        inputs = _gathered(context, network, sample, preprocessing, **chosen)
        for name in gaps:
            log = get_bound(name)(inputs).log
            gaps[name] = None if log is None else (log - math.log(inputs.m)) / 2
    stated_gap, gamma_gap = gaps.values()
    return Moment(epoch, margin, stated_gap, gamma_gap if margin > 0 else None, _error(network, test, preprocessing))


def fig2(context: Context) -> Outcome:
    """The bound, the margin and the true error over the epochs."""
    width = context.choose(64, 784, 784)
    count, epochs = context.choose((2_000, 2), (None, 10), (None, 300))
    sample = context.sample("mnist", count)
    test = context.sample("mnist", count, role=Role.HOLDOUT, split="test")
    network = context.train(recipe_of(width, 784, epochs, context.bfloat16), sample, test)
    part = context.sample("mnist", context.choose(500, 10_000, None))
    epochs_seen = sorted(network.snapshots)
    moments = [
        context.piece(f"epoch {k}", Moment, partial(_at_epoch, context, network, k, part, test)) for k in epochs_seen
    ]
    x = [each.epoch for each in moments]
    panels = (
        Panel(
            "margin",
            "epoch",
            f"{100 * LOW_QUANTILE:g} % quantile of the margins",
            (_over(x, [m.margin for m in moments]),),
        ),
        Panel("bound", "epoch", "ln of the gap", _both(x, moments)),
        Panel(
            "true error", "epoch", "ln of the test error", (_over(x, [math.log(max(m.error, 1e-9)) for m in moments]),)
        ),
    )
    positive = next((each.epoch for each in moments if each.margin > 0), None)
    rows = [
        Row(
            "first epoch with a positive margin",
            None,
            None if positive is None else float(positive),
            "0: before training",
        ),
        Row("ln of the bound, first", None, moments[0].stated, "at d = 1"),
        Row("ln of the bound, last", None, moments[-1].stated, "at d = 1"),
        Row("test error, last", None, 100 * moments[-1].error, unit="%"),
    ]
    return Outcome(
        tuple(rows),
        (
            Figure(
                "Over the epochs (Figure 2)",
                "The paper scales its bound to the error's range; here each has its axis.",
                panels,
            ),
        ),
        findings=_course(moments, positive),
        scaled=_scaled(context, epochs, len(sample)),
        trained=(network.trained,),
        settings={"width": width, "epochs": epochs, "measured on": len(part), "quantile": LOW_QUANTILE},
    )


def _at_epoch(context: Context, network: TrainedNetwork, epoch: int, sample: Sample, test: Sample) -> Moment:
    return _moment(context, network.after(epoch), epoch, sample, test)


def _over(x: Sequence[int], y: Sequence[float | None]) -> Curve:
    return Curve.of("ours", x, y, look="both")


def _both(x: Sequence[int], moments: Sequence[Moment]) -> tuple[Curve, ...]:
    return (
        Curve.of("Theorem 5.2 at d = 1", x, [m.stated for m in moments], look="both"),
        Curve.of("as far as the margin allows", x, [m.at_gamma for m in moments], look="both"),
    )


def _course(moments: Sequence[Moment], positive: int | None) -> tuple[str, ...]:
    sign = (
        "The low margin is never positive."
        if positive is None
        else f"The low margin is positive from epoch {positive} on."
    )
    known = [m for m in moments[1:] if m.stated is not None]
    falls = sum(b.stated < a.stated for a, b in pairwise(known) if a.stated is not None and b.stated is not None)
    course = f"After the first epoch the bound at d = 1 falls in {falls} of {max(0, len(known) - 1)} steps"
    if len(known) > 2:
        found = spearman([m.stated or 0.0 for m in known], [m.error for m in known])
        course += f"; its rank correlation with the test error is {found.value:+.2f}" if found else ""
    return sign, f"{course}. It depends on norms alone, not on the margin; the paper sees its own fall with the margin."


STUDIES = (
    Study(
        "guha2023.table1",
        "five columns for MNIST networks of six widths, with Figures 1a and 1c",
        f"{NAME}, Table 1: e.g. width 784: 23.56, 18.34, 11.68, 3.77, -3.84 (natural logarithms).",
        (Cost(40), Cost(1_500, 4_000, 2_500), Cost(100_000, 4_000, 40_000)),
        table1,
        ("mnist",),
    ),
    Study(
        "guha2023.table2",
        "the same five columns for CIFAR-10, with Figure 1b",
        f"{NAME}, Table 2: 33.19, 30.10, 22.40, 4.68, -2.41 (natural logarithms).",
        (Cost(40), Cost(500, 3_000, 600), Cost(9_000, 3_000, 6_000)),
        table2,
        ("cifar10",),
    ),
    Study(
        "guha2023.fig2",
        "their bound, the margin's sign and the true error over the epochs",
        f"{NAME}, Figure 2: curves without numbers; the margin is negative at first.",
        (Cost(30), Cost(300, 2_500, 600), Cost(9_000, 3_000, 9_000)),
        fig2,
        ("mnist",),
    ),
)
