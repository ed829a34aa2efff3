"""A codec and a strength for every layer, chosen on the certificate: coordinate descent over a fixed menu.

The menu is the usual strengths of the codecs that work layer by layer. First each for the whole network, then one layer
at a time is changed while the bound falls, estimated on a subset of the examples; what a pass has found is counted on
the whole sample. Each layer's codec and strength is in the message, so the choice is free of further bits
(docs/theory.md section 2). Source: docs/theory.md 3.2. Not guaranteed: the best combination, only one that no single
change improves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bitcert.codecs.base import LayerCodec
from bitcert.codecs.per_layer import EVERY, PerLayer, Rule
from bitcert.codecs.registry import CODECS
from bitcert.counting import DecisionRule, count_errors
from bitcert.data import Sample
from bitcert.decoder import Helper, decode_message
from bitcert.errors import BitcertError, InputError
from bitcert.network import Network
from bitcert.proof import occam_bound
from bitcert.random import stream
from bitcert.run import Best, Candidate, Compressed, Run

SUBSET = 5000
"""Examples on which changes are estimated."""

Choice = tuple[LayerCodec, ...]
"""A codec for each weight layer in order."""


def menu() -> tuple[LayerCodec, ...]:
    """The usual strengths of the codecs that work layer by layer and train nothing."""
    found: list[Any] = [codec for kind in CODECS.values() if kind is not PerLayer for codec in kind.strengths()]
    return tuple(c for c in found if isinstance(c, LayerCodec) and type(c).compress is LayerCodec.compress)


class _Descent(Best):
    def __init__(self, network: Network, sample: Sample, helper: Helper, run: Run) -> None:
        super().__init__(sample, helper, run)
        self.network = network
        self.seen: dict[Choice, float] = {}
        self.booked: Choice | None = None
        rows = stream(run.seed, "per-layer subset").permutation(len(sample))[:SUBSET]
        self.subset = sample if len(sample) <= SUBSET else sample.take(np.sort(rows))
        self.layers = tuple(layer.weight for layer in network.weight_layers)

    def codec(self, choice: Choice) -> PerLayer:
        return PerLayer(rules=tuple(Rule(layer, codec) for layer, codec in zip(self.layers, choice, strict=True)))

    def encode(self, choice: Choice) -> Compressed:
        return self.codec(choice).encode(self.network, self.sample, helper=self.helper)

    def errors(self, compressed: Compressed, sample: Sample) -> int:
        classifier = decode_message(compressed.message, self.helper).classifier
        return count_errors(classifier, sample, DecisionRule(self.helper.batch_size)).errors

    def estimate(self, choice: Choice) -> float:
        """The bound, errors of the subset scaled up; infinite where a codec refuses a layer."""
        if choice not in self.seen:
            self.run.progress("choosing a strength for each layer", self.run.fraction)
            try:
                compressed = self.encode(choice)
            except BitcertError:
                self.seen[choice] = np.inf
            else:
                errors = round(self.errors(compressed, self.subset) * len(self.sample) / len(self.subset))
                bits = 8 * len(compressed.message)
                # where every bound is 1 fewer errors and bits still count
                tie = 1e-6 * (errors / len(self.sample) + bits / (bits + 1e9))
                self.seen[choice] = occam_bound(errors, len(self.sample), bits, self.run.delta).binomial + tie
        return self.seen[choice]

    def book(self, name: str, choice: Choice) -> None:
        """Count a choice on the whole sample."""
        if choice == self.booked:
            return
        self.booked, compressed = choice, self.encode(choice)
        self.consider(name, self.errors(compressed, self.sample), compressed.message, compressed.ledger)

    def rank(self, candidate: Candidate) -> tuple[float, ...]:
        return candidate.bound, candidate.message_bits

    def uniform(self) -> Choice:
        """The best codec for all layers alike."""
        least, best = np.inf, None
        for codec in menu():
            choice = (codec,) * len(self.layers)
            if self.estimate(choice) < least:
                least, best = self.estimate(choice), choice
            if best is not None and self.run.fraction >= 1.0:
                break
        if best is None:
            raise InputError("a network whose layers some codec can code", "none", "choose another codec")
        return best

    def improve(self, choice: Choice) -> Choice:
        """One pass over the layers."""
        for k in range(len(self.layers)):
            for codec in menu():
                if self.run.fraction >= 1.0:
                    return choice
                changed = (*choice[:k], codec, *choice[k + 1 :])
                if self.estimate(changed) < self.estimate(choice):
                    choice = changed
        return choice


def compress_per_layer(network: Network, sample: Sample, helper: Helper, run: Run) -> Compressed:
    """The best message of a given network that is found in the run's time.

    Raises:
        InputError: the network has no weight layers.
    """
    if not network.weight_layers:
        raise InputError("a network with weight layers", "none", f"leave out {EVERY}")
    descent = _Descent(network, sample, helper, run)
    choice = descent.uniform()
    descent.book("the same for all layers", choice)
    number, changed = 0, True
    while changed and run.fraction < 1.0:
        number, before = number + 1, choice
        choice = descent.improve(choice)
        changed = choice != before
        descent.book(f"pass {number}: {descent.codec(choice).label}", choice)
    return descent.result()
