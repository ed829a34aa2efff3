"""Networks that the benchmarks run on: published checkpoints (``examples/published.py``), and untrained ones."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

from bitcert import Network, Preprocessing, Role, Sample, capture, load_sample
from bitcert.studies.networks import dense

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from lenet import lenet5
from published import CHECKPOINTS, CIFAR_MEAN, CIFAR_STD, load_checkpoint

__all__ = ["lenet5", "load_checkpoint", "mlp", "preprocessing", "train_sample", "trained_network", "vgg19"]


def mlp(width: int = 784, depth: int = 5, outputs: int = 10) -> nn.Module:
    """A ReLU network of ``depth`` layers without biases, He-normal."""
    torch.manual_seed(0)
    return dense(width, width, depth, outputs)


def vgg19() -> nn.Module:
    """VGG-19 for 32 x 32 images, as initialised (He-normal, no batch norm): 16 convolutions and one dense layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            layer = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            layers += [layer, nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


def preprocessing(data: str) -> Preprocessing:
    """What the checkpoints were trained with."""
    if data == "cifar10":
        return Preprocessing(255.0, CIFAR_MEAN, CIFAR_STD)
    return Preprocessing(255.0)


def train_sample(data: str, count: int | None = None) -> Sample:
    """The first ``count`` training examples."""
    sample = load_sample(data, Role.TRAIN)
    return sample if count is None else sample.take(slice(0, count))


def trained_network(name: str, count: int) -> tuple[Network, Sample, Preprocessing]:
    """A captured checkpoint, training examples and their preprocessing."""
    data = CHECKPOINTS[name][2]
    sample, process = train_sample(data, count), preprocessing(data)
    return capture(load_checkpoint(name), process(sample.inputs[:2])), sample, process
