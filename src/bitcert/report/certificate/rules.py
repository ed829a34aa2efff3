"""Decision trees and sums of votes in words: one line for each test and answer, in the user's own names and units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ldexp

from bitcert.coding.trees import Comparison, Leaf, Subject, Tree
from bitcert.coding.votes import SPAN, STEPS, Condition, Ramp, Votes
from bitcert.report.text import clean

_MOST_NAME = 40


@dataclass(frozen=True)
class Words:
    """The user's own words; what is missing is a number from 0.

    Args:
        columns: names of the inputs.
        classes: names of the classes.
        categories: texts of the inputs whose categories were declared.
    """

    columns: Sequence[str] = ()
    classes: Sequence[str] = ()
    categories: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def label(self, label: int) -> str:
        """A class."""
        return clean(self.classes[label], _MOST_NAME) if label < len(self.classes) else f"class {label}"

    def name(self, column: int) -> str:
        """A column."""
        return clean(self.columns[column], _MOST_NAME) if column < len(self.columns) else f"column {column}"

    def subject(self, seen: Subject) -> str:
        """A column or a sum of two."""
        if seen.other is None:
            return self.name(seen.column)
        size = abs(seen.factor)
        times = "" if size == 1 else f"{size:.9g} * "
        return f"{self.name(seen.column)} {'-' if seen.factor < 0 else '+'} {times}{self.name(seen.other)}"

    def test(self, asked: Comparison) -> str:
        """A test; of a declared category its text."""
        texts = self.categories.get(asked.subject.column, ()) if asked.subject.other is None and asked.equal else ()
        known = asked.value in range(len(texts))
        value = repr(clean(texts[int(asked.value)], _MOST_NAME)) if known else f"{asked.value:.9g}"
        return f"{self.subject(asked.subject)} {'=' if asked.equal else '<='} {value}"

    def condition(self, asked: Condition) -> str:
        """A condition that is no ramp."""
        assert not isinstance(asked, Ramp)
        return self.test(asked.test) if asked.passed else f"not {self.test(asked.test)}"

    def votes(self, votes: Sequence[int], times: int = 1) -> str:
        """What is given to which classes; of two classes to the second alone."""
        return ", ".join(f"{vote * times:+d} {self.label(k)}" for k, vote in enumerate(votes) if vote) or "nothing"


def tree_lines(
    tree: Tree,
    columns: Sequence[str] = (),
    classes: Sequence[str] = (),
    categories: Mapping[int, Sequence[str]] | None = None,
) -> list[str]:
    """The tree from the root down, what passes a test first; names that are missing are numbers from 0.

    >>> from bitcert.coding.trees import Split
    >>> test = Comparison(Subject(0, 1, -2.0), 0.5)
    >>> print(*tree_lines(Split(test, Leaf(0), Leaf(1)), ("x", "y"), ("no", "yes")), sep="\\n")
    if x - 2 * y <= 0.5:
      no
    else:
      yes
    """
    words = Words(columns, classes, categories or {})

    def lines(node: Tree, indent: str) -> Iterator[str]:
        if isinstance(node, Leaf):
            yield indent + words.label(node.label)
            return
        yield f"{indent}if {words.test(node.test)}:"
        yield from lines(node.passed, indent + "  ")
        yield f"{indent}else:"
        yield from lines(node.failed, indent + "  ")

    return list(lines(tree, ""))


def vote_lines(
    votes: Votes,
    columns: Sequence[str] = (),
    classes: Sequence[str] = (),
    categories: Mapping[int, Sequence[str]] | None = None,
) -> list[str]:
    """What is always given, then a line for each term; arguments as for :func:`tree_lines`.

    >>> from bitcert.coding.votes import Side, Term
    >>> terms = Term((Side(Comparison(Subject(0), 0.5)),), (0, -3)), Term((Ramp(Subject(1), 20.0, -1),), (0, 1))
    >>> print(*vote_lines(Votes((0, 2), terms), ("x", "y"), ("no", "yes")), sep="\\n")
    the largest sum of these votes is the answer, all others begin at 0
    +2 yes always
    -3 yes if x <= 0.5
    from 0 to +4 yes as y goes from 20 to 35.5
    """
    words = Words(columns, classes, categories or {})
    found = ["the largest sum of these votes is the answer, all others begin at 0"]
    if any(votes.always):
        found.append(f"{words.votes(votes.always)} always")
    for term in votes.terms:
        ramp = term.conditions[0] if isinstance(term.conditions[0], Ramp) else None
        sides = [words.condition(each) for each in term.conditions if not isinstance(each, Ramp)]
        told = words.votes(term.votes)
        if ramp is not None:
            end = ramp.value + (STEPS - 1) * ldexp(1.0, ramp.exponent)
            told = f"from 0 to {words.votes(term.votes, SPAN)} as {words.subject(ramp.subject)} goes from "
            told += f"{ramp.value:.9g} to {end:.9g}"
        found.append(f"{told} if {' and '.join(sides)}" if sides else told)
    return found
