"""Features of images are a format: other values would decode old messages to other classifiers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bitcert.decoder.features.banks import BANKS, bank_features
from bitcert.decoder.features.front import front
from bitcert.decoder.features.maps import upright
from tests.tools.maps import batch_first

IMAGES = {"grey": (1, 17, 20), "colour": (3, 20, 16), "two channels": (2, 9, 11)}
FROZEN: dict[str, dict[str, list[float]]] = {
    "grey": {
        "bank 0": [-0.3485339, -0.7188708, -0.0478456, -0.1011684],
        "bank 1": [1.0834235, 1.0748716, -0.2375683, 0.4815575],
        "bank 2": [-0.4257729, -0.5981705, 0.0305905, -0.1768448],
        "bank 3": [0.7101086, 0.7421302, -0.1017387, 0.2725176],
        "bank 4": [-0.2532842, -0.4794401, -0.1105995, -0.0107366],
        "bank 5": [0.565955, 0.522171, -0.2454161, 0.3417403],
        "bank 6": [-0.0619686, 0.165098, -0.0312796, -0.1902087],
        "bank 7": [0.2570792, 0.2992148, 0.0002132, 0.1250852],
        "bank 8": [-0.6633739, -1.2538018, -0.2200406, -1.0727192],
        "bank 9": [-0.6971939, -0.2313572, -0.3804248, -0.6920979],
        "bank 10": [0.8811679, 0.9492381, 0.190496, 0.3328213],
        "bank 11": [-0.5737298, -1.168816, -0.090796, -1.0097545],
        "front": [0.0667093, 0.1390046, 0.1350781, 0.1816628],
        "upright": [0.0213928, 0.0069382, -7e-07, 0.0044631],
    },
    "colour": {
        "bank 0": [-0.5527992, -0.4438421, -0.0486814, -0.0630218],
        "bank 1": [1.0533636, 0.8458657, -0.1562542, 0.4778435],
        "bank 2": [-0.5559717, -0.3327105, 0.0406513, -0.1003244],
        "bank 3": [0.7034561, 0.6065132, -0.0600079, 0.3088214],
        "bank 4": [-0.4385223, -0.1880134, -0.0215048, -0.0809111],
        "bank 5": [0.5084857, 0.442539, -0.1349969, 0.277082],
        "bank 6": [0.009503, 0.202442, 0.04715, -0.1692615],
        "bank 7": [0.3669995, 0.4081938, -0.0483825, 0.0371707],
        "bank 8": [0.159269, 0.3257776, 0.2795175, 0.3837374],
        "bank 9": [0.6434876, 0.2846105, 0.2871891, 0.3441458],
        "bank 10": [0.7897281, 0.7609667, 0.0821623, 0.2378126],
        "bank 11": [0.1623662, 0.3891567, 0.2777286, 0.3411579],
        "front": [-0.1438788, -0.213628, -0.087214, -0.2180997],
        "upright": [0.0337531, 0.032073, -4e-07, 0.0048246],
    },
    "two channels": {
        "bank 0": [0.1089445, -0.285797, 0.3839343, 0.086697],
        "bank 1": [0.2078438, 0.1547875, -0.1231058, -0.3367722],
        "bank 2": [-0.0787464, -0.2060001, 0.3266104, 0.0663775],
        "bank 3": [0.0143028, -0.0101431, 0.0934338, -0.2539835],
        "bank 4": [0.0662193, -0.0588621, 0.3482779, 0.135081],
        "bank 5": [0.0144535, -0.0250176, 0.0934897, -0.0656957],
        "bank 6": [-0.0498897, 0.2157875, 0.0260463, -0.2434193],
        "bank 7": [0.0621297, -0.0293181, 0.0376385, -0.0420505],
        "bank 8": [-0.296358, -0.5646981, -0.0713163, -0.5908948],
        "bank 9": [0.1161742, 0.2565031, 0.1946828, -0.0136742],
        "bank 10": [0.0689965, 0.018716, 0.0814656, -0.3297695],
        "bank 11": [-0.2601941, -0.4834326, 0.0016482, -0.6073741],
        "front": [0.0053394, -0.1804306, -0.1193276, -0.0962352],
        "upright": [-0.1564682, -0.1789581, 1e-07, -0.1168205],
    },
}
"""For each size: sums for the four images, of every bank, the maps of the front end and the upright images."""


def images(shape: tuple[int, ...]) -> torch.Tensor:
    """Four images in float64: a ring and a stroke on a little texture; moved; hardly to be seen; partly below zero."""
    channels, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    y, x = (rows - 0.55 * height) / height, (columns - 0.45 * width) / width
    ring = np.exp(-((np.hypot(y, 1.3 * x + 0.4 * y) - 0.25) ** 2) / 0.004)
    stroke = 0.5 * np.exp(-((x - 0.3) ** 2) / 0.003) * (y < 0.2)
    texture = 0.05 * (1 + np.cos(2.1 * rows + 1.3 * columns * columns))
    whole = np.stack([(1 - 0.2 * c) * ring + (0.6 + 0.2 * c) * stroke + texture * (c + 1) / 2 for c in range(channels)])
    return torch.from_numpy(np.stack([whole, 0.6 * np.roll(whole, (1, -2), (1, 2)), 1e-5 * whole, whole - 0.4]))


def told(values: torch.Tensor) -> list[float]:
    """A sum over all values of an image, each place with a weight of its own."""
    flat = values.flatten(1)
    places = torch.arange(flat.shape[1], dtype=torch.float64)
    return (flat @ torch.cos(1.7 * places + 0.3) / math.sqrt(flat.shape[1])).tolist()


def found(name: str) -> dict[str, list[float]]:
    x = images(IMAGES[name])
    banks = {f"bank {index}": told(bank_features(bank, x)) for index, bank in enumerate(BANKS)}
    return banks | {"front": told(batch_first(front)(x)), "upright": told(upright(x))}


@pytest.mark.parametrize("name", IMAGES)
def test_features_of_an_image_never_change(name: str) -> None:
    values = found(name)
    assert values.keys() == FROZEN[name].keys()
    for what, sums in FROZEN[name].items():
        assert values[what] == pytest.approx(sums, abs=1e-6), what
