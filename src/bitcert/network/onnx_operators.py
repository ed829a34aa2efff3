"""ONNX operators in terms of torch, by name, for the operator sets from version 7 on.

Each takes a :class:`Call`: the inputs (tensors, numbers, or arrays of known whole numbers), the attributes and the
version. Whatever torch has no equal of raises :class:`Unreadable` with a reason. Source: the operator pages of
onnx.ai, all versions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["OPERATORS", "Call", "Unreadable"]


class Unreadable(ValueError):
    """A use of an operator that this reader does not understand."""


@dataclass(frozen=True, eq=False)
class Call:
    """One operator with its inputs.

    Attributes:
        op: its name.
        inputs: tensors, arrays of Python integers, or None where left out.
        attributes: of the node.
        opset: version of the operator set.
        outputs: how many results are named.
        device: of the network's input.
        batch: the batch size that the file was written for and the real one, if the value depends on the input.
        constants: values of those inputs that are weights or constants, by place.
    """

    op: str
    inputs: Sequence[Any]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int
    device: torch.device
    batch: tuple[Any, Any] | None = None
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def input(self, place: int) -> Any:
        """An input, or None."""
        return self.inputs[place] if place < len(self.inputs) else None

    def tensor(self, place: int) -> Tensor:
        """An input as a tensor."""
        value = self.input(place)
        if isinstance(value, np.ndarray):
            return torch.tensor(value.tolist(), dtype=torch.int64, device=self.device)
        if isinstance(value, float):
            return torch.tensor(value, dtype=torch.float32, device=self.device)
        if not isinstance(value, Tensor):
            raise Unreadable(f"input {place} is missing")
        return value

    def operand(self, place: int) -> Any:
        """An input as a tensor, or as the number that it is everywhere."""
        value = self.input(place)
        return value if isinstance(value, float) else self.tensor(place)

    def numbers(self, place: int, name: str = "", default: Any = None) -> list[Any] | None:
        """Whole numbers that an input holds, or (in older versions) an attribute."""
        value = self.input(place)
        if value is None:
            found = self.attribute(name, default)
            return found if found is None else list(found) if isinstance(found, list | tuple) else [found]
        if isinstance(value, np.ndarray):
            return list(value.reshape(-1))
        raise Unreadable(f"{name or 'whole numbers'} that depend on the values of the inputs")

    def constant(self, place: int) -> list[float] | None:
        """Numbers of an input that does not depend on the network's input; None if it is left out."""
        value = self.input(place)
        if value is None or (isinstance(value, Tensor) and value.numel() == 0):
            return None
        if isinstance(value, np.ndarray):
            return [float(number) for number in value.reshape(-1)]
        found = self.constants.get(place)
        if found is None:
            raise Unreadable(f"input {place} depends on the values of the inputs")
        return [float(number) for number in found.reshape(-1)]

    def axes(self, place: int, ndim: int) -> list[int] | None:
        """Axes from an input or the attribute, counted from the left."""
        found = self.numbers(place, "axes")
        return None if found is None else sorted(int(axis) % ndim for axis in found)


Operator = Callable[[Call], Any]
OPERATORS: dict[str, Operator] = {}


def reads(*names: str) -> Callable[[Operator], Operator]:
    """Registers an operator under its names."""

    def register(operator: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, operator))
        return operator

    return register


def _known(call: Call) -> bool:
    return all(isinstance(value, np.ndarray) for value in call.inputs if value is not None)


def _whole(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, Tensor) and not value.is_floating_point())


def _register_simple() -> None:
    unary: dict[str, Callable[[Tensor], Tensor]] = {
        **{name: getattr(torch, name.lower()) for name in ("Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Floor")},
        **{
            name: getattr(torch, name.lower())
            for name in ("Ceil", "Round", "Erf", "Sin", "Cos", "Sign", "Sigmoid", "Tanh")
        },
        **{"Relu": F.relu, "Softplus": F.softplus, "Softsign": F.softsign, "HardSwish": F.hardswish, "Mish": F.mish},
        **{
            "Not": torch.logical_not,
            "Atan": torch.atan,
            "GlobalAveragePool": _global_mean,
            "GlobalMaxPool": _global_max,
        },
        "Identity": lambda x: x,
    }
    for name, function in unary.items():

        @reads(name)
        def _unary(call: Call, function: Callable[[Tensor], Tensor] = function) -> Any:
            if call.op == "Identity":
                return call.input(0)
            if call.op in ("Neg", "Abs") and _known(call):
                return -call.input(0) if call.op == "Neg" else np.abs(call.input(0))
            return function(call.tensor(0))

    known: dict[str, Callable[[Any, Any], Any]] = {
        **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide, "Mod": np.mod},
    }
    binary: dict[str, Callable[..., Any]] = {
        **{"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Pow": torch.pow, "Mod": torch.remainder},
        **{"And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor, "Equal": operator.eq},
        **{"Greater": operator.gt, "Less": operator.lt, "GreaterOrEqual": operator.ge, "LessOrEqual": operator.le},
    }
    for name in (*binary, "Div"):

        @reads(name)
        def _binary(call: Call, name: str = name) -> Any:
            if name in known and _known(call):
                return np.asarray(known[name](call.input(0), call.input(1)), dtype=object)
            if name == "Equal" and _known(call):
                pairs = np.broadcast_arrays(call.input(0), call.input(1))
                return _filled_like(pairs[0], [bool(a == b) for a, b in zip(*map(np.ravel, pairs), strict=True)])
            a, b = call.operand(0), call.operand(1)
            if isinstance(a, float) and isinstance(b, float):
                a = call.tensor(0)
            if name == "Div":
                return torch.div(a, b, rounding_mode="trunc") if _whole(a) and _whole(b) else a / b
            return binary[name](a, b)


def _filled_like(array: np.ndarray, values: list[Any]) -> np.ndarray:
    found = np.empty(array.size, dtype=object)
    found[:] = values
    return found.reshape(array.shape)


def _global_mean(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


def _global_max(x: Tensor) -> Tensor:
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


_register_simple()


@reads("Max", "Min", "Sum", "Mean")
def _several(call: Call) -> Tensor:
    parts = [call.tensor(k) for k in range(len(call.inputs))]
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(call.op, torch.add)
    found = parts[0]
    for part in parts[1:]:
        found = function(found, part)
    return found / len(parts) if call.op == "Mean" else found


@reads("LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "ThresholdedRelu", "Gelu", "Swish")
def _activation(call: Call) -> Tensor:
    x, alpha = call.tensor(0), call.attribute("alpha")
    match call.op:
        case "LeakyRelu":
            return F.leaky_relu(x, 0.01 if alpha is None else alpha)
        case "Elu":
            return F.elu(x, 1.0 if alpha is None else alpha)
        case "Celu":
            return F.celu(x, 1.0 if alpha is None else alpha)
        case "Selu":
            gamma, a = call.attribute("gamma", 1.0507009873554805), 1.6732632423543772 if alpha is None else alpha
            return torch.mul(F.elu(x, a), gamma)
        case "HardSigmoid":
            scaled = torch.mul(x, 0.2 if alpha is None else alpha)
            return torch.clamp(scaled + call.attribute("beta", 0.5), 0.0, 1.0)
        case "ThresholdedRelu":
            return torch.where(x > (1.0 if alpha is None else alpha), x, torch.zeros_like(x))
        case "Swish":
            return x * torch.sigmoid((1.0 if alpha is None else alpha) * x)
    return F.gelu(x, approximate=call.attribute("approximate", "none"))


@reads("PRelu")
def _prelu(call: Call) -> Tensor:
    x, slope = call.tensor(0), call.tensor(1)
    if slope.numel() in (1, x.shape[1]) and x.dim() - slope.dim() < 2:
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@reads("Clip")
def _clip(call: Call) -> Tensor:
    bounds = [call.attribute(name) for name in ("min", "max")]
    for place in (1, 2):
        if call.input(place) is not None:
            bounds[place - 1] = call.operand(place)
    low, high = bounds
    x = call.tensor(0)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        x = x if low is None else torch.maximum(x, torch.as_tensor(low))
        return x if high is None else torch.minimum(x, torch.as_tensor(high))
    limit = 1e38
    return x.clamp(None if low is None else max(low, -limit), None if high is None else min(high, limit))


@reads("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Tensor:
    x, function = call.tensor(0), torch.softmax if call.op == "Softmax" else torch.log_softmax
    if call.opset >= 13:
        return function(x, call.attribute("axis", -1))
    axis = call.attribute("axis", 1) % x.dim()
    if axis == x.dim() - 1:
        return function(x, axis)
    return function(x.flatten(axis), -1).reshape(x.shape)


@reads("Cast", "CastLike")
def _cast(call: Call) -> Any:
    target = call.attribute("to") if call.op == "Cast" else (7 if _whole(call.input(1)) else 1)
    value = call.input(0)
    if target in (1, 10, 11, 16):
        return call.tensor(0).to(torch.float32)
    if target == 9:
        return call.tensor(0) != 0
    if target not in (2, 3, 4, 5, 6, 7, 12, 13):
        raise Unreadable(f"a conversion to type {target}")
    return value if isinstance(value, np.ndarray) else value.to(torch.int64)


@reads("Dropout")
def _dropout(call: Call) -> list[Any]:
    return [call.input(0)]


@reads("Constant")
def _constant(call: Call) -> Any:
    name, value = next(iter(call.attributes.items()))
    array = np.asarray(value)
    if name.startswith("value_string") or array.dtype.kind not in "biuf":
        raise Unreadable("a constant that is no number")
    if array.dtype.kind in "biu":
        return array.astype(object)
    if array.size == 1:
        return float(array.reshape(-1)[0])
    return torch.tensor(array, dtype=torch.float32, device=call.device)


@reads("Shape")
def _shape(call: Call) -> Any:
    sizes = list(call.tensor(0).shape)[call.attribute("start", 0) : call.attribute("end")]
    return np.array(sizes, dtype=object)


@reads("Size")
def _size(call: Call) -> Any:
    return np.array(math.prod(call.tensor(0).shape), dtype=object)


@reads("ConstantOfShape")
def _filled(call: Call) -> Any:
    value = np.asarray(call.attribute("value", np.zeros(1, np.float32))).reshape(-1)[0]
    sizes = call.numbers(0) or []
    if value.dtype.kind in "biu" and all(type(size) is int for size in sizes):
        if math.prod(sizes) > 1 << 12:
            raise Unreadable("a large array of whole numbers")
        return np.full(sizes, int(value), dtype=object)
    kind = torch.int64 if value.dtype.kind in "iu" else torch.bool if value.dtype.kind == "b" else torch.float32
    return torch.full(_sizes(sizes), value.item(), dtype=kind, device=call.device)


@reads("Range")
def _range(call: Call) -> Any:
    if not _known(call):
        raise Unreadable("a range of numbers that are not known whole ones")
    start, limit, delta = (value.reshape(-1)[0] for value in call.inputs)
    if not all(type(each) is int for each in (start, limit, delta)):
        raise Unreadable("a range that depends on the batch size")
    if delta == 0 or abs((limit - start) // delta) > 1 << 20:
        raise Unreadable("a range of very many numbers")
    return np.array(range(start, limit, delta), dtype=object)


def _sizes(sizes: Sequence[Any]) -> list[Any]:
    if any(type(size) is int and not 0 <= size <= 1 << 27 for size in sizes) or len(sizes) > 8:
        raise Unreadable(f"sizes {list(sizes)[:9]}")
    return list(sizes)


@reads("Where")
def _where(call: Call) -> Any:
    if _known(call):
        parts = np.broadcast_arrays(*call.inputs)
        return _filled_like(parts[0], [b if a else c for a, b, c in zip(*map(np.ravel, parts), strict=True)])
    return torch.where(call.tensor(0) != 0, call.tensor(1), call.tensor(2))


@reads("CumSum")
def _cumsum(call: Call) -> Tensor:
    x, axis = call.tensor(0), int((call.numbers(1) or [0])[0])
    if call.attribute("exclusive", 0) or call.attribute("reverse", 0):
        raise Unreadable("an exclusive or reversed running sum")
    return torch.cumsum(x, axis)


@reads("ArgMax")
def _argmax(call: Call) -> Tensor:
    return torch.argmax(call.tensor(0), call.attribute("axis", 0), keepdim=bool(call.attribute("keepdims", 1)))


@reads("Trilu")
def _trilu(call: Call) -> Tensor:
    k = int((call.numbers(1, default=0) or [0])[0])
    return (torch.triu if call.attribute("upper", 1) else torch.tril)(call.tensor(0), k)


def _register_reductions() -> None:
    def logsumexp(x: Tensor, dims: Any, keep: bool) -> Tensor:
        return torch.logsumexp(x, dims, keep)

    functions: dict[str, Callable[[Tensor, Any, bool], Tensor]] = {
        "Mean": torch.mean,
        "Sum": torch.sum,
        "Max": torch.amax,
        "Min": torch.amin,
        "L1": lambda x, dims, keep: x.abs().sum(dims, keep),
        "L2": lambda x, dims, keep: (x * x).sum(dims, keep).sqrt(),
        "SumSquare": lambda x, dims, keep: (x * x).sum(dims, keep),
        "LogSum": lambda x, dims, keep: x.sum(dims, keep).log(),
        "LogSumExp": logsumexp,
    }
    for name, function in functions.items():

        @reads(f"Reduce{name}")
        def _reduce(call: Call, function: Callable[[Tensor, Any, bool], Tensor] = function) -> Tensor:
            x = call.tensor(0)
            axes = call.axes(1, max(1, x.dim()))
            if not axes:
                if call.attribute("noop_with_empty_axes", 0):
                    return x
                axes = list(range(x.dim()))
            return function(x, axes, bool(call.attribute("keepdims", 1)))


_register_reductions()


@reads("ReduceProd")
def _product(call: Call) -> Any:
    if not _known(call):
        raise Unreadable("a product along axes")
    found = math.prod(call.input(0).reshape(-1))
    return np.array([found] if call.attribute("keepdims", 1) else found, dtype=object)
