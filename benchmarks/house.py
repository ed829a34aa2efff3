"""The size and the paths of the house: ``python benchmarks/house.py``. One JSON line for each question.

- *lines*: of Python, in ``src/bitcert`` and ``tests``, and of docstrings in ``src/bitcert``.
- *long modules*, *long functions*, *many parameters*: what is above 400 lines, 60 lines, seven parameters. (The verbs
  of the command line have a parameter for each option.)
- *circles*: imports that lead back, those inside functions included, in ``src`` and in ``benchmarks``.
- *verify*: following the certificate of scikit-learn's digits through ``bitcert.verify``, each function at its first
  call, how often a reader comes into another module or another package, and how many there are.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 7

Graph = dict[str, set[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(folder: Path) -> list[Path]:
    """The Python files below a folder, in order of their names."""
    return sorted(folder.rglob("*.py"))


def import_graph(folder: Path) -> Graph:
    """Which modules below ``folder`` import which, on whatever line."""
    names = {".".join(file.relative_to(folder).with_suffix("").parts): file for file in python_files(folder)}
    modules = {name.removesuffix(".__init__"): file for name, file in names.items()}
    return {name: set(_imported(file, modules)) - {name} for name, file in modules.items()}


def _imported(file: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in found:
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name:
                yield name


def circle(graph: Graph) -> list[str]:
    """A circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _docstring_lines(tree: ast.Module) -> int:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    texts = [node.body[0] for node in documented if node.body and ast.get_docstring(node, clean=False) is not None]
    return sum((text.end_lineno or text.lineno) - text.lineno + 1 for text in texts)


def sizes() -> dict[str, object]:
    """Lines of code, tests and docstrings, and what is too long."""
    modules, functions, parameters, documented = [], [], [], 0
    for file in python_files(SOURCE):
        name, text = str(file.relative_to(SOURCE)), file.read_text()
        tree, count = ast.parse(text), len(text.splitlines())
        documented += _docstring_lines(tree)
        if count > MOST_LINES:
            modules.append(f"{name}: {count}")
        for node in ast.walk(tree):
            if isinstance(node, Function):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                count = len(_parameters(node))
                if lines > MOST_FUNCTION_LINES:
                    functions.append(f"{name}: {node.name} {lines}")
                if count > MOST_PARAMETERS:
                    parameters.append(f"{name}: {node.name} {count}")
    return {
        "lines": {"src": _lines(SOURCE), "docstrings": documented, "tests": _lines(ROOT / "tests")},
        "long modules": modules,
        "long functions": functions,
        "many parameters": parameters,
    }


def _parameters(function: Function) -> list[str]:
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def _lines(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in python_files(folder))


def rooms() -> dict[str, object]:
    """The path through ``bitcert.verify`` in functions, each at its first call."""
    from bitcert import verify

    path: list[str] = []
    seen: set[object] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code not in seen and code.co_filename.startswith(str(SOURCE)):
            seen.add(code)
            path.append(Path(code.co_filename).relative_to(SOURCE / "bitcert").with_suffix("").as_posix())

    record = ROOT / "records" / "digits" / "certificate.json"
    sys.setprofile(note)
    try:
        status = verify(record).status
    finally:
        sys.setprofile(None)
    packages = [name.partition("/")[0] for name in path]
    return {
        "verify": status.name,
        "functions": len(path),
        "changes of module": _changes(path),
        "modules": len(set(path)),
        "changes of package": _changes(packages),
        "packages": len(set(packages)),
    }


def _changes(path: list[str]) -> int:
    return sum(before != after for before, after in pairwise(path))


def main() -> None:
    """Print the lines."""
    for name, value in sizes().items():
        print(json.dumps({name: value}))
    print(json.dumps({"circles": [circle(import_graph(folder)) for folder in (SOURCE, ROOT / "benchmarks")]}))
    print(json.dumps(rooms()))


if __name__ == "__main__":
    main()
