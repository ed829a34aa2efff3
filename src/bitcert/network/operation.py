"""One row of the table of operations, and what makes rows of one kind: convolutions, pooling, reductions.

An :class:`Operation` says how many tensors it takes, which attributes with which ranges, how to compute it with torch,
how it treats the batch (:mod:`bitcert.network.layouts`) and what it costs. Which operations there are is NOT said here
but in :mod:`bitcert.network.operations`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from bitcert.network import costs, layouts
from bitcert.network.attributes import AXES, AXIS, BOOLEAN, Kind, integer, integers
from bitcert.network.costs import Cost
from bitcert.network.layouts import LayoutRule

Run = Callable[[Sequence[Tensor], Any, int], Tensor]

SAME = layouts.keep(layouts.mixes_dims)
"""Layout rule of operations along ``dim`` that keep every axis."""


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


def unary(
    function: Callable[[Tensor, Any], Tensor],
    layout: LayoutRule = layouts.pointwise,
    scratch: Cost = costs.nothing,
    cost: Cost = costs.entries,
    /,
    **attributes: Kind,
) -> Operation:
    """One input, with attributes."""
    return Operation((1, 1), lambda t, a, n: function(t[0], a), layout, attributes, cost, scratch)


def plain(function: Any, scratch: Cost = costs.nothing) -> Operation:
    """One input, without attributes."""
    return unary(lambda x, a: function(x), layouts.pointwise, scratch)


def binary(function: Any) -> Operation:
    """Two inputs entry by entry, with broadcasting."""
    return Operation((2, 2), lambda t, a, n: function(t[0], t[1]), layouts.pointwise)


def steps(dims: int) -> dict[str, Kind]:
    """Kinds of the attributes that every sliding window has."""
    return {"stride": integers(dims, 1), "padding": integers(dims, 0)}


def convolution(
    function: Callable[..., Tensor], dims: int, cost: Cost = costs.weighted, scratch: Cost = costs.unfolded
) -> Operation:
    """A convolution over ``dims`` axes."""
    kinds = {**steps(dims), "dilation": integers(dims, 1), "groups": integer(1)}
    return Operation((2, 3), lambda t, a, n: function(*t, **a), layouts.leading(dims + 2), kinds, cost, scratch)


def pooling(function: Callable[..., Tensor], dims: int, scratch: Cost, **extra: Kind) -> Operation:
    """A pooling over ``dims`` axes."""
    kinds = {"kernel_size": integers(dims, 1), **steps(dims), "ceil_mode": BOOLEAN, **extra}
    return unary(lambda x, a: function(x, **a), layouts.leading(dims + 2), scratch, costs.pooled, **kinds)


def adaptive(function: Callable[..., Tensor], dims: int) -> Operation:
    """Pooling to a map of a given size."""
    layout, sizes = layouts.leading(dims + 2), integers(dims, 1)
    return unary(lambda x, a: function(x, a["output_size"]), layout, costs.first_copied, output_size=sizes)


def reduction(function: Callable[..., Tensor]) -> Operation:
    """A reduction over axes."""
    return unary(lambda x, a: function(x, a["dim"], a["keepdim"]), layouts.reduction, dim=AXES, keepdim=BOOLEAN)


def along_axis(function: Callable[..., Tensor]) -> Operation:
    """A function along one axis that keeps it."""
    return unary(lambda x, a: function(x, a["dim"]), SAME, costs.first_copied, dim=AXIS)
