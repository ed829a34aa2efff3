"""Arora et al. 2018: figures 1 to 3, Table 1, and the two AlexNets."""

from __future__ import annotations

from functools import partial

from bitcert.network import capture
from bitcert.stability import MeasureSettings, StabilityProfile, measure
from bitcert.studies.context import Context
from bitcert.studies.networks import vgg19
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork

PAPER = "Arora et al. 2018"


def vgg_of(context: Context) -> TrainedNetwork:
    """The VGG-19 of this size, trained on CIFAR-10."""
    width, count, epochs = context.choose((1 / 16, 1_000, 2), (1 / 4, None, 8), (1.0, None, 299))
    sample = context.sample("cifar10", count)
    recipe = Recipe(
        f"VGG-19 width {width:g}", partial(vgg19, width), epochs, rate=0.05, halve_every=30, decay=5e-4, keep_every=1
    )
    return context.train(recipe, sample)


def fig1(context: Context) -> Outcome:
    """Attenuation of injected noise."""
    network = vgg_of(context)
    measured = context.sample("cifar10", context.choose(64, 2_000, None))
    captured = capture(network.module, network.preprocessing(measured.inputs[:2]))
    settings = MeasureSettings(seed=context.seed, quantities=("attenuation",))
    profile = context.piece(
        "attenuation",
        StabilityProfile,
        lambda: measure(
            captured, measured, settings, preprocessing=network.preprocessing, progress=context.run.progress
        ),
        network.trained.settings,
    )
    rows, curves = [], []
    for curve in profile.attenuation:
        curves.append(Curve.of(f"noise at layer {curve.injection}", curve.targets, curve.mean))
        rows.append(Row(f"error at the last layer, noise at layer {curve.injection}", None, curve.mean[-1]))
    panel = Panel("", "layer", "relative error", tuple(curves), log_y=True)
    figure = Figure("Attenuation of noise", "Noise.", (panel,))
    return Outcome(tuple(rows), (figure,), trained=(network.trained,))


STUDIES = (
    Study(
        "arora2018.fig1",
        "attenuation of 10 % Gaussian noise at each layer of a trained VGG-19",
        f"{PAPER}, Figure 1 (also the notes' Figure 3 and Zhang's Figure 1): curves, no numbers.",
        (Cost(60), Cost(3_000), Cost(400_000, 8_000, 30_000)),
        fig1,
        ("cifar10",),
    ),
)
