"""Where the batch lives inside a tensor, followed through every operation.

A classifier labels one input at a time. A network whose operations let samples of a batch see each other is
not a function of one input, and no bound about independent samples speaks of it. So every operation has a rule
that follows the batch axis; an operation that would mix samples has no rule and is refused.

The batch may be fused with neighbouring axes (multi-head attention reshapes ``[batch, heads, ...]`` to
``[batch * heads, ...]``): an axis holds ``outer * batch * inner`` entries in row-major order.
The rules guarantee independence of samples as real-number arithmetic; they do NOT promise that float rounding
is the same at every batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bitcert.network.attributes import Attribute


@dataclass(frozen=True)
class Layout:
    """The batch of a tensor sits on ``axis``, which has ``outer * batch * inner`` entries."""

    axis: int
    outer: int = 1
    inner: int = 1


class LayoutError(ValueError):
    """An operation that would let the samples of a batch see each other."""


@dataclass(frozen=True)
class Value:
    """Shape of a tensor and where its batch is (``None``: the same for every sample, e.g. a parameter)."""

    shape: tuple[int, ...]
    layout: Layout | None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


Attributes = Mapping[str, Attribute]
LayoutRule = Callable[[Sequence[Value], Attributes, tuple[int, ...]], Layout | None]


def _axes(attributes: Attributes, name: str) -> tuple[int, ...]:
    value = attributes[name]
    return value if isinstance(value, tuple) else (int(value or 0),)


def _refuse_batched(values: Sequence[Value]) -> None:
    if any(value.layout is not None for value in values):
        raise LayoutError("a weight position holds a value that depends on the input")


def keep(mixed: Callable[[Value, Attributes], set[int]]) -> LayoutRule:
    """The first input keeps its batch axis, which must be outside ``mixed``; the other inputs hold no batch."""

    def rule(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
        _refuse_batched(values[1:])
        layout = values[0].layout
        if layout is not None and layout.axis in mixed(values[0], attributes):
            raise LayoutError(f"axis {layout.axis} holds the batch and would be mixed")
        return layout

    return rule


def leading(ndim: int | None = None) -> LayoutRule:
    """The batch is on axis 0 of a tensor of ``ndim`` dimensions (any number when None) and stays there."""

    def rule(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
        _refuse_batched(values[1:])
        first = values[0]
        if ndim is not None and first.ndim != ndim:
            raise LayoutError(f"a tensor of {ndim} dimensions is needed, this one has {first.ndim}")
        if first.ndim < 2:
            raise LayoutError("a tensor without channels")
        if first.layout is not None and first.layout.axis != 0:
            raise LayoutError(f"the batch is on axis {first.layout.axis}, not 0")
        return first.layout

    return rule


def mixes_last(value: Value, attributes: Attributes) -> set[int]:
    """Linear maps mix the last axis."""
    return {value.ndim - 1}


def mixes_dims(value: Value, attributes: Attributes) -> set[int]:
    """Operations along ``dim`` that keep every axis (softmax, slice)."""
    return set(_axes(attributes, "dim"))


def mixes_normalized(value: Value, attributes: Attributes) -> set[int]:
    """Layer norm mixes its trailing ``normalized_shape`` axes."""
    return set(range(value.ndim - len(_axes(attributes, "normalized_shape")), value.ndim))


def mixes_padded(value: Value, attributes: Attributes) -> set[int]:
    """Constant padding lengthens trailing axes, two numbers an axis from the last backwards."""
    padding = _axes(attributes, "padding")
    return {value.ndim - 1 - k // 2 for k, amount in enumerate(padding) if amount}


def _join(values: Sequence[Value], shape: tuple[int, ...], trailing_fixed: int = 0) -> Layout | None:
    """Broadcast of several values: all batches must coincide; values without a batch have size 1 there."""
    found: Layout | None = None
    position = -1
    for value in values:
        if value.layout is None:
            continue
        from_right = value.ndim - value.layout.axis
        if found is None:
            found, position = value.layout, from_right
        elif from_right != position or (found.outer, found.inner) != (value.layout.outer, value.layout.inner):
            raise LayoutError("two inputs hold the batch at different places")
    if found is None:
        return None
    for value in values:
        if value.layout is None and value.ndim >= position and value.shape[value.ndim - position] != 1:
            raise LayoutError("a value without a batch would be spread along the batch")
    if position <= trailing_fixed:
        raise LayoutError("the batch would be multiplied away")
    return Layout(len(shape) - position, found.outer, found.inner)


def pointwise(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Entry by entry with broadcasting."""
    return _join(values, shape)


def matmul(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Matrix products over leading axes; or the batch in the rows of the left (columns of the right) factor."""
    left, right = values
    if min(left.ndim, right.ndim) < 2:
        raise LayoutError("a product with a vector")
    if right.layout is None and left.layout is not None and left.layout.axis == left.ndim - 2:
        return Layout(len(shape) - 2, left.layout.outer, left.layout.inner)
    if left.layout is None and right.layout is not None and right.layout.axis == right.ndim - 1:
        return Layout(len(shape) - 1, right.layout.outer, right.layout.inner)
    return _join(values, shape, trailing_fixed=2)


def attention(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Scaled dot-product attention: batch among the leading axes of queries, keys, values and mask."""
    return _join(values, shape, trailing_fixed=2)


def embedding(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Look-up of rows of a table: the indices' axes stay."""
    _refuse_batched(values[1:])
    return values[0].layout


def gathering(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Entries picked along ``dim`` by indices of their own for each example: both hold the batch on one other axis."""
    source, index = values
    if source.layout != index.layout:
        raise LayoutError("values and indices hold the batch at different places")
    if source.layout is not None and source.layout.axis in _axes(attributes, "dim"):
        raise LayoutError("entries of other samples would be picked")
    return source.layout


def concatenation(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """All parts hold the batch at the same place, outside the joined axis, or none holds it."""
    layouts = {value.layout for value in values}
    if len(layouts) != 1:
        raise LayoutError("the parts hold the batch at different places")
    layout = values[0].layout
    if layout is not None and layout.axis in _axes(attributes, "dim"):
        raise LayoutError("samples would be concatenated")
    return layout


def selection(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """One index of an axis; later axes move up by one."""
    layout, dim = values[0].layout, _axes(attributes, "dim")[0]
    if layout is None:
        return None
    if layout.axis == dim:
        raise LayoutError("one sample of the batch would be selected")
    return Layout(layout.axis - (dim < layout.axis), layout.outer, layout.inner)


def reduction(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Sum, mean or maximum over axes that do not hold the batch."""
    layout, dims = values[0].layout, set(_axes(attributes, "dim"))
    if layout is None:
        return None
    if layout.axis in dims:
        raise LayoutError("the batch would be summed over")
    gone = 0 if attributes["keepdim"] else sum(dim < layout.axis for dim in dims)
    return Layout(layout.axis - gone, layout.outer, layout.inner)


def permutation(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Reordered axes."""
    layout = values[0].layout
    if layout is None:
        return None
    return Layout(_axes(attributes, "dims").index(layout.axis), layout.outer, layout.inner)


def reshape(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Row-major regrouping; the axis written -1 is the one that holds the batch."""
    value, target = values[0], _axes(attributes, "shape")
    if value.layout is None:
        if -1 in target:
            raise LayoutError("-1 is for the axis of the batch, and this value has none")
        return None
    if target.count(-1) != 1:
        raise LayoutError("the shape must have one entry -1, the axis of the batch")
    axis = target.index(-1)
    before = math.prod(value.shape[: value.layout.axis]) * value.layout.outer
    after = math.prod(value.shape[value.layout.axis + 1 :]) * value.layout.inner
    outer, rest_outer = divmod(before, math.prod(shape[:axis]))
    inner, rest_inner = divmod(after, math.prod(shape[axis + 1 :]))
    if rest_outer or rest_inner or not outer or not inner:
        raise LayoutError("the new shape would tear samples apart")
    return Layout(axis, outer, inner)


def expansion(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Broadcast to a shape in which 0 stands for the batch size."""
    value, target = values[0], _axes(attributes, "shape")
    if target.count(0) > 1:
        raise LayoutError("the batch would appear twice")
    axis = target.index(0) if 0 in target else None
    if value.layout is not None:
        place = value.layout.axis + len(target) - value.ndim
        if axis != place or (value.layout.outer, value.layout.inner) != (1, 1):
            raise LayoutError("the batch would be expanded")
        return Layout(place)
    if axis is None:
        return None
    source = axis - (len(target) - value.ndim)
    if source >= 0 and value.shape[source] != 1:
        raise LayoutError("a value without a batch would be spread along the batch")
    return Layout(axis)


def repetition(values: Sequence[Value], attributes: Attributes, shape: tuple[int, ...]) -> Layout | None:
    """Tiling of axes that do not hold the batch."""
    layout, repeats = values[0].layout, _axes(attributes, "repeats")
    if layout is None:
        return None
    axis = layout.axis + len(repeats) - values[0].ndim
    if not 0 <= axis < len(repeats) or repeats[axis] != 1:
        raise LayoutError("the batch would be repeated")
    return Layout(axis, layout.outer, layout.inner)
