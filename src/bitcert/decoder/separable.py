"""Codec family 2: compact separable convolution nets whose every weight is an integer in the message.

A net is a full convolution (the stem), blocks of depthwise and pointwise convolution, average pooling to a small grid
and a linear head. Stem and blocks end with a normalisation over channels and positions (group norm with one group:
no running statistics, no affine parameters) and ReLU; there are no biases. So the integers are all there is to code:
each tensor is followed by a normalisation or is the last, its scale changes no decision, and no step size is sent.

Message: index in :data:`SETTINGS_GRID` (Elias gamma), then all weights as one arithmetic section in the order of
:func:`tensor_shapes`; zeros are counted apart in each tensor, the other flags together, because a count of its own
for every tensor would cost more than it saves in nets this small. Not provided: nets for inputs other than images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bitcert.coding import Ledger, MessageReader, MessageWriter
from bitcert.counting import FloatClassifier
from bitcert.decoder.helper import Helper, read_classes, write_classes
from bitcert.errors import DecodeError, InputError

FAMILY = 2
MAX_WEIGHTS = 1 << 22
_NORM_EPSILON = 1e-5

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SeparableSettings:
    """One architecture: the stem first, then the separable blocks.

    Args:
        widths: output channels of the stem and of each block.
        kernels: odd side length of the stem's kernel and of each depthwise kernel.
        strides: of the stem and of each depthwise convolution.
        pool: the features are averaged over a grid of ``pool x pool`` cells before the head.
    """

    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    pool: int


SETTINGS_GRID: tuple[SeparableSettings, ...] = (
    SeparableSettings((8,), (5,), (1,), 2),
    SeparableSettings((8, 8), (5, 3), (1, 2), 2),
    SeparableSettings((6, 10), (3, 3), (1, 2), 2),
    SeparableSettings((8, 16), (5, 5), (2, 2), 2),
    SeparableSettings((8, 16, 24), (5, 3, 3), (2, 2, 1), 2),
    SeparableSettings((12, 24), (5, 5), (2, 2), 2),
    SeparableSettings((12, 24, 32), (5, 5, 3), (2, 2, 1), 2),
    SeparableSettings((16, 32, 48, 64), (3, 3, 3, 3), (1, 2, 2, 1), 2),
)
"""Fixed before any data are seen; a message names its entry. Appending is compatible, any other change is not."""


def is_image_shape(input_shape: Shape) -> bool:
    """Whether one example is ``[channels, height, width]``."""
    return len(input_shape) == 3 and min(input_shape) >= 1


def tensor_shapes(settings: SeparableSettings, helper: Helper) -> tuple[Shape, ...]:
    """Shapes of the weight tensors in coding order: stem, depthwise and pointwise of each block, head.

    Raises:
        InputError: when the helper's inputs are not images.

    >>> tensor_shapes(SETTINGS_GRID[1], Helper((1, 8, 8), 10))
    ((8, 1, 5, 5), (8, 1, 3, 3), (8, 8, 1, 1), (10, 32))
    """
    if not is_image_shape(helper.input_shape):
        got = f"inputs of shape {list(helper.input_shape)}"
        raise InputError("images [channels, height, width] for a separable net", got, "use another codec family")
    width, kernel = settings.widths[0], settings.kernels[0]
    shapes: list[Shape] = [(width, helper.input_shape[0], kernel, kernel)]
    for next_width, kernel in zip(settings.widths[1:], settings.kernels[1:], strict=True):
        shapes += [(width, 1, kernel, kernel), (next_width, width, 1, 1)]
        width = next_width
    return (*shapes, (helper.num_classes, width * settings.pool**2))


def tensor_sizes(settings: SeparableSettings, helper: Helper) -> tuple[int, ...]:
    """Number of weights of each tensor of :func:`tensor_shapes`."""
    return tuple(math.prod(shape) for shape in tensor_shapes(settings, helper))


def split_weights(flat: torch.Tensor, settings: SeparableSettings, helper: Helper) -> list[torch.Tensor]:
    """All weights ``[num_weights]`` as the list of tensors."""
    parts = torch.split(flat, list(tensor_sizes(settings, helper)))
    return [part.view(shape) for part, shape in zip(parts, tensor_shapes(settings, helper), strict=True)]


def _normalise(x: torch.Tensor) -> torch.Tensor:
    return functional.relu(functional.group_norm(x, 1, eps=_NORM_EPSILON))


def forward(settings: SeparableSettings, x: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits ``[batch, classes]`` of preprocessed images ``x [batch, channels, height, width]``."""
    kernel, stride = settings.kernels[0], settings.strides[0]
    x = _normalise(functional.conv2d(x, tensors[0], stride=stride, padding=kernel // 2))
    blocks = zip(settings.kernels[1:], settings.strides[1:], tensors[1:-1:2], tensors[2:-1:2], strict=True)
    for kernel, stride, depthwise, pointwise in blocks:
        x = functional.conv2d(x, depthwise, stride=stride, padding=kernel // 2, groups=x.shape[1])
        x = _normalise(functional.conv2d(x, pointwise))
    return functional.linear(functional.adaptive_avg_pool2d(x, settings.pool).flatten(1), tensors[-1])


@dataclass(frozen=True, eq=False)
class SeparableNet(FloatClassifier):
    """The classifier: raw inputs ``[batch, channels, height, width]`` -> logits ``[batch, classes]``.

    Args:
        settings: the architecture.
        weights: float32 tensors of integer value, in the order of :func:`tensor_shapes`.
        helper: preprocessing and shapes.
    """

    settings: SeparableSettings
    weights: tuple[torch.Tensor, ...]
    helper: Helper

    def logits(self, inputs: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        """Logits of one batch, computed in ``dtype``."""
        weights = [value.to(dtype) for value in self.weights]
        return forward(self.settings, self.helper.preprocessing(inputs, dtype), weights)


def contexts(settings: SeparableSettings, helper: Helper) -> NDArray[np.intp]:
    """Index of the tensor each weight belongs to, ``[num_weights]``."""
    sizes = tensor_sizes(settings, helper)
    return np.repeat(np.arange(len(sizes), dtype=np.intp), sizes)


def write(settings_index: int, helper: Helper, integers: NDArray[np.int64]) -> tuple[bytes, Ledger]:
    """The message of a net.

    Args:
        settings_index: in :data:`SETTINGS_GRID`.
        helper: of the problem; its inputs must be images.
        integers: all weights, ``[num_weights]`` in the order of :func:`tensor_shapes`.

    Raises:
        InputError: when the helper's inputs are not images.
        ValueError: when the number of weights is not that of the settings.
    """
    where = contexts(SETTINGS_GRID[settings_index], helper)
    if integers.shape != where.shape:
        raise ValueError(f"settings {settings_index} have {len(where)} weights, got {list(integers.shape)}")
    writer = MessageWriter(FAMILY)
    write_classes(writer, helper)
    with writer.section("settings") as bits:
        bits.elias_gamma(settings_index + 1)
    writer.integers("weights", integers.astype(np.int64), where)
    return writer.finish()


def _read_settings(reader: MessageReader, helper: Helper) -> SeparableSettings:
    if not is_image_shape(helper.input_shape):
        got = f"inputs of shape {list(helper.input_shape)}"
        raise DecodeError("images [channels, height, width] for a separable net", got, "check the helper")
    with reader.section("settings") as bits:
        index = bits.elias_gamma() - 1
    if index >= len(SETTINGS_GRID):
        got = f"settings {index}"
        raise DecodeError(f"one of {len(SETTINGS_GRID)} settings of separable nets", got, "use a newer bitcert")
    settings = SETTINGS_GRID[index]
    if sum(tensor_sizes(settings, helper)) > MAX_WEIGHTS:
        got = f"{helper.input_shape[0]} channels and {helper.num_classes} classes"
        raise DecodeError(f"at most {MAX_WEIGHTS} weights in a separable net", got, "check the helper")
    return settings


def read(reader: MessageReader, helper: Helper) -> tuple[SeparableNet, str]:
    """Decode a net.

    Raises:
        DecodeError: when the rest of the message is not what :func:`write` writes for this helper.
    """
    read_classes(reader, helper)
    settings = _read_settings(reader, helper)
    where = contexts(settings, helper)
    integers = reader.integers("weights", len(where), where)
    weights = split_weights(torch.from_numpy(integers).to(torch.float32), settings, helper)
    used = int(np.count_nonzero(integers))
    kernels = ", ".join(f"{kernel}x{kernel}" for kernel in settings.kernels)
    channels = ", ".join(map(str, settings.widths))
    description = (
        f"separable convolution net of {channels} channels (kernels {kernels}): "
        f"{used} non-zero integer weights of {len(integers)}"
    )
    return SeparableNet(settings, tuple(weights), helper), description
