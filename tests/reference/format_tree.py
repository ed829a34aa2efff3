"""A decoder of family 1, written from docs/format.md alone: one flag after another.

A tree is a class, or ``(test, passed, failed)``; a test is ``(subject, value, equal)`` and a subject ``(j, k, c)``,
with ``k`` None for a single column.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise

from tests.reference.format_decoder import Bits, Problem, Section, require

Tree = object
FIRST = {"root": (1, 7), "passed": (2, 1), "failed": (2, 1), "equal": (6, 2), "zero": (4, 2), "negative": (7, 1)}


class TreeSection:
    """The section ``tree``."""

    def __init__(self, section: Section, columns: int, classes: int) -> None:
        self.section, self.columns, self.classes = section, columns, classes
        self.weights: dict[Hashable, list[int]] = {}
        self.seen: dict[Hashable, list[int]] = {}
        self.uses: dict[tuple[object, ...], int] = {}
        self.known: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
        self.last: dict[tuple[object, ...], int] = {}
        self.answered = [0] * classes
        self.tests = 0

    def choice(self, number: int, weight: Callable[[int, int], int]) -> int:
        """A choice; ``weight(a, b)`` is the sum of the weights from ``a`` to before ``b``."""
        low, high = 0, number
        while high - low > 1:
            middle = (low + high) // 2
            above, all_of_it = weight(middle, high), weight(low, high)
            if above == 0:
                high = middle
            elif above == all_of_it or self.section.flag(above / all_of_it):
                low = middle
            else:
                high = middle
        return low

    def among(self, weights: list[int]) -> int:
        return self.choice(len(weights), lambda a, b: sum(weights[a:b]))

    def uniform(self, number: int) -> int:
        return self.choice(number, lambda a, b: b - a)

    def asks(self, question: str, *context: Hashable) -> bool:
        weights = self.weights.setdefault((question, *context), list(FIRST.get(question, (1, 1))))
        answer = self.among(weights)
        weights[answer] += 2
        return bool(answer)

    def node(self, question: str, context: Hashable, depth: int, sibling: Tree = None) -> Tree:
        if not self.asks(question, context):
            weights = [1 + times for times in self.answered]
            if isinstance(sibling, int):
                weights[sibling] = 0
            answer = self.among(weights)
            self.answered[answer] += 1
            return answer
        self.tests += 1
        require(self.tests <= 4096 and depth < 200, "too large a tree")
        test = self.test()
        passed = self.node("passed", None, depth + 1)
        failed = self.node("failed", isinstance(passed, tuple), depth + 1, passed)
        return test, passed, failed

    def test(self) -> tuple[object, ...]:
        before = sum(self.uses.values())
        if self.among([4, before]):
            subjects = list(self.uses)
            subject = subjects[self.among([self.uses[each] for each in subjects])]
        else:
            subject = self.new_subject()
            require(subject not in self.uses, "a new subject that is not new")
        used_before = subject in self.uses
        self.uses[subject] = self.uses.get(subject, 0) + 1
        known = self.known.setdefault(subject, [])
        if known and self.asks("again"):
            return known[self.uniform(len(known))]
        equal = subject[1] is None and self.asks("equal")
        test = (subject, self.threshold(subject, used_before), equal)
        require(test not in known, "a test that was there before")
        known.append(test)
        return test

    def new_subject(self) -> tuple[object, ...]:
        if self.columns == 1 or not self.asks("pair"):
            return self.uniform(self.columns), None, 0.0
        number = self.uniform(self.columns * (self.columns - 1) // 2)
        second = 1
        while second * (second + 1) // 2 <= number:
            second += 1
        minus = self.asks("minus")
        factor = 2.0 ** self.first_exponent()
        return number - second * (second - 1) // 2, second, -factor if minus else factor

    def threshold(self, subject: tuple[object, ...], used_before: bool) -> float:
        if self.asks("zero"):
            return 0.0
        negative = self.asks("negative", subject)
        exponent = self.exponent(subject)
        digits = 0
        while digits < 23 and self.asks("digit", subject if used_before else None, digits):
            digits += 1
        number = 1
        for place in range(digits):
            last = place == digits - 1
            number = 2 * number + (1 if last else self.asks("binary", subject, exponent, number))
        value = number * 2.0 ** (exponent - digits)
        return -value if negative else value

    def first_exponent(self) -> int:
        return -126 + self.uniform(254) if self.among([63, 1]) else -32 + self.uniform(64)

    def exponent(self, subject: tuple[object, ...]) -> int:
        if subject not in self.last:
            exponent = self.first_exponent()
        else:
            rank = self.adaptive_integer()
            exponent = self.last[subject] + ((rank + 1) // 2 if rank % 2 else -(rank // 2))
        require(-126 <= exponent <= 127, "an exponent of no float32")
        self.last[subject] = exponent
        return exponent

    def adaptive_integer(self) -> int:
        digits = 1
        while self.adaptive("more", digits):
            digits += 1
            require(digits < 62, "too long an integer")
        number = 1
        for _ in range(digits - 1):
            number = 2 * number + (self.adaptive(digits, number) if digits <= 4 else self.section.flag(0.5))
        return number - 1

    def adaptive(self, *context: Hashable) -> bool:
        counts = self.seen.setdefault(context, [0, 0])
        flag = self.section.flag((2 * counts[1] + 1) / (2 * sum(counts) + 2))
        counts[flag] += 1
        return flag


def decode_tree(message: bytes, problem: Problem) -> tuple[Tree, list[tuple[str, int]]]:
    """The tree and the ledger of a message of family 1.

    Raises:
        InvalidMessage: saying what is wrong with it.
    """
    bits, places = Bits(message), [("header", 0)]
    require(bits.gamma() == 1, "another format")
    require(bits.gamma() == 1, "another family")
    if problem.classes_inferred:
        places.append(("number of classes", bits.place))
        require(bits.gamma() + 1 == problem.num_classes, "another number of classes")
    places.append(("tree", bits.place))
    columns = 1
    for side in problem.input_shape:
        columns *= side
    section = Section(bits)
    tree = TreeSection(section, columns, problem.num_classes).node("root", None, 0)
    section.end()
    places += [("padding", bits.place), ("", bits.place + bits.left)]
    require(bits.left < 8 and bits.binary(bits.left) == 0, "something after the end")
    return tree, [(name, after - place) for (name, place), (_, after) in pairwise(places)]
