"""Handlers of recurrent layers: LSTM, GRU and the plain network, written out step by step.

Each step reads one place of the sequence, so a network of long sequences has many operations, and capture refuses it
beyond the limit of an architecture. Packed sequences and dropout between layers are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import fx

from bitcert.network.lowering import Args, Lowering, Unsupported, handles, sizes_of, value_of

_MAX_STEPS = 256
"""Steps of all layers and directions together; more would exceed the operations of an architecture."""

Cell = Callable[["_Steps", str, tuple[str, ...], Sequence[str]], tuple[str, ...]]


class _Steps:
    """Operations of one layer and direction, as short calls."""

    def __init__(self, low: Lowering, hint: str) -> None:
        self.low, self.hint = low, hint

    def call(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.low.emit(op, inputs, attributes, self.hint)

    def linear(self, x: str, weight: str, bias: str | None) -> str:
        return self.call("linear", x, weight, *([] if bias is None else [bias]))

    def parts(self, x: str, count: int, width: int) -> list[str]:
        spans = [(k * width, (k + 1) * width) for k in range(count)]
        return [self.call("slice", x, dim=1, start=start, end=end, step=1) for start, end in spans]


def _cells(kind: str, width: int) -> Cell:
    def gates(s: _Steps, x: str, state: tuple[str, ...], weights: Sequence[str]) -> tuple[str, str]:
        inner, outer = weights[0], weights[1]
        biases = (weights[2], weights[3]) if len(weights) == 4 else (None, None)
        return s.linear(x, inner, biases[0]), s.linear(state[0], outer, biases[1])

    def lstm(s: _Steps, x: str, state: tuple[str, ...], weights: Sequence[str]) -> tuple[str, ...]:
        i, f, g, o = s.parts(s.call("add", *gates(s, x, state, weights)), 4, width)
        kept = s.call("mul", s.call("sigmoid", f), state[1])
        cell = s.call("add", kept, s.call("mul", s.call("sigmoid", i), s.call("tanh", g)))
        return s.call("mul", s.call("sigmoid", o), s.call("tanh", cell)), cell

    def gru(s: _Steps, x: str, state: tuple[str, ...], weights: Sequence[str]) -> tuple[str, ...]:
        seen, held = (s.parts(part, 3, width) for part in gates(s, x, state, weights))
        r, z = (s.call("sigmoid", s.call("add", seen[k], held[k])) for k in (0, 1))
        n = s.call("tanh", s.call("add", seen[2], s.call("mul", r, held[2])))
        # (1 - z) n + z h
        return (s.call("add", n, s.call("mul", z, s.call("sub", state[0], n))),)

    def plain(s: _Steps, x: str, state: tuple[str, ...], weights: Sequence[str]) -> tuple[str, ...]:
        return (s.call("tanh" if kind == "rnn_tanh" else "relu", s.call("add", *gates(s, x, state, weights))),)

    cells: dict[str, Cell] = {"lstm": lstm, "gru": gru}
    return cells.get(kind, plain)


@handles("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
def _recurrent(low: Lowering, node: fx.Node, args: Args) -> list[str]:
    kind = str(node.target).split(".")[1]
    first, directions, layers = bool(args["batch_first"]), 1 + bool(args["bidirectional"]), int(args["num_layers"])
    if args["dropout"] and args["train"]:
        raise Unsupported("dropout between layers is active")
    states = args["hx"] if kind == "lstm" else [args["hx"]]
    steps = _places(low, node, args["input"], first)
    if len(steps) * layers * directions > _MAX_STEPS:
        raise Unsupported(f"{len(steps) * layers * directions:,} steps where at most {_MAX_STEPS} are written out")
    per_layer = len(args["params"]) // (layers * directions)
    names = [low.value(each) for each in args["params"]]
    weights = [names[k : k + per_layer] for k in range(0, len(names), per_layer)]
    if len(value_of(states[0]).shape) != 3 or per_layer not in (2, 4):
        raise Unsupported("a projected state, or a sequence without a batch")
    width = sizes_of(value_of(states[0]).shape[2:])[0]
    cell, ends = _cells(kind, width), []
    for layer in range(layers):
        runs = []
        for way in range(directions):
            k = layer * directions + way
            state = tuple(low.emit("select", [low.value(s)], {"dim": 0, "index": k}, node.name) for s in states)
            s, outputs = _Steps(low, f"{node.name}.{k}"), []
            for step in reversed(steps) if way else steps:
                state = cell(s, step, state, weights[k])
                outputs.append(state[0])
            ends.append(state)
            runs.append(outputs[::-1] if way else outputs)
        steps = [
            row[0] if directions == 1 else low.emit("cat", row, {"dim": 1}, node.name)
            for row in zip(*runs, strict=True)
        ]
    last = [_stacked(low, [end[k] for end in ends], width, 0, f"{node.name}.end") for k in range(len(states))]
    return [_stacked(low, steps, width * directions, 1 if first else 0, node.name), *last]


def _places(low: Lowering, node: fx.Node, source: Any, first: bool) -> list[str]:
    """The places of a sequence, each ``[batch, width]``."""
    name, dim, shape = low.value(source), 1 if first else 0, value_of(source).shape
    if len(shape) != 3:
        raise Unsupported("a sequence without a batch")
    (length,) = sizes_of([shape[dim]])
    return [low.emit("select", [name], {"dim": dim, "index": k}, f"{node.name}.x") for k in range(length)]


def _stacked(low: Lowering, rows: Sequence[str], width: int, dim: int, hint: str) -> str:
    """Values ``[batch, width]`` joined along a new axis."""
    shape = (1, -1, width) if dim == 0 else (-1, 1, width)
    parts = [low.emit("reshape", [row], {"shape": shape}, f"{hint}.row") for row in rows]
    return low.emit("cat", parts, {"dim": dim}, hint)
