"""Handlers of ATen operators that compare, choose and pick: masks, constants, look-ups, running sums.

Whole numbers and booleans are kept as torch has them: what a handler makes has the type that torch recorded. Minus
infinity, which masks add to scores, becomes -1e38: a softmax makes the same of it, and capture compares the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from bitcert.network.attributes import Attribute
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

_FLOATS = (torch.float32,)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_LARGEST = 1e38


def finite(value: object) -> float:
    """A number, cut off at 1e38: what masks use as infinity."""
    return max(-_LARGEST, min(_LARGEST, number_of(float(value) if isinstance(value, bool) else value)))


def converted(low: Lowering, name: str, source: torch.dtype, target: torch.dtype, hint: str) -> str:
    """A value of type ``source`` as one of type ``target``, as torch converts."""
    kinds = [
        0 if kind in _FLOATS else 1 if kind in _WHOLE else 2 if kind == torch.bool else 3 for kind in (source, target)
    ]
    if 3 in kinds:
        raise Unsupported(f"conversion from {source} to {target}")
    match kinds:
        case [before, after] if before == after:
            return name
        case [0, 1]:
            return low.emit("to_index", [low.emit("trunc", [name], {}, f"{hint}.whole")], {}, hint)
        case [2, 1]:
            return low.emit("to_index", [low.emit("to_float", [name], {}, f"{hint}.float")], {}, hint)
        case [_, 0]:
            return low.emit("to_float", [name], {}, hint)
    return low.emit("not_equal_scalar", [name], {"value": 0.0}, hint)


@handles("aten.to.dtype", "aten.to.dtype_layout", "aten._to_copy.default", "aten.type_as.default", "aten.to.device")
def _convert(low: Lowering, node: fx.Node, args: Args) -> str:
    source, target = value_of(node.args[0]).dtype, value_of(node).dtype
    return converted(low, low.value(node.args[0]), source, target, node.name)


def constant(low: Lowering, node: fx.Node, value: object) -> str:
    """A tensor of the node's recorded shape and type with one value everywhere."""
    shape = low.sizes(node, symbol=1)
    name = low.emit("full", [], {"shape": shape, "value": finite(value)}, node.name)
    name = converted(low, name, torch.float32, value_of(node).dtype, node.name)
    whole = low.sizes(node, symbol=0)
    return name if whole == shape else low.emit("expand", [name], {"shape": whole}, node.name)


@handles(
    *(f"aten.{name}.default" for name in ("full", "full_like", "new_full", "scalar_tensor", "fill")),
    "aten.fill.Scalar",
    "aten.fill_.Scalar",
)
def _full(low: Lowering, node: fx.Node, args: Args) -> str:
    return constant(low, node, next(args[name] for name in ("fill_value", "value", "s") if name in args))


@handles(*(f"aten.{name}.default" for name in ("zeros", "zeros_like", "new_zeros", "zero_")))
def _zeros(low: Lowering, node: fx.Node, args: Args) -> str:
    return constant(low, node, 0.0)


@handles(*(f"aten.{name}.default" for name in ("ones", "ones_like", "new_ones")))
def _ones(low: Lowering, node: fx.Node, args: Args) -> str:
    return constant(low, node, 1.0)


def operand(low: Lowering, node: fx.Node, argument: Any) -> str:
    """A tensor argument, or a number as a tensor without axes."""
    if isinstance(argument, fx.Node):
        return low.value(argument)
    return low.emit("full", [], {"shape": (), "value": finite(argument)}, f"{node.name}.number")


_COMPARED = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}


@handles(*(f"aten.{name}.{kind}" for name in _COMPARED for kind in ("Tensor", "Scalar")))
def _compare(low: Lowering, node: fx.Node, args: Args) -> str:
    op, other = _COMPARED[str(node.target).split(".")[1]], args["other"]
    if isinstance(other, fx.Node):
        return low.apply(op, node, args["self"], other)
    return low.apply(f"{op}_scalar", node, args["self"], value=finite(other))


def _register_logic() -> None:
    for name in ("and", "or", "xor"):
        words = (f"aten.logical_{name}.default", f"aten.bitwise_{name}.Tensor", f"aten.__{name}__.Tensor")

        @handles(*words)
        def _logic(low: Lowering, node: fx.Node, args: Args, op: str = f"logical_{name}") -> str:
            if value_of(node).dtype != torch.bool:
                raise Unsupported("bits of whole numbers")
            return low.apply(op, node, args["self"], args["other"])


_register_logic()


@handles("aten.logical_not.default", "aten.bitwise_not.default")
def _not(low: Lowering, node: fx.Node, args: Args) -> str:
    if value_of(node).dtype != torch.bool:
        raise Unsupported("bits of whole numbers")
    return low.apply("logical_not", node, args["self"])


@handles("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def _where(low: Lowering, node: fx.Node, args: Args) -> str:
    return _chosen(low, node, args["condition"], args["self"], args["other"])


@handles(*(f"aten.masked_fill{mark}.{kind}" for mark in ("", "_") for kind in ("Scalar", "Tensor")))
def _masked(low: Lowering, node: fx.Node, args: Args) -> str:
    return _chosen(low, node, args["mask"], args["value"], args["self"])


def _chosen(low: Lowering, node: fx.Node, condition: Any, yes: Any, no: Any) -> str:
    name = low.emit("where", [low.value(condition), operand(low, node, yes), operand(low, node, no)], {}, node.name)
    # a number among whole numbers was made as a float32
    return low.typed(name, node)


@handles("aten.tril.default", "aten.triu.default")
def _triangle(low: Lowering, node: fx.Node, args: Args) -> str:
    """Entries on one side of a diagonal; all others are 0."""
    value = value_of(args["self"])
    rows, columns = sizes_of(value.shape[-2:])
    span = {"start": 0, "step": 1}
    places = low.emit("arange", [], {**span, "end": columns}, f"{node.name}.columns")
    heights = low.emit("arange", [], {**span, "end": rows}, f"{node.name}.rows")
    heights = low.emit("reshape", [heights], {"shape": (rows, 1)}, f"{node.name}.rows")
    offset = low.emit("sub", [places, heights], {}, f"{node.name}.offset")
    op = "less_equal_scalar" if "tril" in str(node.target) else "greater_equal_scalar"
    inside = low.emit(op, [offset], {"value": float(whole_of(args["diagonal"]))}, f"{node.name}.inside")
    if value.dtype == torch.bool:
        return low.emit("logical_and", [low.value(args["self"]), inside], {}, node.name)
    zero = low.emit("full", [], {"shape": (), "value": 0.0}, f"{node.name}.zero")
    return low.typed(low.emit("where", [inside, low.value(args["self"]), zero], {}, node.name), node)


@handles("aten.cumsum.default")
def _cumsum(low: Lowering, node: fx.Node, args: Args) -> str:
    source, target = value_of(args["self"]).dtype, value_of(node).dtype
    name = converted(low, low.value(args["self"]), source, target, f"{node.name}.of")
    return low.emit("cumsum", [name], {"dim": dims_of(node, args["dim"])[0]}, node.name)


@handles("aten.argmax.default")
def _argmax(low: Lowering, node: fx.Node, args: Args) -> str:
    if args.get("dim") is None:
        raise Unsupported("the place of the largest entry of all samples")
    name = low.apply("argmax", node, args["self"], dim=dims_of(node, args["dim"])[0])
    shape = low.sizes(node, symbol=-1)
    return name if args.get("keepdim") else low.emit("reshape", [name], {"shape": shape}, f"{node.name}.flat")


@handles("aten.any.dim", "aten.all.dim")
def _some(low: Lowering, node: fx.Node, args: Args) -> str:
    flags = converted(low, low.value(args["self"]), value_of(args["self"]).dtype, torch.bool, f"{node.name}.flags")
    numbers = low.emit("to_float", [flags], {}, f"{node.name}.numbers")
    settings: dict[str, Attribute] = {"dim": dims_of(node, args["dim"]), "keepdim": bool(args.get("keepdim"))}
    found = low.emit("amax" if "any" in str(node.target) else "amin", [numbers], settings, f"{node.name}.found")
    return low.emit("not_equal_scalar", [found], {"value": 0.0}, node.name)


@handles("aten.gather.default")
def _gather(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("gather", node, args["self"], args["index"], dim=axis_of(args["self"], whole_of(args["dim"])))


@handles("aten.index_select.default")
def _index_select(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("take", node, args["self"], args["index"], dim=axis_of(args["self"], whole_of(args["dim"])))


@handles("aten.flip.default")
def _flip(low: Lowering, node: fx.Node, args: Args) -> str:
    name = low.value(args["self"])
    for dim in dims_of(node, args["dims"]):
        size = value_of(args["self"]).shape[dim]
        if is_symbolic(size):
            raise Unsupported("the samples of a batch change places")
        places = low.emit("arange", [], {"start": 0, "end": int(size), "step": 1}, f"{node.name}.places")
        turned = low.emit("mul_scalar", [places], {"value": -1.0}, f"{node.name}.turned")
        turned = low.emit("add_scalar", [turned], {"value": float(size - 1)}, f"{node.name}.turned")
        index = low.emit("to_index", [turned], {}, f"{node.name}.index")
        name = low.emit("take", [name, index], {"dim": dim}, node.name)
    return name


@handles("aten.roll.default")
def _roll(low: Lowering, node: fx.Node, args: Args) -> str:
    if not args["dims"]:
        raise Unsupported("a shift of all entries of a batch")
    name = low.value(args["self"])
    for shift, dim in zip(args["shifts"], dims_of(node, args["dims"]), strict=True):
        size = value_of(args["self"]).shape[dim]
        if is_symbolic(size):
            raise Unsupported("the samples of a batch change places")
        cut = -whole_of(shift) % int(size)
        if cut:
            spans = [
                {"dim": dim, "start": cut, "end": int(size), "step": 1},
                {"dim": dim, "start": 0, "end": cut, "step": 1},
            ]
            parts = [low.emit("slice", [name], span, f"{node.name}.part") for span in spans]
            name = low.emit("cat", parts, {"dim": dim}, node.name)
    return name


@handles("aten.index.Tensor")
def _index(low: Lowering, node: fx.Node, args: Args) -> str:
    given: Sequence[Any] = args["indices"]
    used = [k for k, each in enumerate(given) if each is not None]
    if any(value_of(given[k]).dtype == torch.bool for k in used):
        raise Unsupported("entries chosen by a mask, whose number depends on the values")
    if used == [0, 1] and given[0] in low.sample_numbers:
        return _picked_each(low, node, args["self"], given[1])
    if len(used) != 1:
        raise Unsupported("indices of several axes")
    (dim,) = used
    return _picked(low, node, args["self"], given[dim], dim)


def _picked(low: Lowering, node: fx.Node, source: Any, index: Any, dim: int) -> str:
    """Entries along an axis: by constant indices, or rows of a table by any."""
    shape, places = value_of(source).shape, value_of(index).shape
    name = low.value(index)
    if not any(is_symbolic(size) for size in places):
        flat = low.emit("reshape", [name], {"shape": sizes_of([places.numel()])}, f"{node.name}.flat")
        taken = low.emit("take", [low.value(source), flat], {"dim": dim}, node.name)
    elif dim == 0 and not any(is_symbolic(size) for size in shape):
        table = low.emit(
            "reshape", [low.value(source)], {"shape": (int(shape[0]), shape[1:].numel())}, f"{node.name}.table"
        )
        taken = low.emit("embedding", [name, table], {}, node.name)
    else:
        raise Unsupported("indices that differ between the samples of a batch")
    target = low.sizes(node, symbol=-1)
    return low.emit("reshape", [taken], {"shape": target}, f"{node.name}.shaped")


def _picked_each(low: Lowering, node: fx.Node, source: Any, index: Any) -> str:
    """``x[arange(batch), index]``: of each sample the entries at places of its own."""
    shape = value_of(source).shape
    length, width = int(shape[1]), int(shape[2:].numel())
    places = value_of(index)
    if not any(is_symbolic(size) for size in places.shape):
        same = low.emit("reshape", [low.value(index)], {"shape": sizes_of([places.numel()])}, f"{node.name}.places")
        taken = low.emit("take", [low.value(source), same], {"dim": 1}, node.name)
        return low.emit("reshape", [taken], {"shape": low.sizes(node, symbol=-1)}, f"{node.name}.shaped")
    if places.dim() != 1:
        raise Unsupported("several places of each sample")
    flat = low.emit("reshape", [low.value(source)], {"shape": (-1, length, width)}, f"{node.name}.flat")
    column = low.emit("reshape", [low.value(index)], {"shape": (-1, 1, 1)}, f"{node.name}.index")
    wide = low.emit("expand", [column], {"shape": (0, 1, width)}, f"{node.name}.wide")
    # a place counted from the end is below 0
    ends = low.emit("less_scalar", [wide], {"value": 0.0}, f"{node.name}.below")
    moved = low.emit("to_index", [low.emit("add_scalar", [wide], {"value": float(length)}, node.name)], {}, node.name)
    chosen = low.emit("where", [ends, moved, wide], {}, f"{node.name}.places")
    found = low.emit("gather", [flat, chosen], {"dim": 1}, node.name)
    return low.emit("reshape", [found], {"shape": low.sizes(node, symbol=-1)}, f"{node.name}.shaped")
