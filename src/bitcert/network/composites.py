"""Operators that are several operations of an architecture: gated units, RMS norm, variances, norms, pixel shuffle.

Each handler writes the operator out in operations that exist; capture then compares the result with the module itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from bitcert.network.lowering import (
    Args,
    Lowering,
    Unsupported,
    axis_of,
    dims_of,
    handles,
    is_symbolic,
    number_of,
    sizes_of,
    value_of,
    whole_of,
)


def _product(low: Lowering, one: str, other: str, hint: str) -> str:
    return low.emit("mul", [one, other], {}, hint)


def _reduced(low: Lowering, op: str, source: str, dims: tuple[int, ...], keepdim: bool, hint: str) -> str:
    return low.emit(op, [source], {"dim": dims, "keepdim": keepdim}, hint)


@handles("aten.glu.default")
def _gated(low: Lowering, node: fx.Node, args: Args) -> str:
    dim, source = axis_of(args["self"], whole_of(args["dim"])), low.value(args["self"])
    half = whole_of(value_of(node).shape[dim])
    spans = [{"dim": dim, "start": start, "end": start + half, "step": 1} for start in (0, half)]
    value, gate = (low.emit("slice", [source], span, f"{node.name}.part") for span in spans)
    return _product(low, value, low.emit("sigmoid", [gate], {}, f"{node.name}.gate"), node.name)


@handles("aten.rms_norm.default")
def _rms_norm(low: Lowering, node: fx.Node, args: Args) -> str:
    source, ndim = low.value(args["input"]), value_of(args["input"]).dim()
    dims = tuple(range(ndim - len(args["normalized_shape"]), ndim))
    eps = torch.finfo(torch.float32).eps if args.get("eps") is None else number_of(args["eps"])
    square = _product(low, source, source, f"{node.name}.square")
    mean = _reduced(low, "mean", square, dims, True, f"{node.name}.mean")
    scale = low.emit(
        "rsqrt", [low.emit("add_scalar", [mean], {"value": eps}, f"{node.name}.eps")], {}, f"{node.name}.scale"
    )
    normed = _product(low, source, scale, node.name)
    weight = args.get("weight")
    return normed if weight is None else _product(low, normed, low.value(weight), f"{node.name}.gain")


@handles("aten.pixel_shuffle.default")
def _pixel_shuffle(low: Lowering, node: fx.Node, args: Args) -> str:
    factor, shape = whole_of(args["upscale_factor"]), value_of(args["self"]).shape
    if len(shape) != 4 or not is_symbolic(shape[0]):
        raise Unsupported("pixels of other inputs than a batch of maps are shuffled")
    channels, height, width = (whole_of(size) for size in shape[1:])
    channels //= factor**2
    split = low.emit(
        "reshape",
        [low.value(args["self"])],
        {"shape": (-1, channels, factor, factor, height, width)},
        f"{node.name}.split",
    )
    turned = low.emit("permute", [split], {"dims": (0, 1, 4, 2, 5, 3)}, f"{node.name}.turned")
    return low.emit("reshape", [turned], {"shape": (-1, channels, height * factor, width * factor)}, node.name)


@handles(*(f"aten.{name}.{kind}" for name in ("var", "std") for kind in ("dim", "correction", "default")))
def _variance(low: Lowering, node: fx.Node, args: Args) -> str:
    source, shape = low.value(args["self"]), value_of(args["self"]).shape
    dims = dims_of(node, args.get("dim"))
    count = math.prod(whole_of(shape[dim]) for dim in dims)
    correction = float(args.get("unbiased", True)) if "correction" not in args else _correction(args["correction"])
    if count <= correction:
        raise Unsupported(f"a variance of {count} numbers with a correction of {correction:g}")
    mean = _reduced(low, "mean", source, dims, True, f"{node.name}.mean")
    distance = low.emit("sub", [source, mean], {}, f"{node.name}.distance")
    square = _product(low, distance, distance, f"{node.name}.square")
    found = _reduced(low, "mean", square, dims, bool(args.get("keepdim", False)), f"{node.name}.spread")
    name = f"{node.name}.variance" if "std" in str(node.target) else node.name
    found = low.emit("mul_scalar", [found], {"value": count / (count - correction)}, name)
    return low.emit("sqrt", [found], {}, node.name) if "std" in str(node.target) else found


def _correction(value: Any) -> float:
    return 1.0 if value is None else number_of(value)


@handles("aten.linalg_vector_norm.default")
def _norm(low: Lowering, node: fx.Node, args: Args) -> str:
    order = args.get("ord", 2)
    if order not in (1, 2, math.inf) or args.get("dtype") is not None:
        raise Unsupported("a norm other than the sum, the Euclidean one or the largest entry")
    source, dims, keep = low.value(args["self"]), dims_of(node, args.get("dim")), bool(args.get("keepdim", False))
    if order != 2:
        sizes = low.emit("abs", [source], {}, f"{node.name}.size")
        return _reduced(low, "sum" if order == 1 else "amax", sizes, dims, keep, node.name)
    square = _product(low, source, source, f"{node.name}.square")
    total = _reduced(low, "sum", square, dims, keep, f"{node.name}.sum")
    return low.emit("sqrt", [total], {}, node.name)


@handles("aten.dot.default", "aten.vdot.default")
def _dot(low: Lowering, node: fx.Node, args: Args) -> str:
    product = low.emit("mul", low.values(*node.args[:2]), {}, f"{node.name}.product")
    return _reduced(low, "sum", product, (0,), False, node.name)


@handles("aten._weight_norm.default")
def _weight_norm(low: Lowering, node: fx.Node, args: Args) -> str:
    """``g v / ||v||``, with the norm over all axes but one."""
    direction, ndim = low.value(args["v"]), value_of(args["v"]).dim()
    dims = tuple(k for k in range(ndim) if k != whole_of(args["dim"]) % ndim)
    square = _product(low, direction, direction, f"{node.name}.square")
    length = low.emit("sqrt", [_reduced(low, "sum", square, dims, True, f"{node.name}.sum")], {}, f"{node.name}.norm")
    unit = low.emit("div", [direction, length], {}, f"{node.name}.unit")
    return _product(low, unit, low.value(args["g"]), node.name)


@handles("aten.bilinear.default")
def _bilinear(low: Lowering, node: fx.Node, args: Args) -> str:
    """``y_o = x W_o z + b_o``: one matrix for ``x``, then a sum over ``z``."""
    outputs, first, second = sizes_of(value_of(args["weight"]).shape)
    if value_of(args["input1"]).dim() != 2 or not is_symbolic(value_of(args["input1"]).shape[0]):
        raise Unsupported("a bilinear map of other inputs than [batch, features]")
    turned = low.emit("permute", [low.value(args["weight"])], {"dims": (1, 0, 2)}, f"{node.name}.turned")
    matrix = low.emit("reshape", [turned], {"shape": (first, outputs * second)}, f"{node.name}.matrix")
    product = low.emit("matmul", [low.value(args["input1"]), matrix], {}, f"{node.name}.product")
    split = low.emit("reshape", [product], {"shape": (-1, outputs, second)}, f"{node.name}.split")
    other = low.emit("reshape", [low.value(args["input2"])], {"shape": (-1, 1, second)}, f"{node.name}.other")
    found = _reduced(low, "sum", _product(low, split, other, f"{node.name}.each"), (2,), False, node.name)
    return found if args["bias"] is None else low.emit("add", [found, low.value(args["bias"])], {}, f"{node.name}.bias")
