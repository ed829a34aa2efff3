"""Maps of images with the batch first, as tests look at them."""

from collections.abc import Callable

import torch


def batch_first(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function from ``[..., batch]`` to ``[..., batch]`` as one of arrays with the batch first."""

    def turned(x: torch.Tensor, *others: object, **named: object) -> torch.Tensor:
        return function(x.movedim(0, -1).contiguous(), *others, **named).movedim(-1, 0)

    return turned
