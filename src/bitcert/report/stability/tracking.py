"""A measure over the epochs of a training run, as recorded by a tracker (Arora et al. 2018, Figure 3 right).

One line for each layer (pair, activation), from blue to brown; at most five are named. It shows the examples that the
tracker measured and does NOT say how a test error went.
"""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bitcert.errors import InputError, unknown_name
from bitcert.report.drawing import label_text, legend_below, log_if_wide, new_figure, ramp, spread, style
from bitcert.report.stability.distributions import QUANTITIES
from bitcert.report.stability.figures import MOST_BANDS
from bitcert.stability.tracker import Tracker

_TITLES = {
    "frobenius": "Frobenius norm",
    "spectral_reshaped": "spectral norm (reshaped)",
    "norm_21": "2,1 norm",
    "stable_rank": "stable rank",
    "effective_parameters": "effective parameters",
    "effective_parameters_total": "effective parameters, all layers",
}
_STATISTICS = {
    "worst": "worst example",
    "median": "median",
    "mean": "mean",
    "low": "10 % quantile",
    "high": "90 % quantile",
}
_LOG_RATIO = 20.0


def plot_track(tracker: Tracker, measure: str, statistic: str = "median") -> tuple[Figure, Axes]:
    """A measure over the recorded epochs, one line for each layer (pair, injection).

    Args:
        tracker: whose records are drawn.
        measure: a key of its ``labels``.
        statistic: over the examples: ``worst``, ``median``, ``mean``, ``low`` or ``high`` (10 and 90 % quantiles);
            measures that are one number have no choice.

    Raises:
        InputError: an unknown measure or statistic, or no records.
    """
    history, labels = tracker.history(), tracker.labels
    if measure not in labels:
        raise unknown_name("tracked measure", measure, labels)
    if not history:
        raise InputError("at least one recorded epoch", "none", "call update first")
    first = history[0].values[measure]
    statistic = "value" if "value" in first else statistic
    if statistic not in first:
        raise unknown_name("statistic", statistic, first)
    places = labels[measure]
    named = set(spread(len(places), MOST_BANDS))
    epochs = [record.epoch for record in history]
    with style():
        figure, (axes,) = new_figure(height=3.8)
        for k, place in enumerate(places):
            values = [_or_nan(record.values[measure][statistic][k]) for record in history]
            name = label_text((place or measure).replace("→", " to "), 24)
            width, marker = (2.0 if k in named else 1.0), ("o" if len(epochs) < 30 else None)
            label = name if k in named else f"_{name}"
            colour = ramp(k, len(places))
            axes.plot(epochs, values, color=colour, linewidth=width, marker=marker, markersize=3.5, label=label)
        _axes(axes, measure, statistic)
        legend_below(figure, axes, 3, least=2)
    return figure, axes


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _axes(axes: Axes, measure: str, statistic: str) -> None:
    title = _TITLES.get(measure) or QUANTITIES.get(measure, measure.replace("_", " "))
    axes.set_ylabel(title + (f"\n{_STATISTICS[statistic]}" if statistic in _STATISTICS else ""), parse_math=False)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    log_if_wide(axes, _LOG_RATIO)
