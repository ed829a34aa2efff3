"""A stability profile in sentences and table rows that a person can read; shared by the page and the terminal.

Numbers are rounded to three digits. A sentence says what was measured on the samples of the profile; it does NOT say
anything of other samples, and a row shows a dash where nothing was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bitcert.linear import TailSummary
from bitcert.report.model import Columns, Table
from bitcert.report.text import UNKNOWN, clean, number
from bitcert.stability.profile import Hypothesis, LayerRow, Reduced, StabilityProfile
from bitcert.stability.reduction import Distribution


def short(value: object) -> str:
    """A measured number with three digits, or a dash.

    >>> short(0.123456), short(12345.6), short(3), short(None), short(float("inf")), short(1.5e13)
    ('0.123', '12,346', '3', '–', 'infinite', '1.5e+13')
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinity"
    if 1000 <= abs(value) < 1e12:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def strip_dot(sentence: object) -> str:
    """A sentence as part of another: cleaned, without its full stop."""
    return clean(sentence).rstrip(".")


def hypothesis_word(holds: bool | None) -> str:
    """``holds``, ``does not hold`` or ``not measured``."""
    return "not measured" if holds is None else ("holds" if holds else "does not hold")


def headline(profile: StabilityProfile) -> str:
    """One sentence: what became of noise at the input, or what was measured at all."""
    name, sample = clean(profile.network["name"], 80), clean(profile.sample["name"], 120)
    told = _input_noise(profile)
    return f"Noise stability of {name} on {sample}" + (f": {told}" if told else "") + "."


def measured_on(profile: StabilityProfile) -> str:
    """How many examples of what were measured."""
    count, whole = profile.sample["measured"], profile.sample["num_samples"]
    of = "" if count == whole else f" of {number(whole)}"
    return f"{number(count)}{of} examples of {clean(profile.sample['name'], 120)}"


def explain(profile: StabilityProfile) -> list[tuple[str, str]]:
    """A title and a sentence or two for every quantity of Arora 2018 that was measured."""
    told = [
        ("Attenuation", _attenuation(profile)),
        ("Layer cushion", _worst(profile, "layer_cushion")),
        ("Minimal interlayer cushion", _worst(profile, "minimal_interlayer_cushion")),
        ("Activation contraction", _worst(profile, "contraction")),
        ("Interlayer smoothness", _smoothness(profile)),
        ("Noise sensitivity", _sensitivity(profile)),
        ("Margins", _margins(profile)),
        ("Effective parameters", _effective(profile)),
        ("Skipped examples", _skipped(profile)),
    ]
    return [(title, sentence) for title, sentence in told if sentence]


def _input_noise(profile: StabilityProfile) -> str:
    for curve in profile.attenuation:
        mean = dict(zip(curve.targets, curve.mean, strict=True)).get(len(profile.layers))
        if curve.injection == 0 and mean is not None:
            return f"noise of {_percent(curve.level)} of the input reaches the output as {_percent(mean)} on average"
    return ""


def _percent(share: float) -> str:
    return f"{short(100 * share)} %"


def _attenuation(profile: StabilityProfile) -> str:
    told = _input_noise(profile)
    if not told:
        return ""
    return (
        f"Gaussian {told} of the output's norm. Where noise dies out on its way up, layers can be replaced by cruder "
        "ones and the answer hardly changes."
    )


def _worst(profile: StabilityProfile, quantity: str) -> str:
    """What the quantity is, and its worst value over layers and examples; empty where it was not measured."""
    meaning, largest = _WORST[quantity]
    known = [d for d in profile.distributions.get(quantity, ()) if d.worst is not None]
    if not known:
        return ""
    worst = (max if largest else min)(known, key=lambda d: d.worst if d.worst is not None else 0.0)
    place = clean(worst.label, 60).replace("→", " to ")
    example = f", example {number(worst.worst_index)}" if quantity == "layer_cushion" else ""
    return f"{meaning} The {'largest' if largest else 'smallest'} is {short(worst.worst)}, at {place}{example}."


_WORST = {
    "layer_cushion": (
        "How much of its norm (root of the sum of squared weights) a layer passes on: 1 if every input lies along its "
        "strongest direction and it has no other, near 0 for an input that looks random to it. Larger is better.",
        False,
    ),
    "minimal_interlayer_cushion": (
        "The same for all that follows a layer, taken as a linear map at each example; clipped at 1/√h for h channels, "
        "as the theory does. Larger is better.",
        False,
    ),
    "contraction": (
        "By what factor all that lies between two layers (ReLU, pooling) shrinks the norm of what it is given, counted "
        "at the layer that it feeds; small constants are good.",
        True,
    ),
}
"""What each quantity is, and whether the largest is the worst."""


def _smoothness(profile: StabilityProfile) -> str:
    summary = profile.smoothness
    if summary is None or summary.value is None:
        return ""
    told = (
        "How far the network is from linear around its examples when its layers are replaced by random projections of "
        f"themselves: 1/ρ = {short(summary.value)}, number {number(summary.order)} in size of {number(summary.draws)} "
        f"draws (the {short(100 * (1 - summary.delta))} % quantile)."
    )
    if summary.median_relative_noise is not None:
        told += f" The noise is {short(100 * summary.median_relative_noise)} % of the signal (median)."
    if summary.gaussian is not None:
        told += f" With Gaussian noise of the same norm, a cheap stand-in, it is {short(summary.gaussian)}."
    return told


def _measured(profile: StabilityProfile, quantity: str) -> Distribution | None:
    found = profile.distributions.get(quantity, ())
    return found[0] if found and found[0].count else None


def _sensitivity(profile: StabilityProfile) -> str:
    found = _measured(profile, "noise_sensitivity")
    if found is None:
        return ""
    return (
        "The expected squared error of the output, over its squared norm, when every coordinate of the input is given "
        f"Gaussian noise of the size of the whole input: {short(found.quantiles.get(0.5))} for the median example "
        f"(Monte Carlo on {number(found.count)} examples)."
    )


def _margins(profile: StabilityProfile) -> str:
    found = _measured(profile, "margin")
    if found is None:
        return ""
    tenth, middle = (short(found.quantiles.get(q)) for q in (0.1, 0.5))
    return (
        "By how much the score of the right class exceeds the best other one; at most 0 is an error. 10 % of the "
        f"examples have at most {tenth}, half of them at most {middle}; the smallest is {short(found.minimum)}."
    )


def _effective(profile: StabilityProfile) -> str:
    known = [row.effective_parameters.worst for row in profile.layers]
    values = [value for value in known if value is not None]
    if not values or len(values) < len(known):
        return ""
    actual = sum(row.parameters for row in profile.layers)
    return (
        f"The paper's count of parameters that a compressed network would need is {short(sum(values))} where there are "
        f"{number(actual)}. Constants and logarithms are dropped, as in its Table 1, so compare networks by it; it is "
        "no size of a file. It takes the contraction before each layer, as the proof does"
        f"{_with_after(profile, values)}."
    )


def _with_after(profile: StabilityProfile, before: Sequence[float]) -> str:
    """The other reading of Table 1 (docs/theory.md erratum 19), where it makes a difference."""
    after = [row.effective_parameters_after.worst for row in profile.layers]
    known = [value for value in after if value is not None]
    if len(known) < len(after) or math.isclose(sum(known), sum(before), rel_tol=1e-9):
        return ""
    return f"; with the one after each layer it is {short(sum(known))}"


def _skipped(profile: StabilityProfile) -> str:
    skipped = {
        name: max((d.skipped for d in found), default=0)
        for name, found in profile.distributions.items()
        if name != "noise_sensitivity"
    }
    told = [f"{name.replace('_', ' ')}: {number(count)}" for name, count in skipped.items() if count]
    if not told:
        return ""
    return "Where a layer receives only zeros a ratio is 0/0 and the example is left out. At most, per place: " + (
        "; ".join(told) + "."
    )


def layer_tables(rows: Sequence[LayerRow]) -> list[Table]:
    """Two tables of layers, of the weights and of the samples."""
    on_samples = "On the samples: the worst value, then what holds once ζ outliers are dropped"
    return [
        Table.of(_WEIGHT_COLUMNS, rows, names=2, caption="The weights"),
        Table.of(_SAMPLE_COLUMNS, rows, names=2, caption=on_samples),
    ]


def hypothesis_table(hypotheses: Sequence[Hypothesis]) -> Table:
    """What the papers' bounds need, whether it holds here, and the numbers behind it."""
    return Table.of(_HYPOTHESIS_COLUMNS, hypotheses, texts=2)


def _tail(tail: TailSummary | None) -> str:
    return UNKNOWN if tail is None else f"{short(tail.density_exponent)} (KS {short(tail.ks_distance)})"


def _reduced(value: Reduced) -> str:
    """The worst value, and where it differs the one without outliers."""
    worst, zeta = short(value.worst), short(value.zeta)
    return worst if zeta in (worst, UNKNOWN) else f"{worst} / {zeta}"


_LAYER: Columns = (("", lambda row: str(row.index)), ("layer", lambda row: clean(row.node, 60)))
_WEIGHT_COLUMNS: Columns = (
    *_LAYER,
    ("shape", lambda row: "×".join(str(size) for size in row.shape[:8])),
    ("parameters", lambda row: number(row.parameters)),
    ("Frobenius", lambda row: short(row.frobenius)),
    ("spectral, reshaped", lambda row: short(row.spectral_reshaped)),
    ("spectral, operator", lambda row: short(row.spectral_operator)),
    ("2,1", lambda row: short(row.norm_21)),
    ("1,∞", lambda row: short(row.norm_1inf)),
    ("stable rank", lambda row: short(row.stable_rank)),
    ("density exponent of |w|", lambda row: _tail(row.weight_tail)),
    ("… of eigenvalues", lambda row: _tail(row.eigen_tail)),
    ("distance from start", lambda row: short(row.distance_frobenius)),
)
_SAMPLE_COLUMNS: Columns = (
    *_LAYER,
    ("cushion", lambda row: _reduced(row.layer_cushion)),
    ("minimal cushion", lambda row: _reduced(row.minimal_cushion)),
    ("… unclipped", lambda row: _reduced(row.minimal_cushion_unclipped)),
    ("β", lambda row: _reduced(row.beta)),
    ("contraction before", lambda row: _reduced(row.contraction)),
    ("… after", lambda row: _reduced(row.contraction_after)),
    ("effective", lambda row: _reduced(row.effective_parameters)),
    ("… with c after", lambda row: _reduced(row.effective_parameters_after)),
    ("% of actual", lambda row: _reduced(row.compression_percent)),
)
_HYPOTHESIS_COLUMNS: Columns = (
    ("hypothesis", lambda each: each.name),
    ("here", lambda each: hypothesis_word(each.holds)),
    ("numbers", lambda each: each.detail),
)
