"""A decoder of families 1, 6 and 7, written from docs/format.md alone: one flag after another.

A tree is a class, or ``(test, passed, failed)``; a test is ``(subject, value, equal)`` and a subject ``(j, k, c)``,
with ``k`` None for a single column. Votes are ``(always, terms)``, a term ``(conditions, votes)``; a condition is
``(test, passed)``, or ``(subject, value, exponent)`` for a ramp.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import pairwise
from math import comb

from tests.reference.format_decoder import Bits, Problem, Section, require

Tree = object
FIRST = {"root": (1, 7), "passed": (2, 1), "failed": (2, 1), "equal": (6, 2), "zero": (4, 2), "negative": (7, 1)}


class TreeSection:
    """The section ``tree``."""

    def __init__(self, section: Section, columns: int, classes: int, declared: dict[int, range] | None = None) -> None:
        self.section, self.columns, self.classes, self.declared = section, columns, classes, declared or {}
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
        used_before = self.use(subject)
        return self.rest(subject, used_before)

    def use(self, subject: tuple[object, ...]) -> bool:
        used_before = subject in self.uses
        self.uses[subject] = self.uses.get(subject, 0) + 1
        return used_before

    def rest(self, subject: tuple[object, ...], used_before: bool) -> tuple[object, ...]:
        known = self.known.setdefault(subject, [])
        if known and self.asks("again"):
            return known[self.uniform(len(known))]
        equal = subject[1] is None and self.asks("equal")
        if subject[1] is None and subject[0] in self.declared:
            numbers = self.declared[subject[0]]
            test = (subject, float(numbers[self.uniform(len(numbers))]), equal)
        else:
            test = (subject, self.threshold(subject, used_before), equal)
        require(test not in known, "a test that was there before")
        known.append(test)
        return test

    def new_subject(self) -> tuple[object, ...]:
        if self.columns == 1 or not self.asks("pair"):
            return self.uniform(self.columns), None, 0.0
        return self.pair(self.uniform(self.columns * (self.columns - 1) // 2))

    def pair(self, number: int) -> tuple[object, ...]:
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
        if not self.among([63, 1]):
            return -32 + self.uniform(64)
        found = -126 + self.uniform(254)
        require(not -32 <= found < 32, "a long code of an exponent that has a short one")
        return found

    def exponent(self, subject: tuple[object, ...]) -> int:
        if subject not in self.last:
            exponent = self.first_exponent()
        else:
            exponent = self.last[subject] + self.signed("exponent")
        require(-126 <= exponent <= 127, "an exponent of no float32")
        self.last[subject] = exponent
        return exponent

    def adaptive_integer(self, *name: Hashable) -> int:
        digits = 1
        while self.adaptive("more", *name, digits):
            digits += 1
            require(digits < 62, "too long an integer")
        number = 1
        for _ in range(digits - 1):
            number = 2 * number + (self.adaptive(*name, digits, number) if digits <= 4 else self.section.flag(0.5))
        return number - 1

    def signed(self, *name: Hashable) -> int:
        rank = self.adaptive_integer(*name)
        return (rank + 1) // 2 if rank % 2 else -(rank // 2)

    def adaptive(self, *context: Hashable) -> bool:
        counts = self.seen.setdefault(context, [0, 0])
        flag = self.section.flag((2 * counts[1] + 1) / (2 * sum(counts) + 2))
        counts[flag] += 1
        return flag


class VotesSection(TreeSection):
    """The section ``votes``."""

    def whole(self) -> tuple[object, ...]:
        always = [0] if self.classes == 2 else []
        always += [self.signed("always") for _ in range(self.classes - len(always))]
        require(max(map(abs, always)) <= 127, "too large a vote")
        terms: list[tuple[object, ...]] = []
        for pairs, size in ((0, self.columns), (1, self.columns * (self.columns - 1) // 2)):
            for number in self.subset(pairs, size):
                while True:
                    subject = self.pair(number) if pairs else (number, None, 0.0)
                    while True:
                        require(len(terms) < 4096, "too many terms")
                        terms.append(self.term(subject))
                        if not self.asks("more terms"):
                            break
                    if not (pairs and self.asks("more factors")):
                        break
        return tuple(always), tuple(terms)

    def subset(self, pairs: int, size: int) -> list[int]:
        if size == 0:
            return []
        count = self.adaptive_integer("subjects", pairs)
        require(count <= min(size, 128), "too many subjects")
        found, start = [], 0
        for left in range(count, 0, -1):
            width = size - start
            number = self.choice(width, lambda a, b: comb(width - a, left) - comb(width - b, left))  # noqa: B023
            found.append(start + number)
            start += number + 1
        return found

    def term(self, subject: tuple[object, ...]) -> tuple[object, ...]:
        used_before = self.use(subject)
        ramp = self.asks("ramp")
        first = self.ramp(subject, used_before) if ramp else self.rest(subject, used_before)
        others = []
        while len(others) < 3 and self.asks("and", len(others) + 1):
            test = self.test()
            others.append((test, self.asks("side")))
        if not ramp:
            first = first, self.asks("side") if others else True
        return (first, *others), self.vote()

    def ramp(self, subject: tuple[object, ...], used_before: bool) -> tuple[object, ...]:
        value = self.threshold(subject, used_before)
        exponent = self.first_exponent() if value == 0 else self.last[subject] + self.signed("rise")
        require(-126 <= exponent <= 127, "an exponent of no float32")
        return subject, value, exponent

    def vote(self) -> tuple[int, ...]:
        votes = [0] * self.classes
        for label in range(self.classes == 2, self.classes):
            if not (label == self.classes - 1 and not any(votes)) and not self.asks("vote"):
                continue
            against = self.asks("against")
            size = 1 + self.adaptive_integer("size")
            require(size <= 127, "too large a vote")
            votes[label] = -size if against else size
        return tuple(votes)


def decode_tree(
    message: bytes, problem: Problem, declared: dict[int, range] | None = None
) -> tuple[Tree, list[tuple[str, int]]]:
    """The tree and the ledger of a message of family 1, or of family 8 where numbers of columns are declared.

    Raises:
        InvalidMessage: saying what is wrong with it.
    """
    family = 8 if declared else 1
    return _decode(message, problem, family, "tree", lambda *rest: TreeSection(*rest, declared).node("root", None, 0))


def decode_votes(
    message: bytes, problem: Problem, declared: dict[int, range] | None = None
) -> tuple[tuple[object, ...], list[tuple[str, int]]]:
    """The votes and the ledger of a message of family 6.

    Raises:
        InvalidMessage: saying what is wrong with it.
    """
    return _decode(message, problem, 6, "votes", lambda *rest: VotesSection(*rest, declared).whole())


def _decode(message, problem, family, name, read):
    bits, places = Bits(message), [("header", 0)]
    require(bits.gamma() == 1, "another format")
    require(bits.gamma() == family, "another family")
    if problem.classes_inferred:
        places.append(("number of classes", bits.place))
        require(bits.gamma() + 1 == problem.num_classes, "another number of classes")
    places.append((name, bits.place))
    columns = 1
    for side in problem.input_shape:
        columns *= side
    section = Section(bits)
    found = read(section, columns, problem.num_classes)
    section.end()
    places += [("padding", bits.place), ("", bits.place + bits.left)]
    require(bits.left < 8 and bits.binary(bits.left) == 0, "something after the end")
    return found, [(name, after - place) for (name, place), (_, after) in pairwise(places)]
