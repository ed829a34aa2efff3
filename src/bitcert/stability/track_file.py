"""The file of a :class:`~bitcert.stability.tracker.Tracker`: a header line, then one JSON line an epoch.

A line is appended with one write and brought to the disk before the call returns; a line that a killed process left
half written is dropped when the file is next opened. Replacing lines writes a new file beside and renames it. It does
NOT lock the file: two runs that append to one file at a time spoil each other's record.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitcert.errors import InputError
from bitcert.locking import replacing

FORMAT = "bitcert-track-2"
_FORMER = "bitcert-track-1"
STATISTICS = ("worst", "median", "mean", "low", "high")
"""Over the examples: the extreme that the theory uses, then the 50 % quantile, the mean, the 10 and 90 % quantiles."""

_MAX_BYTES = 1 << 30

Statistics = Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class TrackedEpoch:
    """What was measured at one epoch.

    Attributes:
        epoch: its number.
        values: by measure, by statistic (:data:`STATISTICS`; ``"value"`` for what is one number), one number for
            every place of ``Tracker.labels``; ``None`` where nothing finite was measured.
    """

    epoch: int
    values: Mapping[str, Statistics]


@dataclass(frozen=True, eq=False)
class TrackFile:
    """Header and records of one run.

    Args:
        path: made when the first record is written.
        identity: hash of everything that determines the numbers but the weights.
        labels: the places of every measure.
    """

    path: Path
    identity: str
    labels: Mapping[str, Sequence[str]]

    def read(self) -> list[TrackedEpoch]:
        """The records in the order of their epochs; a damaged last line is left out.

        Raises:
            InputError: the file is of another run or damaged elsewhere.
        """
        return [_record(line, number, self.path) for number, line in enumerate(self._lines(), start=2)]

    def append(self, record: TrackedEpoch) -> None:
        """Write a record; records of this and of later epochs, and a damaged last line, are dropped first.

        Raises:
            InputError: as :meth:`read`.
            OSError: when the disk is full or fails.
        """
        line = _text({"epoch": record.epoch, "values": record.values}).encode()
        lines = self._lines()
        kept = [old for old, known in zip(lines, self.read(), strict=True) if known.epoch < record.epoch]
        whole = b"".join([_text(self._header()).encode(), *kept])
        if self.path.exists() and self.path.stat().st_size == len(whole):
            self._add(line)
        else:
            self._replace(whole + line)

    def _add(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(f"only part of a line could be written to {self.path}")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _replace(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as partial, open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _header(self) -> dict[str, Any]:
        labels = {name: list(places) for name, places in self.labels.items()}
        return {"format": FORMAT, "identity": self.identity, "labels": labels}

    def _lines(self) -> list[bytes]:
        """Complete lines after the header; none when there is no file yet."""
        if not self.path.exists():
            return []
        if self.path.stat().st_size > _MAX_BYTES:
            raise self._other(f"more than {_MAX_BYTES >> 20} MiB")
        header, content = _text(self._header()).encode(), self.path.read_bytes()
        if header.startswith(content):
            return []  # killed before the header was whole, or just after
        lines = content.splitlines(keepends=True)
        if len(lines) > 1 and not _complete(lines[-1]):
            lines.pop()
        if lines[0] != header:
            ours = _parsed(lines[0])
            found = str(ours.get("format")) if isinstance(ours, dict) else ""
            known = {
                FORMAT: "that of another network, sample or setting",
                _FORMER: "one of an earlier version, whose contractions leave out what pools between two layers",
            }
            raise self._other(known.get(found, "another kind of file"))
        return lines[1:]

    def _other(self, got: str) -> InputError:
        return InputError(f"this run's record at {self.path}", got, "choose another path, or delete that file")


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _complete(line: bytes) -> bool:
    return line.endswith(b"\n") and _parsed(line) is not None


def _record(line: bytes, number: int, path: Path) -> TrackedEpoch:
    content = _parsed(line)
    try:
        epoch, values = content["epoch"], content["values"]
        if not isinstance(epoch, int) or isinstance(epoch, bool):
            raise TypeError
        read = {
            name: {key: tuple(map(_number, series)) for key, series in found.items()} for name, found in values.items()
        }
    except (TypeError, KeyError, AttributeError):
        got = f"line {number} that is none"
        raise InputError(f"one record a line in {path}", got, "delete the file, or restore it") from None
    return TrackedEpoch(epoch, read)


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)
