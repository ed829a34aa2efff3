"""The pictures of a certificate, one call each; every call returns ``(figure, axes)`` of matplotlib's object API.

The curves of :func:`plot_bound_surface` are :func:`bitcert.proof.occam_bound` at other counts than the
certificate's: they show what the bound would have been. They are NOT certificates of anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bitcert.certificates.certificate import Certificate
from bitcert.errors import InputError
from bitcert.proof import occam_bound
from bitcert.report.certificate.claims import abstains
from bitcert.report.drawing import (
    ACCENT,
    MUTED,
    SECOND,
    compact,
    label_text,
    legend_below,
    log_axis,
    new_figure,
    style,
    write_on,
)
from bitcert.report.text import group_sections, number, percent, percent_up, share
from bitcert.run import Candidate

MAX_BARS = 12
MAX_POINTS = 120
_CURVE_POINTS = 60


def plot_sections(certificate: Certificate) -> tuple[Figure, Axes]:
    """Bits of the message by section as horizontal bars, the largest on top.

    More than twelve sections: the smallest are one bar.
    """
    bars = group_sections(certificate.sections, MAX_BARS)
    shown = bars[:-1] if len(bars) < len(certificate.sections) else bars
    bars = sorted(shown, key=lambda section: -section[1]) + bars[len(shown) :]
    with style():
        figure, (axes,) = new_figure(height=0.9 + 0.46 * max(len(bars), 1))
        sizes = [bits for _, bits in bars]
        colours = [ACCENT] * len(shown) + [MUTED] * (len(bars) - len(shown))
        axes.barh(range(len(bars)), sizes, color=colours, height=0.34)
        for row, (name, bits) in enumerate(bars):
            # Above its bar, not beside it: names of layers are long and phones are narrow.
            text = f"{label_text(name, 32)}: {number(bits)} ({share(bits, certificate.message_bits)})"
            write_on(axes, text, (0, row - 0.2), (4, 1))
        axes.set_ylim(max(len(bars), 1) - 0.6, -0.8)
        axes.set_xlim(0, 1.02 * max([1, *sizes]))
        axes.grid(False, axis="y")
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(compact))
        axes.set_xlabel("message length (bits)")
        axes.set_ylabel("section")
    return figure, axes


def plot_bound_surface(certificate: Certificate) -> tuple[Figure, Axes]:
    """The bound against message length for several error rates, with this certificate on it.

    Where the certificate is about the original network, the point is that of its compressed form; where it makes
    several claims, all is at the share of delta that this one was given.

    Raises:
        InputError: the certificate's counts are impossible.
    """
    delta, here = certificate.delta, certificate.bound
    if (certificate.certifies == "original" or certificate.losses) and certificate.delta_ledger:
        delta = certificate.delta_ledger[0][1]
    if certificate.certifies == "original":
        here = occam_bound(certificate.errors, certificate.samples, certificate.message_bits, delta).binomial
    with style():
        figure, (axes,) = new_figure(height=4.6)
        lengths = _lengths(certificate.message_bits, certificate.samples)
        for errors, dashes in _error_counts(certificate):
            bounds = [100 * occam_bound(errors, certificate.samples, bits, delta).binomial for bits in lengths]
            own = errors == certificate.errors
            label = f"{share(errors, certificate.samples)} training errors" + (" (this certificate)" if own else "")
            colour, width = (ACCENT, 2.6) if own else (MUTED, 1.5)
            axes.plot(lengths, bounds, color=colour, linewidth=width, linestyle=dashes, label=label)
        axes.plot(
            [max(certificate.message_bits, 1)], [100 * here], "o", color=SECOND, markersize=9, zorder=5, clip_on=False
        )
        log_axis(axes.xaxis, compact, 12)
        axes.set_xlim(lengths[0], lengths[-1])
        _name_point(axes, certificate, here)
        axes.set_ylim(0, 104)
        axes.set_xlabel("message length (bits)")
        axes.set_ylabel(f"bound on {'wrong answers' if abstains(certificate) else 'the error'} (%)")
        legend_below(figure, axes, 1)
    return figure, axes


def _lengths(bits: int, samples: int) -> list[int]:
    # From where a bound is nearly the error rate to where every bound is vacuous, this certificate always inside.
    low, high = max(min(bits, samples) // 32, 1), 4 * max(bits, samples)
    ratio = high / low
    return sorted({round(low * ratio ** (step / (_CURVE_POINTS - 1))) for step in range(_CURVE_POINTS)})


def _error_counts(certificate: Certificate) -> list[tuple[int, object]]:
    """Error counts worth a curve with their line styles: the most errors first, as the curves lie in the picture."""
    own, samples = certificate.errors, certificate.samples
    # Multiples of a small error rate could not be told apart in the picture.
    others = (2 * own, own // 2, 0) if 50 * own >= samples else (samples // 5, samples // 20, 0)
    counts = sorted({own, *(errors for errors in others if errors <= samples)}, reverse=True)
    dashes = iter(((0, (1, 1.2)), (0, (4, 1.5)), (0, (7, 2, 1.5, 2))))
    return [(errors, "solid" if errors == own else next(dashes)) for errors in counts]


def _name_point(axes: Axes, certificate: Certificate, here: float) -> None:
    # The curves rise from the lower left to the upper right; one of the two other corners is free.
    high = here > 0.4
    write_on(
        axes,
        f"{number(certificate.message_bits)} bits: {percent_up(here)}",
        (max(certificate.message_bits, 1), 100 * here),
        (0.97, 0.05) if high else (0.03, 0.97),
        pad=2,
        textcoords="axes fraction",
        ha="right" if high else "left",
        va="bottom" if high else "top",
        fontsize=11,
        fontweight="bold",
        arrowprops={"arrowstyle": "-", "color": SECOND, "linewidth": 1, "shrinkB": 5},
    )


def thin(candidates: Sequence[Candidate], most: int = MAX_POINTS) -> list[Candidate]:
    """At most ``most`` candidates in the order of time: evenly chosen, with the best and the last among them."""
    ordered = sorted(candidates, key=lambda candidate: candidate.seconds)
    if len(ordered) <= most:
        return ordered
    step = (len(ordered) - 1) / (most - 2)
    chosen = {round(step * index) for index in range(most - 1)}
    chosen.add(min(range(len(ordered)), key=lambda index: ordered[index].bound))
    return [ordered[index] for index in sorted(chosen)]


def plot_history(candidates: Sequence[Candidate], samples: int | None = None) -> tuple[Figure, list[Axes]]:
    """The training curve: bound, training errors and message bits of the candidates over time, one below the other.

    Args:
        candidates: at least one; more than 120 are thinned out.
        samples: size of the training sample, to show errors as a rate.

    Returns:
        The figure and its three axes, from top to bottom.

    Raises:
        InputError: there is no candidate.
    """
    if not candidates:
        raise InputError("at least one candidate", "none", "plot the history of a run that recorded its candidates")
    points = thin(candidates)
    best = min(points, key=lambda candidate: candidate.bound)
    scale = 100 / samples if samples else 1
    panels: tuple[tuple[str, Sequence[float]], ...] = (
        ("bound (%)", [100 * candidate.bound for candidate in points]),
        (f"training errors{' (%)' if samples else ''}", [scale * candidate.errors for candidate in points]),
        ("message (bits)", [candidate.message_bits for candidate in points]),
    )
    with style():
        figure, axes = new_figure(height=5.4, rows=3)
        for panel, (label, values) in zip(axes, panels, strict=True):
            _draw_history(panel, [point.seconds for point in points], values, points.index(best))
            panel.set_ylabel(label)
        axes[0].set_title(_best_title(best, samples), loc="left", parse_math=False)
        axes[-1].yaxis.set_major_formatter(FuncFormatter(compact))
        axes[-1].set_xlabel("time since the run began (seconds)")
        figure.align_ylabels(axes)
    return figure, axes


def _best_title(best: Candidate, samples: int | None) -> str:
    errors = percent(best.errors / samples) + " errors" if samples else f"{number(best.errors)} errors"
    return f"best: {percent_up(best.bound)}, {errors}, {number(best.message_bits)} bits"


def _draw_history(axes: Axes, seconds: Sequence[float], values: Sequence[float], best: int) -> None:
    axes.plot(seconds, values, "-", color=MUTED, linewidth=1)
    axes.plot(seconds, values, "o", color=ACCENT, markersize=4 if len(values) < 40 else 2)
    axes.plot([seconds[best]], [values[best]], "D", color=SECOND, markersize=8, zorder=5)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    low, high = min(values), max(values)
    room = 0.15 * (high - low) or max(0.15 * abs(high), 1.0)
    axes.set_ylim(max(0.0, low - room), high + room)
    if math.isclose(min(seconds), max(seconds)):
        axes.set_xlim(max(0.0, seconds[0] - 1), seconds[0] + 1)
