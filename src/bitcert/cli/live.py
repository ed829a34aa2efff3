"""A search as it goes on: a table on a terminal, a line every few seconds elsewhere, and what Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bitcert import clock
from bitcert.cli.common import progress_lines
from bitcert.report.text import estimated, percent_up
from bitcert.search import Board, Row, Run

LINE_SECONDS = 5.0
REFRESH_PER_SECOND = 2
STOPS = (signal.SIGINT, signal.SIGTERM)
"""Signals that end a search with the best message so far: Ctrl-C, and what a queue or container sends at its limit."""
STOPPING = "Stopping: the best message so far is certified next. Ctrl-C again ends without a result."


class LiveBoard:
    """Shows the states of a search; :meth:`watch` is for the search, :meth:`progress` for its run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live: Live | None = None
        self.board: Board | None = None
        self.task = ""
        self._line = progress_lines(console)
        self._told = -LINE_SECONDS
        self._last = ""

    def watch(self, board: Board) -> None:
        """A new state of the search."""
        if self.board is None and self.live is None:
            names = ", ".join(row.name for row in board.rows if row.state != "too little time")
            self.console.print(f"Trying: {names}.", markup=False, soft_wrap=True)
        self.board = board
        if self.live is not None:
            self.live.update(self._shown())
        elif clock.seconds() - self._told >= LINE_SECONDS:
            self.tell()

    def progress(self, task: str, fraction: float) -> None:
        """What is being done just now."""
        self.task = f"{task} {fraction:.0%}"
        if self.live is None:
            self._line(task, fraction)
        elif self.board is not None:
            self.live.update(self._shown())

    def tell(self) -> None:
        """Time, its limit and the best so far as a line, unless it was told already."""
        if self.board is None or self.board.best is None:
            return
        best = self.board.best
        line = f"{best.name}, {best.message_bits:,} bits, {best.errors:,} errors, bound {_bound(best)}"
        if line != self._last:
            time = f"{self.board.seconds:6.0f} of {self.board.budget_seconds:.0f} s"
            self.console.print(f"{time}  best so far: {line}", markup=False, soft_wrap=True)
        self._last, self._told = line, clock.seconds()

    def _shown(self) -> Table:
        assert self.board is not None
        board, best = self.board, self.board.best
        title = f"{board.seconds:.0f} of {max(board.seconds, board.budget_seconds):.0f} s"
        table = Table(title=title, caption=self.task, title_justify="left", caption_justify="left")
        table.add_column("contender")
        for name in ("bits", "errors", "bound", "seconds"):
            table.add_column(name, justify="right")
        table.add_column("state")
        for row in board.rows:
            cells = [row.name, _count(row.message_bits), _count(row.errors), _bound(row), f"{row.seconds:.0f}"]
            table.add_row(*map(Text, [*cells, row.state]), style=_style(row, best))
        return table


def _style(row: Row, best: Row | None) -> str:
    if best is not None and row.name == best.name:
        return "bold green"
    return "" if row.state == "running" else "dim"


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _bound(row: Row) -> str:
    return "" if row.bound is None else estimated(percent_up(row.bound), row.estimated)


@contextmanager
def live_board(console: Console) -> Iterator[LiveBoard]:
    """The display for one search; nothing of the table stays when it ends."""
    shown = LiveBoard(console)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=REFRESH_PER_SECOND, transient=True) as live:
            shown.live = live
            yield shown
        shown.live = None
    else:
        yield shown
    shown.tell()


@contextmanager
def stopped_by_interrupt(run: Run, console: Console) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) stops the run, which then gives its best message; a second one ends the program."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        for each in STOPS:
            signal.signal(each, signal.default_int_handler)
        run.stop()
        console.print(STOPPING, soft_wrap=True)

    for number in STOPS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
