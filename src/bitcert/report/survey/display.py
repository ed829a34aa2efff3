"""A survey as a self-contained HTML page, as figures and CSV files, and on a terminal.

All of them show what the survey says, and of everything without a value why; they do NOT check it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bitcert.errors import listed
from bitcert.report.bounds.words import MAX_REASON
from bitcert.report.model import MAX_NAME, Picture, Table, detail_rows, page_files, render, rows_grid
from bitcert.report.survey.figures import plot_correlations, plot_scatter
from bitcert.report.text import UNKNOWN, clean, number, percent
from bitcert.theory.gathering import NO_FLATNESS
from bitcert.theory.ingredients.margin import NO_MARGIN
from bitcert.theory.inputs import NO_INIT, NO_PROFILE
from bitcert.theory.ranks import Association
from bitcert.theory.survey_table import LEAST, Correlation, Survey, SurveyRow, as_csv

MOST_NETWORKS, MOST_MEASURES, MOST_REASONS = 500, 300, 100
MOST_TERMINAL = 20
LUCK = 0.05
_OPTIONS = {
    NO_PROFILE.why: "needs --profile, which measures noise stability",
    NO_FLATNESS.why: "needs --flatness, which searches it",
    NO_INIT.why: "needs --init: the initial weights of the networks",
}
LIMITS = (
    "A correlation over these networks says nothing of others, and does not make a measure the cause. Its p-value is "
    "not corrected for the number of measures looked at."
)


def survey_files(survey: Survey) -> dict[str, bytes]:
    """``report.html``, ``survey.json``, ``survey.csv`` and, where gaps are known, correlations and figures, by name."""
    pictures = _pictures(survey)
    files = {"survey.json": survey.to_json().encode(), "survey.csv": survey.to_csv().encode()}
    if survey.holdout is not None:
        files["correlations.csv"] = as_csv(*survey.correlation_table()).encode()
    return {**page_files(render_survey(survey, pictures), pictures), **files}


def render_survey(survey: Survey, pictures: Sequence[Picture] | None = None) -> str:
    """The survey as the text of one HTML file, the same for the same survey."""
    groups = {
        "sample": survey.sample,
        "held-out labels": survey.holdout or {},
        "setting": survey.settings,
        "version": survey.versions,
    }
    found = survey.correlations()[:MOST_MEASURES] if survey.holdout is not None else ()
    return render(
        "survey.html.j2",
        lead=f"bitcert survey · {survey.sample['name']}",
        headline=headline(survey),
        limits=_luck(survey),
        pictures=_pictures(survey) if pictures is None else pictures,
        correlations=Table.of(_correlation_columns(survey), found),
        networks=Table.of(_network_columns(survey), survey.rows[:MOST_NETWORKS]),
        left_out=max(len(survey.rows) - MOST_NETWORKS, 0),
        refused=[(name, clean(why, MAX_REASON)) for name, why in survey.refused.items()][:MOST_NETWORKS],
        reasons=reasons(survey)[:MOST_REASONS],
        details_rows=detail_rows(groups),
    )


def survey_summary(survey: Survey) -> Group:
    """The sentence, the measures that order the gaps best, and why others have no value."""
    parts: list[RenderableType] = [Text(f"{headline(survey)}.", style="bold")]
    found = survey.correlations() if survey.holdout is not None else ()
    if any(each.kendall for each in found):
        columns, apart = _correlation_columns(survey), survey.distinct([each.measure for each in found])[:MOST_TERMINAL]
        cells = ([cell(each) for _, cell in columns] for each in found if each.measure in apart)
        rest = len(found) - len(apart)
        parts.append(rows_grid([title for title, _ in columns], cells, "measure", "fold"))
        if rest:
            text = f"{number(rest)} more, and those that order the networks like one above, are in correlations.csv."
            parts.append(Text(text, style="dim"))
        parts.append(Text(_luck(survey), style="dim"))
    for why, names in reasons(survey)[:MOST_TERMINAL]:
        parts.append(Text(f"{names}: {clean(why, MAX_REASON)}", style="dim"))
    return Group(*parts)


def headline(survey: Survey) -> str:
    """One sentence: how many networks, how many measures, and which orders the gaps best."""
    told = f"{number(len(survey.rows))} networks, {number(len(survey.measured))} measures"
    if survey.holdout is None:
        return f"{told}; without held-out labels there is no generalization gap to compare them with"
    best = next((each for each in survey.correlations() if each.kendall), None)
    if best is None or best.kendall is None:
        return f"{told}; fewer than {LEAST} networks have a measure and a gap, or all of them the same"
    gaps = [row.gap for row in survey.rows if row.gap is not None]
    span = f"gaps from {percent(min(gaps))} to {percent(max(gaps))}"
    of = "" if best.networks == len(survey.rows) else f" of {number(best.networks)} networks"
    return f"{told}, {span}: {clean(best.measure, 60)} orders them best, Kendall's τ {best.kendall.value:.2f}{of}"


def _luck(survey: Survey) -> str:
    """What the correlations do not say, and how many good ones luck alone makes."""
    tried = sum(each.kendall is not None for each in survey.correlations())
    expected = LUCK * tried
    luck = f" Of {tried} measures about {expected:.0f} would reach p < {LUCK} by luck alone." if expected >= 1 else ""
    return LIMITS + luck


def reasons(survey: Survey) -> list[tuple[str, str]]:
    """Why entries have no value, each reason once, with how many networks and which measures it is about."""
    found: dict[str, tuple[set[str], list[str]]] = {}
    for measure in survey.measures:
        for why, networks in survey.missing(measure).items():
            names, measures = found.setdefault(_reason(survey, why), (set(), []))
            names.update(networks)
            measures.append(measure)
    return [
        (why, f"{listed([clean(name, 60) for name in dict.fromkeys(measures)], 4)} of {_networks(survey, networks)}")
        for why, (networks, measures) in found.items()
    ]


def _reason(survey: Survey, why: str) -> str:
    """A reason without the numbers of one network, so that the same one of all networks is one line."""
    if why.startswith(NO_MARGIN):
        worst = max(row.training_error for row in survey.rows)
        return f"{NO_MARGIN}: every network has one at a --margin-quantile above {worst:.4g}"
    return _OPTIONS.get(why, clean(why, MAX_REASON).partition(";")[0])


def _networks(survey: Survey, names: set[str]) -> str:
    if len(names) == len(survey.rows):
        return "every network"
    shown = listed([clean(name, MAX_NAME) for name in sorted(names)])
    return f"{shown} networks" if len(names) > 3 else shown


def _pictures(survey: Survey) -> list[Picture]:
    if survey.holdout is None or not any(each.kendall for each in survey.correlations()):
        return []
    scatter = Picture.of(
        "scatter",
        "Measures against the generalization gap",
        "Each point is a network; the measures that order the gaps best, on logarithmic axes. Left out: measures that "
        "only rescale one that is drawn, and values of exactly 0.",
        lambda: plot_scatter(survey),
    )
    ordered = Picture.of(
        "correlations",
        "How well each measure orders the networks",
        "1: the larger the measure, the larger the gap, for every two networks; -1: the reverse; 0: no relation.",
        lambda: plot_correlations(survey),
    )
    return [scatter, ordered]


def _correlation_columns(survey: Survey) -> list[tuple[str, Any]]:
    columns: list[tuple[str, Any]] = [
        ("measure", lambda each: clean(each.measure, MAX_NAME)),
        ("networks", lambda each: number(each.networks)),
        ("τ", lambda each: _coefficient(each.kendall)),
        ("p", lambda each: _p_value(each.kendall)),
        ("ρ", lambda each: _coefficient(each.spearman)),
    ]
    if any(row.hyperparameters for row in survey.rows):
        columns += [("granulated", lambda each: _number(each.granulated)), ("conditional", _conditional)]
    return columns


def _conditional(each: Correlation) -> str:
    given = f" given {' and '.join(clean(name, 20) for name in each.given)}" if each.given else ""
    return UNKNOWN if each.conditional is None else f"{each.conditional:.2f}{given}"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _coefficient(found: Association | None) -> str:
    return UNKNOWN if found is None else f"{found.value:.2f}"


def _p_value(found: Association | None) -> str:
    if found is None:
        return UNKNOWN
    return "< 0.001" if found.p_value < 1e-3 else f"{found.p_value:.3f}"


def _network_columns(survey: Survey) -> list[tuple[str, Any]]:
    names = list(survey.rows[0].hyperparameters)
    own = [(clean(name, 20), lambda row, name=name: clean(row.hyperparameters[name], 20)) for name in names]
    columns: list[tuple[str, Any]] = [("network", lambda row: clean(row.name, MAX_NAME)), *own]
    columns += [
        ("parameters", lambda row: number(row.num_parameters)),
        ("depth", lambda row: number(row.depth)),
        ("training error", lambda row: percent(row.training_error)),
    ]
    if survey.holdout is not None:
        columns += [("held out", lambda row: percent(row.holdout_error)), ("gap", lambda row: percent(row.gap))]
    return [*columns, ("γ", _gamma)]


def _gamma(row: SurveyRow) -> str:
    return UNKNOWN if row.gamma is None else f"{row.gamma:.3g}"
