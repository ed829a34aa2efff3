"""Lottery tickets: iterative magnitude pruning with rewinding, and pruning of a trained network with fine-tuning.

Frankle & Carbin 2019 (Guha 2023, section 6): train, remove the smallest fraction of the surviving weights, put the
survivors back to their initial (or early, Frankle et al. 2020) values, train again. With ``start = trained`` nothing is
put back: the given weights are pruned and fine-tuned, round by round. Pruned tensors are rounded in the last part of
every round (straight through), so the ticket of each round is a message; all are counted and the best is kept, which
costs nothing (docs/theory.md section 2); where time is short, rounds between the first and the last go uncounted.

The message is the sparse integers themselves, on the base zero. Coding ``mask * (initial + difference)`` with initial
values of the helper would not pay: the survivors' differences spread nearly as wide as the survivors themselves, which
saves a fraction of a bit each, and a difference of 0 would have to be told from a pruned weight. A run with a
checkpoint can be interrupted anywhere and goes on where it was. Not guaranteed: that a ticket of a given size
exists or is found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np

from bitcert.codecs.base import Codec, Layer, Scope, Selection, network_layers
from bitcert.codecs.best import Search, State
from bitcert.codecs.quantiser import Quantiser, Uniform
from bitcert.codecs.ticket import Plan, Ticket
from bitcert.codecs.training import COUNTS_KEPT_FREE, Looks, Schedule, Status, TrainedCodec, Trainer
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import Base, ComposedMessage, base_values
from bitcert.decoder.transforms.base import Values
from bitcert.errors import InputError, unknown_name
from bitcert.network import Network
from bitcert.run import Compressed
from bitcert.theory.value import Condition, LayerTheory, Theory

WORTH_A_MESSAGE = 0.25
"""Fraction of a round's time that writing and counting its ticket may take."""


class Start(StrEnum):
    """Where training begins and what survivors are put back to."""

    RANDOM = "random"
    """He-normal numbers of the seed, biases 0, gains 1."""
    GIVEN = "given"
    """The network's own values, taken as initial ones: an untrained network."""
    TRAINED = "trained"
    """The network's own values; nothing is put back."""


@dataclass(frozen=True, kw_only=True)
class LotteryTicket(TrainedCodec):
    """Iterative magnitude pruning; the message is the best round's sparse quantised network.

    Args:
        selection: which layers are pruned; the others are trained and coded as its rest says.
        quantiser: of pruned tensors.
        start: initial values, and whether there is rewinding.
        rounds: how often is pruned.
        removed: fraction of the survivors that a round removes.
        scope: per tensor or global (the default, because a weight costs the same bits wherever it is).
        biases: whether biases are pruned and quantised as the weights are (Frankle & Carbin keep them; bits cost).
        rewind: fraction of the first training whose values survivors go back to; 0 for the initial ones.
        rounded_from: fraction of each training from which pruned tensors are rounded.
        rate: peak learning rate of Adam; the default is that of Frankle & Carbin's dense network.
        batch_size: examples of a step.
        num_steps: steps of each training; by default the time budget is shared among the rounds.

    >>> LotteryTicket().label
    'lottery 7 x 50%'
    """

    name: ClassVar[str] = "lottery"
    without_sample = ("a training sample", "lottery tickets are trained: pass the data")

    selection: Selection = field(default_factory=Selection)
    quantiser: Quantiser = field(default_factory=lambda: Uniform(0.5))
    start: Start = Start.RANDOM
    rounds: int = 7
    removed: float = 0.5
    scope: Scope = Scope.GLOBAL
    biases: bool = True
    rewind: float = 0.0
    rounded_from: float = 0.5
    rate: float = 1.2e-3
    batch_size: int = 64
    num_steps: int | None = None

    def __post_init__(self) -> None:
        for option, kind in (("start", Start), ("scope", Scope)):
            if getattr(self, option) not in tuple(kind):
                raise unknown_name(option, str(getattr(self, option)), [choice.value for choice in kind])
            object.__setattr__(self, option, kind(getattr(self, option)))
        if self.rounds < 1:
            raise InputError("1 or more rounds of pruning", str(self.rounds), "use e.g. 7")
        if not 0 < self.removed < 1:
            raise InputError("a fraction between 0 and 1 to remove", str(self.removed), "use e.g. 0.5")
        for name, value in (("rewind", self.rewind), ("rounded_from", self.rounded_from)):
            if not 0 <= value <= 1:
                raise InputError(f"{name} between 0 and 1", str(value), "it is a fraction of a training")
        _ = self.schedule  # which checks rate, batch size and steps

    @property
    def schedule(self) -> Schedule:
        """Of each training."""
        return Schedule(
            batch_size=self.batch_size,
            rate=self.rate,
            decay_from=min(self.rounded_from, 0.5),
            num_steps=self.num_steps,
        )

    @property
    def label(self) -> str:
        """Name, rounds and what differs from the defaults."""
        parts = [self.name, f"{self.rounds} x {self.removed:.0%}"]
        parts += [f"from {self.start}"] if self.start is not Start.RANDOM else []
        parts += ["by layer"] if self.scope is Scope.LAYER else []
        return " ".join(parts)

    @classmethod
    def strengths(cls) -> tuple[Codec, ...]:
        """From a quarter of the trained weights to a thousandth of the untrained ones."""
        return (
            cls(start=Start.TRAINED, rounds=2, quantiser=Uniform(0.125)),
            cls(start=Start.TRAINED, rounds=6),
            cls(rounds=5),
            cls(),
            cls(rounds=10),
        )

    def train(self, network: Network, search: Search) -> Compressed:
        """Train, prune, rewind, and return the best ticket's message; training that diverges ends the rounds.

        The network's values matter for ``given`` and ``trained`` starts (buffers always).

        Raises:
            InputError: no weight layer, or training that diverges before there is any message.
        """
        helper = search.helper
        layers = network_layers(network, helper, self.selection)
        pruned = self._pruned(layers)
        plan = Plan(self.quantiser, self.selection.rest, self.rounded_from)
        bases = _base_values(layers, helper)
        initial = {layer.target.name: layer.trained.double().cpu().numpy() for layer in layers}
        if self.start is Start.RANDOM:
            initial = _base_values(layers, helper, Base.RANDOM)
        ticket = Ticket(layers, bases, initial, pruned, plan, search.run.device)
        _Rounds(self, ticket, search).run()
        if search.best is None:
            raise InputError("training that converges", "one that diverged at once", "use a smaller rate")
        return search.result()

    def _pruned(self, layers: tuple[Layer, ...]) -> frozenset[str]:
        weights = {x.target.name for x in layers if x.index and self.selection.includes(x.target.name)}
        if not any(x.target.size for x in layers if x.target.name in weights):
            raise InputError("a network with weights to prune", "none", "choose another codec")
        return frozenset(weights | {x.target.name for x in layers if self.biases and x.target.kind == "bias"})

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """Guha Thm 6.2: what its bound is made of for a ticket as sparse as the last round's."""
        shapes = {s.name: s for s in network.architecture.parameters}
        kept = (1 - self.removed) ** self.rounds
        rows, steps = [], []
        for layer in network.weight_layers:
            size = shapes[layer.weight].num_entries
            density = kept if self.selection.includes(layer.weight) else 1.0
            weight = network.parameters[layer.weight].detach().double().cpu().numpy()
            steps.append(self.quantiser(weight).step)
            details = {"density": density, "rho": steps[-1]}
            rows.append(LayerTheory(layer.weight, size, density * size, None, details))
        return _theorem(network, tuple(rows), min(steps, default=1.0), sample)


def _base_values(layers: tuple[Layer, ...], helper: Helper, base: Base | None = None) -> dict[str, Values]:
    """Values of each tensor's own base, or of this one, by name."""
    return {x.target.name: base_values(base or x.base, x.target, x.draws, helper) for x in layers}


@dataclass(eq=False)
class _Rounds:
    """The state machine of one run: which round, and when it ends."""

    codec: LotteryTicket
    ticket: Ticket
    search: Search
    seconds_of_coding: float = 0.0
    """Of writing and decoding a message, for each survivor."""

    def run(self) -> None:
        """Every round from the first, or from the checkpoint's."""
        state = self.search.resume()
        first = 0 if state is None else int(state.values["round"])
        for number in range(first, self.codec.rounds + 1):
            if not self._round(number, state):
                break
            state = None
        self.search.save(State({"round": self.codec.rounds + 1}))

    def _round(self, number: int, state: State | None) -> bool:
        """Train, book and prune; whether there is time for another round."""
        codec, search = self.codec, self.search
        search.run.progress(f"round {number} of {codec.rounds}", number / (codec.rounds + 1))
        trainer = Trainer(search, self.ticket, codec.schedule, f"lottery/{number}")
        if state is None:
            plan = self._plan(number)
            trainer.save(plan)
        else:
            trainer.restore(state)
            plan = {key: state.values[key] for key in ("round", "until", "booked", "seconds_of_coding")}
            self.seconds_of_coding = float(plan["seconds_of_coding"])
        status = Status.DONE
        if number or codec.start is not Start.TRAINED:
            # the trainer itself leaves room for a count, the plan has already left it for a message
            until = plan["until"] + COUNTS_KEPT_FREE * search.seconds_of_a_count
            status = trainer.train(until, self._looks(number), lambda: plan)
        if status is Status.DIVERGED:
            return False
        if plan["booked"] or status is Status.OUT_OF_TIME:
            self._book(number)
        if number < codec.rounds:
            self.ticket.prune(codec.removed, codec.scope)
            if codec.start is not Start.TRAINED:
                self.ticket.rewind()
        return status is Status.DONE

    def _book(self, number: int) -> None:
        alive, search = self.ticket.num_alive, self.search
        started = search.run.seconds
        name = f"{self.codec.name}, round {number}: {alive} of {self.ticket.num_prunable}"
        search.propose(name, ComposedMessage(self.ticket.codes(), self.codec.selection.seed))
        self.seconds_of_coding = (search.run.seconds - started - search.seconds_of_a_count) / max(alive, 1)

    def _plan(self, number: int) -> dict[str, Any]:
        """When a round's training ends, and whether its ticket is written and counted.

        Each round has an equal share of what is left. Where messages would take much of it, only the first and the
        last round's are made: the time is better spent on training.
        """
        run, last = self.search.run, self.codec.rounds
        share = max(0.0, run.budget_seconds - run.seconds) / (last + 1 - number)
        message = self.search.seconds_of_a_count + self.seconds_of_coding * self.ticket.num_alive
        booked = number in (0, last) or self.codec.num_steps is not None or message <= WORTH_A_MESSAGE * share
        end = run.budget_seconds if self.codec.num_steps is not None else run.seconds + share
        until = max(run.seconds, end - message if booked else end)
        return {"round": number, "until": until, "booked": booked, "seconds_of_coding": self.seconds_of_coding}

    def _looks(self, number: int) -> Looks:
        if number or not self.codec.rewind:
            return Looks()
        return Looks((self.codec.rewind,), lambda fraction: self.ticket.note())


def _theorem(network: Network, rows: tuple[LayerTheory, ...], rho: float, sample: Sample | None) -> Theory:
    """Theorem 6.2 with the target's width read off the number of survivors."""
    widths = [network.parameters[layer.weight].shape[0] for layer in network.weight_layers]
    inputs = int(np.prod(network.architecture.input_shape))
    width, depth = max(widths[:-1] or widths), max(1.0, len(rows) / 2)
    survivors = sum(row.parameters for row in rows)
    # survivors = n_M d_0 + L n_M^2, the count of the proof (E.5)
    target = (math.sqrt(inputs**2 + 4 * depth * survivors) - inputs) / (2 * depth)
    sketched = (target * inputs + depth * target**2) * math.log(width) ** 2
    levels = math.log(1 / rho)
    spectral = [
        float(np.linalg.norm(network.parameters[x.weight].flatten(1).double(), 2)) for x in network.weight_layers
    ]
    text = f"n_M = {target:.4g}, d_0 = {inputs}, L = {depth:g}, D_G = {width}, rho = {rho:.3g}"
    if sample is not None and rho < 1:
        text += f"; the root is {math.sqrt(sketched * levels / len(sample)):.4g} without its constant"
    return Theory(
        source="Guha 2023, Theorem 6.2",
        statement=f"R_0 <= R_eps + O(sqrt((n_M d_0 + L n_M^2) log(D_G)^2 log(1/rho) / n)) with {text}",
        parameters=sketched,
        error_means="eps of Theorem 6.1 is chosen, not predicted",
        conditions=(
            Condition("network drawn from U([-1, 1])", False, "we draw He-normal numbers"),
            Condition("target layers of spectral norm at most 1", None, f"largest here {max(spectral):.3g}"),
            Condition("magnitude pruning finds the subnetwork", None, "Theorem 6.1 shows only that one exists"),
            Condition("survivors evenly spread over rows and columns", None, "needed by the sketch (Theorem 5.1)"),
        ),
        layers=rows,
        notes=(
            "Theorem 6.1 prints O(d_0 D_G + D_G^2 L) active weights; its proof and Theorem 6.2 have the target's width "
            "n_M (D_F) in place of D_G, and so have we: n_M is solved from the survivors",
            "constants dropped; probability 1 - delta - L D_G^-c with an unspecified c",
        ),
    )
