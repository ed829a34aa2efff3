"""Training of a helper network on a declared prior part, and on nothing else.

docs/theory.md section 2, data-dependent helper: the sample is split before anything is trained, the helper may depend
on the prior part in any way, and errors are counted on the rest only. This module is never given the rest. Training:
SGD with Nesterov momentum, a one-cycle learning rate over the time budget (Smith & Topin 2018), weight decay,
augmentation in which an image is mirrored in every other epoch (Jordan 2024, arXiv:2404.00498), averaging of the
weights (Polyak & Juditsky 1992). Where the processor multiplies matrices of bfloat16, images are trained in that
format; the weights stay float32, and what is certified is computed in float32 and float64 as ever. Running statistics
of batch norms come from the prior part alone.

A network that was trained on all of the training set has seen the rest. So of a given network only the architecture is
used: every parameter starts from fresh values (:mod:`bitcert.search.prior_network`). Not promised: that the network
is any good; and two runs with a time budget do not make equal weights (the weights are in the helper's file).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bitcert import clock
from bitcert.data import Role, Sample
from bitcert.decoder import Helper, Preprocessing, example_for
from bitcert.decoder.network import network_inputs
from bitcert.errors import InputError
from bitcert.network import Architecture, Network, capture, operations_per_sample
from bitcert.network.memory import is_out_of_memory
from bitcert.network.user_code import users_network
from bitcert.random import stream, torch_stream
from bitcert.run import Checkpoint, Run
from bitcert.search.prior_network import (
    BuiltIn,
    WideNetwork,
    augment,
    built_in_network,
    detached,
    initial_values,
    initialise_module,
)

PriorModel = nn.Module | Network | BuiltIn
"""What can be trained on a prior part."""

_SAFE_CHANNELS = 16
_WHITENED_BY = 500_000
"""Pixels of the prior part that the first layer of a wide network is whitened by, about; of ten images at least."""
_FASTEST = 1e13
"""Operations a second that no processor is faster than: what would take too long even so need not be tried."""
_HOPELESS = 5
"""The first step may take longer than later ones, but not so many times as long."""


@dataclass(frozen=True)
class PriorRecipe:
    """How a prior network is trained.

    Args:
        batch_size: examples of a step.
        rate: highest learning rate.
        momentum: of SGD.
        decay: weight decay of weights, not of biases and gains.
        smoothing: of the labels.
        warm_up: fraction of the schedule in which the rate rises.
        averaging: steps over which weights are averaged, at most a twentieth of those done.
        mirrored: whether images are mirrored, each in every other epoch.
        max_steps: the length of the schedule, if time allows: equal seeds then give equal weights, up to rounding in
            convolutions. ``None`` for the time budget alone.
        checkpoint_seconds: seconds between checkpoints.
    """

    batch_size: int = 100
    rate: float = 0.15
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.02
    warm_up: float = 0.2
    averaging: int = 500
    mirrored: bool = True
    max_steps: int | None = None
    checkpoint_seconds: float = 20.0

    def rate_at(self, t: float) -> float:
        """Linear up, then a cosine down to zero."""
        if t < self.warm_up:
            return self.rate * (0.05 + 0.95 * t / self.warm_up)
        return self.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (t - self.warm_up) / (1 - self.warm_up))))


class CapturedModule(nn.Module):
    """The architecture of a captured network as a module with parameters of its own."""

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__()
        self.architecture = network.architecture
        values = initial_values(network, seed)
        self.buffer_names = tuple(spec.name for spec in self.architecture.parameters if spec.kind == "buffer")
        self.fixed = {name: values[name] for name in self.buffer_names}
        trained = {name: value for name, value in values.items() if name not in self.fixed}
        self.names = tuple(trained)
        self.tensors = nn.ParameterList([nn.Parameter(value) for value in trained.values()])

    def values(self) -> dict[str, Tensor]:
        """Every tensor of the architecture by its name."""
        return {**self.fixed, **dict(zip(self.names, self.tensors, strict=True))}

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[batch, outputs]``."""
        return self.architecture.forward(x, self.values())


class PriorTrainer:
    """Module, optimiser and averages, with their position in the data."""

    def __init__(
        self, module: nn.Module, network: Network, helper: Helper, prior: Sample, run: Run, recipe: PriorRecipe
    ) -> None:
        self.module, self.helper, self.prior, self.run, self.recipe = module, helper, prior, run, recipe
        self.network, self.architecture = network, network.architecture
        trained = [value for value in module.parameters() if value.requires_grad]
        weights = [value for value in trained if value.dim() >= 2]
        others = [value for value in trained if value.dim() < 2]
        groups = [{"params": weights, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimiser = torch.optim.SGD(groups, lr=recipe.rate, momentum=recipe.momentum, nesterov=True)
        self.average = detached(module.state_dict())
        self.mirrored = torch.from_numpy(stream(run.seed, "prior/mirrored").random(len(prior)) < 0.5)
        self.num_steps = 0
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self.saved_at = run.seconds
        self.bfloat16 = False
        self.format = self._fastest_format()
        self.bfloat16 = self._trains_in_bfloat16()
        module.to(memory_format=self.format)

    def _fastest_format(self) -> torch.memory_format:
        """Channels last, which is twice as fast on two cores, for images and a module that can be trained so.

        A module that calls ``view`` on a feature map cannot; a copy of it is tried on the first batch.
        """
        x, y = self.batch()
        if x.dim() != 4 or breaks_channels_last(self.architecture):
            return torch.contiguous_format
        return torch.channels_last if self._survives(x, y, torch.channels_last) else torch.contiguous_format

    def _trains_in_bfloat16(self) -> bool:
        """Whether the processor is made for it, and the module can be trained so: for images only."""
        x, y = self.batch()
        if x.dim() != 4 or not multiplies_bfloat16():
            return False
        with torch.autocast("cpu", torch.bfloat16):
            return self._survives(x, y, self.format)

    def _survives(self, x: Tensor, y: Tensor, memory_format: torch.memory_format) -> bool:
        """Whether a copy of the module can be trained on a batch."""
        trial = copy.deepcopy(self.module).train().to(memory_format=memory_format)
        try:
            with torch.random.fork_rng(devices=[]):
                loss = F.cross_entropy(trial(x.contiguous(memory_format=memory_format)).float(), y)
                torch.autograd.backward(loss)
        except Exception as error:  # the user's own module may raise anything; in another format it may not
            if is_out_of_memory(error):
                raise
            return False
        return bool(torch.isfinite(loss))

    def done(self) -> float:
        """Fraction of the schedule that is over; with ``max_steps`` the clock can only end it."""
        if self.recipe.max_steps is None or self.run.fraction >= 1:
            return self.run.fraction
        return self.num_steps / self.recipe.max_steps

    def batch(self) -> tuple[Tensor, Tensor]:
        """The augmented examples of the present step, in the order of a named stream."""
        size = min(self.recipe.batch_size, len(self.prior))
        epoch, position = divmod(self.num_steps, len(self.prior) // size)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, stream(self.run.seed, f"prior/order/{epoch}").permutation(len(self.prior))
        chosen = self._order[1][position * size : (position + 1) * size]
        x = network_inputs(self.architecture, self.helper.preprocessing, self.prior.inputs_at(chosen))
        mirrored = (self.mirrored[torch.from_numpy(chosen)] ^ bool(epoch % 2)) & self.recipe.mirrored
        x = augment(x, torch_stream(self.run.seed, f"prior/augment/{self.num_steps}"), mirrored)
        return x, torch.tensor(self.prior.labels[chosen])

    def step(self, t: float) -> None:
        """One step at the fraction ``t`` of the schedule."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(t)
        x, y = self.batch()
        x = x.contiguous(memory_format=self.format) if x.dim() == 4 else x
        self.optimiser.zero_grad()
        with users_network("be trained on the prior part", len(x)):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                logits = self.module(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=self.recipe.smoothing)
            torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.module.parameters(), 2.0)
        self.optimiser.step()
        self.num_steps += 1
        weight = 1 / max(1, min(self.num_steps / 20, self.recipe.averaging))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, weight)

    def train(self) -> None:
        """Until the schedule is over; at least one step."""
        self.module.train()
        while (t := self.done()) < 1 or not self.num_steps:
            self.step(t)
            self.run.progress("training the prior network", self.done())
            due = self.run.seconds - self.saved_at > self.recipe.checkpoint_seconds
            if self.run.checkpoint is not None and due:
                self.save(self.run.checkpoint)
        self.module.load_state_dict(self.average)
        self.module.eval().to(memory_format=torch.contiguous_format)

    def trained(self) -> Network:
        """The captured network with the present weights."""
        if isinstance(self.module, CapturedModule):
            return replace(self.network, parameters=detached(self.module.values()))
        return capture(self.module, example_for(self.module, self.prior, self.helper.preprocessing))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint."""
        tensors = {f"average/{name}": value for name, value in self.average.items()}
        tensors |= {f"module/{name}": value for name, value in self.module.state_dict().items()}
        for k, parameter in enumerate(self.module.parameters()):
            momentum = self.optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum/{k}"] = momentum
        checkpoint.save({"num_steps": self.num_steps, "seconds": self.run.seconds}, tensors)
        self.saved_at = self.run.seconds

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, if there is one."""
        state = checkpoint.load()
        if state is None:
            return
        values, tensors = state
        self.num_steps = int(values["num_steps"])
        self.run.spent_before(float(values["seconds"]))
        self.average = {n.removeprefix("average/"): v for n, v in tensors.items() if n.startswith("average/")}
        module = {n.removeprefix("module/"): v for n, v in tensors.items() if n.startswith("module/")}
        self.module.load_state_dict(module)
        for k, parameter in enumerate(self.module.parameters()):
            if f"momentum/{k}" in tensors:
                self.optimiser.state[parameter]["momentum_buffer"] = tensors[f"momentum/{k}"]


def multiplies_bfloat16() -> bool:
    """Whether this processor has a unit for products of bfloat16; without one they are slower than float32."""
    known = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(supported is not None and supported() for supported in known)


def breaks_channels_last(architecture: Architecture) -> bool:
    """Whether training the network in channels-last format may write beyond a buffer and end the process.

    oneDNN's gradient of the weights of a strided 1 x 1 convolution does so for 2 to 7 input channels (seen with torch
    2.13; wider vectors may reach further), which no exception tells.
    """
    shapes = {spec.name: spec.shape for spec in architecture.parameters}
    for node in architecture.nodes:
        shape = shapes.get(node.inputs[1], ()) if node.op == "conv2d" else ()
        if shape[2:] == (1, 1) and node.attributes["stride"] != (1, 1) and shape[1] < _SAFE_CHANNELS:
            return True
    return False


def train_prior(
    prior: Sample,
    run: Run,
    model: PriorModel = BuiltIn.SMALL,
    *,
    preprocessing: Preprocessing | None = None,
    recipe: PriorRecipe | None = None,
) -> Network:
    """Train a helper network on the declared prior part.

    Args:
        prior: the prior part, of role ``prior``; the rest must not be in it.
        run: seed, time budget, progress and checkpoint.
        model: whose *architecture* is trained, or which of the built-in networks. Its present weights are not used:
            had they been trained on all of the training set, they would have seen the rest. Give the module where
            there is one: a captured network has its batch norms folded and trains worse.
        preprocessing: the helper's, fixed beforehand; the usual one of the sample if ``None``.
        recipe: how to train.

    Returns:
        The captured network with the weights that were trained; the module given is not changed.

    Raises:
        InputError: a sample of another role, or a model that does not fit the sample.
    """
    if prior.role is not Role.PRIOR:
        expected = "a sample of role prior, split off before anything was trained"
        raise InputError(expected, f"role {prior.role.value}", "split the training sample first")
    trainer = trainer_for(prior, run, model, preprocessing, recipe or PriorRecipe())
    if run.checkpoint is not None:
        trainer.resume(run.checkpoint)
    trainer.train()
    return trainer.trained()


def trainer_for(
    prior: Sample, run: Run, model: PriorModel, preprocessing: Preprocessing | None, recipe: PriorRecipe
) -> PriorTrainer:
    """A network with fresh values before its first step."""
    helper = Helper.for_sample(prior, None, preprocessing)
    module = _fresh_module(prior, model, run.seed)
    # before the training: a module that cannot be captured would be trained in vain
    example = example_for(module, prior, helper.preprocessing)
    network = model if isinstance(model, Network) else capture(module, example)
    if isinstance(module, WideNetwork):
        count = max(10, _WHITENED_BY // math.prod(prior.input_shape[1:]))
        some = stream(run.seed, "prior/whitening").permutation(len(prior))[:count]
        module.whiten(network_inputs(network.architecture, helper.preprocessing, prior.inputs_at(np.sort(some))))
    return PriorTrainer(module, network, helper, prior, run, recipe)


def is_fast_enough(
    prior: Sample, run: Run, kind: BuiltIn, seconds: float, preprocessing: Preprocessing, recipe: PriorRecipe
) -> bool:
    """Whether one of the first steps of training a built-in network takes so many seconds at most."""
    module = built_in_network(prior.input_shape, prior.num_classes, kind).eval()
    operations = operations_per_sample(capture(module, example_for(module, prior, preprocessing)).architecture)
    # forward, and backward for the values and for the weights
    if 3 * recipe.batch_size * operations > _FASTEST * seconds:
        return False
    trainer, taken = trainer_for(prior, run, kind, preprocessing, recipe), math.inf
    trainer.module.train()
    for _ in range(4):
        before = clock.seconds()
        trainer.step(0.0)
        taken = min(taken, clock.seconds() - before)
        if not seconds < taken < _HOPELESS * seconds:
            break
    return taken <= seconds


def _fresh_module(prior: Sample, model: PriorModel, seed: int) -> nn.Module:
    """What is trained, with initial values that depend on the seed and the architecture alone."""
    if isinstance(model, Network):
        if model.architecture.input_shape != prior.input_shape:
            expected, got = f"a network of inputs {list(prior.input_shape)}", f"{list(model.architecture.input_shape)}"
            raise InputError(expected, got, "give the network that these data are for")
        module: nn.Module = CapturedModule(model, seed)
        outputs = model.architecture.num_outputs
    else:
        module = model
        if isinstance(model, BuiltIn):
            module = built_in_network(prior.input_shape, prior.num_classes, model)
        with users_network("be copied and given fresh values"):
            module = copy.deepcopy(module).float()
            initialise_module(module, seed)
        outputs = prior.num_classes
    if outputs != prior.num_classes:
        raise InputError(f"a network of {prior.num_classes} outputs", f"{outputs}", "give one for these classes")
    return module
