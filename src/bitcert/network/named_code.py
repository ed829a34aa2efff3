"""Code that the user named as ``package.module:name``: the only way by which this program imports what is not its own.

Nothing is ever imported because a file says so. Modules of the working folder are found for the module that the user
named and for modules that were found so themselves, after everything else (no file there takes the place of the
standard library or of an installed package), and only while the named code is imported and, if it is a factory, called.
A library that happens to import something optional meanwhile gets nothing from there. Code that imports a neighbour
later, for instance inside ``forward``, is refused: :func:`advice` says so.

Python itself puts the working folder first on the path for ``python -c``, ``python -m`` and notebooks, and a script's
own folder for a script; the installed ``bitcert`` program runs without either. This module does NOT change that.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__all__ = ["advice", "import_named", "working_folder_importable"]

_MACHINERY = ("importlib", "importlib._bootstrap", "importlib._bootstrap_external")


class _Neighbours(MetaPathFinder):
    """Finds top-level modules of one folder: those that were named, and what code found here asks for."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._named: set[str] = set()
        self._found: set[str] = set()

    def allow(self, name: str) -> None:
        """The user named this module."""
        self._named.add(name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's place in the folder, for whom it may be found; submodules are found through their package."""
        if path is not None or (fullname not in self._named and _asking() not in self._found):
            return None
        spec = PathFinder.find_spec(fullname, [self._folder], target)
        if spec is not None:
            self._found.add(fullname)
        return spec


def _asking() -> str:
    """Top-level name of the module whose code runs the import statement."""
    frame = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name != __name__ and name not in _MACHINERY:
            return name.partition(".")[0]
        frame = frame.f_back  # type: ignore[assignment]
    return ""


# One for each folder: a module that was found by an earlier call may ask for its neighbours in a later one.
_neighbours = cache(_Neighbours)


@contextmanager
def working_folder_importable(spec: str) -> Iterator[None]:
    """Let what ``package.module:name`` needs be imported from the working folder; afterwards no more.

    Raises:
        RuntimeError: the code ends the program (``sys.exit``), as a script does that is imported as a module.
    """
    finder = _neighbours(str(Path.cwd()))
    finder.allow(spec.partition(":")[0].partition(".")[0])
    importlib.invalidate_caches()
    sys.meta_path.append(finder)
    try:
        yield
    except SystemExit as stop:
        raise RuntimeError(f"it ends the program when it is imported or called (exit {stop.code})") from stop
    finally:
        sys.meta_path.remove(finder)


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


def advice(error: BaseException, otherwise: str, spec: str = "") -> str:
    """What the user can do about an error of named code (``spec``, while it is imported); ``otherwise`` as a rule."""
    if spec and _hidden(spec):
        root = spec.partition(":")[0].partition(".")[0]
        return f"rename {root}.py of this folder: an installed module {root!r} goes before it"
    if isinstance(error, ImportError):
        return "install it, or, for a module of this folder, import it at the top of the factory's module"
    return otherwise


def _hidden(spec: str) -> bool:
    """Whether the folder holds a module of that name, and another one of the same name was imported."""
    root = spec.partition(":")[0].partition(".")[0]
    here = Path.cwd() / root
    module = sys.modules.get(root)
    if module is None or not (here.with_name(f"{root}.py").is_file() or (here / "__init__.py").is_file()):
        return False
    origin = getattr(module, "__file__", None)
    return origin is None or Path.cwd() not in Path(origin).resolve().parents
