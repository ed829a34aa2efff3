"""The trainer of family 5 on small helper networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bitcert.certificates.certification import certify
from bitcert.coding import RowModel
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, HelperWeights, Preprocessing
from bitcert.decoder.features.network import feature_sources
from bitcert.decoder.network_head import NetworkFeatures
from bitcert.errors import DecodeError, InputError
from bitcert.network import capture
from bitcert.run import Checkpoint, Run
from bitcert.search.head_features import FeatureCache, examples_of
from bitcert.search.head_forms import compress_network_head
from bitcert.search.head_objective import BankObjective

FOREVER = 1e9


def problem(count: int, noise: float, seed: int = 0) -> Sample:
    """Vectors of four numbers, labelled by the sign pattern of the first two."""
    draws = np.random.default_rng(seed)
    x = draws.normal(size=(count, 4)).astype(np.float32)
    labels = (x[:, 0] > 0) * 2 + (x[:, 1] > 0)
    wrong = draws.random(count) < noise
    labels[wrong] = draws.integers(0, 4, wrong.sum())
    return Sample(x, labels, 4, Role.TRAIN, "quadrants")


def helper_for(sample: Sample, last: torch.Tensor) -> Helper:
    """Hidden units +x and -x, read by ``last [outputs, 8]``."""
    first, second = torch.nn.Linear(4, 8, bias=False), torch.nn.Linear(8, len(last), bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.cat([torch.eye(4), -torch.eye(4)]))
        second.weight.copy_(last)
    network = capture(torch.nn.Sequential(first, torch.nn.ReLU(), second), torch.ones(2, 4))
    weights = HelperWeights.of(network.architecture, network.parameters)
    return Helper.for_sample(sample, network.architecture, Preprocessing(), weights)


def right_answer() -> torch.Tensor:
    signs = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    last = torch.zeros(4, 8)
    last[:, :2], last[:, 4:6] = signs, -signs
    return last


def test_a_good_helper_network_is_sent_as_it_is() -> None:
    sample = problem(300, 0.02)
    compressed = compress_network_head(sample, helper_for(sample, right_answer()), Run(budget_seconds=1.0))
    assert len(compressed.message) == 1
    certificate = certify(compressed, sample)
    assert certificate.errors == compressed.candidates[0].errors < 20
    assert certificate.bound == pytest.approx(min(c.bound for c in compressed.candidates))


@pytest.mark.parametrize("outputs", [4, 7])
def test_a_head_is_trained_on_a_network_that_was_made_for_something_else(outputs: int) -> None:
    sample = problem(300, 0.02)
    helper = helper_for(sample, torch.ones(outputs, 8))
    compressed = compress_network_head(sample, helper, Run(budget_seconds=1.0))
    certificate = certify(compressed, sample)
    assert certificate.errors < 0.15 * len(sample)
    assert certificate.bound == pytest.approx(min(c.bound for c in compressed.candidates))
    assert "head" in certificate.description or "correction" in certificate.description


def test_a_wrong_class_of_the_helper_network_is_corrected() -> None:
    sample = problem(300, 0.0)
    last = 3 * right_answer()
    last[2] -= 5.0  # the third class is never chosen
    helper = helper_for(sample, last)
    compressed = compress_network_head(sample, helper, Run(budget_seconds=1.0))
    certificate = certify(compressed, sample)
    as_it_is = compressed.candidates[0]
    assert as_it_is.errors > 0.2 * len(sample)
    assert certificate.bound < 0.8 * as_it_is.bound


def test_the_cache_holds_what_the_decoder_computes() -> None:
    sample = problem(40, 0.0)
    helper = helper_for(sample, right_answer())
    sources = feature_sources(helper.predictor)
    cache = FeatureCache.fill(sample, helper, sources, Run())
    assert sorted(cache.rows) == list(range(40))
    for source in sources:
        features, logits = NetworkFeatures.of(helper, source, True, True)(sample.inputs[cache.rows])
        torch.testing.assert_close(cache.matrix(source, True, True), features.T)
        torch.testing.assert_close(cache.logits, logits)
    part = FeatureCache.fill(sample, helper, sources, Run(), 7)
    np.testing.assert_array_equal(part.rows, cache.rows[:7])
    torch.testing.assert_close(part.logits, cache.logits[:7])


def test_a_stopped_run_returns_a_message_at_once() -> None:
    sample = problem(600, 0.02)
    run = Run()
    run.stop()
    compressed = compress_network_head(sample, helper_for(sample, torch.ones(7, 8)), run)
    assert 0 < certify(compressed, sample).bound <= 1


def test_resuming_keeps_the_best_message(tmp_path: Path) -> None:
    sample = problem(60, 0.02)
    helper = helper_for(sample, torch.ones(7, 8))
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "a")
    first = compress_network_head(sample, helper, Run(budget_seconds=FOREVER, checkpoint=checkpoint))
    again = Run(budget_seconds=FOREVER, checkpoint=checkpoint)
    assert compress_network_head(sample, helper, again).message == first.message
    assert not again.candidates  # nothing was left to do


def test_labels_that_are_coins_end_with_a_message() -> None:
    """No head says more there than the majority class, which no message of this family need be able to say."""
    sample = replace(problem(600, 0.0), labels=np.random.default_rng(1).integers(0, 4, 600))
    compressed = compress_network_head(sample, helper_for(sample, torch.ones(7, 8)), Run(budget_seconds=4.0))
    assert certify(compressed, sample).bound >= 0.75


def test_every_checkpoint_is_one_that_the_search_goes_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descent on one matrix of features writes none of its own in the same place."""
    sample, kept = problem(200, 0.02), []
    save = Checkpoint.save

    def saved(self: Checkpoint, values, tensors) -> None:
        kept.append(values)
        save(self, values, tensors)

    monkeypatch.setattr(Checkpoint, "save", saved)
    run = Run(budget_seconds=1.0, checkpoint=Checkpoint(tmp_path / "state.safetensors", "a"))
    compress_network_head(sample, helper_for(sample, torch.ones(4, 8)), run)
    assert len(kept) > 2
    assert all("chosen" in values for values in kept)


def test_soft_labels_that_are_sure_are_the_labels_and_a_fixed_part_is_added() -> None:
    draws = np.random.default_rng(3)
    features = torch.tensor(draws.normal(size=(5, 60)), dtype=torch.float32)
    labels, offset = torch.tensor(draws.integers(0, 3, 60)), torch.tensor(draws.normal(size=(60, 3))).float()
    hard = torch.eye(3)[labels]
    model = RowModel(np.array([0, 0, 0, 0, -1], dtype=np.intp), 3)
    one, other = (
        BankObjective(examples_of(features, labels, 3, 1.0, soft, offset), model, np.zeros((5, 3), np.int64), 0.3)
        for soft in (None, hard)
    )
    order = torch.argsort(labels, stable=True)
    assert torch.equal(one.logits_t(), offset[order].T)
    assert one.loss == pytest.approx(float(torch.nn.functional.cross_entropy(0.3 * offset, labels)) * 60, rel=1e-5)
    assert other.loss == pytest.approx(one.loss, rel=1e-5)
    np.testing.assert_allclose(other.slopes(), one.slopes(), rtol=1e-4, atol=1e-4)
    for row in range(5):
        change = np.array([[0, 1, 0]])
        assert all(objective.attempt(np.array([row]), change, -np.inf) for objective in (one, other))
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert one.weights.any()
    moved = torch.from_numpy(one.weights).float().T @ features[:, order] + offset[order].T
    assert torch.allclose(one.logits_t(), moved, atol=1e-5)


def test_refusals() -> None:
    sample = problem(50, 0.0)
    helper = helper_for(sample, right_answer())
    with pytest.raises(DecodeError, match="network with its weights"):
        compress_network_head(sample, replace(helper, weights=None), Run())
    with pytest.raises(InputError, match="targets of shape"):
        compress_network_head(sample, helper, Run(), targets=np.ones((50, 3)))
