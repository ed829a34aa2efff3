"""Networks that the measure benchmarks run on: real checkpoints found through BITCERT_DATA, and two untrained ones."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitcert import Network, Preprocessing, Role, Sample, capture, load_sample
from bitcert.network import read_state_dict

CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.grow = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grow:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grow, self.grow))
        return F.relu(x + y)


class ResNet(nn.Module):
    """6n+2 residual network for CIFAR-10 (He et al. 2016) with parameter-free shortcuts; n = 3 is ResNet-20."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        for k, (inputs, outputs, stride) in enumerate(widths, start=1):
            blocks = [_Block(inputs if b == 0 else outputs, outputs, stride if b == 0 else 1) for b in range(n)]
            setattr(self, f"layer{k}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of ``[batch, 3, 32, 32]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


def resnet20() -> nn.Module:
    """ResNet-20 as initialised."""
    return ResNet(3)


def resnet56() -> nn.Module:
    """ResNet-56 as initialised."""
    return ResNet(9)


def lenet300() -> nn.Module:
    """LeNet-300-100 on ``[batch, 1, 28, 28]``."""
    layers = [nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
    return nn.Sequential(*layers)


def lenet5() -> nn.Module:
    """LeNet-5 without ReLU after the convolutions, on ``[batch, 1, 28, 28]``."""
    convolutions = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def mlp(width: int = 784, depth: int = 5, outputs: int = 10) -> nn.Module:
    """A ReLU network of ``depth`` layers without biases, He-normal."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for k in range(depth):
        layer = nn.Linear(width, width if k < depth - 1 else outputs, bias=False)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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


_CHECKPOINTS = {
    "lenet300": (lenet300, "lenet_mnist/lenet300100_original.pt", "mnist"),
    "lenet5": (lenet5, "lenet_mnist/lenet5_original.pt", "mnist"),
    "lenet300_sparse": (lenet300, "lenet_mnist/lenet300100_sparse.pt", "mnist"),
    "lenet5_sparse": (lenet5, "lenet_mnist/lenet5_sparse.pt", "mnist"),
    "resnet20": (resnet20, "resnet_cifar10/resnet20-12fca82f.th", "cifar10"),
    "resnet56": (resnet56, "resnet_cifar10/resnet56-4bfd9763.th", "cifar10"),
}


def data_folder() -> Path:
    """Where the checkpoints lie: ``BITCERT_DATA``."""
    folder = os.environ.get("BITCERT_DATA")
    if not folder:
        raise SystemExit("set BITCERT_DATA to the folder that holds mnist/ and pretrained/")
    return Path(folder)


def load_checkpoint(name: str) -> nn.Module:
    """A trained module by name."""
    factory, file, _ = _CHECKPOINTS[name]
    state, _ = read_state_dict(data_folder() / "pretrained" / file)
    module = factory()
    # The files name the same tensors in the same order, in places with another prefix and without batch counters.
    own = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    values = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(own, values, strict=True)), strict=False)
    return module.eval()


def cifar_resnet20() -> nn.Module:
    """ResNet-20 with the published weights: a factory for ``bitcert certify``."""
    return load_checkpoint("resnet20")


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
    data = _CHECKPOINTS[name][2]
    sample, process = train_sample(data, count), preprocessing(data)
    return capture(load_checkpoint(name), process(sample.inputs[:2])), sample, process
