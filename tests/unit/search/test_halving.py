"""The search: the best message wins, time is shared out, and stopping, killing and prolonging lose nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitcert import Compressed, Helper, Preprocessing, Role, Run, Sample, certify
from bitcert.decoder import decode_message
from bitcert.decoder import head as bank_head
from bitcert.errors import InputError
from bitcert.search import Checkpoint, Contender, Judge, OriginalNetwork, search
from bitcert.search.halving import entrants


def found_by(fakes, sample, budget=100.0, run=None, **options):
    run = run or Run(budget_seconds=budget)
    contenders = [fake.contender(name, sample) for name, fake in fakes.items()]
    return search(contenders, sample, Judge(sample, run.delta), run, **options)


def three(fake):
    """A slow one that ends best, a quick one, and one that never gets anywhere."""
    return {
        "quick": fake({0: 4, 2: 2}),
        "slow": fake({0: 2, 10: 1, 30: 0}),
        "poor": fake({0: 6}),
    }


def test_the_best_message_wins_and_everything_tried_is_listed(fake, points, message_of):
    fakes = three(fake)
    found = found_by(fakes, points)
    certificate = certify(found, points)
    assert certificate.errors == 0, "the slow one"
    assert found.message == message_of(1, 0, found.helper)
    assert certificate.bound == min(c.bound for c in found.candidates)
    assert {c.name.split(": ")[0] for c in found.candidates} == set(fakes)
    assert len(found.candidates) == sum(fake.steps + len(fake.attempts) for fake in fakes.values())


def test_time_goes_to_the_promising(clock, fake, points):
    fakes = three(fake)
    start = clock.now
    found_by(fakes, points)
    assert clock.now - start == pytest.approx(100.0, abs=3.0)
    assert fakes["poor"].steps < 15
    assert fakes["slow"].steps > 50
    assert fakes["slow"].attempts == sorted(fakes["slow"].attempts)


def test_the_leader_of_every_option_goes_on_and_is_kept(clock, fake, points, message_of):
    """An option that never wins still gets its best message, and the best one still gets most of the time."""
    fakes = three(fake) | {"own slow": fake({0: 6, 8: 3, 20: 2}), "own poor": fake({0: 5})}
    contenders = [
        replace(each.contender(name, points), option="own" if name.startswith("own") else "built in")
        for name, each in fakes.items()
    ]
    start = clock.now
    found = search(contenders, points, Judge(points, 0.05), Run(budget_seconds=200.0))
    assert clock.now - start == pytest.approx(200.0, abs=3.0)
    assert (found.option, found.message) == ("built in", message_of(1, 0, found.helper))
    (other,) = found.others
    assert (other.option, other.message, other.others) == ("own", message_of(1, 2, other.helper), ())
    (judged,) = other.candidates
    errors = certify(other, points).errors
    assert (judged.name, judged.errors, judged.message_bits) == ("own slow", errors, 8 * len(other.message))
    assert judged.bound == other.bound > found.bound
    assert fakes["slow"].steps > fakes["own slow"].steps > fakes["own poor"].steps


def test_one_that_cannot_continue_starts_again_with_a_longer_budget(fake, points):
    fakes = three(fake) | {"slow": fake({0: 1, 10: 1, 40: 0}, continues=False)}
    found = found_by(fakes, points)
    assert certify(found, points).errors == 0
    attempts = fakes["slow"].attempts
    assert len(attempts) == 2
    assert sum(attempts) == pytest.approx(100.0 - fakes["quick"].steps - fakes["poor"].steps, abs=4.0)


def test_a_stopped_search_gives_a_valid_message_at_once(fake, points):
    fakes = three(fake)
    run = Run(budget_seconds=100.0)
    run.progress = lambda task, fraction: run.stop() if run.seconds > 12 else None
    found = found_by(fakes, points, run=run)
    assert run.seconds < 16
    assert certify(found, points).bound == min(c.bound for c in found.candidates) < 1


def test_a_search_that_is_stopped_before_it_began_still_has_a_message(fake, points):
    run = Run(budget_seconds=100.0)
    run.stop()
    fakes = three(fake)
    found = found_by(fakes, points, run=run)
    assert certify(found, points).bound < 1
    assert [fake.steps for fake in fakes.values()] == [0, 0, 0]
    assert [len(fake.attempts) for fake in fakes.values()] == [1, 0, 0]


@pytest.mark.parametrize("kill_at", [2, 11, 25, 60])
def test_a_killed_search_goes_on_where_it_was(fake, points, tmp_path, kill_at):
    wanted = found_by(three(fake), points)
    fakes = three(fake)
    checkpoint = Checkpoint(tmp_path / "search" / "state.safetensors", "this problem")
    fakes["slow"].kill_at = kill_at
    with pytest.raises(KeyboardInterrupt):
        found_by(fakes, points, run=Run(budget_seconds=100.0, checkpoint=checkpoint))
    again = three(fake)
    found = found_by(again, points, run=Run(budget_seconds=100.0, checkpoint=checkpoint))
    assert found.message == wanted.message
    steps = sum(fake.steps for fake in (*fakes.values(), *again.values()))
    assert steps <= 103, "no step is taken twice"
    tried = {c.name for c in found.candidates}
    assert tried <= {c.name for c in wanted.candidates}
    assert {"quick: tilt 2", "slow: tilt 0", "poor: tilt 6"} <= tried


def test_a_finished_search_is_not_done_again_and_a_longer_one_goes_on(fake, points, tmp_path):
    def run(budget):
        return Run(budget_seconds=budget, checkpoint=Checkpoint(tmp_path / "state.safetensors", "this problem"))

    short = found_by(three(fake), points, run=run(30.0))
    assert certify(short, points).errors > 0
    same = three(fake)
    assert found_by(same, points, run=run(30.0)).message == short.message
    assert sum(fake.steps for fake in same.values()) <= 1
    longer = three(fake)
    found = found_by(longer, points, run=run(100.0))
    assert certify(found, points).errors == 0
    assert sum(fake.steps for fake in longer.values()) <= 73


def test_a_checkpoint_of_another_problem_is_not_used(fake, points, tmp_path):
    path = tmp_path / "state.safetensors"
    found_by(three(fake), points, run=Run(budget_seconds=50.0, checkpoint=Checkpoint(path, "one")))
    fakes = three(fake)
    found_by(fakes, points, run=Run(budget_seconds=50.0, checkpoint=Checkpoint(path, "another")))
    assert sum(fake.steps for fake in fakes.values()) >= 48


def test_what_refuses_is_left_out_and_all_refusing_is_told(fake, points):
    def refuse(sample, helper, run):
        raise InputError("images", "points", "use another")

    seen = []
    refusing = Contender("refusing", 1, refuse, Helper.for_sample(points))
    good = fake({0: 0}).contender("good", points)
    run = Run(budget_seconds=10.0)
    found = search([refusing, good], points, Judge(points, run.delta), run, watch=seen.append)
    assert certify(found, points).errors == 0
    assert [row.state for row in seen[-1].rows] == ["not for this problem", "tried"]
    with pytest.raises(InputError, match="images"):
        search([refusing], points, Judge(points, 0.05), Run(budget_seconds=10.0))
    with pytest.raises(InputError, match="at least one way"):
        search([], points, Judge(points, 0.05), Run())


def test_a_helper_that_was_not_declared_is_refused(fake, points, message_of):
    def cheat(sample, helper, run):
        seen = replace(helper, preprocessing=replace(helper.preprocessing, scale=2.0))
        message = message_of(1, 0, seen)
        return Compressed(message, decode_message(message, seen).ledger, seen)

    cheating = Contender("cheating", 1, cheat, Helper.for_sample(points))
    good = fake({0: 1}).contender("good", points)
    with pytest.raises(InputError, match="declared"):
        search([cheating, good], points, Judge(points, 0.05), Run(budget_seconds=10.0))


def test_the_board_tells_the_best_so_far(fake, points):
    boards = []
    found = found_by(three(fake), points, watch=boards.append)
    assert [row.name for row in boards[0].rows] == ["quick", "slow", "poor"]
    assert boards[0].best is None
    best = [board.best.bound for board in boards if board.best is not None]
    assert best == sorted(best, reverse=True)
    assert boards[-1].best.name == "slow"
    assert boards[-1].best.bound == certify(found, points).bound
    assert any(row.state == "running" for row in boards[0].rows)


def test_those_that_the_time_is_too_short_for_are_left_out(fake, points):
    one = fake({0: 1})
    first, second = one.contender("a", points, least_seconds=50.0), one.contender("b", points, least_seconds=1.0)
    third = one.contender("c", points, least_seconds=40.0)
    assert [c.name for c in entrants((first, second, third), 20.0)] == ["a", "b"], "the first stays at any rate"
    assert [c.name for c in entrants((first, second, third), 1000.0)] == ["a", "b", "c"]


def tilted(points, tilt):
    """Logits of the original network: the right sign, seen through a tilt."""
    score = points.inputs[:, 0] + 0.5 * tilt * points.inputs[:, 1]
    return np.stack([-score, score], 1)


def test_a_surrogate_is_judged_with_the_disagreement(fake, points, message_of):
    """The message with the fewest errors is not the one that says most of a tilted original network."""
    right, alike = fake({0: 0}), fake({0: 1})
    contenders = [right.contender("right", points), alike.contender("alike", points)]
    original = OriginalNetwork(tilted(points, 2.0), 100, 0.04)
    run = Run(budget_seconds=10.0, delta=0.01)
    found = search(contenders, points, Judge(points, 0.01, original), run)
    assert found.message == message_of(1, 1, found.helper)
    judged = [c for c in found.candidates if "predicted" in c.name]
    alone = [c for c in found.candidates if "alone" in c.name]
    assert {c.name.split(": ")[0] for c in judged} == {"right", "alike"}
    assert min(c.bound for c in judged) > min(c.bound for c in alone)


def test_random_labels_end_without_a_claim(fake, points):
    labels = np.random.default_rng(1).integers(0, 2, len(points))
    noise = Sample(points.inputs, labels, 2, Role.TRAIN, "noise")
    certificate = certify(found_by(three(fake), noise), noise)
    assert certificate.bound >= 0.5


def test_a_wrong_claim_of_a_contender_costs_tightness_only(fake, points, message_of):
    """What a compressor books is believed for ranking; the certificate counts again."""

    def lie(sample, helper, run):
        message = message_of(0, 1, helper)
        run.consider("lie", 0, len(sample), 8 * len(message))
        return Compressed(message, decode_message(message, helper).ledger, helper, tuple(run.candidates))

    contenders = [
        Contender("liar", bank_head.FAMILY, lie, Helper.for_sample(points)),
        fake({0: 1}).contender("honest", points),
    ]
    found = search(contenders, points, Judge(points, 0.05), Run(budget_seconds=10.0))
    assert certify(found, points).bound > 0.4


def test_one_family_has_one_helper(fake, points):
    """Two helper strings for one family would be two codes, and their choice a bit that nobody pays."""
    other = replace(Helper.for_sample(points), preprocessing=Preprocessing(scale=2.0))
    one = fake({0: 0}).contender("one", points)
    with pytest.raises(InputError, match="one helper string for all messages of family 2"):
        search([one, replace(one, name="two", helper=other)], points, Judge(points, 0.05), Run(budget_seconds=5.0))
    with pytest.raises(InputError, match="different names"):
        search([one, one], points, Judge(points, 0.05), Run(budget_seconds=5.0))
    with pytest.raises(InputError, match="declared"):
        search([replace(one, family=9)], points, Judge(points, 0.05), Run(budget_seconds=5.0))


def test_a_message_that_cannot_be_read_any_more_is_sought_anew(fake, points, tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "this problem")
    wanted = found_by({"one": fake({0: 0})}, points, budget=5.0, run=Run(budget_seconds=5.0, checkpoint=checkpoint))
    values, tensors = checkpoint.load()
    checkpoint.save(values, {name: torch.full((3,), 255, dtype=torch.uint8) for name in tensors})
    one = fake({0: 0})
    found = found_by({"one": one}, points, run=Run(budget_seconds=5.0, checkpoint=checkpoint))
    assert found.message == wanted.message
    assert one.attempts
