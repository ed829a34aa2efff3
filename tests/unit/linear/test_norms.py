"""Norms against loops and against the unrolled matrix; closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from bitcert.errors import InputError
from bitcert.linear import (
    LayerMap,
    frobenius_norm,
    lanczos,
    layer_norms,
    norm_1inf,
    norm_21,
    operator_norm,
    reshaped_spectral_norm,
)
from bitcert.network import Node
from tests.reference import linear_naive as naive
from tests.tools.maps import random


def conv2d(weight, shape, stride=1, padding=0, dilation=1, groups=1) -> LayerMap:
    settings = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2, "groups": groups}
    return LayerMap.of(Node("c", "conv2d", ("input", "w"), settings), weight, shape)


def dense(weight, shape=None) -> LayerMap:
    return LayerMap.of(Node("f", "linear", ("input", "w")), weight, shape or (weight.shape[1],))


def stable_rank(weight):
    return layer_norms(dense(weight.flatten(1))).stable_rank


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 3), (4, 2, 3, 3), (1, 1)])
def test_norms_equal_loops(shape):
    weight = random(*shape)
    wanted = naive.norms(weight.numpy())
    spectral = naive.spectral(weight.flatten(1).numpy())
    assert frobenius_norm(weight) == pytest.approx(wanted["frobenius"], rel=1e-12)
    assert norm_21(weight) == pytest.approx(wanted["norm_21"], rel=1e-12)
    assert norm_1inf(weight) == pytest.approx(wanted["norm_1inf"], rel=1e-12)
    assert reshaped_spectral_norm(weight) == pytest.approx(spectral, rel=1e-12)
    assert stable_rank(weight) == pytest.approx((wanted["frobenius"] / spectral) ** 2, rel=1e-12)


def test_the_21_and_1inf_norms_sum_over_output_units():
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, 1.0]])
    # over columns these would be 3 + sqrt(17) and 5
    assert (norm_21(weight), norm_1inf(weight)) == (6.0, 7.0)


def test_closed_forms():
    q = torch.linalg.qr(random(6, 6)).Q
    assert stable_rank(q) == pytest.approx(6, rel=1e-12)
    assert norm_21(q) == pytest.approx(6, rel=1e-12)
    u, v = random(5, seed=1), random(4, seed=2)
    rank_one = torch.outer(u, v)
    assert stable_rank(rank_one) == pytest.approx(1, rel=1e-12)
    assert reshaped_spectral_norm(rank_one) == pytest.approx(float(u.norm() * v.norm()), rel=1e-12)
    assert norm_1inf(torch.eye(3)) == 1


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        ((4, 3, 3, 3), {"padding": 1}),
        ((4, 3, 3, 3), {"stride": 2, "padding": 1}),
        ((4, 1, 2, 2), {"groups": 3, "dilation": 2}),
        ((3, 3, 3, 3), {"padding": 4, "stride": 3}),
    ],
)
def test_norms_of_the_map_equal_those_of_its_unrolled_matrix(kernel, settings):
    weight = random(*(3, *kernel[1:]) if settings.get("groups") else kernel)
    layer = conv2d(weight, (3, 8, 8), **settings)
    matrix = layer.matrix()
    wanted = naive.spectral(matrix.numpy())
    exact = operator_norm(layer)
    assert exact.value == pytest.approx(wanted, rel=1e-12)
    assert (exact.residual, exact.iterations, exact.converged) == (0.0, 0, True)
    found = lanczos._iterate(layer, 1e-9, 500)
    assert found.converged
    assert found.value == pytest.approx(wanted, rel=1e-9)
    assert found.value <= wanted * (1 + 1e-12)


def test_the_iteration_finds_the_norm_at_the_real_input_size(monkeypatch):
    weight = random(6, 4, 3, 3)
    layer = conv2d(weight, (4, 12, 12), padding=1)
    wanted = operator_norm(layer)
    monkeypatch.setattr(lanczos, "EXACT_ENTRIES", 0)
    found = operator_norm(layer)
    assert found.iterations > wanted.iterations == 0
    assert found.converged
    assert abs(found.value - wanted.value) <= found.residual + 1e-12
    assert found.value == pytest.approx(wanted.value, rel=1e-8)
    # neither the reshaped kernel's norm nor that of the circular convolution
    assert abs(found.value - reshaped_spectral_norm(weight)) > 0.1
    circular = torch.fft.fft2(weight, (12, 12)).permute(2, 3, 0, 1)
    largest = float(torch.linalg.svdvals(circular).max())
    assert found.value < largest < 1.1 * found.value


def test_an_iteration_cut_short_says_so_and_stays_below_the_norm(monkeypatch):
    layer = conv2d(random(6, 4, 3, 3), (4, 12, 12), padding=1)
    exact = operator_norm(layer).value
    monkeypatch.setattr(lanczos, "EXACT_ENTRIES", 0)
    short = operator_norm(layer, max_iterations=8)
    assert not short.converged
    assert short.residual > 1e-7 * short.value
    assert 0.5 * exact < short.value < exact


def test_identity_convolutions_and_extreme_scales(monkeypatch):
    monkeypatch.setattr(lanczos, "EXACT_ENTRIES", 0)
    identity = torch.zeros(8, 8, 3, 3)
    identity[range(8), range(8), 1, 1] = 1
    layer = conv2d(identity, (8, 6, 6), padding=1)
    assert operator_norm(layer).value == pytest.approx(1, rel=1e-9)
    for scale in (1e-30, 1e30):
        assert operator_norm(replace(layer, weight=scale * identity)).value == pytest.approx(scale, rel=1e-6)
    assert operator_norm(replace(layer, weight=0 * identity)).value == 0
    assert math.isnan(stable_rank(0 * identity))


def test_all_norms_at_once():
    weight = random(4, 3, 3, 3)
    layer = conv2d(weight, (3, 6, 6), padding=1)
    norms = layer_norms(layer)
    assert norms.frobenius == frobenius_norm(weight)
    assert norms.spectral_reshaped == reshaped_spectral_norm(weight)
    assert norms.spectral_operator == operator_norm(layer)
    assert (norms.norm_21, norms.norm_1inf) == (norm_21(weight), norm_1inf(weight))
    assert norms.stable_rank == stable_rank(weight)
    tokens = layer_norms(dense(random(4, 3), (5, 3)))
    assert tokens.spectral_operator.value == pytest.approx(tokens.spectral_reshaped)


def test_weights_that_are_not_finite_are_refused():
    weight = random(4, 3, 3, 3)
    weight[0, 0, 0, 0] = math.nan
    layer = conv2d(weight, (3, 6, 6))
    for call in (lambda: norm_21(weight), lambda: operator_norm(layer), lambda: layer_norms(layer)):
        with pytest.raises(InputError, match="finite"):
            call()
    with pytest.raises(InputError):
        norm_21(torch.ones(3))
    with pytest.raises(InputError, match="positive tolerance"):
        operator_norm(conv2d(random(4, 3, 3, 3), (3, 6, 6)), tolerance=0)
