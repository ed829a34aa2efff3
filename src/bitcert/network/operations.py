"""The operations a captured network may consist of, and nothing else.

Each entry says how many tensors it takes, which attributes with which ranges, how to compute it with torch,
how it treats the batch (:mod:`bitcert.network.layouts`) and what it costs. Architecture files are read through
this table only: a name that is not a key here is refused, and no torch attribute is ever looked up by a name
from a file. The table does NOT choose how weights are stored or coded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.network import costs, layouts
from bitcert.network.attributes import (
    AXES,
    AXIS,
    BOOLEAN,
    MAX_INTEGER,
    NUMBER,
    OPTIONAL_NUMBER,
    Attribute,
    integer,
    integers,
)
from bitcert.network.later_operations import LATER_OPERATIONS
from bitcert.network.layouts import Attributes
from bitcert.network.operation import (
    SAME,
    Operation,
    adaptive,
    along_axis,
    binary,
    convolution,
    plain,
    pooling,
    reduction,
    unary,
)

_MAX_PATCH_ENTRIES = 1 << 24
"""Entries of the unfolded input of a locally connected layer at a time, unless one example has more."""


def output_size(size: Sequence[int], kernel: Sequence[int], attributes: Attributes) -> tuple[int, ...]:
    """Sizes of the output map of a convolution with ``padding``, ``dilation`` and ``stride`` among its attributes."""
    settings = [attributes[name] for name in ("padding", "dilation", "stride")]
    axes = zip(size, kernel, *(s for s in settings if isinstance(s, tuple)), strict=True)
    return tuple((length + 2 * pad - gap * (taps - 1) - 1) // step + 1 for length, taps, pad, gap, step in axes)


def _local_conv2d(x: Tensor, filters: Tensor, bias: Tensor | None = None, *, groups: int, **a: Any) -> Tensor:
    """A convolution with its own filters at every output position.

    ``x [B, C, H, W]``, filters ``[P, out, C / groups, kh, kw]`` with the ``P`` output positions in row-major order, and
    optionally a bias ``[out]`` that all positions share; ``a`` are stride, padding and dilation.
    """
    positions, outputs, kernel = filters.shape[0], filters.shape[1], filters.shape[3:]
    # [P, groups, C / groups * kh * kw, out / groups]
    matrices = filters.reshape(positions, groups, outputs // groups, -1).transpose(2, 3)
    size = output_size(x.shape[2:], kernel, a)
    patch_entries = positions * groups * max(matrices.shape[2], 1)
    parts = []
    for part in torch.split(x, max(1, _MAX_PATCH_ENTRIES // patch_entries)):
        patches = F.unfold(part, kernel, a["dilation"], a["padding"], a["stride"])
        patches = patches.reshape(len(part), groups, -1, positions).permute(3, 1, 0, 2)
        found = torch.matmul(patches, matrices)  # [P, groups, B, out / groups]
        parts.append(found.permute(2, 1, 3, 0).reshape(len(part), outputs, *size))
    result = torch.cat(parts)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


def _affine_channel(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    shape = (1, -1) + (1,) * (t[0].dim() - 2)
    return t[0] * t[1].reshape(shape) + t[2].reshape(shape)


def _gain_and_shift(t: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    return t[1] if len(t) > 1 else None, t[2] if len(t) > 2 else None


def _slice(x: Tensor, a: Any) -> Tensor:
    return x[(slice(None),) * int(a["dim"]) + (slice(a["start"], a["end"], a["step"]),)]


def _expand(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    return t[0].expand([n if size == 0 else size for size in a["shape"]])


def _attend(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    mask = t[3] if len(t) == 4 else None
    return F.scaled_dot_product_attention(t[0], t[1], t[2], attn_mask=mask, is_causal=a["is_causal"], scale=a["scale"])


def _arange(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    return torch.arange(a["start"], a["end"], a["step"])


_POSITION = integer(0)
_SPAN = {"start": _POSITION, "end": _POSITION, "step": integer(1)}

_WEIGHTED: dict[str, Operation] = {
    "linear": Operation(
        (2, 3), lambda t, a, n: F.linear(*t), layouts.keep(layouts.mixes_last), {}, costs.weighted, costs.first_copied
    ),
    "conv1d": convolution(F.conv1d, 1),
    "conv2d": convolution(F.conv2d, 2),
    "local_conv2d": convolution(_local_conv2d, 2, costs.local_weighted, costs.local_windows),
    "embedding": Operation((2, 2), lambda t, a, n: F.embedding(t[0], t[1]), layouts.embedding),
    "affine_channel": Operation((3, 3), _affine_channel, layouts.leading(), scratch=costs.result_twice),
    "prelu": Operation((2, 2), lambda t, a, n: F.prelu(t[0], t[1]), layouts.leading()),
    "layer_norm": Operation(
        (1, 3),
        lambda t, a, n: F.layer_norm(t[0], a["normalized_shape"], *_gain_and_shift(t), a["eps"]),
        layouts.keep(layouts.mixes_normalized),
        {"normalized_shape": integers(None, 1), "eps": NUMBER},
        scratch=costs.first_copied,
    ),
    "group_norm": Operation(
        (1, 3),
        lambda t, a, n: F.group_norm(t[0], a["num_groups"], *_gain_and_shift(t), a["eps"]),
        layouts.leading(),
        {"num_groups": integer(1), "eps": NUMBER},
        scratch=costs.first_copied,
    ),
}

_POINTWISE: dict[str, Operation] = {
    **{
        name: plain(function)
        for name, function in {
            "relu": F.relu,
            "silu": F.silu,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "hardswish": F.hardswish,
            "hardsigmoid": F.hardsigmoid,
            "mish": F.mish,
            "selu": F.selu,
            "exp": torch.exp,
            "log": torch.log,
            "abs": torch.abs,
            "neg": torch.neg,
            "sqrt": torch.sqrt,
            "rsqrt": torch.rsqrt,
            "reciprocal": torch.reciprocal,
        }.items()
    },
    **{
        name: binary(function)
        for name, function in {
            "add": torch.add,
            "sub": torch.sub,
            "mul": torch.mul,
            "div": torch.div,
            "maximum": torch.maximum,
            "minimum": torch.minimum,
        }.items()
    },
    "add_scalar": unary(lambda x, a: x + a["value"], value=NUMBER),
    "mul_scalar": unary(lambda x, a: x * a["value"], value=NUMBER),
    "div_scalar": unary(lambda x, a: x / a["value"], value=NUMBER),
    "pow_scalar": unary(lambda x, a: x ** a["value"], value=NUMBER),
    "leaky_relu": unary(lambda x, a: F.leaky_relu(x, a["negative_slope"]), negative_slope=NUMBER),
    "elu": unary(lambda x, a: F.elu(x, a["alpha"]), alpha=NUMBER),
    "gelu": unary(lambda x, a: F.gelu(x, approximate="tanh" if a["tanh"] else "none"), tanh=BOOLEAN),
    "softplus": unary(lambda x, a: F.softplus(x, a["beta"], a["threshold"]), beta=NUMBER, threshold=NUMBER),
    "clamp": unary(lambda x, a: torch.clamp(x, a["min"], a["max"]), min=OPTIONAL_NUMBER, max=OPTIONAL_NUMBER),
    "to_index": plain(lambda x: x.round().to(torch.int64), costs.result_twice),
    "to_float": plain(lambda x: x.to(torch.float32)),
}

_MIXING: dict[str, Operation] = {
    "softmax": along_axis(torch.softmax),
    "log_softmax": along_axis(torch.log_softmax),
    "mean": reduction(torch.mean),
    "sum": reduction(torch.sum),
    "amax": reduction(torch.amax),
    "matmul": Operation((2, 2), lambda t, a, n: torch.matmul(*t), layouts.matmul, {}, costs.product, costs.operands),
    "attention": Operation(
        (3, 4),
        _attend,
        layouts.attention,
        {"is_causal": BOOLEAN, "scale": OPTIONAL_NUMBER},
        costs.attention,
        costs.scores,
    ),
    "max_pool1d": pooling(F.max_pool1d, 1, costs.maxima, dilation=integers(1, 1)),
    "max_pool2d": pooling(F.max_pool2d, 2, costs.maxima, dilation=integers(2, 1)),
    "avg_pool1d": pooling(F.avg_pool1d, 1, costs.first_copied, count_include_pad=BOOLEAN),
    "avg_pool2d": pooling(F.avg_pool2d, 2, costs.first_copied, count_include_pad=BOOLEAN),
    "adaptive_avg_pool1d": adaptive(F.adaptive_avg_pool1d, 1),
    "adaptive_avg_pool2d": adaptive(F.adaptive_avg_pool2d, 2),
}

_MOVING: dict[str, Operation] = {
    "reshape": unary(lambda x, a: x.reshape(a["shape"]), layouts.reshape, shape=integers(None, -1)),
    "permute": unary(lambda x, a: x.permute(a["dims"]), layouts.permutation, dims=AXES),
    "expand": Operation((1, 1), _expand, layouts.expansion, {"shape": integers(None, 0)}),
    "repeat": unary(lambda x, a: x.repeat(a["repeats"]), layouts.repetition, repeats=integers(None, 1)),
    "select": unary(lambda x, a: x.select(a["dim"], a["index"]), layouts.selection, dim=AXIS, index=_POSITION),
    "slice": unary(_slice, SAME, dim=AXIS, **_SPAN),
    "pad": unary(
        lambda x, a: F.pad(x, a["padding"], value=a["value"]),
        layouts.keep(layouts.mixes_padded),
        padding=integers(None, -MAX_INTEGER),
        value=NUMBER,
    ),
    "cat": Operation((1, 256), lambda t, a, n: torch.cat(list(t), a["dim"]), layouts.concatenation, {"dim": AXIS}),
    "arange": Operation((0, 0), _arange, lambda values, attributes, shape: None, _SPAN),
}

FIRST_OPERATIONS: Mapping[str, Operation] = {**_WEIGHTED, **_POINTWISE, **_MIXING, **_MOVING}
"""The operations of the first release. The description of a helper numbers them by name, so nothing is added here."""

OPERATIONS: Mapping[str, Operation] = {**FIRST_OPERATIONS, **LATER_OPERATIONS}
"""Every operation by its name in architecture files."""

WEIGHT_OPERATIONS = ("linear", "conv1d", "conv2d")
"""Operations that are affine maps ``x -> A x + b`` of their first input, with inputs (x, weight[, bias]).

``local_conv2d`` is not among them: it comes of decoding only, and nothing measures or compresses it again.
"""


def attribute_problem(operation: Operation, attributes: Mapping[str, Attribute]) -> str | None:
    """What is wrong with the attributes of a node of ``operation``, or None."""
    if set(attributes) != set(operation.attributes):
        wanted = ", ".join(sorted(operation.attributes)) or "none"
        return f"attributes {', '.join(sorted(attributes)) or 'none'} where {wanted} belong"
    for name, kind in operation.attributes.items():
        if not kind.accepts(attributes[name]):
            return f"{name} = {attributes[name]!r:.80} where {kind.description} belongs"
    return None
