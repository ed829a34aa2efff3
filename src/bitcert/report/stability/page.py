"""A stability profile as one self-contained HTML page, and as the ``measure`` section of a certificate's report.

Text of a profile may come from a stranger: the templates escape all of it and the page's content security policy
forbids anything that would have to be loaded or run, as in :mod:`bitcert.report.certificate.page`. The page shows what
the profile says; it does NOT check it, and it says itself that a measure explains and never proves.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.figure import Figure

from bitcert.report import text as words
from bitcert.report.drawing import draw, for_file, for_page
from bitcert.report.stability import figures
from bitcert.report.stability import words as stability_words
from bitcert.report.templating import Picture, get_template

if TYPE_CHECKING:
    from bitcert.stability.profile import StabilityProfile

__all__ = ["render_stability", "stability_files", "stability_section"]

REPORT_FILE = "report.html"
MOST_LAYERS = 200
MOST_DRAWN_LAYERS = 60
MOST_LINES = 100
MOST_HISTOGRAMS = 3
MOST_LEVELS = 3


@dataclass(frozen=True)
class _Drawn:
    """A picture that can be drawn: its name, title and caption."""

    name: str
    draw: Callable[[], tuple[Figure, Any]]
    title: str
    caption: str

    @property
    def description(self) -> str:
        """What it shows, for readers who do not see it."""
        return f"{self.title}. {self.caption}"


class _Drawings:
    """Every picture drawn once, though it is both on the page and a file."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, drawn: _Drawn) -> str:
        if drawn.title not in self._known:
            self._known[drawn.title] = draw(drawn.draw()[0])
        return self._known[drawn.title]


def render_stability(profile: StabilityProfile) -> str:
    """The profile as the text of one HTML file, the same for the same profile."""
    return _page(profile, _Drawings())


def stability_section(profile: StabilityProfile) -> Markup:
    """The profile as the inside of a page: sentences, pictures, the tables of layers, hypotheses and notes."""
    return _section(profile, _Drawings())


def stability_files(profile: StabilityProfile) -> dict[str, bytes]:
    """``report.html`` and the pictures as SVG files, by name; what was not measured has none."""
    drawings = _Drawings()
    files = {REPORT_FILE: _page(profile, drawings).encode()}
    for drawn in _overviews(profile):
        files[f"{drawn.name}.svg"] = for_file(drawings(drawn), drawn.description).encode()
    return files


def _page(profile: StabilityProfile, drawings: _Drawings) -> str:
    template = get_template("stability_page.html.j2")
    headline = stability_words.headline(profile)
    return template.render(profile=profile, headline=headline, section=_section(profile, drawings))


def _section(profile: StabilityProfile, drawings: _Drawings) -> Markup:
    pictures = [
        Picture(d.title, Markup(for_page(drawings(d), f"stability-{d.name}", d.description)), d.caption)
        for d in _drawings(profile)
    ]
    text = get_template("stability.html.j2").render(
        profile=profile,
        words=stability_words,
        plain=words,
        facts=stability_words.explain(profile),
        pictures=pictures,
        tables=stability_words.layer_tables(profile.layers[:MOST_LAYERS]),
        more_layers=len(profile.layers[MOST_LAYERS:]),
        details=_details(profile),
        most=MOST_LINES,
    )
    return Markup(text)  # the template has escaped all of the profile's text


def _drawings(profile: StabilityProfile) -> Iterator[_Drawn]:
    """Name, drawing, title and caption of every picture of the page."""
    for drawn in _overviews(profile):
        if drawn.name == "distributions":
            yield from _histograms(profile)
        else:
            yield drawn
        if drawn.name == "attenuation":
            yield from _other_levels(profile)
        if drawn.name == "spectra":
            yield from _single_spectra(profile)


def _overviews(profile: StabilityProfile) -> Iterator[_Drawn]:
    """The pictures that are also files, in the order of the page."""
    depth = len(profile.layers)
    has = profile.distributions
    if profile.attenuation:
        yield _attenuation(profile, profile.attenuation[0].level, "attenuation")
    if depth <= MOST_DRAWN_LAYERS and any(has.get(name) for name in ("layer_cushion", "contraction", "smoothness")):
        caption = (
            "Bars: from the 10 % to the 90 % quantile over the examples; the dash is the median, the diamond the worst "
            "example, which the theory uses."
        )
        yield _Drawn("cushions", lambda: figures.plot_cushions(profile), "The four quantities, layer by layer", caption)
    if depth and has.get("layer_cushion"):
        middle = profile.layers[(depth - 1) // 2].index
        yield _histogram(profile, middle, "distributions")
    if 0 < depth <= MOST_DRAWN_LAYERS and profile.spectra:
        caption = (
            "Each layer's singular values, sorted, over the largest. A steep fall means that few directions matter."
        )
        yield _Drawn("spectra", lambda: figures.plot_singular_values(profile), "Singular values of all layers", caption)
    if has.get("margin"):
        caption = (
            "The share of examples whose margin is at most the value below, as it is, over the norm of the output, and "
            "over the norm of the input times the product of the layers' spectral norms. Left of 0: errors."
        )
        yield _Drawn("margins", lambda: figures.plot_margins(profile), "Margins", caption)
    if 0 < depth <= MOST_DRAWN_LAYERS and any(row.effective_parameters.worst is not None for row in profile.layers):
        caption = "Constants and logarithms are dropped; the percentages are of each layer's number of weights."
        title = "Effective and actual parameters"
        yield _Drawn("effective-parameters", lambda: figures.plot_effective_parameters(profile), title, caption)


def _attenuation(profile: StabilityProfile, level: float, name: str) -> _Drawn:
    caption = (
        f"Gaussian noise of {stability_words.short(100 * level)} % of the norm is added at one layer; each curve "
        "begins there (dot) and shows the relative error at the layers above, the mean over the examples. Bands: from "
        "the 10 % to the 90 % quantile."
    )
    title = f"How far noise of {stability_words.short(100 * level)} % is felt"
    return _Drawn(name, lambda: figures.plot_attenuation(profile, level), title, caption)


def _other_levels(profile: StabilityProfile) -> Iterator[_Drawn]:
    levels = list(dict.fromkeys(curve.level for curve in profile.attenuation))[1:MOST_LEVELS]
    for number, level in enumerate(levels, start=2):
        yield _attenuation(profile, level, f"attenuation-{number}")


def _histogram(profile: StabilityProfile, layer: int, name: str) -> _Drawn:
    caption = "Every example counts once. Dashed: the worst example, which the theory uses."
    if profile.twin is not None:
        caption += " The untrained twin's distributions stand behind."
    title = f"Distributions over the examples, layer {layer}"
    return _Drawn(name, lambda: figures.plot_four_distributions(profile, layer), title, caption)


def _histograms(profile: StabilityProfile) -> Iterator[_Drawn]:
    for position in figures.spread(len(profile.layers), MOST_HISTOGRAMS):
        layer = profile.layers[position].index
        yield _histogram(profile, layer, f"distributions-{layer}")


def _single_spectra(profile: StabilityProfile) -> Iterator[_Drawn]:
    for position in figures.spread(len(profile.layers), MOST_HISTOGRAMS):
        layer = profile.layers[position].index
        caption = "Dashed: the stable rank, the squared Frobenius norm over the squared largest singular value."
        title = f"Singular values of layer {layer}"
        draw_one = functools.partial(figures.plot_singular_values, profile, layer)
        yield _Drawn(f"spectrum-{layer}", draw_one, title, caption)


def _details(profile: StabilityProfile) -> list[tuple[str, str]]:
    groups = (("network", profile.network), ("sample", profile.sample), ("setting", profile.settings))
    rows = [(f"{group}: {key}", value) for group, content in groups for key, value in content.items()]
    return [
        (key, value if isinstance(value, str) else json.dumps(value, default=str)) for key, value in rows[:MOST_LINES]
    ]
