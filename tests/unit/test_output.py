"""Writing results: the previous complete output or the new one, never half of one, whatever happens when."""

import errno
import math
import os
import signal

import pytest

from bitcert.errors import InputError
from bitcert.output import MEASURE_FILES, OUTPUT_FILES, check_output_folder, remove_folder, write_output
from tests.tools.counted import Lines

NAMES = sorted(OUTPUT_FILES)


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
    with pytest.raises(InputError, match="not a folder"):
        check_output_folder(link)


def test_the_current_folder_is_refused(out, monkeypatch):
    """It would be replaced under the feet of the shell that stands in it."""
    out.mkdir(parents=True)
    monkeypatch.chdir(out)
    for target in (".", "../out"):
        with pytest.raises(InputError, match="the current folder"):
            check_output_folder(type(out)(target))


def test_a_parent_without_permission_is_refused_beforehand(out, monkeypatch):
    write_output(out, version(1))
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != os.fspath(out.parent))
    with pytest.raises(InputError, match="can be written"):
        check_output_folder(out)


class Failing:
    """A function that fails at its n-th call."""

    def __init__(self, function, call, error):
        self.function, self.left, self.error = function, call, error

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.function(*arguments, **options)


STEPS = [("os.rename", n) for n in (1, 2)] + [("os.fsync", n) for n in (1, 2, 3, 4)]
STEPS += [("builtins.open", n) for n in (1, 3)] + [("os.chmod", 1), ("tempfile.mkdtemp", 1)]
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["disk full", "interrupted"])
@pytest.mark.parametrize(
    ("earlier", "name", "call"),
    [(True, *step) for step in STEPS] + [(False, *step) for step in STEPS if step != ("os.rename", 2)],
)
def test_a_failure_at_any_step_leaves_the_previous_output(out, monkeypatch, earlier, name, call, error):
    if earlier:
        write_output(out, version(1))
    out.parent.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        module, _, function = name.rpartition(".")
        failing = Failing(getattr(__import__(module), function), call, error)
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
    with (whole := Killer(math.inf)).counted():
        write_output(out, version(1))
    seen = set()
    for at in range(1, whole.count + 1, max(1, whole.count // 40)):
        write_output(out, version(0))
        child = os.fork()
        if child == 0:
            try:
                with Killer(at).counted():
                    write_output(out, version(1))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or at > 0.9 * whole.count, "the clean-up may take fewer lines at times"
        check_output_folder(out)
        content = found(out)
        assert content in (version(0), version(1)), at
        seen.add(content["message.bin"])
    assert len(seen) == 2, "some were killed before and some after the new version took its place"
    write_output(out, version(-1))
    assert found(out) == version(-1)
    assert all(name.endswith(".partial") for name in litter(out))


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


def test_intermediate_results_are_removed(tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "one").write_text("1")
    for _ in range(2):
        remove_folder(tmp_path / "shards")
        assert not (tmp_path / "shards").exists()
