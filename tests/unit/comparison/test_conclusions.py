"""The sentences of a comparison follow from its rows, and change with them."""

from bitcert.comparison.conclusions import conclude, family_sentences, percent_up

from .makers import make_comparison, make_measured, make_refused, make_row, make_usual


def sentence(comparison, start):
    (found,) = [line for line in conclude(comparison) if line.startswith(start)]
    return found


def test_which_messages_say_something():
    first = conclude(make_usual())[0]
    assert first == (
        "1 of 5 messages certifies less than the 90.00 % errors of guessing a class: tuned 300 41.00 %. "
        "Of the others, 1 lie between that and 100 % and 3 are vacuous (100 %)."
    )


def test_nothing_says_anything():
    first = conclude(make_comparison(make_row("svd", 900, 20, 1.0), make_row("svd", 100, 800, 0.93)))[0]
    assert first.startswith("None of the 2 messages certifies less than the 90.00 % errors of guessing a class")
    assert "the shortest, svd 100, has 100 bits and 80.00 % training errors" in first
    assert "Of them, 1 lie between that and 100 % and 1 are vacuous" in first


def test_guessing_depends_on_the_classes():
    row = make_row("svd", 900, 20, 0.6)
    assert "certifies less" in conclude(make_comparison(row))[0]
    binary = make_comparison(row)
    binary = make_comparison(row, sample={**binary.sample, "num_classes": 2})
    assert conclude(binary)[0].startswith("None of the 1 message certifies less than the 50.00 %")


def test_no_message_at_all():
    said = conclude(make_comparison(make_refused("svd", "too small")))
    assert said[0] == "No codec made a message for this network."
    assert said[-1] == "1 row without a message, each saying why: svd."


def test_holding_out_stands_beside():
    assert sentence(make_usual(), "Holding out").startswith(
        "Holding out 100 labels says 6.16 % of the original network, which is tighter than the best message's 41.00 %"
    )
    better = make_comparison(make_row("tuned", 30, 15, 0.05))
    assert "which is no tighter than the best message's 5.00 %" in sentence(better, "Holding out")
    assert not [line for line in conclude(make_comparison(make_row("svd", 9, 1, 0.5), held=False)) if "out" in line]


def test_projection_against_singular_values():
    start = "Random projection"
    worse = sentence(make_usual(), start)
    assert "dropping singular values is better here; 0 of 2 svd messages are beaten" in worse
    assert "1 of 1 projections by such an svd message" in worse
    assert "Closest in length: matrix-project 2000 with 2,000 bits and 70.00 % training errors, svd " in worse
    assert worse.endswith("None of these messages certifies less than guessing.")
    better = make_comparison(make_row("svd", 2000, 700, 0.8), make_row("matrix-project", 2000, 300, 0.7))
    assert "random projection is better here" in sentence(better, start)
    assert not sentence(better, start).endswith("guessing.")
    shorter = make_comparison(make_row("svd", 2000, 300, 0.8), make_row("matrix-project", 1900, 300, 0.7))
    assert "random projection is better here; 1 of 1" in sentence(shorter, start)
    useless = make_comparison(make_row("svd", 2000, 890, 1.0), make_row("matrix-project", 1900, 880, 1.0))
    assert "neither is better: no message of use" in sentence(useless, start)
    apart = make_comparison(make_row("svd", 3000, 100, 0.8), make_row("matrix-project", 2000, 600, 0.7))
    assert "(the question of Zhang 2020): neither is better: no message" in sentence(apart, start)


def test_projection_and_singular_values_each_win_somewhere():
    svd = (make_row("svd", 1000, 100, 1.0), make_row("svd", 3000, 90, 1.0))
    projections = (make_row("matrix-project", 900, 99, 1.0), make_row("matrix-project", 3000, 95, 1.0))
    said = sentence(make_comparison(*svd, *projections), "Random projection")
    assert "a draw; 1 of 2 svd messages are beaten" in said
    more = (*projections, make_row("matrix-project", 3100, 96, 1.0))
    said = sentence(make_comparison(*svd, *more), "Random projection")
    assert "neither is better throughout, dropping singular values more often; 1 of 2" in said
    assert "2 of 3 projections" in said


def test_the_same_errors_at_the_same_length_are_no_win():
    tie = make_comparison(make_row("svd", 2000, 700, 0.8), make_row("matrix-project", 2000, 700, 0.8))
    assert "neither is better: no message" in sentence(tie, "Random projection")


def test_projection_is_left_out_without_both():
    assert not [line for line in conclude(make_comparison(make_row("svd", 2, 7, 0.8))) if "projection" in line]


def test_a_sentence_for_every_codec():
    told = dict(family_sentences(make_usual()))
    assert list(told) == ["svd", "matrix-project", "tuned", "exact", "sketch"]
    assert told["svd"] == (
        "svd: no bound below guessing's 90.00 % in 2 messages; within 1 point of the original's training error at "
        "4,000 bits (svd 4000)."
    )
    assert told["matrix-project"].endswith(
        "none keeps the network within 1 point; the closest makes 70.00 % training errors."
    )
    assert told["tuned"].startswith("tuned: best bound 41.00 % (tuned 300, 300 bits); within 1 point")
    assert told["sketch"] == "sketch: no message for this network."


def test_the_best_is_the_smallest_bound_then_the_shortest():
    rows = (make_row("a", 50, 1, 0.5), make_row("b", 40, 1, 0.5), make_row("c", 10, 1, 0.6))
    assert make_comparison(*rows).best == rows[1]


def test_bounds_are_rounded_up():
    assert percent_up(0.4100001) == "41.01 %"
    row = make_row("svd", 10, 1, 0.5, measured=make_measured(10, 1, 0.4100001))
    assert "41.01 %" in conclude(make_comparison(row))[0]
