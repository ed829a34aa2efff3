"""The operations a captured network may consist of, and nothing else.

Each entry says how many tensors it takes, which attributes with which ranges, how to compute it with torch,
how it treats the batch (:mod:`bitcert.network.layouts`) and what it costs. Architecture files are read through
this table only: a name that is not a key here is refused, and no torch attribute is ever looked up by a name
from a file. The table does NOT choose how weights are stored or coded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    Kind,
    integer,
    integers,
)
from bitcert.network.costs import Cost
from bitcert.network.layouts import Attributes, LayoutRule

Run = Callable[[Sequence[Tensor], Any, int], Tensor]

_MAX_PATCH_ENTRIES = 1 << 24
"""Entries of the unfolded input of a locally connected layer at a time, unless one example has more."""


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        arity: least and greatest number of input tensors.
        run: ``(tensors, attributes, batch_size) -> tensor``.
        layout: rule that follows the batch or raises ``LayoutError``.
        attributes: name and allowed values of every attribute; all are required.
        cost: floating-point operations from input shapes and output shape.
        scratch: entries it takes beside inputs and output while it runs, from the same.
    """

    arity: tuple[int, int]
    run: Run
    layout: LayoutRule
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    cost: Cost = costs.entries
    scratch: Cost = costs.nothing


def _unary(function: Any, scratch: Cost = costs.nothing) -> Operation:
    return Operation((1, 1), lambda t, a, n: function(t[0]), layouts.pointwise, scratch=scratch)


def _binary(function: Any) -> Operation:
    return Operation((2, 2), lambda t, a, n: function(t[0], t[1]), layouts.pointwise)


def _scalar(function: Callable[[Tensor, float], Tensor]) -> Operation:
    return Operation((1, 1), lambda t, a, n: function(t[0], a["value"]), layouts.pointwise, {"value": NUMBER})


def _conv(function: Callable[..., Tensor], dims: int) -> Operation:
    kinds = {
        "stride": integers(dims, 1),
        "padding": integers(dims, 0),
        "dilation": integers(dims, 1),
        "groups": integer(1),
    }
    return Operation(
        (2, 3),
        lambda t, a, n: function(*t, **a),
        layouts.leading(dims + 2),
        kinds,
        costs.weighted,
        costs.unfolded,
    )


def output_size(size: Sequence[int], kernel: Sequence[int], attributes: Attributes) -> tuple[int, ...]:
    """Sizes of the output map of a convolution with ``padding``, ``dilation`` and ``stride`` among its attributes."""
    settings = [attributes[name] for name in ("padding", "dilation", "stride")]
    axes = zip(size, kernel, *(s for s in settings if isinstance(s, tuple)), strict=True)
    return tuple((length + 2 * pad - gap * (taps - 1) - 1) // step + 1 for length, taps, pad, gap, step in axes)


def _local_conv2d(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    """A convolution with its own filters at every output position.

    ``t`` is ``x [B, C, H, W]``, filters ``[P, out, C / groups, kh, kw]`` with the ``P`` output positions in row-major
    order, and optionally a bias ``[out]`` that all positions share.
    """
    x, filters, groups = t[0], t[1], int(a["groups"])
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
    return result if len(t) < 3 else result + t[2].reshape(1, -1, 1, 1)


def _pool(
    function: Callable[..., Tensor], dims: int, extra: Mapping[str, Kind], scratch: Cost = costs.first_copied
) -> Operation:
    kinds = {
        "kernel_size": integers(dims, 1),
        "stride": integers(dims, 1),
        "padding": integers(dims, 0),
        "ceil_mode": BOOLEAN,
        **extra,
    }
    rule = layouts.leading(dims + 2)
    return Operation((1, 1), lambda t, a, n: function(t[0], **a), rule, kinds, costs.pooled, scratch)


def _adaptive(function: Callable[..., Tensor], dims: int) -> Operation:
    kinds = {"output_size": integers(dims, 1)}
    rule = layouts.leading(dims + 2)
    return Operation((1, 1), lambda t, a, n: function(t[0], a["output_size"]), rule, kinds, scratch=costs.first_copied)


def _reduce(function: Callable[..., Tensor]) -> Operation:
    return Operation(
        (1, 1),
        lambda t, a, n: function(t[0], dim=a["dim"], keepdim=a["keepdim"]),
        layouts.reduction,
        {"dim": AXES, "keepdim": BOOLEAN},
    )


def _affine_channel(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    shape = (1, -1) + (1,) * (t[0].dim() - 2)
    return t[0] * t[1].reshape(shape) + t[2].reshape(shape)


def _gain_and_shift(t: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    return t[1] if len(t) > 1 else None, t[2] if len(t) > 2 else None


def _slice(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    index = (slice(None),) * int(a["dim"]) + (slice(a["start"], a["end"], a["step"]),)
    return t[0][index]


def _expand(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    return t[0].expand([n if size == 0 else size for size in a["shape"]])


def _attend(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    mask = t[3] if len(t) == 4 else None
    return F.scaled_dot_product_attention(t[0], t[1], t[2], attn_mask=mask, is_causal=a["is_causal"], scale=a["scale"])


def _arange(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
    return torch.arange(a["start"], a["end"], a["step"])


_POSITION = integer(0)
_SIZES = integers(None, -1)
_SOFTMAX = {"dim": AXIS}
_SAME = layouts.keep(layouts.mixes_dims)
_DILATED = {1: {"dilation": integers(1, 1)}, 2: {"dilation": integers(2, 1)}}
_PADDED = {"count_include_pad": BOOLEAN}

_WEIGHTED: dict[str, Operation] = {
    "linear": Operation(
        (2, 3),
        lambda t, a, n: F.linear(*t),
        layouts.keep(layouts.mixes_last),
        {},
        costs.weighted,
        costs.first_copied,
    ),
    "conv1d": _conv(F.conv1d, 1),
    "conv2d": _conv(F.conv2d, 2),
    "local_conv2d": Operation(
        (2, 3),
        _local_conv2d,
        layouts.leading(4),
        {"stride": integers(2, 1), "padding": integers(2, 0), "dilation": integers(2, 1), "groups": integer(1)},
        costs.local_weighted,
        costs.local_windows,
    ),
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
        name: _unary(function)
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
        name: _binary(function)
        for name, function in {
            "add": torch.add,
            "sub": torch.sub,
            "mul": torch.mul,
            "div": torch.div,
            "maximum": torch.maximum,
            "minimum": torch.minimum,
        }.items()
    },
    "add_scalar": _scalar(lambda x, value: x + value),
    "mul_scalar": _scalar(lambda x, value: x * value),
    "div_scalar": _scalar(lambda x, value: x / value),
    "pow_scalar": _scalar(lambda x, value: x**value),
    "leaky_relu": Operation(
        (1, 1),
        lambda t, a, n: F.leaky_relu(t[0], a["negative_slope"]),
        layouts.pointwise,
        {"negative_slope": NUMBER},
    ),
    "elu": Operation((1, 1), lambda t, a, n: F.elu(t[0], a["alpha"]), layouts.pointwise, {"alpha": NUMBER}),
    "gelu": Operation(
        (1, 1),
        lambda t, a, n: F.gelu(t[0], approximate="tanh" if a["tanh"] else "none"),
        layouts.pointwise,
        {"tanh": BOOLEAN},
    ),
    "softplus": Operation(
        (1, 1),
        lambda t, a, n: F.softplus(t[0], a["beta"], a["threshold"]),
        layouts.pointwise,
        {"beta": NUMBER, "threshold": NUMBER},
    ),
    "clamp": Operation(
        (1, 1),
        lambda t, a, n: torch.clamp(t[0], a["min"], a["max"]),
        layouts.pointwise,
        {"min": OPTIONAL_NUMBER, "max": OPTIONAL_NUMBER},
    ),
    "to_index": _unary(lambda x: x.round().to(torch.int64), costs.result_twice),
    "to_float": _unary(lambda x: x.to(torch.float32)),
}

_MIXING: dict[str, Operation] = {
    "softmax": Operation(
        (1, 1), lambda t, a, n: torch.softmax(t[0], a["dim"]), _SAME, _SOFTMAX, scratch=costs.first_copied
    ),
    "log_softmax": Operation(
        (1, 1), lambda t, a, n: torch.log_softmax(t[0], a["dim"]), _SAME, _SOFTMAX, scratch=costs.first_copied
    ),
    "mean": _reduce(torch.mean),
    "sum": _reduce(torch.sum),
    "amax": _reduce(torch.amax),
    "matmul": Operation(
        (2, 2), lambda t, a, n: torch.matmul(t[0], t[1]), layouts.matmul, {}, costs.product, costs.operands
    ),
    "attention": Operation(
        (3, 4),
        _attend,
        layouts.attention,
        {"is_causal": BOOLEAN, "scale": OPTIONAL_NUMBER},
        costs.attention,
        costs.scores,
    ),
    "max_pool1d": _pool(F.max_pool1d, 1, _DILATED[1], costs.maxima),
    "max_pool2d": _pool(F.max_pool2d, 2, _DILATED[2], costs.maxima),
    "avg_pool1d": _pool(F.avg_pool1d, 1, _PADDED),
    "avg_pool2d": _pool(F.avg_pool2d, 2, _PADDED),
    "adaptive_avg_pool1d": _adaptive(F.adaptive_avg_pool1d, 1),
    "adaptive_avg_pool2d": _adaptive(F.adaptive_avg_pool2d, 2),
}

_MOVING: dict[str, Operation] = {
    "reshape": Operation((1, 1), lambda t, a, n: t[0].reshape(a["shape"]), layouts.reshape, {"shape": _SIZES}),
    "permute": Operation((1, 1), lambda t, a, n: t[0].permute(a["dims"]), layouts.permutation, {"dims": AXES}),
    "expand": Operation((1, 1), _expand, layouts.expansion, {"shape": integers(None, 0)}),
    "repeat": Operation(
        (1, 1), lambda t, a, n: t[0].repeat(a["repeats"]), layouts.repetition, {"repeats": integers(None, 1)}
    ),
    "select": Operation(
        (1, 1),
        lambda t, a, n: t[0].select(a["dim"], a["index"]),
        layouts.selection,
        {"dim": AXIS, "index": _POSITION},
    ),
    "slice": Operation(
        (1, 1),
        _slice,
        _SAME,
        {"dim": AXIS, "start": _POSITION, "end": _POSITION, "step": integer(1)},
    ),
    "pad": Operation(
        (1, 1),
        lambda t, a, n: F.pad(t[0], a["padding"], value=a["value"]),
        layouts.keep(layouts.mixes_padded),
        {"padding": integers(None, -MAX_INTEGER), "value": NUMBER},
    ),
    "cat": Operation((1, 256), lambda t, a, n: torch.cat(list(t), a["dim"]), layouts.concatenation, {"dim": AXIS}),
    "arange": Operation(
        (0, 0),
        _arange,
        lambda values, attributes, shape: None,
        {"start": _POSITION, "end": _POSITION, "step": integer(1)},
    ),
}

OPERATIONS: Mapping[str, Operation] = {**_WEIGHTED, **_POINTWISE, **_MIXING, **_MOVING}
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
