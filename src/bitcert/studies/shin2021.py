"""Shin 2021: Table 1, Figures 1 to 3, and section 5's equations on the last layer of a real network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from bitcert.data import Role
from bitcert.decoder import Preprocessing
from bitcert.linear import Mixture, choose_mixture, frobenius_norm, reshaped_spectral_norm, weight_tail
from bitcert.stability import MeasureSettings, measure
from bitcert.studies.context import Context
from bitcert.studies.networks import dense
from bitcert.studies.published import PUBLISHED, load_published
from bitcert.studies.replacement import DRAWS, RULES, Replacement, head_of, replaced
from bitcert.studies.result import Curve, Field, Figure, Outcome, Panel, Row, Trained
from bitcert.studies.study import Cost, Study
from bitcert.studies.training import Recipe, TrainedNetwork
from bitcert.theory.formulas.heavy_tail_theory import sparsity_bound
from bitcert.theory.formulas.stable_laws import (
    bracket_probability,
    bracket_tail_probability,
    path,
    power_brackets,
    spike_energy,
    stable_density,
)
from bitcert.theory.ranks import spearman

PAPER = "Shin 2021"
TABLE = {"ResNet-20": (93.90, 89.19, 3.03, 3.22), "ResNet-56": (95.32, 94.74, 0.30, 3.02)}
"""Table 1 where a network here has the same name: accuracy before, mean and deviation after (%), fitted exponent."""
C, M, N = 1.3, 5, 64
"""Scale, largest power and entries of a row in Figure 2."""
ALPHAS = (0.5, 1.0, 1.5, 2.0)


def table1(context: Context) -> Outcome:
    """Accuracy before and after the replacement, network by network."""
    names = context.choose(("lenet300",), *2 * (tuple(name for name in PUBLISHED if not name.endswith("sparse")),))
    count = context.choose(1_000, None, None)
    rows: list[Row] = []
    drops: dict[str, float] = {}
    for name in names:
        own = PUBLISHED[name]

        def found(own=own, name=name) -> Replacement:  # type: ignore[no-untyped-def]
            test = context.sample(own.data, count, role=Role.HOLDOUT, split="test")
            return replaced(head_of(load_published(name), own.preprocessing, test), DRAWS)

        drops |= _replacement_rows(own.title, context.piece(name, Replacement, found), rows)
    trained = []
    for recipe, data in _small_recipes(context, few=True):
        network = _trained(context, recipe, data)
        test = context.sample(data, count, role=Role.HOLDOUT, split="test")
        head = head_of(network.module, network.preprocessing, test)
        title = f"{recipe.name}, {data}"
        found_here = context.piece(title, Replacement, partial(replaced, head, DRAWS))
        drops |= _replacement_rows(title, found_here, rows)
        trained.append(network.trained)
    missing = "10 networks of the table (other data or depths) have no public weights here; "
    return Outcome(
        tuple(rows),
        findings=_replacement_findings(drops),
        scaled=f"{missing}ResNet-20 and -56 are other checkpoints than the paper's"
        + ("" if count is None else "; one published network and 1,000 test images"),
        trained=tuple(trained),
        settings={"draws": DRAWS, "threshold": "one standard deviation of the layer"},
    )


def _replacement_rows(title: str, found: Replacement, rows: list[Row]) -> dict[str, float]:
    before, after, spread, exponent = TABLE.get(title, (None, None, None, None))
    rows.append(Row(f"{title}: accuracy", before, found.before, "test data", unit="%"))
    rows.append(Row(f"{title}: exponent of the density", exponent, found.exponent, "of |w|, as powerlaw returns it"))
    drops = {}
    for words, rates in found.after.items():
        mean, kept = float(np.mean(rates)), f"{found.kept[words]:,} entries kept"
        rows.append(
            Row(f"{title}: accuracy after, {words}", after, mean, f"mean of {len(rates)} draws; {kept}", unit="%")
        )
        rows.append(Row(f"{title}: its deviation", spread, float(np.std(rates, ddof=1)), unit="%"))
        drop = None if before is None or after is None else before - after
        rows.append(
            Row(f"{title}: drop, {words}", drop, found.before - mean, "compare this: the networks differ", unit="%")
        )
        drops[f"{title}, {words}"] = found.before - mean
    return drops


def _replacement_findings(drops: Mapping[str, float]) -> tuple[str, ...]:
    found = []
    for words in RULES:
        own = [drop for name, drop in drops.items() if name.endswith(f", {words}")]
        found.append(
            f"Comparing {words}: accuracy drops by {min(own):.2f} to {max(own):.2f} points, "
            f"{float(np.median(own)):.2f} in the median of {len(own)} networks."
        )
    return tuple(found)


def fig1(context: Context) -> Outcome:
    """Densities of symmetric stable laws."""
    del context
    x = np.linspace(-5, 5, 201)
    curves = [Curve.of(f"alpha = {alpha:g}", x, stable_density(x, alpha)) for alpha in ALPHAS]
    rows = []
    for alpha in ALPHAS:
        at = stable_density(np.array([0.0, 5.0]), alpha)
        rows += [
            Row(f"alpha = {alpha:g}: density at 0", None, float(at[0]), "scale 1"),
            Row(f"alpha = {alpha:g}: density at 5", None, float(at[1]), "scale 1"),
        ]
    panels = [Panel("", "w", "density", tuple(curves)), Panel("the tails", "w", "density", tuple(curves), log_y=True)]
    figure = Figure(
        "Symmetric stable laws", "The paper's curves bear no numbers. alpha = 2 is normal, 1 is Cauchy.", tuple(panels)
    )
    ratio = float(stable_density(np.array([5.0]), 0.5)[0] / stable_density(np.array([5.0]), 2.0)[0])
    finding = f"At 5 scales the density of alpha = 0.5 is {ratio:.0f} times that of the normal law."
    return Outcome(tuple(rows), (figure,), findings=(finding,), settings={"scale": 1.0, "beta": 0.0})


def fig2(context: Context) -> Outcome:
    """Probability of a path to a logit of ``c^M`` over stability and bracket."""
    count = context.choose(16, 40, 80)
    alphas = [float(a) for a in np.linspace(0.05, 1.95, count)]
    brackets = [float(i) for i in np.linspace(0, M, count // 2 + 1)]
    grids: dict[str, list[list[float]]] = {"printed": [], "bound": [], "law": []}
    for i in brackets:
        tail = [path(bracket_tail_probability(alpha, i, C), i, C, M, N) for alpha in alphas]
        law = [path(bracket_probability(alpha, i, C), i, C, M, N) for alpha in alphas]
        grids["printed"].append([math.exp(min(0.0, each.log_printed)) for each in tail])
        grids["bound"].append([math.exp(each.log_bound) for each in tail])
        grids["law"].append([math.exp(each.log_exact) for each in law])
    titles = {
        "printed": "eq. 16 as printed",
        "bound": "eq. 16 where it is a bound, 1 elsewhere",
        "law": "the law itself: exact brackets and binomial tail",
    }
    levels = (0.1, 0.3, 0.5, 0.7, 0.9)
    panels = tuple(
        Panel(
            titles[name],
            "alpha",
            "i",
            field=Field(tuple(alphas), tuple(brackets), tuple(map(tuple, values)), levels),
        )
        for name, values in grids.items()
    )
    shares = {name: 100 * float(np.mean(np.array(values) > 0.5)) for name, values in grids.items()}
    rows = [
        Row(f"share of the plane above 1/2: {titles[name]}", None, share, unit="%") for name, share in shares.items()
    ]
    far = float(np.mean(np.array(grids["bound"]) >= 1))
    findings = (
        f"Equation 16 is a bound only for k > N p. On {100 * far:.0f} % of the plane it says nothing (1), where the "
        "printed expression still shows contours. Eq. 14 is the tail's and too large in these brackets.",
        f"With the stable law itself the probability is above 1/2 on {shares['law']:.0f} % of the plane: the paper's "
        "reading, that large regions are probable, holds for it.",
    )
    caption = "Probability that c^(M-i) of N entries of a row lie in the bracket i; c = 1.3, M = 5, N = 64 as printed."
    return Outcome(
        tuple(rows),
        (Figure("Paths to a large logit", caption, panels),),
        findings=findings,
        settings={"c": C, "M": M, "N": N, "grid": [count, len(brackets)]},
    )


def equations(context: Context) -> Outcome:
    """Equations 9 to 17 on the last layer of ResNet-20."""
    count = context.choose(500, 10_000, 10_000)
    own = PUBLISHED["resnet20"]
    test = context.sample("cifar10", count, role=Role.HOLDOUT, split="test")
    head = head_of(load_published("resnet20"), own.preprocessing, test)
    weight = head.weight.double().numpy()
    rows, findings = _tail_rows(weight, head.sample.inputs.astype(np.float64))
    brackets = power_brackets(weight, C, M)
    left = 100 * (brackets.small + brackets.negative) / weight.size
    rows.append(Row("eq. 13: entries in no part of the sum", 0.0, left, "negative, or of size 1 and less", unit="%"))
    profile = measure(
        head.network, head.sample, MeasureSettings(quantities=("layer_cushion",)), preprocessing=Preprocessing()
    )
    cushion = profile.distributions["layer_cushion"][-1].minimum
    root = frobenius_norm(head.weight) / reshaped_spectral_norm(head.weight)
    rows.append(Row("eq. 17: square root of the stable rank", None, root))
    rows.append(
        Row("eq. 17: 1 / layer cushion", None, None if not cushion else 1 / cushion, "smallest over the images")
    )
    findings.append(
        f"Equation 13 as printed leaves out {left:.0f} % of the entries, since weights are signed and small."
    )
    return Outcome(
        tuple(rows),
        findings=tuple(findings),
        scaled="" if count == 10_000 else "500 test images in place of 10,000.",
        settings={"network": "ResNet-20", "c": C, "M": M, "images": count},
    )


def _tail_rows(weight: np.ndarray, features: np.ndarray) -> tuple[list[Row], list[str]]:
    """Row sparsity (eq. 11) and energy of the spikes (eqs. 9, 10) by the fitted law, and as counted."""
    fit = weight_tail(torch.from_numpy(weight)).fit
    if fit is None:
        return [], ["No power law could be fitted."]
    tau = max(float(weight.std()), 1.2 * fit.xmin)
    size, exponent = np.abs(weight), fit.density_exponent - 1
    kept = np.where(size > tau, weight, 0.0)
    share = float(np.mean(size >= fit.xmin))
    p = share * (fit.xmin / tau) ** exponent
    most, bound = int((kept != 0).sum(1).max()), sparsity_bound(weight.shape[1], p, 0.05 / len(weight))
    energy = float(np.mean(np.square(features @ kept.T)))
    model = share * float(np.mean([spike_energy(x, tau, fit.xmin, exponent, signed=True) for x in features[:200]]))
    comment = f"tau = {tau:.3g}, w_m = {fit.xmin:.3g}, tail exponent {exponent:.3g}"
    rows = [
        Row(
            "eq. 11: large entries of a row, at most", float(bound), float(most), f"by the law, and counted; {comment}"
        ),
        Row("eq. 10: mean energy of a spike (B x)^2", model, energy, "by the law, and measured on the features"),
    ]
    finding = (
        f"Equation 10 leaves out correlations: the spikes have {energy / model:.2g} times the energy that independent "
        "signs give, because features are positive and entries of a row are not independent."
        if math.isfinite(model) and model > 0
        else "The fitted tail is so heavy that equation 10 is infinite."
    )
    return rows, [finding]


def _small_cnn(inputs: int, side: int, width: int) -> nn.Module:
    """Two convolutions, each followed by pooling, and a dense layer."""
    first, second = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((inputs, width), (width, 2 * width)))
    size = 2 * width * (side // 4) ** 2
    return nn.Sequential(
        *(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(size, 10)
    )


def _small_recipes(context: Context, few: bool = False) -> Iterator[tuple[Recipe, str]]:
    """Recipes and data sets of the networks that are trained here."""
    sets = {"digits": 8, "mnist": 28, "fashion-mnist": 28}
    data = context.choose(("digits",), tuple(sets), tuple(sets))
    seeds, epochs = context.choose((1, 2), (2, 5), (2, 30))
    for name in data if not few else context.choose(("mnist",), *2 * (("mnist", "fashion-mnist"),)):
        side = sets[name]
        builds = {
            f"dense {width} x {depth}": partial(dense, side * side, width, depth, 10, True)
            for width in (32, 128, 512)
            for depth in (2, 3)
        }
        builds |= {f"convolutions {width}": partial(_small_cnn, 1, side, width) for width in (8, 16)}
        if few:
            builds = {words: build for words, build in builds.items() if words in ("dense 128 x 3", "convolutions 16")}
        for words, build in builds.items():
            for seed in range(1 if few else seeds):
                title = f"{words}, copy {seed}"
                yield Recipe(title, build, epochs, rate=0.002, optimiser="adam", batch_size=64), name


def _trained(context: Context, recipe: Recipe, data: str) -> TrainedNetwork:
    count = context.choose(1_000, 3_000, None)
    return context.train(recipe, context.sample(data, count))


@dataclass(frozen=True)
class Point:
    """A network of Figure 3: exponent of its last dense layer's ``|w|``, and that layer's stable rank."""

    name: str
    exponent: float | None
    stable_rank: float


def _point(name: str, module: nn.Module) -> Point:
    last = [each for each in module.modules() if isinstance(each, nn.Linear)][-1]
    fit = weight_tail(last.weight).fit
    rank = (frobenius_norm(last.weight.detach()) / reshaped_spectral_norm(last.weight.detach())) ** 2
    return Point(name, None if fit is None else fit.density_exponent, rank)


def fig3(context: Context) -> Outcome:
    """Stable rank of the last dense layer against the exponent, and lines by EM."""
    points, trained = [], list[Trained]()
    for name, own in PUBLISHED.items():
        points.append(context.piece(name, Point, partial(lambda n, t: _point(t, load_published(n)), name, own.title)))
    for recipe, data in _small_recipes(context):
        network = _trained(context, recipe, data)
        trained.append(network.trained)
        points.append(_point(f"{recipe.name}, {data}", network.module))
    fitted = [point for point in points if point.exponent is not None]
    x = np.array([point.exponent for point in fitted], dtype=np.float64)
    y = np.array([point.stable_rank for point in fitted])
    mixtures = choose_mixture(x, y, seed=context.seed)
    found = spearman(x.tolist(), y.tolist())
    correlation = math.nan if found is None else found.value
    without = len(points) - len(fitted)
    rows = [
        Row("networks", 43.0, float(len(fitted)), f"{without} more without a fit" if without else ""),
        Row("rank correlation of exponent and stable rank", None, correlation, "the paper: smaller with smaller"),
        *_line_rows(mixtures),
    ]
    size = context.choose("8 recipes on digits", *2 * ("8 recipes, 3 data sets, 2 copies of each",))
    return Outcome(
        tuple(rows),
        (_scatter(x, y, mixtures[0]),),
        findings=_tail_findings(correlation, mixtures[0], len(fitted)),
        scaled=f"The paper's 43 networks are large public ones; here {len(PUBLISHED)} public ones and {len(trained)} "
        f"small ones trained for it ({size}).",
        trained=tuple(trained),
        settings={"networks": [point.name for point in fitted]},
    )


def _line_rows(mixtures: Sequence[Mixture]) -> list[Row]:
    best = mixtures[0]
    tried = "; ".join(f"{len(each.slopes)}: BIC {each.bic:.1f}" for each in mixtures)
    rows = [Row("lines by BIC", None, float(len(best.slopes)), tried)]
    for k, slope in enumerate(best.slopes):
        rows.append(Row(f"slope of line {k + 1}", None, float(slope), f"{100 * best.weights[k]:.0f} % of the networks"))
    return rows


def _scatter(x: np.ndarray, y: np.ndarray, best: Mixture) -> Figure:
    ends = np.array([x.min(), x.max()])
    lines = [Curve.of(f"line {k + 1}", ends, best.intercepts[k] + slope * ends) for k, slope in enumerate(best.slopes)]
    curves = (Curve.of("networks", x, y, look="points"), *lines)
    caption = "Last dense layers; lines by EM. The paper's points bear no numbers."
    panel = Panel("", "exponent alpha of the density", "stable rank", curves)
    return Figure("Stable rank against exponent", caption, (panel,))


def _tail_findings(correlation: float, best: Mixture, count: int) -> tuple[str, ...]:
    seen = "seen" if correlation > 0.2 else "not seen"
    rising = sum(slope > 0 for slope in best.slopes)
    lines = f"{len(best.slopes)} line{'s' if len(best.slopes) > 1 else ''}"
    return (
        f"Smaller exponents with smaller stable ranks is {seen} here: rank correlation {correlation:+.2f} over {count} "
        "networks.",
        f"BIC chooses {lines}, {rising} of them rising.",
    )


STUDIES = (
    Study(
        "shin2021.table1",
        "accuracy before and after small weights of the last layer become noise, 10 draws",
        f"{PAPER}, Table 1: 12 networks; ResNet-20 93.90 -> 89.19 +- 3.03 %, ResNet-56 95.32 -> 94.74 +- 0.30 %.",
        (Cost(80), Cost(400, 2_000), Cost(1_500, 2_000)),
        table1,
        ("mnist", "fashion-mnist", "cifar10", "pretrained"),
    ),
    Study(
        "shin2021.fig1",
        "densities of Levy stable laws by their stability",
        f"{PAPER}, Figure 1: curves without numbers.",
        (Cost(5), Cost(5), Cost(5)),
        fig1,
    ),
    Study(
        "shin2021.fig2",
        "probability of a path to a large logit over alpha and bracket (eqs. 12 to 16)",
        f"{PAPER}, Figure 2: contours for c = 1.3, M = 5, N = 64, without numbers.",
        (Cost(10), Cost(30), Cost(120)),
        fig2,
    ),
    Study(
        "shin2021.equations",
        "row sparsity, spikes, power brackets and stable rank (eqs. 9 to 17) on ResNet-20's last layer",
        f"{PAPER}, section 5: formulas; Figure 2's parameters come from such a layer.",
        (Cost(40), Cost(60), Cost(60)),
        equations,
        ("cifar10", "pretrained"),
    ),
    Study(
        "shin2021.fig3",
        "stable rank of the last dense layer against the exponent, and a mixture of regressions by EM",
        f"{PAPER}, Figure 3: 43 networks, lines by EM; points without numbers.",
        (Cost(60), Cost(600, 1_500), Cost(20_000, 2_000)),
        fig3,
        ("mnist", "fashion-mnist", "pretrained"),
    ),
)
