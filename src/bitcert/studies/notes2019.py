"""The notes of 2019 on generalization and compression: larger networks generalize better; singular values of a filter.

Their figures 2, 3, 5 and 6 are taken from Arora et al. 2018, and are the studies of the same content there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from bitcert.data import Role, Sample
from bitcert.network import capture
from bitcert.stability import LayerRow, LayerSpectrum, MeasureSettings, StabilityProfile
from bitcert.studies import arora2018, arora2018_bounds
from bitcert.studies.context import Context
from bitcert.studies.networks import dense
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row, Trained
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork
from bitcert.theory.gathering import bounds
from bitcert.theory.settings import BoundSettings, positive_quantile

PAPER = "Notes 2019"
DEPTH = 3
FIG4_LAYER = 10
SMALL = 0.1
"""A singular value is small if it is below this share of the largest."""


@dataclass(frozen=True)
class Width:
    """A network of one width on one data set; the capacity is that of the notes' equation (2), as log10."""

    width: int
    trained: Trained
    capacity_log10: float | None
    bound: float
    message_bits: int


def fig1(context: Context) -> Outcome:
    """Dense networks of widths over two decades: error, parameters, capacity, certificate."""
    widths = context.choose((4, 20, 100, 400), (5, 10, 20, 50, 100, 200, 500), (5, 10, 20, 50, 100, 200, 500, 1000))
    rows, panels, findings = [], [], []
    found: dict[str, list[Width]] = {}
    for data in ("mnist", "cifar10"):
        sample = context.sample(data, context.choose(1_000, 10_000, None))
        test = context.sample(data, context.choose(1_000, None, None), role=Role.HOLDOUT, split="test")
        found[data] = [_width(context, sample, test, width) for width in widths]
        for each in found[data]:
            rows += _width_rows(data, each)
        panels += _width_panels(data, found[data])
        findings.append(_width_finding(data, found[data]))
    caption = "Dense ReLU networks of three layers, by their hidden width; the capacity is equation (2) of the notes."
    figure = Figure("Error, capacity and certificate by width", caption, tuple(panels))
    scaled = context.choose(
        "dense networks on 1,000 images of each data set, the search for a certificate 4 s",
        "dense networks on 10,000 images of each data set, the search for a certificate 20 s",
        "",
    )
    facts = tuple(each.trained for series in found.values() for each in series)
    return Outcome(tuple(rows), (figure,), tuple(findings), scaled, facts, {"depth": DEPTH})


def _recipe(context: Context, sample: Sample, width: int) -> Recipe:
    coloured = sample.input_shape[0] == 3
    return Recipe(
        f"dense {width} x {DEPTH}",
        partial(dense, sample.inputs[0].size, width, DEPTH),
        context.choose(20, 30, 60),
        rate=0.001,
        optimiser="adam",
        batch_size=64,
        # without it narrow networks die on inputs that are all positive
        mean=arora2018.MEAN if coloured else (),
        std=arora2018.STD if coloured else (),
        stop_at=0.0,
    )


def _width(context: Context, sample: Sample, test: Sample, width: int) -> Width:
    trained = context.train(_recipe(context, sample, width), sample, test)
    facts = trained.trained
    key = (facts.name, facts.settings, facts.epochs)
    capacity = context.piece("capacity", tuple[float | None], lambda: _capacity(context, trained, sample), *key)
    certify = partial(arora2018_bounds.certified, context, trained, sample, context.choose(4.0, 20.0, 600.0))
    bound, bits = context.piece("certificate", tuple[float, int], certify, *key)
    return Width(width, facts, capacity[0], bound, bits)


def _capacity(context: Context, trained: TrainedNetwork, sample: Sample) -> tuple[float | None]:
    network = capture(trained.module, trained.preprocessing(sample.inputs[:2]))
    settings = BoundSettings(
        margin_quantile=positive_quantile(trained.trained.train_error),
        seed=context.seed,
        flatness=False,
        profile_samples=context.choose(100, 200, 10_000),
        measure=MeasureSettings(quantities=arora2018.QUANTITIES[:3]),
    )
    table = bounds(network, sample, settings, preprocessing=trained.preprocessing, progress=context.run.progress)
    return (table.row("notes2019-capacity").log10,)


def _width_rows(data: str, each: Width) -> list[Row]:
    name = f"{data}, width {each.width}"
    error = None if each.trained.test_error is None else 100 * each.trained.test_error
    capacity = None if each.capacity_log10 is None else each.capacity_log10
    return [
        Row(f"{name}: test error", None, error, f"{each.trained.parameters:,} parameters", "%"),
        Row(f"{name}: capacity", None, capacity, "equation (2), log10 of parameters that matter", "log10"),
        Row(f"{name}: certified bound", None, 100 * each.bound, f"{each.message_bits:,} bits", "%"),
    ]


def _width_panels(data: str, series: Sequence[Width]) -> list[Panel]:
    widths = [each.width for each in series]
    test = [None if each.trained.test_error is None else 100 * each.trained.test_error for each in series]
    train = [None if each.trained.train_error is None else 100 * each.trained.train_error for each in series]
    curves = (
        Curve.of("test error", widths, test, look="both"),
        Curve.of("training error", widths, train, look="both"),
        Curve.of("certified bound", widths, [100 * each.bound for each in series], look="both"),
    )
    sizes = [10**log if (log := each.capacity_log10) is not None else None for each in series]
    counts = (
        Curve.of("parameters", widths, [float(each.trained.parameters) for each in series], look="both"),
        Curve.of("capacity, eq. (2)", widths, sizes, look="both"),
    )
    return [
        Panel(data, "hidden width", "%", curves, log_x=True),
        Panel("", "hidden width", "parameters", counts, log_x=True, log_y=True),
    ]


def _width_finding(data: str, series: Sequence[Width]) -> str:
    errors = [each.trained.test_error or 0.0 for each in series]
    best = errors.index(min(errors))
    tightest = min(series, key=lambda each: each.bound)
    word = "falls with every step of the width" if errors == sorted(errors, reverse=True) else "is smallest at width"
    where = "" if word.startswith("falls") else f" {series[best].width}"
    return (
        f"{data}: the test error {word}{where} ({100 * errors[0]:.1f} % at width {series[0].width}, "
        f"{100 * errors[-1]:.1f} % at {series[-1].width}); the tightest certificate, "
        f"{100 * tightest.bound:.1f} %, is that of width {tightest.width}."
    )


def fig4(context: Context) -> Outcome:
    """Singular values of the filters of layer 10 of VGG-19."""
    vgg = arora2018.vgg_of(context)
    profile = arora2018.profile_of(context, vgg, ("spectra",))
    assert profile.twin is not None
    rows, curves = [], []
    ranks: dict[str, float | None] = {}
    for words, each in (("trained", profile), ("random", profile.twin)):
        spectrum, layer = _of_layer(each)
        top = spectrum.singular_values[0]
        small = sum(value < SMALL * top for value in spectrum.singular_values)
        ranks[words] = layer.stable_rank
        share = 100 * small / len(spectrum.singular_values)
        rows.append(Row(f"stable rank, {words}", None, layer.stable_rank, f"of {len(spectrum.singular_values)}"))
        rows.append(Row(f"singular values below a tenth of the largest, {words}", None, share, "", "%"))
        shares = [value / top for value in spectrum.singular_values]
        curves.append(Curve.of(words, range(1, len(shares) + 1), shares))
    panel = Panel("", "rank", "singular value over the largest", tuple(curves))
    caption = "Of the kernel of layer 10 as a matrix of one row a filter; the notes show a histogram of one filter."
    one, other = ranks["trained"], ranks["random"]
    findings: tuple[str, ...] = ()
    if one is not None and other:
        findings = (
            f"The stable rank of layer {FIG4_LAYER} is {one:.3g} trained and {other:.3g} with random weights, "
            f"{100 * (one / other - 1):+.0f} %. The notes show singular values that are mostly close to zero.",
        )
    figure = Figure("Singular values of layer 10", caption, (panel,))
    scaled = arora2018.SCALED[context.size.value]
    return Outcome(tuple(rows), (figure,), findings, scaled, (vgg.facts,))


def _of_layer(profile: StabilityProfile) -> tuple[LayerSpectrum, LayerRow]:
    spectrum = next(each for each in profile.spectra if each.index == FIG4_LAYER)
    return spectrum, profile.layers[FIG4_LAYER - 1]


def _shared(name: str, original: Study, note: str) -> Study:
    """A figure that the notes take from Arora et al. 2018, under their own number."""
    return replace(original, name=name, printed=f"{PAPER}, {note}, taken from Arora et al. 2018: {original.name}.")


_ARORA = {study.name: study for study in (*arora2018.STUDIES, *arora2018_bounds.STUDIES)}

STUDIES = (
    Study(
        "notes2019.fig1",
        "larger networks generalize better: widths over two decades on MNIST and CIFAR-10",
        f"{PAPER}, Figure 1 (from Neyshabur et al.): a curve, no numbers.",
        (Cost(110), Cost(1_200, 2_000, 300), Cost(40_000, 4_000, 1_000)),
        fig1,
        ("mnist", "cifar10"),
    ),
    _shared("notes2019.fig2", _ARORA["arora2018.fig3left"], "Figure 2"),
    _shared("notes2019.fig3", _ARORA["arora2018.fig1"], "Figure 3"),
    Study(
        "notes2019.fig4",
        "singular values of the filters of layer 10 of VGG-19, with the stable rank",
        f"{PAPER}, Figure 4: a distribution, no numbers.",
        arora2018.VGG_COSTS,
        fig4,
        ("cifar10",),
    ),
    _shared("notes2019.fig5", _ARORA["arora2018.corrupted"], "Figure 5"),
    _shared("notes2019.fig6", _ARORA["arora2018.fig3right"], "Figure 6"),
)
