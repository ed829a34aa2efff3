"""The process of ``mutation.py`` that is forked once for every mutant.

    python benchmarks/mutation_worker.py warm|cold JOB...      a JOB: SOURCE DONE TEST,TEST,...

Warm: the tests are collected and have been run once; changes inside functions, and those of constants that a test
notices. Cold: nothing of bitcert is imported yet; the other changes of what importing computes. Outcomes are appended
to DONE, a line a mutant: ``failed`` (a test noticed), ``endless`` (cut off by a count or by computing time),
``crashed`` (the interpreter), or ``survived``.
"""

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import importlib.machinery
import json
import math
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from hypothesis import Phase, settings
from mutants import Module, Mutant
from mutation_constants import set_constants

PATIENCE = 20
"""A test may take this many times the rounds of the module's loops that it takes unchanged, and then some."""
SLACK_ROUNDS = 100_000
SLOWEST = 4.0
"""Seconds of computing, slowed down by looking at every line, above which a test is left out.

So is a test that waits for another process: the change is not made there.
"""
CPU_SECONDS = 120
MEMORY = 3 << 30
STUCK_SECONDS = 3600
SURVIVED, FAILED, ENDLESS, NOT_SWAPPED = 0, 11, 12, 13
UNSURE = ("survived", "not swapped")
NAMES = {SURVIVED: "survived", FAILED: "failed", ENDLESS: "endless", NOT_SWAPPED: "not swapped"}
LIBRARIES = ("hypothesis.extra.numpy", "mpmath", "scipy.optimize", "scipy.special", "scipy.stats", "sklearn.datasets")
LIBRARIES += ("PIL.Image", "constriction", "networkx", "safetensors.torch", "scipy.linalg", "torch.export")
"""What a cold process imports before it is forked."""
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", "--assert=plain", "--tb=native"]
OPTIONS += ["--hypothesis-profile", "mutation"]


class Job:
    """A module, its tests, and the file of its outcomes."""

    def __init__(self, text: str) -> None:
        source, done, tests = text.split("\t")
        self.path, self.done, self.tests = source, Path(done), tests.split(",")
        self.module = Module(Path(source).read_text(), source)
        lines = self.done.read_text().splitlines() if self.done.exists() else []
        keys = {tuple(json.loads(line)["key"]) for line in lines}
        self.left = [mutant for mutant in self.module.mutants if mutant.key not in keys]

    def add(self, mutant: Mutant, outcome: str) -> None:
        """Note an outcome at once, so that an interrupted run goes on."""
        with self.done.open("a") as file:
            file.write(json.dumps({"key": mutant.key, "outcome": outcome}) + "\n")

    @property
    def order(self) -> Path:
        """Where the warm process leaves the order of the tests for the cold one."""
        return self.done.with_suffix(".tests")

    def has(self, test: str) -> bool:
        """Whether pytest's name of a test is one of the module's tests."""
        return is_among(test, self.tests)


def is_among(test: str, parts: list[str]) -> bool:
    """Whether pytest's name of a test is one of these files, folders and tests."""
    return any(test.startswith((f"{part}::", f"{part}/", f"{part}[")) or test == part for part in parts)


@dataclass
class Known:
    """What the first, unchanged run of a test found, by file of bitcert."""

    seconds: float = 0.0
    num_rounds: int = 0
    is_cut: bool = False
    lines: dict[str, set[int]] = field(default_factory=dict)


class TooSlow(BaseException):
    """Ends the unchanged run of a test that will be left out."""


class Rounds:
    """Counts the rounds of the loops of the modules at hand; a fork ends after too many."""

    def __init__(self) -> None:
        self.count, self.most = 0, sys.maxsize
        builtins.__tick__ = self.tick

    def tick(self) -> None:
        """One round."""
        self.count += 1
        if self.count > self.most:
            os._exit(ENDLESS)


def forked(work: Callable[[], int], quiet: bool = True, seconds: int = CPU_SECONDS) -> str:
    """The outcome of ``work`` in a fork that is limited in time and memory."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            signal.alarm(STUCK_SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            for number in (1, 2) if quiet else ():
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            code = work()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        assert number != signal.SIGALRM, "a fork that waits for ever"
        return "endless" if number in (signal.SIGXCPU, signal.SIGKILL) else "crashed"
    return NAMES[os.WEXITSTATUS(status)]


def seconds_of_children() -> float:
    """What processes that were waited for have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clear_caches() -> None:
    """Forget what bitcert's functions remember: a changed one would never be called."""
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "bitcert"]
    held = [value for module in modules for value in vars(module).values()]
    held += [value for owner in held if isinstance(owner, type) for value in vars(owner).values()]
    for value in held:
        if type(value) is functools._lru_cache_wrapper:
            value.cache_clear()


def nested(code: CodeType) -> Iterator[CodeType]:
    """A code object and all inside it, in order."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def functions_of(path: str) -> list[FunctionType]:
    """All functions made from this file, wherever they are held."""
    return [held for held in gc.get_objects() if type(held) is FunctionType and held.__code__.co_filename == path]


def swapped(functions: list[FunctionType], before: CodeType, after: CodeType) -> bool:
    """Give the functions their new code; false where that cannot be done."""
    old, new = list(nested(before)), list(nested(after))
    if len(old) != len(new):
        return False
    changes = {code: changed for code, changed in zip(old, new, strict=True) if code != changed}
    found = not changes
    for function in functions:
        if (changed := changes.get(function.__code__)) is not None:
            if len(changed.co_freevars) != len(function.__code__.co_freevars):
                return False
            function.__code__ = changed
            found = True
    return found


class Warm:
    """The plugin that runs in place of pytest's loop."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        self.known: dict[str, Known] = {}
        self.items: dict[str, pytest.Item] = {}
        self.globs: dict[str, dict[str, object]] = {}
        self.functions: dict[str, list[FunctionType]] = {}
        self.rounds = Rounds()
        self.is_called = False

    def pytest_runtest_call(self) -> None:
        """The fixtures of a test are ready."""
        self.is_called = True

    def pytest_runtest_teardown(self) -> None:
        """The test has ended."""
        self.is_called = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """The unchanged run of every test, then the mutants."""
        self.items = {item.nodeid: item for item in session.items}
        assert len(self.items) == len(session.items)
        for job in self.jobs:
            plain = compile(Path(job.path).read_text(), job.path, "exec", dont_inherit=True)
            self.functions[job.path] = functions_of(job.path)
            assert swapped(self.functions[job.path], plain, job.module.code())
        for k, item in enumerate(session.items):
            self.learn(item, session.items[min(k + 1, len(session.items) - 1)])
        self.share_setups()
        gc.freeze()  # a fork copies no page only because the collector looked at it
        for job in self.jobs:
            self.work(job)
        return True

    def work(self, job: Job) -> None:
        """All mutants of one module that are inside functions, and constants that a test misses."""
        before, functions = job.module.code(), self.functions[job.path]
        items = self.quick(job)
        own = [item.nodeid for item in items if self.known[item.nodeid].lines.get(job.path)]
        job.order.write_text(json.dumps(own or [item.nodeid for item in items]))
        unchanged = forked(lambda: self.tried(items, lambda: True, True), False)
        assert unchanged == "survived", "the tests fail in a fork"
        for mutant in [mutant for mutant in job.left if mutant.runs]:
            items = self.quick(job, range(mutant.line, mutant.last_line + 1))
            after = job.module.code(mutant)
            swap = functools.partial(swapped, functions, before, after)
            # at first they were slowed down by looking at every line
            seconds = min(CPU_SECONDS, 10 + math.ceil(1.5 * sum(self.known[item.nodeid].seconds for item in items)))
            outcome = forked(functools.partial(self.tried, items, swap), True, seconds) if items else "survived"
            if outcome != "not swapped":
                job.add(mutant, outcome)
        texts = "".join(Path(file).read_text() for file in {test.split("::")[0] for test in job.tests} - {job.path})
        for mutant in [mutant for mutant in job.left if not mutant.runs]:
            change = functools.partial(set_constants, job.path, job.module.code(mutant), texts)
            if (outcome := forked(functools.partial(self.tried, self.quick(job), change))) not in UNSURE:
                job.add(mutant, outcome)

    def learn(self, item: pytest.Item, following: pytest.Item) -> None:
        """Run a test unchanged; fixtures of the session stay alive."""
        from tests.tools.counted import Lines

        known = self.known[item.nodeid] = Known()

        class Seen(Lines):
            def enter(seen, frame, event: str, argument: object):
                if time.process_time() - started < SLOWEST:
                    return super().enter(frame, event, argument)
                if self.is_called and not known.is_cut:
                    known.is_cut = True  # it is left out: what else it does is not of interest
                    raise TooSlow
                return None

            def line(self, frame, event: str, argument: object):
                if event == "line":
                    path = frame.f_code.co_filename
                    known.lines.setdefault(path, set()).add(frame.f_lineno)
                return self.line

        if hasattr(item, "dtest"):
            self.globs[item.nodeid] = dict(item.dtest.globs)
        clear_caches()
        started, others, self.rounds.count = time.process_time(), seconds_of_children(), 0
        with Seen().counted():
            reports = self.reports(item, following)
        known.seconds, known.num_rounds = time.process_time() - started, self.rounds.count
        if seconds_of_children() > others:
            known.seconds = math.inf
        if any(report.failed for report in reports) and not known.is_cut:
            raise SystemExit(f"{item.nodeid} fails without any change:\n{reports[-1].longreprtext}")

    def reports(self, item: pytest.Item, following: pytest.Item | None) -> list[pytest.TestReport]:
        """Run one test."""
        from _pytest.runner import runtestprotocol

        if hasattr(item, "dtest"):
            item.dtest.globs = dict(self.globs[item.nodeid])  # a run empties them
        return runtestprotocol(item, nextitem=following, log=False)

    def share_setups(self) -> None:
        """The first test of a file pays for the file's fixtures; in a fork each test is the first one."""
        first: dict[str, Known] = {}
        for name, known in self.known.items():
            for path, lines in first.setdefault(name.split("::")[0], known).lines.items():
                known.lines[path] = known.lines.get(path, set()) | lines

    def quick(self, job: Job, lines: range | None = None) -> list[pytest.Item]:
        """Tests that are fast enough (and execute one of these lines), the quickest files first."""
        names = [name for name, known in self.known.items() if known.seconds < SLOWEST and job.has(name)]
        if lines is not None:
            names = [name for name in names if not self.known[name].lines.get(job.path, set()).isdisjoint(lines)]
        of_file: Counter[str] = Counter()
        for name in names:
            of_file[name.split("::")[0]] += self.known[name].seconds
        names.sort(key=lambda name: (of_file[name.split("::")[0]], name.split("::")[0], self.known[name].seconds))
        return [self.items[name] for name in names]

    def tried(self, items: list[pytest.Item], swap: Callable[[], bool], tell: bool = False) -> int:
        """In a fork: change the module and run the tests until one fails."""
        clear_caches()
        if not swap():
            return NOT_SWAPPED
        # what its file shares is kept, but not the test itself: it may be the one that ran last
        items[0].session._setupstate.teardown_exact(items[0].parent)  # type: ignore[arg-type]
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.rounds.count, self.rounds.most = 0, PATIENCE * self.known[item.nodeid].num_rounds + SLACK_ROUNDS
            reports = self.reports(item, following)
            if failures := [report for report in reports if report.failed]:
                if tell:
                    os.write(2, f"{item.nodeid}\n{failures[0].longreprtext}\n".encode())
                return FAILED
        return SURVIVED


def warm(jobs: list[Job]) -> None:
    """Mutants inside functions."""
    tests = sorted({test for job in jobs for test in job.tests})
    code = pytest.main([*OPTIONS, *tests], plugins=[Warm(jobs)])
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"pytest ended with {code!r}")


class Ordered:
    """Keeps the fast tests in the order that the warm process found best."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The order of the tests."""
        found = {item.nodeid: item for item in items}
        items[:] = [found[name] for name in self.names]


def cold(jobs: list[Job]) -> None:
    """Mutants of what importing computes."""
    for name in LIBRARIES:
        importlib.import_module(name)
    torch = importlib.import_module("torch")
    # what tracing a network for the first time imports takes longer than most tests
    torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),), strict=False)
    assert not any(name.split(".")[0] == "bitcert" for name in sys.modules)
    for job in jobs:
        names = json.loads(job.order.read_text())
        # mostly a test of the module's own file notices, and the others need not be imported
        parts = [part for part in (job.tests[:1], job.tests[1:]) if any(is_among(name, part) for name in names)]

        def tried(code: CodeType, tests: list[str], job: Job = job, names: list[str] = names) -> int:
            found = importlib.machinery.SourceFileLoader.get_code

            def get_code(self, name: str) -> Any:
                return code if self.path == job.path else found(self, name)

            importlib.machinery.SourceFileLoader.get_code = get_code
            Rounds().most = 1000 * SLACK_ROUNDS
            plugin = Ordered([name for name in names if is_among(name, tests)])
            result = pytest.main([*OPTIONS, "-x", *tests], plugins=[plugin])
            return SURVIVED if result == pytest.ExitCode.OK else FAILED

        for tests in parts if job.left else ():
            unchanged = forked(functools.partial(tried, job.module.code(), tests), False)
            assert unchanged == "survived", "the tests fail in a fork"
        for mutant in job.left:
            outcomes = (forked(functools.partial(tried, job.module.code(mutant), tests)) for tests in parts)
            job.add(mutant, next((outcome for outcome in outcomes if outcome != "survived"), "survived"))


def main() -> None:
    """See the module."""
    # a failure is all that is asked for, not the smallest one
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutation", derandomize=True, database=None, deadline=None, phases=phases)
    kind, *texts = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    # a fork of a process whose tests have started threads waits for them for ever
    importlib.import_module("torch").set_num_threads = lambda count: None
    jobs = [job for job in map(Job, texts) if job.left]
    if jobs:
        (warm if kind == "warm" else cold)(jobs)


if __name__ == "__main__":
    main()
