"""Profiles for the bounds: whose they are, what they give, and what is said where something is missing."""

import dataclasses
import math

import numpy as np
import pytest

from bitcert import Preprocessing, Sample
from bitcert.errors import InputError
from bitcert.stability import MeasureSettings, measure
from bitcert.theory.ingredients.sample_pass import pass_over
from bitcert.theory.ingredients.stability import (
    StabilityFacts,
    check_norms,
    check_profile,
    measured_profile,
    stability_facts,
)
from bitcert.theory.settings import BoundSettings
from bitcert.theory.value import Absent, Status
from tests.unit.theory import nets

SETTINGS = BoundSettings(zeta=0.1)


@pytest.fixture(scope="module")
def network():
    return nets.captured(nets.chain(), 5)


@pytest.fixture(scope="module")
def sample(network):
    return nets.sample_of(network)


@pytest.fixture(scope="module")
def profile(network, sample):
    return measured_profile(network, sample, SETTINGS, Preprocessing())


def test_a_measured_profile_gives_the_values_of_its_table(profile):
    facts = stability_facts(profile)
    assert (facts.zeta, facts.measured_samples) == (0.1, 40)
    for row, own in zip(profile.layers, facts.stability, strict=True):
        assert own.cushion == row.layer_cushion
        assert own.minimal_cushion == row.minimal_cushion
        assert own.contraction == row.contraction
        assert own.contraction_after == row.contraction_after
        assert own.largest_cushion == profile.distribution("layer_cushion", row.index).maximum > own.cushion.worst
        assert own.beta == row.beta
        assert own.cushion.zeta > own.cushion.worst > 0
    assert "ρ_δ ≥ 3d" in facts.smoothness.name
    assert facts.smoothness.holds is not None
    assert facts.dead.holds is True


def test_a_profile_of_this_network_passes(profile, network, sample):
    check_profile(profile, network, sample)
    check_norms(profile, pass_over(network, sample, Preprocessing())[0])


def test_a_profile_of_another_network_is_refused(profile, sample):
    with pytest.raises(InputError, match="expected a profile of this network"):
        check_profile(profile, nets.captured(nets.chain(seed=2), 5), sample)


def test_a_profile_of_other_data_is_refused(profile, network, sample):
    other = nets.sample_of(network, seed=9, name="other")
    with pytest.raises(InputError, match=r"expected a profile measured on other, got one of toy \(40 examples\)"):
        check_profile(profile, network, other)
    part = measure(network, sample.take(slice(0, 20)), SETTINGS.measure)  # not drawn as measure draws
    with pytest.raises(InputError, match="20 examples"):
        check_profile(part, network, sample)


def test_a_profile_of_drawn_examples_belongs_to_the_sample(network, sample):
    settings = BoundSettings(zeta=0.1, profile_samples=15, seed=4)
    profile = measured_profile(network, sample, settings, Preprocessing())
    check_profile(profile, network, sample)
    check_norms(profile, pass_over(network, sample, Preprocessing())[0])
    assert stability_facts(profile).measured_samples == 15


def test_another_preprocessing_is_noticed_by_the_norms_of_the_inputs(network, sample):
    settings = MeasureSettings(quantities=("margin",))
    facts, _ = pass_over(network, sample, Preprocessing())
    for scale in (2.0, 0.5):
        other = measure(network, sample, settings, preprocessing=Preprocessing(scale))
        with pytest.raises(InputError, match="measured with this preprocessing"):
            check_norms(other, facts)
    check_norms(measure(network, sample, settings), facts)


def test_what_was_not_measured_is_said(network, sample):
    profile = measure(network, sample, MeasureSettings(quantities=("margin",)))
    facts = stability_facts(profile)
    assert {own.status for own in facts.stability} == {Status.NEEDS}
    assert "needs a profile with layer_cushion" in facts.stability[1].why
    assert "layer 2" in facts.stability[1].why
    assert isinstance(facts.smoothness, Absent)
    assert "smoothness" in facts.smoothness.why
    assert facts.dead.holds is None
    partly = stability_facts(measure(network, sample, MeasureSettings(quantities=("layer_cushion", "contraction"))))
    assert partly.stability[0].minimal_cushion.worst is None
    assert partly.stability[0].cushion.worst > 0


def test_without_a_profile_every_layer_says_what_it_needs():
    facts = StabilityFacts.none(2)
    assert [own.status for own in facts.stability] == [Status.NEEDS] * 2
    assert "--profile" in facts.stability[0].why
    assert facts.measured_samples is None


def test_a_layer_that_is_dead_for_an_example_shows_as_infinite_contraction(network):
    values = {name: -value.abs() if name == "0.weight" else value for name, value in network.parameters.items()}
    broken = dataclasses.replace(network, parameters=values)
    inputs = np.abs(np.random.default_rng(0).normal(size=(6, 5))).astype(np.float32)
    sample = Sample(inputs, np.array([0, 1, 2, 0, 1, 2]), 3, nets.Role.TRAIN, "positive")
    facts = stability_facts(measure(broken, sample, BoundSettings().measure))
    assert math.isinf(facts.stability[1].contraction.worst)
    assert math.isinf(facts.stability[0].contraction_after.worst)
    assert facts.stability[1].cushion.worst is None
    assert facts.dead.holds is False


def test_one_layer_has_no_pairs_to_be_smooth():
    network = nets.captured(nets.nn.Linear(5, 3, bias=False), 5)
    facts = stability_facts(measure(network, nets.sample_of(network), BoundSettings().measure))
    assert facts.smoothness.holds is True
    assert facts.smoothness.detail == "no pair of layers"


@pytest.mark.parametrize(
    ("value", "limit", "holds"), [(0.0, 3, None), (0.0, None, True), (0.0, 40, True), (9.0, 3, False)]
)
def test_smoothness_of_a_part_of_the_sample_shows_no_more_than_a_failure(network, sample, value, limit, holds):
    """1/rho of a few examples is not that of all; that they break the condition is enough."""
    profile = measure(network, sample, MeasureSettings(zeta=0.1))
    part = dataclasses.replace(
        profile,
        smoothness=dataclasses.replace(profile.smoothness, value=value),
        settings={**profile.settings, "smoothness_samples": limit},
    )
    condition = stability_facts(part).smoothness
    assert condition.holds is holds
    assert ("on 3 of 40 examples" in condition.detail) is (limit == 3)
