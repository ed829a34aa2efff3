"""Laws of what the bounds read off a graph: growth bounds every change, path norms bound every output."""

import itertools
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitcert.stability.layers import Structure
from bitcert.theory.ingredients.lipschitz import lipschitz
from bitcert.theory.ingredients.path_norms import path_norms
from tests.unit.theory import graphs

widths = st.lists(st.integers(1, 5), min_size=2, max_size=5).filter(lambda sizes: sizes[-1] > 1)


def build(sizes, seed, biased, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    pairs = list(itertools.pairwise(sizes))
    weights = [normal(o, i) for i, o in pairs]
    biases = [normal(o) for _, o in pairs] if biased else []
    return graphs.chain(weights, biases)


@given(widths, st.integers(0, 10_000), st.booleans(), st.floats(1e-3, 1e3))
@settings(max_examples=40, deadline=None)
def test_no_change_grows_more_than_the_recursion_allows(sizes, seed, biased, size):
    architecture, parameters = build(sizes, seed, biased)
    found = lipschitz(architecture, parameters, Structure.of(architecture), {})
    x = torch.randn(8, sizes[0], generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    y = x + size * torch.randn(8, sizes[0], generator=torch.Generator().manual_seed(seed + 2), dtype=torch.float64)
    change = (architecture.forward(x, parameters) - architecture.forward(y, parameters)).norm(dim=1)
    assert bool((change <= (x - y).norm(dim=1) * math.exp(found.log_total) * (1 + 1e-9) + 1e-12).all())
    ends = (*found.log_before[1:], found.log_total)
    for before, after, layer in zip(found.log_before, ends, architecture.weight_layers, strict=True):
        own = math.log(float(torch.linalg.matrix_norm(parameters[layer.weight], 2)))
        assert abs(before + own - after) < 1e-9


@given(widths, st.integers(0, 10_000), st.booleans(), st.floats(0.0, 10.0))
@settings(max_examples=40, deadline=None)
def test_the_sum_of_the_outputs_is_at_most_the_l1_path_norm_times_the_largest_input(sizes, seed, biased, size):
    architecture, parameters = build(sizes, seed, biased)
    norm = math.exp(path_norms(architecture, parameters, with_biases=biased)[1.0])
    x = size * torch.randn(8, sizes[0], generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    largest = x.abs().amax(1).clamp(min=1.0 if biased else 0.0)
    outputs = architecture.forward(x, parameters).abs().sum(1)
    assert bool((outputs <= norm * largest * (1 + 1e-9) + 1e-12).all())


@given(widths, st.integers(0, 10_000), st.booleans(), st.floats(1e-6, 1e6))
@settings(max_examples=25, deadline=None)
def test_a_factor_on_every_weight_is_a_factor_on_every_layer(sizes, seed, biased, factor):
    depth = len(sizes) - 1
    one = path_norms(*build(sizes, seed, biased), with_biases=False)
    other = path_norms(*build(sizes, seed, biased, factor), with_biases=False)
    for p, value in one.items():
        assert abs(other[p] - value - depth * math.log(factor)) < 1e-7
