"""Row of the truncated SVD: every layer of ResNet-56, from trained weights to a written message."""

from __future__ import annotations

import time

import torch
from codec_row import Row
from networks import load_checkpoint

from bitcert import Helper, capture
from bitcert.codecs.truncated_svd import TruncatedSVD, truncate

TARGET = 20.0


def svd_row() -> Row:
    """Seconds to truncate, quantise and write all 56 layers; BITCERT_DATA must hold the CIFAR-10 checkpoints."""
    network = capture(load_checkpoint("resnet56"), torch.zeros(2, 3, 32, 32))
    helper = Helper((3, 32, 32), 10, predictor=network.architecture)
    codec = TruncatedSVD(energy=0.9)
    started, cpu = time.perf_counter(), time.process_time()
    for layer in network.weight_layers:
        truncate(network.parameters[layer.weight].double().numpy(), "energy", 0.9)
    decomposed = time.perf_counter()
    compressed = codec.encode(network, helper=helper)
    seconds, busy = time.perf_counter() - decomposed, time.process_time() - cpu
    return Row(
        name="truncated SVD of all layers of ResNet-56, encoded",
        measured=seconds,
        target=TARGET,
        unit="s",
        at_least=False,
        details={
            "codec": codec.label,
            "decompositions alone, s": round(decomposed - started, 2),
            "processor time of both, s": round(busy, 2),
            "message, bytes": len(compressed.message),
            "layers": len(network.weight_layers),
        },
    )
