"""Small captured networks and samples for the tests of gathering."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from bitcert import Network, Role, Sample, capture


def chain(bias: bool = False, seed: int = 0) -> nn.Sequential:
    """A chain of three dense layers, [5] -> 3."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, 8, bias=bias), nn.ReLU(), nn.Linear(8, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)
    )


def convolutional(seed: int = 0) -> nn.Sequential:
    """Two convolutions and a dense layer, [2, 6, 6] -> 3."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


def captured(model: nn.Module, *shape: int) -> Network:
    """The network on inputs of this shape."""
    return capture(model, torch.zeros(2, *shape))


def sample_of(network: Network, n: int = 40, seed: int = 1, name: str = "toy", wrong: int = 0) -> Sample:
    """Gaussian inputs with the network's own labels, the first ``wrong`` of them changed."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, *network.architecture.input_shape)).astype(np.float32)
    labels = network(torch.from_numpy(inputs)).argmax(1).numpy()
    classes = network.architecture.num_outputs
    labels[:wrong] = (labels[:wrong] + 1) % classes
    return Sample(inputs, labels, classes, Role.TRAIN, name)
