import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bitcert.errors import InputError
from bitcert.proof import occam_bound
from bitcert.report import plot_bound_surface, plot_history, plot_sections
from bitcert.report.certificate.figures import thin
from bitcert.report.drawing import draw, for_page
from bitcert.run import Candidate


def labels_of(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def marked_point(axes: Axes) -> tuple[float, float]:
    (line,) = [line for line in axes.lines if line.get_marker() == "o"]
    return line.get_xdata()[0], line.get_ydata()[0]


def test_sections_are_bars_by_size(make_certificate):
    figure, axes = plot_sections(make_certificate())
    assert isinstance(figure, Figure)
    assert axes.get_xlabel() == "message length (bits)"
    assert axes.get_ylabel()
    assert [bar.get_width() for bar in axes.patches[:4]] == [2903, 289, 24, 8]
    assert labels_of(axes)[0] == "head: 2,903 (90.04 %)"


def test_small_sections_are_one_bar_and_no_bit_is_lost(make_certificate):
    sections = tuple((f"layer{i}", 10 + i) for i in range(200))
    _, axes = plot_sections(make_certificate(sections=sections))
    bars = [bar.get_width() for bar in axes.patches]
    assert len(bars) == 12
    assert sum(bars) == sum(bits for _, bits in sections)
    assert labels_of(axes)[-1].startswith("189 smaller sections")


def test_bound_figure_marks_this_certificate_on_its_curve(make_certificate):
    certificate = make_certificate()
    _, axes = plot_bound_surface(certificate)
    assert "bits" in axes.get_xlabel()
    assert "%" in axes.get_ylabel()
    assert marked_point(axes) == (3224, 100 * certificate.bound)
    (own,) = [line for line in axes.lines if "this certificate" in str(line.get_label())]
    for bits, bound in zip(own.get_xdata(), own.get_ydata(), strict=True):
        assert bound == 100 * occam_bound(7920, 60000, int(bits), 0.05).binomial


def test_bound_curves_rise_with_bits_and_errors(make_certificate):
    _, axes = plot_bound_surface(make_certificate())
    curves = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() != "None"]
    assert len(curves) == 4
    for curve in curves:
        assert curve == sorted(curve)
    for more, fewer in pairwise(curves):
        assert all(high >= low for high, low in zip(more, fewer, strict=True))
        assert more[0] > fewer[0]


def test_bound_figure_of_the_original_marks_the_compressed_part(make_certificate):
    ledger = (("occam-binomial", 0.04), ("disagreement", 0.01))
    certificate = make_certificate(certifies="original", delta_ledger=ledger, bound=0.5, original={})
    _, axes = plot_bound_surface(certificate)
    assert marked_point(axes)[1] == 100 * occam_bound(7920, 60000, 3224, 0.04).binomial
    assert axes.get_ylabel() == "bound on the error (%)"
    silent = replace(certificate, decision_rule={"abstains_within": 2.0})
    assert plot_bound_surface(silent)[1].get_ylabel() == "bound on wrong answers (%)"


@pytest.mark.parametrize(("errors", "bits"), [(0, 8), (0, 10**7), (60000, 8)])
def test_bound_figure_contains_the_point_at_extremes(make_certificate, errors, bits):
    _, axes = plot_bound_surface(make_certificate(errors=errors, sections=(("w", bits),)))
    (left, right), (x, y) = axes.get_xlim(), marked_point(axes)
    assert left < x < right
    assert 0 <= y <= axes.get_ylim()[1]


def test_history_shows_three_quantities_over_time(candidates):
    figure, axes = plot_history(candidates, samples=60000)
    assert isinstance(figure, Figure)
    assert [panel.get_ylabel() for panel in axes] == ["bound (%)", "training errors (%)", "message (bits)"]
    assert "seconds" in axes[-1].get_xlabel()
    assert list(axes[1].lines[0].get_ydata()) == pytest.approx([15.0, 13.5, 13.2, 13.0])
    assert list(axes[2].lines[0].get_ydata()) == [1500, 2400, 3224, 5200]
    best = min(candidates, key=lambda candidate: candidate.bound)
    assert list(axes[0].lines[-1].get_ydata()) == [100 * best.bound]


def test_history_without_samples_counts_errors(candidates):
    _, axes = plot_history(candidates)
    assert axes[1].get_ylabel() == "training errors"
    assert list(axes[1].lines[0].get_ydata()) == [9000, 8100, 7920, 7800]


def test_history_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one candidate"):
        plot_history(())


@pytest.mark.parametrize("count", [119, 120, 121, 1000])
def test_thinning_keeps_order_first_last_and_best(count):
    many = [Candidate(str(i), 5, 8, 0.1 if i == count // 3 else 0.5, float(i)) for i in range(count)]
    kept = thin(many[::-1])
    assert len(kept) <= 120
    assert {many[0], many[-1], many[count // 3]} <= set(kept)
    assert [c.seconds for c in kept] == sorted({c.seconds for c in kept})


def test_figures_leave_pyplot_alone(make_certificate, candidates):
    pyplot = sys.modules.get("matplotlib.pyplot")
    before = pyplot.get_fignums() if pyplot else []
    plot_sections(make_certificate())
    plot_bound_surface(make_certificate())
    plot_history(candidates)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert (pyplot.get_fignums() if pyplot else []) == before


def test_svg_reads_no_mathematics_and_escapes_its_description(make_certificate):
    figure, _ = plot_sections(replace(make_certificate(), sections=(("$\\frac{--><b>", 8),)))
    svg = for_page(draw(figure), "x", '"<b>&')
    assert 'aria-label="&quot;&lt;b&gt;&amp;"' in svg
    assert "<b>" not in svg
    assert "<!--" not in svg
    assert svg.startswith("<svg")
    assert svg.rstrip().endswith("</svg>")
