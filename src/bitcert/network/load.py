"""Model files and specifications from the command line -> modules or exported programs.

``model.pt2`` and ``model.onnx`` are data and are loaded as such (:mod:`bitcert.network.pt2`,
:mod:`bitcert.network.onnx_file`), and so is a folder of ``transformers`` (:mod:`bitcert.network.hugging_face`).
``package.module:factory`` imports and runs the user's own code, by the user's own request; its weights come from
safetensors or from torch's restricted unpickler (``weights_only=True``). This module does NOT sandbox the factory.
"""

from __future__ import annotations

import inspect
import pickle  # only to name the exception that torch.load(weights_only=True) raises
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from bitcert.errors import InputError
from bitcert.network.hugging_face import load_hugging_face
from bitcert.network.named_code import advice, import_named, working_folder_importable
from bitcert.network.onnx_module import load_onnx
from bitcert.network.pt2 import load_exported_program
from bitcert.network.user_code import one_line, users_network


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready for :func:`bitcert.network.capture`, and what was done to its weights on the way."""

    model: nn.Module | ExportedProgram
    spec: str
    notes: tuple[str, ...] = ()


def load_model(
    spec: str, weights: str | Path | None = None, arguments: Mapping[str, object] | None = None
) -> LoadedModel:
    """Loads ``spec``.

    Args:
        spec: path of a ``.pt2`` or ``.onnx`` file or of a folder of ``transformers``, or ``package.module:factory``
            (called without arguments).
        weights: ``.safetensors`` file or torch state dict for the factory's module; None keeps its own weights.
        arguments: by name; the factory is called with those of them that it takes.

    Raises:
        InputError: unreadable file, unknown module or factory, keys that do not match (all named).
        CaptureError: a ``.pt2`` file with unsupported operators.
    """
    if is_model_file(spec):
        if weights is not None:
            raise InputError(f"no weights beside {Path(spec).name}", str(weights), "leave out --weights")
        if spec.endswith(".pt2"):
            return LoadedModel(load_exported_program(spec), spec)
        return LoadedModel(load_onnx(spec) if spec.endswith(".onnx") else load_hugging_face(spec), spec)
    if spec.endswith((".pkl", ".pickle", ".joblib")):
        do = "load it in Python and pass the classifier to bitcert, or export it to ONNX"
        raise InputError("a model that is no pickle, which could run any code", repr(spec), do)
    if ":" not in spec:
        expected = "a model as FILE.pt2, FILE.onnx, a Hugging Face folder or package.module:factory"
        raise InputError(expected, repr(spec), "write it in one of these forms")
    module = _build(spec, arguments or {})
    if weights is None:
        return LoadedModel(module, spec)
    state, notes = read_state_dict(weights)
    _load_strictly(module, state, str(weights))
    return LoadedModel(module, spec, notes)


def is_model_file(spec: str) -> bool:
    """Whether a model is named by a file or folder that holds its weights, too."""
    return spec.endswith((".pt2", ".onnx")) or (":" not in spec and (Path(spec) / "config.json").is_file())


def _build(spec: str, arguments: Mapping[str, object]) -> nn.Module:
    package, _, name = spec.partition(":")
    try:
        with working_folder_importable(spec):
            factory = import_named(spec)
            if not callable(factory):
                got = type(factory).__name__
                raise InputError(f"a callable {name!r} in {package}", got, "name a function or a class")
            taken = inspect.signature(factory).parameters if arguments else {}
            module = factory(**{name: value for name, value in arguments.items() if name in taken})
    except InputError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {one_line(error)}"
        do = advice(error, "check module, name and its requirements", spec)
        raise InputError(f"a model factory {spec}", got, do) from error
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec} to return a torch.nn.Module", type(module).__name__, "return the module")
    return module


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by name from safetensors or a torch file; wrappers and a ``module.`` prefix are removed and noted.

    Raises:
        InputError: missing, unreadable, would need unrestricted unpickling, or holds no state dict.
    """
    path = Path(path)
    _refuse_expanding(path)
    try:
        loaded: object = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except OSError as error:
        raise InputError("a readable weights file", error.strerror or one_line(error), f"check {path}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            "weights as plain tensors",
            f"a file {path.name} that torch refuses to load safely",
            "save model.state_dict()",
        ) from error
    except Exception as error:
        # both readers raise many types on a damaged file; all of them mean the same to the user
        raise InputError("a safetensors file or a state dict", one_line(error), f"check {path}") from error
    return _unwrap(loaded, path)


def _refuse_expanding(path: Path) -> None:
    """torch stores entries as they are; ones that unfold would take memory that the file's size does not show."""
    try:
        with zipfile.ZipFile(path) as archive:
            unfolded = sum(info.file_size for info in archive.infolist())
            size = path.stat().st_size
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return  # no archive: the readers say what it is instead
    if unfolded > size:
        got = f"a compressed one of {size:,} bytes that unfolds to {unfolded:,}"
        raise InputError("a weights file as torch writes it", got, "save model.state_dict() with torch.save")


def _unwrap(loaded: object, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    notes: list[str] = []
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            notes.append(f"weights taken from the entry {key!r}")
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError("a state dict", type(loaded).__name__, f"save model.state_dict() into {path.name}")
    wrong = [str(key) for key, value in loaded.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if wrong:
        raise InputError(
            "a state dict of tensors", f"other values under {', '.join(wrong)[:200]}", "save model.state_dict()"
        )
    state: dict[str, Tensor] = {str(key): value for key, value in loaded.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
        notes.append("prefix 'module.' removed from every name")
    return state, tuple(notes)


def _counters(module: nn.Module) -> set[str]:
    """Names of the counters of batches in norms, which checkpoints before PyTorch 0.4.1 do not have.

    Nothing in evaluation mode reads them; PyTorch itself leaves them at zero for such a checkpoint.
    """
    norms = [name for name, part in module.named_modules() if isinstance(part, _NormBase)]
    return {f"{name}.num_batches_tracked".lstrip(".") for name in norms}


def _load_strictly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    own = module.state_dict()
    counters = _counters(module)
    problems = [f"missing {key}" for key in own if key not in state and key not in counters]
    problems += [f"unexpected {key}" for key in state if key not in own]
    # a lazy module's tensors have no shape yet; loading gives them the file's
    shaped = [key for key, tensor in own.items() if key in state and not is_lazy(tensor)]
    problems += [
        f"{key} of shape {list(state[key].shape)} for {list(own[key].shape)}"
        for key in shaped
        if state[key].shape != own[key].shape
    ]
    if problems:
        raise InputError("weights that match the model", "; ".join(problems), f"check {source}")
    with users_network(f"take the weights in {Path(source).name}"):
        module.load_state_dict(state)
