"""Training of compact nets: it learns within its budget, resumes, stops, follows the bits; soft labels; refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bitcert.counting import count_errors
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, decode_message
from bitcert.errors import InputError
from bitcert.run import Checkpoint, Run
from bitcert.search import compact
from bitcert.search.compact import Search, compress_compact, default_settings


@pytest.fixture(scope="module")
def stripes() -> Sample:
    """300 images of 8 x 8 pixels with stripes of two directions in noise: mirroring does not change the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    wave = 90 * np.sin(np.arange(8) * np.pi / 2)
    across = np.where(labels[:, None, None] == 0, wave[None, None, :], wave[None, :, None])
    pixels = 128 + across + rng.normal(0, 20, (300, 8, 8))
    return Sample(pixels.clip(0, 255).astype(np.uint8)[:, None], labels, 2, Role.TRAIN, "stripes")


def clock(monkeypatch: pytest.MonkeyPatch, run: Run, steps: int) -> None:
    """Time that passes with the steps of the training alone."""
    taken = [0]
    descend = compact._descend

    def counted(*args: object) -> None:
        taken[0] += 1
        descend(*args)

    monkeypatch.setattr(compact, "_descend", counted)
    monkeypatch.setattr(Run, "seconds", property(lambda self: taken[0] / steps * self.budget_seconds))
    monkeypatch.setattr(Search, "count_seconds", property(lambda self: 0.0, lambda self, value: None), raising=False)
    assert run.seconds == 0


def test_learns_and_every_candidate_is_a_decoded_message(stripes: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(seed=1, budget_seconds=100.0)
    clock(monkeypatch, run, 50)
    helper = Helper.for_sample(stripes)
    compressed = compress_compact(stripes, helper, run)
    best = min(compressed.candidates, key=lambda c: (c.bound, c.message_bits))
    assert count_errors(decode_message(compressed.message, helper).classifier, stripes).errors == best.errors
    assert best.message_bits == 8 * len(compressed.message)
    assert best.errors < 30
    assert best.message_bits < compressed.candidates[0].message_bits


def test_soft_labels_are_what_is_learned(stripes: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Targets that say the opposite of the labels make a net that is wrong nearly everywhere."""
    run = Run(seed=1, budget_seconds=100.0)
    clock(monkeypatch, run, 50)
    helper = Helper.for_sample(stripes)
    targets = np.eye(2, dtype=np.float32)[1 - np.asarray(stripes.labels)]
    monkeypatch.setattr(compact, "_rank", lambda candidate: (-candidate.seconds, 0))
    compressed = compress_compact(stripes, helper, run, targets=targets)
    assert count_errors(decode_message(compressed.message, helper).classifier, stripes).errors > 240


def test_goes_on_from_its_checkpoint(stripes: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper, checkpoint = Helper.for_sample(stripes), Checkpoint(tmp_path / "c.safetensors", "x")
    first = Search(stripes, helper, Run(checkpoint=checkpoint), 0)
    first.consider("untrained")
    with torch.no_grad():
        first.state.latent.add_(1.0)
    first.step, first.stage = 7, 1
    first.save()
    second = Search(stripes, helper, Run(seed=5, checkpoint=checkpoint), 0)
    compact._resume(second)
    assert (second.step, second.stage) == (7, 1)
    assert torch.equal(second.state.latent, first.state.latent)
    assert first.best is not None
    assert second.best is not None
    assert second.best.message == first.best.message


def test_a_stopped_run_ends_with_what_it_has(stripes: Sample) -> None:
    run = Run(budget_seconds=1e6)
    run.stop()
    compressed = compress_compact(stripes, Helper.for_sample(stripes), run)
    assert compressed.candidates[0].name == "untrained"


def test_the_price_leads_the_length_to_its_target() -> None:
    price = compact.Price(1000.0, 100.0)
    for _ in range(200):
        price.follow(0.25, 1000.0)
    assert price.value > 11
    for _ in range(400):
        price.follow(0.25, 100.0)
    assert price.value < 1
    held = price.value
    price.follow(0.7, 100.0)
    assert price.value == pytest.approx(held)


def test_without_room_for_maps_they_are_computed_as_needed(stripes: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Search(stripes, Helper.for_sample(stripes), Run(), 0)
    monkeypatch.setattr(compact, "MAP_MEMORY_BYTES", 0)
    fresh = Search(stripes, Helper.for_sample(stripes), Run(), 0)
    assert fresh.maps is None
    assert kept.maps is not None
    torch.testing.assert_close(fresh.batch()[0], kept.batch()[0], atol=2e-3, rtol=2e-3)


def test_default_settings_follow_the_sizes() -> None:
    assert default_settings(500, Helper((3, 32, 32), 10)) == 0
    assert default_settings(50_000, Helper((3, 32, 32), 10)) == 1
    assert default_settings(60_000, Helper((1, 28, 28), 10)) == 2


def test_refuses_what_it_cannot_use(stripes: Sample) -> None:
    helper = Helper.for_sample(stripes)
    with pytest.raises(InputError, match="settings"):
        compress_compact(stripes, helper, Run(), settings=99)
    with pytest.raises(InputError, match="targets"):
        compress_compact(stripes, helper, Run(), targets=np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(InputError, match="sides from 8"):
        compress_compact(stripes, Helper((4,), 2), Run())
