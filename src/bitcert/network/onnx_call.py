"""What an ONNX operator is given, and the table of operators by name.

An attribute that an operator did not ask for is refused: what it means would be missing in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["OPERATORS", "Call", "Unreadable", "reads"]


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
    _read: set[str] = field(default_factory=set)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        self._read.add(name)
        return self.attributes.get(name, default)

    def only(self, **values: Any) -> None:
        """Refuse attributes with other values than these, which are their defaults."""
        for name, value in values.items():
            if self.attribute(name, value) != value:
                raise Unreadable(f"{name} {self.attribute(name)}")

    def check_all_read(self) -> None:
        """Refuse attributes that the operator did not ask for: what they mean is not in its result."""
        ignored = self.attributes.keys() - self._read - _WITHOUT_EFFECT.get(self.op, frozenset())
        if ignored:
            raise Unreadable(f"the attribute {min(ignored)}")

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


def endless_number(array: np.ndarray) -> float | None:
    """The infinity that is everywhere in an array, if it is: no tensor of an architecture may be infinite."""
    first = array.reshape(-1)[:1]
    return float(first[0]) if array.dtype.kind == "f" and np.isinf(first).any() and (array == first).all() else None


_WITHOUT_EFFECT = {
    "BatchNormalization": {"momentum"},
    "Cast": {"saturate", "round_mode"},  # of types that are refused
    "CastLike": {"saturate", "round_mode"},
    "Conv": {"kernel_shape"},  # that of the weight
    "ConvTranspose": {"kernel_shape"},
    "Dropout": {"ratio", "seed"},  # of training
    "GroupNormalization": {"stash_type"},
    "LayerNormalization": {"stash_type"},
    "LinearClassifier": {"multi_class"},
    "MaxPool": {"storage_order"},  # of places, which are refused
    "RMSNormalization": {"stash_type"},
    "Resize": {"extrapolation_value"},  # of a mode that is refused
    "ZipMap": {"classlabels_ints", "classlabels_int64s", "classlabels_strings"},
}
"""Attributes that no result depends on."""

Operator = Callable[[Call], Any]
OPERATORS: dict[str, Operator] = {}


def reads(*names: str) -> Callable[[Operator], Operator]:
    """Registers an operator under its names."""

    def register(operator: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, operator))
        return operator

    return register
