"""Layer cushion, activation contraction and margin against loops with dense matrices, and closed forms."""

import pytest
import torch
from torch import nn

from bitcert.stability.forward import contractions, layer_cushions, margins
from bitcert.stability.settings import MeasureSettings
from tests.reference import measure_naive as naive
from tests.unit.stability import nets
from tests.unit.stability.nets import close

SETTINGS = MeasureSettings()


def one(net, b):
    return net.architecture, net.parameters, net.x[b : b + 1]


@pytest.mark.parametrize("name", nets.NAMES)
def test_equal_to_dense_matrices(name):
    net = nets.build(name)
    context = net.context()
    found = nets.one_pass(context)
    measured = [layer.node for layer in context.structure.layers]
    numbers = [k for k, layer in enumerate(net.network.weight_layers, start=1) if layer.node in measured]
    for b in range(nets.BATCH):
        close(found["layer_cushion"][b], [naive.layer_cushion(*one(net, b), k) for k in numbers])
        close(found["contraction"][b], [naive.contraction(*one(net, b), k) for k in numbers])
        logits = naive.run(*one(net, b))[net.architecture.output].flatten().tolist()
        close(found["margin"][b], naive.margin(logits, int(net.labels[b])))
        close(found["output_norm"][b], naive.length(torch.tensor(logits, dtype=torch.float64)))
        close(found["input_norm"][b], naive.length(net.x[b]))


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_the_batch_size_does_not_matter(batch):
    net = nets.build("lenet")
    whole = nets.one_pass(net.context())
    parts = [nets.one_pass(net.context(slice(k, k + batch))) for k in range(0, nets.BATCH, batch)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_dense_cushions_are_at_most_one_and_orthogonal_layers_have_one_over_root_width():
    for name in ("mlp", "leaky", "gelu"):
        assert (layer_cushions(nets.build(name).context(), SETTINGS)["layer_cushion"] <= 1).all()
    layer = nn.Linear(6, 6)
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.qr(nets.normal(6, 6, seed=1))[0])
        layer.bias.fill_(10.0)
    net = nets.from_module(layer, nets.normal(4, 6, seed=2))
    cushion = layer_cushions(net.context(), SETTINGS)["layer_cushion"]
    # float32 weights are orthogonal to about 1e-7; the bias does not count
    torch.testing.assert_close(cushion, torch.full((4, 1), 6**-0.5, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_rank_one_layer_has_the_cosine_as_its_cushion():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.outer(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0, 2.0])))
    net = nets.from_module(layer, torch.tensor([[1.0, 2.0, 2.0], [2.0, -1.0, 0.0], [0.0, 0.0, 5.0]]))
    close(layer_cushions(net.context(), SETTINGS)["layer_cushion"][:, 0], [1.0, 0.0, 2 / 3])


def test_cushions_do_not_change_with_the_scale_of_a_layer():
    net = nets.build("mlp_no_bias")
    before = layer_cushions(net.context(), SETTINGS)["layer_cushion"]
    scaled = {name: 3.7 * value for name, value in net.parameters.items()}
    moved = nets.Net("scaled", net.network, scaled, net.x, net.labels)
    torch.testing.assert_close(layer_cushions(moved.context(), SETTINGS)["layer_cushion"], before)


def test_contraction_of_relu_is_at_least_one():
    """Erratum 2: Zhang 2020 Def. 5.6 is the inverse, which is at most 1."""
    net = nets.build("mlp")
    assert (contractions(net.context(), SETTINGS)["contraction"] >= 1).all()
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        layers[0].weight.copy_(torch.eye(2))
    net = nets.from_module(layers, torch.tensor([[3.0, -4.0], [3.0, 4.0], [-4.0, 3.0]]))
    # the input enters the first layer without an activation
    close(contractions(net.context(), SETTINGS)["contraction"], [[1.0, 5 / 3], [1.0, 1.0], [1.0, 5 / 3]])


def lying(*middle, width=1):
    """``x`` itself as the value of the first layer, of shape [4, 4], then these modules, then a dense layer."""
    first = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(first.weight)
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0], x[0, 0, 0, 1], x[0, 0, 2, 2] = 3.0, -4.0, 12.0
    return nets.from_module(nn.Sequential(first, *middle, nn.Flatten(), nn.Linear(width, 2)), x)


@pytest.mark.parametrize(
    ("middle", "width", "expected"),
    [
        ((), 16, 1.0),
        ((nn.ReLU(),), 16, 13 / 153**0.5),
        # maxima 3 and 12 of windows that are disjoint
        ((nn.ReLU(), nn.MaxPool2d(2)), 4, 13 / 153**0.5),
        # means 3/4 and 12/4, and (3 - 4)/4 and 12/4 without the ReLU
        ((nn.ReLU(), nn.AvgPool2d(2)), 4, 4 * 13 / 153**0.5),
        ((nn.AvgPool2d(2),), 4, 4 * 13 / 145**0.5),
        # one mean of 15/16; the value that feeds the layer has 1 entry
        ((nn.ReLU(), nn.AdaptiveAvgPool2d(1)), 1, 16 * 13 / 15),
    ],
)
def test_what_pools_between_two_layers_is_part_of_the_contraction(middle, width, expected):
    """Cushions use the value that feeds a layer, and so does the contraction (Lemma 3): not the ReLU's alone."""
    close(contractions(lying(*middle, width=width).context(), SETTINGS)["contraction"], [[1.0, expected]])


def test_where_branches_meet_the_norms_that_they_are_given_add_up():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.sum, self.cat = nn.Linear(2, 2, bias=False), nn.Linear(6, 2, bias=False)

        def forward(self, x):
            a, b = self.a(x), self.b(x)
            return self.sum(torch.relu(a) + torch.relu(b)) + self.cat(torch.cat([torch.relu(a), b, x], 1))

    module = Joined()
    with torch.no_grad():
        module.a.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))  # (3, -4)
        module.b.weight.copy_(torch.tensor([[-2.0, 0.0], [0.0, 2.0]]))  # (-6, 8)
    net = nets.from_module(module, torch.tensor([[3.0, 4.0]]))
    added = (5 + 10) / (3**2 + 8**2) ** 0.5
    # the input itself does not change: it counts as it is
    joined = (5**2 + 10**2 + 5**2) ** 0.5 / (3**2 + 10**2 + 5**2) ** 0.5
    close(contractions(net.context(), SETTINGS)["contraction"], [[1.0, 1.0, added, joined]])
    assert net.context().structure.feeds == ((0,), (0,), (1, 2), (0, 1, 2))


def test_dead_inputs():
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        layers[0].weight.copy_(torch.eye(2))
    net = nets.from_module(layers, torch.tensor([[0.0, 0.0], [-1.0, -2.0], [1.0, 2.0]]))
    found = nets.one_pass(net.context())
    cushion, contraction = found["layer_cushion"], found["contraction"][:, 1]
    # 0/0 at the zero input; the second layer is fed 0 by both; x/0 is an infinite contraction
    assert cushion.isnan().tolist() == [[True, True], [False, True], [False, False]]
    assert contraction[0].isnan()
    assert contraction[1] == torch.inf
    assert contraction[2] == 1


def test_ties_have_margin_zero():
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    net = nets.from_module(layer, torch.tensor([[1.0, 1.0], [2.0, 1.0], [2.0, 1.0]]))
    context = net.context()
    context.labels[:] = torch.tensor([0, 0, 1])
    assert margins(context, SETTINGS)["margin"].tolist() == [0.0, 1.0, -1.0]


@pytest.mark.parametrize("name", ["single", "linear_net"])
def test_without_activations_nothing_is_contracted(name):
    context = nets.build(name).context()
    found = contractions(context, SETTINGS)["contraction"]
    assert found.shape == (nets.BATCH, len(context.structure.layers))
    assert (found == 1).all()


def test_tokens_have_no_norm():
    net = nets.from_module(nets.Words(), torch.tensor([[0, 1, 2], [6, 5, 4]]))
    found = nets.one_pass(net.context())
    assert found["input_norm"].isnan().all()
    for b in range(2):
        close(found["layer_cushion"][b], [naive.layer_cushion(*one(net, b), k) for k in (1, 2)])
