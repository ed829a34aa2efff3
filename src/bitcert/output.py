"""Writing results so that a killed process leaves the previous complete output or none, never half of one.

All files are written into a new folder beside the target, which then takes its place by renames. A folder that holds
anything else than bitcert's own files is refused, because replacing it would delete them.
"""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Mapping, Set
from pathlib import Path

from bitcert.errors import InputError

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

_ALL_FILES = OUTPUT_FILES | MEASURE_FILES | COMPRESS_FILES | COMPARE_FILES | BOUNDS_FILES | SERIES_FILES


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def check_output_folder(target: Path, allowed: Set[str] = OUTPUT_FILES) -> None:
    """Refuse, before any work, a target that could not be replaced; repair one whose replacement was cut short.

    Args:
        target: the folder.
        allowed: names of the files that the verb itself writes, and may thus replace.

    Raises:
        InputError: when the target is a file, holds files that are not bitcert's, or cannot be written.
    """
    target = Path(os.path.abspath(target))
    do = "choose another --out"
    if target in (Path.cwd(), target.parent):
        got = f"{target}, the {'root' if target == target.parent else 'current'} folder"
        raise InputError("a folder that can be replaced", got, do)
    if _previous(target).is_dir() and not target.exists():
        os.rename(_previous(target), target)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError("a folder to write results into", f"{target}, which is not a folder", do)
    if target.is_dir():
        foreign = sorted(set(os.listdir(target)) - allowed)
        if foreign:
            whose = ", the result of another command" if foreign[0] in _ALL_FILES else ""
            got = f"{target} with {foreign[0]!r} in it{whose}"
            raise InputError("an empty folder or an earlier result", got, do)
    parent = next(p for p in target.parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError("a folder that can be written", str(target), do)


def write_output(target: Path, files: Mapping[str, bytes], allowed: Set[str] = OUTPUT_FILES) -> None:
    """Make ``target`` a folder of exactly these files, in one step as far as a reader can tell.

    Args:
        target: the folder.
        files: contents by name.
        allowed: as in :func:`check_output_folder`.

    Raises:
        InputError: as :func:`check_output_folder`.
        OSError: when the disk is full or fails; the previous output is then still there.
    """
    target = Path(os.path.abspath(target))
    check_output_folder(target, allowed)
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a run that was killed while writing
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        os.chmod(fresh, 0o755)
        for name, content in files.items():
            with open(fresh / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        shutil.rmtree(_previous(target), ignore_errors=True)
        if target.exists():
            os.rename(target, _previous(target))
        try:
            os.rename(fresh, target)
        except BaseException:
            if _previous(target).exists():
                os.rename(_previous(target), target)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(_previous(target), ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Delete a folder of intermediate results, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
