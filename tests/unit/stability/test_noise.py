"""Noise belongs to the example: the same in every batch, different for every purpose."""

import pytest
import torch

from bitcert.stability.noise import _seeds, noise_like, per_sample_normal


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_noise_does_not_depend_on_the_batch(batch):
    index = torch.arange(20)
    whole = per_sample_normal(5, "test", index, (3, 4))
    parts = [per_sample_normal(5, "test", part, (3, 4)) for part in index.split(batch)]
    assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(per_sample_normal(5, "test", order, (3, 4)), whole[order])


def test_seed_and_purpose_matter():
    index = torch.arange(4)
    noise = per_sample_normal(0, "a", index, (50,))
    assert not torch.isclose(noise, per_sample_normal(1, "a", index, (50,))).any()
    assert not torch.isclose(noise, per_sample_normal(0, "b", index, (50,))).any()
    assert torch.equal(noise, per_sample_normal(0, "a", index, (50,)))


def test_examples_never_share_a_generator():
    seeds = _seeds(0, "test", torch.arange(200_000))
    assert len(set(seeds)) == 200_000
    assert 0 <= min(seeds) < max(seeds) < 1 << 32


def test_seeds_are_murmur_of_the_position():
    """The 32-bit product in halves, against Python's integers."""

    def mixed(key):
        key = ((key ^ (key >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
        key = ((key ^ (key >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
        return key ^ (key >> 16)

    from bitcert.random import stream

    start = int(stream(3, "test").integers(1 << 32))
    positions = [0, 1, 77, 2**31, 2**32 - 1]
    assert _seeds(3, "test", torch.tensor(positions)) == [mixed((start + p) % 2**32) for p in positions]


def test_numbers_are_standard_normal_and_independent():
    noise = per_sample_normal(0, "test", torch.arange(400), (500,)).double()
    n = noise.numel()
    assert abs(noise.mean()) < 4 / n**0.5
    assert abs(noise.square().mean() - 1) < 4 * (2 / n) ** 0.5
    assert abs(noise.pow(4).mean() - 3) < 4 * (96 / n) ** 0.5
    neighbours = (noise[1:] * noise[:-1]).mean()
    assert abs(neighbours) < 4 / n**0.5


def test_dtype_changes_the_type_only():
    values = (torch.zeros(3, 40, dtype=dtype) for dtype in (torch.float32, torch.float64))
    single, double = (noise_like(value, 1, 0, "test", torch.arange(3)) for value in values)
    assert double.dtype == torch.float64
    assert torch.equal(double, single.double())


def test_noise_like_has_the_draws_first():
    value = torch.zeros(2, 3, 4, dtype=torch.float64)
    noise = noise_like(value, 5, 0, "test", torch.tensor([8, 9]))
    assert noise.shape == (5, 2, 3, 4)
    assert noise.dtype == torch.float64
    assert torch.equal(noise[:, 1], per_sample_normal(0, "test", torch.tensor([9]), (5, 3, 4)).double()[0])


def test_no_example_no_noise():
    assert per_sample_normal(0, "test", torch.zeros(0, dtype=torch.int64), (3,)).shape == (0, 3)
