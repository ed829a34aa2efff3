"""The routes that Guha 2023's discussion leaves open: coresets, and PAC-Bayes in place of a union bound."""

from __future__ import annotations

import math
from functools import partial

from bitcert.codecs.base import Codec
from bitcert.codecs.coreset import Coreset
from bitcert.codecs.magnitude_pruning import MagnitudePruning, RandomPruning, Rounding
from bitcert.codecs.quantise import Quantise
from bitcert.comparison import CompareSettings, Comparison, beaten, compare
from bitcert.data import Role
from bitcert.decoder import Helper
from bitcert.network import capture
from bitcert.run import Run
from bitcert.search.randomised import RandomisedCertificate, RandomisedSettings, certify_randomised
from bitcert.studies.context import Context
from bitcert.studies.networks import dense
from bitcert.studies.published import PUBLISHED, load_published
from bitcert.studies.result import Curve, Figure, Outcome, Panel, Row
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe

NAME = "Guha et al. 2023"
KEPT = (0.5, 0.2, 0.1, 0.05)


def coresets(context: Context) -> Outcome:
    """Pruning by coresets beside magnitude pruning and the paper's random pruning, at several strengths."""
    names = context.choose(("lenet300",), ("lenet300", "lenet5"), ("lenet300", "lenet5"))
    count = context.choose(1_000, 10_000, None)
    sample = context.sample("mnist", count)
    rows, panels, findings = list[Row](), list[Panel](), list[str]()
    for name in names:
        title = PUBLISHED[name].title
        found = context.piece(name, Comparison, partial(_compared, context, name))
        curves = []
        for codec in (Coreset.name, MagnitudePruning.name, RandomPruning.name):
            points = sorted((own.message_bits, own.rate) for row, own in found.messages if row.codec == codec)
            curves.append(Curve.of(codec, (p[0] for p in points), (100 * p[1] for p in points), look="both"))
        for row, own in found.messages:
            rows.append(
                Row(f"{title}: errors, {row.label}", None, 100 * own.rate, f"{own.message_bits:,} bits", unit="%")
            )
        panels.append(Panel(title, "bits of the message", "training errors, %", tuple(curves), log_x=True))
        findings.append(_best(title, found))
    return Outcome(
        tuple(rows),
        (
            Figure(
                "Three ways to prune",
                "Lower left is better. The paper names coresets and reports nothing.",
                tuple(panels),
            ),
        ),
        findings=tuple(findings),
        scaled="" if count is None else f"{count:,} examples of 60,000.",
        settings={"kept": list(KEPT), "samples": len(sample)},
    )


def _best(title: str, found: Comparison) -> str:
    beaten_by = {name: beaten(found, Coreset.name, name) for name in (MagnitudePruning.name, RandomPruning.name)}
    counts = " and ".join(f"{count} by {name}" for name, count in beaten_by.items())
    total = sum(row.codec == Coreset.name for row, _ in found.messages)
    ahead = beaten(found, MagnitudePruning.name, Coreset.name)
    return f"{title}: of {total} coresets {counts} beaten (no longer, no more errors); they beat {ahead} of prune's."


def _compared(context: Context, name: str) -> Comparison:
    own = PUBLISHED[name]
    sample = context.sample("mnist", context.choose(1_000, 10_000, None))
    network = capture(load_published(name), own.preprocessing(sample.inputs[:2]))
    kept = context.choose(KEPT[1:3], KEPT, KEPT)
    codecs: list[Codec] = [Coreset(keep=share) for share in kept]
    codecs += [MagnitudePruning(keep=share) for share in kept]
    codecs += [RandomPruning(d=d, rounding=Rounding.QUANTISER) for d in (1.0, 8.0)]
    helper = Helper.for_sample(sample, network.architecture, own.preprocessing)
    settings = CompareSettings(seed=context.seed)
    return compare(network, sample, settings, codecs=codecs, helper=helper, progress=context.run.progress).named(name)


def pac_bayes(context: Context) -> Outcome:
    """A randomised certificate by PAC-Bayes beside a deterministic one of the same network."""
    width, count = context.choose((16, 2_000), (100, None), (600, None))
    epochs, steps, draws = context.choose((2, 200, 500), (5, 6_000, 5_000), (20, 60_000, 20_000))
    sample = context.sample("mnist", count)
    test = context.sample("mnist", count, role=Role.HOLDOUT, split="test")
    recipe = Recipe(f"dense {width} x 3", partial(dense, 784, width, 3, 10, True), epochs, rate=0.001, optimiser="adam")
    trained = context.train(recipe, sample, test)
    network = capture(trained.module, trained.preprocessing(sample.inputs[:2]))
    helper = Helper.for_sample(sample, network.architecture, trained.preprocessing)
    settings = RandomisedSettings(num_steps=steps, draws=draws, rate=0.002)
    found = context.piece(
        "randomised",
        RandomisedCertificate,
        lambda: certify_randomised(
            network, sample, settings, helper=helper, run=Run(context.seed, progress=context.run.progress)
        ),
        repr(settings),
    )
    plain = context.piece(
        "quantised",
        Comparison,
        lambda: compare(network, sample, CompareSettings(seed=context.seed), codecs=[Quantise()], helper=helper).named(
            "quantised"
        ),
    )
    ((_, measured),) = plain.messages
    rows = (
        Row("randomised classifier: bound", None, 100 * found.bound, found.label, unit="%"),
        Row("its errors over the draws", None, 100 * found.mean_loss, f"{found.draws:,} draws", unit="%"),
        Row("its training error, at most", None, 100 * found.loss_limit, f"delta {found.draws_delta:g}", unit="%"),
        Row("KL(Q||P), bits", None, found.kl_nats / math.log(2), "nats / ln 2, to compare with a message"),
        Row("message of the quantised network, bits", None, float(measured.message_bits), "deterministic"),
        Row("its bound", None, 100 * measured.bound, "deterministic; quantised after training", unit="%"),
    )
    ratio = measured.message_bits * math.log(2) / found.kl_nats
    return Outcome(
        rows,
        findings=(
            f"The divergence of the trained posterior is {ratio:.1f} times shorter than the message of the quantised "
            f"network; the randomised classifier is certified at {100 * found.bound:.1f} %.",
            "The number is about a classifier that draws its weights anew for every answer, and not about the network.",
        ),
        scaled="The paper only names PAC-Bayes; network, training and prior are ours.",
        trained=(trained.trained,),
        settings={
            "width": width,
            "steps": steps,
            "draws": draws,
            "delta": found.delta,
            "draws_delta": found.draws_delta,
            "conditions": list(found.conditions),
        },
    )


STUDIES = (
    Study(
        "guha2023.coresets",
        "pruning by coresets beside magnitude pruning and the paper's random pruning",
        f"{NAME}, section 8: named as another route, no numbers.",
        (Cost(40), Cost(200, 1_500), Cost(900, 1_500)),
        coresets,
        ("mnist", "pretrained"),
    ),
    Study(
        "guha2023.pac_bayes",
        "a randomised certificate by PAC-Bayes, beside a deterministic one",
        f"{NAME}, section 8: named as another route, no numbers.",
        (Cost(10), Cost(400, 1_500), Cost(6_000, 2_000)),
        pac_bayes,
        ("mnist",),
    ),
)
