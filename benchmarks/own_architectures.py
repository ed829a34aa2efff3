"""Networks for ``benchmarks/own_networks.py``: published ones with their weights, and architectures of no publication.

Each function without arguments is a factory for ``bitcert``. The last dozen has no weights from elsewhere: they are for
digits (``[1, 8, 8]``), for rows of a table (``[12]``) and for sequences (``[24, 3]``).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitcert.studies.published import find_weights, load_published


def published_lenet5() -> nn.Module:
    """Dense LeNet-5."""
    return load_published("lenet5")


def published_lenet300() -> nn.Module:
    """Dense LeNet-300-100."""
    return load_published("lenet300")


def cifar_resnet20() -> nn.Module:
    """ResNet-20 of CIFAR-10."""
    return load_published("resnet20")


def fashion_net() -> nn.Module:
    """The convolutional network that others trained for robustness on Fashion-MNIST."""
    return load_published("fashion_cnn")


def mnist8() -> nn.Module:
    """The network of ``onnx_mnist8``, its weights read from the file; inputs 0 to 255."""
    import onnx

    graph = onnx.load(str(find_weights("onnx_mnist8/opt-mnist.onnx"))).graph
    values = {each.name: torch.tensor(onnx.numpy_helper.to_array(each)) for each in graph.initializer}
    first, second, last = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 16, 5, padding=2), nn.Linear(256, 10)
    names = (("Parameter5", "23"), ("Parameter87", "24"), ("Parameter193_reshape1", "Parameter194"))
    with torch.no_grad():
        for layer, (weight, bias) in zip((first, second, last), names, strict=True):
            found = values[weight].T if layer is last else values[weight]
            layer.weight.copy_(found)
            layer.bias.copy_(values[bias].reshape(-1))
    layers = [first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), last]
    return nn.Sequential(*layers).eval()


class Gated(nn.Module):
    """Two linear maps, one the gate of the other, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.value, self.gate = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, width]``."""
        y = self.norm(x)
        return x + self.value(y) * torch.sigmoid(self.gate(y))


class Attention(nn.Module):
    """One head of self-attention and a pooled linear answer."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.lift, self.mixed, self.out = (
            nn.Linear(channels, width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, time, channels]``."""
        x = self.lift(x)
        q, k, v = self.mixed(x).chunk(3, -1)
        weights = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
        return self.out(F.relu(x + weights @ v).mean(1))


class Recurrent(nn.Module):
    """A GRU, which cannot be captured: the program runs it as an opaque module."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.out = nn.GRU(3, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, time, channels]``."""
        return self.out(self.cells(x)[0][:, -1])


class Viewing(nn.Module):
    """Calls ``view`` on its feature map, which a batch in channels-last format does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, 1, 8, 8]``."""
        return self.out(F.max_pool2d(F.relu(self.convolution(x)), 2).view(len(x), -1))


def small_mlp() -> nn.Module:
    """One hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))


def viewing() -> nn.Module:
    """:class:`Viewing`."""
    return Viewing()


def separable() -> nn.Module:
    """Depthwise and pointwise convolutions with batch norm."""
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 16, 3, 2, 1, groups=16, bias=False), nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32)]
    return nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))


def wide_convolutions() -> nn.Module:
    """Many weights for few examples: 0.2 million."""
    layers = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def rows_linear() -> nn.Module:
    """A linear separator."""
    return nn.Linear(12, 3)


def rows_norm() -> nn.Module:
    """Batch norm in front and within."""
    layers = [nn.BatchNorm1d(12), nn.Linear(12, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 3))


def rows_gated() -> nn.Module:
    """:class:`Gated` twice."""
    return nn.Sequential(nn.Linear(12, 32), Gated(32), Gated(32), nn.Linear(32, 3))


def rows_deep() -> nn.Module:
    """Eight narrow layers."""
    layers: list[nn.Module] = [nn.Linear(12, 16), nn.Tanh()]
    for _ in range(6):
        layers += [nn.Linear(16, 16), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(16, 3))


class Transposed(nn.Module):
    """``[batch, time, channels]`` to ``[batch, channels, time]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Swap the last two axes."""
        return x.transpose(1, 2)


def series_convolutions() -> nn.Module:
    """Two convolutions in time."""
    layers = [nn.Conv1d(3, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 16, 5, padding=2), nn.ReLU()]
    return nn.Sequential(Transposed(), *layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3))


def series_attention() -> nn.Module:
    """:class:`Attention`."""
    return Attention(3, 16, 3)


def series_recurrent() -> nn.Module:
    """:class:`Recurrent`."""
    return Recurrent()


def series_dense() -> nn.Module:
    """All times at once."""
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 48), nn.ReLU(), nn.Linear(48, 3))
