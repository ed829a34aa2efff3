"""A module that cannot be exported, as a predictor whose whole state is coded.

A certificate needs only predictions and bits, so a module that torch.export refuses can still be certified: all
its floating parameters and buffers (tied ones once) are the message, its code is the helper, named by a factory.
Predictions run the user's Python. Nothing here knows its layers, so it cannot be measured; and nothing proves that it
treats samples independently: a random comparison of one batch with its parts is made, which is NOT a proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bitcert.errors import CaptureError
from bitcert.network.architecture import ParameterSpec
from bitcert.network.capture import check_eager, check_example, check_finite, evaluation_copy


@dataclass(frozen=True, eq=False)
class OpaqueModel:
    """A :class:`~bitcert.network.predictor.Predictor` made of a module; built by :func:`capture_opaque`.

    Attributes:
        module: evaluation copy; its floating state is replaced at every call.
        factory: ``package.module:factory`` that a decoder calls to get the module again.
        parameters: the tensors to code, tied ones once.
        aliases: other names of a tied tensor -> the name it is coded under.
        integers: integer state that is not coded and must be rebuilt by the factory.
        num_outputs: number of classes.
        input_shape: sizes of one input.
    """

    module: nn.Module
    factory: str
    parameters: tuple[ParameterSpec, ...]
    num_outputs: int
    input_shape: tuple[int, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)
    integers: tuple[str, ...] = ()

    @property
    def content_hash(self) -> str:
        """SHA-256 of factory name, tensor names and shapes; the code behind the factory is NOT in it."""
        specs = [[spec.name, list(spec.shape), spec.kind] for spec in self.parameters]
        integers = {name: tensor.tolist() for name, tensor in _state(self.module).items() if name in self.integers}
        document = [
            self.factory,
            specs,
            self.num_outputs,
            list(self.input_shape),
            sorted(self.aliases.items()),
            integers,
        ]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def forward(self, x: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[batch, num_outputs]`` with the module's state replaced by ``parameters``."""
        state = {spec.name: parameters[spec.name] for spec in self.parameters}
        state.update({alias: state[name] for alias, name in self.aliases.items()})
        result = functional_call(self.module, state, (x,))
        assert isinstance(result, Tensor)
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
        CaptureError: it raises, is random, mixes samples, holds non-finite state, or has no floating state.
    """
    example = check_example(example)
    module = evaluation_copy(model, [])
    values, aliases, integers = _collect(module)
    check_finite(values)
    with torch.random.fork_rng(devices=[]):
        logits = check_eager(module, example)
    if not values:
        raise CaptureError("a module with floating parameters", "none", "pass a trained network")
    specs = tuple(
        ParameterSpec(name, tuple(tensor.shape), "weight" if tensor.dim() > 1 else "bias")
        for name, tensor in values.items()
    )
    opaque = OpaqueModel(
        module, factory, specs, int(logits.shape[1]), tuple(example.shape[1:]), aliases, tuple(integers)
    )
    _check_independence(opaque, values, example)
    return opaque, values


def _collect(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    values: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    integers: list[str] = []
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in _state(module).items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        if not tensor.is_floating_point():
            integers.append(name)
        elif tensor.numel() and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            values[name] = tensor.detach().contiguous().clone()
    return values, aliases, integers


def _check_independence(opaque: OpaqueModel, values: dict[str, Tensor], example: Tensor) -> None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        whole = opaque.forward(example[:16], values)
        parts = torch.cat([opaque.forward(row, values) for row in torch.chunk(example[:16], min(len(example), 16))])
    if not torch.allclose(whole, parts, rtol=1e-4, atol=1e-4 * float(whole.abs().max())):
        raise CaptureError(
            "predictions of one input at a time",
            "logits that depend on the rest of the batch",
            "use running statistics",
        )
