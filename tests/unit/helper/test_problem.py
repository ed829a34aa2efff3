"""Preprocessing and the helper string: values, refusals, a hash that notices every field."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bitcert.data import Role, Sample
from bitcert.errors import InputError
from bitcert.helper import Helper, Preprocessing


def test_values() -> None:
    pixels = np.array([[[[0, 255]], [[51, 102]]]], dtype=np.uint8)
    x = Preprocessing(255.0, (0.5, 0.0), (0.25, 2.0))(pixels)
    assert x.dtype == torch.float32
    np.testing.assert_allclose(x, [[[[-2, 2]], [[0.1, 0.2]]]], rtol=1e-6)
    assert Preprocessing()(pixels).tolist() == pixels.tolist()


def test_channels_of_vectors_are_their_entries() -> None:
    x = Preprocessing(mean=(1.0, 2.0), std=(1.0, 4.0))(np.array([[3.0, 4.0]]))
    assert x.tolist() == [[2.0, 0.5]]


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_impossible_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        Preprocessing(scale=scale)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((math.nan,), (1.0,)), ((0.0,), (math.inf,))]
)
def test_impossible_statistics_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="std"):
        Preprocessing(1.0, mean, std)


def test_as_many_means_as_stds() -> None:
    with pytest.raises(InputError, match="2 means and 1 stds"):
        Preprocessing(1.0, (0.0, 0.0), (1.0,))


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4), (2,)])
def test_statistics_for_another_number_of_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="3 channels"):
        Preprocessing(1.0, (0.0,) * 3, (1.0,) * 3)(np.zeros(shape))


def sample(dtype: type, name: str, side: int = 8) -> Sample:
    labels = np.array([0, 1, 0])
    return Sample(np.zeros((3, 1, side, side), dtype=dtype), labels, 2, Role.TRAIN, name)


@pytest.mark.parametrize(
    ("dtype", "name", "side", "scale"),
    [
        (np.uint8, "digits", 8, 16.0),
        (np.uint8, "mnist", 8, 255.0),
        (np.uint8, "digits", 9, 255.0),
        (np.float32, "digits", 8, 1.0),
    ],
)
def test_usual_preprocessing(dtype: type, name: str, side: int, scale: float) -> None:
    assert Preprocessing.usual(sample(dtype, name, side)) == Preprocessing(scale=scale)


def test_the_hash_notices_every_field() -> None:
    one = Helper((1, 8, 8), 3)
    others = [
        Helper((1, 8, 9), 3),
        Helper((1, 8, 8), 4),
        Helper((1, 8, 8), 3, classes_inferred=True),
        Helper((1, 8, 8), 3, Preprocessing(scale=2.0)),
        Helper((1, 8, 8), 3, Preprocessing(mean=(0.5,), std=(1.0,))),
        Helper((1, 8, 8), 3, Preprocessing(mean=(0.5,), std=(2.0,))),
    ]
    assert len({helper.content_hash for helper in (one, *others)}) == len(others) + 1
    assert Helper((1, 8, 8), 3).content_hash == one.content_hash
