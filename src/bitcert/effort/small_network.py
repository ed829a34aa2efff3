"""A small architecture of the program's own, for codecs that need one: random subspaces and masks.

Two convolutions with pooling and one dense layer (LeCun et al. 1998, cut down), chosen for its size and fixed with the
program. Only its structure is used: the codecs draw its weights from the helper's random numbers. Not for data other
than images, nor where the number of classes was read off the labels: a width chosen so would have to be coded.
"""

from __future__ import annotations

import torch
from torch import nn

from bitcert.data import Sample
from bitcert.helper import Preprocessing
from bitcert.network import Network, capture

CHANNELS = (8, 16)
_LARGE_SIDE = 16


def has_small_network(sample: Sample) -> bool:
    """Whether there is such a network for this problem."""
    return len(sample.input_shape) == 3 and min(sample.input_shape[1:]) >= 8 and not sample.classes_inferred


def small_network(sample: Sample, preprocessing: Preprocessing) -> Network:
    """The network for the sample's shape and number of classes; its weights mean nothing."""
    channels, height, width = sample.input_shape
    first, second = CHANNELS
    kernel = 5 if min(height, width) >= _LARGE_SIDE else 3
    body = nn.Sequential(
        *(nn.Conv2d(channels, first, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(first, second, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        nn.Linear(second * (height // 4) * (width // 4), sample.num_classes),
    )
    with torch.no_grad():
        for value in body.parameters():
            value.zero_()
    return capture(body, preprocessing(sample.inputs[:2]))
