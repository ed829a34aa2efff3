"""Laws of the linear package: adjointness, orders between norms, scaling, invariance, over drawn geometries."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bitcert.linear import LayerMap, fit_tail, layer_norms, layer_spectra, matrix_project
from bitcert.network import Node

small = st.integers(1, 3)


@st.composite
def layers(draw) -> LayerMap:
    """A random map of any kind with at most a few hundred entries."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    if draw(st.booleans()):
        inputs, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        leading = (draw(small),) if draw(st.booleans()) else ()
        return LayerMap.of(Node("f", "linear", ("input", "w")), random(outputs, inputs), (*leading, inputs))
    dims, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    per_axis = {
        "stride": [draw(small) for _ in range(dims)],
        "padding": [draw(st.integers(0, 3)) for _ in range(dims)],
        "dilation": [draw(st.integers(1, 2)) for _ in range(dims)],
    }
    kernel, sizes = [draw(small) for _ in range(dims)], [draw(st.integers(1, 6)) for _ in range(dims)]
    fits = zip(sizes, per_axis["padding"], per_axis["dilation"], kernel, strict=True)
    assume(all(n + 2 * p > d * (k - 1) for n, p, d, k in fits))
    inputs = draw(st.integers(1, 2))
    weight = random(groups * draw(st.integers(1, 2)), inputs, *kernel)
    attributes = {key: tuple(value) for key, value in per_axis.items()}
    node = Node("c", f"conv{dims}d", ("input", "w"), {**attributes, "groups": groups})
    return LayerMap.of(node, weight, (groups * inputs, *sizes))


def close(a: float, b: float) -> bool:
    return a == pytest.approx(b, rel=1e-9, abs=1e-12)


@given(layers(), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_the_transpose_is_the_adjoint_and_the_matrix_is_the_map(layer, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, *layer.input_shape, dtype=torch.float64, generator=generator)
    y = torch.randn(2, *layer.output_shape, dtype=torch.float64, generator=generator)
    assert close(float((layer.apply(x) * y).sum()), float((x * layer.transpose(y)).sum()))
    torch.testing.assert_close(layer.apply(x).flatten(1), x.flatten(1) @ layer.matrix().T, rtol=0, atol=1e-10)


@given(layers())
@settings(max_examples=100, deadline=None)
def test_norms_of_the_map_and_orders_between_norms(layer):
    norms, matrix = layer_norms(layer), layer.matrix()
    assert close(norms.spectral_operator.value, float(torch.linalg.svdvals(matrix)[0]))
    units, slack = layer.weight.shape[0], 1 + 1e-12
    assert norms.spectral_reshaped <= norms.frobenius * slack
    assert norms.frobenius <= norms.norm_21 * slack
    assert norms.norm_21 <= math.sqrt(units) * norms.frobenius * slack
    assert norms.spectral_operator.value <= float(matrix.norm()) * slack
    assert norms.stable_rank * slack >= 1
    assert norms.stable_rank <= min(layer.weight.flatten(1).shape) * slack
    # a convolution of n1 n2 windows is at most so many taps of the reshaped kernel
    taps = math.prod(layer.weight.shape[2:])
    assert norms.spectral_operator.value <= math.sqrt(taps) * norms.spectral_reshaped * slack


@given(layers(), st.floats(1e-6, 1e6))
@settings(max_examples=50, deadline=None)
def test_norms_scale_with_the_weight(layer, scale):
    one, other = layer_norms(layer), layer_norms(replace(layer, weight=-scale * layer.weight))
    for name in ("frobenius", "spectral_reshaped", "norm_21", "norm_1inf"):
        assert close(getattr(other, name), scale * getattr(one, name))
    assert close(other.spectral_operator.value, scale * one.spectral_operator.value)
    assert close(other.stable_rank, one.stable_rank)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_spectra_are_invariant_under_rotation_and_transposition(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    weight, left = (torch.randn(rows, n, dtype=torch.float64, generator=generator) for n in (columns, rows))
    turned = torch.linalg.qr(left).Q @ weight
    one, *others = layer_spectra({"weight": weight, "turned": turned, "transposed": weight.T}).values()
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-12 * one[0])


@given(st.integers(1, 40), st.integers(1, 20), st.floats(-1e3, 1e3), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_projection_is_linear_in_the_weight(size, count, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(size, dtype=torch.float64, generator=generator) for _ in range(2))
    project = [matrix_project(w, count, seed, "law") for w in (a, b, a + scale * b)]
    torch.testing.assert_close(project[2], project[0] + scale * project[1], rtol=1e-9, atol=1e-9)


@given(st.floats(1e-8, 1e8), st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_tail_exponents_do_not_depend_on_the_scale(scale, seed):
    values = np.random.default_rng(seed).pareto(1.5, size=120) + 1
    one, other = fit_tail(values).fit, fit_tail(scale * values).fit
    assert close(other.density_exponent, one.density_exponent)
    assert close(other.xmin, scale * one.xmin)
