"""Two networks for data that are larger than memory, and a few examples like those: ``python examples/large.py``.

``large:resnet50`` is ResNet-50 (He et al. 2016) for images of ImageNet's size, and ``large:transformer`` a small
encoder of sequences of 512 tokens. Their weights are random: what counting costs does not depend on them.
"""

import numpy as np
import torch
from torch import nn

LENGTH, VOCABULARY, WIDTH = 512, 8192, 128


class Bottleneck(nn.Module):
    """Three convolutions beside a short cut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        sizes = ((inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))
        layers: list[nn.Module] = []
        for before, after, side, step in sizes:
            layers += [nn.Conv2d(before, after, side, step, side // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        changed = nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
        self.shortcut = changed if stride > 1 or inputs != 4 * width else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of the next block."""
        return torch.relu(self.layers(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """25.6 million numbers, images ``[batch, 3, 224, 224]``, 1,000 classes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(depth):
            layers.append(Bottleneck(inputs, width, stride if k == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)).eval()


class Transformer(nn.Module):
    """Embedded tokens, two layers of attention, the mean over the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of sequences ``[batch, length]``."""
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


def transformer() -> nn.Module:
    """1.4 million numbers, sequences ``[batch, 512]``, two classes."""
    torch.manual_seed(0)
    return Transformer().eval()


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    labels = np.arange(8)
    np.savez("images.npz", x=rng.integers(0, 256, (8, 3, 224, 224), np.uint8), y=labels)
    np.savez("tokens.npz", x=rng.integers(0, VOCABULARY, (8, LENGTH), np.int32), y=labels % 2)
