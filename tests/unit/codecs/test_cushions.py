import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Role, Sample, capture
from bitcert.codecs.matrix_project import MatrixProject
from bitcert.errors import InputError
from bitcert.stability import MeasureSettings, Reduced, measure
from bitcert.theory.formulas.cushions import Cushions
from bitcert.theory.formulas.projection_tail import printed_projections

GOOD = {
    "layer": (0.5, 0.25),
    "interlayer": (0.4, 0.2),
    "contraction": 2.0,
    "smoothness": 0.2,
    "width": 10,
    "num_samples": 50,
    "delta": 0.1,
    "epsilon": 0.5,
}


@pytest.fixture(scope="module")
def measured():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False))
    inputs = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    sample = Sample(inputs, np.arange(20) % 3, 3, Role.TRAIN, "small")
    network = capture(module, torch.from_numpy(inputs[:2]))
    return network, measure(network, sample, MeasureSettings())


def test_counts_are_the_papers():
    cushions = Cushions(**GOOD)
    epsilons = [0.5 * 0.5 * 0.4 / (6 * 2 * 2), 0.5 * 0.25 * 0.2 / (6 * 2 * 2)]
    assert [cushions.layer_epsilon(i) for i in (1, 2)] == pytest.approx(epsilons)
    total = 72 * 4 * 4 * math.log(50 * 2 * 10 / 0.1) / 0.25 * (1 / 0.2**2 + 1 / 0.05**2)
    assert cushions.printed_total == pytest.approx(total)
    printed = [printed_projections(cushions.layer_epsilon(i), cushions.log_inverse_eta) for i in (1, 2)]
    assert sum(printed) == pytest.approx(total, rel=1e-5)
    assert 6 < cushions.num_projections(1) / printed[0] < 7


def test_an_accuracy_is_never_above_1():
    cushions = Cushions((1.0,), (1.0,), 0.01, None, 1, 1, epsilon=1.0)
    assert cushions.layer_epsilon(1) == 1.0


@pytest.mark.parametrize(("smoothness", "holds"), [(1 / 6, True), (0.17, False), (None, None)])
def test_the_condition_is_rho_of_at_least_3_d(smoothness, holds):
    assert Cushions(**GOOD | {"smoothness": smoothness}).smooth.holds is holds


@pytest.mark.parametrize(
    "change",
    [
        {"layer": ()},
        {"layer": (0.5,)},
        {"layer": (0.5, 0.0)},
        {"interlayer": (0.5, -1.0)},
        {"interlayer": (0.5, math.nan)},
        {"layer": (0.5, -2.0)},
        {"layer": (0.5, math.inf)},
        {"layer": (0.5, math.nan)},
        {"interlayer": (0.5, 2.0)},
        {"contraction": 0.0},
        {"contraction": math.inf},
        {"width": 0},
        {"num_samples": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"epsilon": 0.0},
        {"epsilon": 1.01},
    ],
)
def test_cushions_that_cannot_be_are_refused(change):
    with pytest.raises(InputError) as caught:
        Cushions(**GOOD | change)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def convolution():
    """A filter of ones on images of ones: every place passes on the whole filter, so that the cushion is above 1."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 1, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9, 2, bias=False)
    )
    with torch.no_grad():
        module[0].weight.fill_(1.0)
    inputs = np.random.default_rng(0).uniform(0.9, 1.1, (12, 1, 8, 8)).astype(np.float32)
    sample = Sample(inputs, np.arange(12) % 2, 2, Role.TRAIN, "images")
    network = capture(module, torch.from_numpy(inputs[:2]))
    return network, measure(network, sample, MeasureSettings())


def test_a_convolution_may_have_a_cushion_above_1(convolution, tmp_path):
    network, profile = convolution
    # 36 places of value 9 over ||A||_F = 3 times the norm 8 of the image
    assert profile.layers[0].layer_cushion.worst == pytest.approx(6 * 9 / (3 * 8), rel=0.01)
    path = tmp_path / "profile.json"
    path.write_text(profile.to_json(), encoding="utf-8")
    cushions = Cushions.parse_option(str(path))
    assert cushions.layer[0] > 2
    theory = MatrixProject(cushions=cushions).theory(network)
    own, other = cushions.layer_epsilon(1), cushions.layer_epsilon(2)
    assert [layer.details["epsilon"] for layer in theory.layers] == [own, other]
    assert own == pytest.approx(0.5 * cushions.layer[0] * cushions.interlayer[0] / (12 * cushions.contraction))
    assert not next(c for c in theory.conditions if c.name == "fully connected").holds


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        # 9 taps: at most sqrt(9)
        (0, 3.1, r"expected a layer cushion of convolution layer 1 in \(0, 3\], got 3.1; measure the network again"),
        (1, 1.1, r"expected a layer cushion of dense layer 2 in \(0, 1\], got 1.1; measure the network again"),
        (1, 0.0, "expected a layer cushion of layer 2 above 0, got 0; leave out the examples for which it is 0"),
    ],
)
def test_a_cushion_that_no_such_layer_has_is_refused_with_what_is_wrong(convolution, place, value, words):
    network, profile = convolution
    rows = list(profile.layers)
    rows[place] = replace(rows[place], layer_cushion=Reduced(value, value))
    with pytest.raises(InputError, match=words):
        Cushions.from_profile(replace(profile, layers=tuple(rows)))
    if value > 0:  # by hand nobody knows what kind of layer it is, but the codec does
        layers = tuple(value if k == place else 0.5 for k in range(2))
        by_hand = Cushions(layers, (0.5, 0.5), 2.0, None, 10, 10)
        with pytest.raises(InputError, match=words):
            MatrixProject(cushions=by_hand).theory(network)


@pytest.mark.parametrize("index", [0, 3])
def test_layers_that_do_not_exist_are_refused(index):
    with pytest.raises(InputError, match="cushions of 2 layers"):
        Cushions(**GOOD).layer_epsilon(index)


def test_a_profile_has_the_cushions(measured):
    network, profile = measured
    cushions = Cushions.from_profile(profile, epsilon=1.0, delta=0.1)
    assert cushions.depth == 2
    assert cushions.layer == tuple(row.layer_cushion.worst for row in profile.layers)
    assert cushions.interlayer == tuple(row.minimal_cushion.worst for row in profile.layers)
    assert cushions.contraction == max(row.contraction.worst for row in profile.layers) >= 1
    assert (cushions.width, cushions.num_samples) == (8, 20)
    theory = MatrixProject(cushions=cushions).theory(network)
    assert theory.parameters == cushions.printed_total
    assert theory.conditions[0].holds is (cushions.smoothness <= 1 / 6)


def test_outliers_can_be_left_out(measured):
    profile = measured[1]
    plain, without = Cushions.from_profile(profile), Cushions.from_profile(profile, zeta=True)
    assert all(a >= b for a, b in zip(without.layer, plain.layer, strict=True))


def test_what_was_not_measured_is_named(measured):
    profile = measured[1]
    rows = (replace(profile.layers[0], layer_cushion=type(profile.layers[0].layer_cushion)(None, None)),)
    with pytest.raises(InputError, match="layer cushion of layer 1"):
        Cushions.from_profile(replace(profile, layers=rows))


def test_the_option_is_a_profile(measured, tmp_path):
    path = tmp_path / "profile.json"
    path.write_text(measured[1].to_json(), encoding="utf-8")
    assert Cushions.parse_option(str(path)) == Cushions.from_profile(measured[1])
    with pytest.raises(InputError, match="bitcert measure"):
        Cushions.parse_option(str(tmp_path / "nothing.json"))
