"""Published networks with the weights that others trained, found in ``pretrained/`` beside the built-in data.

Their licences lie beside the weights. Files are read as tensors only, never as code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from bitcert.data.names import search_roots
from bitcert.decoder import Preprocessing
from bitcert.errors import InputError, unknown_name
from bitcert.network import read_state_dict

CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.grow = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, outputs, height, width]``."""
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
            blocks = [Block(inputs if b == 0 else outputs, outputs, stride if b == 0 else 1) for b in range(n)]
            setattr(self, f"layer{k}", nn.Sequential(*blocks))  # the names of the published files
        self.stages = ("layer1", "layer2", "layer3")
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, 10]`` of ``[batch, 3, 32, 32]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = getattr(self, stage)(x)
        logits: Tensor = self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))
        return logits


def lenet300() -> nn.Module:
    """LeNet-300-100 on ``[batch, 1, 28, 28]``."""
    layers = [nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
    return nn.Sequential(*layers)


def lenet5() -> nn.Module:
    """LeNet-5 as Han et al. 2015 prune it: no ReLU after the convolutions; inputs ``[batch, 1, 28, 28]``."""
    convolutions = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))


def fashion_cnn() -> nn.Module:
    """Two convolutions of stride 2 and two dense layers, trained for robustness on Fashion-MNIST."""
    convolutions = [nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10))


@dataclass(frozen=True)
class Published:
    """A published network.

    Attributes:
        title: for people.
        build: its module, as initialised.
        file: under ``pretrained/``.
        data: built-in data set that it was trained on.
    """

    title: str
    build: Callable[[], nn.Module]
    file: str
    data: str

    @property
    def preprocessing(self) -> Preprocessing:
        """What it was trained with."""
        return Preprocessing(255.0, CIFAR_MEAN, CIFAR_STD) if self.data == "cifar10" else Preprocessing(255.0)


PUBLISHED = {
    "lenet300": Published("LeNet-300-100", lenet300, "lenet_mnist/lenet300100_original.pt", "mnist"),
    "lenet300_sparse": Published("LeNet-300-100, pruned", lenet300, "lenet_mnist/lenet300100_sparse.pt", "mnist"),
    "lenet5": Published("LeNet-5", lenet5, "lenet_mnist/lenet5_original.pt", "mnist"),
    "lenet5_sparse": Published("LeNet-5, pruned", lenet5, "lenet_mnist/lenet5_sparse.pt", "mnist"),
    "fashion_cnn": Published("robust convnet", fashion_cnn, "fashion_cnn/fashion_mnist.pth", "fashion-mnist"),
    "resnet20": Published("ResNet-20", lambda: ResNet(3), "resnet_cifar10/resnet20-12fca82f.th", "cifar10"),
    "resnet44": Published("ResNet-44", lambda: ResNet(7), "resnet_cifar10/resnet44-014dd654.th", "cifar10"),
    "resnet56": Published("ResNet-56", lambda: ResNet(9), "resnet_cifar10/resnet56-4bfd9763.th", "cifar10"),
}
"""By name."""


def find_weights(file: str) -> Path:
    """A file under ``pretrained/``, which lies where the built-in data are searched.

    Raises:
        InputError: it is nowhere.
    """
    for root in search_roots():
        if (root / "pretrained" / file).is_file():
            return root / "pretrained" / file
    where = ", ".join(str(root / "pretrained") for root in search_roots())
    raise InputError(f"the published weights {file}", f"none in {where}", "set BITCERT_DATA to the folder above it")


def load_published(name: str) -> nn.Module:
    """A trained module by name, in evaluation mode.

    Raises:
        InputError: nothing is called so, or the weights are not on this machine.
    """
    if name not in PUBLISHED:
        raise unknown_name("published network", name, PUBLISHED)
    state, _ = read_state_dict(find_weights(PUBLISHED[name].file))
    module = PUBLISHED[name].build()
    # The files name the same tensors in the same order, in places with another prefix and without batch counters.
    own = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    values = [value for key, value in state.items() if not key.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(own, values, strict=True)), strict=False)
    return module.eval()
