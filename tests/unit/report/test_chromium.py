"""Every page in a real Chromium at 1280 and 390 pixels, light and dark: nothing is cut, all text can be read.

The pages forbid scripts, so they are looked at from outside: one page holds each of them in frames of both widths and
measures. Skipped where there is no Chromium (Debian: ``apt-get install chromium``); the laws at the end need none.
"""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path

import pytest

from bitcert.report import render_bounds, render_comparison, render_report, render_stability, render_survey
from bitcert.report.drawing import _DARK, GRID, PAPER

from ..comparison.makers import make_usual as make_comparison
from .bounds_fakes import make_usual as make_bounds
from .stability_fakes import make_profile
from .survey_fakes import make_survey

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (1280, 390)
DARK = "@media (prefers-color-scheme: dark)"
POLICY = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
MEASURE = Path(__file__).with_name("measure_page.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages():
    return {
        "bounds": render_bounds(make_bounds()),
        "comparison": render_comparison(make_comparison()),
        "stability": render_stability(make_profile(6)),
        "survey": render_survey(make_survey()),
    }


def frames(name, page):
    """The page in every width and scheme, its policy left out so that the outer page may measure it."""
    assert POLICY in page
    assert DARK in page
    bare = str(page).replace(POLICY, "")  # of Markup, whose replacements html.escape would escape again
    schemes = {"light": bare.replace(DARK, "@media not all"), "dark": bare.replace(DARK, "@media all")}
    for scheme, text in schemes.items():
        for width in WIDTHS:
            look = f'style="width: {width}px; height: 800px; border: 0"'
            title = f"{name}, {width} px, {scheme}"
            yield f'<iframe class="measured" title="{title}" {look} srcdoc="{escape(text)}"></iframe>'


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
def test_pages_fit_and_can_be_read_in_chromium(pages, make_certificate, candidates, tmp_path):
    every = {**pages, "certificate": render_report(make_certificate(), candidates)}
    body = "".join(frame for name, page in every.items() for frame in frames(name, page))
    for name, page in every.items():
        (tmp_path / f"{name}.html").write_text(page)
        body += f'<iframe src="{name}.html"></iframe>'
    outer = tmp_path / "outer.html"
    outer.write_text(f"<!DOCTYPE html><pre id='told'></pre>{body}<script>{MEASURE}</script>")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--dump-dom")
    home = f"--user-data-dir={tmp_path / 'home'}"
    run = subprocess.run([CHROMIUM, *options, home, outer.as_uri()], capture_output=True, text=True, check=True)
    found = re.search(r'<pre id="told">(.*?)</pre>', run.stdout, re.DOTALL)
    told = json.loads(unescape(found.group(1)))
    assert len(told) == 4 * len(every)
    assert {where: what for where, what in told.items() if what} == {}
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []


def brightness(colour):
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_inks_of_figures_can_be_read_on_their_paper(dark):
    paper = brightness(_DARK[PAPER] if dark else PAPER)
    for colour in set(_DARK) - {PAPER, GRID}:
        low, high = sorted((paper, brightness(_DARK[colour] if dark else colour)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_wide_tables_name_their_columns_where_titles_are_hidden(pages):
    for page in pages.values():
        for table in re.findall(r'<div class="wide">(.*?)</div>', page, re.DOTALL):
            titles = re.findall(r"<th[^>]*>(.*?)</th>", table.split("</thead>")[0])
            for row in re.findall(r"<tr.*?</tr>", table.split("</thead>")[1], re.DOTALL):
                labels = re.findall(r'data-label="(.*?)"', row)
                assert labels == titles[len(titles) - len(labels) :]
                assert len(labels) + row.count("<th>") == len(titles)
