"""Zhang 2020, section 7: the bound for residual networks on real ones, and whether projection beats truncation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from bitcert.certificates.certification import certify
from bitcert.codecs.base import Codec
from bitcert.codecs.magnitude_pruning import MagnitudePruning
from bitcert.codecs.matrix_project import MatrixProject
from bitcert.codecs.quantise import Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.truncated_svd import TruncatedSVD
from bitcert.comparison import CompareSettings, Comparison, beaten, compare, shortest_faithful
from bitcert.comparison.conclusions import PROJECTION, PROJECTION_SENTENCE, SVD
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, Preprocessing
from bitcert.network import Network, capture
from bitcert.studies.context import Context
from bitcert.studies.published import PUBLISHED, load_published
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row, Trained
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe
from bitcert.theory.gathering import bounds
from bitcert.theory.settings import MARGIN_QUANTILE, BoundSettings, positive_quantile
from bitcert.theory.table import BoundTable

PAPER = "Zhang 2020"
THEOREMS = {
    "zhang2020-thm5.1": "Thm 5.1, product of spectral norms",
    "zhang2020-thm6.1": "Thm 6.1, residual recursion",
    "zhang2020-thm5.7": "Thm 5.7, noise stability, dense layers",
    "arora2018-thm5.1": "the same with convolutions (Arora, Thm 5.1)",
}
PIPELINE = MagnitudePruning.name


class InvertedBlock(nn.Module):
    """Expand, depthwise convolution, gate, project; a shortcut where the shapes agree (Tan & Le 2019).

    Without ``gated`` there is no squeeze-and-excitation and ReLU replaces SiLU: nodes of which Theorem 6.1 speaks.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, gated: bool = True, expansion: int = 4) -> None:
        super().__init__()
        inner, act = inputs * expansion, nn.SiLU if gated else nn.ReLU
        self.expand = nn.Sequential(nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), act())
        depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.depthwise = nn.Sequential(depthwise, nn.BatchNorm2d(inner), act())
        self.gate: nn.Module | None = None
        if gated:
            few = max(4, inputs // 4)
            squeeze = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, few, 1), act(), nn.Conv2d(few, inner, 1)]
            self.gate = nn.Sequential(*squeeze, nn.Sigmoid())
        self.project = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, outputs, height, width]``."""
        y: Tensor = self.depthwise(self.expand(x))
        y = self.project(y if self.gate is None else y * self.gate(y))
        return x + y if self.shortcut else y


def efficient(gated: bool = True) -> nn.Module:
    """A small network of the blocks of EfficientNet on ``[batch, 3, 32, 32]``; see :class:`InvertedBlock`."""
    act = nn.SiLU if gated else nn.ReLU
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), act())
    sizes = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 40, 2))
    blocks = [InvertedBlock(*size, gated=gated) for size in sizes]
    top = [nn.Conv2d(40, 96, 1, bias=False), nn.BatchNorm2d(96), act(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(stem, *blocks, *top, nn.Linear(96, 10))


@dataclass(frozen=True, eq=False)
class _Own:
    """A network of the residual study; ``quantile`` of the training margins is the margin of the theorems."""

    title: str
    network: Network
    preprocessing: Preprocessing
    quantile: float = MARGIN_QUANTILE


def resnet(context: Context) -> Outcome:
    """Theorems 5.1, 6.1 and 5.7, a certificate and the real gap, network by network."""
    names = context.choose(("resnet20",), ("resnet20", "resnet44", "resnet56"), ("resnet20", "resnet44", "resnet56"))
    count = context.choose(200, 1_000, None)
    sample = context.sample("cifar10", count)
    test = context.sample("cifar10", count, role=Role.HOLDOUT, split="test")
    rows: list[Row] = []
    columns: dict[str, list[float | None]] = {}
    for name in names:
        own = PUBLISHED[name]
        network = capture(load_published(name), own.preprocessing(sample.inputs[:2]))
        _residual_rows(context, _Own(own.title, network, own.preprocessing), sample, test, rows, columns)
    trained = tuple(_trained_blocks(context, gated, sample, test, rows, columns) for gated in (True, False))
    titles = list(columns)
    curves = [
        Curve.of(THEOREMS[name], range(len(titles)), [columns[title][k] for title in titles], look="both")
        for k, name in enumerate(THEOREMS)
    ]
    panel = Panel("capacity by four theorems", "", "log10 of the capacity", tuple(curves), names=tuple(titles))
    caption = "Capacities with constants and logarithms dropped; what a theorem says nothing of has no point."
    return Outcome(
        tuple(rows),
        (Figure("Residual networks", caption, (panel,)),),
        findings=_residual_findings(columns, len(sample)),
        scaled=_residual_scaled(context, count),
        trained=trained,
        settings={"samples": len(sample), "margin_quantile": MARGIN_QUANTILE},
    )


def _residual_scaled(context: Context, count: int | None) -> str:
    if count is None:
        return "The paper names no network; the block network of EfficientNet is a small one, trained here."
    quick = " and ResNet-20 alone" if len(context.choose((1,), (1, 2), (1, 2))) == 1 else ""
    return (
        f"The paper names no network or sample. The bounds are computed from {count:,} examples{quick} (a certificate "
        "from all of them is tighter); the block network is a small one, trained here on the same examples."
    )


def _trained_blocks(
    context: Context,
    gated: bool,
    sample: Sample,
    test: Sample,
    rows: list[Row],
    columns: dict[str, list[float | None]],
) -> Trained:
    title = "EfficientNet blocks" if gated else "the same with ReLU, no gates"
    epochs = context.choose(2, 15, 100)
    recipe = Recipe(title, partial(efficient, gated), epochs, rate=0.003, optimiser="adam", batch_size=64)
    found = context.train(recipe, sample, test)
    network = capture(found.module, found.preprocessing(sample.inputs[:2]))
    own = _Own(title, network, found.preprocessing, positive_quantile(found.trained.train_error))
    _residual_rows(context, own, sample, test, rows, columns)
    return found.trained


def _residual_rows(
    context: Context,
    own: _Own,
    sample: Sample,
    test: Sample,
    rows: list[Row],
    columns: dict[str, list[float | None]],
) -> None:
    measured, title, network, preprocessing = context.choose(2, 10, 100), own.title, own.network, own.preprocessing
    settings = BoundSettings(margin_quantile=own.quantile, seed=context.seed, profile_samples=measured, flatness=False)
    table = context.piece(
        f"bounds of {title}",
        BoundTable,
        lambda: bounds(
            network, sample, settings, preprocessing=preprocessing, holdout=test, progress=context.run.progress
        ),
    )
    columns[title] = []
    for name, words in THEOREMS.items():
        row = table.row(name)
        columns[title].append(row.log10)
        rows.append(Row(f"{title}: log10 capacity, {words}", None, row.log10, row.why or row.status))
    value, comment = context.piece(
        f"certificate of {title}", tuple[float, str], lambda: _certificate(network, preprocessing, sample)
    )
    rows.append(Row(f"{title}: certificate", None, 100 * value, comment, unit="%"))
    gap = None if table.gap is None else 100 * table.gap
    if own.quantile != MARGIN_QUANTILE:
        rows.append(
            Row(f"{title}: quantile of the margin", None, 100 * own.quantile, "5 % would be negative", unit="%")
        )
    rows.append(Row(f"{title}: test error less training error", None, gap, "on as many examples of each", unit="%"))


def _certificate(network: Network, preprocessing: Preprocessing, sample: Sample) -> tuple[float, str]:
    """Bound of the network rounded to a tenth of its layers' root mean squares, and what it rests on."""
    helper = Helper.for_sample(sample, network.architecture, preprocessing)
    certificate = certify(Quantise(quantiser=Uniform(fraction=0.5)).encode(network, sample, helper=helper), sample)
    vacuous = "; vacuous" if certificate.bound >= 1 else ""
    return certificate.bound, f"{certificate.message_bits:,} bits, {certificate.errors} errors{vacuous}"


def _residual_findings(columns: dict[str, list[float | None]], m: int) -> tuple[str, ...]:
    found = []
    for title, (product, residual, *_) in columns.items():
        if residual is None:
            found.append(f"{title}: Theorem 6.1 does not apply.")
            continue
        beside = "" if product is None else f", Theorem 5.1 one of 10^{product:.1f}"
        words = "far above" if residual > math.log10(m) + 1 else "near or below"
        found.append(f"{title}: Theorem 6.1 gives a capacity of 10^{residual:.1f}{beside}, {words} the {m:,} examples.")
    return tuple(found)


def projection_or_svd(context: Context) -> Outcome:
    """Random projection against truncation, and the usual pipeline beside both."""
    names = context.choose(("lenet300_sparse",), *2 * (("lenet300", "lenet300_sparse", "lenet5", "lenet5_sparse"),))
    count = context.choose(1_000, 10_000, None)
    sample = context.sample("mnist", count)
    test = context.sample("mnist", count, role=Role.HOLDOUT, split="test")
    found = {PUBLISHED[name].title: _compared(context, name, sample, test) for name in names}
    rows = [row for title, comparison in found.items() for row in _comparison_rows(title, comparison)]
    answer = _answer(found)
    sentences = [
        f"{title}: {sentence}"
        for title, comparison in found.items()
        for sentence in comparison.conclusions
        if sentence.startswith(PROJECTION_SENTENCE)
    ]
    scaled = context.choose(
        "One network and 1,000 examples in place of four and 60,000.", "10,000 examples in place of 60,000.", ""
    )
    return Outcome(
        tuple(rows),
        (_tradeoff(found),),
        findings=(answer, *sentences),
        scaled=scaled,
        settings={"delta": 0.05, "samples": len(sample), "pipeline": "prune, share weights on a grid, arithmetic code"},
    )


def _codecs(context: Context) -> tuple[Codec, ...]:
    """Five strengths of each of the two, six of the usual pipeline."""
    svd, projection = TruncatedSVD.strengths(), MatrixProject.strengths()
    pipeline = [MagnitudePruning(keep=k, quantiser=Uniform(fraction=f)) for k in (0.5, 0.2, 0.08) for f in (0.25, 1.0)]
    chosen: list[Codec] = [*svd, *projection, *pipeline]
    return tuple(chosen if context.choose(False, True, True) else [svd[0], svd[-1], projection[0], pipeline[2]])


def _compared(context: Context, name: str, sample: Sample, test: Sample) -> Comparison:
    own = PUBLISHED[name]
    network = capture(load_published(name), own.preprocessing(sample.inputs[:2]))
    return context.piece(
        f"comparison of {name}",
        Comparison,
        lambda: compare(
            network,
            sample,
            CompareSettings(seed=context.seed),
            codecs=_codecs(context),
            holdout=test,
            helper=Helper.for_sample(sample, network.architecture, own.preprocessing),
            folder=context.pieces / name,
            progress=context.run.progress,
        ).named(name),
    )


def _comparison_rows(title: str, comparison: Comparison) -> list[Row]:
    counts = {codec: sum(row.codec == codec for row, _ in comparison.messages) for codec in (SVD, PROJECTION, PIPELINE)}
    rows = [
        Row(
            f"{title}: truncations beaten by a projection",
            None,
            beaten(comparison, SVD, PROJECTION),
            f"of {counts[SVD]}",
        ),
        Row(
            f"{title}: projections beaten by a truncation",
            None,
            beaten(comparison, PROJECTION, SVD),
            f"of {counts[PROJECTION]}",
        ),
    ]
    for codec, words in ((SVD, "truncation"), (PROJECTION, "projection"), (PIPELINE, "usual pipeline")):
        bits = shortest_faithful(comparison, codec)
        comment = "within one point of the original's training error" if bits else "no message is within one point"
        rows.append(Row(f"{title}: shortest {words}", None, bits, comment, unit="bits"))
    return rows


def _answer(found: dict[str, Comparison]) -> str:
    """One sentence over all networks, from the counts."""
    wins = sum(beaten(comparison, SVD, PROJECTION) for comparison in found.values())
    losses = sum(beaten(comparison, PROJECTION, SVD) for comparison in found.values())
    most = sum(row.codec in (SVD, PROJECTION) for each in found.values() for row, _ in each.messages)
    if wins == losses:
        verdict = "Random projection is neither better nor worse than dropping small singular values"
    else:
        verdict = (
            f"Random projection is {'better' if wins > losses else 'not better'} than dropping small singular values"
        )
    over = f"over {len(found)} network{'s' if len(found) > 1 else ''} and {most} messages"
    shorter = [
        title
        for title, comparison in found.items()
        if min(shortest_faithful(comparison, PIPELINE) or math.inf, math.inf)
        < min(shortest_faithful(comparison, codec) or math.inf for codec in (SVD, PROJECTION))
    ]
    usual = f"The usual pipeline has the shortest message within one point on {len(shorter)} of {len(found)}."
    counts = f"{wins} truncations are beaten by a projection, {losses} projections by a truncation"
    return f"{verdict} {over}: {counts}. {usual}"


def _tradeoff(found: dict[str, Comparison]) -> Figure:
    panels = []
    for title, comparison in found.items():
        curves = []
        for codec, words in ((SVD, "truncation"), (PROJECTION, "projection"), (PIPELINE, "prune, share, code")):
            points = sorted((own.message_bits, own.rate) for row, own in comparison.messages if row.codec == codec)
            curves.append(
                Curve.of(words, [bits for bits, _ in points], [100 * rate for _, rate in points], look="both")
            )
        panels.append(Panel(title, "bits of the message", "training errors, %", tuple(curves), log_x=True))
    caption = "Length of each message against its training errors: lower left is better. The paper prints no numbers."
    return Figure("Projection, truncation, and the usual pipeline", caption, tuple(panels))


STUDIES = (
    Study(
        "zhang2020.resnet",
        "the residual bound of Theorem 6.1 on real residual networks",
        f"{PAPER}, section 6: Theorem 6.1 and the wish to see it on such networks; no numbers.",
        (Cost(100), Cost(1_500, 3_000), Cost(40_000, 6_000)),
        resnet,
        ("cifar10", "pretrained"),
    ),
    Study(
        "zhang2020.projection_or_svd",
        "random projection, dropping small singular values, and the usual pipeline",
        f"{PAPER}, section 6: does random projection beat pruning small singular values in practice? No numbers.",
        (Cost(60), Cost(600, 2_000), Cost(2_500, 2_000)),
        projection_or_svd,
        ("mnist", "pretrained"),
    ),
)
