"""Feature banks: sizes, what the maps see, what they do not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitcert.decoder.features import maps as image_maps
from bitcert.decoder.features import waves as bank_waves
from bitcert.decoder.features.banks import (
    BANKS,
    Bank,
    Part,
    available_banks,
    bank_features,
    bank_groups,
    lattice,
    num_maps,
)
from bitcert.decoder.features.maps import mirrored_map, upright
from tests.tools.maps import batch_first

crossings, edges, holes, ink, rays, second_edges = (
    batch_first(getattr(image_maps, name)) for name in ("crossings", "edges", "holes", "ink", "rays", "second_edges")
)


def ring(centre: tuple[int, int], radius: float, gap: bool = False) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    distance = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2).sqrt()
    image = ((distance - radius).abs() < 1.2).float()
    if gap:
        image[centre[0] - 3 : centre[0] + 4, centre[1] :] = 0
    return image[None, None]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 4, 6), (2, 5, 40)])
@pytest.mark.parametrize("bank", BANKS)
def test_sizes_and_groups(bank, shape):
    x = torch.rand(3, *shape)
    values = bank_features(bank, x)
    groups = bank_groups(bank, shape)
    assert values.shape == (3, len(groups))
    assert values.dtype == torch.float32
    assert torch.isfinite(values).all()
    assert (values[:, -1] == 1).all()
    assert groups[-1] == -1
    assert sorted(set(groups[:-1])) == list(range(len(bank.parts)))


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_flat_images_do_no_harm(bank, value):
    assert torch.isfinite(bank_features(bank, torch.full((2, 1, 28, 28), value))).all()


def test_inputs_that_are_no_images_are_their_own_features():
    assert available_banks((5,)) == (None,)
    x = torch.randn(4, 5)
    values = bank_features(None, x)
    assert torch.equal(values[:, :5], x)
    assert (values[:, 5] == 1).all()
    assert bank_groups(None, (5,)).tolist() == [0] * 5 + [-1]


def test_available_banks_of_images():
    assert available_banks((1, 28, 28)) == BANKS
    assert len(set(BANKS)) == len(BANKS)


def test_the_banks_are_a_format():
    """A message names a bank by its place: appending is compatible, any other change is not."""
    strokes = "edges 7, rays 3, diagonal rays 3, holes 3, crossings 6"
    surfaces = f"{strokes}, edges 4, crossings 3, colour 7, colour 4"
    small = "sharp edges 3, colour 3"
    waves = "waves 1, waves 2, waves 4, wave peaks 1, wave energy 1, wave pairs 1, mixtures 2"
    plain = [("edges 7", up) for up in (False, True)] + [(strokes, up) for up in (False, True)]
    plain += [(surfaces, up) for up in (False, True)] + [(small, up) for up in (False, True)]
    expected = [(parts, up, False) for parts, up in plain]
    expected.append((waves, False, True))
    expected.append((f"{surfaces}, second edges 5, second edges 10", False, True))
    expected.append((f"{strokes}, second edges 5", True, False))
    expected.append((f"{waves}, sharp edges 4, second sharp edges 4", False, True))
    told = [", ".join(f"{part.kind} {part.grid}" for part in bank.parts) for bank in BANKS]
    assert [(parts, bank.upright, bank.mirrored) for parts, bank in zip(told, BANKS, strict=True)] == expected


def test_small_images_have_the_banks_without_waves():
    expected = tuple(bank for index, bank in enumerate(BANKS) if index not in (8, 11))
    assert available_banks((1, 7, 8)) == available_banks((3, 4, 4)) == expected


def test_lattices_shrink_on_small_images_to_one_window():
    """At least 1.5 pixels a window, and twice as many where the maps have half of the side."""
    sides = ((5, 5), (6, 9), (9, 4), (28, 28))
    assert [lattice(Part("edges", 7), (1, *each)) for each in sides] == [3, 4, 2, 7]
    assert [lattice(Part("second edges", 5), (1, *each)) for each in sides] == [1, 2, 1, 5]
    assert lattice(Part("second sharp edges", 4), (1, 2, 9)) == 1


@pytest.mark.parametrize("kind", bank_waves.KINDS)
def test_groups_of_waves_that_are_not_mirrored(kind):
    bank = Bank(False, (Part(kind, 2), Part("edges", 2)))
    groups = bank_groups(bank, (3, 8, 12))
    assert len(groups) == bank_features(bank, torch.rand(2, 3, 8, 12)).shape[1]
    assert [int((groups == part).sum()) for part in (1, -1)] == [8 * 4, 1]


def test_a_hole_is_seen_and_a_gap_opens_it():
    closed, broken = ring((14, 14), 7), ring((14, 14), 7, gap=True)
    hole = holes(ink(closed))
    assert hole[0, 0, 14, 14] == 1
    assert hole[0, 0, 2, 2] == 0
    assert float(hole.sum()) == pytest.approx(np.pi * 6**2, rel=0.2)
    assert float(holes(ink(broken)).sum()) == 0


def serpentine(corridors: int) -> torch.Tensor:
    """Ink with corridors of seven pixels, each joined to the next at alternate ends; open to the left of the first."""
    written = torch.ones(2 * corridors + 1, 9)
    for k in range(corridors):
        written[2 * k + 1, 1:8] = 0
        if k:
            written[2 * k, 7 if k % 2 else 1] = 0
    written[1, 0] = 0
    return written


def test_background_is_reached_from_all_four_sides_in_six_sweeps_and_no_more():
    """A sweep goes down, up, right and left, so it ends with a corridor across or begins with one down or up."""
    reached, beyond = serpentine(6), serpentine(7)
    for turned in (
        lambda image: image,
        lambda image: image.flip(1),
        lambda image: image.T,
        lambda image: image.T.flip(0),
    ):
        assert not holes(turned(reached)[None]).any()
    for across in (beyond, beyond.flip(1)):
        assert float(holes(across[None]).sum()) == 8, "the seventh corridor and the way to it"
    for along in (beyond.T, beyond.T.flip(0)):
        assert float(holes(along[None]).sum()) == 6, "the way to it, which is across, is still reached"


def test_rays_are_shares_of_the_background():
    written = ink(ring((14, 14), 7, gap=True))
    for diagonal in (False, True):
        shares = rays(written, diagonal)
        assert shares.shape == (1, 16, 28, 28)
        torch.testing.assert_close(shares.sum(1), 1 - written)
    axes = rays(written, False)[0]
    # Patterns count north, south, west, east in binary: in the gap's middle ink lies on all sides but the east.
    assert axes[0b1110, 14, 14] == 1
    assert axes[0b0000, 0, 0] == 1


def test_rays_look_in_all_eight_directions():
    written = torch.zeros(1, 9, 9)
    written[0, 4, 4] = 1
    axes, diagonals = rays(written, False)[0], rays(written, True)[0]
    seen = {place: int(axes[:, place[0], place[1]].argmax()) for place in ((7, 4), (1, 4), (4, 7), (4, 1))}
    assert seen == {(7, 4): 0b1000, (1, 4): 0b0100, (4, 7): 0b0010, (4, 1): 0b0001}
    seen = {place: int(diagonals[:, place[0], place[1]].argmax()) for place in ((6, 6), (2, 2), (6, 2), (2, 6))}
    assert seen == {(6, 6): 0b1000, (2, 2): 0b0100, (6, 2): 0b0010, (2, 6): 0b0001}


def test_crossings_answer_where_orientations_meet():
    x = torch.zeros(1, 1, 28, 28)
    x[..., 13:15, :] = 1
    axes = 1  # the pair of orientations 0 and 2, across and down
    line = crossings(edges(x))[0, axes, 14, 14]
    x[..., :, 13:15] = 1
    cross = crossings(edges(x))[0, axes, 14, 14]
    assert cross > 10 * line


def test_upright_undoes_moving_slanting_and_scaling():
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")

    def blob(cx, cy, sx, sy, slant):
        u = x - cx - slant * (y - cy)
        return torch.exp(-((u / sx) ** 2) / 2 - (((y - cy) / sy) ** 2) / 2)[None, None]

    plain, changed = blob(13.5, 13.5, 3, 5, 0.0), blob(15, 12, 3, 5, 0.5)
    before = float((plain - changed).norm() / plain.norm())
    after = float((upright(plain) - upright(changed)).norm() / upright(plain).norm())
    assert before > 0.5
    assert after < 0.1 * before
    larger = upright(blob(13.5, 13.5, 3.3, 5.5, 0.0))
    assert float((upright(plain) - larger).norm()) < float((plain - blob(13.5, 13.5, 3.3, 5.5, 0.0)).norm())


def test_upright_scales_within_limits():
    """The middle row of one upright line: it fades by the root of the scale, of which the root is taken, a column."""
    narrow, wide, apart = (torch.zeros(1, 1, 9, width) for width in (9, 28, 28))
    narrow[..., 4], wide[..., 14] = 1, 1
    apart[..., [0, 27]] = 1
    # the least variance is 0.01, and the usual deviation 0.16 of the width
    slope = (0.1 / (0.16 * 9)) ** 0.5
    expected = [max(0.0, 1 - abs(k) * slope) for k in range(-4, 5)]
    assert upright(narrow)[0, 0, 4].tolist() == pytest.approx(expected, abs=2e-3)
    expected = [max(0.0, 1 - abs(k - 0.5) * 0.05**0.5) for k in range(-13, 15)]  # the middle is between two columns
    assert upright(wide)[0, 0, 4].tolist() == pytest.approx(expected, abs=6e-3)
    # at most twice the usual width: what is 13.5 from the middle comes to 13.5 / sqrt(2) = 9.5
    assert upright(apart)[0, 0, 4].nonzero().flatten().tolist() == [4, 23]


def test_upright_takes_back_a_slant_of_45_degrees_at_most():
    def leaning(slant: float) -> torch.Tensor:
        """For each row in the middle of the straightened line, the column it is at."""
        rows, columns = torch.meshgrid(torch.arange(21.0), torch.arange(41.0), indexing="ij")
        line = upright((1 - (columns - 20 - slant * (rows - 10)).abs()).clamp_min(0)[None, None])[0, 0, 5:16]
        return (line * columns[0]).sum(1) / line.sum(1)

    torch.testing.assert_close(leaning(0.9), torch.full((11,), 20.0), atol=0.2, rtol=0)
    assert leaning(1.5)[0] < 17
    assert leaning(1.5)[-1] > 23


def test_upright_of_nothing_is_nothing():
    assert not upright(torch.zeros(2, 3, 9, 9)).any()


def pooled_pair(part: Part, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps ``[batch, maps, grid, grid]`` of random images and of their mirror images."""
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))
    grid = lattice(part, shape)
    views = [bank_features(Bank(False, (part,)), view)[:, :-1] for view in (x, x.flip(3))]
    return tuple(view.reshape(3, num_maps(part, shape), grid, grid) for view in views)


IMAGE_PARTS = {part for bank in BANKS for part in bank.parts if part.kind not in bank_waves.KINDS}


@pytest.mark.parametrize("part", sorted(IMAGE_PARTS, key=str), ids=lambda part: f"{part.kind} {part.grid}")
def test_each_map_becomes_its_partner_in_the_mirror_image(part):
    plain, turned = pooled_pair(part, (3, 16, 20))
    partners = [mirrored_map(part.kind, index) for index in range(plain.shape[1])]
    assert [partners[partner] for partner in partners] == list(range(len(partners)))
    torch.testing.assert_close(turned[:, partners], plain.flip(3), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("part", sorted(IMAGE_PARTS, key=str), ids=lambda part: f"{part.kind} {part.grid}")
def test_mirrored_features_are_means_over_both_views_and_none_comes_twice(part):
    shape = (1, 20, 16)
    plain, turned = pooled_pair(part, shape)
    means = ((plain + turned) / 2).flatten(1)
    bank = Bank(False, (part,), mirrored=True)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1))
    found = bank_features(bank, x)[:, :-1]
    assert found.shape[1] == len(bank_groups(bank, shape)) - 1
    torch.testing.assert_close(bank_features(bank, x.flip(3))[:, :-1], found, atol=1e-5, rtol=1e-4)
    apart = (means[:, :, None] - found[:, None]).abs().amax(0)
    assert float(apart.amin(1).max()) < 1e-5, "every mean is there"
    grid = plain.shape[2]
    symmetric = sum(mirrored_map(part.kind, index) == index for index in range(plain.shape[1]))
    alone = symmetric * grid if grid % 2 else 0  # the middle column of such a map has no partner
    assert 2 * found.shape[1] == plain.shape[1] * grid**2 + alone


def test_second_edges_see_where_edges_change():
    """Stripes everywhere have no second edge; stripes in a half have one along its border."""
    stripes = torch.zeros(1, 1, 32, 32)
    stripes[..., ::4] = 1
    stripes[..., 1::4] = 1
    half = stripes.clone()
    half[..., 16:, :] = 0
    inner = slice(3, 13)
    whole_second, half_second = (second_edges(edges(x))[0, :, inner, inner] for x in (stripes, half))
    across = half_second[:, 4:6].amax()
    assert across > 5 * whole_second.amax()
    assert across > 5 * half_second[:, :2].amax()


@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("shape", [(3, 16, 20), (1, 9, 13)])
def test_only_the_wanted_features_are_computed_and_they_are_the_same(bank, shape):
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = bank_features(bank, x)
    for seed, share in enumerate((0.0, 0.003, 0.2)):
        wanted = np.flatnonzero(np.random.default_rng(seed).random(whole.shape[1]) < share)
        torch.testing.assert_close(bank_features(bank, x, wanted), whole[:, wanted], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", ["second edges", "second sharp edges", "holes"])
def test_where_halving_or_sweeps_tell_left_from_right_the_mirror_image_is_really_looked_at(kind):
    part, shape = Part(kind, 3), (1, 14, 15)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    plain, turned = (bank_features(Bank(False, (part,)), view)[:, :-1] for view in (x, x.flip(3)))
    found = bank_features(Bank(False, (part,), mirrored=True), x)[:, :-1]
    apart = ((plain + turned)[:, :, None] / 2 - found[:, None]).abs().amax(0)
    assert float(apart.amin(0).max()) < 1e-12
