"""The user's own source files behind a module: what a certificate of an opaque network rests on and is charged for.

Followed are the Python modules that define the parts of the network, their base classes and its factory, and from each
of them what its import statements name, wherever they stand, and the modules of what stands in its namespace, as long
as they are loaded and no part of Python, of an installed distribution or of this program. NOT found: what code reads
from files, from the environment or from a network; the certificate says that it is trusted.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

MAX_SOURCE_BYTES = 1 << 24
_PROGRAM = Path(__file__).parents[1]


def module_sources(module: nn.Module, factory: str) -> dict[str, bytes]:
    """Contents of the source files by dotted module name, newlines as ``\\n``; empty where one cannot be read.

    Args:
        module: the network.
        factory: ``package.module:function`` that makes it.
    """
    classes = {each for part in module.modules() for each in type(part).__mro__}
    first = {each.__module__ for each in classes} | {factory.partition(":")[0]}
    found: dict[str, bytes] = {}
    waiting = set(filter(_is_users, first))
    while waiting:
        name = min(waiting)
        content = _content(name)
        if content is None:
            return {}
        found[name] = content
        try:
            named = _namespace(sys.modules[name]) | _imports(sys.modules[name], content)
        except (SyntaxError, ValueError, RecursionError):  # not what was loaded any more
            return {}
        waiting = (waiting | set(filter(_is_users, named))) - found.keys()
    return found if sum(map(len, found.values())) <= MAX_SOURCE_BYTES else {}


def _namespace(module: ModuleType) -> set[str]:
    """Names of the modules, and of the modules of the classes and functions, in a namespace.

    Values are asked for their type only: a proxy (of a web framework, say) may run code when asked for more.
    """
    names: list[object] = []
    for value in tuple(vars(module).values()):
        kind = type(value)
        if issubclass(kind, ModuleType):
            names.append(vars(value).get("__name__"))
        elif issubclass(kind, type | FunctionType):
            names.append(value.__module__)
    return {name for name in names if isinstance(name, str)}


def _imports(module: ModuleType, content: bytes) -> set[str]:
    """Names that a module's import statements may mean, with the packages they lie in; whether they exist or not."""
    package = str(vars(module).get("__package__") or "")
    names: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    parts = [name.split(".") for name in names]
    return {".".join(each[:k]) for each in parts for k in range(1, len(each) + 1)}


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
