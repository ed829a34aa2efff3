"""A stability profile as a self-contained HTML page, as a section of a certificate's report, and on a terminal.

All of them show what the profile says, and that a measure explains and never proves; they do NOT check it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.text import Text

from bitcert.report.drawing import spread
from bitcert.report.model import Picture, detail_rows, page_files, render, rows_grid, section_page
from bitcert.report.stability import figures, words
from bitcert.report.stability.distributions import plot_cushions, plot_four_distributions
from bitcert.report.stability.words import headline, hypothesis_word, measured_on, short, strip_dot
from bitcert.report.text import clean, number
from bitcert.stability.profile import StabilityProfile
from bitcert.stability.reduction import SmoothnessSummary

MOST_LAYERS = 200
MOST_DRAWN_LAYERS = 60
MOST_LINES = 100
MOST_HISTOGRAMS = 3
MOST_LEVELS = 3

TITLES = ("", "layer", "weights", "cushion", "interlayer", "contract.", "effective", "%")
MOST_TERMINAL_ROWS = 60
MOST_TERMINAL_LINES = 12
MAX_NAME = 28


def render_stability(profile: StabilityProfile) -> str:
    """The profile as the text of one HTML file, the same for the same profile."""
    return _page(profile, list(_overviews(profile)))


def stability_section(profile: StabilityProfile) -> Markup:
    """The profile as the inside of a page: sentences, pictures, the tables of layers, hypotheses and notes."""
    return _section(profile, list(_overviews(profile)))


def stability_files(profile: StabilityProfile) -> dict[str, bytes]:
    """``report.html`` and the pictures as SVG files, by name; what was not measured has none."""
    overviews = list(_overviews(profile))
    return page_files(_page(profile, overviews), overviews)


def _page(profile: StabilityProfile, overviews: Sequence[Picture]) -> str:
    lead = f"bitcert measure · {profile.sample['name']}"
    return section_page(lead, headline(profile), _section(profile, overviews))


def _section(profile: StabilityProfile, overviews: Sequence[Picture]) -> Markup:
    groups = {"network": profile.network, "sample": profile.sample, "setting": profile.settings}
    return render(
        "stability.html.j2",
        profile=profile,
        measured_on=measured_on(profile),
        facts=words.explain(profile),
        pictures=list(_drawings(profile, overviews)),
        tables=words.layer_tables(profile.layers[:MOST_LAYERS]),
        left_out=len(profile.layers[MOST_LAYERS:]),
        hypotheses=words.hypothesis_table(profile.hypotheses[:MOST_LINES]),
        notes=profile.notes[:MOST_LINES],
        details_rows=detail_rows(groups)[:MOST_LINES],
    )


def _drawings(profile: StabilityProfile, overviews: Sequence[Picture]) -> Iterator[Picture]:
    """Every picture of the page: of what an overview shows in part, the other parts too."""
    levels = list(dict.fromkeys(curve.level for curve in profile.attenuation))[1:MOST_LEVELS]
    places = spread(len(profile.layers), MOST_HISTOGRAMS)
    layers = [profile.layers[place].index for place in places]
    for picture in overviews:
        if picture.name != "distributions":
            yield picture
        else:
            known = {picture.title: picture}
            for layer in layers:
                histogram = _histogram(profile, layer, f"distributions-{layer}")
                yield replace(known.get(histogram.title, histogram), name=histogram.name)
        if picture.name == "attenuation":
            for place, level in enumerate(levels, start=2):
                yield _attenuation(profile, level, f"attenuation-{place}")
        if picture.name == "spectra":
            for layer in layers:
                yield _spectrum(profile, layer)


def _overviews(profile: StabilityProfile) -> Iterator[Picture]:
    """The pictures that are also files, in the order of the page."""
    depth, has = len(profile.layers), profile.distributions
    if profile.attenuation:
        yield _attenuation(profile, profile.attenuation[0].level, "attenuation")
    if depth <= MOST_DRAWN_LAYERS and any(has.get(name) for name in ("layer_cushion", "contraction", "smoothness")):
        caption = (
            "Bars: from the 10 % to the 90 % quantile over the examples; the dash is the median, the diamond the worst "
            "example, which the theory uses."
        )
        yield _picture(profile, "cushions", "The four quantities, layer by layer", caption, plot_cushions)
    if depth and has.get("layer_cushion"):
        yield _histogram(profile, profile.layers[(depth - 1) // 2].index, "distributions")
    if 0 < depth <= MOST_DRAWN_LAYERS and profile.spectra:
        caption = (
            "Each layer's singular values, sorted, over the largest. A steep fall means that few directions matter."
        )
        yield _picture(profile, "spectra", "Singular values of all layers", caption, figures.plot_singular_values)
    if has.get("margin"):
        caption = (
            "The share of examples whose margin is at most the value below, as it is, over the norm of the output, and "
            "over the norm of the input times the product of the layers' spectral norms. Left of 0: errors."
        )
        yield _picture(profile, "margins", "Margins", caption, figures.plot_margins)
    if 0 < depth <= MOST_DRAWN_LAYERS and any(row.effective_parameters.worst is not None for row in profile.layers):
        caption = "Constants and logarithms are dropped; the percentages are of each layer's number of weights."
        title = "Effective and actual parameters"
        yield _picture(profile, "effective-parameters", title, caption, figures.plot_effective_parameters)


def _picture(
    profile: StabilityProfile, name: str, title: str, caption: str, plot: Callable[..., tuple[Figure, Any]], *what: Any
) -> Picture:
    """A picture of the profile; ``what`` of it goes to ``plot`` too."""
    return Picture.of(name, title, caption, functools.partial(plot, profile, *what), "stability-")


def _attenuation(profile: StabilityProfile, level: float, name: str) -> Picture:
    caption = (
        f"Gaussian noise of {short(100 * level)} % of the norm is added at one layer; each curve "
        "begins there (dot) and shows the relative error at the layers above, the mean over the examples. Bands: from "
        "the 10 % to the 90 % quantile."
    )
    title = f"How far noise of {short(100 * level)} % is felt"
    return _picture(profile, name, title, caption, figures.plot_attenuation, level)


def _histogram(profile: StabilityProfile, layer: int, name: str) -> Picture:
    caption = "Every example counts once. Dashed: the worst example, which the theory uses."
    if profile.twin is not None:
        caption += " The untrained twin's distributions stand behind."
    title = f"Distributions over the examples, layer {layer}"
    return _picture(profile, name, title, caption, plot_four_distributions, layer)


def _spectrum(profile: StabilityProfile, layer: int) -> Picture:
    caption = "Dashed: the stable rank, the squared Frobenius norm over the squared largest singular value."
    title = f"Singular values of layer {layer}"
    return _picture(profile, f"spectrum-{layer}", title, caption, figures.plot_singular_values, layer)


def stability_summary(profile: StabilityProfile) -> Group:
    """The sentence, the layers with their worst cushions and effective parameters, smoothness and hypotheses.

    >>> from rich.console import Console
    >>> Console().print(stability_summary(profile))  # doctest: +SKIP
    """
    parts: list[RenderableType] = [Text(headline(profile), style="bold"), Text(f"Measured on {measured_on(profile)}.")]
    left_out = len(profile.layers) - MOST_TERMINAL_ROWS
    if profile.layers:
        closing = [[Text(""), Text(f"and {number(left_out)} more")]] if left_out > 0 else []
        parts.append(rows_grid(TITLES, _rows(profile), "layer", "ellipsis", closing))
    if profile.smoothness is not None and profile.smoothness.value is not None:
        parts.append(Text(_smoothness(profile.smoothness)))
    for hypothesis in profile.hypotheses[:MOST_TERMINAL_LINES]:
        style = "yellow" if hypothesis.holds is False else ""
        found = f"{hypothesis_word(hypothesis.holds)} ({strip_dot(hypothesis.detail)})"
        parts.append(Text(f"{clean(hypothesis.name, 80)}: {found}", style=style))
    parts.extend(Text(f"note: {clean(note)}", style="dim") for note in profile.notes[:MOST_TERMINAL_LINES])
    if len(profile.notes) > MOST_TERMINAL_LINES:
        text = f"{number(len(profile.notes) - MOST_TERMINAL_LINES)} more notes are in the report"
        parts.append(Text(text, style="dim"))
    parts.append(Text("These are measures: they explain, they never prove.", style="dim"))
    return Group(*parts)


def _smoothness(summary: SmoothnessSummary) -> str:
    noise = summary.median_relative_noise
    size = "" if noise is None else f", noise {short(100 * noise)} % of the signal"
    return f"interlayer smoothness 1/ρ: {short(summary.value)} ({number(summary.draws)} draws{size})"


def _rows(profile: StabilityProfile) -> Iterator[tuple[str, ...]]:
    for row in profile.layers[:MOST_TERMINAL_ROWS]:
        cushions = (row.layer_cushion, row.minimal_cushion, row.contraction)
        values = (value.worst for value in (*cushions, row.effective_parameters, row.compression_percent))
        yield str(row.index), clean(row.node, MAX_NAME), number(math.prod(row.shape)), *map(short, values)
