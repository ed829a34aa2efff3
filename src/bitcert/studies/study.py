"""One study: a table or figure of a paper, what it needs, and the function that carries it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitcert.studies.context import Context
from bitcert.studies.result import Outcome, Size


@dataclass(frozen=True)
class Cost:
    """What a study takes at one size, roughly: seconds on two cores, MiB of memory and of disk."""

    seconds: float
    memory: int = 1_000
    disk: int = 50


@dataclass(frozen=True, eq=False)
class Study:
    """A table or figure of a paper.

    Attributes:
        name: paper and item, e.g. ``arora2018.table1``.
        title: what it shows, in one line.
        printed: what the paper prints, and where.
        costs: of quick, default and full, in that order.
        run: the function; what it returns must depend on the context's size, seed and data alone.
        needs: built-in data sets, or folders beside them such as ``pretrained``.
    """

    name: str
    title: str
    printed: str
    costs: tuple[Cost, Cost, Cost]
    run: Callable[[Context], Outcome]
    needs: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        """The part before the dot."""
        return self.name.partition(".")[0]

    def cost(self, size: Size) -> Cost:
        """At this size."""
        return self.costs[list(Size).index(size)]
