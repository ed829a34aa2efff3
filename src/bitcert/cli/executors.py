"""Where a verb's passes over examples run: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from typer import Option

from bitcert.errors import InputError
from bitcert.ray_cluster import RayCluster
from bitcert.shards import Executor, Here, LocalWorkers


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """How a verb's passes over examples are divided; the counts are the same however they are."""

    workers: Annotated[int | None, Option(help="Processes that share passes over the examples.")] = None
    ray: Annotated[str | None, Option(help="Ray cluster that does: auto or HOST:PORT; see docs/scale.md.")] = None

    def executor(self) -> Executor:
        """The executor.

        Raises:
            InputError: both were given, or it cannot be had.
        """
        if self.workers is not None and self.ray is not None:
            raise InputError("--workers or --ray", "both", "leave out one of them")
        if self.ray is not None:
            return RayCluster(self.ray)
        return Here() if self.workers is None else LocalWorkers(self.workers)


def usable_cores(most: int = 4) -> int:
    """Cores that this process may use, at most ``most``; 1 where processes cannot share memory."""
    affinity = getattr(os, "sched_getaffinity", None)
    return 1 if affinity is None else min(most, len(affinity(0)))
