"""Heads on banks: what the candidates say is so, moves are exact, a rerun goes on, soft targets are only a guide."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from bitcert import Helper, Role, Run, Sample, certify, count_errors, decode_message
from bitcert.coding import RowModel
from bitcert.decoder import head as bank_head
from bitcert.decoder.features.banks import BANKS
from bitcert.errors import InputError
from bitcert.proof import occam_bound
from bitcert.search import Checkpoint, compress_head, head
from bitcert.search import head_moves as bank_moves
from bitcert.search.head import BankSearch
from bitcert.search.head_features import GROWN_ON, feature_examples, head_memory_bytes
from bitcert.search.head_objective import BankObjective, Examples
from bitcert.search.head_start import begin_convex, sparse_softmax
from bitcert.search.judging import errors_per_bit


@pytest.fixture(scope="module")
def columns():
    """Vectors of which two entries decide between three classes."""
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(400, 12)).astype(np.float32)
    labels = np.where(inputs[:, 3] > 0.4, 2, (inputs[:, 7] > 0).astype(np.int64))
    return Sample(inputs, labels, 3, Role.TRAIN, "columns")


@pytest.fixture(scope="module")
def lines():
    """Images [1, 8, 8] of horizontal and vertical lines with noise."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 60, (400, 1, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 2, 400)
    for image, label, position in zip(inputs[:, 0], labels, rng.integers(2, 6, 400), strict=True):
        image[(position, slice(None)) if label else (slice(None), position)] += 180
    return Sample(inputs, labels, 2, Role.TRAIN, "lines")


def compressed(sample, targets=None, **options):
    run = Run(**{"budget_seconds": 0.3, **options})
    return compress_head(sample, Helper.for_sample(sample), run, targets=targets)


def objective_of(sample, power=0.0, targets=None, seed=1):
    helper = Helper.for_sample(sample)
    examples = feature_examples(sample, helper, None, np.arange(len(sample)), targets)
    weights = np.random.default_rng(seed).integers(-2, 3, (13, 3)) * (np.arange(13) % 2 == 1)[:, None]
    return BankObjective(examples, bank_head.row_model(None, helper), weights, 0.5, power=power)


def test_a_head_learns_and_says_what_it_is(columns):
    result = compressed(columns)
    certificate = certify(result, columns)
    assert certificate.bound < 0.4
    decoded = decode_message(result.message, result.helper)
    assert decoded.ledger == result.ledger
    assert [name for name, _ in result.ledger.sections] == ["header", "head weights", "padding"]
    used = set(np.flatnonzero(decoded.classifier.weights[:-1].any(1)))
    assert {3, 7} <= used


def test_the_best_candidate_is_the_message(columns):
    result = compressed(columns, delta=1e-3)
    best = min(result.candidates, key=lambda candidate: candidate.bound)
    certificate = certify(result, columns, delta=1e-3)
    assert (best.errors, best.message_bits, best.bound) == (
        certificate.errors,
        certificate.message_bits,
        certificate.bound,
    )


def test_images_use_a_bank_and_name_it(lines):
    result = compressed(lines, budget_seconds=0.5)
    certificate = certify(result, lines)
    assert certificate.bound < 0.6
    assert "feature bank" in dict(result.ledger.sections)
    first, *others = result.candidates
    assert first.name == "majority class"
    assert others
    assert all(candidate.name.startswith("bank ") for candidate in others)
    assert decode_message(result.message, result.helper).classifier.bank in BANKS


def test_labels_that_are_coins_say_nothing(columns):
    labels = np.random.default_rng(1).integers(0, 3, len(columns))
    coins = dataclasses.replace(columns, labels=labels)
    assert certify(compressed(coins), coins).bound >= 2 / 3


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_changes_and_derivatives_are_those_of_the_loss(columns, power, soft):
    targets = np.random.default_rng(5).dirichlet(np.ones(3), len(columns)).astype(np.float32) if soft else None
    objective = objective_of(columns, power, targets)
    slopes, before = objective.slopes(), objective.loss
    rows, steps = np.array([2, 7]), np.array([[1, 0, -2], [0, 1, 0]])
    assert objective.attempt(rows, steps, -np.inf)
    moved = objective.loss
    objective.refresh()
    assert moved == pytest.approx(objective.loss, rel=1e-4)
    assert objective.loss != pytest.approx(before, rel=1e-4)
    objective.attempt(rows, -steps, -np.inf)
    objective.weights[4] = 0
    objective.refresh()
    slopes, step, at = objective.slopes(), 1e-3, objective.loss
    objective.examples.features_t[4] *= step
    objective.attempt(np.array([4]), np.array([[0, 1, 0]]), -np.inf)
    assert (objective.loss - at) / step == pytest.approx(slopes[4, 1], rel=0.05, abs=0.3)


def test_a_large_change_of_a_sure_example_is_exact():
    """One minus nearly one must not be taken from float32 probabilities."""
    features = torch.tensor([[30.0, -30.0], [1.0, 1.0]])
    model = RowModel(np.array([0, -1], dtype=np.intp), 2)
    objective = BankObjective(Examples(features, np.array([1, 1])), model, np.array([[1, -1], [0, 0]]), 1.0)
    assert objective.loss == pytest.approx(0, abs=1e-6)
    objective.attempt(np.array([0]), np.array([[-2, 2]]), -np.inf)
    assert objective.loss == pytest.approx(120, rel=1e-5)


def test_moves_never_raise_the_objective_and_restore_is_exact(columns):
    objective = objective_of(columns)
    saved = objective.save(np.arange(13))
    value, order = objective.value(), np.random.default_rng(0)
    for move in (
        lambda: bank_moves.descend(objective, lambda: False, 5, 0.1),
        lambda: bank_moves.descend_pairs(objective, lambda: False, True),
        lambda: bank_moves.delete_rows(objective),
        lambda: bank_moves.insert_rows(objective),
        lambda: bank_moves.replace_rows(objective, lambda: False, order),
    ):
        move()
        objective.refresh()
        assert objective.value() < value + 5, "prices are refreshed between rounds only"
        value = objective.value()
    reached = objective.loss
    objective.restore(saved)
    assert objective.loss == saved.loss
    objective.refresh()
    assert objective.loss == pytest.approx(saved.loss, rel=1e-5)
    assert objective.loss > reached


def test_a_kick_drops_rows(columns):
    objective = objective_of(columns)
    before = len(objective.used_rows())
    bank_moves.kick(objective, 0.5, np.random.default_rng(0))
    assert len(objective.used_rows()) == before - 3


def test_errors_per_bit_is_the_slope_of_the_bound():
    errors, bits, samples = 900, 1200, 60_000
    bound = occam_bound(errors, samples, bits, 0.05).binomial
    by_bits = occam_bound(errors, samples, bits + 64, 0.05).binomial - bound
    by_errors = occam_bound(errors + 40, samples, bits, 0.05).binomial - bound
    ratio = (by_bits / 64) / (by_errors / 40)
    assert errors_per_bit(errors / samples, bound) * np.log(2) == pytest.approx(ratio, rel=0.05)
    assert np.isfinite([errors_per_bit(0.0, 0.1), errors_per_bit(0.9, 1.0)]).all()


def test_a_rerun_goes_on_from_the_checkpoint(columns, tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "this run")
    first = compressed(columns, checkpoint=checkpoint)
    reached = min(candidate.bound for candidate in first.candidates)
    again = Run(budget_seconds=0.01, checkpoint=checkpoint)
    second = compress_head(columns, Helper.for_sample(columns), again)
    assert again.seconds > 0.01
    assert certify(second, columns).bound == reached


def test_a_stopped_run_still_has_a_message(lines):
    run = Run(budget_seconds=100)
    run.stop()
    result = compress_head(lines, Helper.for_sample(lines), run)
    assert 0 < certify(result, lines).bound <= 1


def test_targets_guide_and_labels_count(columns):
    targets = np.eye(3, dtype=np.float32)[columns.labels] * 0.9 + 1 / 30
    result = compressed(columns, targets)
    best = min(result.candidates, key=lambda candidate: candidate.bound)
    assert certify(result, columns).errors == best.errors
    with pytest.raises(InputError, match="one row of probabilities"):
        compressed(columns, targets[:5])


def test_too_many_weights_are_refused():
    sample = Sample(np.zeros((4, 3000), np.float32), np.array([0, 1, 2, 7999]), 8000, Role.TRAIN, "wide")
    with pytest.raises(InputError, match="give a network of your own"):
        compressed(sample)


def test_memory_is_that_of_the_widest_bank():
    assert head_memory_bytes(Helper((1, 28, 28), 10), 60_000) < 1 << 30
    assert head_memory_bytes(Helper((1, 28, 28), 10), 60_000) > 4 * 60_000 * 900
    assert GROWN_ON < 60_000


def test_the_convex_start_finds_the_entries_that_decide(columns):
    helper = Helper.for_sample(columns)
    examples = feature_examples(columns, helper, None, np.arange(len(columns)), None)
    weights = sparse_softmax(examples.features_t, examples.labels, 3, 5.0, lambda: False)
    largest = np.argsort(-weights[:-1].abs().sum(1).numpy())[:2]
    assert set(largest) == {3, 7}
    assert (weights[:-1].abs().sum(1) == 0).any(), "the penalty leaves entries out"
    assert not sparse_softmax(examples.features_t, examples.labels, 3, 5.0, lambda: True).any()


def test_a_convex_start_is_a_head_of_its_objective(columns):
    objective = objective_of(columns)
    objective.weights[:] = 0
    objective.refresh()
    nothing = objective.value()
    begin_convex(objective, 0.5, 0.1, lambda: False)
    assert {3, 7} <= set(objective.used_rows())
    assert objective.value() < nothing


def test_few_examples_are_kicked_until_that_is_vain(columns):
    """The end is by the time since the last gain: several kicks, and as long as everything before it took."""
    run = Run(budget_seconds=1e6)
    search = BankSearch(columns, Helper.for_sample(columns), run, None)
    search.found = run.seconds + 1e3
    assert not search.is_idle(1000)
    search.found = search.started
    assert search.is_idle(20)
    assert not search.is_idle(19)


def test_narrow_banks_are_screened_first(lines):
    search = BankSearch(lines, Helper.for_sample(lines), Run(budget_seconds=1e6), None)
    banks = tuple(bank for bank in BANKS if not bank.upright and not bank.mirrored)
    widths = [len(objective.model.groups) for _, objective in search.screened(banks)]
    assert widths == sorted(widths)
    assert len(widths) == len(banks)


def test_polishing_in_pairs_looks_beyond_the_rows_in_use():
    x = np.random.default_rng(7).normal(size=(400, 2)).astype(np.float32)
    order = np.argsort(x[:, 0] > 0, kind="stable")
    features = torch.tensor(np.stack([x[:, 0] + x[:, 1], x[:, 1], np.ones(400)])[:, order], dtype=torch.float32)
    examples = Examples(features, np.bincount(x[:, 0] > 0))
    model = RowModel(np.array([0, 0, -1], dtype=np.intp), 2)
    objective = BankObjective(examples, model, np.zeros((3, 2), dtype=np.int64), 1.0, rate=1.0)
    bank_moves.descend_pairs(objective, lambda: False, True)
    assert (np.diff(objective.weights[:2]).ravel() * [1, -1] > 0).all(), "the second row takes away what disturbs"


def test_a_number_of_classes_read_off_the_labels_is_in_the_message(lines):
    inferred = Sample.from_arrays(lines.inputs, lines.labels, Role.TRAIN, "lines")
    result = compressed(inferred)
    assert "number of classes" in dict(result.ledger.sections)
    assert certify(result, inferred).message_bits == 8 * len(result.message)


def test_constant_inputs_do_no_harm():
    sample = Sample(np.zeros((50, 1, 8, 8), np.uint8), np.arange(50) % 2, 2, Role.TRAIN, "blank")
    assert certify(compressed(sample), sample).bound >= 0.5


@pytest.mark.parametrize("unit", [1e9, 1e36])
def test_a_column_in_a_small_unit_is_learned_and_overflows_nowhere(columns, unit):
    inputs = np.hstack([columns.inputs[:, 7:8] * np.float32(unit), columns.inputs[:, :2]])
    sample = Sample(inputs, (columns.inputs[:, 7] > 0).astype(np.int64), 2, Role.TRAIN, "a small unit")
    assert certify(compressed(sample), sample).bound < 0.2


def test_few_examples():
    sample = Sample(np.eye(2, dtype=np.float32), np.array([0, 1]), 2, Role.TRAIN, "two")
    assert certify(compressed(sample), sample).bound > 0.77, "no two examples show more"


def test_progress_and_budget(lines):
    seen = []
    run = Run(budget_seconds=0.2, progress=lambda task, fraction: seen.append(fraction))
    compress_head(lines, Helper.for_sample(lines), run)
    assert seen
    assert all(0 <= fraction <= 1 for fraction in seen)
    assert run.seconds < 20, "one stage may overrun the budget, not a whole search"


def test_a_checkpoint_of_another_run_is_not_used(lines, tmp_path):
    path = tmp_path / "state.safetensors"
    compressed(lines, checkpoint=Checkpoint(path, "this run"))
    assert Checkpoint(path, "this run").load() is not None
    assert Checkpoint(path, "another run").load() is None
    compressed(lines, checkpoint=Checkpoint(path, "another run"))
    assert Checkpoint(path, "this run").load() is None, "it was replaced by the other run's"


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    assert checkpoint.load() is None
    checkpoint.save({"step": 1}, {"x": torch.arange(3)})
    whole = checkpoint.path.read_bytes()

    def full(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[Checkpoint.__module__], "save_file", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save({"step": 2}, {"x": torch.arange(3)})
    assert checkpoint.load()[0] == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    for content in (b"", whole[:-1], whole[:20], b"\xff" * len(whole)):
        checkpoint.path.write_bytes(content)
        assert checkpoint.load() is None
    checkpoint.remove()
    checkpoint.remove()
    assert not checkpoint.path.exists()


def test_a_sample_larger_than_memory_is_trained_on_in_part_and_counted_in_whole(lines, monkeypatch):
    monkeypatch.setattr(head, "CACHE_BYTES", 4 * 100 * 100)
    result = compressed(lines)
    certificate = certify(result, lines)
    assert certificate.samples == len(lines)
    assert certificate.errors == count_errors(decode_message(result.message, result.helper).classifier, lines).errors
    assert certificate.bound < 0.6


def test_the_first_message_is_one_answer_for_everything(lines):
    """It needs no feature, so that a time that is over at once ends with a certificate too."""
    result = compressed(lines, budget_seconds=1e-9)
    first = result.candidates[0]
    assert first.name == "majority class"
    assert first.errors == min(np.bincount(lines.labels))
    assert certify(result, lines).bound <= first.bound
    alone = head.BankSearch(lines, Helper.for_sample(lines), Run(), None)
    alone.book_majority()
    answers = decode_message(alone.best.message, alone.helper).classifier(lines.inputs).argmax(1).numpy()
    np.testing.assert_array_equal(answers, np.bincount(lines.labels).argmax())


def test_of_large_inputs_features_are_computed_for_as_many_as_the_time_allows(lines, monkeypatch, ticking):
    """The clock moves a second at each look: sixteen examples take one, and 0.3 of what is left is for features."""
    search = BankSearch(lines, Helper.for_sample(lines), Run(budget_seconds=60.0), None)
    assert search.affordable_examples(BANKS[0]) == len(lines), "of small inputs, all"
    monkeypatch.setattr(head, "_PROBED_FROM", 1)
    ticking(1.0)
    search = BankSearch(lines, Helper.for_sample(lines), Run(budget_seconds=60.0), None)
    allowed = search.affordable_examples(BANKS[0])
    assert 16 * 0.3 * 50 <= allowed <= 16 * 0.3 * 60
    assert len(search.objective(BANKS[0], len(lines)).examples.labels) <= allowed
    late = BankSearch(lines, Helper.for_sample(lines), Run(budget_seconds=1.0), None)
    assert late.affordable_examples(BANKS[0]) == 50, "a few, however late it is"
