"""What a test may cost, in counts: no test looks at the time of day, and none depends on how busy the machine is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

import bitcert

PACKAGE = str(Path(bitcert.__file__).parent)
CPU_SECONDS = 120
"""A net below work that executes no line of ours (one endless regular expression): the process's own time counts."""


class Lines:
    """Counts executed lines of frames whose file starts with ``where``; ``at(n)`` is called at every one."""

    def __init__(self, where: str = PACKAGE) -> None:
        self.where, self.count = where, 0

    def at(self, count: int) -> None:
        """Called with the number of each line."""

    def enter(self, frame: FrameType, event: str, argument: object):
        return self.line if frame.f_code.co_filename.startswith(self.where) else None

    def line(self, frame: FrameType, event: str, argument: object):
        if event == "line":
            self.count += 1
            self.at(self.count)
        return self.line

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self.enter)
        try:
            yield
        finally:
            sys.settrace(before)


class _Limited(Lines):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def line(self, frame: FrameType, event: str, argument: object):
        """As the base class's, in one call a line: a check of a certificate runs through tens of thousands."""
        if event == "line":
            self.count += 1
            if self.count > self.most:
                pytest.fail(f"more than {self.most:,} lines were executed")
        return self.line


@contextmanager
def at_most(lines: int) -> Iterator[Lines]:
    """Fail as soon as the block has executed more than so many lines of bitcert."""

    def too_long(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"more than {CPU_SECONDS} seconds of computing")

    counter = _Limited(lines)
    handler = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        with counter.counted():
            yield counter
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
