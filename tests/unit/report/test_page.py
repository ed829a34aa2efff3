import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import pytest
from rich.console import Console

from bitcert.certificates.conditions import NOT_MET
from bitcert.errors import InputError
from bitcert.report import render_report, terminal_summary
from bitcert.run import Candidate

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = '"><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>{{ 7*7 }}$\\frac{'


class Page(HTMLParser):
    """Tags with attributes, the visible text, rows of tables, and whether every tag was closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and any(tag in ("td", "th") for tag in self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def show(renderable, width=140) -> str:
    """What a terminal without colours shows."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(renderable)
    return console.file.getvalue()


def assert_self_contained(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}:
                assert value is not None
                assert value.startswith("#")
            if name == "style":
                assert not re.search(r"url\((?!#)", value or "")


def test_page_is_self_contained_and_names_its_policy(make_certificate, candidates):
    text = render_report(make_certificate(), candidates)
    page = Page(text)
    assert_self_contained(page)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", text).replace("http-equiv", "")
    assert len(text) < 300_000


def test_page_works_on_a_phone_and_in_the_dark(make_certificate, candidates):
    text = render_report(make_certificate(), candidates)
    page = Page(text)
    assert any(t == "meta" and a.get("name") == "viewport" for t, a in page.tags)
    assert "prefers-color-scheme: dark" in text
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 3
    for attributes in pictures:
        assert "viewbox" in attributes
        assert "width" not in attributes
        assert attributes["aria-label"]
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert not re.findall(r"(?:fill|stroke): #", drawn)


def test_ids_are_unique_and_every_reference_has_a_target(make_certificate, candidates):
    tags = Page(render_report(make_certificate(), candidates)).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {a["xlink:href"][1:] for _, a in tags if "xlink:href" in a}
    clips = {match for _, a in tags for value in a.values() for match in re.findall(r"url\(#([^)]*)\)", value or "")}
    assert used
    assert used | clips <= set(ids)


def test_same_certificate_same_page_whatever_the_settings(make_certificate, candidates):
    first = render_report(make_certificate(), candidates)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        assert render_report(make_certificate(), candidates) == first
    assert not re.search(r"20\d\d-\d\d-\d\d", first)


def test_settings_of_the_user_are_put_back(make_certificate, candidates):
    before = dict(matplotlib.rcParams)
    render_report(make_certificate(), candidates)
    assert dict(matplotlib.rcParams) == before


def test_hostile_text_is_shown_as_text_wherever_it_stands(make_certificate, holdout):
    certificate = make_certificate(
        sections=((HOSTILE, 9), ("header", 8)),
        data={"name": HOSTILE, HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]},
        helper={HOSTILE: HOSTILE},
        message={"file": HOSTILE},
        description=HOSTILE,
        theorem=HOSTILE,
        holdout={**holdout, "name": HOSTILE, "samples": HOSTILE},
        versions={HOSTILE: HOSTILE},
        delta_ledger=((HOSTILE, 0.05),),
        bounds={"binomial": 0.2, HOSTILE: 0.3},
        decision_rule={HOSTILE: HOSTILE},
    )
    text = render_report(certificate, [Candidate(HOSTILE, 5, 17, 0.2, 1.0)], [HOSTILE])
    page = Page(text)
    assert_self_contained(page)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 12
    assert "{{ 7*7 }}" in page.text


def test_control_and_direction_characters_do_not_reach_the_page(make_certificate):
    text = render_report(make_certificate(data={"name": "a\x1b[31m\u202eb\x00"}, sections=(("w\u202e\x07字😀", 8),)))
    assert not set("\x1b\u202e\x00\x07") & set(text)
    assert "字😀" in text


@pytest.mark.usefixtures("undrawn")
def test_sum_of_sections_is_shown(make_certificate):
    page = Page(render_report(make_certificate()))
    assert ["head", "2,903", "90.04 %"] in page.rows
    assert ["sum", "3,224", "100.00 %"] in page.rows
    assert "Do not trust" not in page.text


@pytest.mark.usefixtures("undrawn")
def test_sections_that_do_not_add_up_are_denounced(make_certificate):
    page = Page(render_report(replace(make_certificate(), message_bits=3000)))
    assert "Do not trust this certificate: its sections add up to 3,224 bits" in page.text


@pytest.mark.usefixtures("undrawn")
def test_sentence_stands_first_and_promises_are_limited(make_certificate):
    certificate = make_certificate()
    page = Page(render_report(certificate))
    headings = re.findall(r"<h1>(.*?)</h1>", render_report(certificate))
    assert headings == [certificate.sentence]
    for phrase in ("i.i.d.", "about the compressed network", "drawing the training examples", "What it rests on"):
        assert phrase in page.text
    assert "bitcert verify certificate.json" in page.text
    assert certificate.theorem in page.text
    assert "ab" * 32 in page.text


@pytest.mark.usefixtures("undrawn")
def test_original_network_is_not_called_compressed(make_certificate):
    ledger = (("occam-binomial", 0.04), ("disagreement", 0.01))
    text = Page(render_report(make_certificate(certifies="original", delta_ledger=ledger))).text
    assert "about the original network" in text
    assert "about the compressed network" not in text


@pytest.mark.usefixtures("undrawn")
def test_every_condition_is_on_the_page_and_one_that_does_not_hold_stands_out(make_certificate):
    conditions = ("first <b>", "for `bound` only: the helper was fixed", f"{NOT_MET}this is a benchmark")
    html = render_report(make_certificate(conditions=conditions))
    text = Page(html).text
    assert "first <b>" in text
    assert "the helper was fixed (the self-contained bound does without this)" in text
    assert f"<strong>{NOT_MET}this is a benchmark</strong>" in html


@pytest.mark.usefixtures("undrawn")
def test_the_self_contained_bound_stands_beside_the_other(make_certificate):
    certificate = make_certificate(self_contained=0.2612001)
    rows = Page(render_report(certificate)).rows
    assert ["self-contained bound", "26.13 %"] in rows
    assert ["description of the helper", "427 bits"] in rows
    assert ["architecture", "400"] in rows
    unknown = Page(render_report(make_certificate(helper_sections=()))).rows
    assert ["description of the helper", "code of unknown length"] in unknown
    assert ["self-contained bound", "100.00 % (vacuous)"] in unknown


@pytest.mark.usefixtures("undrawn")
def test_bounds_are_rounded_up(make_certificate):
    certificate = make_certificate(bounds={"binomial": 0.241001, "kl_chernoff": 0.2416, "hoeffding": 0.3})
    rows = Page(render_report(certificate)).rows
    assert ["exact binomial tail: the one that counts", "24.11 %"] in rows
    assert ["KL–Chernoff", "24.16 %"] in rows
    assert ["Hoeffding", "30.00 %"] in rows


def test_vacuous_is_a_word(make_certificate):
    vacuous = make_certificate(errors=900, samples=1797, sections=(("w", 10_000_000),))
    assert vacuous.vacuous
    page = Page(render_report(vacuous))
    assert "This certificate is vacuous" in page.text
    assert ["Hoeffding", "100.00 % (vacuous)"] in page.rows
    assert "cannot learn every example by heart" not in page.text
    assert "vacuous" not in Page(render_report(make_certificate())).text


@pytest.mark.usefixtures("undrawn")
def test_a_bound_that_says_no_more_than_guessing_is_set_beside_it(make_certificate):
    said = "It says no more than guessing: one of 10 classes at random errs on 90.00 %."
    for bits, shown in [(8_000, True), (80, False)]:
        certificate = make_certificate(errors=900, samples=1797, sections=(("w", bits),))
        assert not certificate.vacuous
        assert (certificate.bound >= 0.9) is shown
        assert (said in Page(render_report(certificate)).text) is shown
        assert (said in show(terminal_summary(certificate))) is shown


@pytest.mark.usefixtures("undrawn")
def test_holdout_row_and_honest_comparison(make_certificate, holdout):
    page = Page(render_report(make_certificate(holdout=holdout)))
    assert ["errors on leaves of May", "1,450 of 10,000"] in page.rows
    assert ["holding out would have said: at most", "15.10 %"] in page.rows
    assert "That is the lower number" in page.text
    worse = Page(render_report(make_certificate(holdout={**holdout, "bound": 0.9})))
    assert "That is the lower number" not in worse.text
    assert "holding out would" not in Page(render_report(make_certificate())).text


@pytest.mark.usefixtures("undrawn")
def test_candidates_are_listed_best_first(make_certificate, candidates):
    page = Page(render_report(make_certificate(), candidates))
    rows = [row for row in page.rows if row and row[0].startswith("lambda")]
    assert [row[0] for row in rows] == ["lambda 0", "lambda 1", "lambda 2", "lambda 3"]
    assert rows[0][1:3] == ["15.00 %", "1,500"]
    assert "4 complete messages were tried" in page.text


def test_without_candidates_there_is_no_training_curve(make_certificate):
    text = render_report(make_certificate())
    assert "Training curve" not in text
    assert text.count("<svg") == 2
    assert "No record of other messages" in text


def test_many_sections_and_candidates_stay_small_and_complete(make_certificate, candidates):
    sections = tuple((f"features.stage{i}.conv.weight", 50 + i) for i in range(200))
    text = render_report(make_certificate(sections=sections), candidates * 200)
    page = Page(text)
    assert len(text) < 300_000
    assert ["189 smaller sections", "27,216", "91.02 %"] in page.rows
    assert {f"features.stage{i}.conv.weight" for i in range(200)} <= {row[0] for row in page.rows}
    assert "800 complete messages" in page.text


@pytest.mark.parametrize(
    ("errors", "samples", "bits"), [(0, 1, 0), (0, 10**9, 10**7), (60000, 60000, 16), (1, 1, 1), (0, 60000, 10**7)]
)
def test_extreme_counts_have_a_page(make_certificate, errors, samples, bits):
    sections = (("w", bits),) if bits else ()
    page = Page(render_report(make_certificate(errors=errors, samples=samples, sections=sections)))
    assert f"{errors:,} of {samples:,}" in page.text
    assert f"{bits:,} bits" in page.text


@pytest.mark.usefixtures("undrawn")
def test_verification_lines_are_shown(make_certificate):
    assert "message hash agrees" in Page(render_report(make_certificate(), (), ["message hash agrees"])).text


def test_impossible_counts_are_refused_in_words(make_certificate):
    with pytest.raises(InputError, match="num_errors"):
        render_report(replace(make_certificate(), errors=60001))


@pytest.mark.usefixtures("undrawn")
def test_public_weights_in_the_helper_are_told_on_the_page_and_in_the_terminal(make_certificate):
    certificate = make_certificate()
    public = replace(certificate, helper={**certificate.helper, "weights": "<ab>" + "0" * 60})
    for text in (render_report(public), show(terminal_summary(public), 200)):
        assert "whose bits are not counted" in text
        assert "<ab>" not in render_report(public)
    assert "whose bits are not counted" not in render_report(certificate)
