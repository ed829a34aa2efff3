"""Singular values: against numpy's SVD, and where the Gram matrix would be too inaccurate."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bitcert.errors import InputError
from bitcert.linear import layer_spectra
from tests.tools.maps import random


def singular_values(weight):
    return layer_spectra({"weight": weight})["weight"]


WEIGHTS = {
    "wide": random(5, 9),
    "tall": random(9, 5, seed=1),
    "conv": random(4, 3, 3, 3, seed=2),
    "like conv": random(4, 3, 3, 3, seed=3),
    "line": random(6, 2, 5, seed=4),
    "one place": random(5, 3, 1, 1, seed=5),
}


def test_reshaped_spectra_equal_numpys():
    for name, values in layer_spectra(WEIGHTS).items():
        weight = WEIGHTS[name]
        wanted = np.linalg.svd(weight.flatten(1).numpy(), compute_uv=False)
        np.testing.assert_allclose(values, wanted, rtol=1e-10)
        np.testing.assert_allclose(singular_values(weight), values, rtol=1e-12)


def test_small_singular_values_are_accurate():
    u, v = torch.linalg.qr(random(12, 12)).Q, torch.linalg.qr(random(12, 12, seed=1)).Q
    wanted = torch.logspace(0, -9, 12, dtype=torch.float64)
    values = singular_values(u @ wanted.diag() @ v)
    # the Gram matrix alone would lose everything below 1e-8
    np.testing.assert_allclose(values, wanted.numpy(), rtol=1e-5)


def test_rank_deficient_and_zero_weights():
    rank_one = torch.outer(random(6), random(4))
    values = singular_values(rank_one)
    assert values[0] == pytest.approx(float(rank_one.norm()), rel=1e-12)
    assert np.all(np.abs(values[1:]) < 1e-14 * values[0])
    assert singular_values(torch.zeros(3, 4)).tolist() == [0, 0, 0]


def test_float32_weights_and_layers_in_their_order():
    weights = {name: weight.float() for name, weight in WEIGHTS.items()}
    spectra = layer_spectra(weights)
    assert list(spectra) == list(WEIGHTS)
    for name, exact in layer_spectra(WEIGHTS).items():
        assert spectra[name].dtype == np.float64
        np.testing.assert_allclose(spectra[name], exact, rtol=1e-5)


def test_unusable_weights_are_refused_by_name():
    broken = random(3, 3)
    broken[1, 1] = math.inf
    for weight in (torch.ones(3), torch.ones(0, 3), broken):
        with pytest.raises(InputError, match="layer7"):
            layer_spectra({"fine": random(2, 2), "layer7": weight})
