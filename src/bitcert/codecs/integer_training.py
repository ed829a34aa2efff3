"""Integers trained by gradient: latent reals, straight-through rounding, a price per bit, freezing of the steadiest.

The slope of the code length between two integers is the difference of their marginal cost under the adaptive code at
the present counts; the last non-zeros of a row or column also carry their share of the mask and of the zeros it would
spare (:class:`RateSlopes`). This is a linearisation around the present integers. What trains them on

    cross-entropy + price * bits * ln 2 / m

is the :class:`~bitcert.codecs.training.Trainer`, to which :class:`IntegerModel` shows the integers with the scales
that they are multiplied by. Where integers are frozen, those that waver least are fixed in the second half, more and
more of them (incremental network quantisation, Zhou et al. 2017), while the rest adapts. A heuristic: it proves
nothing.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.codecs.base import Selection
from bitcert.codecs.best import Search
from bitcert.codecs.training import Looks, Schedule, Status, Tensors, TrainedCodec, Trainer
from bitcert.coding import MAX_MAGNITUDE, UNARY_MAGNITUDES, marginal_bits
from bitcert.coding.steps import MAX_EXPONENT
from bitcert.decoder.tensors import ComposedMessage, expand
from bitcert.decoder.transforms.base import Integers
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.run import Compressed

FREEZE_FROM, FREEZE_UNTIL = 0.5, 0.92
LOOKS = (0.9,)
"""Fractions of a training at which its message is tried, before its end."""
_PRICE_RAMP = 0.3
_WAVER_DECAY = 0.98


@dataclass(frozen=True, eq=False)
class RateSlopes:
    """Slopes of one tensor's code length in ``|weight / step|``, in bits.

    Attributes:
        levels: ``[16]``, between magnitudes ``t`` and ``t + 1``; the last one is used beyond.
        shared: bits of the first level on top, a tensor that broadcasts to the weight: the entry's share of the
            row and column it keeps in use.
    """

    levels: torch.Tensor
    shared: torch.Tensor

    def gradient(self, scaled: torch.Tensor) -> torch.Tensor:
        """Gradient of the code length in bits at ``scaled = weight / step``."""
        magnitude = scaled.abs()
        level = magnitude.to(torch.int64).clamp_(max=len(self.levels) - 1)
        slope = self.levels[level] + torch.where(level == 0, self.shared, 0.0)
        return torch.sign(scaled) * slope

    def refresh(self, values: Integers) -> None:
        """Those of other integers of the tensor, in place."""
        now = rate_slopes(values)
        self.levels.copy_(now.levels)
        self.shared.copy_(now.shared)


def rate_slopes(values: Integers, device: str = "cpu") -> RateSlopes:
    """Slopes at the present integers of a tensor of any shape."""
    if values.ndim < 2 or not values.size:
        # a vector has no rows that could leave as a whole: its zeros are coded like everything else
        return _slopes(values, np.zeros((1,) * values.ndim), device)
    shape = values.shape
    blocked = values.reshape(shape[0], shape[1], -1)
    used = blocked != 0
    per_row, per_column = used.sum((1, 2)), used.sum((0, 2))
    rows, columns = per_row > 0, per_column > 0
    inside = blocked[np.ix_(rows, columns)]
    zero_bits = float(marginal_bits(inside)[UNARY_MAGNITUDES]) * blocked.shape[2]
    row = _share(per_row, zero_bits * int(columns.sum()))
    column = _share(per_column, zero_bits * int(rows.sum()))
    shared = row[:, None, None] + column[None, :, None]
    return _slopes(inside, shared.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2)), device)


def _slopes(values: Integers, shared: NDArray[np.float64], device: str) -> RateSlopes:
    """Differences of the marginal costs of these integers."""
    cost, middle = marginal_bits(values), UNARY_MAGNITUDES
    # a positive and a negative entry of one size differ in the sign only: half of it each
    magnitudes = (cost[middle:] + cost[middle::-1]) / 2
    levels = np.maximum(0.0, np.diff(magnitudes))
    return RateSlopes(
        torch.tensor(levels, dtype=torch.float32, device=device),
        torch.tensor(shared, dtype=torch.float32, device=device),
    )


def _share(num_alive: Integers, zeros_bits: float) -> NDArray[np.float64]:
    """Bits of keeping each row in use, split among its non-zeros: its flag and the zeros it adds to the code."""
    num_used = int((num_alive > 0).sum())
    flag = np.log2((len(num_alive) - num_used + 0.5) / (num_used + 0.5))
    shares: NDArray[np.float64] = np.maximum(0.0, flag + zeros_bits) / np.maximum(1, num_alive)
    return shares


class PricedIntegers:
    """An array of integers ``round(v)`` whose latent ``v`` an optimiser moves against a price per bit.

    Args:
        latent: first values, in steps, of the integers' shape.
        nats_per_bit: the price at a fraction of the training.
        bounds: least and largest integer.
        refresh: steps between two looks at the slopes of the code length.
    """

    def __init__(
        self,
        latent: torch.Tensor,
        nats_per_bit: Callable[[float], float],
        bounds: tuple[int, int] = (-MAX_MAGNITUDE, MAX_MAGNITUDE),
        refresh: int = 25,
    ) -> None:
        self.bounds, self.nats_per_bit, self.refresh = bounds, nats_per_bit, refresh
        self.latent = latent.clone().requires_grad_()
        self._steps = torch.zeros(1)
        self._slopes = rate_slopes(self.values(), str(self.latent.device))

    def rounded(self) -> torch.Tensor:
        """The integers, float32, gradients passing through."""
        return self.latent + (self.latent.round() - self.latent).detach()

    def values(self) -> Integers:
        """The integers as the message holds them, int64."""
        values: Integers = self.rounded().detach().clamp(*self.bounds).cpu().numpy().astype("int64")
        return values

    def add_rate_gradient(self, fraction: float) -> None:
        """Add the price of the bits to the gradient, if there is one."""
        if int(self._steps.item()) % self.refresh == 0:
            self._slopes.refresh(self.values())
        if self.latent.grad is not None:
            gradient = self._slopes.gradient(self.latent.detach())
            self.latent.grad.add_(self._free(gradient), alpha=self.nats_per_bit(fraction))

    def _free(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient

    def after_step(self, fraction: float) -> None:
        """Count the step."""
        del fraction
        self._steps += 1

    def finish(self) -> None:
        """Fix all that is still free; here nothing is fixed."""

    def state(self) -> Tensors:
        """Everything that changes, for a checkpoint."""
        return {
            "latent": self.latent,
            "steps": self._steps,
            "levels": self._slopes.levels,
            "shared": self._slopes.shared,
        }


class LatentIntegers(PricedIntegers):
    """Integers of which the steadiest are fixed in the second half of the training.

    Args:
        latent: first values, in steps, of the integers' shape.
        price: of a bit, in multiples of ``ln 2 / num_samples``; it rises to its full height in the beginning.
        num_samples: size of the training sample.
        bounds: least and largest integer; latents are kept between them.
    """

    def __init__(
        self,
        latent: torch.Tensor,
        price: float,
        num_samples: int,
        bounds: tuple[int, int] = (-MAX_MAGNITUDE, MAX_MAGNITUDE),
    ) -> None:
        self.mean = latent.round()
        self.frozen = torch.zeros_like(latent)
        nats = price * math.log(2) / num_samples
        super().__init__(latent, lambda fraction: nats * min(1.0, fraction / _PRICE_RAMP), bounds, refresh=20)

    def rounded(self) -> torch.Tensor:
        """The integers, float32, gradients passing through; fixed ones have none."""
        return torch.where(self.frozen > 0, self.mean, super().rounded())

    def _free(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * (1 - self.frozen)

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        """Watch the integers; fix the steadiest when it is time."""
        super().after_step(fraction)
        self.latent.clamp_(*self.bounds)
        average = torch.lerp(self.mean, self.latent.round(), 1 - _WAVER_DECAY)
        self.mean.copy_(torch.where(self.frozen > 0, self.mean, average))
        if fraction > FREEZE_FROM:
            self._freeze(min(1.0, (fraction - FREEZE_FROM) / (FREEZE_UNTIL - FREEZE_FROM)))

    @torch.no_grad()
    def finish(self) -> None:
        """Fix all that is still free."""
        self._freeze(1.0)

    def _freeze(self, fraction: float) -> None:
        missing = int(fraction * self.frozen.numel()) - int(self.frozen.sum())
        if missing <= 0 or (missing < self.frozen.numel() // 100 and fraction < 1.0):
            return
        mean, frozen = self.mean.view(-1), self.frozen.view(-1)
        waver = torch.where(frozen > 0, torch.inf, (mean - mean.round()).abs())
        chosen = waver.argsort(stable=True)[:missing]
        mean[chosen] = mean[chosen].round()
        frozen[chosen] = 1.0

    def state(self) -> Tensors:
        """Everything that changes, for a checkpoint."""
        return {**super().state(), "mean": self.mean, "frozen": self.frozen}


class IntegerModel:
    """Integers, and scales in quarter octaves: a ``Model`` of :mod:`bitcert.codecs.training`, but for its weights.

    From half time on the scales stay on their grid.

    Attributes:
        integers: set by the subclass.
        scales: set by the subclass; differentiable.
    """

    integers: Sequence[PricedIntegers]
    scales: Sequence[torch.Tensor]
    scale_factor: ClassVar[float] = 1.0
    """Learning rate of the scales over that of the integers."""

    def __init__(self) -> None:
        self.snapped = torch.zeros(1)

    def groups(self) -> list[dict[str, Any]]:
        """Integers, and scales, which move in quarter octaves."""
        latents = [integers.latent for integers in self.integers]
        return [{"params": latents}, {"params": list(self.scales), "factor": self.scale_factor}]

    def before_step(self, fraction: float) -> None:
        """Add the price of the bits; scales on their grid have no gradient."""
        for integers in self.integers:
            integers.add_rate_gradient(fraction)
        for scale in self.scales:
            if self.snapped.item() and scale.grad is not None:
                scale.grad.zero_()

    def after_step(self, fraction: float) -> None:
        """Fix the scales, then more and more integers."""
        if fraction >= FREEZE_FROM:
            self.snapped.fill_(1.0)
        if self.snapped.item():
            self._snap()
        for integers in self.integers:
            integers.after_step(fraction)

    @torch.no_grad()
    def _snap(self) -> None:
        for scale in self.scales:
            scale.round_().clamp_(-MAX_EXPONENT, MAX_EXPONENT)

    def finish(self) -> None:
        """Fix what is left."""
        self._snap()
        for integers in self.integers:
            integers.finish()

    def state(self) -> Tensors:
        """For the checkpoint."""
        state = {"snapped": self.snapped} | {f"scale/{k}": scale for k, scale in enumerate(self.scales)}
        for k, integers in enumerate(self.integers):
            state |= {f"{name}/{k}": value for name, value in integers.state().items()}
        return state

    @abstractmethod
    def weights(self) -> Tensors:
        """Every tensor of the architecture, differentiable in integers and scales."""


class MessageModel(IntegerModel):
    """A model whose integers are a message."""

    def fixed_values(self, names: Collection[str], search: Search) -> Tensors:
        """The tensors of these names that the message of all zeros decodes to."""
        values = expand(self.untrained(), search.helper) if names else {}
        return {name: values[name].to(search.device) for name in names}

    @abstractmethod
    def message(self) -> ComposedMessage:
        """The message of the present integers."""

    @abstractmethod
    def untrained(self) -> ComposedMessage:
        """The message of all zeros."""


class IntegerCodec(TrainedCodec):
    """Base of the codecs that learn integers from the sample; of the network given they use the structure.

    Subclasses are dataclasses with these fields; ``num_steps`` is ``None`` to use the time of the run.
    """

    untrained: ClassVar[str]
    """Name of the message where training diverges."""

    price: float
    rate: float
    batch_size: int
    num_steps: int | None
    selection: Selection

    def check_training(self) -> None:
        """Refuse options of the training that are out of range.

        Raises:
            InputError: price, rate, batch size or number of steps.
        """
        if not 0 <= self.price < math.inf:
            raise InputError("a finite price of 0 or more", str(self.price), "use e.g. 3")
        self.schedule()

    def schedule(self) -> Schedule:
        """Of the training."""
        return Schedule(self.batch_size, self.rate, num_steps=self.num_steps, decay_from=0.3)

    @abstractmethod
    def model(self, network: Network, search: Search) -> MessageModel:
        """What is trained."""

    def train(self, network: Network, search: Search) -> Compressed:
        """Train integers; of the network the structure is used, and its buffers' values."""
        model = self.model(network, search)
        trainer = Trainer(search, model, self.schedule(), purpose=self.name)
        state = search.resume()
        if state is not None:
            trainer.restore(state)
        looks = Looks(LOOKS, lambda t: search.propose(f"trained, {t:.0%}", model.message()))
        if trainer.train(search.run.budget_seconds, looks) is not Status.DIVERGED:
            model.finish()
            search.propose("trained", model.message())
        if search.best is None:
            search.propose(self.untrained, model.untrained())
        return search.result()
