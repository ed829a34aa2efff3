"""One handler per ATen operator: which whitelisted operation it is, with which attributes.

Handlers read argument names of ATen's schemas. Anything they do not expect raises ``Unsupported`` with a reason
a user can act on. Importing this module fills :data:`bitcert.network.lowering.HANDLERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from bitcert.network import choosing, composites, moving, recurrent, resizing  # noqa: F401  (they fill the table with their handlers)
from bitcert.network.attributes import Attribute
from bitcert.network.choosing import finite, operand
from bitcert.network.lowering import (
    HANDLERS,
    Args,
    Lowering,
    Unsupported,
    dims_of,
    handles,
    is_symbolic,
    number_of,
    operator_of,
    sizes_of,
    tuple_of,
    value_of,
    whole_of,
)


@handles(
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.detach.default",
    "aten.detach_.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    "aten.lift_fresh.default",
)
def _identity(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.value(node.args[0])


@handles(
    "aten.dropout.default",
    "aten.dropout_.default",
    "aten.feature_dropout.default",
    "aten.alpha_dropout.default",
    "aten.native_dropout.default",
)
def _dropout(low: Lowering, node: fx.Node, args: Args) -> str:
    if args.get("train"):
        raise Unsupported("dropout is active in evaluation mode, so randomness is left")
    return low.value(node.args[0])


def _direct(op: str, *targets: str, inputs: Sequence[str] = ("self",), **settings: Callable[[Any], Attribute]) -> None:
    """Registers operators that are one operation: the arguments that are its inputs, and how each setting is read."""

    @handles(*targets)
    def _handler(low: Lowering, node: fx.Node, args: Args) -> str:
        attributes = {name: read(args[name]) for name, read in settings.items()}
        return low.apply(op, node, *(args[name] for name in inputs), **attributes)


_AFFINE = ("input", "weight", "bias")
_UNARY: tuple[str, ...] = ("relu", "silu", "tanh", "sigmoid", "hardswish", "hardsigmoid", "mish", "selu")
_UNARY += ("exp", "log", "abs", "neg", "sqrt", "rsqrt", "reciprocal")
_UNARY += ("trunc", "floor", "ceil", "round", "sign", "cos", "sin", "erf", "log1p", "expm1", "atan")

for _op in _UNARY:
    _direct(_op, f"aten.{_op}.default", f"aten.{_op}_.default")
for _op in ("maximum", "minimum"):
    _direct(_op, f"aten.{_op}.default", f"aten.{_op[:3]}.other", inputs=("self", "other"))
for _op, _kind in (("maximum", "min"), ("minimum", "max")):
    _direct(_op, f"aten.clamp_{_kind}.Tensor", inputs=("self", _kind))
_direct("linear", "aten.linear.default", inputs=_AFFINE)
_direct("layer_norm", "aten.layer_norm.default", inputs=_AFFINE, normalized_shape=sizes_of, eps=number_of)
_direct("group_norm", "aten.group_norm.default", inputs=_AFFINE, num_groups=whole_of, eps=number_of)
_direct("leaky_relu", "aten.leaky_relu.default", "aten.leaky_relu_.default", negative_slope=number_of)
_direct("softplus", "aten.softplus.default", beta=number_of, threshold=number_of)
_direct("prelu", "aten.prelu.default", inputs=("self", "weight"))
_direct("embedding", "aten.embedding.default", inputs=("indices", "weight"))
_direct("matmul", "aten.matmul.default", inputs=("self", "other"))
_direct("matmul", "aten.bmm.default", "aten.mm.default", inputs=("self", "mat2"))


def _pad_same(low: Lowering, node: fx.Node, args: Args, dims: int) -> tuple[str, tuple[int, ...]]:
    """Padding of a convolution written ``'same'`` or ``'valid'``; uneven padding becomes its own node."""
    source = low.value(args["input"])
    if args["padding"] == "valid":
        return source, (0,) * dims
    kernel = [whole_of(size) for size in value_of(args["weight"]).shape[2:]]
    totals = [d * (k - 1) for d, k in zip(tuple_of(args["dilation"], dims), kernel, strict=True)]
    if all(total % 2 == 0 for total in totals):
        return source, tuple(total // 2 for total in totals)
    padding = tuple(side for total in reversed(totals) for side in (total // 2, total - total // 2))
    return low.emit("pad", [source], {"padding": padding, "value": 0.0}, f"{node.name}.pad"), (0,) * dims


@handles("aten.conv1d.default", "aten.conv2d.default", "aten.conv1d.padding", "aten.conv2d.padding")
def _conv(low: Lowering, node: fx.Node, args: Args) -> str:
    dims = value_of(args["weight"]).dim() - 2
    if value_of(args["input"]).dim() != dims + 2:
        raise Unsupported("a convolution of an input without a batch axis")
    if isinstance(args["padding"], str):
        source, padding = _pad_same(low, node, args, dims)
    else:
        source, padding = low.value(args["input"]), tuple_of(args["padding"], dims)
    stride, dilation = tuple_of(args["stride"], dims), tuple_of(args["dilation"], dims)
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    inputs = [source, *low.values(args["weight"], args["bias"])]
    return low.emit(f"conv{dims}d", inputs, {**settings, "groups": whole_of(args["groups"])}, node.name)


@handles("aten.batch_norm.default")
def _batch_norm(low: Lowering, node: fx.Node, args: Args) -> str:
    if args["training"] or args["running_mean"] is None:
        raise Unsupported("batch norm that uses the statistics of the batch, so samples see each other")
    # "batch_norm" is not on the whitelist: folding replaces it by the layer before or by affine_channel
    optional = [args["weight"], args["bias"]]
    names = ["" if part is None else low.value(part) for part in optional]
    inputs = [low.value(args["input"]), *names, *low.values(args["running_mean"], args["running_var"])]
    flat = value_of(args["input"]).dim() == 2
    return low.emit("batch_norm", inputs, {"eps": number_of(args["eps"]), "channels_last": flat}, node.name)


@handles("aten.instance_norm.default")
def _instance_norm(low: Lowering, node: fx.Node, args: Args) -> str:
    if args["running_mean"] is not None:
        raise Unsupported("instance norm with running statistics")
    channels = whole_of(value_of(args["input"]).shape[1])
    inputs = args["input"], args["weight"], args["bias"]
    return low.apply("group_norm", node, *inputs, num_groups=channels, eps=number_of(args["eps"]))


@handles("aten.gelu.default")
def _gelu(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("gelu", node, args["self"], tanh=args["approximate"] == "tanh")


@handles("aten.elu.default", "aten.elu_.default")
def _elu(low: Lowering, node: fx.Node, args: Args) -> str:
    if args["scale"] != 1 or args["input_scale"] != 1:
        raise Unsupported("elu with a scale")
    return low.apply("elu", node, args["self"], alpha=number_of(args["alpha"]))


def _clamp(low: Lowering, node: fx.Node, lowest: object, highest: object) -> str:
    least, most = (None if bound is None else number_of(bound) for bound in (lowest, highest))
    return low.apply("clamp", node, node.args[0], min=least, max=most)


@handles("aten.hardtanh.default", "aten.hardtanh_.default")
def _hardtanh(low: Lowering, node: fx.Node, args: Args) -> str:
    return _clamp(low, node, args["min_val"], args["max_val"])


@handles("aten.relu6.default", "aten.relu6_.default")
def _relu6(low: Lowering, node: fx.Node, args: Args) -> str:
    return _clamp(low, node, 0.0, 6.0)


@handles("aten.clamp.default", "aten.clamp_.default", "aten.clamp_min.default", "aten.clamp_max.default")
def _clamp_any(low: Lowering, node: fx.Node, args: Args) -> str:
    return _clamp(low, node, args.get("min"), args.get("max"))


@handles("aten.softmax.int", "aten._softmax.default", "aten.log_softmax.int", "aten._log_softmax.default")
def _softmax(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply(operator_of(node), node, args["self"], dim=dims_of(node, args["dim"])[0])


@handles(
    "aten.mean.dim",
    "aten.mean.default",
    "aten.sum.dim_IntList",
    "aten.sum.default",
    "aten.amax.default",
    "aten.amin.default",
)
def _reduce(low: Lowering, node: fx.Node, args: Args) -> str:
    if args.get("dtype") not in (None, torch.float32, torch.int64):
        raise Unsupported("a reduction into another dtype")
    keepdim = bool(args.get("keepdim", False))
    return low.apply(operator_of(node), node, args["self"], dim=dims_of(node, args.get("dim")), keepdim=keepdim)


@handles(*(f"aten.{kind}_pool{dims}d.default" for kind in ("max", "avg") for dims in (1, 2, 3)))
def _pool(low: Lowering, node: fx.Node, args: Args) -> str:
    if args.get("divisor_override") is not None:
        raise Unsupported("average pooling with a divisor of its own")
    op = operator_of(node)
    dims = int(op[-2])
    settings: dict[str, Attribute] = {
        "kernel_size": tuple_of(args["kernel_size"], dims),
        "stride": tuple_of(args["stride"] or args["kernel_size"], dims),
        "padding": tuple_of(args["padding"], dims),
        "ceil_mode": bool(args["ceil_mode"]),
    }
    if "dilation" in args:
        settings["dilation"] = tuple_of(args["dilation"], dims)
    else:
        settings["count_include_pad"] = bool(args["count_include_pad"])
    return low.apply(op, node, node.args[0], **settings)


@handles(*(f"aten.adaptive_avg_pool{dims}d.default" for dims in (1, 2, 3)))
def _adaptive_pool(low: Lowering, node: fx.Node, args: Args) -> str:
    op = operator_of(node)
    return low.apply(op, node, args["self"], output_size=sizes_of(value_of(node).shape[-int(op[-2]) :]))


@handles("aten.adaptive_max_pool1d.default", "aten.adaptive_max_pool2d.default")
def _adaptive_max_pool(low: Lowering, node: fx.Node, args: Args) -> list[str]:
    """The largest entries, without their places: of a whole map, or of windows of one size that fill it."""
    dims = int(operator_of(node)[-2])
    before = sizes_of(value_of(args["self"]).shape[-dims:])
    after = tuple_of(args["output_size"], dims)
    source, axes = low.value(args["self"]), tuple(range(value_of(args["self"]).dim()))[-dims:]
    if set(after) == {1}:
        return [low.emit("amax", [source], {"dim": axes, "keepdim": True}, node.name)]
    if any(size % count for size, count in zip(before, after, strict=True)):
        raise Unsupported(f"windows of different sizes, of {list(before)} entries for {list(after)} results")
    window = tuple(size // count for size, count in zip(before, after, strict=True))
    settings: dict[str, Attribute] = {"kernel_size": window, "stride": window, "padding": (0,) * dims}
    settings |= {"ceil_mode": False, "dilation": (1,) * dims}
    return [low.emit(f"max_pool{dims}d", [source], settings, node.name)]


@handles("aten.max.dim", "aten.min.dim")
def _largest(low: Lowering, node: fx.Node, args: Args) -> list[str]:
    settings: dict[str, Attribute] = {"dim": dims_of(node, args["dim"]), "keepdim": bool(args.get("keepdim", False))}
    source = low.value(args["self"])
    found = [low.emit(f"a{operator_of(node)}", [source], settings, node.name)]
    if any(user.args[1:] == (1,) for user in node.users):
        source = source if operator_of(node) == "max" else low.emit("neg", [source], {}, f"{node.name}.neg")
        place = low.emit("argmax", [source], {"dim": dims_of(node, args["dim"])[0]}, f"{node.name}.place")
        found.append(place if settings["keepdim"] else _flat(low, node, place))
    return found


def _flat(low: Lowering, node: fx.Node, place: str) -> str:
    sizes = node.meta["val"][1].shape
    shape = tuple(-1 if is_symbolic(size) else int(size) for size in sizes)
    return low.emit("reshape", [place], {"shape": shape}, f"{node.name}.flat")


def _scaled(low: Lowering, operand: object, alpha: object, hint: str) -> str:
    if alpha in (1, None):
        return low.value(operand)
    return low.emit("mul_scalar", [low.value(operand)], {"value": number_of(alpha)}, f"{hint}.alpha")


_BINARY = {op: op for op in ("add", "sub", "mul", "div")} | {"multiply": "mul", "subtract": "sub", "divide": "div"}


@handles(*(f"aten.{op}{mark}.{kind}" for op in _BINARY for mark in ("", "_") for kind in ("Tensor", "Scalar")))
def _binary(low: Lowering, node: fx.Node, args: Args) -> str:
    op, other, alpha = _BINARY[operator_of(node)], args["other"], args.get("alpha")
    if isinstance(other, fx.Node) and isinstance(other.meta.get("val"), torch.Tensor):
        return low.emit(op, [low.value(args["self"]), _scaled(low, other, alpha, node.name)], {}, node.name)
    value = finite(other) * (1.0 if alpha is None else number_of(alpha))
    op, value = ("add", -value) if op == "sub" else (op, value)
    return low.typed(low.apply(f"{op}_scalar", node, args["self"], value=value), node)


@handles("aten.rsub.Scalar")
def _rsub(low: Lowering, node: fx.Node, args: Args) -> str:
    negative = low.emit(
        "mul_scalar", [low.value(args["self"])], {"value": -number_of(args["alpha"])}, f"{node.name}.neg"
    )
    return low.typed(low.emit("add_scalar", [negative], {"value": number_of(args["other"])}, node.name), node)


@handles("aten.pow.Tensor_Tensor")
def _power(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("pow", node, args["self"], args["exponent"])


@handles(*(f"aten.{name}.{kind}" for name in ("remainder", "floor_divide") for kind in ("Tensor", "Scalar")))
@handles("aten.floor_divide.default", "aten.div.Tensor_mode")
def _divided(low: Lowering, node: fx.Node, args: Args) -> str:
    """What is left of a division, or its result rounded down."""
    inputs = [low.value(args["self"]), operand(low, node, args["other"])]
    if operator_of(node) == "remainder":
        return low.typed(low.emit("remainder", inputs, {}, node.name), node)
    mode = args.get("rounding_mode", "floor")
    found = low.emit("div", inputs, {}, node.name)
    if mode is not None:
        found = low.emit("floor" if mode == "floor" else "trunc", [found], {}, node.name)
    return low.typed(found, node)


@handles("aten.pow.Tensor_Scalar", "aten.pow_.Scalar")
def _pow(low: Lowering, node: fx.Node, args: Args) -> str:
    return low.apply("pow_scalar", node, args["self"], value=number_of(args["exponent"]))


@handles("aten.addmm.default", "aten.baddbmm.default")
def _addmm(low: Lowering, node: fx.Node, args: Args) -> str:
    product = low.emit("matmul", low.values(*node.args[1:3]), {}, f"{node.name}.product")
    if args["alpha"] != 1:
        product = low.emit("mul_scalar", [product], {"value": number_of(args["alpha"])}, f"{node.name}.alpha")
    if args["beta"] == 0:
        return product
    return low.emit("add", [_scaled(low, node.args[0], args["beta"], node.name), product], {}, node.name)


@handles("aten.scaled_dot_product_attention.default")
def _attention(low: Lowering, node: fx.Node, args: Args) -> str:
    if args["dropout_p"] != 0:
        raise Unsupported("attention with dropout")
    inputs = low.values(args["query"], args["key"], args["value"], args["attn_mask"])
    if args.get("enable_gqa"):
        heads = [whole_of(value_of(args[name]).shape[-3]) for name in ("query", "key")]
        for k, name in enumerate(("key", "value"), start=1):
            inputs[k] = _shared_heads(low, node, inputs[k], value_of(args[name]), heads[0] // heads[1])
    scale = None if args["scale"] is None else number_of(args["scale"])
    return low.emit("attention", inputs, {"is_causal": bool(args["is_causal"]), "scale": scale}, node.name)


def _shared_heads(low: Lowering, node: fx.Node, name: str, value: torch.Tensor, times: int) -> str:
    """Keys or values ``[batch, heads, places, width]`` with every head repeated, one after the other."""
    if value.dim() != 4 or not is_symbolic(value.shape[0]):
        raise Unsupported("grouped queries of other inputs than [batch, heads, places, width]")
    heads, *rest = sizes_of(value.shape[1:])
    single = low.emit("reshape", [name], {"shape": (-1, heads, 1, *rest)}, node.name)
    many = low.emit("expand", [single], {"shape": (0, heads, times, *rest)}, node.name)
    return low.emit("reshape", [many], {"shape": (-1, heads * times, *rest)}, node.name)


SUPPORTED_TARGETS = frozenset(HANDLERS)
"""ATen operators that capture understands, as ``str(target)``."""
