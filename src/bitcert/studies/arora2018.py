"""Arora et al. 2018, one trained VGG-19: attenuation of noise, distributions of layer 13, effective parameters.

Figure 1, Figure 2 and Table 1. The bounds and the two AlexNets are in :mod:`bitcert.studies.arora2018_bounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bitcert.data import Role, Sample
from bitcert.network import Network, capture
from bitcert.stability import AttenuationCurve, Distribution, MeasureSettings, StabilityProfile, measure
from bitcert.stability.planning import drawn
from bitcert.studies.context import Context
from bitcert.studies.networks import vgg19
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row, Trained
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork

PAPER = "Arora et al. 2018"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of the channels of CIFAR-10."""

TABLE1 = {
    1: (1644.87, 1728, 95.18),
    4: (644654.14, 147456, 437.18),
    6: (3457882.42, 589824, 586.25),
    9: (36920.60, 1179648, 3.129),
    12: (22735.09, 2359296, 0.963),
    15: (26583.81, 2359296, 1.126),
    18: (5052.15, 262144, 1.927),
}
"""As printed: effective parameters, weights, and percent, by layer."""

QUANTITIES = ("layer_cushion", "interlayer_cushion", "contraction", "smoothness")
FIG2_LAYER = 13
VGG_COSTS = (Cost(60), Cost(2_500, 2_000, 300), Cost(2_000_000, 12_000, 30_000))
SCALED = {
    "quick": "VGG-19 at a sixteenth of its width, 1,000 images, 30 epochs of SGD at rate 0.01 without dropout; the "
    "paper trains the full width on 50,000 images for about 300 epochs.",
    "default": "VGG-19 at a quarter of its width, 5,000 images, 100 epochs of SGD at rate 0.01 without dropout; the "
    "paper trains the full width on 50,000 images for about 300 epochs.",
    "full": "the paper states neither the first weights nor momentum and augmentation; ours are He-normal weights, "
    "0.9, and images that are flipped, shifted and partly covered.",
}


@dataclass(frozen=True, eq=False)
class Vgg:
    """A trained VGG-19, captured, with the examples it was trained on and those that are measured."""

    trained: TrainedNetwork
    network: Network
    sample: Sample
    test: Sample
    measured: Sample

    @property
    def facts(self) -> Trained:
        """What was trained."""
        return self.trained.trained


def vgg_recipe(context: Context) -> Recipe:
    """How the VGG-19 of this size is trained."""
    width, epochs, rate, dropout, batch = context.choose(
        (1 / 16, 30, 0.01, 0.0, 64), (1 / 4, 100, 0.01, 0.0, 64), (1.0, 299, 0.05, 0.5, 128)
    )
    return Recipe(
        f"VGG-19 of {width:g} width",
        partial(vgg19, width, dropout=dropout),
        epochs,
        rate=rate,
        halve_every=30,
        decay=5e-4,
        batch_size=batch,
        bfloat16=context.bfloat16,
        mean=MEAN,
        std=STD,
        augmented=context.choose(False, False, True),
        keep_every=context.choose(3, 10, 10),
    )


def vgg_of(context: Context) -> Vgg:
    """The VGG-19 of this size, trained on CIFAR-10."""
    count, tested, measured = context.choose((1_000, 1_000, 16), (5_000, None, 20), (None, None, 2_000))
    sample = context.sample("cifar10", count)
    test = context.sample("cifar10", tested, role=Role.HOLDOUT, split="test")
    trained = context.train(vgg_recipe(context), sample, test)
    network = capture(trained.module, trained.preprocessing(sample.inputs[:2]))
    return Vgg(trained, network, sample, test, drawn(sample, measured, context.seed))


def settings_of(context: Context, quantities: Sequence[str]) -> MeasureSettings:
    """How it is measured at this size; noise is injected where the paper injects it."""
    tolerance = context.choose(0.2, 0.1, 0.01)
    return MeasureSettings(
        seed=context.seed,
        quantities=tuple(quantities),
        noise_at_inputs=True,
        tolerance=tolerance,
        device=context.run.device,
    )


def profile_of(context: Context, vgg: Vgg, quantities: Sequence[str]) -> StabilityProfile:
    """The stability profile of the VGG-19 beside that of its random twin; measured once for all studies."""
    settings = settings_of(context, quantities)
    return context.piece(
        "profile",
        StabilityProfile,
        lambda: measure(
            vgg.network,
            vgg.measured,
            settings,
            preprocessing=vgg.trained.preprocessing,
            random_init=True,
            progress=context.run.progress,
        ),
        *(vgg.facts.name, vgg.facts.settings, vgg.facts.epochs, settings.describe()),
        shared=True,
    )


def fig1(context: Context) -> Outcome:
    """Attenuation of noise injected at every layer's input, trained beside untrained."""
    vgg = vgg_of(context)
    profile = profile_of(context, vgg, ("attenuation",))
    assert profile.twin is not None
    trained, twin = _rising(profile.attenuation), _rising(profile.twin.attenuation)
    rows = [Row("norm of the noise over that of a layer's input", 10.0, 10.0, "as the paper sets it", "%")]
    for curve in trained:
        layer = curve.injection + 1
        comment = "relative error at the last layer, mean; the paper prints curves only"
        rows.append(Row(f"noise at the input of layer {layer}", None, 100 * (curve.mean[-1] or 0.0), comment, "%"))
    damped = [sum(_damped(curve) for curve in curves) for curves in (trained, twin)]
    told = "injections felt less at the last layer than at the layer they enter"
    rows.append(Row(f"{told}, trained", None, damped[0], f"of {len(trained)}; in the paper every curve falls"))
    rows.append(Row(f"{told}, random", None, damped[1], f"of {len(twin)}"))
    panels = tuple(
        Panel(title, "layer", "relative error (%)", tuple(map(_curve, curves)), log_y=True)
        for title, curves in (("trained", trained), ("random weights", twin))
    )
    caption = "Mean relative error at each layer after 10 % Gaussian noise at the input of one layer."
    findings = (
        f"Of {len(trained)} injections, {damped[0]} are felt less at the last layer than at the layer they enter; with "
        f"random weights it is {damped[1]} of {len(twin)}.",
    )
    figure = Figure("Attenuation of injected noise", caption, panels)
    return _outcome(context, vgg, rows, (figure,), findings)


def _rising(curves: Sequence[AttenuationCurve]) -> list[AttenuationCurve]:
    return [curve for curve in curves if len(curve.targets) > 1]


def _damped(curve: AttenuationCurve) -> bool:
    first, last = curve.mean[0], curve.mean[-1]
    return first is not None and last is not None and last < first


def _curve(curve: AttenuationCurve) -> Curve:
    heights = [None if value is None else 100 * value for value in curve.mean]
    return Curve.of("" if curve.injection % 4 else f"into layer {curve.injection + 1}", curve.targets, heights)


FIG2 = {
    "layer_cushion": ("layer cushion", "larger after training, above all in layers 8 and higher"),
    "minimal_interlayer_cushion_unclipped": ("minimal interlayer cushion (unclipped)", "behaves nicely after training"),
    "contraction": ("activation contraction", "behaves nicely after training"),
    "smoothness": ("interlayer smoothness, 1/ρ", "behaves nicely after training"),
}
"""Name of each panel, and what the paper says of it."""


def fig2(context: Context) -> Outcome:
    """Distributions of layer 13, trained beside random."""
    vgg = vgg_of(context)
    profile = profile_of(context, vgg, QUANTITIES)
    assert profile.twin is not None
    rows, panels, findings = [], [], []
    for quantity, (name, claim) in FIG2.items():
        both = [_at_layer(each, quantity) for each in (profile, profile.twin)]
        for words, found in zip(("trained", "random"), both, strict=True):
            rows.append(Row(f"{name}, median, {words}", None, found.quantiles.get(0.5), f"the paper: {claim}"))
        panels.append(Panel(name, name, "examples", tuple(map(_histogram, ("trained", "random"), both))))
    higher = _higher_cushions(profile)
    count = len(profile.layers)
    rows.append(
        Row("layers whose median layer cushion is larger than in the random network", None, higher, f"of {count}")
    )
    findings.append(f"The median layer cushion is larger than with random weights in {higher} of {count} layers.")
    medians = {row.quantity: row.ours for row in rows}
    for name in (name for name, _ in FIG2.values()):
        pair = medians[f"{name}, median, trained"], medians[f"{name}, median, random"]
        findings.append(f"Layer {FIG2_LAYER}, {name}: median {_short(pair[0])} trained, {_short(pair[1])} random.")
    caption = (
        f"Histograms of layer {FIG2_LAYER} over {len(vgg.measured):,} training images, trained and with random weights."
    )
    figure = Figure(f"Distributions of layer {FIG2_LAYER}", caption, tuple(panels))
    return _outcome(context, vgg, rows, (figure,), findings)


def _at_layer(profile: StabilityProfile, quantity: str) -> Distribution:
    """Of layer 13; of a quantity of pairs, the pair of layer 13 and the next one."""
    wanted = {f"layer {FIG2_LAYER}", f"{FIG2_LAYER}→{FIG2_LAYER + 1}", ""}
    return next(found for found in profile.distributions[quantity] if found.label in wanted)


def _histogram(name: str, found: Distribution) -> Curve:
    if found.histogram is None:
        return Curve(name, (), ())
    edges, counts = found.histogram.edges, found.histogram.counts
    return Curve.of(name, edges, [*counts, counts[-1]], look="steps")


def _higher_cushions(profile: StabilityProfile) -> int:
    assert profile.twin is not None
    pairs = zip(profile.distributions["layer_cushion"], profile.twin.distributions["layer_cushion"], strict=True)
    return sum(own.quantiles[0.5] > twin.quantiles[0.5] for own, twin in pairs)


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def table1(context: Context) -> Outcome:
    """Effective parameters of seven layers and their compression."""
    vgg = vgg_of(context)
    profile = profile_of(context, vgg, QUANTITIES)
    layers = {layer.index: layer for layer in profile.layers}
    rows, shrunk = [], []
    for index, (effective, weights, percent) in TABLE1.items():
        layer = layers[index]
        same = "" if _weights(layer.shape) == weights else "; ours is narrower"
        own = layer.effective_parameters
        rows += [
            Row(f"layer {index}: effective parameters", effective, own.worst, "worst over the examples" + same),
            Row(f"layer {index}: weights", float(weights), float(_weights(layer.shape)), "without biases"),
            Row(f"layer {index}: compression", percent, layer.compression_percent.worst, same[2:], "% of weights"),
        ]
        if (layer.compression_percent.worst or 101.0) < 100:
            shrunk.append(str(index))
    curves = (
        Curve.of("paper", TABLE1, [printed for _, _, printed in TABLE1.values()], look="both", paper=True),
        Curve.of("ours", layers, [layer.compression_percent.worst for layer in layers.values()], look="both"),
        Curve.of("as many as there are weights", (1, len(layers)), (100.0, 100.0), look="dashed"),
    )
    panel = Panel("", "layer", "% of the layer's weights", curves, log_y=True)
    caption = "Effective parameters that the noise-stability bound charges a layer for, over its weights."
    said = f"fewer than its weights in layers {', '.join(shrunk)}" if shrunk else "more than its weights in every layer"
    smallest = min(TABLE1, key=lambda index: layers[index].compression_percent.worst or float("inf"))
    findings = (
        f"Of the seven printed layers, the bound charges {said}; in the paper it charges fewer in 5 of the 7, from "
        "layer 9 on and, barely, in layer 1.",
        f"It charges least, relative to the weights, in layer {smallest}; in the paper that is layer 12.",
    )
    return _outcome(context, vgg, rows, (Figure("Compression of each layer", caption, (panel,)),), findings)


def _weights(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _outcome(
    context: Context, vgg: Vgg, rows: Sequence[Row], figures: tuple[Figure, ...], findings: Sequence[str]
) -> Outcome:
    settings = {"measured on": f"{len(vgg.measured):,} training images"}
    scaled = SCALED[context.size.value]
    return Outcome(tuple(rows), figures, tuple(findings), scaled, (vgg.facts,), settings)


STUDIES = (
    Study(
        "arora2018.fig1",
        "attenuation of 10 % Gaussian noise at each layer of a trained VGG-19",
        f"{PAPER}, Figure 1 (also the notes' Figure 3 and Zhang's Figure 1): curves, no numbers.",
        VGG_COSTS,
        fig1,
        ("cifar10",),
    ),
    Study(
        "arora2018.fig2",
        "cushions, contraction and smoothness of layer 13 of VGG-19, trained and random",
        f"{PAPER}, Figure 2: histograms, no numbers.",
        VGG_COSTS,
        fig2,
        ("cifar10",),
    ),
    Study(
        "arora2018.table1",
        "effective parameters of seven layers of VGG-19",
        f"{PAPER}, Table 1: effective parameters, weights and their ratio.",
        VGG_COSTS,
        table1,
        ("cifar10",),
    ),
)
