"""Bound and training error of every message against its length, one colour and mark for each codec.

Every point is a message that was written, decoded and counted. The lines are what it should be held against: guessing a
class, what held-out labels say of the original network, and the original's own training error. A point does NOT say
that its codec could do no better.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from bitcert.comparison.records import Comparison, ComparisonRow, Measured
from bitcert.errors import InputError
from bitcert.report.drawing import (
    INK,
    MUTED,
    compact,
    label_text,
    legend_below,
    log_axis,
    new_figure,
    ramp,
    style,
    write_on,
)
from bitcert.report.text import number, percent_up

MARKS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "*", "d")
MOST_CODECS = 26
_DASHED, _DOTTED = (0, (5, 2)), (0, (1, 1.5))


def plot_comparison(comparison: Comparison) -> tuple[Figure, list[Axes]]:
    """Two panels over the message length in bits: the certified bound above, the training error below, in percent.

    Rows without a message have no point. No errors at all are drawn as half an error, where a logarithm has a place
    for them.

    Raises:
        InputError: there is no message.
    """
    pairs = comparison.messages
    if not pairs:
        raise InputError("a comparison with at least one message", "none", "see why each row was refused")
    codecs = list(dict.fromkeys(row.codec for row, _ in pairs))[:MOST_CODECS]
    with style():
        figure, axes = new_figure(height=7.4 + 0.11 * len(codecs), rows=2)
        for k, codec in enumerate(codecs):
            own = sorted((m for row, m in pairs if row.codec == codec), key=lambda measured: measured.message_bits)
            color = ramp(_apart(k, len(codecs)), len(codecs))
            look = {"color": color, "marker": MARKS[k % len(MARKS)], "label": label_text(codec, 30)}
            _draw(axes[0], own, [100 * measured.bound for measured in own], look)
            _draw(axes[1], own, [_error_percent(measured) for measured in own], look)
        _draw_lines(axes, comparison)
        _finish(axes, comparison)
        legend_below(figure, axes[0], 2)
    return figure, axes


def _apart(index: int, count: int) -> int:
    """A place on the ramp half of it away from the neighbours' in the legend."""
    return index // 2 + (count + 1) // 2 * (index % 2)


def _draw(axes: Axes, own: list[Measured], heights: list[float], look: dict[str, str]) -> None:
    bits = [measured.message_bits for measured in own]
    axes.plot(bits, heights, linewidth=0.9, markersize=6, alpha=0.9, **look)  # type: ignore[arg-type]


def _error_percent(measured: Measured) -> float:
    return 100 * max(measured.errors, 0.5) / measured.samples


def _draw_lines(axes: list[Axes], comparison: Comparison) -> None:
    bound, error = axes
    original = comparison.original
    bound.axhline(100 * comparison.guessing, color=MUTED, linewidth=1.2, linestyle=_DOTTED, label="guessing a class")
    if original.holdout is not None and original.holdout.bound is not None:
        held = 100 * original.holdout.bound
        name = f"holding out {number(original.holdout.samples)}: {percent_up(original.holdout.bound)}"
        bound.axhline(held, color=INK, linewidth=1.4, linestyle=_DASHED, label=name)
    own = 100 * max(original.errors, 0.5) / original.samples
    error.axhline(own, color=INK, linewidth=1.4, linestyle=_DASHED, label="original network")
    error.axhline(100 * comparison.guessing, color=MUTED, linewidth=1.2, linestyle=_DOTTED)
    where = {"xycoords": ("axes fraction", "data"), "ha": "right"}
    write_on(error, "original network", (1.0, own), (-2, 3), **where)


def _finish(axes: list[Axes], comparison: Comparison) -> None:
    bound, error = axes
    best = comparison.best
    if best is not None and best.measured is not None:
        bound.set_title(_best_title(best), loc="left", parse_math=False)
    bound.set_ylim(0, 104)
    bound.set_ylabel("bound on the error (%)")
    error.set_yscale("log")
    error.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    error.yaxis.set_minor_formatter(NullFormatter())
    error.set_ylabel("training errors (%)")
    error.set_xlabel("message length (bits)")
    log_axis(error.xaxis, compact, 12)
    bits = [max(measured.message_bits, 1) for _, measured in comparison.messages]
    error.set_xlim(0.6 * min(bits), 1.6 * max(bits))


def _best_title(best: ComparisonRow) -> str:
    assert best.measured is not None
    bound = percent_up(best.measured.bound)
    return f"best: {bound}, {label_text(best.label, 30)}, {number(best.measured.message_bits)} bits"
