"""Whether an error means that memory ran out: of torch, numpy or Python, each of which says it in its own way."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory"]

_WORDS = ("out of memory", "not enough memory", "can't allocate")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether torch, numpy or Python ran out of memory; looks behind an error that was raised from one."""
    while error is not None:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS):
            return True
        error = error.__cause__
    return False
