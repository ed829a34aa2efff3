"""Operations added since the first release, in the order in which they were added.

The description of a helper numbers them by their place here (:mod:`bitcert.decoder.description`), so new ones are
appended and none is moved. Comparisons make booleans, ``argmax`` and ``to_index`` make integers; both are computed anew
at every evaluation and never stored. Not guaranteed: a derivative; most of these have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.network import costs, layouts
from bitcert.network.attributes import AXIS, BOOLEAN, NUMBER, integer, integers
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
    steps,
    unary,
)

_LINEAR_MODES = {3: "linear", 4: "bilinear", 5: "trilinear"}


def _transposed(function: Callable[..., Tensor], dims: int) -> Operation:
    sizes = integers(dims, 1)
    kinds = {**steps(dims), "output_padding": integers(dims, 0), "dilation": sizes, "groups": integer(1)}

    def run(t: Sequence[Tensor], a: Any, n: int) -> Tensor:
        bias = t[2] if len(t) > 2 else None
        return function(t[0], t[1], bias, a["stride"], a["padding"], a["output_padding"], a["groups"], a["dilation"])

    return Operation((2, 3), run, layouts.leading(dims + 2), kinds, costs.spread, costs.folded)


def _resized(function: Callable[[Tensor, Any], Tensor], **extra: Any) -> Operation:
    kinds = {"output_size": integers(None, 1), **extra}
    return unary(function, layouts.leading(), costs.both_copied, **kinds)


def _interpolated(mode: str) -> Callable[[Tensor, Any], Tensor]:
    return lambda x, a: F.interpolate(x, a["output_size"], mode=mode)


def _linear(x: Tensor, a: Any) -> Tensor:
    return F.interpolate(x, a["output_size"], mode=_LINEAR_MODES[x.dim()], align_corners=a["align_corners"])


def _cubic(x: Tensor, a: Any) -> Tensor:
    return F.interpolate(x, a["output_size"], mode="bicubic", align_corners=a["align_corners"])


def _bordered(mode: str) -> Operation:
    return unary(
        lambda x, a: F.pad(x, a["padding"], mode=mode),
        layouts.keep(layouts.mixes_padded),
        costs.first_copied,
        padding=integers(None, 0),
    )


def _argmax(x: Tensor, a: Any) -> Tensor:
    return torch.argmax(x, a["dim"], keepdim=True)


_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
}

_LOGIC: dict[str, Operation] = {
    **{name: binary(function) for name, function in _COMPARISONS.items()},
    **{
        f"{name}_scalar": unary(lambda x, a, f=function: f(x, a["value"]), value=NUMBER)  # type: ignore[misc]
        for name, function in _COMPARISONS.items()
    },
    "logical_and": binary(torch.logical_and),
    "logical_or": binary(torch.logical_or),
    "logical_xor": binary(torch.logical_xor),
    "logical_not": plain(torch.logical_not),
    "where": Operation((3, 3), lambda t, a, n: torch.where(t[0], t[1], t[2]), layouts.pointwise, {}, costs.entries),
    "full": Operation(
        (0, 0),
        lambda t, a, n: torch.full(a["shape"], a["value"]),
        lambda values, attributes, shape: None,
        {"shape": integers(None, 1), "value": NUMBER},
    ),
    "cumsum": along_axis(torch.cumsum),
    "argmax": unary(_argmax, SAME, costs.result_twice, dim=AXIS),
    "gather": Operation((2, 2), lambda t, a, n: torch.gather(t[0], a["dim"], t[1]), layouts.gathering, {"dim": AXIS}),
    "take": Operation(
        (2, 2),
        lambda t, a, n: torch.index_select(t[0], a["dim"], t[1]),
        layouts.keep(layouts.mixes_dims),
        {"dim": AXIS},
    ),
}

_FUNCTIONS: dict[str, Operation] = {
    **{
        name: plain(getattr(torch, name))
        for name in ("trunc", "floor", "ceil", "round", "sign", "cos", "sin", "erf", "log1p", "expm1", "atan")
    },
    "pow": binary(torch.pow),
    "remainder": binary(torch.remainder),
    "amin": reduction(torch.amin),
    "prod": along_axis(lambda x, dim: torch.prod(x, dim, keepdim=True)),
}

_MAPS: dict[str, Operation] = {
    "conv3d": convolution(F.conv3d, 3),
    "conv_transpose1d": _transposed(F.conv_transpose1d, 1),
    "conv_transpose2d": _transposed(F.conv_transpose2d, 2),
    "conv_transpose3d": _transposed(F.conv_transpose3d, 3),
    "max_pool3d": pooling(F.max_pool3d, 3, costs.maxima, dilation=integers(3, 1)),
    "avg_pool3d": pooling(F.avg_pool3d, 3, costs.first_copied, count_include_pad=BOOLEAN),
    "adaptive_avg_pool3d": adaptive(F.adaptive_avg_pool3d, 3),
    "upsample_nearest": _resized(_interpolated("nearest")),
    "upsample_nearest_exact": _resized(_interpolated("nearest-exact")),
    "upsample_linear": _resized(_linear, align_corners=BOOLEAN),
    "upsample_cubic": _resized(_cubic, align_corners=BOOLEAN),
    "pad_reflect": _bordered("reflect"),
    "pad_replicate": _bordered("replicate"),
}

STEPS = frozenset(
    (
        *(f"{name}{kind}" for name in _COMPARISONS for kind in ("", "_scalar")),
        *("logical_and", "logical_or", "logical_xor", "logical_not", "argmax", "full"),
        *("trunc", "floor", "ceil", "round", "sign"),
    )
)
"""Operations whose result is constant but for jumps."""

LATER_OPERATIONS: Mapping[str, Operation] = {**_LOGIC, **_FUNCTIONS, **_MAPS}
"""By name, in the order of their numbers."""
