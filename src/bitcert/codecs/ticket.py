"""A network under pruning masks, as a model that :mod:`bitcert.codecs.training` trains.

    weight = base + round_s(mask * latent),

``round_s`` the identity at first and rounding to multiples of ``s = 2^(e/4)`` later, with gradients passed straight
through (Bengio et al. 2013), so that what is trained is what the message can say. Pruning removes the smallest
surviving ``|latent|``; rewinding puts the survivors back to noted values (Frankle & Carbin 2019, Frankle et al. 2020).
Not guaranteed: that what survives can be trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from bitcert.codecs.base import Layer, Rest, Scope, code_rest
from bitcert.codecs.quantiser import Quantiser, at_exponent
from bitcert.coding import step_size
from bitcert.coding.steps import MAX_EXPONENT
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Values

_UNSET = MAX_EXPONENT + 1


@dataclass(frozen=True)
class Plan:
    """What of a network is pruned and how it is coded.

    Attributes:
        quantiser: of pruned tensors.
        rest: what becomes of the other tensors; those left to the helper are not trained.
        rounded_from: fraction of a training from which pruned tensors are rounded.
    """

    quantiser: Quantiser
    rest: Rest
    rounded_from: float


@dataclass(eq=False)
class _Part:
    """One trained tensor; ``mask`` is ``None`` where nothing is pruned."""

    layer: Layer
    base: torch.Tensor
    latent: torch.Tensor
    rewind: torch.Tensor
    mask: torch.Tensor | None
    exponent: torch.Tensor

    def value(self) -> torch.Tensor:
        """The tensor's difference from its base, differentiable in ``latent``."""
        if self.mask is None:
            return self.latent
        masked = self.latent * self.mask
        if self.is_rounded:
            step = step_size(int(self.exponent))
            masked = masked + ((masked / step).round() * step - masked).detach()
        return masked

    @property
    def is_rounded(self) -> bool:
        """Whether a step has been chosen."""
        return int(self.exponent) != _UNSET

    def numbers(self) -> Values:
        """Surviving values, zero elsewhere, float64."""
        values = self.latent.detach() if self.mask is None else (self.latent * self.mask).detach()
        return values.double().cpu().numpy()


class Ticket:
    """The latent values, masks, steps and noted values of a network; a ``Model`` of :mod:`.training`.

    Args:
        layers: every tensor of the network.
        bases: their bases, by name.
        initial: values at which training begins, by name.
        pruned: names of the tensors with a mask.
        plan: how it is coded.
        device: where to train.
    """

    def __init__(
        self,
        layers: tuple[Layer, ...],
        bases: Mapping[str, Values],
        initial: Mapping[str, Values],
        pruned: frozenset[str],
        plan: Plan,
        device: str = "cpu",
    ) -> None:
        self.layers, self.plan = layers, plan
        self.parts: dict[str, _Part] = {}
        self.fixed: dict[str, torch.Tensor] = {}
        for layer in layers:
            name = layer.target.name
            base = torch.tensor(bases[name], dtype=torch.float32)
            is_free = layer.target.kind != "buffer" and layer.target.size > 0
            if name not in pruned and (not is_free or plan.rest is Rest.HELPER):
                left = code_rest(layer, plan.rest).transform == "none"
                self.fixed[name] = (base if left else layer.trained.detach()).to(device)
                continue
            start = torch.tensor(initial[name] - bases[name], dtype=torch.float32, device=device)
            mask = torch.ones_like(start) if name in pruned else None
            self.parts[name] = _Part(
                layer, base.to(device), start.clone().requires_grad_(), start, mask, torch.tensor(_UNSET)
            )

    def weights(self) -> dict[str, torch.Tensor]:
        """Every tensor by name."""
        return {**self.fixed, **{name: part.base + part.value() for name, part in self.parts.items()}}

    def groups(self) -> list[dict[str, Any]]:
        """One group of all latent values."""
        return [{"params": [part.latent for part in self.parts.values()]}]

    def before_step(self, fraction: float) -> None:
        """Nothing: masked entries have no gradient."""

    def after_step(self, fraction: float) -> None:
        """Choose the steps when it is time to round."""
        if fraction >= self.plan.rounded_from:
            self.choose_steps()

    def choose_steps(self) -> None:
        """Take each pruned tensor's step from the quantiser, unless it has one."""
        for part in self.parts.values():
            if part.mask is not None and not part.is_rounded:
                part.exponent.fill_(self.plan.quantiser(part.numbers()).exponent)

    def state(self) -> dict[str, torch.Tensor]:
        """Latent values, noted values, masks, step exponents."""
        tensors: dict[str, torch.Tensor] = {}
        for name, part in self.parts.items():
            tensors |= {f"latent/{name}": part.latent, f"rewind/{name}": part.rewind}
            if part.mask is not None:
                tensors |= {f"mask/{name}": part.mask, f"exponent/{name}": part.exponent}
        return tensors

    @torch.no_grad()
    def note(self) -> None:
        """Make the present values those that :meth:`rewind` goes back to."""
        for part in self.parts.values():
            part.rewind.copy_(part.latent)

    @torch.no_grad()
    def rewind(self) -> None:
        """Go back to the noted values; masks stay."""
        for part in self.parts.values():
            part.latent.copy_(part.rewind)

    @torch.no_grad()
    def prune(self, fraction: float, scope: Scope) -> None:
        """Remove this fraction of the survivors, those of smallest ``|latent|``; steps are chosen anew afterwards."""
        masked = [(part, part.mask) for part in self.parts.values() if part.mask is not None]
        groups = [masked] if scope is Scope.GLOBAL else [[pair] for pair in masked]
        for group in groups:
            sizes = [torch.where(mask > 0, part.latent.abs(), torch.inf).flatten() for part, mask in group]
            alive = sum(int(mask.sum()) for _, mask in group)
            # stable, so that ties (and two runs) are decided alike
            order = torch.argsort(torch.cat(sizes), stable=True)[: round(fraction * alive)]
            joined = torch.cat([mask.flatten() for _, mask in group])
            joined[order] = 0.0
            for (_, mask), piece in zip(group, torch.split(joined, [len(size) for size in sizes]), strict=True):
                mask.copy_(piece.view_as(mask))
        for part in self.parts.values():
            part.exponent.fill_(_UNSET)

    @property
    def num_alive(self) -> int:
        """Entries of pruned tensors that have survived."""
        return sum(int(part.mask.sum()) for part in self.parts.values() if part.mask is not None)

    @property
    def num_prunable(self) -> int:
        """Entries of the pruned tensors."""
        return sum(part.mask.numel() for part in self.parts.values() if part.mask is not None)

    def codes(self) -> dict[str, TensorCode]:
        """What a message says of the present values."""
        self.choose_steps()
        codes = {}
        for layer in self.layers:
            name = layer.target.name
            part = self.parts.get(name)
            if part is None:
                codes[name] = code_rest(layer, self.plan.rest)
            elif part.mask is None:
                trained = (part.base + part.latent.detach()).cpu()
                codes[name] = code_rest(replace(layer, trained=trained, values=part.numbers()), self.plan.rest)
            else:
                codes[name] = layer.code("identity", (), at_exponent(part.numbers(), int(part.exponent)))
        return codes
