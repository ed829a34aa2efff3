"""Noise sensitivity: Monte Carlo against loops and against Prop. 3.1, error bars that cover, and erratum 5."""

import pytest
import torch
from torch import nn

from bitcert.errors import InputError
from bitcert.stability.noise import per_sample_normal
from bitcert.stability.sensitivity import estimate_noise_sensitivity, noise_sensitivity
from bitcert.stability.settings import MeasureSettings
from tests.reference import measure_naive as naive
from tests.unit.stability import nets
from tests.unit.stability.nets import close

SETTINGS = MeasureSettings(sensitivity_draws=4)


@pytest.mark.parametrize("name", nets.NAMES)
def test_equal_to_one_run_per_draw(name):
    net = nets.build(name)
    context = net.context()
    found = noise_sensitivity(context, SETTINGS)
    nodes = ["input", *context.structure.nodes]
    assert found["noise_sensitivity"].shape == (nets.BATCH, len(nodes))
    b = nets.BATCH - 1
    for i, node in enumerate(nodes):
        shape = (4, *context.values[node].shape[1:])
        draws = per_sample_normal(0, f"measure/sensitivity/{i}", torch.tensor([b]), shape)[0]
        one = (net.architecture, net.parameters, net.x[b : b + 1], node)
        mean, error = naive.sensitivity(*one, [draw[None] for draw in draws])
        close(found["noise_sensitivity"][b, i], mean)
        close(found["noise_sensitivity_error"][b, i], error)


def random_matrix(rows, columns, seed=0):
    return nets.normal(rows, columns, seed=seed).double()


def test_error_bars_cover_the_exact_value_of_a_matrix():
    """Prop. 3.1: within two standard errors for about 95 % of 400 inputs."""
    matrix, x = random_matrix(5, 8), random_matrix(400, 8, seed=1)
    noise = per_sample_normal(0, "test", torch.arange(400), (200, 8)).double().movedim(1, 0)
    found = estimate_noise_sensitivity(lambda z: z @ matrix.T, x, noise)
    exact = naive.matrix_noise_sensitivity(matrix, x)
    inside = ((found.value - exact).abs() <= 2 * found.error).double().mean()
    assert 0.92 < inside < 0.98
    torch.testing.assert_close((found.value / exact).mean(), torch.ones((), dtype=torch.float64), rtol=0.01, atol=0)


def test_a_linear_network_has_the_sensitivity_of_its_matrix():
    layers = nn.Sequential(nn.Linear(6, 5, bias=False), nn.Linear(5, 4, bias=False))
    net = nets.from_module(layers, nets.normal(3, 6, seed=0))
    found = noise_sensitivity(net.context(), MeasureSettings(sensitivity_draws=4000))
    first, second = (net.parameters[layer.weight] for layer in net.network.weight_layers)
    exact = naive.matrix_noise_sensitivity(second @ first, net.x)
    assert ((found["noise_sensitivity"][:, 0] - exact).abs() < 5 * found["noise_sensitivity_error"][:, 0]).all()
    # from the last layer's value to the output the map is the identity of width 4
    last = found["noise_sensitivity"][:, 2]
    assert ((last - 4).abs() < 5 * found["noise_sensitivity_error"][:, 2]).all()


@pytest.mark.parametrize("matrix", [torch.eye(7), torch.outer(torch.tensor([1.0, 2.0]), torch.arange(3.0, 10.0))])
def test_closed_forms_of_matrices(matrix):
    """Draws along every axis in turn, of length ``sqrt(7)``, have the mean square of ``N(0, I)`` exactly."""
    x = torch.stack([torch.arange(3.0, 10.0), torch.ones(7), torch.zeros(7)])
    noise = (7**0.5 * torch.eye(7))[:, None].expand(-1, 3, -1)
    found = estimate_noise_sensitivity(lambda z: z @ matrix.T, x, noise).value
    torch.testing.assert_close(found[:2], naive.matrix_noise_sensitivity(matrix, x[:2]), rtol=1e-4, atol=0)
    assert found[2].isnan()
    across = torch.tensor([[4.0, -3.0, *[0.0] * 5]])
    lost = matrix @ across.T == 0
    assert torch.isinf(estimate_noise_sensitivity(lambda z: z @ matrix.T, across, noise[:, :1]).value) == lost.all()


def test_the_standard_error_shrinks_with_the_root_of_the_draws():
    net = nets.build("mlp")
    few, many = (
        noise_sensitivity(net.context(), MeasureSettings(sensitivity_draws=n))["noise_sensitivity_error"].mean()
        for n in (100, 1600)
    )
    assert 3 < few / many < 5


def test_erratum_5():
    """||Mx|| / ||x|| <= sigma_max (the notes print >=), and ||M eta|| / ||eta|| is near ||M||_F / sqrt(input width)."""
    matrix = random_matrix(40, 400) * torch.linspace(0.1, 3, 400, dtype=torch.float64)
    inputs = random_matrix(2000, 400, seed=1)
    gains = (inputs @ matrix.T).norm(dim=1) / inputs.norm(dim=1)
    largest = torch.linalg.svdvals(matrix)[0]
    assert (gains <= largest).all()
    assert gains.max() < 0.8 * largest
    near = matrix.norm() / 400**0.5
    torch.testing.assert_close(gains.mean(), near, rtol=0.02, atol=0)
    assert gains.std() < 0.15 * near
    # the output width is not what counts
    assert abs(gains.mean() / (matrix.norm() / 40**0.5) - 1) > 0.5


def test_only_some_examples_are_measured_spread_evenly():
    net = nets.build("lenet")
    whole = noise_sensitivity(net.context(), SETTINGS)
    some = noise_sensitivity(net.context(), MeasureSettings(sensitivity_draws=4, sensitivity_samples=2))
    chosen = net.context().among(2)
    assert chosen.tolist() == [False, False, True, False, True]
    for name, value in some.items():
        torch.testing.assert_close(value[chosen], whole[name][chosen])
        assert torch.isnan(value[~chosen]).all()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_the_batch_size_does_not_matter(batch):
    net = nets.build("residual")
    whole = noise_sensitivity(net.context(), SETTINGS)
    parts = [noise_sensitivity(net.context(slice(k, k + batch)), SETTINGS) for k in range(0, nets.BATCH, batch)]
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_dead_inputs_and_tokens():
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        layers[0].weight.copy_(torch.eye(2))
    net = nets.from_module(layers, torch.tensor([[0.0, 0.0], [-1.0, -2.0], [1.0, 2.0]]))
    found = noise_sensitivity(net.context(), SETTINGS)
    value, error = found["noise_sensitivity"], found["noise_sensitivity_error"]
    assert value[0].isnan().all()
    assert (value[1, :2] == torch.inf).all()
    assert error[1, :2].isnan().all()
    assert value[2].isfinite().all()
    net = nets.from_module(nets.Words(), torch.tensor([[0, 1, 2], [6, 5, 4]]))
    value = noise_sensitivity(net.context(), SETTINGS)["noise_sensitivity"]
    assert value.isnan().tolist() == [[True, False, False]] * 2


def test_one_draw_has_no_error_bar():
    with pytest.raises(InputError, match="two draws"):
        estimate_noise_sensitivity(lambda z: z, torch.ones(2, 3), torch.ones(1, 2, 3))
