"""Models of other libraries as torch modules: fitted classifiers of scikit-learn. Nothing is loaded from a pickle."""

from __future__ import annotations

from torch import nn
from torch.export import ExportedProgram

from bitcert.errors import InputError

__all__ = ["as_module"]


def as_module(model: object) -> nn.Module | ExportedProgram:
    """The model as something that can be captured.

    Raises:
        InputError: it is nothing that bitcert knows.
    """
    if isinstance(model, nn.Module | ExportedProgram):
        return model
    if hasattr(model, "predict") and hasattr(model, "get_params"):
        from bitcert.network.scikit import scikit_module

        return scikit_module(model)
    do = "pass a torch module, an exported program or a fitted classifier of scikit-learn"
    raise InputError("a network that can be captured", type(model).__name__, do)
