"""Maps of weight layers against matrices unrolled entry by entry."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch

from bitcert.errors import InputError
from bitcert.linear import LayerMap
from bitcert.network import Node
from tests.reference import linear_naive as naive
from tests.tools.maps import random


def conv(weight, shape, stride=1, padding=0, dilation=1, groups=1) -> LayerMap:
    dims = weight.dim() - 2
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    settings = {key: value if isinstance(value, tuple) else (value,) * dims for key, value in settings.items()}
    node = Node("c", f"conv{dims}d", ("input", "w"), {**settings, "groups": groups})
    return LayerMap.of(node, weight, shape)


def dense(weight, shape=None) -> LayerMap:
    return LayerMap.of(Node("f", "linear", ("input", "w")), weight, shape or (weight.shape[1],))


CONVOLUTIONS = [
    ((4, 3, 3, 3), (3, 5, 6), {"padding": 1}),
    ((4, 3, 3, 2), (3, 7, 6), {"stride": (2, 3), "padding": (1, 0)}),
    ((6, 2, 3, 3), (4, 6, 7), {"groups": 2, "stride": 2, "padding": (2, 1), "dilation": (1, 2)}),
    ((4, 1, 2, 2), (4, 4, 4), {"groups": 4}),
    ((3, 2, 1, 1), (2, 3, 3), {"stride": 2, "padding": 1}),
    ((4, 2, 3), (2, 9), {"stride": 2, "padding": 2, "dilation": 2}),
    ((2, 2, 5), (4, 6), {"stride": 4, "groups": 2}),
]


@pytest.mark.parametrize(("kernel", "shape", "settings"), CONVOLUTIONS)
def test_a_convolution_equals_its_unrolled_matrix(kernel, shape, settings):
    weight = random(*kernel)
    layer = conv(weight, shape, **settings)
    dims = len(kernel) - 2
    full = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1} | settings
    axes = [
        full[key] if isinstance(full[key], tuple) else (full[key],) * dims for key in ("stride", "padding", "dilation")
    ]
    matrix = torch.from_numpy(naive.unrolled(weight.numpy(), shape, *axes, full["groups"]))
    x, y = random(2, *shape, seed=1), random(2, *layer.output_shape, seed=2)
    torch.testing.assert_close(layer.matrix(), matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.apply(x).flatten(1), x.flatten(1) @ matrix.T, rtol=0, atol=1e-10)
    torch.testing.assert_close(layer.transpose(y).flatten(1), y.flatten(1) @ matrix, rtol=0, atol=1e-10)
    assert layer.matrix().shape == (layer.num_outputs, layer.num_inputs)


def test_the_transpose_fits_every_geometry():
    for k, s, p, d, n in product((1, 2, 3), (1, 2, 4), (0, 1, 3), (1, 2), (3, 8)):
        if n + 2 * p < d * (k - 1) + 1:
            continue
        layer = conv(random(2, 2, k), (2, n), s, p, d)
        x, y = random(1, 2, n), random(1, *layer.output_shape, seed=1)
        torch.testing.assert_close((layer.apply(x) * y).sum(), (x * layer.transpose(y)).sum(), rtol=0, atol=1e-10)


def test_a_dense_layer_is_its_matrix_at_every_place():
    weight = random(4, 3)
    torch.testing.assert_close(dense(weight).matrix(), weight)
    tokens = dense(weight, (5, 3))
    assert tokens.output_shape == (5, 4)
    torch.testing.assert_close(tokens.matrix(), torch.kron(torch.eye(5, dtype=torch.float64), weight))
    y = random(2, 5, 4)
    torch.testing.assert_close(tokens.transpose(y).flatten(1), y.flatten(1) @ tokens.matrix())


def test_float32_and_another_weight():
    layer = conv(random(4, 3, 3, 3).float(), (3, 5, 5), padding=1)
    assert layer.apply(torch.ones(1, 3, 5, 5)).dtype == torch.float32
    doubled = replace(layer, weight=2 * layer.weight.double())
    assert doubled.apply(torch.ones(1, 3, 5, 5).double()).dtype == torch.float64
    torch.testing.assert_close(doubled.matrix().float(), 2 * layer.matrix())


def test_what_does_not_fit_is_refused():
    layer = conv(random(4, 3, 3, 3), (3, 5, 5))
    refused = [
        lambda: layer.apply(random(1, 3, 5, 6)),
        lambda: layer.apply(random(1, 3, 5, 5).float()),
        lambda: layer.transpose(random(1, 3, 5, 5)),
        lambda: conv(random(4, 3, 3, 3), (2, 5, 5)),
        lambda: conv(random(4, 3, 3, 3), (3, 2, 5)),
        lambda: conv(random(4, 3, 3, 3), (3, 25)),
        lambda: conv(random(3, 2, 3, 3), (4, 5, 5), groups=2),
        lambda: dense(random(4, 3), (4,)),
        lambda: LayerMap.of(Node("r", "relu", ("input",)), random(4, 3), (3,)),
    ]
    for call in refused:
        with pytest.raises(InputError):
            call()


def test_a_large_matrix_is_refused_before_it_is_built():
    layer = conv(torch.ones(64, 64, 3, 3), (64, 224, 224), padding=1)
    with pytest.raises(InputError, match="use apply and transpose"):
        layer.matrix()
