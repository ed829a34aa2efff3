"""A module that cannot be exported, as a predictor whose whole state is coded.

A certificate needs only predictions and bits, so a module that torch.export refuses can still be certified: all
its parameters and buffers (tied ones once, whole numbers and booleans exactly) are the message, its code is the helper,
named by a factory and hashed file by file (:mod:`bitcert.network.sources`). Predictions run the user's Python, which is
trusted: state hidden in plain attributes is not coded.
Nothing here knows its layers, so it cannot be measured; and nothing proves that it treats samples independently: a
random comparison of one batch with its parts is made, which is NOT a proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bitcert.errors import CaptureError, ModelError
from bitcert.network.checks import check_eager, check_example, check_finite, evaluation_copy
from bitcert.network.nodes import ParameterSpec
from bitcert.network.sources import module_sources
from bitcert.network.user_code import users_network

LARGEST_EXACT = 2**24 - 1
"""Whole numbers in the state of a module may not be larger: float32 and the message hold them exactly."""


@dataclass(frozen=True, eq=False)
class OpaqueModel:
    """A :class:`~bitcert.network.network.Predictor` made of a module; built by :func:`capture_opaque`.

    Attributes:
        module: evaluation copy; its floating state is replaced at every call.
        factory: ``package.module:factory`` that a decoder calls to get the module again.
        parameters: the tensors to code, tied ones once.
        aliases: other names of a tied tensor -> the name it is coded under.
        dtypes: names of whole-number and boolean tensors -> their dtype; they are coded exactly, as float32.
        num_outputs: number of classes.
        input_shape: sizes of one input.
        sources: the user's source files by dotted module name; empty where they could not be read.
        input_dtype: ``"float32"``, or ``"int64"`` for a module that reads tokens.
    """

    module: nn.Module
    factory: str
    parameters: tuple[ParameterSpec, ...]
    num_outputs: int
    input_shape: tuple[int, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    sources: Mapping[str, bytes] = field(default_factory=dict)
    input_dtype: str = "float32"

    @property
    def content_hash(self) -> str:
        """SHA-256 of factory name, tensor names and shapes, and the user's source files."""
        specs = [[spec.name, list(spec.shape), spec.kind] for spec in self.parameters]
        document = [
            self.factory,
            specs,
            self.num_outputs,
            list(self.input_shape),
            sorted(self.aliases.items()),
            sorted((name, str(dtype)) for name, dtype in self.dtypes.items()),
            self.describe_sources(),
        ]
        if self.input_dtype != "float32":
            document.append(self.input_dtype)
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def describe_sources(self) -> list[list[object]]:
        """Name, SHA-256 and size in bytes of each source file, as JSON values."""
        return [
            [name, hashlib.sha256(content).hexdigest(), len(content)] for name, content in sorted(self.sources.items())
        ]

    def forward(self, x: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[batch, num_outputs]`` with the module's state replaced by ``parameters``.

        Raises:
            ModelError: its code raises, or does not return logits of this shape.
        """
        state = {spec.name: parameters[spec.name] for spec in self.parameters}
        state.update({name: state[name].to(dtype) for name, dtype in self.dtypes.items()})
        state.update({alias: state[name] for alias, name in self.aliases.items()})
        with users_network("predict", len(x)):
            result = functional_call(self.module, state, (x,))
        if not isinstance(result, Tensor) or tuple(result.shape) != (len(x), self.num_outputs):
            got = f"shape {list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise ModelError(f"an output [{len(x)}, {self.num_outputs}]", got, "return the logits whatever the batch")
        return result


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, non-persistent ones included, under every name it has."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def capture_opaque(model: nn.Module, factory: str, example: Tensor) -> tuple[OpaqueModel, dict[str, Tensor]]:
    """A module as predictor and the values of its tensors; the module itself is not changed.

    Args:
        model: any module that maps one tensor to logits.
        factory: ``package.module:factory`` that builds it again.
        example: inputs ``[batch, ...]``.

    Raises:
        CaptureError: it raises, is random, mixes samples, holds non-finite or extra state, or has no floating state.
    """
    example = check_example(example)
    _check_state(model)
    module = evaluation_copy(model, [])
    values, aliases, dtypes = _collect(module)
    check_finite(values)
    with torch.random.fork_rng(devices=[]):
        logits = check_eager(module, example)
    if not values:
        raise CaptureError("a module with parameters or buffers", "none", "pass a trained network")
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    specs = tuple(
        ParameterSpec(name, tuple(tensor.shape), "buffer" if name in buffers else _kind(tensor))
        for name, tensor in values.items()
    )
    shape, sources = tuple(example.shape[1:]), module_sources(model, factory)
    dtype = "int64" if example.dtype == torch.int64 else "float32"
    opaque = OpaqueModel(module, factory, specs, int(logits.shape[1]), shape, aliases, dtypes, sources, dtype)
    _check_independence(opaque, values, example)
    return opaque, values


def _check_state(model: nn.Module) -> None:
    """Refuse state outside parameters and buffers that a state dict restores: the message would not hold it."""
    for name, part in model.named_modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            got = f"extra state in {name or 'the network'} ({type(part).__name__}.get_extra_state)"
            raise CaptureError("a network whose state is parameters and buffers", got, "keep it in a buffer")


def _kind(tensor: Tensor) -> str:
    return "weight" if tensor.dim() > 1 else "bias"


def _exact_floats(name: str, tensor: Tensor) -> Tensor:
    """A tensor of whole numbers or booleans as float32, without loss.

    Raises:
        CaptureError: when float32 cannot hold it, or it is of another kind (complex).
    """
    numbers = tensor.detach().to(torch.float64) if not tensor.is_complex() else None
    if numbers is None or (numbers.numel() and float(numbers.abs().max()) > LARGEST_EXACT):
        got = f"{name!r} of {tensor.dtype}"
        raise CaptureError(f"state of real numbers, whole ones up to {LARGEST_EXACT}", got, "store it otherwise")
    return numbers.to(torch.float32)


def _collect(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str], dict[str, torch.dtype]]:
    """All state to code, aliases of tied tensors, and the dtypes of what is not floating.

    Counters of batch norm are left out: nothing in evaluation mode reads them.
    """
    values: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    dtypes: dict[str, torch.dtype] = {}
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in _state(module).items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if name.endswith("num_batches_tracked"):
            continue
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
            continue
        seen[key] = name
        if tensor.is_floating_point():
            values[name] = tensor.detach().contiguous().clone()
        else:
            values[name], dtypes[name] = _exact_floats(name, tensor), tensor.dtype
    return values, aliases, dtypes


def _check_independence(opaque: OpaqueModel, values: dict[str, Tensor], example: Tensor) -> None:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            whole = opaque.forward(example[:16], values)
            parts = torch.cat([opaque.forward(row, values) for row in torch.chunk(example[:16], min(len(example), 16))])
    except ModelError as error:
        raise CaptureError("a model for any batch size", error.got, error.do) from error
    if not torch.allclose(whole, parts, rtol=1e-4, atol=1e-4 * float(whole.abs().max())):
        raise CaptureError(
            "predictions of one input at a time",
            "logits that depend on the rest of the batch",
            "use running statistics",
        )
