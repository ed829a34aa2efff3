"""Laws of the cushions for any weights and inputs: scale invariance, ranges, closed forms, examples apart."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.stability.estimates import prepare_jacobians
from bitcert.stability.jacobians import interlayer
from bitcert.stability.settings import MeasureSettings
from tests.unit.stability import nets

SETTINGS = MeasureSettings(exact=True, dtype="float64")
NAMES = ("mlp_no_bias", "lenet_no_bias", "residual", "concat")


def drawn(name, seed, scales=None):
    """The network with weights and inputs of that seed, layer ``i`` multiplied by ``scales[i]``."""
    net = nets.build(name)
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64) / value[0].numel() ** 0.5
        for key, value in net.parameters.items()
    }
    x = torch.randn(net.x.shape, generator=generator, dtype=torch.float64)
    layers = net.context().structure.layers
    for layer, scale in zip(layers, scales or (), strict=False):
        parameters[layer.weight] = scale * parameters[layer.weight]
    return replace(net, parameters=parameters, x=x)


def measured(net, rows=slice(None)):
    context = net.context(rows)
    plan = prepare_jacobians(context.linearisation, context.structure, SETTINGS)
    return context, {**nets.one_pass(context), **interlayer(context, SETTINGS, plan)}


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(nets.HOMOGENEOUS), seed=seeds, scales=st.lists(st.floats(0.05, 20), min_size=4, max_size=4))
def test_cushions_do_not_change_when_a_layer_is_scaled(name, seed, scales):
    plain, scaled = measured(drawn(name, seed))[1], measured(drawn(name, seed, scales))[1]
    for quantity in ("layer_cushion", "interlayer_cushion", "jacobian_spread", "contraction"):
        torch.testing.assert_close(scaled[quantity], plain[quantity], rtol=1e-8, atol=1e-12, equal_nan=True)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(NAMES), seed=seeds)
def test_ranges(name, seed):
    context, found = measured(drawn(name, seed))
    one = 1 + 1e-9
    dense = [layer.index - 1 for layer in context.structure.layers if layer.op == "linear"]
    assert (found["layer_cushion"][:, dense].nan_to_num(0) <= one).all()
    for column, (i, _) in enumerate(context.structure.pairs):
        positions = context.structure.layers[i - 1].positions
        # ||J x|| <= ||J||_2 ||x|| <= ||J||_F ||x||
        assert (found["interlayer_cushion"][:, column].nan_to_num(0) <= positions**0.5 * one).all()
        spread = found["jacobian_spread"][:, column].nan_to_num(1)
        assert (spread >= 1 - 1e-9).all()
        assert (spread <= positions**0.5 * one).all()
    assert (found["contraction"].nan_to_num(1) >= 1 - 1e-12).all()


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(NAMES), seed=seeds, cut=st.integers(1, nets.BATCH - 1))
def test_examples_do_not_see_each_other(name, seed, cut):
    net = drawn(name, seed)
    whole = measured(net)[1]
    parts = [measured(net, rows)[1] for rows in (slice(0, cut), slice(cut, None))]
    for quantity, values in whole.items():
        joined = torch.cat([part[quantity] for part in parts])
        torch.testing.assert_close(joined, values, rtol=1e-9, atol=1e-12, equal_nan=True)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_chain_of_rotations_has_cushion_one_over_root_width(seed):
    """Identity in place of each product: ``||Q x|| / (||Q||_F ||x||) = 1 / sqrt(h)`` for orthogonal square layers."""
    generator = torch.Generator().manual_seed(seed)
    width = 6
    module = torch.nn.Sequential(*(torch.nn.Linear(width, width, bias=False) for _ in range(3)))
    for layer in module:
        layer.weight.data = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    _, found = measured(nets.from_module(module, torch.randn(3, width, generator=generator)))
    expected = pytest.approx(width**-0.5, rel=1e-6)
    assert all(value == expected for value in found["layer_cushion"].flatten().tolist())
    assert all(value == expected for value in found["interlayer_cushion"].flatten().tolist())
