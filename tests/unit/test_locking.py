"""Locks between processes: who waits, what a dead holder leaves, and where a second run keeps its parts."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from bitcert import locking
from bitcert.errors import InputError
from bitcert.locking import claimed, locked, replacing
from bitcert.run import Checkpoint


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def holding(function):
    """A child process inside ``with function():``; returns its number and a function that ends it in order."""
    ready, told, tell, heard = *os.pipe(), *os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with function():
                os.write(told, b".")
                os.read(tell, 1)
        finally:
            os._exit(0)
    assert os.read(ready, 1) == b"."

    def release():
        os.write(heard, b".")
        os.waitpid(child, 0)

    return child, release


def test_a_lock_leaves_nothing(tmp_path):
    with locked(tmp_path / "out"):
        assert names(tmp_path) == [".out.lock"]
    assert names(tmp_path) == []


def test_a_lock_that_is_held_for_too_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "WAIT_SECONDS", 0.0)
    _, release = holding(lambda: locked(tmp_path / "out"))
    with pytest.raises(InputError, match=r"another process .* choose another --out"), locked(tmp_path / "out"):
        pass
    release()
    with locked(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_the_dead_hold_nothing(tmp_path):
    child, _ = holding(lambda: locked(tmp_path / "out"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert names(tmp_path) == [".out.lock"]
    with locked(tmp_path / "out"):
        pass
    assert names(tmp_path) == []


def test_a_file_is_replaced_or_stays(tmp_path):
    path = tmp_path / "state"
    with replacing(path) as partial:
        partial.write_text("1")
        assert not path.exists()

    def interrupted():
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "1"
    assert names(tmp_path) == ["state"]


def save_many(path, value):
    checkpoint = Checkpoint(path, "same run")
    for _ in range(100):
        checkpoint.save({"value": value}, {"tensor": torch.full((50,), float(value))})


def test_two_runs_keep_one_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    children = []
    for value in (1, 2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                save_many(path, value)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    values, tensors = Checkpoint(path, "same run").load()
    assert tensors["tensor"].tolist() == [float(values["value"])] * 50
    assert names(tmp_path) == ["checkpoint.safetensors"]


def test_a_second_run_has_a_folder_of_its_own(tmp_path):
    folder = tmp_path / "work" / ".out.shards"
    _, release = holding(lambda: claimed(folder))
    folder.mkdir()
    with claimed(folder) as mine:
        assert mine.name == ".out.shards-2"
        mine.mkdir()
    assert names(folder.parent) == [".out.shards", ".out.shards.lock"], "only its own folder is gone"
    release()
    assert names(folder.parent) == []


def test_an_interrupted_run_keeps_its_folder_for_the_next(tmp_path):
    folder = tmp_path / ".out.shards"

    def interrupted():
        with claimed(folder) as mine:
            mine.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == [".out.shards"]
    with claimed(folder) as mine:
        assert mine == folder
    assert names(tmp_path) == []


def test_what_dead_second_runs_left_is_deleted_and_what_living_ones_use_is_not(tmp_path):
    folder = tmp_path / ".out.shards"
    for number in (2, 3):
        (tmp_path / f".out.shards-{number}").mkdir()
    _, release = holding(lambda: locked(tmp_path / ".out.shards-2"))
    with claimed(folder):
        pass
    assert names(tmp_path) == [".out.shards-2", ".out.shards-2.lock"]
    release()
