"""Handlers of ATen operators on maps: resizing, transposed and 3-d convolutions, borders of other kinds."""

from __future__ import annotations

from torch import fx

from bitcert.network.attributes import Attribute
from bitcert.network.lowering import Args, Lowering, Unsupported, handles, sizes_of, tuple_of, value_of, whole_of

_SIZED: dict[str, tuple[str, tuple[int, ...]]] = {
    "nearest": ("upsample_nearest", (1, 2, 3)),
    "_nearest_exact": ("upsample_nearest_exact", (1, 2, 3)),
    "linear": ("upsample_linear", (1,)),
    "bilinear": ("upsample_linear", (2,)),
    "trilinear": ("upsample_linear", (3,)),
    "bicubic": ("upsample_cubic", (2,)),
}
_RESIZED = {
    f"aten.{'_' if mode.startswith('_') else ''}upsample_{mode.strip('_')}{dims}d.{kind}": op
    for mode, (op, sizes) in _SIZED.items()
    for dims in sizes
    for kind in ("default", "vec")
}


@handles(*_RESIZED)
def _resize(low: Lowering, node: fx.Node, args: Args) -> str:
    source = args.get("self") or args.get("input")
    before, after = sizes_of(value_of(source).shape[2:]), sizes_of(value_of(node).shape[2:])
    for factor, size, result in zip(args.get("scale_factors") or (), before, after, strict=False):
        if abs(size * float(factor) - result) > 1e-6:
            raise Unsupported(f"resizing {size} entries by a factor of {factor:g}, which is no whole number of entries")
    settings: dict[str, Attribute] = {"output_size": after}
    if "align_corners" in args:
        settings["align_corners"] = bool(args["align_corners"])
    return low.apply(_RESIZED[str(node.target)], node, source, **settings)


@handles("aten.conv3d.default")
def _conv3d(low: Lowering, node: fx.Node, args: Args) -> str:
    settings = {name: tuple_of(args[name], 3) for name in ("stride", "padding", "dilation")}
    inputs = args["input"], args["weight"], args["bias"]
    return low.apply("conv3d", node, *inputs, **settings, groups=whole_of(args["groups"]))


@handles("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
def _transposed(low: Lowering, node: fx.Node, args: Args) -> str:
    dims = value_of(args["weight"]).dim() - 2
    settings = {name: tuple_of(args[name], dims) for name in ("stride", "padding", "output_padding", "dilation")}
    inputs = args["input"], args["weight"], args["bias"]
    return low.apply(f"conv_transpose{dims}d", node, *inputs, **settings, groups=whole_of(args["groups"]))


@handles(*(f"aten.{kind}_pad{dims}d.default" for kind in ("reflection", "replication") for dims in (1, 2, 3)))
def _border(low: Lowering, node: fx.Node, args: Args) -> str:
    op = "pad_reflect" if "reflection" in str(node.target) else "pad_replicate"
    return low.apply(op, node, args["self"], padding=sizes_of(args["padding"]))
