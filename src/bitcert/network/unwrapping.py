"""What stands around a user's network: wrappers are taken off, results with logits become the logits.

``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` change how a module runs, not what it computes, so
the module inside is what is captured. A module of ``transformers`` returns an object that holds logits beside other
things; it becomes a function of one tensor. Its attention mask, where it has one, says which tokens are not padding.
Scripted and traced modules have no Python code that could be exported, and are refused in one sentence.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from bitcert.errors import CaptureError

__all__ = ["LogitsOf", "plain_module"]


class LogitsOf(nn.Module):
    """A classifier of ``transformers`` as a function of one tensor: tokens, or pixels, to logits.

    Args:
        model: with a ``config``; its ``main_input_name`` is the argument that the inputs are passed as.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._argument = str(getattr(model, "main_input_name", "input_ids"))
        takes = inspect.signature(model.forward).parameters
        self._fixed = {name: value for name, value in (("use_cache", False), ("return_dict", True)) if name in takes}
        padding = getattr(model.config, "pad_token_id", None)
        masked = self._argument == "input_ids" and "attention_mask" in takes and isinstance(padding, int)
        self._padding = padding if masked else None

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, classes]``."""
        given: dict[str, Any] = {self._argument: x, **self._fixed}
        if self._padding is not None:
            given["attention_mask"] = (x != self._padding).to(torch.int64)
        logits: Tensor = self.model(**given).logits
        return logits


def plain_module(model: nn.Module) -> nn.Module:
    """The module that computes what ``model`` computes, without wrappers.

    Raises:
        CaptureError: it is scripted or traced.
    """
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return plain_module(model.module)
    if isinstance(model, torch.jit.ScriptModule):
        got = "a scripted or traced one (TorchScript)"
        raise CaptureError("a module with Python code", got, "pass the module it was made from, or torch.export it")
    inner = getattr(model, "_orig_mod", None)
    if isinstance(inner, nn.Module):  # of torch.compile
        return plain_module(inner)
    is_hugging_face = any(f"{each.__module__}.".startswith("transformers.") for each in type(model).__mro__)
    if is_hugging_face and hasattr(model, "config"):
        return LogitsOf(model)
    return model
