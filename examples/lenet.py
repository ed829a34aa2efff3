"""Factories of networks that the README and the benchmarks certify; run from this folder or put it on the path."""

from torch import nn


def lenet5() -> nn.Module:
    """LeNet-5 as Han et al. 2015 prune it: no ReLU after the convolutions; inputs ``[batch, 1, 28, 28]`` in 0..1."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def small_cnn() -> nn.Module:
    """A small convolution net with batch norm for the 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
