"""``bitcert study``: the list, the files of a study, the page of all, and one sentence for what cannot be."""

import json
import sys
from dataclasses import replace

import pytest

from bitcert.cli.app import main
from bitcert.report import plot_study
from bitcert.report.studies.display import table_csv
from bitcert.studies import Curve, Field, Figure, Outcome, Panel, Row, StudyResult
from bitcert.studies.study import Cost
from tests.unit.studies import toy

FILES = {"result.json", "table.md", "table.csv", "report.html", "figure.svg"}


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    registry = sys.modules["bitcert.studies.registry"]
    monkeypatch.setattr(registry, "STUDIES", {each.name: each for each in (toy.TOY, toy.OTHER, toy.HUGE)})


def call(capsys, *arguments, code=0) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["study", *map(str, arguments)])
    shown = capsys.readouterr()
    assert (stop.value.code or 0) == code, shown.err
    return shown.out if code == 0 else shown.err


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Results of the toy; not to be changed."""
    out = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["bitcert.studies.registry"], "STUDIES", {toy.TOY.name: toy.TOY})
        with pytest.raises(SystemExit) as stop:
            main(["study", "toy.table1", "--quick", "--out", str(out)])
    assert not stop.value.code
    return out


def test_without_a_name_all_studies_are_listed_with_their_state(capsys, done):
    listed = json.loads(call(capsys, "--json", "--out", done))
    assert [(each["name"], each["state"], each["size"]) for each in listed] == [
        ("toy.table1", "done", "quick"),
        ("toy.fig1", "not run", None),
        ("toy.fig2", "not run", None),
    ]
    shown = call(capsys, "--out", done)
    assert "done (quick)" in shown
    assert "toy.fig1" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_the_listing_of_long_times_fits_a_narrow_pipe(capsys, monkeypatch, tmp_path):
    costs = (Cost(25, 1, 1), Cost(2500, 1, 1), Cost(90_000, 1, 1))
    study = replace(toy.TOY, name="paper2020.projection_or_x", title="a long title " * 9, costs=costs)
    monkeypatch.setattr(sys.modules["bitcert.studies.registry"], "STUDIES", {study.name: study})
    shown = call(capsys, "--out", tmp_path)
    assert all(word in shown for word in (study.name, "not run", "25 s", "41.7 min", "25 h", "Data: digits"))
    assert f"{study.name} " in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_study_writes_table_figure_result_and_page(done):
    folder = done / "toy.table1"
    assert {file.name for file in folder.iterdir()} == FILES
    result = StudyResult.from_json((folder / "result.json").read_text())
    assert (result.study, result.size, result.seed) == ("toy.table1", "quick", 0)
    assert result.outcome.trained[0].epochs == 3
    assert "| wrong | 10 |" in (folder / "table.md").read_text()
    assert (folder / "table.csv").read_text().startswith("quantity,unit,paper,ours,comment\nwrong,,10.0,")
    assert (folder / "figure.svg").read_text().startswith("<?xml")
    assert "3 epochs" in (folder / "report.html").read_text()
    assert not list(done.glob(".toy*"))


def test_resume_keeps_what_is_finished_and_the_report_is_one_page_of_all(capsys, done):
    before = (done / "toy.table1" / "result.json").read_bytes()
    toy.CALLS.clear()
    said = call(capsys, "toy.table1", "--quick", "--resume", "--json", "--out", done)
    assert said.encode() == before
    assert toy.CALLS == []
    assert "1 of 3 studies" in call(capsys, "--report", "--out", done)
    assert "toy.table1" in (done / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["toy.tabel1"], "did you mean 'toy.table1'"),
        (["toy.table1", "--quick", "--full"], "expected --quick or --full, got both"),
        (["toy.table1", "--data-dir", "nowhere"], "expected a folder for --data-dir"),
        (["toy.fig2", "--quick"], "MiB of memory for toy.fig2"),
        (["--report"], "run some first"),
    ],
)
def test_bad_input_is_told_in_one_sentence(capsys, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert sentence in call(capsys, *arguments, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("result.json", "{}", "another format; choose another --out"),
        ("holiday.txt", "", "with 'holiday.txt' in it"),
        ("message.bin", "", "the result of another command"),
        ("result.json", {"study": "toy.fig1"}, "one of toy.fig1"),
        ("result.json", {"versions": {"bitcert": "0.0.9"}}, "one of 0.0.9"),
    ],
)
def test_a_folder_of_something_else_is_refused(capsys, tmp_path, done, name, content, sentence):
    folder = tmp_path / "toy.table1"
    folder.mkdir()
    if isinstance(content, dict):
        content = {**json.loads((done / "toy.table1" / name).read_text()), **content}
        content = json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"
    (folder / name).write_text(content)
    assert sentence in call(capsys, "toy.table1", "--quick", "--out", tmp_path, code=2)
    assert (folder / name).read_text() == content


def test_panels_of_all_kinds_are_drawn():
    looks = ("line", "points", "both", "dashed", "steps")
    curves = tuple(Curve.of(look, (1, 10, 100), (1.0, None, -1.0), look=look) for look in looks)
    contours = Field((0.0, 1.0), (0.0, 1.0, 2.0), ((0.0, 1.0), (1.0, 2.0), (None, 3.0)), (0.5, 1.5))
    panels = (
        Panel("$x_1$", "x", "y", curves, log_x=True, log_y=True),
        Panel("", "x", "y", names=("one", "two")),
        Panel("", "", "", field=contours),
    )
    figure, axes = plot_study(Figure("f", "c", panels))
    assert len(axes) == 3
    assert len(axes[0].lines) == 5
    assert figure is axes[0].figure


def test_a_table_is_no_formula_for_a_spreadsheet(done):
    result = StudyResult.from_json((done / "toy.table1" / "result.json").read_text())
    row = Row("=1+1", None, 1.0, "-2")
    assert "'=1+1,,,1.0,'-2" in table_csv(StudyResult(**{**vars(result), "outcome": Outcome((row,))}))
