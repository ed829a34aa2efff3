import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitcert.errors import DecodeError
from bitcert.network import capture
from bitcert.network.decode import decode_architecture
from bitcert.network.layouts import Layout
from bitcert.network.localise import localised
from bitcert.network.nodes import Node
from bitcert.network.operations import OPERATIONS
from bitcert.network.shapes import ShapeError

CASES = list(itertools.product([(1, 1), (2, 1)], [(0, 0), (1, 2)], [(1, 1), (2, 1)], [1, 2]))


def captured(*layers, size=(4, 8, 9)):
    torch.manual_seed(0)
    return capture(nn.Sequential(*layers), torch.randn(2, *size))


def convolution(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    layers = [nn.Conv2d(4, 6, (3, 2), stride, padding, dilation, groups), nn.ReLU(), nn.Flatten()]
    width = nn.Sequential(*layers)(torch.zeros(1, 4, 8, 9)).shape[1]
    return captured(*layers, nn.Linear(width, 5))


def spread(network, architecture, name="0.weight"):
    positions = next(spec.shape[0] for spec in architecture.parameters if spec.name == name)
    filters = network.parameters[name]
    return dict(network.parameters) | {name: filters[None].expand(positions, *filters.shape)}


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), CASES)
def test_equal_filters_at_all_positions_are_a_convolution(stride, padding, dilation, groups):
    network = convolution(stride, padding, dilation, groups)
    local, x = localised(network.architecture, ("0.weight",)), torch.randn(7, 4, 8, 9)
    expected = network.architecture.forward(x, network.parameters)
    torch.testing.assert_close(local.forward(x, spread(network, local)), expected, atol=1e-5, rtol=1e-5)
    assert local.propagation.flops["conv2d"] == network.architecture.propagation.flops["conv2d"]
    assert decode_architecture(local.to_json()) == local


def test_each_position_uses_its_own_filter():
    operation = OPERATIONS["local_conv2d"]
    settings = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    torch.manual_seed(0)
    x, bias = torch.randn(3, 4, 7, 8), torch.randn(6)
    shared = F.conv2d(x, torch.randn(6, 2, 3, 2), bias, **settings)
    rows, columns = shared.shape[2:]
    filters = torch.randn(rows * columns, 6, 2, 3, 2)
    found = operation.run([x, filters, bias], settings, 3)
    assert found.shape == shared.shape
    for place, (row, column) in enumerate(itertools.product(range(rows), range(columns))):
        expected = F.conv2d(x, filters[place], bias, **settings)[:, :, row, column]
        torch.testing.assert_close(found[:, :, row, column], expected, atol=1e-5, rtol=1e-5)


def test_batches_in_parts_give_the_same(monkeypatch):
    network = convolution()
    local, x = localised(network.architecture, ("0.weight",)), torch.randn(7, 4, 8, 9)
    expected = local.forward(x, spread(network, local))
    monkeypatch.setattr("bitcert.network.operations._MAX_PATCH_ENTRIES", 3000)
    torch.testing.assert_close(local.forward(x, spread(network, local)), expected, atol=1e-6, rtol=1e-6)


def test_gradients_reach_input_and_filters():
    network = convolution()
    local = localised(network.architecture, ("0.weight",))
    x = torch.randn(2, 4, 8, 9, requires_grad=True)
    parameters = {k: v.detach().clone().requires_grad_() for k, v in spread(network, local).items()}
    local.forward(x, parameters).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert parameters["0.weight"].grad.flatten(1).abs().sum(1).min() >= 0
    assert parameters["0.weight"].grad.abs().sum() > 0


def test_the_batch_stays_in_front():
    local = localised(convolution().architecture, ("0.weight",))
    assert local.propagation.values["conv2d"].layout == Layout(0)


def test_other_layers_are_untouched():
    network = captured(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(80, 3))
    local = localised(network.architecture, ("1.weight",))
    assert [node.op for node in local.nodes][:2] == ["conv2d", "local_conv2d"]
    assert localised(network.architecture, ()) == network.architecture


class Twice(nn.Module):
    """One filter on two maps."""

    def __init__(self, stride):
        super().__init__()
        self.conv, self.stride = nn.Conv2d(4, 4, 3, padding=1), stride

    def forward(self, x):
        y = self.conv(x)
        return self.conv(y[:, :, :: self.stride]).flatten(1)[:, :5]


def test_a_filter_used_twice_on_equal_maps_is_made_local_twice():
    network = captured(Twice(1))
    local = localised(network.architecture, ("0.conv.weight",))
    assert [node.op for node in local.nodes].count("local_conv2d") == 2


def test_a_filter_on_maps_of_two_sizes_is_refused():
    with pytest.raises(DecodeError, match="one output map"):
        localised(captured(Twice(2)).architecture, ("0.conv.weight",))


@pytest.mark.parametrize("name", ["3.weight", "0.bias", "nothing"])
def test_what_is_no_filter_is_refused(name):
    with pytest.raises(DecodeError, match="2-D convolution"):
        localised(convolution().architecture, (name,))


def test_layers_beyond_the_limits_are_refused():
    network = captured(
        nn.Conv2d(4, 64, 1), nn.Conv2d(64, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), size=(4, 64, 64)
    )
    with pytest.raises(DecodeError, match="within the limits"):
        localised(network.architecture, ("1.weight",))


@pytest.mark.parametrize(
    "shape",
    [(55, 6, 4, 3, 2), (48, 6, 4, 3, 2, 1), (48, 6, 3, 3, 2), (48, 5, 4, 3, 2), (48, 6, 4, 30, 2), (6, 4, 3, 2)],
)
def test_filters_of_another_shape_are_refused(shape):
    from dataclasses import replace

    local = localised(convolution().architecture, ("0.weight",))
    assert local.parameters[0].shape == (48, 6, 4, 3, 2)
    parameters = (replace(local.parameters[0], shape=shape), *local.parameters[1:])
    with pytest.raises(ShapeError):
        replace(local, parameters=parameters)


def test_zero_strides_are_refused():
    local = localised(convolution().architecture, ("0.weight",))
    first = local.nodes[0]
    from dataclasses import replace

    node = Node(first.name, first.op, first.inputs, dict(first.attributes) | {"stride": (0, 1)})
    with pytest.raises(ShapeError, match="stride"):
        replace(local, nodes=(node, *local.nodes[1:]))
