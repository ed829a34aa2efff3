"""The decoder's own source code: its hash is a part of every helper string.

What a message decodes to depends on the features, families and arithmetic coded in this program. The hash of those
source files makes that part of what a commitment fixes. It says which code was meant, not that the code is right; and
any change of it, a comment too, is another hash.
"""

from __future__ import annotations

import functools
import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGES = ("coding", "decoder", "network")
MODULES = (
    "canonical.py",
    "counting.py",
    "data/cells.py",
    "data/sample.py",
    "data/schema.py",
    "data/schema_file.py",
    "data/table.py",
    "decision.py",
    "errors.py",
    "linear/threads.py",
    "random.py",
    "shards.py",
)
"""What the decoder imports, under the package ``bitcert``, and what makes numbers of a table's cells; a test holds the
list against the imports."""


def _python_files(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found = []
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}"
        if entry.is_dir():
            found += _python_files(entry, name)
        elif entry.name.endswith(".py"):
            found.append((name, entry))
    return found


@functools.cache
def decoder_hash() -> str:
    """SHA-256 (hex) of the names and contents of the decoder's source files, newlines as ``\\n``."""
    root = files("bitcert")
    sources = [(name, root / name) for name in MODULES]
    for package in PACKAGES:
        sources += _python_files(root / package, package)
    digest = hashlib.sha256()
    for name, file in sorted(sources, key=lambda entry: entry[0]):
        content = file.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()
