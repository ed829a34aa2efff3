"""What is checked of a user's network around its capture: the example, the module's state, its answers, the replay.

All of it is evidence from the example and one batch more, NOT a proof: a module may answer otherwise elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bitcert.errors import CaptureError
from bitcert.network.architecture import Architecture
from bitcert.network.named_code import advice
from bitcert.network.unwrapping import copied, plain_module
from bitcert.network.user_code import one_line, users_network

REPLAY_TOLERANCE = 1e-5
OF_TWO = "of one logit s for two classes, torch.stack((torch.zeros_like(s), s), 1)"
Function = Callable[[Tensor], Tensor]


def check_example(example: Tensor) -> Tensor:
    """The example on the CPU with at least two rows, float32 or int64.

    Raises:
        CaptureError: not a batch of finite float32 numbers or of int64 tokens.
    """
    if not isinstance(example, Tensor) or example.dim() < 2 or example.numel() == 0:
        got = f"shape {list(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise CaptureError("an example batch [batch, ...] with at least one input", got, "pass a batch of real inputs")
    if example.dtype not in (torch.float32, torch.int64):
        raise CaptureError("an example of float32 or int64", str(example.dtype), "convert it")
    if not bool(torch.isfinite(example.double()).all()):
        raise CaptureError("an example of finite numbers", "NaN or infinity", "clean the data")
    example = example.detach().cpu()
    return torch.cat([example, example]) if len(example) == 1 else example


def evaluation_copy(model: nn.Module, notes: list[str]) -> nn.Module:
    """A deep copy of ``model`` in evaluation mode, float32, on the CPU; the original is not touched."""
    model = plain_module(model)
    try:
        module = copied(model)
    except Exception as error:
        raise CaptureError("a module that can be copied", one_line(error), "remove state that is not a leaf") from error
    if any(module_.training for module_ in module.modules()):
        notes.append("the module was in training mode; captured in evaluation mode")
    floating = {t.dtype for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()}
    if floating - {torch.float32}:
        notes.append(f"converted from {', '.join(sorted(map(str, floating)))} to torch.float32")
    with users_network("be put into evaluation mode"):
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        return module.eval().cpu().float()


def check_eager(function: Function, example: Tensor) -> Tensor:
    """Logits of two passes that must agree bit for bit.

    Raises:
        CaptureError: the model raises, is random in evaluation mode, or does not return [batch, classes].
    """
    with torch.no_grad():
        try:
            first, second = function(example), function(example)
        except Exception as error:
            do = advice(error, "check its input shape (--shape gives the inputs of arrays another one)")
            raise CaptureError("a model that accepts the example", one_line(error), do) from error
    if not isinstance(first, Tensor) or first.dim() != 2 or len(first) != len(example):
        got = f"shape {list(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
        raise CaptureError(
            f"an output [batch, classes] for {len(example)} inputs", got, f"return the logits only; {OF_TWO}"
        )
    if first.dtype != torch.float32:
        raise CaptureError("logits of float32", str(first.dtype), "return floating logits")
    if not bool(torch.isfinite(first).all()):
        raise CaptureError("finite logits", "NaN or infinity", "check the weights and the example")
    if not torch.equal(first, second):
        raise CaptureError("two passes with equal results", "randomness left in eval mode", "remove it")
    return first


def check_finite(values: dict[str, Tensor]) -> None:
    """Raises ``CaptureError`` naming every tensor that holds NaN or infinity."""
    bad = [name for name, tensor in values.items() if not bool(torch.isfinite(tensor.double()).all())]
    if bad:
        raise CaptureError("finite parameters", f"NaN or infinity in {', '.join(bad)}", "repair or retrain the model")


def _other_batch(example: Tensor) -> Tensor:
    """A batch of another size with values the example does not have, in the same range."""
    generator = torch.Generator().manual_seed(2018)
    rows = torch.cat([example, example[:1]])[: min(len(example) + 1, 17)]
    order = torch.rand(rows.shape, generator=generator).flatten(1).argsort(1)
    shuffled = rows.flatten(1).gather(1, order).reshape(rows.shape)
    if example.dtype == torch.int64:
        return shuffled
    return shuffled + 0.1 * rows.std() * torch.randn(rows.shape, generator=generator)


def check_replay(eager: Function, architecture: Architecture, parameters: dict[str, Tensor], example: Tensor) -> float:
    """Largest relative deviation of the replay from ``eager`` on two batches of different sizes.

    Raises:
        CaptureError: it exceeds :data:`REPLAY_TOLERANCE`, or one of the two cannot take another batch size.
    """
    worst = 0.0
    for batch in (example[:16], _other_batch(example)):
        with torch.no_grad():
            try:
                expected, got = eager(batch), architecture.forward(batch, parameters)
            except Exception as error:
                raise CaptureError(
                    "a model for any batch size",
                    f"{one_line(error)} at batch size {len(batch)}",
                    "check its reshapes",
                ) from error
        scale = float(expected.abs().max())
        deviation = float((expected - got).abs().max()) / max(scale, 1e-30)
        if not deviation <= REPLAY_TOLERANCE:
            raise CaptureError(
                f"a replay within {REPLAY_TOLERANCE} of the model",
                f"a relative deviation of {deviation:.3g} at batch size {len(batch)}",
                "certify the model as an opaque module instead",
            )
        worst = max(worst, deviation)
    return worst
