"""A decision tree in words: one line for each test and answer, in the user's own names and units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bitcert.coding.trees import Comparison, Leaf, Subject, Tree
from bitcert.report.text import clean

_MOST_NAME = 40


def tree_lines(tree: Tree, columns: Sequence[str] = (), classes: Sequence[str] = ()) -> list[str]:
    """The tree from the root down, what passes a test first; names that are missing are numbers from 0.

    >>> from bitcert.coding.trees import Split
    >>> test = Comparison(Subject(0, 1, -2.0), 0.5)
    >>> print(*tree_lines(Split(test, Leaf(0), Leaf(1)), ("x", "y"), ("no", "yes")), sep="\\n")
    if x - 2 * y <= 0.5:
      no
    else:
      yes
    """

    def name(column: int) -> str:
        return clean(columns[column], _MOST_NAME) if column < len(columns) else f"column {column}"

    def subject(seen: Subject) -> str:
        if seen.other is None:
            return name(seen.column)
        size = abs(seen.factor)
        times = "" if size == 1 else f"{size:.9g} * "
        return f"{name(seen.column)} {'-' if seen.factor < 0 else '+'} {times}{name(seen.other)}"

    def test(asked: Comparison) -> str:
        return f"{subject(asked.subject)} {'=' if asked.equal else '<='} {asked.value:.9g}"

    def lines(node: Tree, indent: str) -> Iterator[str]:
        if isinstance(node, Leaf):
            label = node.label
            yield indent + (clean(classes[label], _MOST_NAME) if label < len(classes) else f"class {label}")
            return
        yield f"{indent}if {test(node.test)}:"
        yield from lines(node.passed, indent + "  ")
        yield f"{indent}else:"
        yield from lines(node.failed, indent + "  ")

    return list(lines(tree, ""))
