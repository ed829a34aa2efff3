"""What stands around a user's network: wrappers are taken off, results with logits become the logits.

``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` change how a module runs, not what it computes, so
the module inside is what is captured. A module of ``transformers`` returns an object that holds logits beside other
things; it becomes a function of one tensor. Its attention mask, where it has one, says which tokens are not padding.
Weights that a module computes of others before every pass (pruned ones, weight and spectral norms, parametrizations)
become plain ones. Scripted and traced modules have no Python code that could be exported, and are refused in one
sentence.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from bitcert.errors import CaptureError

__all__ = ["LogitsOf", "copied", "plain_module", "with_plain_weights"]


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


def copied(module: nn.Module) -> nn.Module:
    """A deep copy; tensors that a hook computed with gradients, such as pruned weights, become constants of it."""
    own = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    return copy.deepcopy(module, {id(value): value.detach().clone() for value in own if not value.is_leaf})


def with_plain_weights(module: nn.Module) -> nn.Module:
    """A module in evaluation mode that computes the same with the weights that hooks and parametrizations leave.

    A message of the plain weights is shorter than one of what they are computed of. Where they would hold more numbers
    than that (of a low-rank product, say), they stay computed. A module without any is returned itself.
    """
    if not any(_hooks(part) or _parametrized(part) for part in module.modules()):
        return module
    module = copied(module)
    for part in module.modules():
        for key, hook in _hooks(part).items():
            hook.remove(part)
            del part._forward_pre_hooks[key]
        if (names := _parametrized(part)) and (kind := type(part)):
            # copies share the class that parametrize made, and removal deletes properties from it
            part.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        for name in names:
            parametrize.remove_parametrizations(part, name, leave_parametrized=True)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def _hooks(part: nn.Module) -> dict[int, Any]:
    kinds = BasePruningMethod | WeightNorm | SpectralNorm
    return {key: hook for key, hook in part._forward_pre_hooks.items() if isinstance(hook, kinds)}


def _parametrized(part: nn.Module) -> list[str]:
    """Names of the parametrized weights that hold no more numbers than what they are computed of."""
    if not parametrize.is_parametrized(part):
        return []
    made = part.parametrizations
    assert isinstance(made, nn.ModuleDict)
    return [
        name
        for name, steps in made.items()
        if getattr(part, name).numel() <= sum(each.numel() for each in steps.parameters())
    ]
