"""The mutants of a small module: every kind of change is there, words and annotations are not, names are stable."""

from __future__ import annotations

import pytest

from benchmarks.mutants import Module

SOURCE = '''"""Words that nobody changes."""
LIMIT = 2

def first(values: list, most: int = 7) -> int:
    """More words."""
    assert most > 0
    for value in values:
        if value < most and value != 3:
            break
        most += value * 2
    if not values:
        raise ValueError("no values")
    check(values)
    return min(values) if most >= LIMIT else -most
'''
CHANGES = {
    ("", "LIMIT = 2", "LIMIT = 3"),
    ("", "LIMIT = 2", "LIMIT = 1"),
    ("", "def first(values: list, most: int=7) -> int:", "def first(values: list, most: int=8) -> int:"),
    ("", "def first(values: list, most: int=7) -> int:", "def first(values: list, most: int=6) -> int:"),
    ("first", "if value < most and value != 3:", "if False:"),
    ("first", "if value < most and value != 3:", "if True:"),
    ("first", "if value < most and value != 3:", "if value < most or value != 3:"),
    ("first", "if value < most and value != 3:", "if value < most:"),
    ("first", "if value < most and value != 3:", "if value != 3:"),
    ("first", "if value < most and value != 3:", "if value <= most and value != 3:"),
    ("first", "if value < most and value != 3:", "if value < most and value == 3:"),
    ("first", "if value < most and value != 3:", "if value < most and value != 4:"),
    ("first", "if value < most and value != 3:", "if value < most and value != 2:"),
    ("first", "break", "continue"),
    ("first", "most += value * 2", "pass"),
    ("first", "most += value * 2", "most -= value * 2"),
    ("first", "most += value * 2", "most += value // 2"),
    ("first", "most += value * 2", "most += value * 3"),
    ("first", "most += value * 2", "most += value * 1"),
    ("first", "if not values:", "if False:"),
    ("first", "if not values:", "if values:"),
    ("first", "raise ValueError('no values')", "pass"),
    ("first", "check(values)", "pass"),
    ("first", "return min(values) if most >= LIMIT else -most", "return None"),
    ("first", "return min(values) if most >= LIMIT else -most", "return min(values)"),
    ("first", "return min(values) if most >= LIMIT else -most", "return -most"),
    ("first", "return min(values) if most >= LIMIT else -most", "return min(values) if most > LIMIT else -most"),
    ("first", "return min(values) if most >= LIMIT else -most", "return max(values) if most >= LIMIT else -most"),
    ("first", "return min(values) if most >= LIMIT else -most", "return min(values) if most >= LIMIT else most"),
}


def test_every_change_is_made_once() -> None:
    mutants = Module(SOURCE, "small.py").mutants
    assert {mutant.key[:3] for mutant in mutants} == CHANGES
    assert len(mutants) == len(CHANGES)
    assert all(mutant.runs == (mutant.function == "first") for mutant in mutants)


def test_an_edit_elsewhere_changes_no_name() -> None:
    edited = SOURCE.replace("LIMIT = 2\n", "LIMIT = 2\nOTHER = LIMIT\n")
    assert {m.key for m in Module(edited, "s").mutants} == {m.key for m in Module(SOURCE, "s").mutants}


@pytest.mark.parametrize(("mutated", "result"), [(None, -26), ("most += value * 1", -14), ("break", -20)])
def test_a_mutant_runs_and_leaves_the_module_as_it_was(mutated: str | None, result: int) -> None:
    source = SOURCE.replace("most >= LIMIT", "most < LIMIT").replace("break", "continue")
    module = Module(source, "small.py")
    chosen = next((mutant for mutant in module.mutants if mutant.mutated == mutated), None)
    rounds: list[int] = []
    changed, unchanged = ({"check": len, "__tick__": lambda: rounds.append(1)} for _ in range(2))
    exec(module.code(chosen), changed)
    exec(module.code(), unchanged)
    assert changed["first"]([9, 4, 1, 3], 2) == result
    assert unchanged["first"]([9, 4, 1, 3], 2) == -26
    assert len(rounds) == (4 if mutated != "break" else 2) + 4, "the rounds of loops are counted"


def test_the_same_change_twice_is_counted() -> None:
    keys = [mutant.key for mutant in Module("A = 1 + 1\n", "s").mutants]
    assert ("", "A = 1 + 1", "A = 2 + 1", 0) in keys
    assert len(keys) == len(set(keys)) == 5
