"""Mutants of a Python module: every small change of an operator, a constant, a condition, a return or a check.

A mutant is one changed place of the syntax tree. It is named by the function, the statement before and after, and a
number where a function has the same change twice: names survive edits elsewhere in the file. Left alone are
annotations, docstrings, assertions, and the words of messages to people (in ``raise`` statements, in calls that make
errors, in variables named :data:`WORDS`). Changes that no test can tell apart are not made where that is certain from
the syntax alone; the others are explained by hand.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType

ERRORS = frozenset(
    {"malformed", "_malformed", "DecodeError", "InputError", "ValueError", "BitcertError", "CaptureError"}
)
WORDS = frozenset({"do", "got", "expected", "hint", "why", "what"})
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor"}
"""Functions and methods that stand for one another."""
SKIPPED = ("annotation", "returns", "type_params", "decorator_list")
LOOPS: dict[type[ast.stmt], type[ast.stmt]] = {ast.Break: ast.Continue, ast.Continue: ast.Break}


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        function: dotted name inside the module, empty for the module's own statements.
        line: of the changed statement.
        last_line: of it, or of its head.
        original: the statement, or the head of a compound one, before.
        mutated: and after.
        number: counts mutants whose other names are equal.
        runs: whether a call runs the changed place; otherwise importing the module does.
        index: position in the list of the module's mutants.
    """

    function: str
    line: int
    last_line: int
    original: str
    mutated: str
    number: int
    runs: bool
    index: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The name that survives edits of other places."""
        return self.function, self.original, self.mutated, self.number


@dataclass(frozen=True, eq=False)
class _Place:
    """A child of a node, and where it is."""

    parent: ast.AST
    field: str
    position: int | None

    def get(self) -> ast.AST:
        held = getattr(self.parent, self.field)
        found: ast.AST = held if self.position is None else held[self.position]
        return found

    def put(self, node: object) -> None:
        if self.position is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.position] = node


@dataclass(frozen=True, eq=False)
class _Scope:
    """What surrounds a place: its function, its statement, and whether words for people are made here."""

    function: str
    statement: ast.stmt | None = None
    runs: bool = False
    words: bool = False


class Module:
    """A source text and its mutants."""

    def __init__(self, source: str, path: str) -> None:
        self.path = path
        self.tree = ast.parse(source, path)
        self._edits: list[tuple[_Place, Callable[[], object], Mutant]] = []
        seen: Counter[tuple[str, str, str]] = Counter()
        for place, change, scope in list(_edits(self.tree, _Scope(""))):
            assert scope.statement is not None
            before = head(scope.statement)
            with_change = _changed(place, change, lambda place=place, scope=scope: head(_statement(place, scope)))
            if with_change == before:
                continue
            name = (scope.function, before, with_change)
            mutant = Mutant(*_of(scope), before, with_change, seen[name], scope.runs, len(self._edits))
            seen[name] += 1
            self._edits.append((place, change, mutant))

    @property
    def mutants(self) -> list[Mutant]:
        """In the order of the text."""
        return [mutant for _, _, mutant in self._edits]

    def code(self, mutant: Mutant | None = None) -> CodeType:
        """The module compiled, with this change; every round of a loop calls the builtin ``__tick__``."""
        if mutant is None:
            ticking = _Ticking().visit(copy.deepcopy(self.tree))
            compiled: CodeType = compile(ticking, self.path, "exec", dont_inherit=True)
            return compiled
        place, change, _ = self._edits[mutant.index]
        return _changed(place, change, self.code)


class _Ticking(ast.NodeTransformer):
    """Puts a call at the beginning of every loop's body."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.While | ast.For):
            call = ast.Expr(ast.Call(ast.Name("__tick__", ast.Load()), [], []))
            node.body.insert(0, ast.fix_missing_locations(ast.copy_location(call, node)))
        return node


def _of(scope: _Scope) -> tuple[str, int, int]:
    statement = scope.statement
    assert statement is not None
    body = getattr(statement, "body", None)
    last = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno
    return scope.function, statement.lineno, last or statement.lineno


def _statement(place: _Place, scope: _Scope) -> ast.stmt:
    """The statement around a place, which the change may have replaced."""
    held = place.get()
    assert scope.statement is not None
    return held if isinstance(held, ast.stmt) else scope.statement


def _changed(place: _Place, change: Callable[[], object], look: Callable[[], object]):
    """What ``look`` finds while the change is made."""
    before = place.get()
    node = change()
    if isinstance(node, ast.AST):
        node = copy.deepcopy(node)
        ast.copy_location(node, before)
        ast.fix_missing_locations(node)
    place.put(node)
    try:
        return look()
    finally:
        place.put(before)


def head(statement: ast.stmt) -> str:
    """A simple statement, or the first line of a compound one."""
    if not hasattr(statement, "body"):
        return ast.unparse(statement)
    short = copy.copy(statement)
    for field in ("body", "orelse", "finalbody", "handlers"):
        if hasattr(short, field):
            setattr(short, field, [])
    short.body = [ast.Pass()]
    if hasattr(short, "decorator_list"):
        lines = ast.unparse(short).splitlines()
        return " ".join(lines[:-1])
    return ast.unparse(short).splitlines()[0]


Edit = tuple[_Place, Callable[[], object], _Scope]


def _edits(node: ast.AST, scope: _Scope) -> Iterator[Edit]:
    """All changes below a node, in the order of the text."""
    for field, held in ast.iter_fields(node):
        if field in SKIPPED or _is_technical(node):
            continue
        children = list(enumerate(held)) if isinstance(held, list) else [(None, held)]
        for position, child in children:
            if not isinstance(child, ast.AST) or _is_docstring(child) or isinstance(child, ast.Assert):
                continue
            place = _Place(node, field, position)
            inside = _scope(node, field, child, scope)
            yield from ((place, change, inside) for change in _changes(child, inside, node))
            yield from _edits(child, inside)


def _scope(parent: ast.AST, field: str, child: ast.AST, scope: _Scope) -> _Scope:
    function, statement, runs, words = scope.function, scope.statement, scope.runs, scope.words
    if isinstance(parent, ast.FunctionDef | ast.ClassDef) and field == "body":
        function = f"{function}.{parent.name}" if function else parent.name
        runs = runs or isinstance(parent, ast.FunctionDef)
    if isinstance(parent, ast.Lambda) and field == "body":
        runs = True
    if isinstance(child, ast.stmt):
        statement, words = child, isinstance(child, ast.Raise) or _assigns_words(child)
    if isinstance(child, ast.Call) and _called(child) in ERRORS:
        words = True
    return _Scope(function, statement, runs, words)


def _is_technical(node: ast.AST) -> bool:
    """Lists of public names, names of types, and arguments that only check or save time."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    if isinstance(node, ast.keyword):
        return node.arg in ("strict", "copy")
    return isinstance(node, ast.Call) and _called(node) == "TypeVar"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _assigns_words(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in WORDS for t in node.targets)


def _called(call: ast.Call) -> str:
    function = call.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _changes(node: ast.AST, scope: _Scope, parent: ast.AST) -> Iterator[Callable[[], object]]:
    """What a node may become; operators of a node belong to it."""
    if isinstance(node, ast.Constant):
        yield from _of_constant(node, scope, parent)
    elif isinstance(node, ast.Compare):
        for k, operator in enumerate(node.ops):
            new = COMPARISONS[type(operator)]()
            yield lambda k=k, new=new: ast.Compare(
                node.left, [*node.ops[:k], new, *node.ops[k + 1 :]], node.comparators
            )
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text(node):
        yield lambda: ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield lambda: node.operand
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield lambda: ast.BoolOp(other, node.values)
        for k in range(len(node.values)):
            left = [*node.values[:k], *node.values[k + 1 :]]
            yield lambda left=left: ast.BoolOp(node.op, left) if len(left) > 1 else left[0]
    elif isinstance(node, ast.IfExp):
        yield lambda: node.body
        yield lambda: node.orelse
    elif isinstance(node, ast.Name | ast.Attribute) and isinstance(parent, ast.Call) and parent.func is node:
        yield from _of_name(node)
    elif isinstance(node, ast.stmt):
        yield from _of_statement(node)


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(side, ast.JoinedStr) or _is_string(side) for side in (node.left, node.right))


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _of_constant(node: ast.Constant, scope: _Scope, parent: ast.AST) -> Iterator[Callable[[], object]]:
    value = node.value
    if scope.words:
        return
    if isinstance(value, bool):
        yield lambda: ast.Constant(not value)
    elif isinstance(value, int):
        yield lambda: ast.Constant(value + 1)
        if value > 0:
            yield lambda: ast.Constant(value - 1)
    elif isinstance(value, float):
        yield lambda: ast.Constant(2 * value if value else 1.0)
    elif isinstance(value, str | bytes) and not isinstance(parent, ast.FormattedValue):
        yield lambda: ast.Constant(value + (b"x" if isinstance(value, bytes) else "x"))


def _of_name(node: ast.Name | ast.Attribute) -> Iterator[Callable[[], object]]:
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield lambda: ast.Name(NAMES[node.id], node.ctx)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield lambda: ast.Attribute(node.value, NAMES[node.attr], node.ctx)


def _of_statement(node: ast.stmt) -> Iterator[Callable[[], object]]:
    if isinstance(node, ast.Raise | ast.AugAssign | ast.Delete) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield lambda: ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
    if isinstance(node, ast.If):
        yield lambda: ast.If(ast.Constant(False), node.body, node.orelse)
        if node.orelse or not _leaves(node.body):
            yield lambda: ast.If(ast.Constant(True), node.body, node.orelse)
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield lambda: ast.Return(ast.Constant(None))
    if type(node) in LOOPS:
        yield LOOPS[type(node)]


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether a branch ends the function with an error: always taken, every test of success would fail."""
    return isinstance(body[-1], ast.Raise)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
