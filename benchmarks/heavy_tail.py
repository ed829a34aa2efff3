"""Table 1 of Shin 2021 with our checkpoints: ``python benchmarks/heavy_tail.py [NETWORK ...] [--json FILE]``.

Appendix E: the last dense layer's entries within one standard deviation become Gaussian noise; accuracy on the 10,000
test images of CIFAR-10 before and after, ten draws, under each comparison rule. Every draw is a message that is
written, decoded and evaluated; everything below the last layer lies in the helper, so its features are computed once.
The paper's checkpoints are others (93.90 % and 95.32 %), so the *drop* is what compares. One JSON object a line. This
is an accuracy protocol, no certificate: the helper was trained on the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from networks import preprocessing, trained_network

from bitcert import Helper, Network, Role, Sample, load_sample
from bitcert.certificates.certification import versions
from bitcert.codecs.base import Rest, Selection
from bitcert.codecs.heavy_tail import Compare, HeavyTail, Variance
from bitcert.codecs.quantiser import FINE
from bitcert.decoder import HelperWeights, decode_message
from bitcert.decoder.network import QuantisedNetwork
from bitcert.decoder.tensors import Base

DRAWS = 10
PAPER = {"resnet20": (93.90, 89.19, 3.03, 3.22), "resnet56": (95.32, 94.74, 0.30, 3.02)}
"""Table 1: accuracy before, mean and deviation after (per cent), fitted exponent of the density ``w^-alpha``."""


@dataclasses.dataclass(frozen=True)
class Head:
    """Features of the last dense layer on the test images, and what the decoder knows.

    Args:
        features: ``[images, width]``.
        weight, bias: names of the layer's tensors.
    """

    network: Network
    helper: Helper
    features: torch.Tensor
    labels: torch.Tensor
    weight: str
    bias: str

    def accuracy(self, weight: torch.Tensor, bias: torch.Tensor) -> float:
        """Per cent of right answers with these values of the layer."""
        right = (self.features @ weight.T + bias).argmax(1) == self.labels
        return 100 * float(right.double().mean())


def load_head(name: str) -> Head:
    """Evaluate all but the last layer of a checkpoint on the test images."""
    network, _, process = trained_network(name, 2)
    test = load_sample("cifar10", Role.HOLDOUT, split="test")
    layer = network.weight_layers[-1]
    assert layer.bias is not None
    # the base of the last layer is zero, so that its message is of the weights and not of differences
    empty = {layer.weight: torch.zeros_like(network.parameters[layer.weight])}
    weights = HelperWeights.of(network.architecture, {**network.parameters, **empty})
    helper = dataclasses.replace(Helper.for_sample(test, network.architecture, process), weights=weights)
    return Head(network, helper, _features(network, test, layer.source), _labels(test), layer.weight, layer.bias)


def _labels(test: Sample) -> torch.Tensor:
    return torch.from_numpy(test.labels.copy())


def _features(network: Network, test: Sample, source: str) -> torch.Tensor:
    process, parts = preprocessing("cifar10"), []
    with torch.no_grad():
        for inputs, _ in test.batches(250):
            parts.append(network.architecture.activations(process(inputs), network.parameters)[source])
    return torch.cat(parts)


def draw_accuracies(head: Head, codec: HeavyTail) -> tuple[list[float], int]:
    """Per cent of right answers of each draw's decoded message, and the bits of the last one."""
    values, bits = [], 0
    for draw in range(DRAWS):
        message = dataclasses.replace(codec, draw=draw).encode(head.network, helper=head.helper).message
        decoded = decode_message(message, head.helper).classifier
        assert isinstance(decoded, QuantisedNetwork)
        for name, value in head.network.parameters.items():
            assert name == head.weight or torch.equal(decoded.weights[name], value), name
        values.append(head.accuracy(decoded.weights[head.weight], decoded.weights[head.bias]))
        bits = 8 * len(message)
    return values, bits


def rows(name: str) -> list[dict[str, object]]:
    """One row for each comparison rule, and one for the variance of the replaced entries."""
    start = time.perf_counter()
    head = load_head(name)
    before = head.accuracy(head.network.parameters[head.weight], head.network.parameters[head.bias])
    selection = Selection(layers=(head.weight,), rest=Rest.HELPER, base=Base.FILE)
    base = HeavyTail(selection=selection, quantiser=FINE)
    codecs = [dataclasses.replace(base, compare=rule) for rule in Compare]
    codecs.append(dataclasses.replace(base, variance=Variance.REPLACED))
    found = []
    for codec in codecs:
        after, bits = draw_accuracies(head, codec)
        (theory,) = codec.theory(head.network).layers
        paper_before, paper_after, paper_std, paper_exponent = PAPER[name]
        found.append(
            {
                "benchmark": "heavy-tail",
                "name": name,
                "compare": codec.compare,
                "variance": codec.variance,
                "draws": DRAWS,
                "before": round(before, 2),
                "after": round(float(np.mean(after)), 2),
                "after_std": round(float(np.std(after, ddof=1)), 2),
                "drop": round(before - float(np.mean(after)), 2),
                "accuracies": [round(value, 2) for value in after],
                "paper": {
                    "before": paper_before,
                    "after": paper_after,
                    "after_std": paper_std,
                    "density exponent": paper_exponent,
                },
                "paper_drop": round(paper_before - paper_after, 2),
                "kept": int(theory.parameters),
                "entries": theory.actual,
                "message_bits": bits,
                "layer": {key: round(value, 4) for key, value in theory.details.items()},
                "seconds": round(time.perf_counter() - start, 1),
                "versions": versions(),
            }
        )
    return found


def main() -> None:
    """Print the rows of the networks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"some of {', '.join(PAPER)}; all of them by default")
    parser.add_argument("--json", type=Path, help="append the lines to this file")
    arguments = parser.parse_args()
    for name in arguments.networks or PAPER:
        for row in rows(name):
            line = json.dumps(row)
            print(line, flush=True)
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
