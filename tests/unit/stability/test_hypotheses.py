"""Conditions of the bounds: what is read off a network, what is measured, and what stays open."""

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import capture
from bitcert.stability.hypotheses import check_hypotheses, smoothness_hypothesis
from bitcert.stability.layers import Structure
from bitcert.stability.reduction import SmoothnessSummary, reduce_values


def summary(value: float | None, draws: int = 3) -> SmoothnessSummary:
    return SmoothnessSummary(0.05, draws, draws, None, value, None, value, None, (value,) * draws, None)


def found(model: nn.Module, example: torch.Tensor, distributions=None, smoothness=None, positive=None):
    network = capture(model, example)
    structure = Structure.of(network.architecture)
    hypotheses = check_hypotheses(network, structure, distributions or {}, smoothness, positive)
    return {h.name: h for h in hypotheses}


def holds(model: nn.Module, **options):
    return {name: h.holds for name, h in found(model, torch.ones(2, 4), **options).items()}


def plain(*middle: nn.Module, bias: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6, bias=bias), *middle, nn.Linear(6, 3, bias=bias))


STRUCTURAL = (
    "bias-free",
    "ReLU activations only",
    "activations 1-Lipschitz",
    "positively homogeneous apart from biases",
    "chain of layers",
    "every weight layer measured",
)


@pytest.mark.parametrize(
    ("middle", "bias", "expected"),
    [
        ([nn.ReLU()], False, (True, True, True, True, True, True)),
        ([nn.ReLU()], True, (False, True, True, True, True, True)),
        ([], False, (True, True, True, True, True, True)),
        ([nn.Tanh()], False, (True, False, True, False, True, True)),
        ([nn.LeakyReLU(0.1)], False, (True, False, True, True, True, True)),
        ([nn.LeakyReLU(1.5)], False, (True, False, False, True, True, True)),
        ([nn.GELU()], False, (True, False, False, False, True, True)),
        ([nn.PReLU()], False, (True, False, True, True, True, True)),
        ([nn.PReLU(init=-2.0)], False, (True, False, False, True, True, True)),
        ([nn.ReLU(), nn.LayerNorm(6, elementwise_affine=False)], False, (True, False, None, False, True, True)),
    ],
)
def test_structure(middle, bias, expected):
    result = holds(plain(*middle, bias=bias))
    assert tuple(result[name] for name in STRUCTURAL) == expected


def test_a_bias_of_zeros_is_none():
    model = plain(nn.ReLU(), bias=True)
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.bias)
    assert holds(model)["bias-free"] is True


class Shifted(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.layer, self.shift = nn.Linear(4, 3, bias=False), shift

    def forward(self, x):
        return self.layer(x) + self.shift


@pytest.mark.parametrize("shift", [0.5, nn.Parameter(torch.ones(3))])
def test_added_constants_count_as_biases(shift):
    assert holds(Shifted(shift))["bias-free"] is False


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4, bias=False) for _ in range(3))

    def forward(self, x):
        x = self.a(x)
        return self.c(torch.relu(x + self.b(torch.relu(x))))


def test_a_residual_network_is_no_chain():
    result = holds(Residual())
    assert result["chain of layers"] is False
    assert result["bias-free"] is True


@pytest.mark.parametrize(("value", "expected"), [(1 / 9, True), (1 / 9 + 1e-9, False), (5.0, False), (0.0, True)])
def test_smoothness_at_least_three_d(value, expected):
    assert smoothness_hypothesis(summary(value), 3).holds is expected


def test_what_was_not_measured_is_open():
    assert smoothness_hypothesis(None, 3).holds is None
    assert smoothness_hypothesis(summary(None), 1).holds is None
    result = holds(plain(nn.ReLU()))
    assert result["no dead inputs"] is None
    assert result["margins positive"] is None


def test_dead_inputs_are_counted_by_quantity():
    values = {"layer_cushion": [0.1, np.nan, 0.2], "contraction": [1.0, np.inf, np.nan], "margin": [np.nan] * 3}
    distributions = {name: (reduce_values(np.array(v), name),) for name, v in values.items()}
    h = found(plain(nn.ReLU()), torch.ones(2, 4), distributions=distributions)["no dead inputs"]
    assert h.holds is False
    assert h.detail == "1 of layer_cushion skipped; 1 of contraction skipped; 1 of contraction infinite"
    alive = {"layer_cushion": (reduce_values(np.array([0.1, 0.2]), "layer_cushion"),)}
    assert holds(plain(nn.ReLU()), distributions=alive)["no dead inputs"] is True


@pytest.mark.parametrize(
    ("positive", "expected", "percent"), [(4, True, "100 %"), (3, False, "75 %"), (0, False, "0 %")]
)
def test_margins(positive, expected, percent):
    distributions = {"margin": (reduce_values(np.arange(4.0), "margin"),)}
    result = found(plain(nn.ReLU()), torch.ones(2, 4), distributions=distributions, positive=positive)
    h = result["margins positive"]
    assert h.holds is expected
    assert percent in h.detail


def convolutions(*middle: nn.Module):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), *middle, nn.Flatten(), nn.LazyLinear(3, bias=False))
    network(torch.ones(2, 1, 8, 8))
    return found(network, torch.ones(2, 1, 8, 8))["pooling 1-Lipschitz"]


@pytest.mark.parametrize(
    ("middle", "expected", "words"),
    [
        ((), True, "no pooling between the layers"),
        ((nn.ReLU(),), True, "no pooling between the layers"),
        ((nn.ReLU(), nn.MaxPool2d(2)), True, "counted in the contraction: max_pool2d (max_pool2d)"),
        ((nn.ReLU(), nn.AvgPool2d(3, 1, padding=1)), True, "counted in the contraction: avg_pool2d (avg_pool2d)"),
        ((nn.ReLU(), nn.AdaptiveAvgPool2d(2)), True, "counted in the contraction"),
        # an entry lies in up to 2 x 2 windows: the norm may double
        (
            (nn.ReLU(), nn.MaxPool2d(3, 2)),
            False,
            "windows overlap, a norm may grow: max_pool2d (max_pool2d) by up to 2",
        ),
    ],
)
def test_pooling_is_named(middle, expected, words):
    """The proof of Lemma 3 needs what lies between two layers to make no norm larger."""
    h = convolutions(*middle)
    assert h.holds is expected
    assert words in h.detail


def test_pooling_before_the_first_and_after_the_last_layer_concerns_no_contraction():
    class Outside(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 3, 2, bias=False)

        def forward(self, x):
            return torch.nn.functional.max_pool2d(self.layer(torch.nn.functional.max_pool2d(x, 3, 1)), 5).flatten(1)

    h = found(Outside(), torch.ones(2, 1, 8, 8))["pooling 1-Lipschitz"]
    assert (h.holds, h.detail) == (True, "no pooling between the layers")
