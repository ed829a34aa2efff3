"""The fixed front end: its symmetry, and what of an image it ignores."""

import numpy as np
import pytest
import torch

from bitcert.decoder.features import front as front_end
from bitcert.decoder.features.front import num_maps, partners, wave_orders
from tests.tools.maps import batch_first

front = batch_first(front_end.front)
flipped = batch_first(lambda maps, num_channels: maps.flip(2)[partners(num_channels)])


def images(*shape):
    return torch.from_numpy(np.random.default_rng(0).random((5, *shape), dtype=np.float32))


@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_maps_are_the_maps_of_the_mirror_image(channels):
    x = images(channels, 16, 24)
    maps = front(x)
    assert maps.shape == (5, num_maps(channels), 4, 6)
    torch.testing.assert_close(flipped(maps, channels), front(x.flip(3)), atol=2e-5, rtol=1e-4)


def test_contrast_of_brightness_is_ignored_where_it_says_so():
    x = images(1, 32, 32)
    plain, strong = front(x), front(4 * x)
    detail = [*range(15), *range(16, 31)]
    torch.testing.assert_close(plain[:, detail], strong[:, detail], atol=0.02, rtol=0.02)
    assert not torch.allclose(plain[:, [15, 31]], strong[:, [15, 31]], atol=0.1)


def test_orders_of_the_waves_are_frozen():
    """Fifteen waves of detail, the mean of brightness, and of each opponent the mean and the two first waves."""
    detail = (0, 1, 2, 3, 4, 1, 2, 3, 4, 2, 3, 4, 3, 4, 4)
    assert wave_orders(1) == wave_orders(2) == ((*detail, 0), 15)
    assert wave_orders(3) == ((*detail, 0, 0, 1, 1, 0, 1, 1), 15)
