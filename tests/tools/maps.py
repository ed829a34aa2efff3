"""Maps of images with the batch first, and random numbers, as tests look at them."""

from collections.abc import Callable

import torch


def batch_first(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function from ``[..., batch]`` to ``[..., batch]`` as one of arrays with the batch first."""

    def turned(x: torch.Tensor, *others: object, **named: object) -> torch.Tensor:
        return function(x.movedim(0, -1).contiguous(), *others, **named).movedim(-1, 0)

    return turned


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
