"""Networks trained on one data set as helper networks for another: their weights are public, so they cost no bits.

    export BITCERT_DATA=...   # the folder with pretrained/ and the data sets
    python examples/transfer.py fashion-mnist resnet20 out-transfer

Each factory wraps a published network so that it takes images of 28 x 28 grey values in 0..1: it pads them to 32 x 32,
repeats the channel and normalises inside the graph. What the message holds is an integer head on the network's
features (family 7). The network must not have seen the data that are certified: a CIFAR-10 network has not seen
Fashion-MNIST. Whoever names helper weights answers for that; the certificate states their hash.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitcert
from bitcert.compress import Run
from bitcert.compress.network_head import compress_network_head
from bitcert.helper import Helper, HelperWeights
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
    """6n+2 residual network for CIFAR-10; n = 3 is ResNet-20."""

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
        """Logits ``[batch, 10]`` of normalised images ``[batch, 3, 32, 32]``."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


class GreyAsColour(nn.Module):
    """A colour network on grey images ``[batch, 1, 28, 28]`` of values in 0..1."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The network's logits."""
        x = F.pad(x, (2, 2, 2, 2)).repeat(1, 3, 1, 1)
        return self.network((x - self.mean) / self.std)


def _weights(name: str) -> dict[str, Tensor]:
    folder = os.environ.get("BITCERT_DATA")
    if not folder:
        raise SystemExit("set BITCERT_DATA to the folder that holds pretrained/")
    state, _ = read_state_dict(Path(folder) / "pretrained" / name)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _fill(module: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    """Set the module's tensors in their order: the published files name them otherwise."""
    own = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(own, values.values(), strict=True)), strict=False)
    return module.eval()


def grey_resnet20() -> nn.Module:
    """ResNet-20 trained on CIFAR-10, for grey images of 28 x 28."""
    return GreyAsColour(_fill(ResNet(3), _weights("resnet_cifar10/resnet20-12fca82f.th")), CIFAR_MEAN, CIFAR_STD).eval()


def grey_resnet56() -> nn.Module:
    """ResNet-56 trained on CIFAR-10, for grey images of 28 x 28."""
    return GreyAsColour(_fill(ResNet(9), _weights("resnet_cifar10/resnet56-4bfd9763.th")), CIFAR_MEAN, CIFAR_STD).eval()


def mnist_lenet5() -> nn.Module:
    """LeNet-5 trained on MNIST; its inputs have the shape of Fashion-MNIST's already."""
    layers = [nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
    return _fill(module, _weights("lenet_mnist/lenet5_original.pt"))


NETWORKS = {"resnet20": grey_resnet20, "resnet56": grey_resnet56, "lenet5": mnist_lenet5}


def main(data: str, name: str, folder: Path, seconds: float) -> None:
    """Certify a head on the helper network's features and write message, helper and certificate."""
    sample = bitcert.load_sample(data, bitcert.Role.TRAIN)
    preprocessing = bitcert.Preprocessing(255.0)
    network = bitcert.capture(NETWORKS[name](), preprocessing(sample.inputs[:2]))
    weights = HelperWeights.of(network.architecture, network.parameters)
    helper = Helper.for_sample(sample, network.architecture, preprocessing, weights)
    run = Run(budget_seconds=seconds, watch=lambda c: print(f"{c.name}: {100 * c.bound:.2f} %", flush=True))
    compressed = compress_network_head(sample, helper, run)
    certificate = bitcert.certify(compressed, sample)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "message.bin").write_bytes(compressed.message)
    (folder / "helper.safetensors").write_bytes(weights.to_bytes())
    (folder / "architecture.json").write_text(network.architecture.to_json())
    (folder / "certificate.json").write_text(certificate.to_json())
    print(f"error at most {100 * certificate.bound:.2f} % ({certificate.description})")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]) if len(sys.argv) > 4 else 900.0)
