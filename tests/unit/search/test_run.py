"""Runs: budgets, parts of them, stopping, checkpoints of parts."""

import pytest
import torch

from bitcert.search import Checkpoint, Run


def test_a_stopped_run_has_used_its_time():
    run = Run(budget_seconds=1e6)
    assert run.fraction < 0.5
    assert not run.stopped
    run.stop()
    assert run.stopped
    assert run.fraction == 1.0
    assert run.seconds >= run.budget_seconds > 0, "for those that compare seconds"


def test_parts_stop_with_the_whole_and_not_the_other_way_round():
    run = Run(budget_seconds=1e6)
    part = run.share(1e5, "a")
    nested = part.share(1e4)
    part.stop()
    assert part.stopped
    assert nested.stopped
    assert not run.stopped
    other = run.share(1e5, "b")
    run.stop()
    assert other.stopped
    assert run.share(10.0, "late").stopped


def test_candidates_of_a_named_part_are_booked_in_the_whole_too():
    seen = []
    run = Run(delta=0.1, watch=seen.append)
    part, silent = run.share(10.0, "heads"), run.share(10.0)
    candidate = part.consider("first", 10, 100, 80)
    silent.consider("second", 10, 100, 80)
    assert [c.name for c in part.candidates] == ["first"]
    assert [c.name for c in run.candidates] == ["heads: first"] == [c.name for c in seen]
    assert run.candidates[0].bound == candidate.bound == Run(delta=0.1).consider("", 10, 100, 80).bound


def test_progress_of_a_named_part_is_its_own_fraction():
    told = []
    run = Run(progress=lambda task, fraction: told.append((task, fraction)))
    part = run.share(1e6, "heads")
    part.progress("training", 0.5)
    run.share(1e6).progress("counting", 0.25)
    part.stop()
    part.progress("training", 0.5)
    assert [name for name, _ in told] == ["heads", "counting", "heads"]
    assert told[0][1] < 0.1
    assert told[1][1] == 0.25
    assert told[2][1] == 1.0


def test_each_named_part_has_a_checkpoint_of_its_own(tmp_path):
    run = Run(checkpoint=Checkpoint(tmp_path / "run.safetensors", "identity"))
    first, second = run.share(1.0, "a/b: c").checkpoint, run.share(1.0, "d").checkpoint
    assert first.path.parent == second.path.parent == tmp_path
    first.save({"step": 1}, {"x": torch.ones(2)})
    assert second.load() is None
    assert run.checkpoint.load() is None
    assert run.share(2.0, "a/b: c").checkpoint.load()[0] == {"step": 1}
    assert run.share(1.0).checkpoint is None
    assert Run().share(1.0, "a").checkpoint is None


@pytest.mark.parametrize("budget", [1e-3, 1e9])
def test_stopping_twice_is_as_stopping_once(budget):
    run = Run(budget_seconds=budget)
    run.stop()
    run.stop()
    assert run.fraction == 1.0
