"""Published networks as factories for ``bitcert certify``, and by the names that the benchmarks use."""

from __future__ import annotations

from torch import nn

from bitcert.studies.published import CIFAR_MEAN, CIFAR_STD, PUBLISHED, load_published

__all__ = ["CHECKPOINTS", "CIFAR_MEAN", "CIFAR_STD", "cifar_resnet20", "load_checkpoint"]

CHECKPOINTS = {name: (each.build, each.file, each.data) for name, each in PUBLISHED.items()}
"""Factory, file under ``pretrained/`` and data set of each."""

load_checkpoint = load_published


def cifar_resnet20() -> nn.Module:
    """ResNet-20 with the published weights: a factory for ``bitcert certify``."""
    return load_published("resnet20")
