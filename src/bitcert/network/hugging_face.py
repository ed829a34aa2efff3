"""A folder that ``transformers`` wrote with ``save_pretrained``: its classifier, from safetensors only.

Code in the folder is never run (``trust_remote_code`` is off), pickled weights are never read, and nothing is
downloaded.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitcert.data.sample import MAX_CLASSES
from bitcert.errors import InputError
from bitcert.network.shapes import MAX_PARAMETERS
from bitcert.network.user_code import one_line

__all__ = ["load_hugging_face"]

_MAX_CONFIG_BYTES, _MAX_LAYERS = 1 << 22, 1 << 10
_KINDS = {"ForSequenceClassification": "AutoModelForSequenceClassification"}
_KINDS |= {"ForImageClassification": "AutoModelForImageClassification"}


def load_hugging_face(folder: str | Path) -> nn.Module:
    """The classifier of a folder, in evaluation mode.

    Raises:
        InputError: ``transformers`` is missing, or the folder holds no classifier in safetensors that fits the limits.
    """
    folder = Path(folder)
    kind = _kind(folder)
    if not any(folder.glob("*.safetensors")):
        do = "save it with save_pretrained(folder); pickled weights (.bin) are never read"
        raise InputError("a folder with model.safetensors", f"none in {folder.name}", do)
    try:
        import transformers
    except ImportError as error:
        do = "pip install 'bitcert[hf]'"
        raise InputError("the package transformers to read a folder of its models", "none", do) from error
    maker = getattr(transformers, kind)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            with torch.device("meta"):
                _check_size(maker.from_config(config, trust_remote_code=False))
            settings: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
            settings |= {"config": config, "dtype": torch.float32, "output_loading_info": True}
            model, found = maker.from_pretrained(folder, **settings)
            if missing := sorted(found["missing_keys"]):
                expected = "all weights of the network in model.safetensors"
                raise InputError(expected, f"none for {missing[0]}"[:200], "save the fine-tuned network")
    except InputError:
        raise
    except Exception as error:  # transformers raises many types
        raise InputError("a folder that transformers can read", one_line(error), f"check {folder.name}") from error
    module: nn.Module = model.eval()
    return module


def _kind(folder: Path) -> str:
    path = folder / "config.json"
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise InputError("a config.json of at most 4 MiB", "a larger one", f"check {folder.name}")
        config = json.loads(path.read_text(encoding="utf-8"))
        names = config.get("architectures") or []
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError("a readable config.json", one_line(error), f"check {folder.name}") from error
    for key, value in _integers(config):
        layers = "layer" in key or "depth" in key
        most = MAX_CLASSES if key == "num_labels" else _MAX_LAYERS if layers else MAX_PARAMETERS
        if value > most:
            raise InputError(f"{key} of at most {most:,} in config.json", f"{value:,}"[:100], "use a smaller network")
    for name in names if isinstance(names, list) else []:
        for ending, kind in _KINDS.items():
            if str(name).endswith(ending):
                return kind
    got = ", ".join(map(str, names))[:100] if isinstance(names, list) and names else "no architecture"
    raise InputError("a text or image classifier in config.json", got, "save a fine-tuned ...Classification model")


def _integers(config: Any) -> Iterator[tuple[str, int]]:
    """Every integer of a parsed JSON text with the innermost key it stands under; numbers of classes are left out."""
    left = [("", config)]
    while left:
        key, value = left.pop()
        if isinstance(value, int):
            yield key, value
        elif isinstance(value, dict) and key != "label2id":
            left += value.items()
        elif isinstance(value, list):
            left += [(key, each) for each in value]


def _check_size(model: nn.Module) -> None:
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > MAX_PARAMETERS:
        raise InputError(f"a network of at most {MAX_PARAMETERS:,} parameters", f"{count:,}", "use a smaller one")
