"""Published networks with the weights that others trained, found in ``pretrained/`` under ``BITCERT_DATA``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from lenet import lenet5
from torch import Tensor, nn

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


CHECKPOINTS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "lenet300": (lenet300, "lenet_mnist/lenet300100_original.pt", "mnist"),
    "lenet5": (lenet5, "lenet_mnist/lenet5_original.pt", "mnist"),
    "lenet300_sparse": (lenet300, "lenet_mnist/lenet300100_sparse.pt", "mnist"),
    "lenet5_sparse": (lenet5, "lenet_mnist/lenet5_sparse.pt", "mnist"),
    "resnet20": (resnet20, "resnet_cifar10/resnet20-12fca82f.th", "cifar10"),
    "resnet56": (resnet56, "resnet_cifar10/resnet56-4bfd9763.th", "cifar10"),
}
"""Factory, file under ``pretrained/`` and data set of each."""


def data_folder() -> Path:
    """Where the checkpoints lie: ``BITCERT_DATA``."""
    folder = os.environ.get("BITCERT_DATA")
    if not folder:
        raise SystemExit("set BITCERT_DATA to the folder that holds mnist/ and pretrained/")
    return Path(folder)


def load_checkpoint(name: str) -> nn.Module:
    """A trained module by name."""
    factory, file, _ = CHECKPOINTS[name]
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
