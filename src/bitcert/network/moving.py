"""Handlers of ATen operators that move, cut, join or repeat entries without arithmetic.

Reshapes are rewritten from recorded shapes; whatever would move entries between samples of a batch is refused here
or, at the latest, by the layout rules. Operators that compute are NOT here but in :mod:`bitcert.network.handlers`.
"""

from __future__ import annotations

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


@handles(
    "aten.view.default",
    "aten.reshape.default",
    "aten._unsafe_view.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.squeeze.default",
    "aten.squeeze.dim",
    "aten.squeeze.dims",
    "aten.unsqueeze.default",
    "aten.view_as.default",
    "aten.reshape_as.default",
)
def _reshape(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("reshape", node, node.args[0], shape=low.sizes(node, symbol=-1))


@handles("aten.permute.default")
def _permute(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("permute", node, args["self"], dims=dims_of(node, args["dims"]))


@handles("aten.transpose.int", "aten.t.default", "aten.numpy_T.default")
def _transpose(low: Lowering, node: fx.Node, args: Args) -> str:
    dims = list(range(value_of(args["self"]).dim()))
    if "dim0" in args:
        first, second = dims_of(node, [args["dim0"], args["dim1"]])
        dims[first], dims[second] = second, first
    else:
        dims.reverse()
    return low.apply("permute", node, args["self"], dims=tuple(dims))


@handles("aten.expand.default", "aten.expand_as.default")
def _expand(low: Lowering, node: fx.Node, args: Args) -> str:
    for size in value_of(node).shape:
        if is_symbolic(size) and str(size) != low.batch:
            raise Unsupported("expansion by a multiple of the batch size")
    return low.apply("expand", node, args["self"], shape=low.sizes(node, symbol=0))


@handles("aten.repeat.default")
def _repeat(low: Lowering, node: fx.Node, args: Args) -> str:
    if all(type(times) is int for times in args["repeats"]):
        return low.apply("repeat", node, args["self"], repeats=tuple(args["repeats"]))
    source = value_of(args["self"])
    pairs = zip([1] * (len(args["repeats"]) - source.dim()) + list(source.shape), args["repeats"], strict=True)
    if any(size != 1 and times != 1 for size, times in pairs):
        raise Unsupported("repetition along the batch")
    return low.apply("expand", node, args["self"], shape=low.sizes(node, symbol=0))


@handles("aten.select.int")
def _select(low: Lowering, node: fx.Node, args: Args) -> str:
    dim = dims_of(node, args["dim"])[0]
    size, index = value_of(args["self"]).shape[dim], whole_of(args["index"])
    if is_symbolic(size):
        raise Unsupported("one sample of the batch is picked")
    return low.apply("select", node, args["self"], dim=dim, index=index + int(size) if index < 0 else index)


@handles("aten.slice.Tensor")
def _slice(low: Lowering, node: fx.Node, args: Args) -> str:
    dim = dims_of(node, args["dim"])[0]
    before, after = value_of(args["self"]).shape[dim], value_of(node).shape[dim]
    if str(before) == str(after):
        return low.value(args["self"])
    if is_symbolic(before):
        raise Unsupported("part of the batch is picked")
    start, end, step = slice(args["start"], args["end"], args["step"]).indices(int(before))
    return low.apply("slice", node, args["self"], dim=dim, start=start, end=end, step=step)


@handles(
    "aten.chunk.default",
    "aten.split.Tensor",
    "aten.split.sizes",
    "aten.split_with_sizes.default",
    "aten.tensor_split.sections",
)
def _split(low: Lowering, node: fx.Node, args: Args) -> list[str]:
    dim, source = dims_of(node, args["dim"])[0], low.value(args["self"])
    parts, start = [], 0
    for k, part in enumerate(node.meta["val"]):
        size = whole_of(part.shape[dim])
        span = {"dim": dim, "start": start, "end": start + size, "step": 1}
        parts.append(low.emit("slice", [source], span, f"{node.name}.{k}"))
        start += size
    return parts


@handles("aten.unbind.int")
def _unbind(low: Lowering, node: fx.Node, args: Args) -> list[str]:
    dim, source = dims_of(node, args["dim"])[0], low.value(args["self"])
    count = whole_of(value_of(args["self"]).shape[dim])
    return [low.emit("select", [source], {"dim": dim, "index": k}, f"{node.name}.{k}") for k in range(count)]


@handles("operator.getitem")
def _getitem(low: Lowering, node: fx.Node, args: Args) -> str:
    source = node.args[0]
    parts = low.results.get(source) if isinstance(source, fx.Node) else None
    place = whole_of(node.args[1])
    if not isinstance(parts, list) or place >= len(parts):
        raise Unsupported("one of several results of an unsupported operation")
    chosen: str = parts[place]
    return chosen


@handles("aten.pad.default", "aten.constant_pad_nd.default")
def _pad(low: Lowering, node: fx.Node, args: Args) -> str:
    padding, mode = sizes_of(args["pad"]), args.get("mode", "constant")
    if mode in ("reflect", "replicate"):
        return low.apply(f"pad_{mode}", node, args["self"], padding=padding)
    if mode == "circular":
        return _wrapped(low, node, args["self"], padding)
    if mode != "constant":
        raise Unsupported(f"padding mode {mode!r}")
    return low.apply("pad", node, args["self"], padding=padding, value=number_of(args["value"] or 0))


def _wrapped(low: Lowering, node: fx.Node, source: fx.Node, padding: tuple[int, ...]) -> str:
    """Each end continued with the entries of the other one."""
    name, shape = low.value(source), value_of(source).shape
    for k in range(0, len(padding), 2):
        dim = len(shape) - 1 - k // 2
        size, before, after = whole_of(shape[dim]), padding[k], padding[k + 1]
        if not 0 <= min(before, after) <= max(before, after) <= size:
            raise Unsupported("circular padding longer than the axis")
        spans = [(size - before, size), (0, size), (0, after)]
        parts = [
            low.emit("slice", [name], {"dim": dim, "start": start, "end": end, "step": 1}, f"{node.name}.part")
            for start, end in spans
            if end > start
        ]
        name = low.emit("cat", parts, {"dim": dim}, node.name)
    return name


@handles("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def _cat(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("cat", node, *args["tensors"], dim=axis_of(node, args["dim"]))


@handles("aten.stack.default")
def _stack(low: Lowering, node: fx.Node, args: Args) -> str:
    dim = axis_of(node, args["dim"])
    whole = list(low.sizes(node, symbol=-1))
    whole[dim] = 1
    parts = [low.emit("reshape", [low.value(t)], {"shape": tuple(whole)}, f"{node.name}.in") for t in args["tensors"]]
    return low.emit("cat", parts, {"dim": dim}, node.name)


@handles("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def _arange(low: Lowering, node: fx.Node, args: Args) -> str:
    if is_symbolic(args["end"]) or (isinstance(args["end"], fx.Node) and args.get("start", 0) == 0):
        low.sample_numbers.add(node)
        return ""
    start, end, step = args.get("start", 0), args["end"], args.get("step", 1)
    whole = all(float(number) == int(number) for number in (start, end, step))
    if not whole or start < 0 or step < 1:
        raise Unsupported("a range of numbers that are not whole, or that falls")
    name = low.apply("arange", node, start=int(start), end=int(end), step=int(step))
    return low.emit("to_float", [name], {}, node.name) if value_of(node).dtype == torch.float32 else name
