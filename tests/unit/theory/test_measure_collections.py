"""Rows against the formulas of the two public measure collections, on networks with biases and convolutions."""

import math

import numpy as np
import pytest
import torch

from bitcert import Role, Sample, capture
from bitcert.theory.gathering import gather
from bitcert.theory.inputs import Flatness
from bitcert.theory.registry import all_bounds
from bitcert.theory.settings import BoundSettings
from tests.reference import measure_collections as twin

ROWS = {b.name: b for b in all_bounds()}
CLOSE = {"rel": 1e-6, "abs": 0}


CASES = {name: (model, init, shape) for name, model, init, shape in twin.networks()}


def gathered(model, init, shape):
    """What the program gathers of the network on 30 examples that it labels itself."""
    example = torch.zeros(2, *shape)
    network = capture(model, example)
    x = np.random.default_rng(0).normal(size=(30, *shape)).astype(np.float32)
    labels = network(torch.from_numpy(x)).argmax(1).numpy()
    sample = Sample(x, labels, 3, Role.TRAIN, "toy")
    settings = BoundSettings(margin_quantile=0.2, profile=False, flatness=False)
    return gather(network, sample, settings, init=capture(init, example))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    model, init, shape = CASES[request.param]
    return model, init, shape, gathered(model, init, shape)


def test_the_first_collection(case):
    model, init, shape, inputs = case
    expected = twin.neyshabur_2019(model, init, shape, inputs.gamma, inputs.m)
    assert len(expected) == 14
    for name, value in expected.items():
        assert ROWS[name](inputs).value == pytest.approx(value, **CLOSE), name


def test_the_second_collection_apart_from_spectral_norms(case):
    model, init, shape, inputs = case
    expected = twin.dziugaite_2020(model, init, shape, inputs.gamma)
    same = {name: value for name, value in expected.items() if "spec" not in name}
    assert len(same) == 12
    for name, value in same.items():
        row = ROWS[f"jiang2020-{name}"](inputs)
        found = row.log if name.startswith("log-") else row.value
        assert found == pytest.approx(value, **CLOSE), name


def test_spectral_norms_as_jiang_et_al_write_them(case):
    model, init, _, inputs = case
    for name, value in twin.jiang_2020(model, init, inputs.gamma).items():
        row = ROWS[f"jiang2020-{name}"](inputs)
        found = row.log if name.startswith("log-") else row.value
        assert found == pytest.approx(value, **CLOSE), name


def test_how_the_collections_unsquared_spectral_norms_relate(case):
    """The collection leaves them unsquared, Jiang et al. do not: its products are the roots of ours."""
    model, init, shape, inputs = case
    theirs = twin.dziugaite_2020(model, init, shape, inputs.gamma)
    d, over = inputs.depth, 2 * math.log(inputs.gamma)

    def ours(name):
        return ROWS[f"jiang2020-{name}"](inputs).log

    assert ours("log-prod-of-spec") == pytest.approx(2 * theirs["log-prod-of-spec"], **CLOSE)
    assert ours("log-sum-of-spec") - math.log(d) == pytest.approx(
        2 * (theirs["log-sum-of-spec"] - math.log(d)), rel=1e-6, abs=1e-12
    )
    assert ours("log-prod-of-spec-over-margin") + over == pytest.approx(
        2 * (theirs["log-prod-of-spec-over-margin"] + over), **CLOSE
    )
    assert math.exp(ours("fro-over-spec")) != pytest.approx(theirs["fro-over-spec"], rel=0.01)
    assert math.exp(ours("dist-spec-init")) != pytest.approx(theirs["dist-spec-init"], rel=0.01)


def test_flatness_at_given_noise(case):
    model, init, _, inputs = case
    fixed = Flatness(0.125, 0.25, 1e-3, 0.1, 10, 30, 1.0, 0.1, 0.1)
    object.__setattr__(inputs, "flatness", fixed)
    for name, value in twin.flatness(model, init, inputs.m, 0.125, 0.25, 1e-3).items():
        assert ROWS[f"jiang2020-{name}"](inputs).value == pytest.approx(value, **CLOSE), name
