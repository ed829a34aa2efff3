"""Carry out a study: check data, memory and disk before any work; then run it and say what it was run with."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from bitcert import clock
from bitcert.certificates.certification import versions
from bitcert.data.cifar import has_cifar
from bitcert.data.download import SOURCES, cached, download_openml
from bitcert.data.idx import find_idx_pair
from bitcert.data.names import FOLDERS, describe_search, search_roots
from bitcert.errors import BitcertError, DecodeError, InputError
from bitcert.run import Run
from bitcert.stability.planning import memory_limit
from bitcert.studies.context import Context
from bitcert.studies.registry import STUDIES
from bitcert.studies.result import Size, StudyResult
from bitcert.studies.study import Study

RESULT_FILE = "result.json"
NETWORKS = "networks"
MAX_FILE_BYTES = 1 << 26
MIB = 1 << 20


@dataclass(frozen=True)
class State:
    """What a folder of results holds of a study: ``done``, ``partly``, ``not run`` or ``unusable`` (and why)."""

    word: str
    result: StudyResult | None = None
    why: str = ""


def pieces_folder(folder: Path) -> Path:
    """Where the pieces of an unfinished study are: hidden beside its folder of results."""
    return folder.with_name(f".{folder.name}.pieces")


def state_of(study: Study, out: Path) -> State:
    """What the folder ``out/<study>`` holds."""
    folder = out / study.name
    if (folder / RESULT_FILE).is_file():
        try:
            return State("done", read_result(study, folder))
        except BitcertError as error:
            return State("unusable", why=str(error))
    return State("partly" if pieces_folder(folder).is_dir() else "not run")


def read_result(study: Study, folder: Path) -> StudyResult:
    """The result of this study that this version wrote into the folder.

    Raises:
        InputError: of another study or version, or unreadable.
        DecodeError: another kind of file.
    """
    path, do = folder / RESULT_FILE, "choose another --out, or delete that folder"
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"a result of {study.name} at {path}", f"more than {MAX_FILE_BYTES // MIB} MiB", do)
        result = StudyResult.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"a result of {study.name} at {path}", str(error)[:200], do) from error
    except DecodeError as error:
        raise DecodeError(error.expected, error.got, do) from error
    if result.study != study.name:
        raise InputError(f"a result of {study.name} at {path}", f"one of {result.study}", do)
    ours, theirs = versions()["bitcert"], result.versions.get("bitcert", "an unknown version")
    if theirs != ours:
        raise InputError(f"a result of bitcert {ours} at {path}", f"one of {theirs}", do)
    return result


def is_there(name: str) -> bool:
    """Whether a built-in data set, or a folder such as ``pretrained`` beside it, is on this machine."""
    if name == "digits":
        return True
    if name not in FOLDERS:
        return any((root / name).is_dir() for root in search_roots())
    for folder in (root / each for root in search_roots() for each in FOLDERS[name]):
        if has_cifar(folder, "train") if name == "cifar10" else folder.is_dir() and find_idx_pair(folder, "train"):
            return True
    return cached(name, "train") is not None


def check_study(study: Study, size: Size, out: Path, download: bool = False) -> None:
    """Refuse before any work what cannot be carried out here.

    Raises:
        InputError: missing data (the studies that run without are named), too little memory or disk.
    """
    for name in study.needs:
        if is_there(name):
            continue
        if download and name in SOURCES:
            download_openml(name)
            continue
        without = ", ".join(other.name for other in STUDIES.values() if all(map(is_there, other.needs))) or "none"
        where = ", ".join(map(str, search_roots())) if name not in FOLDERS else ""
        got = describe_search(name, "train") if name in FOLDERS else f"no folder {name} in {where}"
        do = "name its folder's parent with --data-dir or BITCERT_DATA"
        do += f", or pass --download; these studies have what they need: {without}"
        raise InputError(f"{name} for the study {study.name}", got, do)
    cost, limit = study.cost(size), memory_limit("cpu")
    if limit is not None and cost.memory * MIB > limit:
        got = f"{limit / MIB:,.0f} MiB"
        raise InputError(f"{cost.memory:,} MiB of memory for {study.name} ({size})", got, "pass --quick")
    existing = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if cost.disk * MIB > free:
        got = f"{free / MIB:,.0f} MiB free at {existing}"
        raise InputError(f"{cost.disk:,} MiB of disk for {study.name} ({size})", got, "choose another --out")


def run_study(study: Study, size: Size, out: Path, run: Run, *, pieces: Path | None = None) -> StudyResult:
    """Carry out a study.

    Args:
        study: which.
        size: how much of it.
        out: folder of all studies: trained networks are kept in ``out/networks``; the result is NOT written.
        run: seed, device, progress.
        pieces: where finished pieces are kept; by default where the command keeps them.

    Raises:
        BitcertError: as :func:`check_study`, and whatever the library refuses.
    """
    check_study(study, size, out)
    started = clock.seconds()
    folder = pieces or pieces_folder(Path(os.path.abspath(out)) / study.name)
    outcome = study.run(Context(study.name, size, folder, out / NETWORKS, run))
    return StudyResult(
        study=study.name,
        title=study.title,
        printed=study.printed,
        size=size.value,
        seed=run.seed,
        seconds=round(clock.seconds() - started, 1),
        cores=torch.get_num_threads(),
        versions=versions(),
        outcome=outcome,
    )
