"""Waves of a bank: mirrored features are the same for an image and its mirror image, and none of them comes twice."""

import numpy as np
import pytest
import torch

from bitcert.decoder.features import waves
from bitcert.decoder.features.banks import available_banks
from bitcert.decoder.features.waves import KINDS, kept, lattice, mixing, num_rows
from tests.tools.maps import batch_first

FIRST_SUM, BIAS_SUM = 63.6289, 161.4995
wave_maps = batch_first(waves.wave_maps)
COLOUR, GREY = (3, 16, 16), (1, 16, 16)


def wave_features(kind, grid, maps, num_channels, mirrored, wanted=None):
    return waves.wave_features(kind, grid, maps.movedim(0, -1), num_channels, mirrored, wanted).T


def images(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [COLOUR, GREY])
def test_mirrored_features_do_not_tell_an_image_from_its_mirror_image(kind, shape):
    grid, x = lattice(kind, 2, shape), images(shape)
    one = wave_features(kind, grid, wave_maps(x), shape[0], mirrored=True)
    other = wave_features(kind, grid, wave_maps(x.flip(3)), shape[0], mirrored=True)
    assert torch.allclose(one, other, atol=1e-4)
    plain = wave_features(kind, grid, wave_maps(x), shape[0], mirrored=False)
    assert not torch.allclose(plain, wave_features(kind, grid, wave_maps(x.flip(3)), shape[0], False), atol=1e-2)


@pytest.mark.parametrize("kind", ["waves", "wave peaks", "wave energy", "wave pairs"])
def test_what_is_left_out_is_exactly_what_comes_twice(kind):
    grid = lattice(kind, 4, COLOUR)
    maps = wave_maps(images(COLOUR))
    flipped = wave_maps(images(COLOUR).flip(3))
    every = wave_features(kind, grid, maps, 3, False) + wave_features(kind, grid, flipped, 3, False)
    left = kept(kind, grid, 3)
    missing = np.setdiff1d(np.arange(every.shape[1]), left)
    assert len(missing)
    apart = (every[:, missing, None] - every[:, None, left]).abs().amax(0).amin(1)
    assert float(apart.max()) < 1e-4, "a feature that is left out equals one that is kept"
    among = (every[:, left, None] - every[:, None, left]).abs().amax(0)
    among.fill_diagonal_(1.0)
    assert float((among < 1e-7).float().sum()) == 0, "no feature that is kept comes twice"


@pytest.mark.parametrize("shape", [COLOUR, GREY])
def test_numbers_of_features(shape):
    for kind in KINDS:
        grid = lattice(kind, 2, shape)
        values = wave_features(kind, grid, wave_maps(images(shape)), shape[0], False)
        assert values.shape == (5, num_rows(kind, shape) * grid**2)


def test_mixtures_take_four_maps_each_and_never_change():
    weights, biases = mixing(3)
    assert ((weights != 0).sum(1) == 4).all()
    assert weights.shape == (400, 44)
    assert float(weights.sum()) == pytest.approx(FIRST_SUM, abs=1e-3)
    assert float(biases.abs().sum()) == pytest.approx(BIAS_SUM, abs=1e-3)


def test_banks_with_waves_need_sides_of_eight_pixels():
    for shape, has_waves in [((1, 8, 8), True), ((1, 7, 8), False), ((1, 8, 7), False)]:
        kinds = {part.kind for bank in available_banks(shape) for part in bank.parts}
        assert bool(kinds & set(KINDS)) is has_waves


def test_a_lattice_has_at_most_as_many_windows_as_the_shorter_side_has_places():
    assert [lattice("waves", 4, (1, *sides)) for sides in ((8, 20), (20, 8), (15, 15), (16, 16), (3, 9))] == [
        2,
        2,
        3,
        4,
        1,
    ]
    assert lattice("wave peaks", 4, (1, 16, 16)) == 1


@pytest.mark.parametrize("grid", [1, 3])
def test_all_mixtures_are_kept(grid):
    assert kept("mixtures", grid, 1).tolist() == list(range(400 * grid**2))


@pytest.mark.parametrize("kind", ["wave peaks", "wave energy", "wave pairs"])
def test_what_is_taken_of_the_whole_image_is_the_same_on_any_lattice(kind):
    maps = wave_maps(images(GREY))
    one, many = (wave_features(kind, grid, maps, 1, mirrored=True) for grid in (1, 4))
    assert torch.equal(one, many)
