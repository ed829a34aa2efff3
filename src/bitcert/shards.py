"""A pass over examples in shards: ranges of indices whose results are put together in their order, wherever they ran.

One interface, three executors: :class:`Here` (this process), :class:`LocalWorkers` (processes on this machine, which
share its memory) and, in :mod:`bitcert.ray_cluster`, a Ray cluster. The shards depend on the number of examples and
the batch size alone, and begin where a batch begins, so every batch is the same whoever computes it and whenever it
arrives: counts are identical, bit by bit, for every executor and number of workers. A shard that was lost with its
worker is run again; a result is kept once, under its shard's number.

>>> in_shards(lambda start, stop: stop - start, 25, 10)
[10, 10, 5]
"""

from __future__ import annotations

import itertools
import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

from bitcert.errors import InputError

Part = TypeVar("Part")
Kept = TypeVar("Kept")
Shard = tuple[int, int]
Task = Callable[[int, int], Part]
"""Computes the result of the examples ``start .. stop - 1``."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done."""

MAX_SHARDS = 256
_ATTEMPTS = 3


def plan_shards(num_examples: int, batch_size: int) -> list[Shard]:
    """At most :data:`MAX_SHARDS` ranges of whole batches, a function of these two numbers alone.

    >>> plan_shards(7, 3)
    [(0, 3), (3, 6), (6, 7)]
    """
    batches = -(-num_examples // batch_size)
    step = batch_size * max(1, -(-batches // MAX_SHARDS))
    return [(start, min(start + step, num_examples)) for start in range(0, num_examples, step)]


class Executor(ABC):
    """Where shards are computed; ``shares_disk`` is whether on machines that see the files of this one."""

    shares_disk = True

    @abstractmethod
    def map(self, task: Task[Part], shards: Sequence[Shard], done: Callable[[int, Part], Kept]) -> list[Kept]:
        """What ``done`` makes, in this process, of the number and result of each finished shard, in their order.

        Raises:
            BitcertError: whatever the task raises, as in this process.
        """

    def running(self) -> AbstractContextManager[object]:
        """A context in which it is ready."""
        return nullcontext()


class Here(Executor):
    """This process, one shard after the other."""

    def map(self, task: Task[Part], shards: Sequence[Shard], done: Callable[[int, Part], Kept]) -> list[Kept]:
        """As :meth:`Executor.map`."""
        return finish_here(task, shards, {}, done)


_TASKS: dict[int, tuple[Task[Any], Sequence[Shard]]] = {}
"""What forked workers inherit: nothing is copied or sent but the numbers of shards and their results."""
_NUMBERS = itertools.count()


def become_worker() -> None:
    """Let torch use one thread: the others' cores are taken, and a forked pool of threads would hang.

    Passes within a shard stay in the worker.
    """
    import torch

    torch.set_num_threads(1)
    _CURRENT.set(Here())


def _run(number: int, index: int) -> Any:
    task, shards = _TASKS[number]
    return task(*shards[index])


class LocalWorkers(Executor):
    """Forked processes of this machine, which read the same memory.

    When a worker is killed, the shards that are missing are run again by new workers, and at last in this process.

    Args:
        workers: how many processes, at least 1.

    Raises:
        InputError: fewer, or a system that cannot fork.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise InputError("at least one worker", str(workers), "leave --workers out to stay in one process")
        if "fork" not in multiprocessing.get_all_start_methods():
            raise InputError("a system whose processes share memory (fork)", "another", "leave --workers out")
        self.workers = workers

    def map(self, task: Task[Part], shards: Sequence[Shard], done: Callable[[int, Part], Kept]) -> list[Kept]:
        """As :meth:`Executor.map`."""
        found: dict[int, Kept] = {}
        number = next(_NUMBERS)
        _TASKS[number] = task, shards
        try:
            for _ in range(_ATTEMPTS):
                self._attempt(number, found, len(shards), done)
        finally:
            del _TASKS[number]
        return finish_here(task, shards, found, done)

    def _attempt(self, number: int, found: dict[int, Any], total: int, done: Callable[[int, Any], Any]) -> None:
        left = [index for index in range(total) if index not in found]
        if not left:
            return
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(min(self.workers, len(left)), mp_context=context, initializer=become_worker)
        try:
            futures = {pool.submit(_run, number, index): index for index in left}
            for future in as_completed(futures):
                index = futures.pop(future)  # with its result, which may be large
                try:
                    result = future.result()
                except BrokenProcessPool:
                    continue
                found[index] = done(index, result)
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(cancel_futures=True)


def finish_here(
    task: Task[Part], shards: Sequence[Shard], found: dict[int, Kept], done: Callable[[int, Part], Kept]
) -> list[Kept]:
    """All results in order: what is missing is computed in this process."""
    for index, shard in enumerate(shards):
        if index not in found:
            found[index] = done(index, task(*shard))
    return [found[index] for index in range(len(shards))]


_CURRENT: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def executing_on(executor: Executor) -> Iterator[None]:
    """A context in which passes over examples run on ``executor``.

    >>> with executing_on(Here()):
    ...     in_shards(lambda start, stop: stop, 3, 2)
    [2, 3]
    """
    with executor.running():
        token = _CURRENT.set(executor)
        try:
            yield
        finally:
            _CURRENT.reset(token)


def executor_for(num_shards: int, device: str = "cpu") -> Executor:
    """That of :func:`executing_on` where there are several shards, else this process.

    Work on a GPU stays in this process: a forked one cannot use what this one has opened.
    """
    return (num_shards > 1 and device == "cpu" and _CURRENT.get()) or Here()


def in_shards(
    task: Task[Part],
    num_examples: int,
    batch_size: int,
    name: str = "",
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> list[Part]:
    """What ``task`` makes of each shard, in the order of the examples.

    Args:
        task: called with the first index of a shard and the one after its last.
        num_examples: 0 has no shards.
        batch_size: shards begin at its multiples.
        name: what is being done.
        progress: called with it and the fraction of the examples done, wherever they are.
        executor: by default that of :func:`executing_on`, else this process.
    """
    shards = plan_shards(num_examples, batch_size)
    return over_ranges(task, shards, lambda shard, part: part, name, progress, executor)


def over_ranges(
    task: Task[Part],
    shards: Sequence[Shard],
    keep: Callable[[Shard, Part], Kept],
    name: str = "",
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> list[Kept]:
    """What ``keep`` makes, in this process and as they come, of the results of given ranges, in their order.

    The other arguments are those of :func:`in_shards`.
    """
    executor = executor if executor is not None and len(shards) > 1 else executor_for(len(shards))
    total, finished = sum(stop - start for start, stop in shards), 0

    def done(index: int, part: Part) -> Kept:
        nonlocal finished
        start, stop = shards[index]
        kept = keep((start, stop), part)
        finished += stop - start
        if progress is not None:
            progress(name, finished / total)
        return kept

    return executor.map(task, shards, done)
