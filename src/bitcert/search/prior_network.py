"""The built-in networks of a prior part, fresh initial values for any network, and augmentation of its training.

Nothing here sees data other than the batch that is passed in. Initial values come from named streams (He et al. 2015:
weights normal with variance 2 / fan-in), so that no value of a network that was trained before can reach a helper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import torch_stream

MAX_KEPT_CONSTANTS = 256
"""Entries of buffers (normalisation constants and the like) that fresh initial values leave as they are, at most."""

_WIDTHS = (32, 64, 128)
_GREY_WIDTHS = (24, 48, 96, 96)
_SMALLEST_MAP = 7
_WIDE_WIDTHS = (64, 256)
_WIDE_STAGES = 3
_NO_POOLING_BELOW = 6
_HIDDEN = 256
_GREY_HIDDEN = 128


class Unit(nn.Module):
    """3 x 3 convolution, batch norm, ReLU; with a shortcut around them where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, outputs, height, width]``."""
        y = F.relu(self.norm(self.convolution(x)))
        return x + y if self.shortcut else y


def _dense(size: int, num_classes: int) -> nn.Module:
    layers = [nn.Flatten(), nn.BatchNorm1d(size), nn.Linear(size, _HIDDEN), nn.BatchNorm1d(_HIDDEN), nn.ReLU()]
    layers += [nn.Linear(_HIDDEN, _HIDDEN), nn.BatchNorm1d(_HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, num_classes)]
    return nn.Sequential(*layers)


def _grey(height: int, width: int, num_classes: int) -> nn.Module:
    """Convolution, pooling, batch norm and ReLU until maps are small, then two linear layers (after LeNet-5)."""
    layers: list[nn.Module] = []
    channels = 1
    for stage, outputs in enumerate(_GREY_WIDTHS):
        if stage >= 2 and min(height, width) <= _SMALLEST_MAP:
            break
        large = min(height, width) >= 12
        layers += [nn.Conv2d(channels, outputs, 5 if large else 3, 1, 0 if large else 1, bias=False), nn.MaxPool2d(2)]
        layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        height, width = ((side - 4 if large else side) // 2 for side in (height, width))
        channels = outputs
    layers += [nn.Flatten(), nn.Linear(channels * height * width, _GREY_HIDDEN, bias=False)]
    layers += [nn.BatchNorm1d(_GREY_HIDDEN), nn.ReLU(), nn.Linear(_GREY_HIDDEN, num_classes)]
    return nn.Sequential(*layers)


class BuiltIn(StrEnum):
    """Networks of the program for a prior part; there is more than one for images only."""

    SMALL = "small"
    WIDE = "wide"
    MIRRORED = "wide, averaged over an image and its mirror image"


class WideNetwork(nn.Module):
    """Three stages or more of two convolutions each, after a whitening of the pixels (after Jordan 2024).

    It learns more of an example than a small network, and takes three times as long for it.

    Args:
        input_shape: ``[channels, height, width]``.
        num_classes: outputs.
        mirrored: whether, in evaluation, the logits of an image and of its mirror image are added.
    """

    def __init__(self, input_shape: tuple[int, ...], num_classes: int, mirrored: bool = False) -> None:
        super().__init__()
        self.mirrored, channels, side = mirrored, 8 * input_shape[0], min(input_shape[1:]) - 1
        self.whitening = nn.Conv2d(input_shape[0], channels, 2)
        self.whitening.weight.requires_grad_(False)
        layers: list[nn.Module] = [nn.ReLU()]
        stages = 0
        while stages < _WIDE_STAGES or side >= _NO_POOLING_BELOW:
            width = _WIDE_WIDTHS[min(stages, 1)]
            pooled = side >= _NO_POOLING_BELOW
            layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), *([nn.MaxPool2d(2)] if pooled else [])]
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            channels, side, stages = width, side // 2 if pooled else side, stages + 1
        self.layers = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the first layer so that its answers to ``[n, channels, height, width]`` are uncorrelated and alike."""
        patches = F.unfold(x, 2).transpose(1, 2).reshape(-1, 4 * x.shape[1]).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 1e-3 * values.mean()).sqrt()).T
        self.whitening.weight.copy_(torch.cat([filters, -filters]).reshape(self.whitening.weight.shape))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, num_classes]``."""
        y: Tensor = self.layers(self.whitening(x))
        return y + self.layers(self.whitening(x.flip(3))) if self.mirrored and not self.training else y


def is_image(input_shape: tuple[int, ...]) -> bool:
    """Whether an input is ``[channels, height, width]`` with a height and a width to speak of."""
    return len(input_shape) == 3 and min(input_shape[1:]) >= 4


def built_in_networks(input_shape: tuple[int, ...]) -> tuple[BuiltIn, ...]:
    """Those that there are for inputs of this shape."""
    return tuple(BuiltIn) if is_image(input_shape) else (BuiltIn.SMALL,)


def built_in_network(input_shape: tuple[int, ...], num_classes: int, kind: BuiltIn = BuiltIn.SMALL) -> nn.Module:
    """A convolutional network for images (a small one is residual for colour), a dense one for vectors.

    Sizes follow from the shape alone: maps are halved until they are about 7 pixels wide.
    """
    if not is_image(input_shape):
        return _dense(math.prod(input_shape), num_classes)
    if kind is not BuiltIn.SMALL:
        return WideNetwork(input_shape, num_classes, kind is BuiltIn.MIRRORED)
    channels, height, width = input_shape
    side = min(height, width)
    if channels == 1:
        return _grey(height, width, num_classes)
    units: list[nn.Module] = [Unit(channels, _WIDTHS[0], 1), Unit(_WIDTHS[0], _WIDTHS[0], 1)]
    for before, after in pairwise(_WIDTHS):
        stride = 2 if side > _SMALLEST_MAP else 1
        side = -(-side // stride)
        units += [Unit(before, after, stride), Unit(after, after, 1)]
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * _WIDTHS[-1], num_classes))


def _he(shape: torch.Size | tuple[int, ...], seed: int, name: str) -> Tensor:
    fan_in = max(1, math.prod(shape[1:]))
    return torch.randn(tuple(shape), generator=torch_stream(seed, f"prior/init/{name}")) * math.sqrt(2.0 / fan_in)


def _refuse_constants(count: int) -> None:
    if count > MAX_KEPT_CONSTANTS:
        do = "make them parameters, so that they are trained on the prior part alone"
        raise InputError(f"at most {MAX_KEPT_CONSTANTS} constants in a network for a prior part", f"{count}", do)


@torch.no_grad()
def initialise_module(module: nn.Module, seed: int) -> None:
    """Fresh values for every parameter and every running statistic, whatever the module held before.

    Raises:
        InputError: more constants in other buffers than could be left as they are.
    """
    norms = {
        f"{name}.{key}" if name else key
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm)
        for key, _ in part.named_buffers(recurse=False)
    }
    _refuse_constants(sum(value.numel() for name, value in module.named_buffers() if name not in norms))
    for name, value in module.named_parameters():
        if value.dim() >= 2:
            value.copy_(_he(value.shape, seed, name))
        else:
            value.fill_(1.0 if name.rpartition(".")[2] == "weight" else 0.0)
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.reset_running_stats()


def initial_values(network: Network, seed: int) -> dict[str, Tensor]:
    """Fresh values for every tensor of a captured network, of which only the architecture is used.

    Raises:
        InputError: more constants in its buffers than could be left as they are.
    """
    specs = network.architecture.parameters
    _refuse_constants(sum(spec.num_entries for spec in specs if spec.kind == "buffer"))
    values = {}
    for spec in specs:
        if spec.kind == "buffer":
            values[spec.name] = network.parameters[spec.name].detach().clone()
        elif spec.kind in ("weight", "table"):
            values[spec.name] = _he(spec.shape, seed, spec.name)
        else:
            values[spec.name] = torch.full(spec.shape, 1.0 if spec.kind == "scale" else 0.0)
    return values


def augment(x: Tensor, generator: torch.Generator, flipped: Tensor) -> Tensor:
    """A batch of images ``[batch, channels, height, width]`` changed at random; other inputs stay as they are.

    Grey images are shifted, turned, sheared, scaled and bent a little, colour images shifted and partly covered.

    Args:
        x: the batch.
        generator: of the changes.
        flipped: ``[batch]`` bool, which images are mirrored before that.
    """
    if not is_image(tuple(x.shape[1:])):
        return x
    x = torch.where(flipped[:, None, None, None], x.flip(3), x)
    return _bend(x, generator) if x.shape[1] == 1 else _crop(x, generator)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1


def _bend(x: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    angle = 0.21 * _uniform((count,), generator)
    shear, stretch = 0.15 * _uniform((count,), generator), 1 + 0.1 * _uniform((2, count), generator)
    shift = 0.14 * _uniform((2, count), generator)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    top = torch.stack([stretch[0] * cosine, stretch[0] * (shear * cosine - sine), shift[0]], 1)
    bottom = torch.stack([stretch[1] * sine, stretch[1] * (shear * sine + cosine), shift[1]], 1)
    grid = F.affine_grid(torch.stack([top, bottom], 1), list(x.shape), align_corners=False)
    waves = 0.055 * torch.randn((count, 2, 5, 5), generator=generator)
    waves = F.interpolate(waves, (height, width), mode="bicubic", align_corners=True)
    return F.grid_sample(x, grid + waves.permute(0, 2, 3, 1), align_corners=False)


def _crop(x: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = x.shape
    reach = max(1, min(height, width) // 8)
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    rows, columns = top[:, None] + torch.arange(height), left[:, None] + torch.arange(width)
    which = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    centre = torch.rand((2, count), generator=generator) * torch.tensor([[height], [width]])
    far_y = (torch.arange(height) - centre[0][:, None]).abs() > reach
    far_x = (torch.arange(width) - centre[1][:, None]).abs() > reach
    return moved * (far_y[:, :, None] | far_x[:, None, :])[:, None]


def detached(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that training does not change."""
    return {name: value.detach().clone() for name, value in values.items()}
