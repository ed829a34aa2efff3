"""Matrix-Project: against a loop over bits, its mean, its variance, its independence of chunking."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.errors import InputError
from bitcert.linear import matrix_project, projection
from bitcert.random import stream
from tests.reference import linear_naive as naive
from tests.tools.maps import random


@pytest.mark.parametrize("shape", [(3, 4), (5, 2, 3, 3), (64,), (1,), (9, 15)])
def test_equals_a_loop_over_the_bits_of_the_stream(shape):
    weight, count = random(*shape), 7
    words = stream(3, "projection").bit_generator.random_raw(count * -(-weight.numel() // 64))
    signs = naive.sign_arrays([int(word) for word in words], weight.numel(), count)
    wanted = naive.project(weight.numpy(), signs)
    np.testing.assert_allclose(matrix_project(weight, count, 3, "projection").numpy(), wanted, atol=1e-12)


def test_is_unbiased_with_the_stated_variance():
    weight, count, draws = random(4, 5), 10, 4000
    found = torch.stack([matrix_project(weight, count, k, "draws") for k in range(draws)])
    # of every entry: (||A||^2 - A_ab^2) / k
    variance = (weight.square().sum() - weight.square()) / count
    mean_error = (found.mean(0) - weight) / (variance / draws).sqrt()
    assert mean_error.abs().max() < 4.5
    # the variance of a variance estimate is about 2/draws of its square
    assert ((found - weight).square().mean(0) / variance - 1).abs().max() < 5 * (2 / draws) ** 0.5 * 1.5
    # total noise (N - 1) ||A||^2 / k
    assert float(variance.sum()) == pytest.approx(19 * float(weight.square().sum()) / count, rel=1e-12)


def test_more_projections_less_error():
    weight = random(16, 16)
    errors = [float((matrix_project(weight, k, 0, "k") - weight).norm() / weight.norm()) for k in (100, 10000)]
    assert errors[0] == pytest.approx((255 / 100) ** 0.5, rel=0.2)
    assert errors[1] == pytest.approx((255 / 10000) ** 0.5, rel=0.2)


def test_does_not_depend_on_the_size_of_chunks(monkeypatch):
    weight = random(7, 11)
    wanted = matrix_project(weight, 25, 0, "chunks")
    for signs in (1, 200, 10**6):
        monkeypatch.setattr(projection, "_SIGNS", signs)
        torch.testing.assert_close(matrix_project(weight, 25, 0, "chunks"), wanted, rtol=0, atol=1e-12)


def test_streams_dtypes_and_shapes():
    weight = random(3, 2, 5).float()
    one = matrix_project(weight, 9, 0, "a")
    assert (one.dtype, one.shape) == (torch.float32, weight.shape)
    assert torch.equal(one, matrix_project(weight, 9, 0, "a"))
    assert not torch.equal(one, matrix_project(weight, 9, 0, "b"))
    assert not torch.equal(one, matrix_project(weight, 9, 1, "a"))
    torch.testing.assert_close(matrix_project(weight.double(), 9, 0, "a").float(), one, rtol=1e-4, atol=1e-5)
    state = torch.get_rng_state()
    matrix_project(weight, 9, 0, "a")
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_arguments_are_refused():
    for weight, count in ((random(3, 3), 0), (torch.empty(0), 3), (torch.ones(3, dtype=torch.int64), 3)):
        with pytest.raises(InputError):
            matrix_project(weight, count, 0, "x")
