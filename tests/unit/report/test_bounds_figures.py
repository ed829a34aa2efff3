"""Pictures of bounds: what is drawn where, and that nothing rests on a colour alone."""

import math
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from bitcert.errors import InputError
from bitcert.report.bounds.figures import (
    MOST_BARS,
    MOST_LAYERS,
    drawn_rows,
    plot_bars,
    plot_effective_parameters,
)
from bitcert.report.bounds.series import differences, plot_series, rescaled, series_json, series_rows, sort_series
from bitcert.report.drawing import draw, for_file, power_tick
from bitcert.theory.value import Kind, LayerValue, Unit

from .bounds_fakes import LN10, SAMPLES, make_absent, make_layers, make_row, make_table, make_usual


def labels_in(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def ends_of(axes) -> list[float]:
    return [bar.get_x() + bar.get_width() for bar in axes.patches]


def lines_in(axes) -> list[float]:
    return [line.get_xdata()[0] for line in axes.lines if line.get_marker() != ">"]


# All bounds side by side


def test_every_row_with_a_size_has_a_bar_the_tightest_on_top():
    table = make_usual()
    _, axes = plot_bars(table)
    names = [label.partition(":")[0] for label in labels_in(axes)]
    sized = {row.name for row in table.rows if row.log10 is not None and row.unit != Unit.PLAIN}
    assert set(names) == sized
    assert ends_of(axes) == sorted(ends_of(axes))
    assert ends_of(axes)[-1] == 12.0, "far longer than the others: cut, and marked so"
    assert [line.get_marker() for line in axes.lines].count(">") == 1
    assert names[0] == "holdout"
    assert names[-1] == "neyshabur2018-distance"
    heights = [bar.get_y() for bar in axes.patches]
    assert heights == sorted(heights)
    low, high = axes.get_ylim()
    assert low > high, "the first bar is on top"


def test_a_capacity_is_drawn_as_the_gap_that_follows():
    _, axes = plot_bars(make_table(make_row("arora2018-thm4.1", 10.0), make_row("occam-binomial", -1.0, Unit.ERROR)))
    assert ends_of(axes) == pytest.approx([-1.0, (10.0 - math.log10(SAMPLES)) / 2])
    assert labels_in(axes) == ["occam-binomial: 10.00 %", "arora2018-thm4.1: 1.0e+10 samples"]


def test_the_axis_above_counts_samples():
    figure, axes = plot_bars(make_table(make_row("arora2018-thm4.1", 10.0)))
    figure.draw_without_rendering()
    (above,) = axes.child_axes
    gap_low, gap_high = axes.get_xlim()
    assert above.get_xlim() == pytest.approx((2 * gap_low + 4, 2 * gap_high + 4))
    assert above.get_xlabel() == "the same as a capacity in samples"


def test_guarantee_measure_and_failed_differ_without_colour():
    proved = make_row("occam-binomial", -0.5, Unit.ERROR, Kind.GUARANTEE)
    failed = make_table(make_usual().row("arora2018-thm2.1"), make_row("bartlett2017-x", 3.0), proved)
    figure, axes = plot_bars(failed)
    drawn = dict(zip((t.partition(":")[0] for t in labels_in(axes)), axes.patches, strict=True))
    assert drawn["occam-binomial"].get_facecolor()[3] == 1
    assert drawn["occam-binomial"].get_hatch() is None
    assert drawn["bartlett2017-x"].get_facecolor()[3] == 0
    assert drawn["bartlett2017-x"].get_hatch()
    assert drawn["arora2018-thm2.1"].get_facecolor()[3] == 0
    assert drawn["arora2018-thm2.1"].get_hatch() is None
    meanings = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [m.partition(":")[0] for m in meanings[:2]] == ["guarantee", "measure"]
    assert "conditions fail or are not known" in meanings


def test_lines_at_one_and_at_the_real_gap():
    figure, axes = plot_bars(make_usual())
    assert lines_in(axes) == pytest.approx([0.0, math.log10(0.015)])
    assert len({line.get_linestyle() for line in axes.lines if line.get_marker() != ">"}) == 2
    assert "real gap: 1.50 %" in [text.get_text() for text in figure.legends[0].get_texts()]
    low, high = axes.get_xlim()
    assert low < math.log10(0.015) < high


def test_a_gap_that_is_not_above_zero_is_told_and_not_drawn():
    figure, axes = plot_bars(replace(make_usual(errors=10_000)))
    assert len(lines_in(axes)) == 1
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "real gap: -97.50 %, not above 0, so not on this axis" in told
    figure, axes = plot_bars(make_usual(holdout=None))
    assert len(lines_in(axes)) == 1
    assert not [text for text in figure.legends[0].get_texts() if "real gap" in text.get_text()]


def test_a_certificate_is_a_bar_of_its_own():
    _, axes = plot_bars(make_usual(), certified=0.1234001)
    ((place, label),) = [(k, t) for k, t in enumerate(labels_in(axes)) if t.startswith("this certificate")]
    assert label == "this certificate: 12.35 %"
    assert ends_of(axes) == sorted(ends_of(axes)), "at its place among the others"
    assert ends_of(axes)[place] == pytest.approx(math.log10(0.1234001))
    _, axes = plot_bars(make_table(), certified=0.5)
    assert len(axes.patches) == 1


def test_no_bar_at_all_is_refused():
    with pytest.raises(InputError, match="at least one bound that has a value"):
        plot_bars(make_table(make_absent("a", "needs --init: the initial weights"), make_row("b", 2.0, Unit.PLAIN)))


def test_many_and_monstrous_rows_can_be_drawn():
    rows = [make_row(f"jiang2020-row{k}", 1.0 + k) for k in range(MOST_BARS)]
    rows += [make_row(f"jiang2020-row{k}-zeta", 1.0 + k) for k in range(MOST_BARS)]
    rows.append(replace(make_row("x", 2.0), gap_log10=1e308, name="$\\frac{ \u202e<b>"))
    table = make_table(*rows)
    assert len(drawn_rows(table)) == MOST_BARS
    assert not [row for row in drawn_rows(table) if row.name.endswith("-zeta")]
    few = make_table(rows[0], rows[-1])
    figure, axes = plot_bars(few)
    assert all(map(math.isfinite, ends_of(axes)))
    ElementTree.fromstring(for_file(draw(figure), "bars"))


def test_ticks_are_powers():
    assert [power_tick(value) for value in (0.0, 2.0, -12.0, 0.25)] == ["1", "10²", "10⁻¹²", ""]


def test_the_users_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    first = draw(plot_bars(make_usual())[0])
    with matplotlib.rc_context({"font.size": 30, "hatch.linewidth": 9, "svg.hashsalt": None}):
        assert draw(plot_bars(make_usual())[0]) == first
    assert dict(matplotlib.rcParams) == before


# Layers


def test_effective_parameters_stand_beside_the_actual_ones():
    figure, axes = plot_effective_parameters(make_usual())
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["actual number of weights"].get_xdata()) == pytest.approx(
        [math.log10(78_400), math.log10(30_000), 3.0]
    )
    assert list(lines["arora2018-thm4.1"].get_xdata()) == pytest.approx([5.0, 4.5, 3.0])
    assert list(lines["arora2018-thm4.1-zeta"].get_xdata()) == pytest.approx([3.0, 2.5]), "0 has no place"
    assert list(lines["arora2018-thm4.1-zeta"].get_ydata()) == [0, 1]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0.weight", "2.weight", "4.weight"]
    assert len({line.get_marker() for line in axes.lines}) == len(axes.lines)
    assert figure.legends


def test_layers_of_chosen_rows_only():
    _, axes = plot_effective_parameters(make_usual(), ["guha2023-thm5.2"])
    assert [line.get_label() for line in axes.lines] == ["actual number of weights", "guha2023-thm5.2"]
    with pytest.raises(InputError, match="did you mean"):
        plot_effective_parameters(make_usual(), ["guha2023-thm5"])
    with pytest.raises(InputError, match="no layers"):
        plot_effective_parameters(make_usual(), ["occam-binomial"])
    with pytest.raises(InputError, match="sums over layers"):
        plot_effective_parameters(make_table(make_row("occam-binomial", 1.0)))


def test_deep_networks_are_cut_and_say_so():
    names = [(f"layer{k}", 100) for k in range(MOST_LAYERS + 7)]
    parts = tuple(LayerValue(name, 2.0 * LN10, 100) for name, _ in names)
    _, axes = plot_effective_parameters(make_table(make_row("a", 3.0, layers=parts), layers=tuple(names)))
    assert len(axes.get_yticklabels()) == MOST_LAYERS
    assert axes.get_title(loc="left") == "the first 60 of 67 layers"


# Several networks


def of_width(width, log10, held=True, errors=100, extra=()):
    rows = (make_row("arora2018-thm4.1", log10), make_row("bartlett2017-spectral", 20.0 + log10), *extra)
    table = make_table(*rows, held=held, errors=errors)
    return replace(table, network={**table.network, "width": width})


def three():
    return [of_width(400, 7.0, errors=200), of_width(100, 5.0, errors=50), of_width(200, 6.0, errors=100)]


def test_a_series_is_sorted_and_drawn_in_logarithms():
    figure, (bounds, gaps) = plot_series(three())
    lines = {line.get_label(): line for line in bounds.lines}
    assert list(lines["arora2018-thm4.1"].get_xdata()) == [100, 200, 400]
    assert list(lines["arora2018-thm4.1"].get_ydata()) == pytest.approx([0.5, 1.0, 1.5])
    assert list(lines["real gap"].get_ydata()) == pytest.approx([math.log10(g) for g in (0.02, 0.015, 0.005)])
    assert gaps.get_xlabel() == "width"
    looks = [(line.get_marker(), line.get_linestyle()) for line in bounds.lines]
    assert len(set(looks)) == len(looks)
    assert figure.legends


def test_below_one_bound_is_stretched_to_the_range_of_the_gaps_and_says_so():
    _, (_, gaps) = plot_series(three())
    real, curve = gaps.lines
    assert list(real.get_ydata()) == pytest.approx([2.0, 1.5, 0.5])
    assert curve.get_label() == "below: arora2018-thm4.1, rescaled to the gap's range"
    shown = list(curve.get_ydata())
    assert (min(shown), max(shown)) == pytest.approx((0.5, 2.0))
    share = (10**1.0 - 10**0.5) / (10**1.5 - 10**0.5)
    assert shown[1] == pytest.approx(0.5 + 1.5 * share)


def test_rescaling_does_not_overflow():
    assert rescaled([300.0, 2000.0, None], [1.0, math.nan, 3.0])[:2] == [1.0, 3.0]


def test_a_series_over_epochs_takes_their_numbers():
    _, axes = plot_series(three(), "epoch", [20, 1, 5])
    assert axes[-1].get_xlabel() == "epoch"
    assert list(axes[0].lines[0].get_xdata()) == [1, 5, 20]
    with pytest.raises(InputError, match="width, depth, parameters, samples, or values for 'epoch'"):
        plot_series(three(), "epoch")
    with pytest.raises(InputError, match="3 finite numbers"):
        plot_series(three(), "epoch", [1, 2])
    with pytest.raises(InputError, match="3 finite numbers"):
        plot_series(three(), "epoch", [1, 2, math.inf])
    with pytest.raises(InputError, match="2 to 200 tables"):
        plot_series(three()[:1])


def test_without_held_out_labels_there_is_one_panel():
    _, axes = plot_series([of_width(100, 5.0, held=False), of_width(200, 6.0, held=False)])
    assert len(axes) == 1
    assert axes[0].get_xlabel() == "width"


def test_chosen_rows_and_missing_values():
    tables = [*three()[:2], make_table(make_row("bartlett2017-spectral", 18.0), make_row("only-here", 2.0))]
    placed = sort_series(tables, "epoch", [1, 2, 3])
    rows = series_rows(placed)
    assert set(rows) == {"arora2018-thm4.1", "bartlett2017-spectral"}, "of two tables at least"
    assert rows["arora2018-thm4.1"][2] is None
    _, axes = plot_series(tables, "epoch", [1, 2, 3], ["bartlett2017-spectral"])
    drawn = [line.get_label() for line in axes[0].lines]
    assert drawn == ["bartlett2017-spectral", "real gap", "1: from here on a bound says nothing"]
    with pytest.raises(InputError, match="did you mean 'bartlett2017-spectral'"):
        plot_series(tables, "epoch", [1, 2, 3], ["bartlett2017-spectra"])
    with pytest.raises(InputError, match="in at least two tables"):
        plot_series([make_table(make_row("a", 1.0)), make_table(make_row("b", 1.0))])


def test_the_usual_rows_are_one_of_each_paper_and_the_guarantees():
    extra = tuple(make_row(f"jiang2020-r{k}", 3.0, Unit.GAP) for k in range(30))
    proved = make_row("occam-binomial", -0.5, Unit.ERROR, Kind.GUARANTEE)
    tables = [of_width(100, 5.0, extra=(*extra, proved)), of_width(200, 6.0, extra=(*extra, proved))]
    _, axes = plot_series(tables)
    drawn = {str(line.get_label()).removesuffix(" (guarantee)") for line in axes[0].lines}
    assert drawn >= {"arora2018-thm4.1", "bartlett2017-spectral", "jiang2020-r0", "occam-binomial"}, "one of each paper"
    assert "jiang2020-r1" not in drawn


def test_the_file_of_a_series_has_no_infinity():
    tables = [of_width(100, 5.0, extra=(make_row("z", -math.inf),)), of_width(200, 6.0, held=False)]
    text = series_json(sort_series(tables), "width")
    assert '"at": 100.0' in text
    assert "Infinity" not in text
    assert "NaN" not in text


def test_layers_of_make_layers_are_those_of_the_table():
    assert [part.layer for part in make_layers(1.0, 2.0, 3.0)] == [name for name, _ in make_table().layers]


def test_a_series_says_what_else_differs():
    names = [replace(table, network={**table.network, "content_hash": str(k) * 64}) for k, table in enumerate(three())]
    assert differences(names) == ""
    other = replace(names[1], sample={**names[1].sample, "content_hash": "f" * 64, "num_samples": 7})
    said = differences([names[0], other, other])
    assert said.startswith("The networks have different training samples, numbers of training examples.")
    assert said.endswith("One network occurs more than once.")


def test_guarantees_and_measures_have_lines_of_their_own():
    _, axes = plot_series(three(), "width")
    lines = {str(line.get_label()): line for line in axes[0].get_lines()}
    proved = [line for label, line in lines.items() if label.endswith("(guarantee)")]
    measures = [line for label, line in lines.items() if label.startswith("arora")]
    assert all(line.get_linestyle() == "-" and line.get_linewidth() > 2 for line in proved)
    assert measures
    assert all(line.get_linestyle() == "--" for line in measures)
