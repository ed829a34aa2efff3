"""Files that several runs may write at once: who writes holds a lock, and every file is replaced in one step.

A lock is an empty file ``.NAME.lock`` beside what it guards; the operating system gives it up when its holder ends,
however that happens, so what lies about while the lock can be taken was left by a process that is dead. The file goes
when the lock is given up. NOT guarded: file systems whose locks are not shared between machines.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from bitcert.errors import InputError

__all__ = ["claimed", "locked", "replacing"]

WAIT_SECONDS = 300.0
"""A writer that holds a lock for longer hangs; writing takes seconds."""
_POLL_SECONDS = 0.01


def _take(path: Path, seconds: float) -> FileLock | None:
    """The lock of ``path``, or ``None`` if another process still holds it after so long."""
    lock = FileLock(path.with_name(f".{path.name.lstrip('.')}.lock"))
    try:
        lock.acquire(timeout=seconds, poll_interval=_POLL_SECONDS)
    except Timeout:
        return None
    return lock


def _give_up(lock: FileLock) -> None:
    # Who waits has the file open and sees that it has no name any more. Where locks are files, releasing deletes it.
    if os.name == "posix" and not isinstance(lock, SoftFileLock):
        with suppress(OSError):
            os.unlink(lock.lock_file)
    lock.release()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path``; waits while another process holds it.

    Raises:
        InputError: another process holds it for minutes.
        OSError: its folder cannot be written.
    """
    lock = _take(path, WAIT_SECONDS)
    if lock is None:
        got = f"one that another process has been writing for {WAIT_SECONDS:.0f} s"
        raise InputError(f"a place for results at {path}", got, "end that process, or choose another --out")
    try:
        yield
    finally:
        _give_up(lock)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write, which then takes the place of ``path`` in one step; after an error nothing is left of it.

    Raises:
        InputError: as :func:`locked`.
        OSError: the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    with locked(path):
        try:
            yield partial
            os.replace(partial, path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def _beside(folder: Path, number: int) -> Path:
    return folder if number == 1 else folder.with_name(f"{folder.name}-{number}")


@contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """A folder for this run's intermediate results: ``folder``, or one beside it while another run uses that.

    Its parent is made if need be, the folder itself is not. After success it is deleted, and so are those beside it
    whose runs are dead; after anything else it stays for the next run.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while (lock := _take(_beside(folder, number), 0.0)) is None:
        number += 1
    try:
        yield _beside(folder, number)
        shutil.rmtree(_beside(folder, number), ignore_errors=True)
    finally:
        _give_up(lock)
    _delete_abandoned(folder)


def _delete_abandoned(folder: Path) -> None:
    number = 2
    while _beside(folder, number).is_dir():
        lock = _take(_beside(folder, number), 0.0)
        if lock is not None:
            shutil.rmtree(_beside(folder, number), ignore_errors=True)
            _give_up(lock)
        number += 1
