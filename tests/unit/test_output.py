"""Writing results: the previous complete output or the new one, never half of one, whatever happens when."""

import contextlib
import errno
import importlib
import math
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from bitcert.errors import InputError
from bitcert.folder import MEASURE_FILES, OUTPUT_FILES, check_output_folder, write_output
from tests.tools.counted import Lines

NAMES = sorted(OUTPUT_FILES)
os_mkdir = os.mkdir


def version(number):
    """A complete output whose files all carry their version."""
    return {name: f"{name} {number} ".encode() * 500 for name in NAMES}


def found(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def litter(folder):
    """What lies beside the output."""
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "work" / "out"


def test_files_are_written_into_folders_that_do_not_exist_yet(out):
    write_output(out, version(1))
    assert found(out) == version(1)
    assert litter(out) == []
    assert out.stat().st_mode & 0o777 == 0o755


def test_the_previous_output_is_replaced_as_a_whole(out):
    write_output(out, version(1))
    smaller = {"message.bin": b"2", "certificate.json": b"2"}
    write_output(out, smaller)
    assert found(out) == smaller
    assert litter(out) == []


def test_an_empty_folder_is_used(out):
    out.mkdir(parents=True)
    write_output(out, version(1))
    assert found(out) == version(1)


def test_a_relative_path(out, monkeypatch):
    out.parent.mkdir(parents=True)
    monkeypatch.chdir(out.parent)
    write_output(type(out)("out"), version(1))
    assert found(out) == version(1)


@pytest.mark.parametrize("name", ["thesis.tex", ".hidden", "message.bin.bak", "certificate.jsonx"])
def test_foreign_files_are_refused_and_kept(out, name):
    write_output(out, version(1))
    (out / name).write_text("mine")
    with pytest.raises(InputError, match=name):
        write_output(out, version(2))
    assert found(out) == {**version(1), name: b"mine"}
    assert litter(out) == []


def test_a_file_a_link_or_a_file_above_is_refused(out, tmp_path):
    out.parent.mkdir()
    out.write_text("mine")
    for target in (out, out / "below" / "it"):
        with pytest.raises(InputError, match="choose another --out"):
            check_output_folder(target)
    assert out.read_text() == "mine"
    link = tmp_path / "link"
    (tmp_path / "real").mkdir()
    link.symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="which is a link"):
        check_output_folder(link)


def test_the_current_folder_is_refused(out, monkeypatch):
    """It would be replaced under the feet of the shell that stands in it."""
    out.mkdir(parents=True)
    monkeypatch.chdir(out)
    for target in (".", "../out"):
        with pytest.raises(InputError, match="the current folder"):
            check_output_folder(type(out)(target))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a file system that makes no files")
def test_a_file_system_that_makes_no_files_is_refused_beforehand():
    with pytest.raises(InputError, match="can be written"):
        check_output_folder(Path("/proc/x"))


def test_a_parent_without_permission_is_refused_beforehand(out, monkeypatch):
    write_output(out, version(1))
    monkeypatch.setattr("tempfile.TemporaryFile", Failing(None, 1, PermissionError))
    with pytest.raises(InputError, match="can be written"):
        check_output_folder(out)


class Failing:
    """A function that fails at its n-th call; of folders made, only the new output's counts."""

    def __init__(self, function, call, error):
        self.function, self.left, self.error = function, call, error

    def __call__(self, *arguments, **options):
        self.left -= self.function is not os_mkdir or str(arguments[0]).endswith(".partial")
        if self.left == 0:
            raise self.error
        return self.function(*arguments, **options)


STEPS = [("os.fsync", n) for n in (1, 2, 3, 4)] + [("builtins.open", n) for n in (1, 3)] + [("os.mkdir", 1)]
FULL = OSError(errno.ENOSPC, "No space left on device")
CASES = [
    *[(True, True, *step) for step in [*STEPS, ("bitcert.folder._exchanged", 1)]],
    *[(True, False, *step) for step in [*STEPS, ("os.rename", 1), ("os.rename", 2)]],
    *[(False, True, *step) for step in [*STEPS, ("os.rename", 1)]],
]


@pytest.fixture
def renames(monkeypatch):
    """A system that cannot exchange two names in one step."""
    monkeypatch.setattr("bitcert.folder._exchanged", lambda one, other: False)


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["disk full", "interrupted"])
@pytest.mark.parametrize(("earlier", "exchange", "name", "call"), CASES)
def test_a_failure_at_any_step_leaves_the_previous_output(
    out, monkeypatch, request, earlier, exchange, name, call, error
):
    if not exchange:
        request.getfixturevalue("renames")
    if earlier:
        write_output(out, version(1))
    out.parent.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        module, _, function = name.rpartition(".")
        failing = Failing(getattr(importlib.import_module(module), function), call, error)
        patch.setattr(name, failing)
        with pytest.raises(type(error)):
            write_output(out, version(2))
    assert failing.left <= 0, "the step was reached"
    if earlier:
        assert found(out) == version(1)
    else:
        assert not out.exists()
    assert litter(out) == []
    write_output(out, version(3))
    assert found(out) == version(3)
    assert litter(out) == []


def test_a_swap_cut_short_is_repaired(out):
    """Killed between the two renames: the previous output is under another name, the new one is lost."""
    write_output(out, version(1))
    out.rename(out.with_name(".out.previous"))
    check_output_folder(out)
    assert found(out) == version(1)
    assert litter(out) == []


def test_a_swap_cut_short_at_its_end_is_cleaned_by_the_next(out):
    write_output(out, version(1))
    out.rename(out.with_name(".out.previous"))
    out.with_name(".out.next").mkdir()
    out.with_name(".out.next").rename(out)
    (out / "message.bin").write_bytes(b"2")
    check_output_folder(out)
    assert found(out) == {"message.bin": b"2"}
    write_output(out, version(3))
    assert found(out) == version(3)
    assert litter(out) == []


def test_without_exchange_there_is_one_output_too(out, renames):
    for number in (1, 2, 3):
        write_output(out, version(number))
        assert found(out) == version(number)
        assert litter(out) == []


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the system cannot exchange two names")
def test_the_previous_output_is_exchanged_in_one_step(out, monkeypatch):
    """No moment without an output: nothing is renamed once there is one."""
    write_output(out, version(1))

    def refused(*arguments):
        raise AssertionError("a rename, before or after which there is no output")

    monkeypatch.setattr(os, "rename", refused)
    write_output(out, version(2))
    assert found(out) == version(2)


@pytest.mark.parametrize("make", ["folder", "link", "dangling link"])
def test_one_of_our_names_that_is_no_file_is_refused_and_kept(out, tmp_path, make):
    write_output(out, {"message.bin": b"1"})
    mine = out / "report.html"
    if make == "folder":
        mine.mkdir()
        (mine / "thesis.tex").write_text("mine")
    else:
        (tmp_path / "thesis.tex").write_text("mine")
        mine.symlink_to(tmp_path / ("thesis.tex" if make == "link" else "gone"))
    for refused in (lambda: check_output_folder(out), lambda: write_output(out, version(2))):
        with pytest.raises(InputError, match=r"'report\.html' in it, which is not a file"):
            refused()
    assert {path.name for path in out.iterdir()} == {"message.bin", "report.html"}
    assert (mine.is_dir() and (mine / "thesis.tex").exists()) or mine.is_symlink()
    assert litter(out) == []


@pytest.mark.parametrize("exchange", [True, False])
def test_what_came_into_the_folder_meanwhile_is_kept(out, monkeypatch, exchange):
    """After the check and before the exchange."""
    write_output(out, version(1))
    exchanged = importlib.import_module("bitcert.folder")._exchanged

    def late(one, other):
        if not exchange or found(other) == version(1):
            (out / "thesis.tex").write_text("mine")
        return exchange and exchanged(one, other)

    monkeypatch.setattr("bitcert.folder._exchanged", late)
    with pytest.raises(InputError, match=r"thesis\.tex"):
        write_output(out, version(2))
    assert found(out) == {**version(1), "thesis.tex": b"mine"}
    assert litter(out) == []


def test_a_hidden_folder_of_somebody_else_is_refused_and_kept(out):
    write_output(out, version(1))
    hidden = out.with_name(".out.partial")
    hidden.mkdir()
    (hidden / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"\.out\.partial"):
        write_output(out, version(2))
    assert (hidden / "thesis.tex").exists()
    assert found(out) == version(1)


def write_for_ever(out, first, ready):
    """In a child process: output after output until it is killed; never returns."""
    for number in range(first, first + 10_000):
        write_output(out, version(number))
        os.write(ready, b".")


@pytest.fixture
def started():
    """``started(function, ...)``: a child process that runs it and ends without tidying up; none outlives the test."""
    children = []

    def start(function, *arguments):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                function(*arguments)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
        return child

    yield start
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@pytest.mark.parametrize("exchange", [True, False])
def test_killed_at_any_moment(out, request, exchange, started):
    """What a killed writer leaves is always one complete version."""
    if not exchange:
        request.getfixturevalue("renames")
    write_output(out, version(0))
    rng = random.Random(0)
    for attempt in range(1, 16):
        reader, writer = os.pipe()
        child = started(write_for_ever, out, attempt * 10_000, writer)
        os.close(writer)
        for _ in range(rng.randint(1, 3)):
            assert os.read(reader, 1) == b".", "the child failed"
        for _ in range(rng.randint(0, 4000)):
            pass  # somewhere between two outputs
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        check_output_folder(out)
        content = found(out)
        number = int(content["message.bin"].split()[1])
        assert content == version(number)
        assert number >= attempt * 10_000
    write_output(out, version(-1))
    assert found(out) == version(-1)
    assert litter(out) == [], "the dead left something, the next writer cleaned it up"


def test_what_a_living_writer_has_begun_is_left_alone(out, started):
    """Another process that writes to the same place waits, instead of deleting what the first one is writing."""
    reader, writer = os.pipe()
    tell, told = os.pipe()

    def slow():
        fsync = os.fsync

        def wait(descriptor):
            os.write(writer, b".")
            os.read(tell, 1)
            fsync(descriptor)

        os.fsync = wait
        write_output(out, {"message.bin": b"slow"})

    out.parent.mkdir()
    first = started(slow)
    assert os.read(reader, 1) == b"."
    second = started(write_output, out, {"message.bin": b"quick"})
    assert os.waitpid(second, os.WNOHANG) == (0, 0)
    assert (out.with_name(".out.partial") / "message.bin").exists()
    os.write(told, b".")
    assert os.waitpid(first, 0)[1] == 0
    assert os.waitpid(second, 0)[1] == 0
    assert found(out) == {"message.bin": b"quick"}
    assert litter(out) == []


def write_many(out, number):
    for _ in range(60):
        write_output(out, version(number))


def read_whole(out):
    """One version of the output through an open folder, and whether it was still in place at the end."""
    folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        content = {}
        for name in os.listdir(folder):
            with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
                content[name] = file.read()
        return content, os.path.samestat(os.fstat(folder), os.stat(out))
    except FileNotFoundError:
        return {}, False  # it was replaced while it was read
    finally:
        os.close(folder)


def read_many(out, numbers):
    """Until every writer was seen or enough was read: by path it is always there, and never half."""
    versions, whole = [version(number) for number in numbers], 0
    for _ in range(3000):
        assert (out / "message.bin").read_bytes() in [each["message.bin"] for each in versions]
        content, unchanged = read_whole(out)
        if unchanged:
            assert content in versions
            whole += 1
    assert whole, "nothing was ever read undisturbed"


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="the system cannot exchange two names")
def test_several_writers_and_a_reader(out, started):
    write_output(out, version(0))
    writers = [started(write_many, out, number) for number in (1, 2, 3)]
    reader = started(read_many, out, (0, 1, 2, 3))
    for child in (*writers, reader):
        assert os.waitpid(child, 0)[1] == 0, "a writer or the reader failed"
    assert litter(out) == []


def test_writers_without_exchange(out, renames, started):
    writers = [started(write_many, out, number) for number in (1, 2)]
    assert [os.waitpid(child, 0)[1] for child in writers] == [0, 0]
    assert found(out) in (version(1), version(2))
    assert litter(out) == []


def test_a_writer_who_looks_between_two_renames_of_another(out, monkeypatch):
    """The target was there at the first look and is not at the second."""
    write_output(out, version(1))
    scandir = os.scandir

    def renamed(folder):
        if folder == out and not out.with_name("aside").exists():
            os.rename(out, out.with_name("aside"))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", renamed)
    write_output(out, version(2))
    assert found(out) == version(2)


def test_a_folder_of_the_other_verb_is_refused_and_kept(out):
    write_output(out, {"profile.json": b"1", "report.html": b"1"}, MEASURE_FILES)
    with pytest.raises(InputError, match=r"'profile\.json' in it, the result of another command"):
        write_output(out, version(1))
    assert set(found(out)) == {"profile.json", "report.html"}
    write_output(out, {"profile.json": b"2"}, MEASURE_FILES)
    assert found(out) == {"profile.json": b"2"}
    write_output(out.with_name("proved"), version(1))
    with pytest.raises(InputError, match="the result of another command"):
        check_output_folder(out.with_name("proved"), MEASURE_FILES)


class Killer(Lines):
    """Counts every executed line, the standard library's too, and kills its process at one of them."""

    def __init__(self, at: float) -> None:
        super().__init__("")
        self.last = at

    def at(self, count: int) -> None:
        if count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_at_any_line(out):
    """What a killed writer leaves is always one complete version."""
    write_output(out, version(0))
    reader, writer = os.pipe()
    if os.fork() == 0:  # counted in a child as well: locks are taken anew after a fork, in more lines
        with (whole := Killer(math.inf)).counted():
            write_output(out, version(1))
        os.write(writer, f"{whole.count}".encode())
        os._exit(0)
    lines = int(os.read(reader, 20))
    os.wait()
    seen = set()
    for at in range(1, lines + 1, max(1, lines // 40)):
        write_output(out, version(0))
        child = os.fork()
        if child == 0:
            try:
                with Killer(at).counted():
                    write_output(out, version(1))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or at > 0.9 * lines, "the clean-up may take fewer lines at times"
        check_output_folder(out)
        content = found(out)
        assert content in (version(0), version(1)), at
        seen.add(content["message.bin"])
    assert len(seen) == 2, "some were killed before and some after the new version took its place"
    write_output(out, version(-1))
    assert found(out) == version(-1)
    assert litter(out) == [], "the dead left something, the next writer cleaned it up"
