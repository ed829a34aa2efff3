"""A decision tree in words: in the user's names, from a stranger's as text, on the terminal only if it is small."""

from __future__ import annotations

from rich.console import Console

from bitcert.coding.trees import Comparison, Leaf, Split, Subject, Tree
from bitcert.report import render_report, terminal_summary, tree_lines
from bitcert.report.certificate.display import MOST_RULES

TREE = Split(
    Comparison(Subject(2), 0.1, equal=True),
    Leaf(1),
    Split(Comparison(Subject(0, 1, 1.0), -20.0), Leaf(0), Leaf(2)),
)


def shown(*renderables: object) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(*renderables)
    return capture.get()


def test_each_test_and_answer_has_a_line_in_the_names_that_are_known() -> None:
    assert tree_lines(TREE, ("dep", "arr"), ("late",)) == [
        "if column 2 = 0.1:",
        "  class 1",
        "else:",
        "  if dep + arr <= -20:",
        "    late",
        "  else:",
        "    class 2",
    ]


def test_a_page_and_a_terminal_show_names_as_text(make_certificate) -> None:
    lines = tree_lines(TREE, ("<script>alert(1)</script>", "[bold]b[/bold]", "c\x1b[2J"), ("&amp;", "no"))
    page = render_report(make_certificate(), rules=lines)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; + [bold]b[/bold] &lt;= -20:" in page
    terminal = shown(terminal_summary(make_certificate(), lines))
    assert "[bold]b[/bold]" in terminal
    assert "\x1b[2J" not in terminal


def test_a_large_tree_is_left_to_the_report(make_certificate) -> None:
    tree: Tree = Leaf(0)
    for level in range(MOST_RULES):
        tree = Split(Comparison(Subject(0), float(level)), Leaf(1 + level % 2), tree)
    lines = tree_lines(tree)
    page = render_report(make_certificate(), rules=lines)
    assert "\n".join(lines).replace("<", "&lt;") in page, "one line each, as deep as they stand in the tree"
    assert lines[0] not in shown(terminal_summary(make_certificate(), lines))
    assert "if column 2 = 0.1:" in shown(terminal_summary(make_certificate(), tree_lines(TREE)))
