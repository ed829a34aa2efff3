"""Networks trained on one data set as helper networks for another: their weights are public, so they cost no bits.

    export BITCERT_DATA=...   # the folder with pretrained/ and the data sets
    python examples/transfer.py fashion-mnist resnet20 out-transfer

Each factory wraps a published network so that it takes images of 28 x 28 grey values in 0..1: it pads them to 32 x 32,
repeats the channel and normalises inside the graph. What the message holds is an integer head on the network's
features (family 5). The network must not have seen the data that are certified: a CIFAR-10 network has not seen
Fashion-MNIST. Whoever names helper weights answers for that; the certificate states their hash.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from published import CIFAR_MEAN, CIFAR_STD, load_checkpoint
from torch import Tensor, nn

import bitcert
from bitcert.decoder import Helper, HelperWeights
from bitcert.search import Run
from bitcert.search.head_forms import compress_network_head


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


def grey_resnet20() -> nn.Module:
    """ResNet-20 trained on CIFAR-10, for grey images of 28 x 28."""
    return GreyAsColour(load_checkpoint("resnet20"), CIFAR_MEAN, CIFAR_STD).eval()


def grey_resnet56() -> nn.Module:
    """ResNet-56 trained on CIFAR-10, for grey images of 28 x 28."""
    return GreyAsColour(load_checkpoint("resnet56"), CIFAR_MEAN, CIFAR_STD).eval()


def mnist_lenet5() -> nn.Module:
    """LeNet-5 trained on MNIST; its inputs have the shape of Fashion-MNIST's already."""
    return load_checkpoint("lenet5")


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
