"""Maps are the same, bit by bit, however they are divided and wherever their intermediate results are kept."""

import pytest
import torch

from bitcert.data import Role, load_sample
from bitcert.decoder.features import edges, maps
from tests.reference import maps_whole

DTYPES = (torch.float32, torch.float64)
SHAPES = ((4, 4, 1), (4, 5, 7), (9, 6, 33), (13, 17, 100), (28, 28, 20))


def _same(found: torch.Tensor, expected: torch.Tensor) -> None:
    # a place that is not finite in one map is so in all: features are divided by the norm of all maps
    found, expected = (each + 0 * each.sum(0) for each in (found, expected))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def _check(images: torch.Tensor) -> None:
    """Compare all maps of images ``[1, height, width, batch]``."""
    _same(edges.smooth(images), maps_whole.smooth(images))
    found = edges.oriented(images, 8)
    _same(found, maps_whole.oriented(images, 8))
    _same(maps.crossings(found), maps_whole.crossings(found))
    _same(maps.second_edges(found), maps_whole.second_edges(found))
    written = maps.ink(images)
    _same(maps.holes(written), maps_whole.holes(written))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_random_images(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    _check(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_real_images(dtype: torch.dtype) -> None:
    digits = torch.tensor(load_sample("digits", Role.TRAIN).inputs[:100]).to(dtype) / 16
    _check(edges.batch_last(digits))
    _check(edges.batch_last(digits.repeat_interleave(3, 2).repeat_interleave(3, 3)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-39, 1e-20, 1e-9, -1.0, 1e15, 1e20, 3e38])
def test_constant_and_extreme_images(size: float, dtype: torch.dtype) -> None:
    _check(torch.full((1, 9, 8, 5), size, dtype=dtype))
    signs = torch.randn(1, 11, 10, 5, generator=torch.Generator().manual_seed(1), dtype=dtype)
    _check(size * signs.clamp(-1, 1))


def test_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "_CACHED", 1)
    _check(torch.rand(1, 11, 10, 3, generator=torch.Generator().manual_seed(2)))
