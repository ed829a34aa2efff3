"""Passes in shards: the same results here, in several processes, and after a worker was killed."""

import os
import signal

import numpy as np
import pytest

from bitcert.certificates.loading import load
from bitcert.certificates.verification import verify
from bitcert.cli.executors import ExecutorOptions
from bitcert.errors import InputError
from bitcert.ray_cluster import RayCluster
from bitcert.shards import MAX_SHARDS, Here, LocalWorkers, executing_on, in_shards, plan_shards
from tests.tools.passes import PASSES, killed_once

RECORD = "records/digits/certificate.json"


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 1000])
@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_shards_are_whole_batches_that_cover_every_example_once(size, batch):
    shards = plan_shards(size, batch)
    assert [index for start, stop in shards for index in range(start, stop)] == list(range(size))
    assert all(start % batch == 0 and stop > start for start, stop in shards)
    assert len(shards) <= MAX_SHARDS


def _noting(original, used):
    def noted(self, *given):
        used.append(self.workers)
        return original(self, *given)

    return noted


@pytest.mark.parametrize(("size", "batch"), [(1, 5), (2, 1), (7, 3), (40, 9)])
@pytest.mark.parametrize("verb", PASSES)
def test_every_pass_is_the_same_on_any_number_of_workers(verb, size, batch, small_shards, monkeypatch):
    here, used = PASSES[verb](size, batch), []
    monkeypatch.setattr(LocalWorkers, "_attempt", _noting(LocalWorkers._attempt, used))
    for workers in (1, 3):
        with executing_on(LocalWorkers(workers)):
            assert PASSES[verb](size, batch) == here
    assert used or size < 3, "one shard stays here"


def test_a_verification_and_predictions_are_the_same_in_two_processes():
    here, certified = verify(RECORD), load("records/digits")
    inputs = np.random.default_rng(0).integers(0, 17, (1200, 1, 8, 8), dtype=np.uint8)
    classes = certified.predict(inputs)
    seen = []
    with executing_on(LocalWorkers(2)):
        assert verify(RECORD, progress=lambda task, fraction: seen.append(fraction)).lines == here.lines
        assert np.array_equal(certified.predict(inputs), classes)
    assert here
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_no_examples_have_no_results():
    assert in_shards(lambda start, stop: 1, 0, 10, executor=LocalWorkers(2)) == []


def test_shards_of_a_killed_worker_are_run_again_and_none_counts_twice(tmp_path):
    flag = tmp_path / "killed"
    found = in_shards(killed_once(flag), 20, 2, executor=LocalWorkers(2))
    assert flag.exists()
    assert found == [(start, start + 2) for start in range(0, 20, 2)]


def test_what_kills_every_worker_is_computed_in_this_process():
    parent = os.getpid()

    def task(start, stop):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return start

    assert in_shards(task, 4, 2, executor=LocalWorkers(2)) == [0, 2]


def test_an_error_of_the_task_is_the_same_error_here():
    def task(start, stop):
        raise InputError("one thing", f"another at {start}", "do this")

    for executor in (Here(), LocalWorkers(1)):
        with pytest.raises(InputError, match="another at 0; do this"):
            in_shards(task, 4, 2, executor=executor)


def test_bad_executors_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="at least one worker"):
        LocalWorkers(0)
    with pytest.raises(InputError, match="leave out one"):
        ExecutorOptions(workers=2, ray="auto").executor()
    pytest.importorskip("ray", reason="Ray is not installed")
    for address in ("nowhere", "localhost:x", ":1", "127.0.0.1:99999"):
        with pytest.raises(InputError, match="expected"):
            RayCluster(address)
    with pytest.raises(InputError, match="start one there"):
        RayCluster("127.0.0.1:1")
