"""Page, report section and terminal table of a stability profile: text, structure, names given by strangers."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from bitcert.folder import MEASURE_FILES
from bitcert.report import render_report, render_stability, stability_files, stability_summary
from bitcert.report.stability import display as module
from bitcert.report.stability.words import explain, headline, measured_on, short
from bitcert.stability.profile import Hypothesis, Reduced, StabilityProfile

from .stability_fakes import make_profile
from .test_page import HOSTILE, Page, assert_self_contained, show


@pytest.fixture(scope="module")
def profile() -> StabilityProfile:
    return make_profile(3, twin=True)


@pytest.fixture(scope="module")
def files(profile) -> dict[str, bytes]:
    return stability_files(profile)


@pytest.fixture(scope="module")
def text(files) -> str:
    return files["report.html"].decode()


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without pictures, for tests of their words."""
    monkeypatch.setattr(module, "_drawings", lambda profile, overviews: ())


@pytest.fixture
def one_drawn(monkeypatch):
    """Pages with one picture, which bears names of layers."""
    monkeypatch.setattr(module, "_drawings", lambda profile, _: [module._histogram(profile, 1, "distributions-1")])


def row_of(page, *start):
    (found,) = [row for row in page.rows if row[: len(start)] == list(start)]
    return found


def test_the_page_is_self_contained(text):
    page = Page(text)
    assert_self_contained(page)
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in text
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--accent)" in drawn
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_all_figures_are_there_and_described(text):
    headings = re.findall(r"<h3>(.*?)</h3>", text)
    for expected in (
        "How far noise of 10 % is felt",
        "How far noise of 50 % is felt",
        "The four quantities, layer by layer",
        "Distributions over the examples, layer 2",
        "Singular values of all layers",
        "Singular values of layer 3",
        "Margins",
        "Effective and actual parameters",
        "Layer by layer",
        "Hypotheses of the bounds",
        "Notes",
    ):
        assert expected in headings
    assert all(a["aria-label"] for tag, a in Page(text).tags if tag == "svg")


def test_it_says_what_a_measure_does_not_promise(text):
    page = Page(text)
    assert "A measure explains, it never proves." in page.text
    assert "promise nothing of other examples" in page.text


def test_the_sentences_hold_the_profiles_numbers(profile):
    told = dict(explain(profile))
    assert "noise of 10 % of the input reaches the output as 5.12 % on average" in told["Attenuation"]
    worst = min(d.worst for d in profile.distributions["layer_cushion"])
    assert f"The smallest is {worst:.3g}, at layer" in told["Layer cushion"]
    assert f"{max(d.worst for d in profile.distributions['contraction']):.3g}" in told["Activation contraction"]
    assert "1/ρ = 0.02, number 3 in size of 3 draws (the 95 % quantile)" in told["Interlayer smoothness"]
    assert "it is 0.015" in told["Interlayer smoothness"]
    assert "is 2,700 where there are 1,860" in told["Effective parameters"]
    assert told["Effective parameters"].endswith("as the proof does; with the one after each layer it is 3,000.")
    assert "Skipped examples" not in told
    assert headline(profile).startswith("Noise stability of leaves on leaves: noise of 10 %")


def test_the_tables_of_layers(text, profile):
    page = Page(text)
    weights = row_of(page, "2", "linear_2", "20×30")
    assert weights[3:] == ["620", "5", "2", "2", "6.5", "7.5", "6.25", "4.5 (KS 0.04)", "–", "–"]
    samples = [row for row in page.rows if row[:2] == ["2", "linear_2"] and row != weights]
    row = profile.layers[1]
    worst, zeta = row.layer_cushion.worst, row.layer_cushion.zeta
    assert samples[0][2] == f"{worst:.3g} / {zeta:.3g}"
    assert samples[0][-3:] == ["900 / 800", "1,000 / 850", "150 / 132"]
    for place, own in ((6, row.contraction), (7, row.contraction_after)):
        assert samples[0][place] == f"{own.worst:.3g} / {own.zeta:.3g}"


def test_hypotheses_are_printed_with_their_answer(text):
    page = Page(text)
    assert ["bias_free", "does not hold", "3 layers have a bias."] in page.rows
    assert ["smoothness", "holds", "rho = 50 and 3d = 9"] in page.rows
    assert ["dead inputs", "not measured", "0 of 60 examples were skipped"] in page.rows


def test_the_same_profile_gives_the_same_page_whatever_the_settings(one_drawn):
    profile = make_profile(2)
    first = render_stability(profile)
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        assert render_stability(profile) == first
    assert dict(matplotlib.rcParams) == before
    assert not re.search(r"20\d\d-\d\d-\d\d", first)


def hostile_profile() -> StabilityProfile:
    profile = make_profile(2)
    layers = tuple(replace(row, node=HOSTILE, op=HOSTILE) for row in profile.layers)
    distributions = {
        name: tuple(replace(d, label=HOSTILE) for d in found) for name, found in profile.distributions.items()
    }
    return replace(
        profile,
        network={**profile.network, "name": HOSTILE, "content_hash": HOSTILE},
        sample={**profile.sample, "name": HOSTILE, "content_hash": HOSTILE},
        settings={**profile.settings, HOSTILE: HOSTILE},
        layers=layers,
        distributions=distributions,
        hypotheses=(Hypothesis(HOSTILE, True, HOSTILE),),
        notes=(HOSTILE, "a\x1b[31m\u202eb\x00"),
    )


def test_hostile_text_is_shown_as_text(one_drawn):
    text = render_stability(hostile_profile())
    page = Page(text)
    assert_self_contained(page)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 10
    assert "{{ 7*7 }}" in page.text
    assert not set("\x1b\u202e\x00") & set(text)


def test_hostile_text_in_the_terminal():
    profile = replace(hostile_profile(), notes=("[red]x[/nonsense]\x1b[2J",))
    shown = show(stability_summary(profile), 200)
    assert "\x1b" not in shown
    assert "[red]x[/nonsense]" in shown


def test_a_section_of_a_certificates_report(make_certificate, profile, one_drawn):
    text = render_report(make_certificate(), profile=profile)
    page = Page(text)
    assert_self_contained(page)
    assert "Why it could be compressed" in page.text
    assert "It is no part of it, and nothing above rests on it." in page.text
    assert "A measure explains, it never proves." in page.text
    assert text.index("Why it could be compressed") < text.index("How to verify it")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "Why it could be compressed" not in render_report(make_certificate())


def test_the_files_are_those_of_the_measure_verb(files):
    assert set(files) == MEASURE_FILES - {"profile.json", "profile.npz"}
    for name, content in files.items():
        if name.endswith(".svg"):
            assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_profile_of_which_little_was_measured(undrawn):
    profile = make_profile(3)
    kept = {"margin": profile.distributions["margin"]}
    nothing = Reduced(None, None)
    layers = tuple(
        replace(
            row,
            layer_cushion=nothing,
            minimal_cushion=nothing,
            minimal_cushion_unclipped=nothing,
            beta=nothing,
            contraction=nothing,
            contraction_after=nothing,
            effective_parameters_after=nothing,
            effective_parameters=nothing,
            compression_percent=nothing,
            stable_rank=None,
            weight_tail=None,
        )
        for row in profile.layers
    )
    little = replace(
        profile, distributions=kept, attenuation=(), spectra=(), smoothness=None, hypotheses=(), notes=(), layers=layers
    )
    assert [title for title, _ in explain(little)] == ["Margins"]
    assert headline(little) == "Noise stability of leaves on leaves."
    page = Page(render_stability(little))
    assert "Hypotheses" not in page.text
    assert list(stability_files(little)) == ["report.html", "margins.svg"]
    assert show(stability_summary(little))


def test_no_layers_at_all():
    bare = make_profile(1)
    bare = replace(bare, layers=(), distributions={}, attenuation=(), spectra=(), pairs=(), smoothness=None)
    assert list(stability_files(bare)) == ["report.html"]


def test_many_layers_are_bounded(undrawn):
    text = render_stability(make_profile(210))
    page = Page(text)
    assert "10 more layers are in the file of the profile" in page.text
    assert len(text) < 300_000
    assert [drawn.name for drawn in module._overviews(make_profile(70))] == ["attenuation", "distributions", "margins"]


def test_skipped_examples_are_reported():
    profile = make_profile(3)
    dead = tuple(replace(d, skipped=k) for k, d in enumerate(profile.distributions["contraction"]))
    told = dict(explain(replace(profile, distributions={**profile.distributions, "contraction": dead})))
    assert "contraction: 2" in told["Skipped examples"]


def test_a_part_of_a_sample_is_called_one(profile):
    assert measured_on(profile) == "60 examples of leaves"
    part = replace(profile, sample={**profile.sample, "num_samples": 600})
    assert measured_on(part) == "60 of 600 examples of leaves"


def test_short_numbers():
    assert [short(value) for value in (0, 1, -0.00012345, 999.4, 1234.5, -1e15, math.nan, True)] == [
        *("0", "1", "-0.000123", "999", "1,234", "-1e+15", "–", "–")
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminals_table(profile, width):
    shown = show(stability_summary(profile), width)
    lines = [line.split() for line in shown.splitlines()]
    row = profile.layers[2]
    expected = ["3", "linear_3", "600", f"{row.layer_cushion.worst:.3g}", f"{row.minimal_cushion.worst:.3g}"]
    assert [*expected, f"{row.contraction.worst:.3g}", "1,350", "225"] in lines
    assert "bias_free: does not hold (3 layers have a bias)" in shown
    assert "smoothness: holds" in shown
    assert "dead inputs: not measured" in shown
    assert "they explain, they never prove" in shown


def test_the_terminal_with_many_layers_and_notes():
    shown = show(stability_summary(make_profile(65, notes=tuple(f"note {k}" for k in range(20)))), 100)
    assert "and 5 more" in shown
    assert "8 more notes are in the report" in shown
