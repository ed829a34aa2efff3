"""The trial on a prior part: what learns faster, and whether left and right matter."""

from __future__ import annotations

import unittest.mock

import numpy as np
import pytest
import torch

from bitcert import clock
from bitcert.data import Role, Sample, load_sample
from bitcert.data.split import PriorSplit, split_prior
from bitcert.decoder import Preprocessing
from bitcert.network import capture
from bitcert.run import Checkpoint, Run
from bitcert.search import compression, prior_trial
from bitcert.search.compression import train_helper
from bitcert.search.prior import PriorRecipe, is_fast_enough
from bitcert.search.prior_network import BuiltIn, WideNetwork, built_in_network
from bitcert.search.prior_trial import Choice, needs_trial, try_out
from bitcert.search.request import CertifyRequest, commitment_of, declared_helpers

FOREVER = 1e9
SHORT = PriorRecipe(batch_size=20, max_steps=60)


def narrow() -> torch.nn.Module:
    """Through one number there is little that it can learn."""
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1), torch.nn.Tanh(), torch.nn.Linear(1, 10))


def bars(by: str) -> Sample:
    """Noisy images with a bar: the classes are the sides that it is on, or its directions, or nothing."""
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 90, (600, 1, 8, 8)), rng.integers(0, 2, 600)
    for image, label in zip(images, labels, strict=True):
        place = int(rng.integers(0, 3))
        if by == "side":
            image[0, :, place + 5 * label] += 160
        elif by == "direction":
            image[0][(slice(None), place + 2) if label else (place + 2, slice(None))] += 160
    return Sample(images.astype(np.uint8), labels, 2, Role.PRIOR, by)


@pytest.mark.parametrize("own", [narrow(), None])
def test_a_given_architecture_is_taken_if_it_learns_clearly_faster(own: torch.nn.Module | None) -> None:
    """Where it is the built-in network itself, the two are alike, and the built-in one is taken."""
    prior, _ = split_prior(load_sample("digits", Role.TRAIN), 0.5, 0)
    models = own or built_in_network((1, 8, 8), 10), BuiltIn.SMALL
    found = try_out(prior, Run(budget_seconds=FOREVER), FOREVER, models, Preprocessing.usual(prior), SHORT)
    assert found == Choice(1, False), "a mirrored digit is no digit"


def test_the_given_architecture_wins_where_the_built_in_one_cannot_learn() -> None:
    prior, _ = split_prior(load_sample("digits", Role.TRAIN), 0.5, 0)
    models = built_in_network((1, 8, 8), 10), BuiltIn.SMALL
    with unittest.mock.patch("bitcert.search.prior.built_in_network", return_value=narrow()):
        found = try_out(prior, Run(budget_seconds=FOREVER), FOREVER, models, Preprocessing.usual(prior), SHORT)
    assert found == Choice(0, False)


@pytest.mark.parametrize(("by", "mirrored"), [("side", False), ("direction", True), ("nothing", False)])
def test_images_are_mirrored_where_sides_do_not_matter(by: str, mirrored: bool) -> None:
    prior = bars(by)
    found = try_out(prior, Run(budget_seconds=FOREVER), FOREVER, (BuiltIn.SMALL,), Preprocessing.usual(prior), SHORT)
    assert found == Choice(0, mirrored)


def test_nothing_is_tried_where_there_is_no_choice_or_too_little_to_choose_by() -> None:
    rng = np.random.default_rng(0)
    rows = Sample(rng.normal(size=(900, 5)).astype(np.float32), np.arange(900) % 2, 2, Role.PRIOR, "rows")
    assert not needs_trial(rows, (BuiltIn.SMALL,))
    assert needs_trial(rows, (BuiltIn.SMALL, narrow()))
    assert not needs_trial(rows.take(slice(100)), (BuiltIn.SMALL, narrow()))
    lonely = Sample(rows.inputs, (np.arange(900) == 5).astype(int), 2, Role.PRIOR, "one of a class")
    assert (
        try_out(
            lonely, Run(budget_seconds=FOREVER), FOREVER, (BuiltIn.SMALL, narrow()), Preprocessing.usual(rows), SHORT
        )
        == Choice()
    )


def original(sample: Sample) -> CertifyRequest:
    unlabelled = Sample(255 - sample.inputs, None, 10, Role.UNLABELLED, "unlabelled")
    model = narrow().eval()
    return CertifyRequest(sample, model, prior_fraction=0.5, prior_model=model, unlabelled=unlabelled)


def test_a_surrogate_may_be_of_either_architecture_and_both_are_declared() -> None:
    request = original(load_sample("digits", Role.TRAIN))
    assert request.prior_models == (request.prior_model, *BuiltIn)
    trained = {each.predictor.content_hash for each in declared_helpers(request) if each.predictor is not None}
    assert len(trained) == 4
    assert commitment_of(request).choices == 4


def test_the_winner_is_trained_once_and_found_again(tmp_path, monkeypatch) -> None:
    sample = load_sample("digits", Role.TRAIN)
    request, split, models = original(sample), PriorSplit.of(sample, 0.5), []
    real = compression.train_prior

    def watched(prior, run, model, **options):
        models.append(model)
        assert options.pop("recipe").mirrored is True
        return real(prior, run, model, **options, recipe=PriorRecipe(batch_size=20, max_steps=3))

    monkeypatch.setattr(compression, "train_prior", watched)
    monkeypatch.setattr(compression, "try_out", lambda *arguments: Choice(1, True))
    made = [
        train_helper(split, request, Run(budget_seconds=60.0, checkpoint=Checkpoint(tmp_path / "search", "own")))
        for _ in range(2)
    ]
    assert models == [BuiltIn.SMALL]
    assert made[0].architecture.content_hash == made[1].architecture.content_hash
    assert all(torch.equal(value, made[1].parameters[name]) for name, value in made[0].parameters.items())


def test_a_killed_search_does_not_try_again(tmp_path, monkeypatch) -> None:
    sample = load_sample("digits", Role.TRAIN)
    request, tried = original(sample), []

    def once(prior, run, seconds, models, preprocessing):
        tried.append(prior.role)
        return Choice(1, False)

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(compression, "try_out", once)
    monkeypatch.setattr(compression, "train_prior", killed)
    for _ in range(2):
        run = Run(budget_seconds=60.0, checkpoint=Checkpoint(tmp_path / "search", "own"))
        with pytest.raises(KeyboardInterrupt):
            train_helper(PriorSplit.of(sample, 0.5), request, run)
    assert tried == [Role.PRIOR]


def test_the_wide_network_is_taken_where_there_is_time_to_train_it() -> None:
    prior, built_in = bars("direction"), tuple(BuiltIn)
    for steps, expected in ((8, BuiltIn.SMALL), (1_000, BuiltIn.WIDE)):
        recipe = PriorRecipe(batch_size=10, max_steps=steps)
        with unittest.mock.patch("bitcert.search.prior_trial.trainer_for") as trainer_for:
            trainer_for.return_value.num_steps = 1_000
            trainer_for.return_value.trained.return_value = always_first(prior)
            found = try_out(prior, Run(), 1.0, built_in, Preprocessing.usual(prior), recipe)
        assert [call.args[2] for call in trainer_for.call_args_list] == [expected]
        assert built_in[found.index] is expected


def test_a_step_is_timed_only_if_it_can_be_fast_enough(monkeypatch) -> None:
    """A step takes four seconds here; one of far too many operations is not taken, and a hopeless one is the last."""
    steps: list[float] = []
    monkeypatch.setattr(clock, "seconds", lambda: 4.0 * len(steps))
    monkeypatch.setattr("bitcert.search.prior.PriorTrainer.step", lambda trainer, t: steps.append(t))
    large = Sample(np.zeros((4, 3, 96, 96), np.uint8), np.arange(4) % 2, 2, Role.PRIOR, "large")
    cases = [(bars("side"), 4.0, True, 1), (bars("side"), 3.9, False, 4), (bars("side"), 0.5, False, 1)]
    for sample, seconds, fast, taken in [*cases, (large, 1e-3, False, 0)]:
        steps.clear()
        usual = Preprocessing.usual(sample)
        assert is_fast_enough(sample, Run(), BuiltIn.WIDE, seconds, usual, PriorRecipe(10)) is fast
        assert len(steps) == taken


def test_a_trial_looks_at_no_more_examples_than_it_needs(monkeypatch) -> None:
    prior = bars("direction")
    monkeypatch.setattr(prior_trial, "_MOST", 300)
    with unittest.mock.patch("bitcert.search.prior_trial.trainer_for") as trainer_for:
        trainer_for.return_value.num_steps = 0
        try_out(prior, Run(), 1.0, (BuiltIn.SMALL,), Preprocessing.usual(prior))
    assert [len(call.args[0]) for call in trainer_for.call_args_list] == [270]


def test_a_trial_without_time_ends_and_chooses_nothing() -> None:
    prior = bars("direction")
    models = narrow(), BuiltIn.SMALL
    assert try_out(prior, Run(budget_seconds=1e-9), 1.0, models, Preprocessing.usual(prior)) == Choice(1)
    rows = Sample(prior.inputs.reshape(len(prior), -1), prior.labels, 2, Role.PRIOR, "rows")
    assert try_out(rows, Run(budget_seconds=1e-9), 1.0, models, Preprocessing.usual(rows)) == Choice(0)


def test_an_architecture_too_slow_for_the_trial_is_not_taken() -> None:
    prior, models = bars("side"), (narrow(), BuiltIn.SMALL)
    for slow in (0, 1):
        with unittest.mock.patch("bitcert.search.prior_trial.trainer_for") as trainer_for:
            trainers = [unittest.mock.Mock(num_steps=1 if k == slow else 1_000) for k in (0, 1)]
            for trainer in trainers:
                trainer.trained.return_value = always_first(prior)
            trainer_for.side_effect = trainers
            found = try_out(prior, Run(), 1.0, models, Preprocessing.usual(prior), SHORT)
        assert found.index == 1 - slow


def always_first(prior: Sample):
    """A network that says class 0 of everything."""
    layer = torch.nn.Linear(64, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([1.0, 0.0]))
    return capture(torch.nn.Sequential(torch.nn.Flatten(), layer).eval(), torch.zeros(2, *prior.input_shape))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 8, 8), (2, 20, 12), (1, 4, 4)])
def test_the_first_layer_whitens_what_it_was_shown(shape) -> None:
    network = built_in_network(shape, 4, BuiltIn.WIDE)
    assert isinstance(network, WideNetwork)
    x = torch.cumsum(torch.randn(200, *shape, generator=torch.Generator().manual_seed(1)), 3)
    network.whiten(x)
    with torch.no_grad():
        y = torch.nn.functional.conv2d(x, network.whitening.weight)[:, : 4 * shape[0]].transpose(0, 1).flatten(1)
    second = y @ y.T / y.shape[1]
    assert torch.allclose(second, torch.eye(len(y)), atol=0.05)
    network.train()
    network(x[:8]).sum().backward()
    assert network.whitening.weight.grad is None


def test_the_wide_network_adds_the_mirror_image_only_where_it_is_used() -> None:
    torch.manual_seed(2)
    network = built_in_network((3, 12, 10), 4, BuiltIn.MIRRORED).eval()
    plain = built_in_network((3, 12, 10), 4, BuiltIn.WIDE).eval()
    plain.load_state_dict(network.state_dict())
    x = torch.randn(5, 3, 12, 10)
    with torch.no_grad():
        assert torch.allclose(network(x), network(x.flip(3)), atol=1e-5)
        assert torch.allclose(network(x), plain(x) + plain(x.flip(3)), atol=1e-5)
        network.train()
        plain.train()
        assert torch.equal(network(x), plain(x))
