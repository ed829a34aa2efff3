"""Attenuation against loops over examples, exact noise norms, and what must not depend on the batch."""

import sys

import pytest
import torch
from torch import nn

from bitcert.stability.attenuation import attenuation, scaled_to
from bitcert.stability.noise import per_sample_normal
from bitcert.stability.settings import MeasureSettings
from tests.reference import measure_naive as naive
from tests.unit.stability import nets

SETTINGS = MeasureSettings(noise_levels=(0.1, 0.5))


def expected(net, context, b, levels, injection, target, at_inputs=False):
    """One example, one injection, one target: the noise is drawn again for this example alone."""
    sources = ["input", *context.structure.nodes]
    low, high = sources[injection], sources[target]
    if at_inputs:
        consumer = next(node for node in net.architecture.nodes if node.name == sources[injection + 1])
        low = consumer.inputs[0]
    if low != high and not naive.depends(net.architecture, low, high):
        return [float("nan")] * len(levels)
    one = (net.architecture, net.parameters, net.x[b : b + 1])
    clean = naive.run(*one)
    drawn = per_sample_normal(0, f"measure/attenuation/{injection}", torch.tensor([b]), (1, *clean[low].shape[1:]))[0]
    puts = [{low: clean[low] + naive.rescaled(drawn, level * naive.length(clean[low]))} for level in levels]
    return [naive.relative_error(*one, put, high) for put in puts]


@pytest.mark.parametrize("name", nets.NAMES)
def test_equal_to_one_run_per_example_and_injection(name):
    net = nets.build(name)
    context = net.context()
    found = attenuation(context, SETTINGS)["attenuation"]
    depth = len(context.structure.layers)
    assert found.shape == (nets.BATCH, 2, depth + 1, depth)
    for b in (0, nets.BATCH - 1):
        for injection in range(depth + 1):
            for target in range(1, depth + 1):
                wanted = expected(net, context, b, SETTINGS.noise_levels, injection, target)
                wanted = torch.tensor(wanted, dtype=found.dtype)
                got = found[b, :, injection, target - 1]
                torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", ["mlp", "residual", "concat"])
def test_noise_at_inputs_is_added_to_what_a_layer_is_fed(name):
    net, settings = nets.build(name), MeasureSettings(noise_levels=(0.1,), noise_at_inputs=True)
    context = net.context()
    found = attenuation(context, settings)["attenuation"]
    depth = len(context.structure.layers)
    assert found[:, :, depth].isnan().all()
    for injection in range(depth):
        for target in range(1, depth + 1):
            wanted = expected(net, context, 1, (0.1,), injection, target, at_inputs=True)
            got = found[1, :, injection, target - 1]
            torch.testing.assert_close(
                got, torch.tensor(wanted, dtype=found.dtype), rtol=1e-6, atol=1e-12, equal_nan=True
            )


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_noise_has_exactly_the_norm_asked_for(name):
    found = attenuation(nets.build(name).context(), SETTINGS)["attenuation"]
    for k, level in enumerate(SETTINGS.noise_levels):
        own = found[:, k, 1:].diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(own, torch.full_like(own, level), rtol=1e-12, atol=0)


def test_only_what_is_downstream():
    context = nets.build("concat").context()
    found = attenuation(context, SETTINGS)["attenuation"][0, 0]
    assert found[0].isfinite().all()
    # the left and the right branch do not feed each other
    assert found.isnan().nonzero().tolist() == [[2, 0], [2, 2], *([3, 0], [3, 1]), *([4, k] for k in range(3))] + [
        [5, k] for k in range(4)
    ]


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_the_batch_size_does_not_matter(batch):
    net = nets.build("lenet")
    whole = attenuation(net.context(), SETTINGS)["attenuation"]
    parts = [
        attenuation(net.context(slice(k, k + batch)), SETTINGS)["attenuation"] for k in range(0, nets.BATCH, batch)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, equal_nan=True)


def test_linear_networks_scale_with_the_level():
    found = attenuation(nets.build("linear_net").context(), SETTINGS)["attenuation"]
    torch.testing.assert_close(found[:, 1], 5 * found[:, 0], equal_nan=True)


def test_orthogonal_layers_neither_attenuate_nor_amplify():
    layers = nn.Sequential(*(nn.Linear(5, 5, bias=False) for _ in range(3)))
    with torch.no_grad():
        for k, layer in enumerate(layers):
            layer.weight.copy_(torch.linalg.qr(nets.normal(5, 5, seed=k))[0])
    net = nets.from_module(layers, nets.normal(4, 5, seed=9))
    found = attenuation(net.context(), SETTINGS)["attenuation"][:, 0]
    assert ((found - 0.1).abs() < 1e-6)[~found.isnan()].all()


def test_dead_inputs_and_dead_targets():
    layers = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        layers[0].weight.copy_(torch.eye(2))
    net = nets.from_module(layers, torch.tensor([[0.0, 0.0], [-1e-3, -2.0], [1.0, 2.0]]))
    found = attenuation(net.context(), MeasureSettings(noise_levels=(0.9,)))["attenuation"][:, 0]
    assert found[0].isnan().all()
    assert found[1, 0, 0].isfinite()
    # the second layer is 0 here, clean or not: 0/0, or infinite if the noise wakes a unit
    assert not found[1, :2, 1].isfinite().any()
    assert found[2, :2].isfinite().all()


def test_a_dead_input_is_skipped_although_biases_keep_the_layers_alive():
    net = nets.build("mlp")
    dead = nets.Net("dead", net.network, net.parameters, torch.zeros_like(net.x), net.labels)
    found = attenuation(dead.context(), SETTINGS)["attenuation"]
    assert found[:, :, 0].isnan().all()
    assert found[:, :, 1].isfinite().all()


def test_tokens_cannot_be_perturbed():
    net = nets.from_module(nets.Words(), torch.tensor([[0, 1, 2], [6, 5, 4]]))
    found = attenuation(net.context(), SETTINGS)["attenuation"]
    assert found[:, :, 0].isnan().all()
    assert found[:, :, 1].isfinite().all()


def test_many_levels_are_computed_in_portions(monkeypatch):
    net = nets.build("lenet")
    settings = MeasureSettings(noise_levels=(0.1, 0.2, 0.3, 0.4, 0.5))
    whole = attenuation(net.context(), settings)["attenuation"]
    monkeypatch.setattr(sys.modules["bitcert.stability.replay"], "_ROWS", 2 * nets.BATCH)
    torch.testing.assert_close(attenuation(net.context(), settings)["attenuation"], whole, equal_nan=True)


def test_scaled_to():
    noise = scaled_to(nets.normal(2, 3, 4, seed=0), torch.tensor([[1.0, 0.0, 2.0]]))
    torch.testing.assert_close(noise.norm(dim=2), torch.tensor([[1.0, 0.0, 2.0]]).expand(2, 3))
