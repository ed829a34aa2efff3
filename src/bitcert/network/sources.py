"""The user's own source files behind a module: what a certificate of an opaque network rests on and is charged for.

Followed are the Python modules that define the parts of the network and its factory, and from each of them the modules
of what stands in its namespace, as long as they are no part of Python, of an installed distribution or of this program.
NOT found: what code imports inside functions, reads from files or fetches; the certificate says that it is trusted.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from torch import nn

MAX_SOURCE_BYTES = 1 << 24
_PROGRAM = Path(__file__).parents[1]


def module_sources(module: nn.Module, factory: str) -> dict[str, bytes]:
    """Contents of the source files by dotted module name, newlines as ``\\n``; empty where one cannot be read.

    Args:
        module: the network.
        factory: ``package.module:function`` that makes it.
    """
    first = {type(part).__module__ for part in module.modules()} | {factory.partition(":")[0]}
    found: dict[str, bytes] = {}
    waiting = sorted(name for name in first if _is_users(name))
    while waiting:
        name = waiting.pop()
        content = _content(name)
        if content is None:
            return {}
        found[name] = content
        waiting += sorted(_named_in(sys.modules[name]) - found.keys() - set(waiting))
    return found if sum(map(len, found.values())) <= MAX_SOURCE_BYTES else {}


def _named_in(module: ModuleType) -> set[str]:
    """The user's modules that the namespace of ``module`` refers to."""
    return set(filter(_is_users, _module_names(vars(module).values())))


def _module_names(values: Iterable[object]) -> set[str]:
    names = [
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) for value in values
    ]
    return {name for name in names if isinstance(name, str)}


def _is_users(name: str) -> bool:
    """Whether a module is the user's: neither Python's, nor installed, nor this program's."""
    module = sys.modules.get(name)
    if module is None or (name != "__main__" and name.partition(".")[0] in sys.stdlib_module_names):
        return False
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return name == "__main__" or getattr(module, "__spec__", None) is None
    path = Path(file).resolve()
    libraries = {Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(path.is_relative_to(folder) for folder in (*libraries, _PROGRAM))


def _content(name: str) -> bytes | None:
    file = getattr(sys.modules[name], "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return None
    try:
        return Path(file).read_bytes().replace(b"\r\n", b"\n")
    except OSError:
        return None
