"""The pictures of a stability profile: what is drawn where, in words of the axes, whatever the profile holds."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from bitcert.errors import InputError
from bitcert.report.drawing import ACCENT, PAPER, SECOND, draw, for_file, for_page, line_values, ramp
from bitcert.report.stability.distributions import plot_cushions, plot_distribution, plot_four_distributions
from bitcert.report.stability.figures import (
    plot_attenuation,
    plot_effective_parameters,
    plot_margins,
    plot_singular_values,
)
from bitcert.stability.profile import Reduced
from bitcert.stability.reduction import reduce_values

from .stability_fakes import make_profile

EVERY = {
    "attenuation": plot_attenuation,
    "distribution": lambda profile: plot_distribution(profile, "layer_cushion", 2),
    "four": lambda profile: plot_four_distributions(profile, 2),
    "cushions": plot_cushions,
    "spectra": plot_singular_values,
    "spectrum": lambda profile: plot_singular_values(profile, 2),
    "margins": plot_margins,
    "effective": plot_effective_parameters,
}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def named(axes):
    """Lines that a legend names."""
    return {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}


@pytest.mark.parametrize("name", EVERY)
def test_every_call_returns_a_figure_and_axes_with_names(name):
    figure, axes = EVERY[name](make_profile(3, twin=True))
    assert isinstance(figure, Figure)
    for panel in np.atleast_1d(axes):
        assert panel.figure is figure
        assert panel.get_xlabel()
        assert panel.get_ylabel() or name == "effective"


@pytest.mark.parametrize("name", EVERY)
def test_the_same_profile_gives_the_same_bytes(name):
    once, again = (draw(EVERY[name](make_profile(3, twin=True))[0]) for _ in range(2))
    assert once == again


def test_a_place_is_named_in_several_ways():
    profile = make_profile(3)
    assert draw(plot_distribution(profile, "smoothness", "1,3")[0]) == draw(
        plot_distribution(profile, "smoothness", "1→3")[0]
    )


# Attenuation


def test_a_curve_begins_where_the_noise_is_injected():
    profile = make_profile(3)
    _, axes = plot_attenuation(profile, 0.1)
    lines = named(axes)
    assert set(lines) == {"the input", "layer 1", "layer 2", "layer 3"}
    for k in (1, 2, 3):
        curve = profile.attenuation[k]
        assert tuple(lines[f"layer {k}"].get_xdata()) == curve.targets
        assert lines[f"layer {k}"].get_ydata() == pytest.approx([100 * mean for mean in curve.mean])
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [(k, pytest.approx(10.0)) for k in range(4)]
    assert axes.get_yscale() == "log"
    assert "%" in axes.get_ylabel()


def test_another_level_is_another_picture_and_an_unmeasured_one_is_refused():
    profile = make_profile(3)
    first, second = (max(line_values(plot_attenuation(profile, level)[1])) for level in (0.1, 0.5))
    assert second == pytest.approx(5 * first)
    assert draw(plot_attenuation(profile)[0]) == draw(plot_attenuation(profile, 0.1)[0])
    with pytest.raises(InputError, match=r"\(0\.1, 0\.5\), got 0\.2"):
        plot_attenuation(profile, 0.2)


def test_twenty_layers_stay_readable():
    _, axes = plot_attenuation(make_profile(20))
    assert list(named(axes)) == ["the input", "layer 5", "layer 10", "layer 15", "layer 20"]
    assert len([line for line in axes.lines if line.get_marker() == "o"]) == 21
    assert len(axes.collections) <= 5, "a band for the named curves only"
    colours = [line.get_color() for line in axes.lines if line.get_marker() == "o"]
    assert len(set(colours)) == 21


def test_hundreds_of_layers_are_thinned_out():
    _, axes = plot_attenuation(make_profile(3, attenuation=make_profile(150).attenuation))
    assert len([line for line in axes.lines if line.get_marker() == "o"]) == 120


def test_a_curve_without_numbers_or_with_some_missing():
    profile = make_profile(3)
    first, second = profile.attenuation[:2]
    empty = replace(first, targets=(), mean=(), lower=(), median=(), upper=(), skipped=())
    gaps = replace(second, mean=(None, 0.0, 0.05), lower=(None, 0.0, 0.01), upper=(None, 0.0, None))
    _, axes = plot_attenuation(replace(profile, attenuation=(empty, gaps)))
    assert tuple(named(axes)["layer 1"].get_xdata()) == (3,)
    with pytest.raises(InputError, match="none"):
        plot_attenuation(replace(profile, attenuation=()))


# Distributions


def test_the_twin_stands_behind_the_network():
    _, axes = plot_distribution(make_profile(3, twin=True), "layer_cushion", 1)
    steps = [patch for patch in axes.patches if not patch.get_fill() and patch.get_label() != ""]
    assert [patch.get_label() for patch in steps] == ["untrained twin", "network"]
    _, alone = plot_distribution(make_profile(3), "layer_cushion", 1)
    assert len(alone.patches) < len(axes.patches)


def test_histograms_are_densities():
    profile = make_profile(3, twin=True)
    _, axes = plot_distribution(profile, "contraction", 2)
    for patch in axes.patches:
        heights, edges, _ = patch.get_data()
        assert float(np.sum(heights * np.diff(edges))) == pytest.approx(1.0)
    assert axes.get_xlabel() == "activation contraction"
    assert axes.get_title(loc="left") == "layer 2"
    worst = profile.distribution("contraction", 2).worst
    assert texts(axes) == [f"worst: {worst:.3g}"]


def test_values_over_decades_are_on_a_logarithmic_axis():
    values = np.logspace(-4, 2, 60)
    column = (reduce_values(values, "smoothness", "1→2"),)
    profile = make_profile(2, distributions={"smoothness": column})
    _, axes = plot_distribution(profile, "smoothness")
    assert axes.get_xscale() == "log"
    for patch in axes.patches:
        heights, edges, _ = patch.get_data()
        assert float(np.sum(heights * np.diff(np.log(edges)))) == pytest.approx(1.0)


@pytest.mark.parametrize("values", [[1.0] * 60, [math.nan] * 60, [math.inf] * 60, [1.0, 1.0 + 1e-16]])
def test_distributions_that_have_no_histogram_of_their_own(values):
    column = (reduce_values(np.array(values), "contraction", "layer 1"),)
    figure, axes = plot_distribution(make_profile(2, distributions={"contraction": column}), "contraction", 1)
    assert "<svg" in draw(figure)
    assert axes.get_xlabel()


def test_a_quantity_or_place_that_was_not_measured_is_refused():
    profile = make_profile(3)
    with pytest.raises(InputError, match="did you mean 'layer_cushion'"):
        plot_distribution(profile, "layer_cushin")
    with pytest.raises(InputError, match="got '9'"):
        plot_distribution(profile, "layer_cushion", 9)
    with pytest.raises(InputError, match="between 1 and 3"):
        plot_four_distributions(profile, 0)


def test_four_distributions_of_a_layer():
    profile = make_profile(3, twin=True)
    _, axes = plot_four_distributions(profile, 1)
    titles = [panel.get_xlabel() for panel in axes]
    assert titles[0] == "layer cushion"
    assert titles[1] == "minimal interlayer cushion (unclipped)"
    assert titles[2] == "activation contraction, before the layer"
    pairs = {"1 to 2": "1→2", "1 to 3": "1→3"}
    worst = max(pairs, key=lambda name: profile.distribution("smoothness", pairs[name]).worst)
    assert titles[3] == f"interlayer smoothness, 1/ρ, {worst}"
    assert "clip at 1/√h" in texts(axes[1])


def test_the_last_layer_has_a_contraction_before_it_and_no_pair():
    profile = make_profile(3)
    _, axes = plot_four_distributions(profile, 3)
    assert texts(axes[2]) == [f"worst: {profile.distribution('contraction', 3).worst:.3g}"]
    assert texts(axes[3]) == ["nothing measured"]
    profile = make_profile(3)
    del profile.distributions["contraction"]
    assert texts(plot_four_distributions(profile, 1)[1][2]) == ["nothing measured"]


def test_cushions_show_every_layer_and_both_networks():
    profile = make_profile(20, twin=True)
    _, axes = plot_cushions(profile)
    worst = [line for line in axes[0].lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert len(worst) == 40
    assert {line.get_color() for line in worst} == {ACCENT, SECOND}
    heights = sorted(float(line.get_ydata()[0]) for line in worst if line.get_color() == ACCENT)
    assert heights == sorted(d.worst for d in profile.distributions["layer_cushion"])


def test_cushions_of_a_profile_without_some_of_them():
    profile = make_profile(3)
    kept = {"layer_cushion": profile.distributions["layer_cushion"]}
    _, axes = plot_cushions(replace(profile, distributions=kept))
    assert texts(axes[3]) == ["nothing measured"]


# The others


def test_singular_values_of_one_layer_and_of_all():
    profile = make_profile(3, twin=True)
    _, axes = plot_singular_values(profile, 2)
    assert list(named(axes)) == ["network", "untrained twin"]
    assert tuple(named(axes)["network"].get_ydata()) == profile.spectra[1].singular_values
    assert texts(axes) == ["stable rank 6.25"]
    _, every = plot_singular_values(profile)
    assert all(line.get_ydata()[0] == 1.0 for line in every.lines)
    with pytest.raises(InputError, match="between 1 and 3"):
        plot_singular_values(profile, 4)
    with pytest.raises(InputError, match="singular values"):
        plot_singular_values(replace(profile, spectra=()))


def test_margins_are_cumulative_with_their_quantiles():
    profile = make_profile(3)
    _, axes = plot_margins(profile)
    assert [panel.get_xlabel() for panel in axes][:2] == ["margin", "margin / ‖f(x)‖"]
    curve = named(axes[0])["network"]
    assert all(a <= b for a, b in pairwise(curve.get_ydata()))
    assert curve.get_ydata()[-1] == pytest.approx(100)
    median = profile.distribution("margin").quantiles[0.5]
    assert f"50 %: {median:.3g}" in texts(axes[0])
    with pytest.raises(InputError, match="margins"):
        plot_margins(replace(profile, distributions={}))


def test_effective_parameters_stand_beside_the_actual_count():
    profile = make_profile(3)
    broken = replace(profile.layers[0], effective_parameters=Reduced(math.inf, None))
    _, axes = plot_effective_parameters(replace(profile, layers=(broken, *profile.layers[1:])))
    diamonds = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert diamonds == [900.0, 1350.0]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert dots == [620, 620, 620]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1 (75 %)", "2 (150 %)", "3 (225 %)"]


# Colours and files


def contrast(a, b):
    def light(colour):
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(a), light(b)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_of_the_ramp_can_be_read_on_light_and_dark_paper():
    for count in (2, 20, 120):
        for index in range(count):
            assert contrast(ramp(index, count), "#ffffff") >= 3
            assert contrast(ramp(index, count), "#14181d") >= 3


def test_a_file_has_colours_of_its_own_and_a_page_the_pages():
    drawn = draw(plot_margins(make_profile(2, twin=True))[0])
    file, page = for_file(drawn, 'of "x" <b>'), for_page(drawn, "margins", "x")
    assert file.startswith('<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg"')
    assert "var(--" not in file
    assert ACCENT in file
    assert "@media (prefers-color-scheme: dark)" in file
    assert 'aria-label="of &quot;x&quot; &lt;b&gt;"' in file
    assert "http" not in file.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert ACCENT not in page
    assert PAPER not in page
    assert "var(--accent)" in page
