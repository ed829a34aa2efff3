"""Oriented edges against their slow twin and the symmetries of their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.decoder.features.banks import Bank, Part, bank_features
from bitcert.decoder.features.edges import is_image, smooth
from tests.reference import features_naive as TWIN


def images(num_images: int, channels: int, height: int, width: int) -> torch.Tensor:
    """Blobs and noise between 0 and 1."""
    rng = np.random.default_rng(height * width + channels)
    rows, columns = np.mgrid[:height, :width]
    centre = rng.random((num_images, 2, 1, 1)) * [[[height]], [[width]]]
    blobs = np.exp(-((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2) / 6)
    noise = rng.random((num_images, channels, height, width))
    return torch.tensor(0.7 * blobs[:, None] + 0.3 * noise, dtype=torch.float32)


@pytest.mark.parametrize("grid", [3, 5])
@pytest.mark.parametrize("kind", ["edges", "sharp edges"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12)])
def test_agrees_with_the_slow_twin(kind: str, grid: int, shape: tuple[int, int, int]) -> None:
    x = images(1, *shape)
    (fast,) = bank_features(edges_alone(kind, grid), x).double().numpy()
    slow = TWIN.naive_features(x[0].double().numpy(), grid, int(kind == "edges"), 8)
    assert len(slow) == 8 * grid**2 + 1
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["edges", "sharp edges"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 20)])
def test_shape_norm_and_batch_composition(kind: str, shape: tuple[int, int, int]) -> None:
    x, bank = images(7, *shape), edges_alone(kind, 7)
    batch = bank_features(bank, x)
    assert batch.dtype == torch.float32
    assert batch.shape == (7, 8 * 49 + 1)
    assert (batch[:, -1] == 1).all()
    np.testing.assert_allclose(batch[:, :-1].norm(dim=1), (batch.shape[1] - 1) ** 0.5, rtol=1e-5)
    alone = torch.cat([bank_features(bank, x[i : i + 1]) for i in (0, 3, 6)])
    shuffled = bank_features(bank, x.flip(0)).flip(0)
    np.testing.assert_allclose(alone, batch[[0, 3, 6]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(shuffled, batch, rtol=0, atol=1e-6)


def edges_alone(kind: str, grid: int) -> Bank:
    """A bank of one kind of edges, pooled on one lattice."""
    return Bank(False, (Part(kind, grid),))


def maps(kind: str, grid: int, x: torch.Tensor) -> torch.Tensor:
    """Features without the constant as ``[batch, orientations, grid, grid]``."""
    return bank_features(edges_alone(kind, grid), x)[:, :-1].reshape(len(x), 8, grid, grid)


def test_a_quarter_turn_turns_orientations_and_places() -> None:
    x = images(3, 1, 12, 12)
    turned = maps("edges", 5, x.rot90(1, (2, 3)))
    expected = maps("edges", 5, x).rot90(1, (2, 3)).roll(-2, 1)
    np.testing.assert_allclose(turned, expected, atol=2e-6)


def test_a_negative_swaps_opposite_orientations() -> None:
    x = images(3, 1, 9, 11)
    np.testing.assert_allclose(maps("sharp edges", 4, -x), maps("sharp edges", 4, x).roll(4, 1), atol=2e-6)


def test_an_edge_answers_in_its_own_direction() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[..., 8:] = 1
    response = maps("sharp edges", 4, x)[0, :, 1, 1:3].sum(1)
    assert response.argmax() == 0
    assert response[4] == 0


@pytest.mark.parametrize("kind", ["edges", "sharp edges"])
def test_a_blank_image_has_no_features_but_the_constant(kind: str) -> None:
    found = bank_features(edges_alone(kind, 3), torch.zeros(2, 1, 8, 8))
    assert (found[:, :-1] == 0).all()
    assert (found[:, -1] == 1).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 4, 4), True),
        ((3, 4, 3), False),
        ((3, 3, 4), False),
        ((4, 4), False),
        ((1, 1, 4, 4), False),
        ((), False),
    ],
)
def test_is_image(shape: tuple[int, ...], expected: bool) -> None:
    assert is_image(shape) is expected


@pytest.mark.parametrize(("maps", "batch"), [(1, 1), (3, 1), (2, 4)])
def test_smoothing_is_along_height_and_width(maps: int, batch: int) -> None:
    point = torch.zeros(maps, 5, 4, batch)
    point[:, 2, 1] = 16
    line = torch.tensor([1.0, 2.0, 1.0])
    expected = torch.zeros(maps, 5, 4, batch)
    expected[:, 1:4, 0:3] = torch.outer(line, line)[:, :, None]
    assert torch.equal(smooth(point), expected)
