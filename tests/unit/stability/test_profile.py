"""The profile as a file: round trip, one canonical text, and refusal of what was never written."""

import dataclasses
import io
import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Role, Sample, capture
from bitcert.errors import DecodeError, InputError
from bitcert.stability import MeasureSettings, StabilityProfile, measure


@pytest.fixture(scope="module")
def profile() -> StabilityProfile:
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    inputs = rng.normal(size=(12, 5)).astype(np.float32)
    inputs[3] = 0  # layer 1 has a dead input here
    sample = Sample(inputs, rng.integers(0, 3, 12), 3, Role.TRAIN, "toy")
    settings = MeasureSettings(keep=True, zeta=0.1, draws=2, sensitivity_samples=4)
    return measure(capture(net, torch.zeros(2, 5)), sample, settings, random_init=True)


def test_round_trip(profile):
    text = profile.to_json()
    again = StabilityProfile.from_json(text)
    assert again == profile
    assert again.to_json() == text
    assert again.twin == profile.twin
    assert again.arrays is None
    assert text.isascii()


def test_equality_sees_a_changed_number(profile):
    rows = (dataclasses.replace(profile.layers[0], frobenius=1.0), *profile.layers[1:])
    assert dataclasses.replace(profile, layers=rows) != profile
    assert dataclasses.replace(profile, arrays=None) == profile


def test_infinite_numbers_survive(profile):
    name = "contraction"
    changed = dataclasses.replace(profile.distributions[name][0], maximum=float("inf"), worst=float("inf"))
    distributions = {**profile.distributions, name: (changed, *profile.distributions[name][1:])}
    infinite = dataclasses.replace(profile, distributions=distributions)
    assert StabilityProfile.from_json(infinite.to_json()) == infinite


def test_nan_cannot_be_written(profile):
    row = dataclasses.replace(profile.layers[0], frobenius=float("nan"))
    with pytest.raises(ValueError, match="NaN"):
        dataclasses.replace(profile, layers=(row, *profile.layers[1:])).to_json()


def canonical(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"


def test_the_test_writes_the_canonical_form(profile):
    assert canonical(json.loads(profile.to_json())) == profile.to_json()


CHANGES = {
    "format": lambda c: c.update(format="bitcert-profile-0"),
    "unknown key": lambda c: c.update(extra=1),
    "missing key": lambda c: c.pop("notes"),
    "wrong type": lambda c: c.update(notes="text"),
    "note that is a number": lambda c: c.update(notes=[1]),
    "long note": lambda c: c.update(notes=["x" * 5000]),
    "layer that is not numbered": lambda c: c["layers"][0].update(index=2),
    "integer for float": lambda c: c["layers"][0].update(frobenius=1),
    "bool for int": lambda c: c["layers"][0].update(channels=True),
    "pair of no layer": lambda c: c["pairs"][0].__setitem__(1, 9),
    "pair upside down": lambda c: c.update(pairs=[[2, 1], *c["pairs"][1:]]),
    "pair of three": lambda c: c["pairs"][0].append(3),
    "unknown quantity": lambda c: c["distributions"].update(joy=[]),
    "distribution too few": lambda c: c["distributions"]["layer_cushion"].pop(),
    "distribution of another name": lambda c: c["distributions"]["margin"][0].update(name="joy"),
    "counts": lambda c: c["distributions"]["margin"][0].update(count=13),
    "negative count": lambda c: c["distributions"]["margin"][0].update(count=-1, skipped=13),
    "dropped example that is not there": lambda c: c["distributions"]["margin"][0].update(zeta_dropped=[12]),
    "worst example that is not there": lambda c: c["distributions"]["margin"][0].update(worst_index=-1),
    "values for nobody": lambda c: c["distributions"]["margin"][0].update(minimum=None),
    "reduction": lambda c: c["distributions"]["margin"][0].update(reduction="mean"),
    "histogram of uneven lengths": lambda c: c["distributions"]["margin"][0]["histogram"]["counts"].pop(),
    "histogram upside down": lambda c: c["distributions"]["margin"][0]["histogram"]["edges"].reverse(),
    "histogram out of range": lambda c: c["distributions"]["margin"][0]["histogram"]["edges"].__setitem__(40, 1.7e308),
    "long histogram": lambda c: c["distributions"]["margin"][0].update(
        histogram={"edges": [float(k) for k in range(200)], "counts": [1] * 199}
    ),
    "infinite histogram": lambda c: c["distributions"]["margin"][0]["histogram"]["edges"].__setitem__(40, "inf"),
    "quantile that is no number": lambda c: c["distributions"]["margin"][0]["quantiles"].update(half=0.5),
    "quantile written otherwise": lambda c: c["distributions"]["margin"][0]["quantiles"].update({"5e-1": 0.5}),
    "curve of another layer": lambda c: c["attenuation"][0].update(injection=7),
    "curve of uneven lengths": lambda c: c["attenuation"][0]["mean"].pop(),
    "settings": lambda c: c["settings"].update(zeta=2.0),
    "nested settings": lambda c: c["settings"].update(noise_levels=[[0.1]]),
    "network": lambda c: c["network"].pop("chain"),
    "network number": lambda c: c["network"].update(num_parameters="many"),
    "sample": lambda c: c["sample"].update(measured=-1),
    "hypothesis": lambda c: c["hypotheses"][0].update(holds="yes"),
    "twin of a twin": lambda c: c["twin"].update(twin={k: v for k, v in c["twin"].items() if k != "format"}),
    "twin's parts": lambda c: c["twin"]["distributions"]["margin"][0].update(count=1),
    "large integer": lambda c: c["sample"].update(num_samples=10**18 * 9),
    "too large an integer": lambda c: c["sample"].update(num_samples=10**30),
    "list": lambda c: c.update(layers={"0": c["layers"][0]}),
    "null": lambda c: c.update(layers=None),
}


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "large integer"])
def test_other_contents_are_refused(profile, name):
    content = json.loads(profile.to_json())
    CHANGES[name](content)
    with pytest.raises(DecodeError) as caught:
        StabilityProfile.from_json(canonical(content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_change_that_fits_is_read(profile):
    """The changes above are refused for what they are, not because anything changed."""
    content = json.loads(profile.to_json())
    CHANGES["large integer"](content)
    assert StabilityProfile.from_json(canonical(content)).sample["num_samples"] == 9 * 10**18


def test_texts_that_are_not_canonical_are_refused(profile):
    text = profile.to_json()
    content = json.loads(text)
    others = [text + " ", text.rstrip(), json.dumps(content, sort_keys=True), json.dumps(content) + "\n"]
    others += [text.replace('{"attenuation"', '{"attenuation":[],"attenuation"', 1)]
    assert text not in others
    for other in others:
        with pytest.raises(DecodeError):
            StabilityProfile.from_json(other)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "[" * 100_000, '{"a":' * 50_000, '{"format":NaN}', '{"format":1e999}', "1" * 5000, "\x00"],
)
def test_hostile_texts_are_refused(text):
    with pytest.raises(DecodeError):
        StabilityProfile.from_json(text)


def test_random_damage_is_refused_or_read(profile):
    text = profile.to_json()
    rng = random.Random(0)
    refused = 0
    for _ in range(60):
        position = rng.randrange(len(text))
        damaged = text[:position] + rng.choice('{}[]",:0e-x') + text[position + rng.randrange(3) :]
        try:
            StabilityProfile.from_json(damaged)
        except DecodeError:
            refused += 1
    assert refused > 20


def test_arrays_are_written_without_pickle(profile):
    with np.load(io.BytesIO(profile.arrays_npz()), allow_pickle=False) as file:
        assert set(file) == set(profile.arrays)
        np.testing.assert_array_equal(file["layer_cushion"], profile.arrays["layer_cushion"])
    assert dataclasses.replace(profile, arrays=None).arrays_npz() is None


def test_one_distribution_by_place(profile):
    assert profile.distribution("layer_cushion", 2).label == "layer 2"
    for place in ("1,3", "1 → 3", "1→3"):
        assert profile.distribution("interlayer_cushion", place).label == "1→3"
    assert profile.distribution("margin").label == ""
    assert profile.distribution("noise_sensitivity", "input").label == "input"
    assert profile.distribution("contraction", 2).label == "layer 2"


def test_a_profile_of_the_former_format_is_refused_in_one_sentence(profile):
    """Its contractions are of activations alone and its effective parameters rest on them."""
    text = profile.to_json().replace('"format":"bitcert-profile-2"', '"format":"bitcert-profile-1"')
    with pytest.raises(DecodeError, match="pools between two layers; measure the network again"):
        StabilityProfile.from_json(text)


@pytest.mark.parametrize(("quantity", "place"), [("layer_cushon", 1), ("layer_cushion", 9), ("layer_cushion", None)])
def test_places_that_were_not_measured_are_named(profile, quantity, place):
    with pytest.raises(InputError):
        profile.distribution(quantity, place)


def test_another_name(profile):
    assert profile.named("lenet").network["name"] == "lenet"
    assert profile.named("lenet").network["content_hash"] == profile.network["content_hash"]
