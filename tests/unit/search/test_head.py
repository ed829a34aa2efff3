"""The integer head: what its candidates say is so, a rerun goes on where it stopped, and sizes decide the settings."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from safetensors import SafetensorError, safe_open

from bitcert import Helper, Role, Run, Sample, certify, count_errors, decode_message
from bitcert.decoder import linear_head
from bitcert.decoder.features.edges import FEATURE_GRID, num_features
from bitcert.errors import InputError
from bitcert.search import Checkpoint, compress_head
from bitcert.search import plain_head as head


@pytest.fixture(scope="module")
def lines():
    """Images [1, 8, 8] of horizontal and vertical lines with noise: easy for oriented edges."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 60, (240, 1, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 2, 240)
    for image, label, position in zip(inputs[:, 0], labels, rng.integers(2, 6, 240), strict=True):
        if label:
            image[position] += 180
        else:
            image[:, position] += 180
    return Sample(inputs, labels, 2, Role.TRAIN, "lines")


def compressed(sample, **options):
    return compress_head(sample, Helper.for_sample(sample), Run(**{"budget_seconds": 0.2, **options}))


def test_a_head_learns_and_says_what_it_is(lines):
    result = compressed(lines)
    certificate = certify(result, lines)
    assert certificate.errors < 0.1 * len(lines)
    assert certificate.bound < 0.35
    decoded = decode_message(result.message, result.helper)
    assert decoded.ledger == result.ledger
    assert [name for name, _ in result.ledger.sections] == ["header", "feature settings", "head weights", "padding"]
    assert isinstance(decoded.classifier, linear_head.LinearHead)
    assert f"{np.count_nonzero(decoded.classifier.weights)} non-zero weights" in decoded.description


def test_the_best_candidate_is_the_message(lines):
    """What the search believed of its best head is what a stranger counts of the decoded one."""
    result = compressed(lines)
    best = min(result.candidates, key=lambda candidate: candidate.bound)
    certificate = certify(result, lines)
    assert (best.errors, best.message_bits) == (certificate.errors, certificate.message_bits)
    assert best.bound == certificate.bound
    assert best.seconds >= 0


def test_delta_of_the_run_is_that_of_its_candidates(lines):
    result = compressed(lines, delta=1e-6)
    best = min(result.candidates, key=lambda candidate: candidate.bound)
    assert best.bound == certify(result, lines, delta=1e-6).bound


def test_labels_that_are_coins_say_nothing(lines):
    labels = np.random.default_rng(1).integers(0, 2, len(lines))
    result = compressed(dataclasses.replace(lines, labels=labels))
    assert certify(result, dataclasses.replace(lines, labels=labels)).bound >= 0.5


def test_inputs_that_are_no_images():
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(300, 5)).astype(np.float32)
    sample = Sample(inputs, (inputs[:, 3] > 0.5).astype(np.int64), 2, Role.TRAIN, "columns")
    result = compressed(sample)
    assert [name for name, _ in result.ledger.sections] == ["header", "head weights", "padding"]
    assert certify(result, sample).bound < 0.3


def test_a_number_of_classes_read_off_the_labels_is_in_the_message(lines):
    inferred = Sample.from_arrays(lines.inputs, lines.labels, Role.TRAIN, "lines")
    result = compressed(inferred)
    assert "number of classes" in dict(result.ledger.sections)
    assert certify(result, inferred).message_bits == 8 * len(result.message)


def test_constant_inputs_do_no_harm():
    sample = Sample(np.zeros((50, 1, 8, 8), np.uint8), np.arange(50) % 2, 2, Role.TRAIN, "blank")
    assert certify(compressed(sample), sample).bound >= 0.5


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


def test_a_rerun_goes_on_from_the_checkpoint(lines, tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "this run")
    first = compressed(lines, checkpoint=checkpoint, budget_seconds=1.0)
    reached = min(candidate.bound for candidate in first.candidates)
    spent = json.loads(safe_open(checkpoint.path, framework="pt").metadata()["values"])["seconds"]
    assert spent > 0
    again = Run(budget_seconds=0.01, checkpoint=checkpoint)
    second = compress_head(lines, Helper.for_sample(lines), again)
    assert again.seconds >= spent, "the time of the earlier sitting counts"
    assert certify(second, lines).bound <= reached


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
    monkeypatch.setattr(head, "FEATURE_MEMORY_BYTES", 4 * 100 * 100)
    result = compressed(lines)
    certificate = certify(result, lines)
    assert certificate.samples == len(lines)
    assert certificate.errors == count_errors(decode_message(result.message, result.helper).classifier, lines).errors
    assert certificate.bound < 0.6


def test_too_many_weights_are_refused():
    sample = Sample(np.zeros((4, 3000), np.float32), np.array([0, 1, 2, 7999]), 8000, Role.TRAIN, "wide")
    with pytest.raises(InputError, match="give a network of your own"):
        compressed(sample)


@pytest.mark.parametrize(
    ("shape", "num_samples"), [((1, 8, 8), 100), ((1, 28, 28), 60_000), ((3, 32, 32), 50_000), ((1, 4, 4), 10)]
)
def test_settings_are_chosen_by_sizes_alone_and_fit(shape, num_samples):
    chosen = head.choose_settings(Helper(shape, 10), num_samples)
    assert chosen
    assert set(chosen) <= set(FEATURE_GRID)
    assert all(setting is not None and setting.grid <= min(shape[1:]) for setting in chosen)


def test_settings_of_the_benchmarks():
    assert head.choose_settings(Helper((7,), 3), 100) == (None,)
    [mnist] = head.choose_settings(Helper((1, 28, 28), 10), 60_000)
    assert (mnist.grid, mnist.smoothing, mnist.intensity) == (7, 1, False)
    [cifar] = head.choose_settings(Helper((3, 32, 32), 10), 50_000)
    assert cifar.intensity


@pytest.mark.parametrize("setting", [FEATURE_GRID[0], FEATURE_GRID[5], FEATURE_GRID[-1]])
def test_any_head_is_written_and_read(setting):
    helper = Helper((1, 12, 12), 4)
    rng = np.random.default_rng(3)
    weights = rng.integers(-5, 6, (num_features(setting, helper.input_shape), 4)) * (rng.random(4) < 0.7)
    message, ledger = linear_head.write(setting, weights, helper)
    decoded = decode_message(message, helper)
    assert isinstance(decoded.classifier, linear_head.LinearHead)
    assert decoded.classifier.settings == setting
    assert np.array_equal(decoded.classifier.weights, weights)
    assert decoded.ledger == ledger
    assert ledger.total_bits == 8 * len(message)
    x = rng.integers(0, 256, (3, 1, 12, 12)).astype(np.uint8)
    assert decoded.classifier(x).shape == (3, 4)
    assert decoded.classifier(x).dtype == torch.float32
