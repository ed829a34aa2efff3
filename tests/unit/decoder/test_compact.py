"""Compact nets: the front end's symmetry, messages of both colours and many sides, what a layer does."""

import numpy as np
import pytest
import torch

from bitcert.coding import MessageWriter
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.compact import (
    FAMILY,
    SETTINGS_GRID,
    CompactNet,
    body,
    contexts,
    num_weights,
    split_weights,
    tensor_shapes,
    write,
)
from bitcert.decoder.features.front import flipped, front, num_maps
from bitcert.errors import DecodeError, InputError

GREY, COLOUR = Helper((1, 8, 9), 3), Helper((3, 16, 12), 10, classes_inferred=True)


def images(helper: Helper, count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).random((count, *helper.input_shape), dtype=np.float32)


def integers(index: int, helper: Helper) -> np.ndarray:
    return np.random.default_rng(1).integers(-2, 3, num_weights(SETTINGS_GRID[index], helper))


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_maps_are_the_maps_of_the_mirror_image(channels: int, rectified: bool) -> None:
    x = torch.from_numpy(images(Helper((channels, 16, 24), 2)))
    maps = front(x, rectified)
    assert maps.shape[1] == num_maps(channels, rectified)
    torch.testing.assert_close(flipped(maps, channels, rectified), front(x.flip(3), rectified), atol=2e-5, rtol=1e-4)


def test_front_end_ignores_contrast_of_brightness_where_it_says_so() -> None:
    x = torch.from_numpy(images(Helper((1, 32, 32), 2)))
    plain, strong = front(x, False), front(4 * x, False)
    torch.testing.assert_close(plain[:, :15], strong[:, :15], atol=0.02, rtol=0.02)
    assert not torch.allclose(plain[:, 15], strong[:, 15], atol=0.1)


@pytest.mark.parametrize("index", range(len(SETTINGS_GRID)))
@pytest.mark.parametrize("helper", [GREY, COLOUR])
def test_a_message_is_its_net(index: int, helper: Helper) -> None:
    values = integers(index, helper)
    message, ledger = write(index, helper, values)
    decoded = decode_message(message, helper)
    assert decoded.ledger == ledger
    assert ledger.total_bits == 8 * len(message)
    net = decoded.classifier
    assert isinstance(net, CompactNet)
    assert net.settings == SETTINGS_GRID[index]
    assert np.array_equal(torch.cat([w.flatten() for w in net.weights]).numpy(), values)
    assert net(images(helper)).shape == (5, helper.num_classes)


def test_a_scale_of_a_layer_changes_nothing_but_a_bias_does() -> None:
    settings = SETTINGS_GRID[1]
    tensors = split_weights(torch.from_numpy(integers(1, COLOUR)).float(), settings, COLOUR)
    maps = front(torch.from_numpy(images(COLOUR)), settings.rectified)
    before = body(settings, maps, tensors)
    torch.testing.assert_close(body(settings, maps, [3 * tensors[0], *tensors[1:]]), before, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(body(settings, maps, [tensors[0], tensors[1] + 1, *tensors[2:]]), before, atol=1e-2)


def test_mirrored_settings_are_blind_to_mirroring() -> None:
    helper = Helper((3, 16, 16), 4)
    x = images(helper)
    net = decode_message(write(1, helper, integers(1, helper))[0], helper).classifier
    torch.testing.assert_close(net(x), net(np.ascontiguousarray(x[..., ::-1])), atol=1e-3, rtol=1e-3)


def test_contexts_separate_layers_and_waves() -> None:
    settings = SETTINGS_GRID[1]
    parts = np.split(contexts(settings, COLOUR), np.cumsum([np.prod(s) for s in tensor_shapes(settings, COLOUR)])[:-1])
    used = [set(part) for part in parts]
    assert all(not a & b for place, a in enumerate(used) for b in used[place + 1 :])
    assert [len(part) for part in used[:3]] == [1, 1, 6]


def test_only_images_of_sides_from_eight() -> None:
    for shape in ((6,), (1, 7, 8)):
        with pytest.raises(InputError, match="sides from 8"):
            write(0, Helper(shape, 3), np.zeros(4, dtype=np.int64))
    message, _ = write(0, GREY, integers(0, GREY))
    with pytest.raises(DecodeError, match="compact net"):
        decode_message(message, Helper((1, 7, 8), 3))
    with pytest.raises(ValueError, match="weights"):
        write(0, GREY, np.zeros(4, dtype=np.int64))


def test_unknown_settings_are_refused() -> None:
    writer = MessageWriter(FAMILY)
    with writer.section("settings") as bits:
        bits.elias_gamma(len(SETTINGS_GRID) + 1)
    with pytest.raises(DecodeError, match="settings of compact nets"):
        decode_message(writer.finish()[0], GREY)


def test_same_decisions_on_another_number_of_threads() -> None:
    net = decode_message(write(1, COLOUR, integers(1, COLOUR))[0], COLOUR).classifier
    x, threads = images(COLOUR, 20), torch.get_num_threads()
    try:
        outputs = []
        for count in (1, 2):
            torch.set_num_threads(count)
            outputs.append(net(x))
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-3, rtol=1e-4)
