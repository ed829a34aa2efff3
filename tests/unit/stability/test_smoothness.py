"""Interlayer smoothness against dense Jacobians and substituted networks, closed forms, and erratum 14."""

import sys

import pytest
import torch
from torch import nn

from bitcert.linear.projection import matrix_project
from bitcert.stability.noise import per_sample_normal
from bitcert.stability.settings import MeasureSettings
from bitcert.stability.smoothness import (
    affordable_projections,
    deviations,
    num_projections,
    prepare_projections,
    smoothness,
    substitution_noise,
)
from tests.reference import measure_naive as naive
from tests.unit.stability import nets

SETTINGS = MeasureSettings(draws=2, projections=40)


def measured(net, rows=slice(None), settings=SETTINGS):
    context = net.context(rows)
    projected = prepare_projections(context.structure, net.parameters, settings)
    return context, projected, smoothness(context, settings, projected)


def close(got, expected):
    torch.testing.assert_close(got, torch.tensor(expected, dtype=got.dtype), rtol=1e-6, atol=1e-10, equal_nan=True)


@pytest.mark.parametrize("name", nets.NAMES)
def test_equal_to_dense_jacobians_and_substituted_networks(name):
    net = nets.build(name)
    context, projected, found = measured(net)
    nodes = ["input", *context.structure.nodes]
    b, draw = nets.BATCH - 1, 1
    one = (net.architecture, net.parameters, net.x[b : b + 1])
    clean = naive.run(*one)
    moved = naive.run(net.architecture, {**net.parameters, **projected[draw]}, net.x[b : b + 1])
    noise = {node: moved[node] - clean[node] for node in nodes[1:]}
    sizes = [naive.length(noise[node]) / naive.length(clean[node]) for node in nodes[1:]]
    close(found["smoothness_noise"][b, draw], sizes)
    real, gaussian = [], []
    for i, j in context.structure.pairs:
        shape = (SETTINGS.draws, *noise[nodes[i]].shape[1:])
        drawn = per_sample_normal(0, f"measure/smoothness/{i}", torch.tensor([b]), shape)[0, draw]
        surrogate = naive.rescaled(drawn, naive.length(noise[nodes[i]]))[None]
        real.append(naive.deviation(*one, (nodes[i], nodes[j]), noise[nodes[i]]))
        gaussian.append(naive.deviation(*one, (nodes[i], nodes[j]), surrogate))
    close(found["smoothness"][b, draw], real)
    close(found["smoothness_gaussian"][b, draw], gaussian)


@pytest.mark.parametrize("name", nets.HOMOGENEOUS)
def test_without_biases_it_is_the_paper_s_form(name):
    """M(x + eta) - J (x + eta), because M(x) = J x there."""
    net = nets.build(name)
    context = net.context()
    for low in context.structure.layers[:-1]:
        x = context.values[low.node]
        pushed = context.linearisation.push(low.node, x[None], context.structure.nodes)
        for node, value in pushed.items():
            torch.testing.assert_close(value[0], context.values[node], rtol=1e-10, atol=1e-12)


def test_linear_networks_have_smoothness_zero():
    found = measured(nets.build("linear_net"))[2]
    assert found["smoothness_noise"].min() > 0.1
    assert found["smoothness"].abs().max() < 1e-12
    assert found["smoothness_gaussian"].abs().max() < 1e-12


def test_one_relu_by_hand():
    """x^1 = (1, -1), noise (0, 3): M moves by (0, 2), J only sees the first unit."""
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        layers[0].weight.copy_(torch.eye(2))
        layers[2].weight.copy_(torch.eye(2))
        layers[2].bias.copy_(torch.tensor([2.0, 4.0]))
    context = nets.from_module(layers, torch.tensor([[1.0, -1.0]])).context()
    noise = torch.tensor([[[0.0, 3.0]], [[0.0, 0.5]]], dtype=torch.float64)
    found = deviations(context, context.structure.layers[0], noise)
    close(found[0][:, 0], [2 * 2**0.5 / (3 * 5), 0.0])


def test_the_noise_is_the_change_of_the_substituted_network():
    net = nets.build("residual")
    context, projected, found = measured(net)
    noise = substitution_noise(context, projected)
    for draw, weights in enumerate(projected):
        moved = net.architecture.activations(net.x, {**net.parameters, **weights})
        for layer in context.structure.layers:
            torch.testing.assert_close(noise[layer.node][draw], moved[layer.node] - context.values[layer.node])
    # the draws are different, and biases are not touched
    assert not torch.isclose(found["smoothness_noise"][:, 0], found["smoothness_noise"][:, 1]).any()
    assert set(projected[0]) == {layer.weight for layer in context.structure.layers}


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_the_batch_size_does_not_matter(batch):
    net = nets.build("lenet")
    whole = measured(net)[2]
    parts = [measured(net, slice(k, k + batch))[2] for k in range(0, nets.BATCH, batch)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_many_draws_are_computed_in_portions(monkeypatch):
    net = nets.build("lenet")
    settings = MeasureSettings(draws=5, projections=20)
    whole = measured(net, settings=settings)[2]
    monkeypatch.setattr(sys.modules["bitcert.stability.replay"], "_ROWS", 2 * nets.BATCH)
    for name, value in measured(net, settings=settings)[2].items():
        torch.testing.assert_close(value, whole[name])


def test_better_projections_make_less_noise():
    net = nets.build("mlp")
    few, many = (
        measured(net, settings=MeasureSettings(draws=4, projections=k))[2]["smoothness_noise"].square().mean()
        for k in (20, 2000)
    )
    assert 30 < few / many < 300


def test_dead_inputs_and_no_noise_are_nan():
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    net = nets.from_module(layers, torch.tensor([[0.0, 0.0], [1.0, 2.0]]))
    found = measured(net)[2]
    for name in ("smoothness", "smoothness_gaussian"):
        assert found[name][0].isnan().all()
        assert found[name][1].isfinite().all()
    assert found["smoothness_noise"][0, :, 0].isnan().all()
    context = net.context()
    nothing = (net.parameters,)
    unchanged = smoothness(context, SETTINGS, nothing)
    assert unchanged["smoothness"].isnan().all()
    assert (unchanged["smoothness_noise"][1] == 0).all()


def test_default_number_of_projections():
    assert affordable_projections([10, 100], budget=10**9) == 100
    assert affordable_projections([10, 100], budget=10 * 10 + 100 * 37 + 99) == 37
    assert affordable_projections([10**6], budget=10) == 1
    net = nets.build("mlp")
    structure = net.context().structure
    one_draw = MeasureSettings(draws=1)
    projected = prepare_projections(structure, net.parameters, one_draw)
    # so small a network affords as many projections as each layer has weights
    sizes = {layer.weight: net.parameters[layer.weight].numel() for layer in structure.layers}
    assert num_projections(structure, net.parameters, one_draw) == sizes
    again = prepare_projections(structure, net.parameters, MeasureSettings(draws=3))
    for name, weight in projected[0].items():
        assert torch.equal(weight, again[0][name])
        expected = matrix_project(net.parameters[name], weight.numel(), 0, f"measure/projection/2/{name}")
        assert torch.equal(again[2][name], expected)


def test_erratum_14_rho_is_the_largest_number_that_holds():
    """Def. 7's inequality holds for every example and pair exactly up to rho = 1 / max; 1 / min is not that number."""
    net = nets.build("mlp")
    context, projected, found = measured(net, settings=MeasureSettings(draws=1, projections=40))
    ratios = found["smoothness"][:, 0]
    noise = substitution_noise(context, projected)
    largest, other_reading = 1 / ratios.max(), 1 / ratios.min()
    assert other_reading > 2 * largest

    def holds(rho):
        nodes = [None, *context.structure.nodes]
        for i, j in context.structure.pairs:
            low, high, eta = nodes[i], nodes[j], noise[nodes[i]]
            for b in range(nets.BATCH):
                x = net.x[b : b + 1]
                clean = naive.run(net.architecture, net.parameters, x)
                moved = naive.run(net.architecture, net.parameters, x, {low: clean[low] + eta[0, b]})
                linear = naive.jacobian(net.architecture, net.parameters, x, low, high) @ eta[0, b].flatten()
                left = naive.length((moved[high] - clean[high]).flatten() - linear)
                right = naive.length(eta[0, b]) * naive.length(clean[high]) / (rho * naive.length(clean[low]))
                if left > right:
                    return False
        return True

    assert holds(largest * (1 - 1e-9))
    assert not holds(largest * (1 + 1e-9))
    assert not holds(other_reading)
