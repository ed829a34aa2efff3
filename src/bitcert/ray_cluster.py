"""Shards on a Ray cluster (``pip install bitcert[ray]``) that is running.

The task (classifier and examples) is put into the cluster's object store once. Each shard is a Ray task, which Ray
runs again on another worker when its worker or machine dies; what Ray gives up is computed in this process. No cluster
is started here: Ray's servers listen on every interface and run whatever code is sent to their ports (docs/scale.md),
so starting one is the user's decision.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from bitcert.errors import BitcertError, InputError
from bitcert.shards import Executor, Kept, Part, Shard, Task, become_worker, finish_here

AUTO = "auto"
_RETRIES = 3
_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 5.0
"""After so long without a result, whether the head still answers is looked at."""


def run_shard(version: str, task: Task[Any], start: int, stop: int) -> Any:
    """Compute one shard in a worker.

    Raises:
        InputError: the worker has another version of bitcert, which might count otherwise.
    """
    if version != (own := metadata.version("bitcert")):
        raise InputError(f"bitcert {version} on every worker", f"bitcert {own}", "install the same version everywhere")
    become_worker()
    return task(start, stop)


class RayCluster(Executor):
    """A Ray cluster.

    Args:
        address: ``HOST:PORT``, or ``auto``: the one that Ray finds (``RAY_ADDRESS``, or one started on this machine).

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """

    shares_disk = False

    def __init__(self, address: str = AUTO) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise InputError("Ray for --ray", "none installed", "pip install 'bitcert[ray]'") from None
        if address != AUTO:
            _check_reachable(address)
        self.address = address

    @contextmanager
    def running(self) -> Iterator[object]:
        """Connected, and disconnected at the end if it was not before."""
        ray = self._ray
        if ray.is_initialized():
            yield self
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises bare ones too
            reason = " ".join(str(error).split())[:200]
            do = "start one with ray start --head and the version of Ray that is installed here, or use --workers"
            raise InputError("a running Ray cluster for --ray", reason, do) from None
        try:
            yield self
        finally:
            ray.shutdown()

    def map(self, task: Task[Part], shards: Sequence[Shard], done: Callable[[int, Part], Kept]) -> list[Kept]:
        """As :meth:`bitcert.shards.Executor.map`."""
        ray = self._ray
        errors = ray.exceptions
        if not ray.is_initialized():
            return finish_here(task, shards, {}, done)
        found: dict[int, Kept] = {}
        pending: dict[Any, int] = {}
        try:
            remote = ray.remote(run_shard).options(num_cpus=1, max_retries=_RETRIES)
            held, version = ray.put(task), metadata.version("bitcert")
            pending = {remote.remote(version, held, *shard): index for index, shard in enumerate(shards)}
            while pending and ray.is_initialized():
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=_LOOK_SECONDS)
                if not ready and not _answers(ray.get_runtime_context().gcs_address):
                    ray.shutdown()  # Ray would end this program when its head has been away for a minute
                for reference in ready:
                    index = pending.pop(reference)
                    for result in self._results(reference):
                        found[index] = done(index, result)
        except errors.RaySystemError:
            pass  # the cluster is gone; what it finished is kept
        except BaseException:
            for reference in pending:
                ray.cancel(reference)
            raise
        return finish_here(task, shards, found, done)

    def _results(self, reference: Any) -> list[Any]:
        """The result; none of a shard whose worker died again and again, which is computed here at the end."""
        errors = self._ray.exceptions
        try:
            return [self._ray.get(reference)]
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ImportError):
                got, do = " ".join(str(cause).split())[:200], "install the same version everywhere"
                raise InputError("bitcert on every worker", got, do) from None
            raise cause if isinstance(cause, BitcertError) else error from None
        except errors.RayError:
            return []


def _check_reachable(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError("HOST:PORT or auto for --ray", repr(address[:100]), "give e.g. 10.0.0.5:6379")
    try:
        _connect(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        got = f"{getattr(error, 'strerror', None) or error}"
        raise InputError(f"a Ray cluster at {address[:100]}", got, "start one there with ray start --head") from None


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), _CONNECT_SECONDS).close()


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _connect(host.strip("[]"), int(port))
    except OSError:
        return False
    return True
