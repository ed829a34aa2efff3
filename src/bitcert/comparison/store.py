"""Rows that are finished, kept on disk so that an interrupted comparison goes on from them.

One file of JSON lines, written under a temporary name and renamed: a killed run leaves it whole. A row is found again
by a key that holds everything it depends on; what cannot be read is as if it were not there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from bitcert.canonical import encode, parse
from bitcert.comparison.records import ComparisonRow, read_row
from bitcert.errors import DecodeError
from bitcert.locking import replacing

ROWS_FILE = "rows.jsonl"


class RowStore:
    """Finished rows by key; without a folder they are only remembered.

    Args:
        folder: where to keep them, made if need be; also for the checkpoints of training.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lines: dict[str, str] = {}
        self._rows: dict[str, ComparisonRow] = {}
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
                content = parse(line, "a row of a comparison")
                self._rows[content["key"]] = read_row(content["row"])
                self._lines[content["key"]] = line
            except (DecodeError, KeyError, TypeError):
                continue

    def get(self, key: str) -> ComparisonRow | None:
        """The row of an earlier sitting."""
        return self._rows.get(key)

    def put(self, key: str, row: ComparisonRow) -> None:
        """Keep a row.

        Raises:
            OSError: when the disk is full or fails; the rows before it are then still there.
        """
        self._rows[key] = row
        self._lines[key] = json.dumps({"key": key, "row": encode(row)}, sort_keys=True, allow_nan=False)
        if self.folder is None:
            return
        with replacing(self.folder / ROWS_FILE) as partial, open(partial, "w", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in self._lines.values()))
            file.flush()
            os.fsync(file.fileno())

    def checkpoint(self, key: str) -> Path | None:
        """Where the training of a row keeps its state."""
        return None if self.folder is None else self.folder / f"{key}.safetensors"
