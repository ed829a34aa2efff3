"""Training by recipe: the same weights after a kill, bit for bit, and what is known of it afterwards."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from bitcert import Run, load_sample
from bitcert.errors import InputError
from bitcert.studies import Recipe, networks, train


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 10))


RECIPE = Recipe("mlp", with_dropout, 3, rate=0.05, halve_every=2, decay=1e-3, augmented=True, keep_every=1)


@pytest.fixture(scope="module")
def sample():
    return load_sample("digits", "train").take(slice(0, 256))


def stopping_at(fraction: float) -> Run:
    def progress(task: str, done: float) -> None:
        if done >= fraction:
            raise KeyboardInterrupt

    return Run(progress=progress)


@pytest.mark.parametrize(("optimiser", "bfloat16"), [("sgd", False), ("adam", False), ("adam", True)])
def test_an_interrupted_training_ends_with_the_same_weights(sample, tmp_path, optimiser, bfloat16):
    recipe = replace(RECIPE, optimiser=optimiser, rate=0.05 if optimiser == "sgd" else 0.01, bfloat16=bfloat16)
    whole = train(recipe, sample, None, tmp_path / "whole", Run())
    for fraction in (0.1, 0.5, 0.9):  # within each of the three epochs
        with pytest.raises(KeyboardInterrupt):
            train(recipe, sample, None, tmp_path / "parts", stopping_at(fraction))
    parts = train(recipe, sample, None, tmp_path / "parts", Run())
    for name, value in whole.module.state_dict().items():
        assert torch.equal(parts.module.state_dict()[name], value)
    assert [(e.loss, e.wrong) for e in parts.log] == [(e.loss, e.wrong) for e in whole.log]
    assert parts.trained.train_error == whole.trained.train_error
    assert sorted(parts.snapshots) == [0, 1, 2, 3]


def test_a_finished_training_is_not_repeated(sample, tmp_path):
    first = train(RECIPE, sample, sample, tmp_path, Run())
    again = train(RECIPE, sample, sample, tmp_path, stopping_at(0.0))
    assert again.trained == first.trained
    assert torch.equal(again.after(0)[1].weight, first.initial["1.weight"])
    assert not torch.equal(again.after(3)[1].weight, first.initial["1.weight"])


def test_what_the_weights_depend_on_names_their_folder(sample, tmp_path):
    others = [replace(RECIPE, rate=0.01), replace(RECIPE, name="other"), replace(RECIPE, build=narrower)]
    for recipe in (RECIPE, *others):
        train(replace(recipe, epochs=1), sample, None, tmp_path, Run())
    train(replace(RECIPE, epochs=1), sample, None, tmp_path, Run(seed=1))
    train(replace(RECIPE, epochs=1), sample.take(slice(0, 128)), None, tmp_path, Run())
    assert len(list(tmp_path.iterdir())) == 6


narrower = partial(networks.dense, 64, 4, 2)


def test_training_leaves_the_global_stream_alone(sample, tmp_path):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    train(replace(RECIPE, epochs=1), sample, None, tmp_path, Run())
    assert torch.equal(torch.rand(1), wanted)


def test_training_ends_early_where_so_few_are_wrong(sample, tmp_path):
    assert train(replace(RECIPE, stop_at=1.0), sample, None, tmp_path, Run()).trained.epochs == 1


def test_a_training_that_diverges_is_refused(sample, tmp_path):
    with pytest.raises(InputError, match="lower its learning rate"):
        train(replace(RECIPE, rate=1e30), sample, None, tmp_path, Run())


@pytest.mark.parametrize(("build", "parameters"), [(networks.vgg19, 81_086), (networks.alexnet, 30_222)])
def test_networks_have_the_papers_layers(build, parameters):
    module = build(1 / 16)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == (19 if build is networks.vgg19 else 8)
