"""Codec family 6: a compact convolution net on a fixed front end.

The front end (:mod:`bitcert.decoder.features.front`) costs no bits. On its maps a short list of layers:

* ``mix``: 1 x 1 convolution, norm, bias, ReLU;
* ``conv``: the same with 3 x 3 kernels;
* ``residual``: ``x + ReLU(norm(conv(x)) + bias)`` with 3 x 3 kernels, ``times`` times with the same weights;
* ``again``: the last ``residual`` once more, at what may be another scale: no weights;
* ``pool``: maxima over 2 x 2.

The average over all places enters a linear head. All weights are integers. A 3 x 3 kernel is a sum of integer multiples
of the six first waves of the DCT (frequencies down + across at most two, each of norm one), so that smooth kernels are
sparse. ``norm`` is group norm with one group, of each example alone: no statistics, and no steps to code, since it
takes scales away; biases count in halves. Where the settings say ``mirrored``, the logits are summed over the image and
its mirror image: a symmetry that is part of the program.

Message: index of the settings, then the weights of all layers as one arithmetic section, zeros counted apart by layer
and wave, biases by themselves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bitcert.coding import Ledger, MessageReader, MessageWriter
from bitcert.counting import FloatClassifier
from bitcert.decoder.features.front import flipped, front, num_maps
from bitcert.decoder.helper import Helper, read_classes, write_classes
from bitcert.errors import DecodeError, InputError

FAMILY = 6
MIN_SIDE = 8
MAX_WEIGHTS = 1 << 22
NORM_EPSILON = 1e-5
BIAS_STEP = 0.5
_KERNEL = 3

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer: its kind (see the module), output channels where it has a choice, how often it is applied."""

    kind: str
    width: int = 0
    times: int = 1


@dataclass(frozen=True)
class CompactSettings:
    """One architecture: the layers on the front end.

    Args:
        rectified: whether the front end is (maps of a quarter of the side).
        mirrored: whether logits are summed over the image and its mirror image.
        layers: in order; the head follows.
    """

    rectified: bool
    mirrored: bool
    layers: tuple[Layer, ...]


def _layers(text: str) -> tuple[Layer, ...]:
    """Layers from words like ``"mix24 pool conv32 residual*2 again"``."""
    layers = []
    for word in text.split():
        name, _, times = word.partition("*")
        kind = name.rstrip("0123456789")
        layers.append(Layer(kind, int(name[len(kind) :] or 0), int(times or 1)))
    return tuple(layers)


SETTINGS_GRID: tuple[CompactSettings, ...] = (
    CompactSettings(True, False, _layers("mix16 conv16")),
    CompactSettings(True, True, _layers("mix24 residual pool residual again")),
    CompactSettings(True, False, _layers("mix24 residual pool residual again")),
)
"""Fixed before any data are seen; a message names its entry. Appending is compatible, any other change is not."""


@functools.cache
def _kernel_waves() -> torch.Tensor:
    """``[6, 9]``: the DCT's waves of a 3 x 3 kernel with frequencies down + across at most two, norm one."""
    places = torch.arange(_KERNEL, dtype=torch.float64) + 0.5
    rows = [torch.cos(math.pi * places * u / _KERNEL) for u in range(_KERNEL)]
    waves = [torch.outer(rows[u], rows[v]).flatten() for u in range(_KERNEL) for v in range(_KERNEL - u)]
    return torch.stack([wave / wave.norm() for wave in waves]).float()


def is_image_shape(input_shape: Shape) -> bool:
    """Whether one example is ``[channels, height, width]`` with sides of at least :data:`MIN_SIDE`."""
    return len(input_shape) == 3 and input_shape[0] >= 1 and min(input_shape[1:]) >= MIN_SIDE


def tensor_shapes(settings: CompactSettings, helper: Helper) -> tuple[Shape, ...]:
    """Shapes of the tensors in coding order: kernels ``[out, in, waves]`` and biases ``[out]`` of each layer and head.

    Raises:
        InputError: when the helper's inputs are not images of sides from 8.
    """
    if not is_image_shape(helper.input_shape):
        got = f"inputs of shape {list(helper.input_shape)}"
        expected = f"images [channels, height, width] of sides from {MIN_SIDE} for a compact net"
        raise InputError(expected, got, "use another codec family")
    width, waves = num_maps(helper.input_shape[0], settings.rectified), len(_kernel_waves())
    shapes: list[Shape] = []
    for layer in settings.layers:
        if layer.kind in ("mix", "conv", "residual"):
            out = layer.width or width
            shapes += [(out, width, 1 if layer.kind == "mix" else waves), (out,)]
            width = out
    return (*shapes, (helper.num_classes, width, 1), (helper.num_classes,))


def num_weights(settings: CompactSettings, helper: Helper) -> int:
    """Number of integers of a net."""
    return sum(math.prod(shape) for shape in tensor_shapes(settings, helper))


def split_weights(flat: torch.Tensor, settings: CompactSettings, helper: Helper) -> list[torch.Tensor]:
    """All weights ``[num_weights]`` as the list of tensors."""
    shapes = tensor_shapes(settings, helper)
    parts = torch.split(flat, [math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def contexts(settings: CompactSettings, helper: Helper) -> NDArray[np.intp]:
    """Context of each weight's zero flag, ``[num_weights]``: layer and wave; biases by themselves."""
    parts, start = [], 0
    for shape in tensor_shapes(settings, helper):
        inner = np.arange(shape[2]) if len(shape) == 3 else np.zeros(1, dtype=np.intp)
        parts.append((np.broadcast_to(inner, shape) + start).ravel())
        start = int(parts[-1].max()) + 1
    return np.concatenate(parts).astype(np.intp)


def _activate(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``ReLU(norm(x) + bias / 2)`` of ``x [batch, channels, rows, columns]`` in any memory layout."""
    places_last = x.permute(0, 2, 3, 1)
    normal = functional.layer_norm(places_last, places_last.shape[1:], eps=NORM_EPSILON)
    return functional.relu(normal + BIAS_STEP * bias).permute(0, 3, 1, 2)


def _convolve(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    out, channels, waves = weights.shape
    if waves == 1:
        return functional.conv2d(x, weights[..., None])
    kernels = (weights.reshape(-1, waves) @ _kernel_waves().to(weights.dtype)).view(out, channels, _KERNEL, _KERNEL)
    return functional.conv2d(x, kernels.contiguous(memory_format=torch.channels_last), padding=_KERNEL // 2)


def body(settings: CompactSettings, maps: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """What enters the head, ``[batch, width]``, from the front end's maps ``[batch, maps, rows, columns]``."""
    x, rest = maps.contiguous(memory_format=torch.channels_last), iter(tensors[:-2])
    last: tuple[torch.Tensor, torch.Tensor] | None = None
    for layer in settings.layers:
        if layer.kind == "pool":
            x = functional.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
        elif layer.kind in ("mix", "conv"):
            kernels, bias = _pair(rest)
            x = _activate(_convolve(x, kernels), bias)
        else:
            last = _pair(rest) if layer.kind == "residual" else last
            assert last is not None
            for _ in range(layer.times):
                x = x + _activate(_convolve(x, last[0]), last[1])
    return x.mean((2, 3))


def _pair(tensors: Iterator[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return next(tensors), next(tensors)


def forward(settings: CompactSettings, maps: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits ``[batch, classes]`` of the front end's maps of one view."""
    return functional.linear(body(settings, maps, tensors), tensors[-2][..., 0], BIAS_STEP * tensors[-1])


@dataclass(frozen=True, eq=False)
class CompactNet(FloatClassifier):
    """The classifier: raw inputs ``[batch, channels, height, width]`` -> logits ``[batch, classes]``.

    Args:
        settings: the architecture.
        weights: float32 tensors of integer value, in the order of :func:`tensor_shapes`.
        helper: preprocessing and shapes.
    """

    settings: CompactSettings
    weights: tuple[torch.Tensor, ...]
    helper: Helper

    def logits(self, inputs: NDArray[np.generic], dtype: torch.dtype) -> torch.Tensor:
        """Logits of one batch, computed in ``dtype``, summed over the views."""
        x, weights = self.helper.preprocessing(inputs, dtype), [value.to(dtype) for value in self.weights]
        maps = front(x, self.settings.rectified)
        logits = forward(self.settings, maps, weights)
        if self.settings.mirrored:
            turned = flipped(maps, self.helper.input_shape[0], self.settings.rectified)
            logits = logits + forward(self.settings, turned, weights)
        return logits


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


def _read_settings(reader: MessageReader, helper: Helper) -> CompactSettings:
    if not is_image_shape(helper.input_shape):
        got = f"inputs of shape {list(helper.input_shape)}"
        raise DecodeError(f"images of sides from {MIN_SIDE} for a compact net", got, "check the helper")
    with reader.section("settings") as bits:
        index = bits.elias_gamma() - 1
    if index >= len(SETTINGS_GRID):
        got = f"settings {index}"
        raise DecodeError(f"one of {len(SETTINGS_GRID)} settings of compact nets", got, "use a newer bitcert")
    settings = SETTINGS_GRID[index]
    if num_weights(settings, helper) > MAX_WEIGHTS:
        got = f"{helper.num_classes} classes"
        raise DecodeError(f"at most {MAX_WEIGHTS} weights in a compact net", got, "check the helper")
    return settings


def read(reader: MessageReader, helper: Helper) -> tuple[CompactNet, str]:
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
    names = " ".join(f"{layer.kind}{layer.width or ''}" for layer in settings.layers)
    description = (
        f"compact convolution net ({names}) on fixed frequency maps: {used} non-zero integer weights of {len(integers)}"
    )
    return CompactNet(settings, tuple(weights), helper), description
