"""Arora et al. 2018, what the bounds say: all on one VGG-19, over its training, and on true and on shuffled labels.

Figure 3, left and right, and section 6.2. A certificate proves; everything else here is a measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from bitcert.certificates.certification import certify
from bitcert.data import Role, Sample
from bitcert.network import capture
from bitcert.random import stream
from bitcert.run import Run
from bitcert.search.compression import compress
from bitcert.stability import MeasureSettings, StabilityProfile, measure
from bitcert.stability.planning import drawn
from bitcert.stability.tracker import Tracker
from bitcert.studies.arora2018 import (
    MEAN,
    PAPER,
    QUANTITIES,
    SCALED,
    STD,
    VGG_COSTS,
    Vgg,
    profile_of,
    settings_of,
    vgg_of,
)
from bitcert.studies.context import Context
from bitcert.studies.networks import alexnet
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row, Trained
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork, errors_of
from bitcert.theory.gathering import bounds
from bitcert.theory.ranks import spearman
from bitcert.theory.settings import BoundSettings, positive_quantile
from bitcert.theory.table import BoundTable

FIG3_LEFT = {
    "bartlett2002-l1inf": "l1,inf norms",
    "neyshabur2015-frobenius": "Frobenius norms",
    "bartlett2017-spec-l12": "spectral, l1,2",
    "neyshabur2018-spec-fro": "spectral, Frobenius",
    "zhang2020-thm5.1": "Zhang, Thm 5.1",
    "zhang2020-thm5.7": "Zhang, Thm 5.7",
    "arora2018-thm5.1": "Arora, Thm 5.1",
    "arora2018-table1": "Arora, Table 1 summed",
    "notes2019-capacity": "notes, eq. (2)",
    "vc-dimension": "VC dimension",
    "parameters": "parameters",
}
"""Bounds of the figure, in samples, and their names on its axis."""

PRINTED_LOG10 = {"bartlett2017-spec-l12": 18.0}
"""What the text says: the closest of the earlier bounds is 'about 10^18'."""


def bounds_of(context: Context, vgg: Vgg) -> BoundTable:
    """Every bound of the library on the VGG-19; a network with errors gets the margin of an example it has right."""
    profile = profile_of(context, vgg, QUANTITIES)
    quantile = positive_quantile(vgg.facts.train_error)
    settings = BoundSettings(
        margin_quantile=quantile, seed=context.seed, flatness=False, measure=settings_of(context, QUANTITIES)
    )
    return context.piece(
        "bounds",
        BoundTable,
        lambda: bounds(
            vgg.network,
            vgg.sample,
            settings,
            preprocessing=vgg.trained.preprocessing,
            init=vgg.trained.initial,
            profile=profile,
            holdout=vgg.test,
            progress=context.run.progress,
        ),
        *(vgg.facts.name, vgg.facts.settings, vgg.facts.epochs, quantile),
        shared=True,
    )


def fig3left(context: Context) -> Outcome:
    """All bounds on the same network, with the real gap."""
    vgg = vgg_of(context)
    table = bounds_of(context, vgg)
    rows, logs = [], []
    for name, words in FIG3_LEFT.items():
        bound = table.row(name)
        logs.append(bound.log10)
        comment = f"log10 of the samples it asks for; {bound.status}"
        rows.append(Row(words, PRINTED_LOG10.get(name), bound.log10, comment, "log10"))
    rows.append(Row("parameters of the network", None, float(vgg.facts.parameters), "naive counting"))
    rows.append(Row("real gap, held-out less training error", None, _percent(table.gap), "", "%"))
    known = {name: log for name, log in zip(FIG3_LEFT, logs, strict=True) if log is not None}
    products = [name for name in list(FIG3_LEFT)[:4] if name in known]
    lowest = min(products, key=known.__getitem__) if products else None
    findings = [_compared(known, lowest, known.get("arora2018-table1"))]
    findings.append(
        f"The real gap is {_said(_percent(table.gap))} %; of {len(vgg.sample):,} examples a capacity says something "
        f"only below 10^{math.log10(len(vgg.sample)):.1f}: "
        + (", ".join(FIG3_LEFT[n] for n, log in known.items() if log < math.log10(len(vgg.sample))) or "none is.")
    )
    places = range(len(FIG3_LEFT))
    printed = [(place, PRINTED_LOG10[name]) for place, name in enumerate(FIG3_LEFT) if name in PRINTED_LOG10]
    curves = (
        Curve.of("ours", places, logs, look="points"),
        Curve.of("paper", [p for p, _ in printed], [log for _, log in printed], look="points", paper=True),
        Curve.of("examples of the sample", (0, len(FIG3_LEFT) - 1), [math.log10(len(vgg.sample))] * 2, look="dashed"),
    )
    panel = Panel("", "", "log10 of samples", curves, names=tuple(FIG3_LEFT.values()))
    caption = "Each bound as the number of samples it asks for; constants and logarithms are dropped, as in the paper."
    figure = Figure("Bounds of all kinds on one network", caption, (panel,))
    settings = {"margin": table.gamma, "rule": table.gamma_rule}
    return _outcome(context, vgg, rows, figure, findings, settings)


def _compared(known: dict[str, float], lowest: str | None, stable: float | None) -> str:
    if lowest is None or stable is None:
        return "A bound of the figure could not be computed on this network."
    than = "below" if stable < known[lowest] else "above"
    count = "below" if stable < known["parameters"] else "above"
    return (
        f"The noise-stability bound (Table 1 summed) is 10^{stable:.1f}: {than} the closest product of norms "
        f"({FIG3_LEFT[lowest]}, 10^{known[lowest]:.1f}) and {count} naive counting "
        f"(10^{known['parameters']:.1f}). In the paper it is below both."
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _said(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def fig3right(context: Context) -> Outcome:
    """The bound beside the generalization error over the epochs."""
    vgg = vgg_of(context)
    trained = vgg.trained
    epochs = [epoch for epoch in sorted(trained.snapshots) if epoch > 0]
    samples = context.choose(8, 16, 512)
    module = trained.after(epochs[0])
    settings = replace(settings_of(context, QUANTITIES), noise_at_inputs=False)
    tracker = Tracker(
        module,
        vgg.sample,
        context.place("track", vgg.facts.name, vgg.facts.settings, ending="jsonl"),
        ("layer_cushion", "interlayer_cushion", "contraction"),
        samples=samples,
        seed=context.seed,
        preprocessing=trained.preprocessing,
        settings=settings,
    )
    done = {record.epoch for record in tracker.history()}
    errors = []
    for k, epoch in enumerate(epochs):
        context.run.progress("tracking the epochs", k / len(epochs))
        trained.after(epoch)
        if epoch not in done:
            tracker.update(epoch)
        errors.append(context.piece(f"errors {epoch}", tuple[float, float], partial(_both_errors, vgg)))
    trained.after(epochs[-1])
    totals = {r.epoch: r.values["effective_parameters_total"]["value"][0] for r in tracker.history()}
    capacities = [totals[epoch] for epoch in epochs]
    gaps = [100 * (test - train) for train, test in errors]
    return _over_epochs(context, vgg, epochs, (capacities, gaps, errors), min(samples, len(vgg.sample)))


def _both_errors(vgg: Vgg) -> tuple[float, float]:
    preprocessing, module = vgg.trained.preprocessing, vgg.trained.module
    return errors_of(module, vgg.sample, preprocessing), errors_of(module, vgg.test, preprocessing)


MEASURED_ON = "stability measured on"
Series = tuple[list[float | None], list[float], list[tuple[float, float]]]


def _over_epochs(context: Context, vgg: Vgg, epochs: list[int], found: Series, samples: int) -> Outcome:
    capacities, gaps, errors = found
    pairs = [(c, 100 * test) for c, (_, test) in zip(capacities, errors, strict=True) if c is not None]
    correlation = _rank_correlation([c for c, _ in pairs], [t for _, t in pairs])
    with_gap = _rank_correlation(
        [c for c, _ in pairs], [g for g, c in zip(gaps, capacities, strict=True) if c is not None]
    )
    rows = [
        Row("rank correlation of the bound and the test error over the epochs", None, correlation, "Spearman"),
        Row("rank correlation of the bound and the gap over the epochs", None, with_gap, "Spearman"),
        Row("test error after the last epoch", None, 100 * errors[-1][1], "", "%"),
        Row(
            "training error after the last epoch", None, 100 * errors[-1][0], "about 0 from epoch 120 in the paper", "%"
        ),
    ]
    first, last = capacities[0], capacities[-1]
    if first is not None and last is not None and last > 0:
        rows.append(Row("bound after the first epochs over that after the last", None, first / last))
    curves = (
        Curve.of("test error", epochs, [100 * test for _, test in errors], look="both"),
        Curve.of("training error", epochs, [100 * train for train, _ in errors], look="both"),
        Curve.of("gap", epochs, gaps, look="both"),
    )
    bound = (Curve.of("effective parameters, summed", epochs, capacities, look="both"),)
    panels = (Panel("", "epoch", "%", curves), Panel("", "epoch", "effective parameters", bound, log_y=True))
    caption = "Above the errors, below the capacity of the noise-stability bound on a fixed subsample."
    seen = "improves with" if (correlation or 0) > 0 else "does not improve with"
    findings = (
        f"Over {len(epochs)} snapshots the bound {seen} the test error (rank correlation {_said(correlation)}); its "
        f"rank correlation with the gap is {_said(with_gap)}. The paper shows curves that fall together.",
    )
    measured = {MEASURED_ON: f"{samples:,} training images"}
    return _outcome(context, vgg, rows, Figure("The bound over the epochs", caption, panels), findings, measured)


def _rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's; ``None`` for fewer than three points, or where one side does not change."""
    found = spearman(one, other) if len(one) > 2 else None
    return None if found is None else found.value


def _outcome(
    context: Context,
    vgg: Vgg,
    rows: Sequence[Row],
    figure: Figure,
    findings: Sequence[str],
    settings: Mapping[str, object],
) -> Outcome:
    known = {MEASURED_ON: f"{len(vgg.measured):,} training images", **settings}
    return Outcome(tuple(rows), (figure,), tuple(findings), SCALED[context.size.value], (vgg.facts,), known)


@dataclass(frozen=True)
class Labelled:
    """What is known of the network that was trained on one kind of labels."""

    trained: Trained
    profile: StabilityProfile
    bound: float
    message_bits: int

    @property
    def capacity(self) -> float | None:
        """Effective parameters summed over the layers."""
        values = [layer.effective_parameters.worst for layer in self.profile.layers]
        return math.fsum(v for v in values if v is not None) if None not in values else None


def shuffled(sample: Sample, seed: int) -> Sample:
    """The same examples with their labels in a random order."""
    order = stream(seed, "study/shuffled labels").permutation(len(sample))
    return replace(sample, labels=sample.labels[order], name=f"{sample.name} with shuffled labels")


def corrupted(context: Context) -> Outcome:
    """AlexNet on true and on shuffled labels."""
    count, tested = context.choose((300, 1_000), (5_000, None), (None, None))
    true = context.sample("cifar10", count)
    test = context.sample("cifar10", tested, role=Role.HOLDOUT, split="test")
    both = {words: _labelled(context, sample, test) for words, sample in _kinds(true, context.seed)}
    rows = []
    for words, accuracy in (("true", 77.22), ("shuffled", 9.86)):
        own = both[words].trained
        reached = None if own.test_error is None else 100 - 100 * own.test_error
        rows.append(Row(f"validation accuracy, {words} labels", accuracy, reached, "", "%"))
        rows.append(Row(f"training accuracy, {words} labels", 100.0, 100 - 100 * (own.train_error or 0.0), "", "%"))
    for words, each in both.items():
        rows.append(Row(f"effective parameters, {words} labels", None, each.capacity, "summed over the layers"))
        comment = "vacuous" if each.bound > 0.9 else "below 90 %, which is guessing a class"
        rows.append(Row(f"certified bound on the error, {words} labels", None, 100 * each.bound, comment, "%"))
    panels = tuple(_layers(both, quantity, name) for quantity, name in COMPARED.items())
    caption = "Medians over the training images, by layer, of the AlexNets trained on true and on shuffled labels."
    findings = _corrupted_findings(both)
    scaled = context.choose(
        "AlexNet at an eighth of its width on 300 images, without weight decay, dropout and augmentation.",
        "AlexNet at half its width on 5,000 images, without weight decay, dropout and augmentation.",
        "AlexNet for 32 x 32 images; the paper does not state its own.",
    )
    figure = Figure("True and shuffled labels", caption, panels)
    facts = tuple(each.trained for each in both.values())
    return Outcome(tuple(rows), (figure,), findings, scaled, facts, {"images": len(true)})


COMPARED = {"layer_cushion": "layer cushion", "contraction": "activation contraction"}


def _kinds(sample: Sample, seed: int) -> tuple[tuple[str, Sample], ...]:
    return ("true", sample), ("shuffled", shuffled(sample, seed))


def _labelled(context: Context, sample: Sample, test: Sample) -> Labelled:
    width, epochs = context.choose((1 / 8, 100), (1 / 2, 60), (1.0, 200))
    trained = context.train(
        Recipe(
            f"AlexNet of {width:g} width",
            partial(alexnet, width),
            epochs,
            rate=0.01,
            batch_size=context.choose(32, 128, 128),
            bfloat16=context.bfloat16,
            mean=MEAN,
            std=STD,
            stop_at=0.0,
        ),
        sample,
        test,
    )
    network = capture(trained.module, trained.preprocessing(sample.inputs[:2]))
    measured = drawn(sample, context.choose(50, 500, 5_000), context.seed)
    settings = MeasureSettings(seed=context.seed, quantities=QUANTITIES[:3], tolerance=context.choose(0.1, 0.05, 0.01))
    key = (trained.trained.name, trained.trained.settings, trained.trained.epochs)
    profile = context.piece(
        "profile",
        StabilityProfile,
        lambda: measure(
            network, measured, settings, preprocessing=trained.preprocessing, progress=context.run.progress
        ),
        *key,
    )
    seconds = context.choose(10.0, 300.0, 3_600.0)
    bound, bits = context.piece(
        "certificate", tuple[float, int], lambda: certified(context, trained, sample, seconds), *key
    )
    return Labelled(trained.trained, profile, bound, bits)


def certified(context: Context, trained: TrainedNetwork, sample: Sample, seconds: float) -> tuple[float, int]:
    """Certified bound of the compressed network, and bits of its message; the search follows the clock."""
    network = capture(trained.module, trained.preprocessing(sample.inputs[:2]))
    run = Run(context.seed, seconds, device=context.run.device, progress=context.run.progress)
    certificate = certify(compress(sample, network, preprocessing=trained.preprocessing, run=run), sample)
    return certificate.bound, certificate.message_bits


def _medians(profile: StabilityProfile, quantity: str) -> list[float | None]:
    return [found.quantiles.get(0.5) for found in profile.distributions[quantity]]


def _layers(both: dict[str, Labelled], quantity: str, name: str) -> Panel:
    curves = []
    for words, each in both.items():
        medians = _medians(each.profile, quantity)
        curves.append(Curve.of(f"{words} labels", range(1, len(medians) + 1), medians, look="both"))
    return Panel(name, "layer", name, tuple(curves))


def _corrupted_findings(both: dict[str, Labelled]) -> tuple[str, ...]:
    told = []
    for quantity, (name, claim) in {
        "layer_cushion": ("layer cushion", "larger"),
        "contraction": ("contraction", "smaller"),
    }.items():
        pairs = zip(*(_medians(both[words].profile, quantity) for words in ("true", "shuffled")), strict=True)
        known = [(one, other) for one, other in pairs if one is not None and other is not None]
        agree = sum((one > other) == (claim == "larger") and one != other for one, other in known)
        told.append(
            f"The median {name} is {claim} on true labels in {agree} of {len(known)} layers (the paper: {claim})."
        )
    one, other = both["true"].capacity, both["shuffled"].capacity
    if one is not None and other is not None and one > 0:
        told.append(f"The capacity on shuffled labels is {other / one:.3g} times that on true labels.")
    bounds_said = ", ".join(f"{100 * each.bound:.1f} % on {words} labels" for words, each in both.items())
    told.append(f"The certified bound on the error is {bounds_said}; guessing a class errs on 90 %.")
    return tuple(told)


STUDIES = (
    Study(
        "arora2018.fig3left",
        "bounds of all kinds on the same network, naive counting included, with the real gap",
        f"{PAPER}, Figure 3 left: bars without numbers; the closest of the earlier bounds is 'about 10^18'.",
        VGG_COSTS,
        fig3left,
        ("cifar10",),
    ),
    Study(
        "arora2018.fig3right",
        "the bound beside the generalization error over the epochs of the training",
        f"{PAPER}, Figure 3 right: curves, no numbers.",
        VGG_COSTS,
        fig3right,
        ("cifar10",),
    ),
    Study(
        "arora2018.corrupted",
        "AlexNet on true and on shuffled labels: cushions, contraction, capacity, certificate",
        f"{PAPER}, section 6.2 and appendix D.2: validation accuracy 77.22 % and 9.86 %.",
        (Cost(60), Cost(3_400, 2_000, 300), Cost(200_000, 12_000, 3_000)),
        corrupted,
        ("cifar10",),
    ),
)
