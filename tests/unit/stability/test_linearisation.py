"""Tangents and cotangents against explicit Jacobians from torch.func.jacrev, for every architecture of the zoo."""

import pytest
import torch
from torch import nn

from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from tests.reference import measure_naive as naive
from tests.unit.stability import nets


def explicit(net, low, high):
    """[B, units of high, units of low], one example at a time."""
    blocks = [naive.jacobian(net.architecture, net.parameters, x[None], low, high) for x in net.x]
    return torch.stack([block.reshape(block.shape[0], -1) if block.dim() > 2 else block for block in blocks])


def directions(value, count=3):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, *value.shape, dtype=value.dtype, generator=generator)


def pull(linearisation, target, cotangents, sources):
    return {name: moved.clone() for name, moved in linearisation.sweep(target, cotangents, sources)}


def measured_pairs(net):
    structure = Structure.of(net.architecture)
    nodes = [layer.node for layer in structure.layers]
    return [(nodes[i - 1], nodes[j - 1]) for i, j in structure.pairs]


@pytest.mark.parametrize("name", nets.NAMES)
def test_both_modes_equal_the_explicit_jacobian(name):
    net = nets.build(name)
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    pairs = measured_pairs(net)
    assert pairs or name == "single"
    for low, high in pairs:
        jacobian = explicit(net, low, high)
        t, g = directions(linearisation.values[low]), directions(linearisation.values[high])
        pushed = linearisation.push(low, t, [high])[high].flatten(2)
        expected = torch.einsum("boi,rbi->rbo", jacobian, t.flatten(2))
        assert torch.allclose(pushed, expected, rtol=1e-9, atol=1e-11)
        pulled = pull(linearisation, high, g, [low])[low].flatten(2)
        expected = torch.einsum("boi,rbo->rbi", jacobian, g.flatten(2))
        assert torch.allclose(pulled, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["lenet", "residual", "concat", "tokens", "windows"])
def test_one_sweep_serves_every_source_and_shared_rows_equal_repeated_ones(name):
    net = nets.build(name)
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    nodes = [layer.node for layer in Structure.of(net.architecture).layers]
    shared = directions(linearisation.values[nodes[-1]][:1], 4)
    repeated = shared.expand(-1, len(net.x), *shared.shape[2:])
    together = pull(linearisation, nodes[-1], shared, ["input", *nodes])
    assert set(together) == {"input", *nodes}
    for node in ("input", *nodes):
        alone = pull(linearisation, nodes[-1], repeated, [node])[node]
        assert torch.allclose(together[node].expand_as(alone), alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", nets.HOMOGENEOUS)
def test_jacobian_maps_the_value_to_the_value_in_chains_without_bias(name):
    net = nets.build(name)
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    for low, high in measured_pairs(net):
        pushed = linearisation.push(low, linearisation.values[low][None], [high])[high][0]
        assert torch.allclose(pushed, linearisation.values[high], rtol=1e-10, atol=1e-12)


def test_cotangents_that_came_are_not_changed():
    net = nets.build("residual")
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    nodes = [layer.node for layer in Structure.of(net.architecture).layers]
    g = directions(linearisation.values[nodes[-1]])
    before = g.clone()
    pull(linearisation, nodes[-1], g, nodes)
    assert torch.equal(g, before)


def test_targets_without_a_path_are_absent():
    net = nets.build("concat")
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    structure = Structure.of(net.architecture)
    assert structure.unconnected
    for i, j in structure.unconnected:
        low, high = structure.layers[i - 1].node, structure.layers[j - 1].node
        tangent = directions(linearisation.values[low])
        assert linearisation.push(low, tangent, [high]) == {}
        assert pull(linearisation, high, directions(linearisation.values[high]), [low]) == {}


POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.MaxPool2d(3, stride=2, padding=1),
    nn.MaxPool2d(2, stride=1),
    nn.MaxPool2d(2, stride=3),
    nn.AvgPool2d(3, stride=2, padding=1),
    nn.AdaptiveAvgPool2d(2),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("size", [6, 7])
def test_pooling_of_every_kind(pool, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), pool, nn.Flatten(), nn.LazyLinear(3))
        x = torch.randn(3, 1, size, size)
        module(x)
    net = nets.from_module(module, x)
    linearisation = Linearisation(net.architecture, net.parameters, net.x)
    ((low, high),) = measured_pairs(net)
    g = directions(linearisation.values[high])
    expected = torch.einsum("boi,rbo->rbi", explicit(net, low, high), g.flatten(2))
    assert torch.allclose(pull(linearisation, high, g, [low])[low].flatten(2), expected, rtol=1e-9, atol=1e-12)
    t = directions(linearisation.values[low])
    expected = torch.einsum("boi,rbi->rbo", explicit(net, low, high), t.flatten(2))
    assert torch.allclose(linearisation.push(low, t, [high])[high].flatten(2), expected, rtol=1e-9, atol=1e-12)


def test_structure_of_a_residual_network():
    structure = Structure.of(nets.build("residual").architecture)
    assert not structure.chain
    assert [layer.channels for layer in structure.layers] == [3, 3, 3, 4, 4, 4, 3]
    assert [layer.positions for layer in structure.layers] == [36, 36, 36, 9, 9, 9, 1]
    # The shortcut's convolution does not depend on the two convolutions beside it.
    assert len(structure.pairs) + len(structure.unconnected) == 21
    assert structure.unconnected


def test_structure_of_a_chain_and_of_folded_positions():
    assert Structure.of(nets.build("mlp").architecture).chain
    windows = Structure.of(nets.build("windows").architecture)
    assert len(windows.layers) == 2
    assert len(windows.skipped) == 1
    tokens = Structure.of(nets.build("tokens").architecture)
    assert tokens.layers[0].positions == 3
