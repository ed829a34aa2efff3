"""What an operation costs, from shapes alone: floating-point operations, and the memory it takes while it runs.

``flops`` count a multiply-add as two. ``scratch`` counts the entries (of four bytes) that torch's kernels take beside
inputs and output: copies of operands that are broadcast or laid out anew, scores of attention, unfolded inputs of
convolutions (where the platform's kernels unfold them, all of a batch at once). Both are for the shapes given, batch
included. They are upper estimates for the CPU, NOT measurements: which kernel runs depends on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bitcert.network.layouts import Attributes

Shapes = Sequence[tuple[int, ...]]
Cost = Callable[[Shapes, tuple[int, ...], Attributes], int]

PRODUCTS = frozenset({"linear", "conv1d", "conv2d", "conv3d", "local_conv2d", "matmul", "attention"}).union(
    f"conv_transpose{dims}d" for dims in (1, 2, 3)
)
"""Operations whose arithmetic is products of matrices, which run far faster for each flop than all others."""

_CHANNEL_BLOCK = 16
"""Channels are padded to a multiple of this where a kernel lays a map out in blocks."""
_SOFTMAX_FLOPS = 5
_TRANSPOSED_WORKSPACE = 1 << 14
"""Entries that the kernels of transposed convolutions take whatever the sizes."""


# Floating-point operations


def entries(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """One for each entry of the largest operand or of the result."""
    return max(math.prod(out), *(math.prod(shape) for shape in shapes)) if shapes else math.prod(out)


def weighted(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Multiply-adds of a linear map: one filter per output entry."""
    return 2 * math.prod(out) * math.prod(shapes[1][1:])


def spread(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Multiply-adds of a transposed convolution: one filter for each input entry."""
    return 2 * math.prod(shapes[0]) * math.prod(shapes[1][1:])


def local_weighted(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Multiply-adds of a locally connected layer, whose weight has an axis of positions in front."""
    return 2 * math.prod(out) * math.prod(shapes[1][2:])


def product(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Multiply-adds of a matrix product."""
    return 2 * math.prod(out) * shapes[0][-1]


def attention(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Scores, their softmax, and the sum of values they weigh."""
    return _scores(shapes, out) * (2 * shapes[0][-1] + _SOFTMAX_FLOPS + 2 * shapes[2][-1])


def pooled(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """One for each entry under the window of each output."""
    kernel = attributes["kernel_size"]
    return math.prod(out) * (math.prod(kernel) if isinstance(kernel, tuple) else 1)


def _scores(shapes: Shapes, out: tuple[int, ...]) -> int:
    return math.prod(out[:-1]) * shapes[1][-2]


# Memory beside inputs and output


def nothing(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """The result is written straight away."""
    return 0


def first_copied(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """A contiguous copy of the first operand, where it is a view of another layout."""
    return math.prod(shapes[0])


def result_twice(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Another value of the result's size on the way to it."""
    return math.prod(out)


def both_copied(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Operand and result in the layout of the kernel."""
    return math.prod(shapes[0]) + math.prod(out)


def maxima(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """A contiguous copy of the operand, and where each maximum was found, in integers of eight bytes."""
    return math.prod(shapes[0]) + 2 * math.prod(out)


def operands(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Copies of both factors of a matrix product, spread over the leading axes of the result."""
    leading = math.prod(out[:-2])
    return leading * (math.prod(shapes[0][-2:]) + math.prod(shapes[1][-2:]))


def scores(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Scores of all queries with all keys: raw, masked and after the softmax; and spread copies of the three inputs."""
    leading = math.prod(out[:-2])
    return 3 * _scores(shapes, out) + leading * sum(math.prod(shape[-2:]) for shape in shapes[:3])


def unfolded(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """The input of a convolution with every window written out; or, if more, input and output laid out in blocks."""
    x, weight = shapes[0], shapes[1]
    columns = x[0] * x[1] * math.prod(weight[2:]) * math.prod(out[2:])
    return max(columns, _blocked(x) + _blocked(out))


def folded(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """Every window of a transposed convolution written out before they are added up, or maps laid out in blocks."""
    x, weight = shapes[0], shapes[1]
    columns = math.prod(x[:1] + x[2:]) * out[1] * math.prod(weight[2:])
    return max(columns, _blocked(x)) + _blocked(out) + _TRANSPOSED_WORKSPACE


def _blocked(shape: tuple[int, ...]) -> int:
    return shape[0] * -(-shape[1] // _CHANNEL_BLOCK) * _CHANNEL_BLOCK * math.prod(shape[2:])


def local_windows(shapes: Shapes, out: tuple[int, ...], attributes: Attributes) -> int:
    """The windows of a locally connected layer, unfolded and sorted by position, and the result before it is sorted."""
    x, filters = shapes[0], shapes[1]
    return 2 * x[0] * x[1] * math.prod(filters[3:]) * filters[0] + math.prod(out)
