"""ATen graph of an exported program -> nodes of the whitelist.

Every ATen operator has one handler here. An operator without a handler, or used in a way its handler does not
understand, is collected as a problem with the path of the module it stands in; nothing is guessed. Reshapes are
rewritten from the shapes torch recorded, with -1 at the axis that depends on the batch.
This module does NOT check that the result equals the original: :mod:`bitcert.network.capturing` replays it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from bitcert.network.attributes import Attribute
from bitcert.network.nodes import INPUT, Node

Args = Mapping[str, Any]
Handler = Callable[["Lowering", fx.Node, Args], "str | list[str]"]
HANDLERS: dict[str, Handler] = {}


_SHAPING = frozenset(
    f"aten.{name}"
    for name in (
        *("slice.Tensor", "unsqueeze.default", "view.default", "reshape.default", "expand.default", "alias.default"),
        *("to.dtype", "to.device", "to.dtype_layout", "_to_copy.default", "clone.default", "contiguous.default"),
    )
)
"""What may happen to the numbers of the samples before they are used as an index of the batch."""


class Unsupported(ValueError):
    """An operator, or a use of one, that the whitelist does not cover."""


def handles(*targets: str) -> Callable[[Handler], Handler]:
    """Registers a handler for ATen operators named as in ``str(target)``."""

    def register(handler: Handler) -> Handler:
        for target in targets:
            HANDLERS[target] = handler
        return handler

    return register


def value_of(node: Any) -> torch.Tensor:
    """The fake tensor torch recorded for an fx node."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    if not isinstance(value, torch.Tensor):
        raise Unsupported("a tensor argument without a recorded shape")
    return value


def operator_of(node: fx.Node) -> str:
    """Name of a node's ATen operator, e.g. ``relu`` of ``aten.relu_.default``."""
    return str(node.target).split(".")[1].strip("_")


def is_symbolic(size: object) -> bool:
    """True for sizes that depend on the batch."""
    return isinstance(size, torch.SymInt) and size.node.maybe_as_int() is None


def axis_of(node: fx.Node, dim: int) -> int:
    """Axis counted from the left."""
    ndim = value_of(node).dim()
    return dim + ndim if dim < 0 else dim


def whole_of(value: object) -> int:
    """An integer setting."""
    if type(value) is not int:
        raise Unsupported("a setting that depends on the batch size")
    return value


def sizes_of(values: Iterable[object]) -> tuple[int, ...]:
    """Integer settings."""
    return tuple(whole_of(value) for value in values)


def tuple_of(value: Any, length: int) -> tuple[int, ...]:
    """One integer an axis; a single one is repeated."""
    items = [value] if isinstance(value, int) else list(value)
    return sizes_of(items * length if len(items) == 1 else items)


def number_of(value: object) -> float:
    """A real setting."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unsupported("a number that depends on the batch size")
    return float(value)


def dims_of(node: fx.Node, dims: Any) -> tuple[int, ...]:
    """Axes of the first argument counted from the left; all of them when none is named."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return tuple(range(value_of(source).dim()))
    listed = [dims] if isinstance(dims, int) else dims
    return tuple(axis_of(source, whole_of(dim)) for dim in listed)


def module_path(node: fx.Node) -> str:
    """Dotted path of the module whose forward created the node."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values() if isinstance(entry, tuple) and entry]
    return paths[-1] if paths and paths[-1] else "the top module"


class Lowering:
    """Translates one fx graph; ``nodes`` and ``problems`` grow as it runs.

    Args:
        names: fx placeholder name -> parameter name, or ``"input"`` for the user's input.
        integer_names: parameters that hold integers and must be read through ``to_index``.
        batch: the size that stands for the number of samples.

    Attributes:
        sample_numbers: ``arange(batch)``, which has a meaning only as an index of the batch.
    """

    def __init__(self, names: Mapping[str, str], integer_names: frozenset[str], batch: object) -> None:
        self.nodes: list[Node] = []
        self.problems: list[str] = []
        self.results: dict[fx.Node, str | list[str]] = {}
        self.batch = str(batch)
        self.sample_numbers: set[fx.Node] = set()
        self._names, self._integers = names, integer_names
        self._taken = {INPUT, *names.values()}

    def run(self, graph: fx.Graph) -> str:
        """Lowers every node that the output depends on; returns the name of the output value."""
        needed = ancestors(graph)
        output = ""
        for node in graph.nodes:
            if node not in needed:
                continue
            if node.op == "output":
                output = self._output(node)
            elif node.op == "placeholder":
                self._placeholder(node)
            elif isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool):
                continue
            else:
                self._call(node)
        return output

    def _output(self, node: fx.Node) -> str:
        leaf = node.args[0]
        leaf = leaf[0] if isinstance(leaf, list | tuple) and len(leaf) == 1 else leaf
        if not isinstance(leaf, fx.Node):
            self.problems.append("an output that is not one tensor")
            return ""
        result = self.results.get(leaf, "")
        return result if isinstance(result, str) else ""

    def _placeholder(self, node: fx.Node) -> None:
        name = self._names.get(node.name)
        if name is None:
            self.problems.append(f"input {node.name!r} that is not a tensor")
            return
        self.results[node] = self.emit("to_index", [name], {}, node.name) if name in self._integers else name

    def _call(self, node: fx.Node) -> None:
        target = str(node.target) if isinstance(node.target, torch._ops.OpOverload) else _plain_name(node.target)
        if target in _SHAPING and node.args[0] in self.sample_numbers:
            self.sample_numbers.add(node)
            return
        handler = HANDLERS.get(target)
        try:
            if handler is None:
                raise Unsupported("it is not on the list of supported operations")
            result = handler(self, node, _bound(node))
            self.results[node] = result
            if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
                # an in-place operator also renews the value its argument had; a wrong alias is caught by the replay
                self.results[node.args[0]] = result  # type: ignore[index]
        except Unsupported as problem:
            self.problems.append(f"{target} in {module_path(node)} ({problem})")
            self.results[node] = ""

    def value(self, node: object) -> str:
        """IR name of an fx argument."""
        if not isinstance(node, fx.Node):
            raise Unsupported("an argument that is not a tensor")
        if node in self.sample_numbers:
            raise Unsupported("the numbers of the samples in a batch are used")
        result = self.results.get(node)
        if not isinstance(result, str):
            raise Unsupported("an argument that is not one tensor")
        return result

    def values(self, *nodes: object) -> list[str]:
        """IR names of several fx arguments; trailing Nones are dropped, a None before a tensor is unsupported."""
        kept = list(nodes)
        while kept and kept[-1] is None:
            kept.pop()
        return [self.value(node) for node in kept]

    def emit(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Attribute], hint: str) -> str:
        """Appends a node and returns its name, made unique from ``hint``."""
        name = new_name(hint, self._taken)
        self._taken.add(name)
        self.nodes.append(Node(name, op, tuple(inputs), attributes))
        return name

    def apply(self, op: str, node: fx.Node, *inputs: object, **attributes: Attribute) -> str:
        """Appends the operation that ``node`` is, of fx arguments (as :meth:`values`), and returns its name."""
        return self.emit(op, self.values(*inputs), attributes, node.name)

    def typed(self, name: str, node: fx.Node) -> str:
        """A result that may have become float32 because of a number in it, as the type that torch recorded."""
        kind = value_of(node).dtype
        if kind == torch.float32:
            return name
        if kind == torch.bool:
            return self.emit("not_equal_scalar", [name], {"value": 0.0}, node.name)
        return self.emit("to_index", [name], {}, node.name)

    def sizes(self, node: fx.Node, symbol: int) -> tuple[int, ...]:
        """Recorded sizes of a node with ``symbol`` in place of the one that depends on the batch."""
        shape = value_of(node).shape
        if sum(is_symbolic(size) for size in shape) > 1:
            raise Unsupported("two axes depend on the batch size")
        return tuple(symbol if is_symbolic(size) else int(size) for size in shape)


def new_name(wanted: str, taken: Container[str]) -> str:
    """``wanted``, or the first of ``wanted.1``, ``wanted.2``, ... that is not taken."""
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}.{number}", number + 1
    return name


def _plain_name(target: object) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}".lstrip("_")


def ancestors(graph: fx.Graph) -> set[fx.Node]:
    """Nodes the output depends on; an in-place operator counts as part of the value it changes."""
    changes: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            for source in node.all_input_nodes:
                changes.setdefault(source, []).append(node)
    stack = [node for node in graph.nodes if node.op == "output"]
    seen: set[fx.Node] = set()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend([*node.all_input_nodes, *changes.get(node, [])])
    return seen


def _bound(node: fx.Node) -> Args:
    """Arguments by name, defaults filled in from the operator's schema."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {str(k): value for k, value in enumerate(node.args)}
    bound: dict[str, Any] = {}
    for k, argument in enumerate(node.target._schema.arguments):
        if k < len(node.args):
            bound[argument.name] = node.args[k]
        elif argument.name in node.kwargs:
            bound[argument.name] = node.kwargs[argument.name]
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound
