"""Figure 3 right of Arora et al. 2018 on a toy: what a second run in the same folder takes up, and what it says."""

from __future__ import annotations

from functools import partial

import pytest

from bitcert import Run, capture
from bitcert.studies import Size, arora2018_bounds, networks
from bitcert.studies.arora2018 import Vgg
from bitcert.studies.context import Context
from bitcert.studies.training import Recipe


def toy_vgg(context: Context) -> Vgg:
    """A small dense network on the embedded digits, with a snapshot after each of three epochs."""
    sample = context.sample("digits", 60)
    recipe = Recipe("toy", partial(networks.dense, 64, 8, 3), 3, rate=0.1, keep_every=1)
    trained = context.train(recipe, sample, sample)
    return Vgg(trained, capture(trained.module, trained.preprocessing(sample.inputs[:2])), sample, sample, sample)


@pytest.fixture
def fig3right(monkeypatch, tmp_path):
    monkeypatch.setattr(arora2018_bounds, "vgg_of", toy_vgg)

    def run(folder: str, seed: int, size: Size = Size.QUICK):
        context = Context("arora2018.fig3right", size, tmp_path / folder, tmp_path / "networks", Run(seed=seed))
        return arora2018_bounds.fig3right(context)

    return run


def test_another_seed_in_the_same_folder_takes_nothing_of_the_first(fig3right):
    first, second = fig3right("same", 0), fig3right("same", 1)
    assert second.rows == fig3right("fresh", 1).rows != first.rows


def test_it_says_on_how_many_examples_the_bound_was_tracked(fig3right):
    assert fig3right("a", 0).settings["stability measured on"] == "8 training images"
    assert fig3right("a", 0, Size.DEFAULT).settings["stability measured on"] == "16 training images"
