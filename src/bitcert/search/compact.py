"""Training a compact net of family 6 for its certificate: ``loss + price * bits * ln2 / m`` over rounded weights.

The maps of the front end are computed once and kept as float16 where memory allows; errors are counted in float32 by
the decoder. Weights live in units of their integers (group norm takes scales away, so there are no steps). They enter
the net rounded, the gradient passes the rounding unchanged (straight-through; Bengio et al. 2013). From half of a
stage on, the integers that waver least are fixed, more and more of them (Zhou et al. 2017).

The certificate ``kl(p || q) = bits ln2 / m`` has its own exchange rate: one error is worth
``v = ln(q (1 - p) / (p (1 - q))) / ln 2`` bits, 0.9 at 38 % errors and a bound of 53 %. The price that this makes of a
bit (4.6, as errors fall about as the loss does) holds at the optimum only; nets that start long and learn slowly under
it stay too long. So the price is led by the length instead: down to a target in proportion to the sample, and held
there. Where the settings sum over an image and its mirror image, half of each batch is mirrored.

Candidates are decoded messages with errors counted on the whole sample as it is. Not guaranteed: the same message
twice, because the schedule follows the clock, nor any message with a bound below one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from bitcert import clock
from bitcert.coding import Ledger
from bitcert.counting import count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.decoder.compact import (
    SETTINGS_GRID,
    CompactSettings,
    contexts,
    forward,
    is_image_shape,
    num_weights,
    split_weights,
    write,
)
from bitcert.decoder.features.front import flipped, front
from bitcert.errors import InputError
from bitcert.random import stream, torch_stream
from bitcert.run import Candidate, Compressed, Run
from bitcert.search.compact_head import HEAD_RATES, descend_head, head_features
from bitcert.search.compact_state import Price, State
from bitcert.search.train_separable import RateModel

BATCH_SIZE = 256
LEARNING_RATE = 0.035
TEMPERATURE_LEARNING_RATE = 0.003
WARM_STEPS = 100
INITIAL_SPREAD = 0.6
INITIAL_TEMPERATURE = 0.3
FREEZE_FROM, FREEZE_UNTIL = 0.65, 0.95
TARGET_BITS_PER_EXAMPLE = 0.06
COUNTING_SHARE = 0.03
CHECKPOINT_SECONDS = 30.0
MAP_MEMORY_BYTES = 3 << 29
SMALL_SAMPLE = 10_000
_RATE_REFRESH = 10
_CHUNK = 500


@dataclass(frozen=True)
class Stage:
    """A part of the budget.

    Args:
        until: fraction of the budget at which it ends.
        heat: peak learning rate relative to the first stage's.
    """

    until: float
    heat: float


STAGES = (Stage(0.8, 1.0), Stage(1.0, 0.5))


def default_settings(sample_size: int, helper: Helper) -> int:
    """Index of the settings used unless others are asked for, from the sizes of the problem alone."""
    colour = helper.input_shape[0] == 3
    if sample_size < SMALL_SAMPLE or min(helper.input_shape[1:]) < 16:
        return 0
    return 1 if colour else 2


_STATE_TENSORS = ("latent", "log_temperature", "mean_rounded", "frozen")


@dataclass(frozen=True, eq=False)
class _Tried:
    message: bytes
    ledger: Ledger
    candidate: Candidate


def _rank(candidate: Candidate) -> tuple[float, int]:
    return candidate.bound, candidate.message_bits


@dataclass(eq=False)
class Search:
    """One training: the problem, its state, and the best message so far.

    Args:
        sample: errors are counted on it as it is.
        helper: of the same problem.
        run: seed, budget, progress, checkpoint.
        settings_index: of the architecture.
        targets: soft labels ``[m, classes]`` or ``None`` for the labels.
    """

    sample: Sample
    helper: Helper
    run: Run
    settings_index: int
    targets: NDArray[np.float32] | None = None
    best: _Tried | None = None
    stage: int = 0
    step: int = 0
    count_seconds: float = 0.0
    order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))
    last_saved: float = 0.0
    last_considered: float = 0.0
    maps: torch.Tensor | None = field(init=False, default=None)
    where: torch.Tensor = field(init=False)
    sizes: torch.Tensor = field(init=False)
    state: State = field(init=False)
    price: Price = field(init=False)

    def __post_init__(self) -> None:
        self.where = torch.from_numpy(contexts(self.settings, self.helper)).to(self.run.device)
        self.sizes = torch.bincount(self.where).to(torch.float32)
        self.state = self._initial_state()
        self.price = Price(self.code_bits(), TARGET_BITS_PER_EXAMPLE * len(self.sample))
        self.maps = self._all_maps()
        self.last_saved = self.run.seconds

    @property
    def settings(self) -> CompactSettings:
        """The architecture."""
        return SETTINGS_GRID[self.settings_index]

    def _initial_state(self) -> State:
        count = num_weights(self.settings, self.helper)
        generator = torch_stream(self.run.seed, f"compact/init/{self.settings_index}")
        latent = INITIAL_SPREAD * torch.randn(count, generator=generator)
        temperature = torch.tensor(math.log(INITIAL_TEMPERATURE))
        return self.place({"latent": latent, "log_temperature": temperature, "mean_rounded": latent.clone()})

    def place(self, tensors: dict[str, torch.Tensor]) -> State:
        """A state on the device of the run."""
        tensors = {"frozen": torch.zeros(len(self.where), dtype=torch.bool)} | tensors
        placed = {name: tensors[name].to(self.run.device) for name in _STATE_TENSORS}
        for name in ("latent", "log_temperature"):
            placed[name].requires_grad_()
        return State(**placed)

    def rate(self) -> RateModel:
        """The code length as a differentiable function, at the present integers."""
        return RateModel.fit(self.state.scaled().detach().round(), self.where, self.sizes)

    def code_bits(self, rate: RateModel | None = None) -> float:
        """Code length of the present integers, nearly."""
        return float((rate or self.rate()).bits(self.state.scaled().detach().round(), self.where))

    def _maps_of(self, inputs: NDArray[np.generic]) -> torch.Tensor:
        return front(self.helper.preprocessing(inputs), self.settings.rectified)

    def _all_maps(self) -> torch.Tensor | None:
        """The front end's maps of the whole sample, float16, or ``None`` where they need too much memory."""
        one = self._maps_of(self.sample.inputs[:1])
        if 2 * one.numel() * len(self.sample) > MAP_MEMORY_BYTES:
            return None
        maps = torch.empty((len(self.sample), *one.shape[1:]), dtype=torch.float16, memory_format=torch.channels_last)
        for start in range(0, len(self.sample), _CHUNK):
            if start % (10 * _CHUNK) == 0:
                self.run.progress("maps of the front end", start / len(self.sample))
            maps[start : start + _CHUNK] = self._maps_of(self.sample.inputs[start : start + _CHUNK]).half()
        return maps

    @property
    def fraction(self) -> float:
        """Fraction used of the budget less what the last count of errors needs."""
        if self.run.stopped:
            return 1.0
        return min(1.0, self.run.seconds / max(1e-9, self.run.budget_seconds - 1.5 * self.count_seconds))

    def consider(self, name: str) -> None:
        """Write the message, decode it, count its errors on the whole sample, keep it if it is the best."""
        self.book(name, *write(self.settings_index, self.helper, self.state.integers()))

    def book(self, name: str, message: bytes, ledger: Ledger) -> None:
        """Judge a message."""
        started = clock.seconds()
        count = count_errors(decode_message(message, self.helper).classifier, self.sample)
        self.count_seconds = clock.seconds() - started
        candidate = self.run.consider(name, count.errors, len(self.sample), ledger.total_bits)
        if self.best is None or _rank(candidate) < _rank(self.best.candidate):
            self.best = _Tried(message, ledger, candidate)
        self.last_considered = self.run.seconds

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps and targets of the next examples, in an order that depends on seed and step alone."""
        size = min(BATCH_SIZE, len(self.sample))
        epoch, position = divmod(self.step, len(self.sample) // size)
        if self.order[0] != epoch:
            self.order = (epoch, stream(self.run.seed, f"compact/order/{epoch}").permutation(len(self.sample)))
        chosen = self.order[1][position * size : (position + 1) * size]
        if self.maps is None:
            maps = self._maps_of(self.sample.inputs[chosen])
        else:
            maps = self.maps[torch.from_numpy(chosen)].float()
        if self.settings.mirrored:
            half = size // 2
            turned = flipped(maps[half:], self.helper.input_shape[0], self.settings.rectified)
            maps = torch.cat([maps[:half], turned])
        known = self.sample.labels if self.targets is None else self.targets
        return maps.to(self.run.device), torch.from_numpy(np.array(known[chosen])).to(self.run.device)

    def save(self) -> None:
        """Write the checkpoint."""
        if self.run.checkpoint is None:
            return
        values = {name: getattr(self, name) for name in ("settings_index", "stage", "step", "count_seconds")}
        values |= {"start_bits": self.price.start_bits, "price": self.price.value}
        best = self.best.message if self.best is not None else b""
        tensors = {name: getattr(self.state, name) for name in _STATE_TENSORS}
        tensors["best"] = torch.tensor(list(best), dtype=torch.uint8)
        self.run.checkpoint.save({**values, "seconds": self.run.seconds}, tensors)
        self.last_saved = self.run.seconds


def _resume(search: Search) -> None:
    """Go on from the checkpoint, if there is one; Adam's averages start anew."""
    loaded = search.run.checkpoint.load() if search.run.checkpoint is not None else None
    if loaded is None or loaded[0].get("settings_index") != search.settings_index:
        return
    values, tensors = loaded
    search.run.spent_before(float(str(values["seconds"])))
    search.stage, search.step = int(str(values["stage"])), int(str(values["step"]))
    search.count_seconds = float(str(values["count_seconds"]))
    search.price = Price(float(str(values["start_bits"])), search.price.target_bits, float(str(values["price"])))
    search.state = search.place({name: tensors[name] for name in _STATE_TENSORS})
    best = tensors["best"].numpy().tobytes()
    if best:
        search.book("from the checkpoint", best, decode_message(best, search.helper).ledger)
    search.last_saved = search.run.seconds


def _descend(search: Search, optimiser: torch.optim.Optimizer, rate: RateModel, price: float) -> None:
    """One step of Adam on ``loss + price * bits * ln2 / m`` of a batch."""
    state = search.state
    maps, targets = search.batch()
    scaled = state.scaled()
    rounded = scaled + (scaled.round() - scaled).detach()
    logits = forward(search.settings, maps, split_weights(rounded, search.settings, search.helper))
    loss = functional.cross_entropy(logits * torch.exp(state.log_temperature), targets)
    penalty = price * math.log(2) / len(search.sample) * rate.bits(scaled, search.where)
    optimiser.zero_grad(set_to_none=True)
    (loss + penalty).backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    with torch.no_grad():
        state.watch(rounded.detach())
    search.step += 1


def _polish_head(search: Search) -> None:
    """Descend on the integers of the head alone; every result is a candidate."""
    sample, state = search.sample, search.state
    starts = range(0, len(sample), _CHUNK)
    if search.maps is None:
        maps = (search._maps_of(sample.inputs[start : start + _CHUNK]) for start in starts)
    else:
        maps = (chunk.float() for chunk in search.maps.split(_CHUNK))
    features = head_features(search.settings, search.helper, state.integers(), maps)
    labels, size = torch.from_numpy(np.array(sample.labels)).long(), search.helper.num_classes * len(features)
    for rate in HEAD_RATES:
        head = descend_head(features, labels, state.integers()[-size:], rate, lambda: search.run.stopped)
        with torch.no_grad():
            state.mean_rounded[-size:] = torch.from_numpy(head).to(state.mean_rounded)
        search.consider(f"head at rate {rate:g}")


def _train_stage(search: Search, stage: Stage, start: float) -> None:
    """Run one stage until its share of the budget is used."""
    run, steps = search.run, 0
    groups = [
        {"params": [search.state.latent], "peak": LEARNING_RATE},
        {"params": [search.state.log_temperature], "peak": TEMPERATURE_LEARNING_RATE},
    ]
    optimiser = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99))
    price = search.price if start == 0 else Price(search.code_bits(), search.code_bits(), search.price.value)
    while (fraction := search.fraction) < stage.until:
        progress = (fraction - start) / (stage.until - start)
        warm = min(1.0, (steps + 1) / WARM_STEPS)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * stage.heat * warm * (0.5 + 0.5 * math.cos(math.pi * progress))
        if progress > FREEZE_FROM:
            search.state.freeze(min(1.0, (progress - FREEZE_FROM) / (FREEZE_UNTIL - FREEZE_FROM)))
        if steps % _RATE_REFRESH == 0:
            rate = search.rate()
            price.follow(progress, search.code_bits(rate))
            run.progress("training a compact net", fraction)
        _descend(search, optimiser, rate, price.value)
        steps += 1
        since = run.seconds - search.last_considered
        if progress > FREEZE_FROM and since * COUNTING_SHARE > max(search.count_seconds, 0.002 * run.budget_seconds):
            search.consider(f"{fraction:.0%} of the budget")
        if run.seconds - search.last_saved > CHECKPOINT_SECONDS:
            search.save()


def compress_compact(
    sample: Sample,
    helper: Helper,
    run: Run,
    *,
    targets: NDArray[np.float32] | None = None,
    settings: int | None = None,
) -> Compressed:
    """Train a compact net of family 6 for the smallest bound found in the time budget.

    Args:
        sample: the training sample, images of sides from 8; errors are counted on it as it is.
        helper: of the same problem.
        run: seed, budget, device, progress, checkpoint.
        targets: soft labels ``[m, classes]``, rows that sum to one, to train on instead of the labels.
        settings: index in the grid, or ``None`` for :func:`default_settings`. It is in the message.

    Raises:
        InputError: when the inputs are not such images, or there are no such settings or as many targets.
    """
    if not is_image_shape(helper.input_shape):
        got = f"inputs of shape {list(helper.input_shape)}"
        raise InputError("images [channels, height, width] of sides from 8", got, "use another compressor")
    if settings is None:
        settings = default_settings(len(sample), helper)
    if not 0 <= settings < len(SETTINGS_GRID):
        do = "choose one of the fixed grid"
        raise InputError(f"compact settings between 0 and {len(SETTINGS_GRID) - 1}", str(settings), do)
    if targets is not None and targets.shape != (len(sample), helper.num_classes):
        expected = f"targets of shape {[len(sample), helper.num_classes]}"
        raise InputError(expected, str(list(targets.shape)), "give one row for each example")
    search = Search(sample, helper, run, settings, targets)
    _resume(search)
    if search.best is None:
        search.consider("untrained")
    while search.stage < len(STAGES):
        stage = STAGES[search.stage]
        _train_stage(search, stage, STAGES[search.stage - 1].until if search.stage else 0.0)
        search.state.freeze(1.0)
        if search.step:
            search.consider(f"end of stage {search.stage + 1}")
            _polish_head(search)
        search.state.thaw()
        search.stage += 1
        search.save()
    assert search.best is not None
    return Compressed(search.best.message, search.best.ledger, helper, tuple(run.candidates))
