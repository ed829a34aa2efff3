"""The linear part ``x -> A x`` of a weight layer at its real input size, its transpose, and its dense matrix.

A convolution is a linear map between flattened images; ``matrix`` is the unrolled ``[outputs, inputs]`` matrix of that
map (Arora 2018, section 5, treats the kernel instead: both norms are in :mod:`bitcert.linear.norms`).
The bias is not part of the map. It does NOT hold for a layer that is evaluated at another input size: padding and
stride make the map of a convolution depend on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.errors import InputError
from bitcert.network import Node

MAX_MATRIX_ENTRIES = 2**24
"""Largest dense matrix that :meth:`LayerMap.matrix` builds (128 MiB in float64)."""

_TRANSPOSED = {"conv1d": F.conv_transpose1d, "conv2d": F.conv_transpose2d}
_FORWARD = {"conv1d": F.conv1d, "conv2d": F.conv2d}


@dataclass(frozen=True)
class Window:
    """How a kernel slides along one axis.

    Attributes:
        kernel, stride, padding, dilation: as in ``torch.nn.Conv2d``, for this axis.
        inputs, outputs: places before and after.
    """

    kernel: int
    stride: int
    padding: int
    dilation: int
    inputs: int
    outputs: int

    @property
    def uncovered(self) -> int:
        """Last places of the (padded) input that no window reaches; ``output_padding`` of the transpose."""
        return self.inputs + 2 * self.padding - self.dilation * (self.kernel - 1) - 1 - (self.outputs - 1) * self.stride


@dataclass(frozen=True, eq=False)
class LayerMap:
    """``x -> A x`` for a ``linear``, ``conv1d`` or ``conv2d`` node, without its bias.

    Attributes:
        op: ``"linear"``, ``"conv1d"`` or ``"conv2d"``.
        weight: ``[out, in]`` or the kernel ``[out, in / groups, *kernel]``; its dtype and device are the map's.
        input_shape, output_shape: of one example, without the batch axis.
        windows: one :class:`Window` per spatial axis; empty for a dense layer.
        groups: channel groups of a convolution; 1 for a dense layer.

    >>> from bitcert.network import Node
    >>> settings = {"stride": (2,), "padding": (1,), "dilation": (1,), "groups": 1}
    >>> layer = LayerMap.of(Node("c", "conv1d", ("input", "w"), settings), torch.tensor([[[1.0, 2.0, 3.0]]]), (1, 4))
    >>> layer.output_shape
    (1, 2)
    >>> layer.matrix()
    tensor([[2., 3., 0., 0.],
            [0., 1., 2., 3.]])
    """

    op: str
    weight: Tensor
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    windows: tuple[Window, ...] = ()
    groups: int = 1

    @classmethod
    def of(cls, node: Node, weight: Tensor, input_shape: tuple[int, ...]) -> LayerMap:
        """The map of ``node`` with the given weight.

        Args:
            node: a ``linear``, ``conv1d`` or ``conv2d`` node of an architecture.
            weight: its weight.
            input_shape: shape of one example of the node's input, without the batch axis.

        Raises:
            InputError: another operation, or a weight that does not fit the node and the input.
        """
        weight, input_shape = weight.detach(), tuple(input_shape)
        if node.op == "linear":
            if weight.dim() != 2 or not input_shape or input_shape[-1] != weight.shape[1]:
                raise _misfit(node, weight, input_shape)
            return cls("linear", weight, input_shape, (*input_shape[:-1], weight.shape[0]))
        if node.op not in _FORWARD:
            raise InputError("a linear, conv1d or conv2d node", f"{node.op} ({node.name})", "pass a weight layer")
        settings: dict[str, Any] = dict(node.attributes)
        dims, groups = int(node.op[4]), int(settings["groups"])
        fits = weight.dim() == dims + 2 and len(input_shape) == dims + 1
        if not fits or weight.shape[1] * groups != input_shape[0] or weight.shape[0] % groups:
            raise _misfit(node, weight, input_shape)
        windows = tuple(
            Window(k, s, p, d, n, (n + 2 * p - d * (k - 1) - 1) // s + 1)
            for k, s, p, d, n in zip(
                weight.shape[2:],
                settings["stride"],
                settings["padding"],
                settings["dilation"],
                input_shape[1:],
                strict=True,
            )
        )
        if any(window.outputs < 1 for window in windows):
            raise _misfit(node, weight, input_shape)
        outputs = (weight.shape[0], *(window.outputs for window in windows))
        return cls(node.op, weight, input_shape, outputs, windows, groups)

    @property
    def num_inputs(self) -> int:
        """Entries of one example before the map."""
        return math.prod(self.input_shape)

    @property
    def num_outputs(self) -> int:
        """Entries of one example after the map."""
        return math.prod(self.output_shape)

    def apply(self, x: Tensor) -> Tensor:
        """``A x`` for every example: ``[batch, *input_shape]`` to ``[batch, *output_shape]``.

        Raises:
            InputError: ``x`` has another shape or dtype.
        """
        self._check(x, self.input_shape)
        if self.op == "linear":
            return F.linear(x, self.weight)
        stride, padding, dilation = self._settings()
        return _FORWARD[self.op](x, self.weight, None, stride, padding, dilation, self.groups)

    def transpose(self, y: Tensor) -> Tensor:
        """``A^T y`` for every example: ``[batch, *output_shape]`` to ``[batch, *input_shape]``.

        Raises:
            InputError: ``y`` has another shape or dtype.
        """
        self._check(y, self.output_shape)
        if self.op == "linear":
            return y @ self.weight
        stride, padding, dilation = self._settings()
        uncovered = [window.uncovered for window in self.windows]
        # below the stride by construction, as torch demands of an output_padding
        return _TRANSPOSED[self.op](y, self.weight, None, stride, padding, uncovered, self.groups, dilation)

    def matrix(self) -> Tensor:
        """The dense matrix ``[num_outputs, num_inputs]`` with ``apply(x).flatten(1) == x.flatten(1) @ matrix().T``.

        Raises:
            InputError: it has more than ``MAX_MATRIX_ENTRIES`` entries.
        """
        entries = self.num_inputs * self.num_outputs
        if entries > MAX_MATRIX_ENTRIES:
            raise InputError(
                f"a map whose dense matrix has at most {MAX_MATRIX_ENTRIES} entries",
                f"{self.num_outputs} x {self.num_inputs} = {entries}",
                "use apply and transpose",
            )
        eye = torch.eye(self.num_inputs, dtype=self.weight.dtype, device=self.weight.device)
        return self.apply(eye.reshape(-1, *self.input_shape)).flatten(1).T.contiguous()

    def _settings(self) -> tuple[list[int], list[int], list[int]]:
        windows = self.windows
        return [w.stride for w in windows], [w.padding for w in windows], [w.dilation for w in windows]

    def _check(self, x: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(x.shape[1:]) != shape or x.dim() == 0 or x.dtype != self.weight.dtype:
            wanted = ", ".join(str(size) for size in ("batch", *shape))
            got = f"shape {list(x.shape)} of {x.dtype}"
            raise InputError(f"values of shape [{wanted}] of {self.weight.dtype}", got, "pass the layer's own values")


def _misfit(node: Node, weight: Tensor, input_shape: tuple[int, ...]) -> InputError:
    got = f"a weight of shape {list(weight.shape)} and an input of shape {list(input_shape)}"
    return InputError(f"a weight and an input that fit node {node.name!r} ({node.op})", got, "pass the layer's own")
