"""Writing results so that a killed process leaves the previous complete output or none, never half of one.

All files are written into a new folder beside the target, which then takes its place: by one exchange of the two names
where the system has that (Linux, macOS), so that whoever looks finds one complete output at any moment; else by two
renames, between which there is none. One process at a time writes to a target (:mod:`bitcert.locking`). A folder that
holds anything else than bitcert's own files is refused, because replacing it would delete that.

Finished rows of a long table are kept as they come (:class:`RowStore`), so that an interrupted run goes on from them.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from bitcert.canonical import FormatProblem, decode, encode, parse
from bitcert.errors import DecodeError, InputError
from bitcert.locking import locked, replacing

T = TypeVar("T")

OUTPUT_FILES = frozenset({"message.bin", "certificate.json", "report.html", "architecture.json", "helper.safetensors"})
"""What ``bitcert certify`` writes."""

MEASURE_FILES = frozenset(
    {
        *("profile.json", "profile.npz", "report.html", "attenuation.svg", "cushions.svg", "distributions.svg"),
        *("spectra.svg", "margins.svg", "effective-parameters.svg"),
    }
)
"""What ``bitcert measure`` writes; neither verb replaces the other's folder."""

COMPRESS_FILES = frozenset({"message.bin", "architecture.json", "helper.safetensors", "compression.json"})
"""What ``bitcert compress`` writes."""

COMPARE_FILES = frozenset({"comparison.json", "comparison.svg", "report.html"})
"""What ``bitcert compare`` writes."""

BOUNDS_FILES = frozenset({"bounds.json", "report.html", "bounds.svg", "effective-parameters.svg"})
"""What ``bitcert bounds`` writes of one network."""

SERIES_FILES = frozenset({"series.json", "series.svg", "report.html"})
"""What ``bitcert bounds --series`` writes."""

HUB_FILES = OUTPUT_FILES - {"report.html"} | {"README.md", "model.safetensors"}
"""What ``bitcert export --to hub`` writes: a folder that a model hub takes."""

SURVEY_FILES = frozenset(
    {"survey.json", "survey.csv", "correlations.csv", "report.html", "scatter.svg", "correlations.svg"}
)
"""What ``bitcert survey`` writes."""

STUDY_FILES = frozenset(
    {
        *("result.json", "table.md", "table.csv", "report.html", "figure.svg"),
        *(f"figure-{number}.svg" for number in range(2, 10)),
    }
)
"""What ``bitcert study`` writes of one study."""

RANDOMISE_FILES = frozenset({"randomised.json"})
"""What ``bitcert randomise`` writes."""

_ALL_FILES = frozenset().union(
    *(OUTPUT_FILES, MEASURE_FILES, COMPRESS_FILES, COMPARE_FILES, BOUNDS_FILES, SERIES_FILES, STUDY_FILES),
    *(RANDOMISE_FILES, HUB_FILES, SURVEY_FILES),
)
ROWS_FILE = "rows.jsonl"
_ADVICE = "choose another --out"
_THIS_FOLDER, _EXCHANGE = -100, 2
"""AT_FDCWD, and RENAME_EXCHANGE of Linux, which is RENAME_SWAP of macOS."""


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def check_output_folder(target: Path, allowed: Set[str] = OUTPUT_FILES) -> None:
    """Refuse, before any work, a target that could not be replaced; repair one whose replacement was cut short.

    Args:
        target: the folder.
        allowed: names of the files that the verb itself writes, and may thus replace.

    Raises:
        InputError: when the target is a file, holds what is not bitcert's, or cannot be written.
    """
    target = Path(os.path.abspath(target))
    if not target.exists() and _previous(target).is_dir():
        with locked(target):
            _repair(target)
    _check(target, allowed)


def _repair(target: Path) -> None:
    """Put the previous output back, if a process was killed between two renames."""
    if _previous(target).is_dir() and not target.exists():
        os.rename(_previous(target), target)


def _check(target: Path, allowed: Set[str]) -> None:
    if target in (Path.cwd(), target.parent):
        got = f"{target}, the {'root' if target == target.parent else 'current'} folder"
        raise InputError("a folder that can be replaced", got, _ADVICE)
    if target.is_symlink():
        raise InputError("a folder to write results into", f"{target}, which is a link", _ADVICE)
    with suppress(FileNotFoundError):  # nothing there, or between two renames of another process
        _refuse_foreign(target, target, allowed)
    parent = next(p for p in target.parents if p.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise InputError("a folder that can be written", str(target), _ADVICE) from error


def _refuse_foreign(folder: Path, target: Path, allowed: Set[str]) -> None:
    """Refuse a folder with anything in it but regular files of the allowed names, and what is no folder."""
    try:
        entries = list(os.scandir(folder))
    except NotADirectoryError:
        if not folder.exists():
            return  # below a file
        raise InputError("a folder to write results into", f"{target}, which is not a folder", _ADVICE) from None
    foreign = sorted(
        entry.name for entry in entries if entry.name not in allowed or not entry.is_file(follow_symlinks=False)
    )
    if foreign:
        whose = ", the result of another command" if foreign[0] in _ALL_FILES - allowed else ""
        whose = ", which is not a file" if foreign[0] in allowed else whose
        got = f"{target} with {foreign[0]!r} in it{whose}"
        raise InputError("an empty folder or an earlier result", got, _ADVICE)


def write_output(target: Path, files: Mapping[str, bytes], allowed: Set[str] = OUTPUT_FILES) -> None:
    """Make ``target`` a folder of exactly these files, in one step as far as a reader can tell.

    Args:
        target: the folder.
        files: contents by name.
        allowed: as in :func:`check_output_folder`.

    Raises:
        InputError: as :func:`check_output_folder`, and when another process has been writing there for minutes.
        OSError: when the disk is full or fails; the previous output is then still there.
    """
    target = Path(os.path.abspath(target))
    _check(target, allowed)
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target):
        _repair(target)
        _check(target, allowed)
        fresh = _partial(target)
        for leftover in (fresh, _previous(target)):
            _discard(leftover)  # of a run that was killed while writing: nobody else holds the lock
        if fresh.exists():
            raise InputError(f"no folder of another program at {fresh}", "one", "move it, or choose another --out")
        try:
            os.mkdir(fresh)
            for name, content in files.items():
                with open(fresh / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            _put_in_place(fresh, target, allowed)
        finally:
            _discard(fresh)


def remove_output(target: Path, allowed: Set[str] = OUTPUT_FILES) -> None:
    """Delete an earlier result of the same verb, if there is one.

    Raises:
        InputError: as :func:`check_output_folder`.
    """
    target = Path(os.path.abspath(target))
    if target.exists():
        with locked(target):
            _check(target, allowed)
            _discard(target)


def _put_in_place(fresh: Path, target: Path, allowed: Set[str]) -> None:
    """Give the fresh folder the target's name; what had it before has the fresh folder's name, or is gone."""
    if target.exists() and _exchanged(fresh, target):
        try:
            _refuse_foreign(fresh, target, allowed)  # what came into it meanwhile
        except InputError:
            _exchanged(fresh, target)
            raise
        return
    try:
        if target.exists():
            os.rename(target, _previous(target))
            _refuse_foreign(_previous(target), target, allowed)
        os.rename(fresh, target)
    except BaseException:
        _repair(target)
        raise
    _discard(_previous(target))


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; ``False`` where the system or the file system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux":
        swap = getattr(ctypes.CDLL(None), "renameat2", None)
        return swap is not None and swap(_THIS_FOLDER, names[0], _THIS_FOLDER, names[1], _EXCHANGE) == 0
    if sys.platform == "darwin":
        swap = getattr(ctypes.CDLL(None), "renamex_np", None)
        return swap is not None and swap(*names, _EXCHANGE) == 0
    return False


def _discard(folder: Path) -> None:
    """Delete a folder of files that bitcert wrote; whatever else is in it stays, and the folder with it."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name in _ALL_FILES and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
        os.rmdir(folder)


class RowStore(Generic[T]):
    """Finished rows by key; without a folder they are only remembered.

    One file of JSON lines, written under a temporary name and renamed: a killed run leaves it whole. A row is found
    again by a key that holds everything it depends on; what cannot be read is as if it were not there.

    Args:
        folder: where to keep them, made if need be; also for the checkpoints of training.
        kind: of the rows, a frozen dataclass that :mod:`bitcert.canonical` can write.
    """

    def __init__(self, folder: Path | None, kind: type[T]) -> None:
        self.folder, self.kind = folder, kind
        self._rows: dict[str, T] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._read(folder / ROWS_FILE)

    def _read(self, path: Path) -> None:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                content = parse(line, "a finished row")
                self._rows[content["key"]] = decode(self.kind, content["row"])
            except (DecodeError, FormatProblem, KeyError, TypeError):
                continue

    def get(self, key: str) -> T | None:
        """The row of an earlier sitting."""
        return self._rows.get(key)

    def put(self, key: str, row: T) -> None:
        """Keep a row.

        Raises:
            OSError: when the disk is full or fails; the rows before it are then still there.
        """
        self._rows[key] = row
        if self.folder is None:
            return
        with replacing(self.folder / ROWS_FILE) as partial, open(partial, "w", encoding="utf-8") as file:
            for name, kept in self._rows.items():
                line = json.dumps({"key": name, "row": encode(kept)}, sort_keys=True, allow_nan=False)
                file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def checkpoint(self, key: str) -> Path | None:
        """Where the training of a row keeps its state."""
        return None if self.folder is None else self.folder / f"{key}.safetensors"
