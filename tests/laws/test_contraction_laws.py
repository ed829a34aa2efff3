"""The induction step of Arora 2018, Lemma 3, on networks that pool, branch, join and have layers without activation.

With every layer before layer ``i`` replaced, so that ``||x_hat^j|| <= 2 ||x^j||``, the value that feeds layer ``i``
must have at most ``2 c_i`` times its clean norm, and ``||x^j|| <= c_i ||phi||`` for each ``x^j`` that it is computed
from. The replaced values are put into the naive twin's graph from outside; the contraction comes from the library.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from bitcert.stability.forward import contractions
from bitcert.stability.hypotheses import structural_hypotheses
from bitcert.stability.settings import MeasureSettings
from tests.reference import measure_naive as naive
from tests.unit.stability import nets

SETTINGS = MeasureSettings(dtype="float64")


class Invented(nn.Module):
    """A stem that pools, a residual block, a dense connection to the pooled input, and a layer without activation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(2))
        self.side = nn.Conv2d(4, 2, 1, bias=False)
        self.linear = nn.Linear(5 * 4, 6, bias=False)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x):
        y = F.max_pool2d(F.relu(self.stem(x)), 2)
        y = F.relu(y + self.second(F.relu(self.first(y))))
        z = F.avg_pool2d(self.side(torch.cat([y, F.avg_pool2d(x, 2)], 1)), 2)
        y = torch.cat([F.max_pool2d(y, 2), z], 1)
        return self.head(self.linear(y.flatten(1)))


class Plain(nn.Module):
    """A chain: average pooling after a ReLU, maximum before one, global averaging of a layer without activation."""

    def __init__(self):
        super().__init__()
        sizes = ((1, 3), (3, 4), (4, 4))
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in sizes)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.layers[0](x)), 2)
        x = F.relu(F.max_pool2d(self.layers[1](x), 2))
        return self.head(self.layers[2](x).mean((2, 3)))


def drawn(module, seed):
    generator = torch.Generator().manual_seed(seed)
    net = nets.from_module(module(), torch.randn(3, 1, 8, 8, generator=generator))
    weights = {
        name: torch.randn(v.shape, generator=generator, dtype=torch.float64) for name, v in net.parameters.items()
    }
    return nets.Net("drawn", net.network, weights, net.x, net.labels), generator


@settings(max_examples=25, deadline=None)
@given(module=st.sampled_from([Invented, Plain]), seed=st.integers(0, 2**32 - 1))
@example(module=Plain, seed=0)
@example(module=Invented, seed=0)
def test_the_induction_step_of_lemma_3(module, seed):
    net, generator = drawn(module, seed)
    context = net.context()
    found = contractions(context, SETTINGS)["contraction"]
    for b in range(len(net.x)):
        one = net.architecture, net.parameters, net.x[b : b + 1]
        clean = naive.run(*one)
        for layer in context.structure.layers:
            c, size = float(found[b, layer.index - 1]), naive.length(clean[layer.source])
            if not size:
                continue
            nearest = naive.nearest_layers(net.architecture, layer.index)
            assert all(naive.length(clean[node]) <= c * size * (1 + 1e-9) for node in nearest)
            moved = {}
            for node in nearest:
                noise = torch.randn(clean[node].shape, generator=generator, dtype=torch.float64)
                # the worst that the induction allows: twice the value itself, or noise as large as it
                away = clean[node] if generator.initial_seed() % 2 else noise * naive.length(clean[node])
                moved[node] = clean[node] + away / naive.length(away) * naive.length(clean[node])
            assert naive.length(naive.run(*one, moved)[layer.source]) <= 2 * c * size * (1 + 1e-9)


@pytest.mark.parametrize("module", [Invented, Plain])
def test_the_networks_meet_what_the_step_asks_of_the_nodes_between(module):
    net, _ = drawn(module, 0)
    found = structural_hypotheses(net.architecture, net.parameters, net.context().structure)
    holds = {h.name: h.holds for h in found}
    assert holds["pooling 1-Lipschitz"]
    assert holds["activations 1-Lipschitz"]
    assert holds["bias-free"]


def test_in_a_chain_it_is_what_the_definition_says():
    net, _ = drawn(Plain, 1)
    found = contractions(net.context(), SETTINGS)["contraction"]
    values, layers = net.values(), net.context().structure.layers
    for own, before in zip(layers[1:], layers, strict=False):
        expected = values[before.node].flatten(1).norm(dim=1) / values[own.source].flatten(1).norm(dim=1)
        torch.testing.assert_close(found[:, own.index - 1], expected)
