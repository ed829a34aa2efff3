"""Changes of constants in a process that has imported the module already, for ``mutation_worker.py``.

What importing the changed module computes is compared with what the imported one holds. Plain values that differ are
put in their places: in the module, in those that import them by name, in classes, in defaults.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType
from typing import Any


def is_plain(value: object) -> bool:
    """Whether equal values of this type are alike, whatever made them."""
    if isinstance(value, tuple | frozenset):
        return all(map(is_plain, value))
    return type(value) in (int, float, str, bytes, bool)


def computed(space: dict[str, Any], module: str) -> dict[tuple[str, str], tuple[object, object]]:
    """Owner and value of what importing a module computes, as far as it is plain: constants, attributes, defaults."""
    owners = [value for value in space.values() if isinstance(value, type) and value.__module__ == module]
    held = [(None, *item) for item in space.items()] + [
        (owner, *item) for owner in owners for item in vars(owner).items()
    ]
    found: dict[tuple[str, str], tuple[object, object]] = {}
    for owner, name, value in held:
        if is_plain(value) and not name.startswith("__"):
            found[getattr(owner, "__qualname__", ""), name] = owner, value
        function = getattr(value, "__func__", value)
        if isinstance(function, FunctionType) and function.__module__ == module and is_plain(function.__defaults__):
            found[function.__qualname__, "__defaults__"] = function, function.__defaults__
    return found


def set_constants(source: str, code: CodeType, texts: str) -> bool:
    """Give an imported module the constants of its changed code; false if they are not plain, or tests name them.

    (What a test names may be among its parameters, which are there already.)
    """
    module = next(held for held in list(sys.modules.values()) if getattr(held, "__file__", None) == source)
    fresh: dict[str, Any] = {"__name__": module.__name__, "__file__": source}
    FunctionType(code, fresh)()
    before, after = computed(vars(module), module.__name__), computed(fresh, module.__name__)
    changed = [key for key in before.keys() & after.keys() if before[key][1] != after[key][1]]
    if not changed or any(name in texts for _, name in changed):
        return False
    for key in changed:
        (owner, old), (_, new), name = before[key], after[key], key[1]
        importers = [held for title, held in list(sys.modules.items()) if title.split(".")[0] == "bitcert"]
        for holder in importers if owner is None else [owner]:
            if owner is not None or vars(holder).get(name) == old:
                setattr(holder, name, new)
    return True
