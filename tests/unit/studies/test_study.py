"""Studies: what they are found by, what survives a killed process, what is refused before any work."""

import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

from bitcert import Run, load_sample
from bitcert.canonical import encode
from bitcert.errors import DecodeError, InputError
from bitcert.studies import STUDIES, Curve, Field, Figure, Outcome, Panel, Row, Size, StudyResult, find_studies
from bitcert.studies import run_study as run_one
from bitcert.studies.arora2018_bounds import shuffled
from bitcert.studies.context import Context
from bitcert.studies.running import check_study, state_of
from tests.unit.studies import toy


def found_of(result: StudyResult) -> dict:
    """All but the times."""
    content = encode(result.outcome)
    content["trained"] = [{k: v for k, v in each.items() if k != "seconds"} for each in content["trained"]]
    return content


def test_every_study_has_a_name_of_its_paper_and_costs_at_three_sizes():
    for name, study in STUDIES.items():
        assert name == study.name
        assert name.startswith(f"{study.paper}.")
        assert study.cost(Size.QUICK).seconds <= 120
        assert study.cost(Size.DEFAULT).seconds <= 3_600
        assert study.title
        assert study.printed


def test_a_study_is_found_by_its_name_or_its_paper():
    assert [study.name for study in find_studies("arora2018.fig1")] == ["arora2018.fig1"]
    assert len(find_studies("arora2018")) == 6
    assert len(find_studies()) == len(STUDIES)
    with pytest.raises(InputError, match=r"did you mean 'arora2018\.table1'"):
        find_studies("arora2018.tabel1")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a second process")
@pytest.mark.parametrize("moment", [("training toy", 0.5), ("between", 0.5)])
def test_a_study_that_was_killed_goes_on_and_finds_the_same(tmp_path, moment):
    whole = run_one(toy.TOY, Size.QUICK, tmp_path / "whole", Run())

    def progress(task: str, fraction: float) -> None:
        if task == moment[0] and fraction >= moment[1]:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        run_one(toy.TOY, Size.QUICK, tmp_path / "parts", Run(progress=progress))
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    toy.CALLS.clear()
    parts = run_one(toy.TOY, Size.QUICK, tmp_path / "parts", Run())
    assert found_of(parts) == found_of(whole)
    assert ([] if moment[0] == "between" else ["errors"]) == toy.CALLS


def test_pieces_of_another_size_or_seed_are_not_taken(tmp_path):
    toy.CALLS.clear()
    for size, seed in ((Size.QUICK, 0), (Size.QUICK, 0), (Size.DEFAULT, 0), (Size.QUICK, 1)):
        run_one(toy.TOY, size, tmp_path, Run(seed=seed))
    assert len(toy.CALLS) == 3


def test_two_pieces_that_nothing_tells_apart_are_refused(tmp_path):
    context = Context("toy.table1", Size.QUICK, tmp_path, tmp_path, Run())
    assert context.piece("errors", int, lambda: 1, "mnist") == 1
    assert context.piece("errors", int, lambda: 2, "fashion-mnist") == 2
    with pytest.raises(ValueError, match="got two"):
        context.piece("errors", int, lambda: 3, "mnist")


def test_a_piece_that_cannot_be_read_is_made_again(tmp_path):
    toy.CALLS.clear()
    first = run_one(toy.TOY, Size.QUICK, tmp_path, Run())
    for piece in (tmp_path / ".toy.table1.pieces").iterdir():
        piece.write_text("[1,")
    assert found_of(run_one(toy.TOY, Size.QUICK, tmp_path, Run())) == found_of(first)
    assert len(toy.CALLS) == 2


def test_a_result_comes_back_from_its_text(tmp_path):
    result = run_one(toy.TOY, Size.QUICK, tmp_path, Run())
    assert StudyResult.from_json(result.to_json()) == result
    assert state_of(toy.TOY, tmp_path).word == "partly"
    panel = Panel("", "x", "y", field=Field((0.0, 1.0), (0.0, 1.0), ((0.0, None), (1.0, 2.0)), (0.5,)), names=("a",))
    drawn = replace(result, outcome=replace(result.outcome, figures=(Figure("f", "c", (panel,)),)))
    assert StudyResult.from_json(drawn.to_json()) == drawn


@pytest.mark.parametrize("change", [{"format": "bitcert-study-0"}, {"size": 1}, {"more": 1}, {"outcome": {}}])
def test_a_result_that_this_program_did_not_write_is_refused(tmp_path, change):
    text = run_one(toy.TOY, Size.QUICK, tmp_path, Run()).to_json()
    with pytest.raises(DecodeError, match=r"result\.json"):
        StudyResult.from_json(json.dumps({**json.loads(text), **change}))


def test_rows_are_compared_by_ratio_or_by_points():
    assert Row("a", 4.0, 1.0).compared == "× 0.25"
    assert Row("a", 4.0, 5.5, unit="%").compared == "+1.5 points"
    assert Row("a", 18.0, 9.5, unit="log10").compared == "-8.5"
    assert [Row("a", paper, ours).compared for paper, ours in ((None, 1.0), (1.0, None), (0.0, 1.0))] == ["", "", ""]
    assert Row("a", float("nan"), np.float32(2)).ours == 2.0
    assert Curve.of("c", [1, 2], [float("inf"), 3]).y == (None, 3.0)


def test_missing_data_are_refused_with_the_studies_that_run_without(tmp_path, monkeypatch):
    for name in ("BITCERT_DATA", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    running = sys.modules["bitcert.studies.running"]
    monkeypatch.setattr(running, "STUDIES", {each.name: each for each in (toy.TOY, toy.OTHER)})
    with pytest.raises(InputError, match=r"cifar10 for the study toy\.fig1.*have what they need: toy\.table1"):
        check_study(toy.OTHER, Size.QUICK, tmp_path)
    check_study(toy.TOY, Size.QUICK, tmp_path)


@pytest.mark.parametrize(("size", "what"), [(Size.QUICK, "memory"), (Size.DEFAULT, "disk")])
def test_too_little_memory_or_disk_is_said_before_any_work(tmp_path, size, what):
    with pytest.raises(InputError, match=f"MiB of {what} for toy.fig2"):
        run_one(toy.HUGE, size, tmp_path, Run())


def test_shuffled_labels_are_the_same_labels_in_another_order():
    sample = load_sample("digits", "train")
    mixed = shuffled(sample, 0)
    assert (np.sort(mixed.labels) == np.sort(sample.labels)).all()
    assert (mixed.labels == sample.labels).mean() < 0.2
    assert (mixed.inputs == sample.inputs).all()


def test_an_outcome_needs_only_rows():
    assert Outcome((Row("a", 1.0, 1.0),)).scaled == ""
