"""Code that the user named as ``package.module:name``: the only way by which this program imports what is not its own.

The working folder is on the import path meanwhile, as it is for ``python -m``. Nothing is ever imported because a file
says so.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["import_named", "working_folder_on_path"]


@contextmanager
def working_folder_on_path() -> Iterator[None]:
    """Let modules of the working folder be imported, and leave the path as it was."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def import_named(spec: str) -> object:
    """What ``package.module:name`` (or ``:outer.inner``) names.

    Raises:
        Exception: whatever the user's module raises when it is imported; an ``AttributeError`` for a missing name.

    >>> import_named("math:sqrt")(9.0)
    3.0
    """
    package, _, names = spec.partition(":")
    found: object = importlib.import_module(package)
    for name in names.split("."):
        found = getattr(found, name)
    return found
