"""Network architectures that the papers train: VGG-19 and AlexNet for images of 32 x 32 pixels, dense networks.

Values are drawn from torch's global stream, which :func:`bitcert.studies.training.build` seeds.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

_VGG19 = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
_ALEXNET = ((64, 3, True), (192, 3, True), (384, 3, False), (256, 3, False), (256, 3, True))
"""Width, kernel and whether a pooling follows."""


def vgg19(width: float = 1.0, num_classes: int = 10, dropout: float = 0.5) -> nn.Module:
    """VGG-19 on ``[batch, 3, 32, 32]``: 16 convolutions and 3 dense layers (Arora 2018 section 6).

    Args:
        width: share of the published widths 64 to 512; with 1 the dense layers are 512 x 512, as in Table 1.
        num_classes: of the last layer.
        dropout: before the first two dense layers.
    """
    layers: list[nn.Module] = []
    channels = 3
    for full, count in _VGG19:
        size = max(2, round(full * width))
        for _ in range(count):
            layers += [_he(nn.Conv2d(channels, size, 3, padding=1)), nn.ReLU()]
            channels = size
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), *_classifier(channels, channels, num_classes, dropout))


def alexnet(width: float = 1.0, num_classes: int = 10, dropout: float = 0.0) -> nn.Module:
    """AlexNet for ``[batch, 3, 32, 32]``: 5 convolutions with 3 poolings, 3 dense layers (Krizhevsky et al. 2012).

    The kernels are 3 x 3 because the images are small; the papers do not state theirs.
    """
    layers: list[nn.Module] = []
    channels = 3
    for full, kernel, pooled in _ALEXNET:
        size = max(2, round(full * width))
        layers += [_he(nn.Conv2d(channels, size, kernel, padding=kernel // 2)), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pooled else []
        channels = size
    hidden = max(4, round(1024 * width))
    return nn.Sequential(*layers, nn.Flatten(), *_classifier(16 * channels, hidden, num_classes, dropout))


def dense(inputs: int, width: int, depth: int, num_classes: int = 10, bias: bool = False) -> nn.Module:
    """A ReLU network of ``depth`` dense layers of one hidden width on flattened inputs."""
    sizes = [inputs, *[width] * (depth - 1), num_classes]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layer = nn.Linear(before, after, bias=bias)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _classifier(inputs: int, hidden: int, num_classes: int, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before in (inputs, hidden):
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [_he(nn.Linear(before, hidden)), nn.ReLU()]
    return [*layers, _he(nn.Linear(hidden, num_classes))]


def _he(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """Normal weights of variance 2 / fan-in and no bias at first (He et al. 2015); the papers do not state theirs."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
