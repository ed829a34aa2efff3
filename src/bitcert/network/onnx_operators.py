"""ONNX operators in terms of torch, by name, for the operator sets from version 7 on.

Each takes a :class:`~bitcert.network.onnx_call.Call`: the inputs (tensors, numbers, or arrays of known whole numbers),
the attributes and the version. Whatever torch has no equal of raises ``Unreadable`` with a reason. Source: the operator
pages of onnx.ai, all versions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.network.onnx_call import Call, Unreadable, endless_number, reads


def _known(call: Call) -> bool:
    return all(isinstance(value, np.ndarray) for value in call.inputs if value is not None)


def _whole(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, Tensor) and not value.is_floating_point())


def _quotient(a: Any, b: Any) -> Any:
    """Quotients of whole numbers, rounded towards zero; sizes that are not known are not below it."""

    def divide(a: Any, b: Any) -> Any:
        return -(-a // b) if type(a) is type(b) is int and (a < 0) != (b < 0) else a // b

    return np.frompyfunc(divide, 2, 1)(a, b)


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
        **{"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _quotient, "Mod": np.mod},
    }
    binary: dict[str, Callable[..., Any]] = {
        **{"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Pow": torch.pow, "Mod": torch.remainder},
        **{"And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor, "Equal": operator.eq},
        **{"Greater": operator.gt, "Less": operator.lt, "GreaterOrEqual": operator.ge, "LessOrEqual": operator.le},
    }
    for name in (*binary, "Div"):

        @reads(name)
        def _binary(call: Call, name: str = name) -> Any:
            if name == "Mod":
                call.only(fmod=0)
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
    if slope.numel() == 1 or [1, x.shape[1], *(1,) * (x.dim() - 2)][-slope.dim() :] == list(slope.shape):
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
    if not isinstance(value, np.ndarray):
        if value.dtype == torch.bool:
            return value.to(torch.int64)
        value = value.to(torch.int64)
    if target not in _NARROW:
        return value
    size, below = _NARROW[target]
    return (value + below) % size - below


_NARROW = {2: (1 << 8, 0), 3: (1 << 8, 1 << 7), 4: (1 << 16, 0), 5: (1 << 16, 1 << 15)}
"""Types of 8 and 16 bits, by ONNX's number: how many values they have, and how many of them are below 0."""


@reads("Dropout")
def _dropout(call: Call) -> list[Any]:
    if any(call.constant(2) or ()):
        raise Unreadable("training")
    return [call.input(0)]


@reads("Constant")
def _constant(call: Call) -> Any:
    (name,) = call.attributes
    array = np.asarray(call.attribute(name))
    if name.startswith("value_string") or array.dtype.kind not in "biuf":
        raise Unreadable("a constant that is no number")
    if array.dtype.kind in "biu":
        return array.astype(object)
    if array.size == 1 and array.ndim < 2:
        return float(array.reshape(-1)[0])
    endless = endless_number(array)
    return torch.tensor(array, dtype=torch.float32, device=call.device) if endless is None else endless


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
    chosen = call.tensor(0) != 0
    for place, filled in ((1, chosen), (2, ~chosen)):
        value = call.input(place)
        if isinstance(value, float) and math.isinf(value):  # a masked entry: no tensor may be infinite
            other, axes = call.tensor(3 - place), call.constants[place].shape
            shape = torch.broadcast_shapes(chosen.shape, other.shape, axes)  # type: ignore[no-untyped-call]
            return other.expand(shape).masked_fill(filled, value)
    return torch.where(chosen, call.tensor(1), call.tensor(2))


@reads("CumSum")
def _cumsum(call: Call) -> Tensor:
    x, axis = call.tensor(0), int((call.numbers(1) or [0])[0])
    call.only(exclusive=0, reverse=0)
    return torch.cumsum(x, axis)


@reads("ArgMax")
def _argmax(call: Call) -> Tensor:
    call.only(select_last_index=0)
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
            axes, nothing = call.axes(1, max(1, x.dim())), call.attribute("noop_with_empty_axes", 0)
            if not axes:
                if nothing:
                    return x
                axes = list(range(x.dim()))
            return function(x, axes, bool(call.attribute("keepdims", 1)))


_register_reductions()


@reads("ReduceProd")
def _product(call: Call) -> Any:
    call.only(noop_with_empty_axes=0)
    if not _known(call) or call.input(0).ndim != 1 or call.axes(1, 1) not in (None, [0]):
        raise Unreadable("a product along axes")
    found = math.prod(call.input(0).reshape(-1))
    return np.array([found] if call.attribute("keepdims", 1) else found, dtype=object)
