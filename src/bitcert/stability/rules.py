"""Derivative maps of single operations at a batch of values: tangents forwards, cotangents backwards.

A tangent or cotangent is ``[R, B, *shape]``: ``R`` directions for each of ``B`` examples; ``B`` may be 1 while all
examples still share it, and becomes the batch where an operation depends on the example. Linear layers and
convolutions fold ``R`` into the batch and become large matrix products; pointwise operations multiply by their
derivative; pooling follows the position of the maximum. Every other operation goes through ``torch.func``. At a kink
(ReLU at 0, equal maxima) the derivative is the one torch's backward pass uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.linear.maps import LayerMap
from bitcert.network import Node
from bitcert.network.layouts import Layout
from bitcert.network.operations import OPERATIONS
from bitcert.stability.layers import ACTIVATIONS, WITHOUT_DERIVATIVE

Moved = list[Tensor | None]
"""One tangent or cotangent for every input of a node that varies; None elsewhere."""

POINTWISE = ACTIVATIONS | {"exp", "log", "abs", "sqrt", "rsqrt", "reciprocal", "pow_scalar"}
"""Operations with one varying input that act entry by entry."""

MAXIMA = frozenset({"max_pool1d", "max_pool2d"})
AVERAGES = frozenset({"avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"})
LINEAR = AVERAGES.union(
    ("reshape", "permute", "select", "slice", "repeat", "mean", "sum", "mul_scalar", "div_scalar", "neg", "pad")
)
"""Linear operations of one varying input, without weights."""

PASSING = frozenset({"add_scalar", "to_float"})
FRESH = POINTWISE | {"linear", "conv1d", "conv2d", "affine_channel"} | MAXIMA
"""Operations whose pulled cotangent shares no memory with the one that came."""


@dataclass(frozen=True, eq=False)
class NodeMap:
    """One node at a batch: its operation, the values of its inputs, and which of them vary with the network's input.

    Attributes:
        inputs: value of every input; parameters as they are.
        varies: whether a tangent can arrive there.
        plain: whether every varying input and the output have the batch as their first axis.
        memo: of what depends on the values only (slopes, positions of maxima).
    """

    node: Node
    inputs: tuple[Tensor, ...]
    varies: tuple[bool, ...]
    output: Tensor
    plain: bool
    batch: int
    memo: dict[str, Tensor] = field(default_factory=dict)

    def push(self, tangents: Moved) -> Tensor:
        """Derivative of the node along ``tangents``, one for every input or None."""
        rule = _PUSH.get(self.node.op) if self.plain else None
        return _push_generic(self, tangents) if rule is None else rule(self, tangents)

    def pull(self, cotangent: Tensor, overwrite: bool = False) -> Moved:
        """Cotangents of the inputs; None where nothing varies.

        Args:
            cotangent: of the output.
            overwrite: whether ``cotangent`` may be changed to hold the result.
        """
        if overwrite and self.plain and self.node.op in POINTWISE and cotangent.shape[1] == len(self.output):
            return [cotangent.mul_(slope(self)), *[None] * (len(self.inputs) - 1)]
        rule = _PULL.get(self.node.op) if self.plain else None
        return _pull_generic(self, cotangent) if rule is None else rule(self, cotangent)


def node_map(node: Node, values: Mapping[str, Tensor], layouts: Mapping[str, Layout | None], batch: int) -> NodeMap:
    """The map of ``node`` at ``values``, which hold parameters, input and results by name."""
    inputs = tuple(values[name] for name in node.inputs)
    stopped = node.op in WITHOUT_DERIVATIVE
    varies = tuple(
        not stopped and layouts[name] is not None and values[name].is_floating_point() for name in node.inputs
    )
    plain = all(_is_plain(layouts[n]) for n, v in zip(node.inputs, varies, strict=True) if v)
    return NodeMap(node, inputs, varies, values[node.name], plain and _is_plain(layouts[node.name]), batch)


def _is_plain(layout: Layout | None) -> bool:
    return layout is not None and layout.axis == 0 and layout.outer == 1


def fold(moved: Tensor) -> Tensor:
    """``[R, B, ...] -> [R * B, ...]``."""
    return moved.flatten(0, 1)


def unfold(folded: Tensor, directions: int) -> Tensor:
    """``[R * B, ...] -> [R, B, ...]``."""
    return folded.view(directions, folded.shape[0] // directions, *folded.shape[1:])


def _settings(m: NodeMap) -> dict[str, Any]:
    """Attributes of the node; their types were checked when the architecture was made."""
    return dict(m.node.attributes)


# Linear layers and convolutions.


def _push_linear(m: NodeMap, tangents: Moved) -> Tensor:
    t = _only_first(tangents)
    return t @ m.inputs[1].T


def _pull_linear(m: NodeMap, g: Tensor) -> Moved:
    return [g @ m.inputs[1], *[None] * (len(m.inputs) - 1)]


def _convolution(m: NodeMap) -> LayerMap:
    return LayerMap.of(m.node, m.inputs[1], m.inputs[0].shape[1:])


def _push_conv(m: NodeMap, tangents: Moved) -> Tensor:
    t = _only_first(tangents)
    return unfold(_convolution(m).apply(fold(t)), len(t))


def _pull_conv(m: NodeMap, g: Tensor) -> Moved:
    return [unfold(_convolution(m).transpose(fold(g)), len(g)), *[None] * (len(m.inputs) - 1)]


def _only_first(tangents: Moved) -> Tensor:
    t = tangents[0]
    if t is None or any(other is not None for other in tangents[1:]):
        raise ValueError("a weight that varies with the input")
    return t


# Operations with one varying input that act entry by entry.


def slope(m: NodeMap) -> Tensor:
    """Derivative of a node that acts entry by entry, ``[B, *shape]`` or a shape that broadcasts to it."""
    found = m.memo.get("slope")
    if found is None:
        x = m.inputs[0].detach()
        if m.node.op == "affine_channel":
            found = m.inputs[1].reshape(-1, *[1] * (x.dim() - 2))
        elif m.node.op == "relu":
            found = (x > 0).to(x.dtype)
        else:
            with torch.enable_grad():
                leaf = x.clone().requires_grad_()
                value = OPERATIONS[m.node.op].run([leaf, *m.inputs[1:]], m.node.attributes, m.batch)
                (found,) = torch.autograd.grad(value.sum(), leaf)
        m.memo["slope"] = found
    return found


def _push_scaling(m: NodeMap, tangents: Moved) -> Tensor:
    t = _only_first(tangents)
    return t * slope(m)


def _pull_scaling(m: NodeMap, g: Tensor) -> Moved:
    return [g * slope(m), *[None] * (len(m.inputs) - 1)]


# Linear operations without weights: applied to the folded tangents; transposed by torch.


def _run_linear(m: NodeMap, folded: Tensor) -> Tensor:
    attributes = _settings(m)
    if m.node.op == "pad":
        attributes["value"] = 0.0
    return OPERATIONS[m.node.op].run([folded], attributes, folded.shape[0] * m.batch // max(1, m.inputs[0].shape[0]))


def _push_shape(m: NodeMap, tangents: Moved) -> Tensor:
    t = _only_first(tangents)
    return unfold(_run_linear(m, fold(t)), len(t))


def _pull_shape(m: NodeMap, g: Tensor) -> Moved:
    folded = fold(g)
    if m.node.op == "reshape" and m.inputs[0].shape[0] == m.output.shape[0]:
        return [unfold(folded.reshape(len(folded), *m.inputs[0].shape[1:]), len(g))]
    rows = folded.shape[0] * m.inputs[0].shape[0] // m.output.shape[0]
    start = folded.new_zeros(()).expand(rows, *m.inputs[0].shape[1:])
    pull = torch.func.vjp(lambda x: _run_linear(m, x), start)[1]
    return [unfold(pull(folded)[0], len(g))]


def _push_same(m: NodeMap, tangents: Moved) -> Tensor:
    return _only_first(tangents)


def _pull_same(m: NodeMap, g: Tensor) -> Moved:
    return [g]


# Sums and joins.


def _push_add(m: NodeMap, tangents: Moved) -> Tensor:
    sign = -1.0 if m.node.op == "sub" else 1.0
    left, right = tangents
    if right is not None and sign < 0:
        right = -right
    if left is None or right is None:
        moved = left if right is None else right
        assert moved is not None
        return _spread(m, moved)
    return left + right


def _spread(m: NodeMap, moved: Tensor) -> Tensor:
    if moved.shape[2:] == m.output.shape[1:]:
        return moved
    return moved.expand(*moved.shape[:2], *m.output.shape[1:])


def _pull_add(m: NodeMap, g: Tensor) -> Moved:
    if any(v and x.shape[1:] != m.output.shape[1:] for x, v in zip(m.inputs, m.varies, strict=True)):
        return _pull_generic(m, g)
    right = -g if m.node.op == "sub" else g
    return [g if m.varies[0] else None, right if m.varies[1] else None]


def _push_cat(m: NodeMap, tangents: Moved) -> Tensor:
    known = next(t for t in tangents if t is not None)
    batch = max(t.shape[1] for t in tangents if t is not None)
    parts = []
    for x, t in zip(m.inputs, tangents, strict=True):
        zero = known.new_zeros(()) if t is None else t
        parts.append(zero.expand(len(known), batch, *x.shape[1:]))
    return torch.cat(parts, _settings(m)["dim"] + 1)


def _pull_cat(m: NodeMap, g: Tensor) -> Moved:
    dim = _settings(m)["dim"]
    parts = torch.split(g, [x.shape[dim] for x in m.inputs], dim + 1)
    return [part if varies else None for part, varies in zip(parts, m.varies, strict=True)]


# Max pooling: the value of one entry of each window passes.


def _positions(m: NodeMap) -> Tensor:
    """Flat position of each window's maximum, ``[B, C, windows]``."""
    found = m.memo.get("positions")
    if found is None:
        pool = F.max_pool1d if m.node.op == "max_pool1d" else F.max_pool2d
        _, index = pool(m.inputs[0].contiguous(), **_settings(m), return_indices=True)
        found = m.memo["positions"] = index.flatten(2)
    return found


def _push_max_pool(m: NodeMap, tangents: Moved) -> Tensor:
    t = _only_first(tangents)
    index = _positions(m).expand(len(t), -1, -1, -1)
    flat = t.flatten(3).expand(-1, len(m.inputs[0]), -1, -1)
    return flat.gather(3, index).reshape(len(t), *m.output.shape)


def _tiles(m: NodeMap) -> bool:
    """Whether the windows cover the input once and disjointly, as the usual 2 x 2 pooling of an even map."""
    a = _settings(m)
    kernel, padding, dilation = a["kernel_size"], a["padding"], a["dilation"]
    whole = all(n == out * k for n, out, k in zip(m.inputs[0].shape[2:], m.output.shape[2:], kernel, strict=True))
    return m.node.op == "max_pool2d" and kernel == a["stride"] and not any(padding) and set(dilation) == {1} and whole


def _winners(m: NodeMap) -> Tensor:
    """1 where an entry is its window's maximum, ``[B, C, out1, k1, out2, k2]``."""
    found = m.memo.get("winners")
    if found is None:
        x = m.inputs[0]
        flat = torch.zeros(x.shape, dtype=x.dtype, device=x.device).flatten(2).scatter_(2, _positions(m), 1.0)
        (o1, o2), (n1, n2) = m.output.shape[2:], x.shape[2:]
        found = m.memo["winners"] = flat.view(*x.shape[:2], o1, n1 // o1, o2, n2 // o2)
    return found


def _pull_max_pool(m: NodeMap, g: Tensor) -> Moved:
    x = m.inputs[0]
    if _tiles(m):
        spread = g[:, :, :, :, None, :, None] * _winners(m)
        return [spread.flatten(5, 6).flatten(3, 4)]
    flat = g.new_zeros(len(g), len(x), x.shape[1], x[0, 0].numel())
    index = _positions(m).expand(len(g), -1, -1, -1)
    flat.scatter_add_(3, index, g.flatten(3).expand(-1, len(x), -1, -1).contiguous())
    return [flat.view(len(g), *x.shape)]


# Everything else.


def _closed(m: NodeMap) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    places = [k for k, varies in enumerate(m.varies) if varies]

    def function(*varying: Tensor) -> Tensor:
        tensors: list[Tensor] = list(m.inputs)
        for k, value in zip(places, varying, strict=True):
            tensors[k] = value
        if m.node.op == "attention":
            return _attend(tensors, _settings(m))
        return OPERATIONS[m.node.op].run(tensors, m.node.attributes, m.batch)

    # some operations cannot be vectorised over images whose channels lie innermost
    return function, tuple(m.inputs[k].contiguous() for k in places)


def _attend(t: list[Tensor], a: dict[str, Any]) -> Tensor:
    """Scaled dot-product attention in elementary steps: torch's fused kernels have no forward derivative."""
    query, key, value = t[:3]
    scale = query.shape[-1] ** -0.5 if a["scale"] is None else a["scale"]
    scores = scale * (query @ key.transpose(-2, -1))
    if len(t) == 4:
        scores = scores.masked_fill(~t[3], -torch.inf) if t[3].dtype == torch.bool else scores + t[3]
    if a["is_causal"]:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    return torch.softmax(scores, -1) @ value


def _whole(moved: Tensor, like: Tensor) -> Tensor:
    return moved.expand(len(moved), *like.shape).contiguous()


def _push_generic(m: NodeMap, tangents: Moved) -> Tensor:
    function, primals = _closed(m)
    known = next(t for t in tangents if t is not None)
    varying = [t for t, varies in zip(tangents, m.varies, strict=True) if varies]
    filled = tuple(
        known.new_zeros(len(known), *p.shape) if t is None else _whole(t, p)
        for t, p in zip(varying, primals, strict=True)
    )
    moved: Tensor = torch.func.vmap(lambda *ts: torch.func.jvp(function, primals, ts)[1])(*filled)
    return moved


def _pull_generic(m: NodeMap, g: Tensor) -> Moved:
    function, primals = _closed(m)
    pull = torch.func.vjp(function, *primals)[1]
    pulled = iter(torch.func.vmap(pull)(_whole(g, m.output)))
    return [next(pulled) if varies else None for varies in m.varies]


_Push = Callable[[NodeMap, Moved], Tensor]
_Pull = Callable[[NodeMap, Tensor], Moved]

_RULES: tuple[tuple[frozenset[str], _Push, _Pull], ...] = (
    (frozenset({"linear"}), _push_linear, _pull_linear),
    (frozenset({"conv1d", "conv2d"}), _push_conv, _pull_conv),
    (frozenset({"add", "sub"}), _push_add, _pull_add),
    (frozenset({"cat"}), _push_cat, _pull_cat),
    (MAXIMA, _push_max_pool, _pull_max_pool),
    (POINTWISE | {"affine_channel"}, _push_scaling, _pull_scaling),
    (LINEAR, _push_shape, _pull_shape),
    (PASSING, _push_same, _pull_same),
)
_PUSH: Mapping[str, _Push] = {name: push for names, push, _ in _RULES for name in names}
_PULL: Mapping[str, _Pull] = {name: pull for names, _, pull in _RULES for name in names}
