"""What an audit of the measures by brute force found, kept as tests."""

import numpy as np
import pytest
import torch
from torch import nn

from bitcert import Preprocessing, Role, Sample, capture
from bitcert import measure as measure_network
from bitcert.stability import MeasureSettings
from bitcert.stability.estimates import prepare_jacobians
from bitcert.stability.jacobians import interlayer
from bitcert.stability.layers import Structure
from tests.reference import measure_naive as naive
from tests.unit.stability import nets

EXACT = MeasureSettings(exact=True, dtype="float64")


class Attention(nn.Module):
    """Fused attention with a causal or an additive mask between linear layers on tokens."""

    def __init__(self, causal):
        super().__init__()
        self.first, self.head, self.causal = nn.Linear(6, 6), nn.Linear(6, 3), causal
        self.register_buffer("mask", None if causal else torch.randn(4, 4))

    def forward(self, x):
        q, k, v = self.first(x).unsqueeze(1).chunk(3, -1)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, is_causal=self.causal)
        return self.head(torch.cat([y, y * y, v], -1).squeeze(1).mean(1))


def normalised(norm):
    convolutions = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), norm, nn.ReLU(), nn.Conv2d(4, 4, 3)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(16, 3))


CASES = {
    "causal attention": (lambda: Attention(True), (4, 6)),
    "masked attention": (lambda: Attention(False), (4, 6)),
    "group norm": (lambda: normalised(nn.GroupNorm(2, 4)), (1, 8, 8)),
    "instance norm": (lambda: normalised(nn.InstanceNorm2d(4, affine=True)), (1, 8, 8)),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_and_norms_of_channels(name):
    build, shape = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nets.from_module(build(), torch.randn(3, *shape))
    context = net.context()
    structure = context.structure
    found = interlayer(context, EXACT, prepare_jacobians(context.linearisation, structure, EXACT))
    assert structure.pairs
    for column, (i, j) in enumerate(structure.pairs):
        low, high = structure.layers[i - 1].node, structure.layers[j - 1].node
        for row, x in enumerate(net.x):
            jacobian = naive.jacobian(net.architecture, net.parameters, x[None], low, high)
            assert float(found["jacobian_norm"][row, column]) == pytest.approx(float(jacobian.norm()), rel=1e-9)


@pytest.mark.parametrize(
    ("layer", "window"),
    [
        (nn.Conv2d(1, 3, (5, 1), stride=(1, 5)), 5),
        (nn.Conv2d(1, 3, 4, stride=(1, 4)), 4),
        (nn.Conv2d(1, 3, 5, stride=2), 9),
        (nn.Conv1d(1, 3, 5), 5),
    ],
    ids=str,
)
def test_windows_are_counted_axis_by_axis(layer, window):
    shape = (1, 1, 10, 10) if isinstance(layer, nn.Conv2d) else (1, 1, 10)
    module = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))
    module(torch.zeros(shape))
    structure = Structure.of(capture(module, torch.randn(2, *shape[1:])).architecture)
    assert structure.layers[0].window == window
    assert structure.layers[1].window == 1


def profile_of(module, **settings):
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    sample = Sample(x, np.arange(20) % 3, 3, Role.TRAIN, "toy")
    network = capture(module, torch.from_numpy(x[:2]))
    return measure_network(network, sample, MeasureSettings(**settings), preprocessing=Preprocessing(1.0, (), ()))


def holds(profile):
    return {hypothesis.name: hypothesis.holds for hypothesis in profile.hypotheses}


def test_examples_without_smoothness_are_not_dead():
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    assert holds(profile_of(module, smoothness_samples=5))["no dead inputs"]
    dead = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    dead[0].weight.data.zero_()
    dead[0].bias.data.fill_(-1.0)
    assert not holds(profile_of(dead, smoothness_samples=5))["no dead inputs"]


class Between(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False), function

    def forward(self, x):
        return self.b(self.function(self.a(x)))


STRANGE = {
    "outer product": (lambda x: (x[:, :, None] @ x[:, None, :]).sum(2), False),
    "square": (lambda x: x * x, False),
    "exp": (torch.exp, False),
    "softmax": (lambda x: torch.softmax(x, 1), False),
    "maxout": (lambda x: torch.maximum(x, -7 * x), True),
    "abs": (torch.abs, True),
    "gated": (lambda x: x * torch.relu(x), False),
}


@pytest.mark.parametrize("name", STRANGE)
def test_hypotheses_do_not_overlook_what_is_no_activation(name):
    function, homogeneous = STRANGE[name]
    profile = profile_of(Between(function), quantities=("layer_cushion",))
    found = holds(profile)
    assert found["ReLU activations only"] is False
    assert found["activations 1-Lipschitz"] is None
    assert found["positively homogeneous apart from biases"] is homogeneous
    assert profile.network["relu_only"] is False


def test_hypotheses_of_plain_networks():
    found = holds(profile_of(Between(torch.relu), quantities=("layer_cushion",)))
    names = ("ReLU activations only", "activations 1-Lipschitz", "positively homogeneous apart from biases")
    assert all(found[name] is True for name in names)
    found = holds(profile_of(Between(lambda x: x * 3 + x / 2), quantities=("layer_cushion",)))
    assert all(found[name] is True for name in names)
