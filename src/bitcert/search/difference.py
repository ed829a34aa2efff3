"""A helper network tuned to the sample; the message is the difference, by several codecs.

The network starts from the helper's weights (public ones, or those of a declared prior part), is trained on the sample
with a small rate, and what changed is coded: all layers or the last one only (head-only), quantised, pruned (sparse) or
as a product of thin matrices (low-rank), with everything else as in the helper. Source: Arora et al. 2018, improvement
(i), and docs/theory.md 3.2. The training knows nothing of the code that follows; codecs that train their message on the
helper (:mod:`bitcert.codecs.random_subspace`) are rivals. Not guaranteed: that the difference is worth its bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bitcert.codecs.base import Codec, Rest, Selection
from bitcert.codecs.best import PlainCodecs, Search
from bitcert.codecs.magnitude_pruning import MagnitudePruning
from bitcert.codecs.quantise import Quantise
from bitcert.codecs.quantiser import Uniform
from bitcert.codecs.training import Schedule, Tensors, Trainer
from bitcert.codecs.truncated_svd import TruncatedSVD
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import Base
from bitcert.errors import InputError
from bitcert.network import Architecture, Network
from bitcert.run import Compressed, Run

TRAINING_SHARE = 0.6
RATE = 5e-4


class _Tuned:
    """All trained tensors of the helper's network, as a model of :class:`~bitcert.codecs.training.Trainer`."""

    def __init__(self, architecture: Architecture, helper: Helper, device: str) -> None:
        assert helper.weights is not None
        kinds = {spec.name: spec.kind for spec in architecture.parameters}
        self.values = {
            name: torch.tensor(np.array(value), device=device, requires_grad=kinds[name] != "buffer")
            for name, value in helper.weights.values.items()
        }

    def weights(self) -> Tensors:
        return self.values

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [value for value in self.values.values() if value.requires_grad]}]

    def before_step(self, fraction: float) -> None:
        del fraction

    def after_step(self, fraction: float) -> None:
        del fraction

    def state(self) -> Tensors:
        return {name: value for name, value in self.values.items() if value.requires_grad}


def difference_codecs(network: Network) -> tuple[Codec, ...]:
    """What the difference is coded with, the shortest messages first."""
    last = network.weight_layers[-1].weight
    head = Selection(layers=(last,), rest=Rest.HELPER, base=Base.FILE)
    whole = Selection(rest=Rest.HELPER, base=Base.FILE)
    chosen: list[Codec] = [Quantise(selection=head, quantiser=Uniform(step)) for step in (4.0, 2.0, 1.0)]
    chosen += [replace(codec, selection=head) for codec in TruncatedSVD.strengths()]
    chosen += [Quantise(selection=whole, quantiser=Uniform(step)) for step in (16.0, 8.0, 4.0, 2.0, 1.0)]
    sparse = (*TruncatedSVD.strengths(), *MagnitudePruning.strengths())
    chosen += [replace(codec, selection=whole) for codec in sparse]
    return tuple(chosen)


def compress_difference(
    network: Network, sample: Sample, helper: Helper, run: Run, *, rate: float = RATE
) -> Compressed:
    """The best message of what tuning changes in the helper's network, found in the run's time.

    Args:
        network: the helper's.
        sample: labelled examples that the helper's weights have not seen.
        helper: with a captured network for these classes, and its weights.
        run: seed, budget, device, progress and checkpoint.
        rate: peak learning rate of the tuning.

    Raises:
        InputError: the helper has no weights, no weight layer, or training diverges.
    """
    if helper.weights is None or not network.weight_layers:
        raise InputError("a helper network with weights", "none", "name it with --helper")
    architecture = network.architecture
    model = _Tuned(architecture, helper, run.device)
    part = run.share(max(1e-9, TRAINING_SHARE * run.budget_seconds))
    part.checkpoint = None if run.checkpoint is None else run.checkpoint.part("tuning")
    search = Search(sample, helper, part)
    trainer = Trainer(search, model, Schedule(rate=rate, batch_size=128), purpose="difference")
    state = search.resume()
    if state is not None:
        trainer.restore(state)
    trainer.train(part.budget_seconds)
    trainer.save()
    run.spent_before(max(run.seconds, part.seconds))
    if not trainer.is_finite():
        raise InputError("training that converges", "one that diverged", "leave the helper as it is")
    tuned = {name: value.detach().cpu() for name, value in model.weights().items()}
    if all(np.array_equal(tuned[name].numpy(), value) for name, value in helper.weights.values.items()):
        raise InputError("time to tune the helper network", "none", "give more time")
    trained = replace(network, parameters=tuned)
    compressed = PlainCodecs(difference_codecs(trained), trained)(sample, helper, run)
    if part.checkpoint is not None and not run.stopped:
        part.checkpoint.remove()
    return compressed
