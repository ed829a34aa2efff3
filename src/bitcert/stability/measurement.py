"""The verb ``measure``: noise stability of a network on a sample (Arora 2018 section 3; docs/theory.md section 3.1).

The sample streams through in batches; each example's values go to disk shard by shard and are reduced one column at a
time, so that memory stays flat in the number of examples while quantiles stay exact. An interrupted run with a folder
goes on from its finished shards. The results are *measures*: they describe this network on these examples, and are
NOT a guarantee about other examples or for any compressor.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bitcert.counting import Progress
from bitcert.data import Sample
from bitcert.decoder import Preprocessing, as_network
from bitcert.errors import InputError, listed
from bitcert.network import Network
from bitcert.network.memory import is_out_of_memory
from bitcert.shards import Here, executor_for, over_ranges
from bitcert.stability.assembly import (
    attenuation_curves,
    distributions,
    num_positive_margins,
    reduction_notes,
    smoothness_summary,
)
from bitcert.stability.hypotheses import check_hypotheses, is_relu_only, offsets
from bitcert.stability.layers import Structure
from bitcert.stability.planning import MeasurePlan, affordable_smoothness, out_of_memory, plan_measure
from bitcert.stability.producers import PRODUCERS, SamplePass
from bitcert.stability.profile import StabilityProfile
from bitcert.stability.settings import BatchContext, MeasureSettings, check_available
from bitcert.stability.smoothness import num_projections
from bitcert.stability.store import ShardStore
from bitcert.stability.table import layer_rows, measure_weights
from bitcert.stability.twin import initial_network, random_twin

_FORMAT = "bitcert shards 2"
_PILOT_SIZE = 16


@dataclass(frozen=True, eq=False)
class _Run(SamplePass):
    """One network on one sample, its sizes, and where shards and progress go."""

    plan: MeasurePlan
    folder: Path
    progress: Progress | None
    task: str

    def context(self, index: NDArray[np.int64]) -> BatchContext:
        """The batch of these examples; refused where the network's output is not finite."""
        context = super().context(index)
        finite = torch.isfinite(context.values[self.network.architecture.output]).all(1)
        if not bool(finite.all()):
            where = int(index[int(torch.nonzero(~finite)[0])])
            got = f"NaN or infinity for example {where} of {self.sample.name}"
            raise InputError("finite outputs", got, "check data and preprocessing, or use dtype float64")
        return context

    def tell(self, part: float) -> None:
        """Report progress: the part of the examples that is measured; the reduction takes the last 5 %."""
        if self.progress is not None:
            self.progress(self.task, 0.95 * part)


def measure(
    network: Network | nn.Module,
    sample: Sample,
    settings: MeasureSettings | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    init: Mapping[str, Tensor] | Network | nn.Module | None = None,
    random_init: bool = False,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> StabilityProfile:
    """Measure the noise stability of a network on every example of a sample.

    Args:
        network: captured, or a module, which is captured with the first examples.
        sample: examples as they are stored; labels are needed for margins only.
        settings: what is measured and how.
        preprocessing: from stored examples to the network's inputs; by default as ``certify`` does it.
        init: initial weights, captured the same way, or their parameters by name: measured beside the network as its
            untrained twin, and the distances of the weights from them given.
        random_init: measure a He-normal twin instead.
        folder: where finished shards are kept, so that an interrupted run goes on from them; they are left there.
            Without one a temporary folder is used.
        progress: called with the task and the fraction done.

    Raises:
        InputError: a sample that does not fit the network, weights that are not finite, a network without a weight
            layer, initial weights of another network, too little memory (the setting that would fit is named).

    >>> from bitcert.data import Role
    >>> from bitcert.network import capture
    >>> net = capture(torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False)), torch.ones(2, 4))
    >>> data = Sample(np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]), 3, Role.TRAIN, "toy")
    >>> profile = measure(net, data, MeasureSettings(quantities=("layer_cushion",)))
    >>> profile.distribution("layer_cushion", 1).maximum <= 1
    True
    """
    settings = settings or MeasureSettings()
    preprocessing = preprocessing or Preprocessing.usual(sample)
    network = as_network(network, sample, preprocessing)
    init = as_network(init, sample, preprocessing) if isinstance(init, nn.Module) else init
    structure = _check(network, sample, settings)
    count = affordable_smoothness(network.architecture, structure, settings, len(sample))
    settings = replace(settings, smoothness_samples=count)
    plan = plan_measure(network, sample, settings)
    twin = _twin(network, init, random_init, settings)
    initial = twin.parameters if twin is not None and init is not None else None
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bitcert-")))
        measured = (network, sample, settings, preprocessing, structure, _PILOT_SIZE)
        run = _Run(*measured, plan, folder, progress, "measuring")
        profile = _measure_one(run, initial)
        if twin is None:
            return profile
        other = replace(run, network=twin, task="measuring the untrained twin")
        return replace(profile, twin=_measure_one(other, None).named(f"untrained twin: {twin.report.notes[0]}"))


def _check(network: Network, sample: Sample, settings: MeasureSettings) -> Structure:
    architecture = network.architecture
    check_available(settings.device)
    if architecture.input_dtype != "float32":
        got = "one that reads token indices"
        raise InputError("a network that reads numbers", got, "measure networks of images or vectors")
    if tuple(sample.input_shape) != architecture.input_shape:
        got = f"{sample.name} of shape {list(sample.input_shape)}"
        raise InputError(f"inputs of shape {list(architecture.input_shape)}", got, "use the network's own data")
    if sample.has_labels and sample.num_classes > architecture.num_outputs:
        got = f"{architecture.num_outputs} outputs"
        expected = f"a network with one output for each of the {sample.num_classes} classes of {sample.name}"
        raise InputError(expected, got, "use the data this network was trained for")
    bad = [name for name, value in network.parameters.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise InputError("finite weights", f"NaN or infinity in {listed(bad, 5)}", "repair or retrain the network")
    structure = Structure.of(architecture)
    if not structure.layers:
        got = structure.skipped[0] if structure.skipped else "none"
        raise InputError("a network with a linear or convolution layer", got, "measure another network")
    return structure


def _twin(
    network: Network, init: Mapping[str, Tensor] | Network | None, random_init: bool, settings: MeasureSettings
) -> Network | None:
    if init is not None and random_init:
        raise InputError("initial weights or a random twin", "both", "leave out one of them")
    if init is not None:
        return initial_network(network, init)
    return random_twin(network, settings.seed) if random_init else None


def _measure_one(run: _Run, initial: Mapping[str, Tensor] | None) -> StabilityProfile:
    store = ShardStore(run.folder, _identity(run), len(run.sample), run.plan.shard_size)
    with _explained_memory(run.plan.batch_size):
        _measure_shards(run, store)
        profile = _profile(run, store, initial)
    if run.progress is not None:
        run.progress(run.task, 1.0)
    return profile


def _measure_shards(run: _Run, store: ShardStore) -> None:
    """Compute the shards that are missing, wherever passes over examples run; each is written here, as it comes."""
    left = [shard for shard in store.ranges if not store.finished(*shard)]
    if not left:
        return
    part = sum(stop - start for start, stop in left) / len(run.sample)
    executor = executor_for(len(left), run.settings.device)
    worker = replace(run, progress=None)
    with torch.no_grad():
        _ = worker.prepared  # here, and not in each worker
    batches = (lambda done: run.tell(done / len(run.sample))) if isinstance(executor, Here) else None
    over_ranges(
        lambda start, stop: worker.arrays(start, stop, run.plan.batch_size, batches),
        left,
        lambda shard, arrays: store.write(*shard, arrays),
        progress=lambda _, fraction: run.tell(1 - part * (1 - fraction)),
        executor=executor,
    )


def _profile(run: _Run, store: ShardStore, initial: Mapping[str, Tensor] | None) -> StabilityProfile:
    """The profile of a finished run, without a twin."""
    network, structure, sample, settings = run.network, run.structure, run.sample, run.settings
    architecture, parameters = network.architecture, network.parameters
    weights = measure_weights(architecture, structure, parameters, "spectra" in settings.wanted, initial)
    found = distributions(run, store, weights)
    projections = num_projections(structure, parameters, settings)
    smoothness = smoothness_summary(run, store, tuple(projections[layer.weight] for layer in structure.layers))
    # the smoothness of the others was not asked for, which says nothing of them
    others = 0 if settings.smoothness_samples is None else max(0, len(sample) - settings.smoothness_samples)
    depth = len(structure.layers)
    return StabilityProfile(
        network={
            "name": f"a network of {depth} weight layer{'s' if depth > 1 else ''}",
            "content_hash": network_hash(network),
            "num_parameters": architecture.num_parameters,
            "chain": structure.chain,
            "bias_free": not offsets(architecture, parameters),
            "relu_only": is_relu_only(architecture),
        },
        sample={
            "name": sample.name[:200],
            "content_hash": sample.content_hash,
            "num_samples": len(sample),
            "measured": len(sample),
        },
        settings=settings.describe(),
        layers=layer_rows(architecture, structure, weights, found),
        pairs=structure.pairs,
        distributions=found,
        attenuation=attenuation_curves(run, store),
        spectra=tuple(own.spectrum for own in weights if own.spectrum is not None),
        smoothness=smoothness,
        hypotheses=check_hypotheses(network, structure, found, smoothness, num_positive_margins(store), others),
        notes=(*_notes(run), *(own.note for own in weights if own.note), *reduction_notes(run, store)),
        arrays={name: store.array(name) for name in store.names()} if settings.keep else None,
    )


@contextlib.contextmanager
def _explained_memory(batch_size: int) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError, InputError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(batch_size) from error


def _notes(run: _Run) -> tuple[str, ...]:
    structure, wanted = run.structure, run.settings.wanted
    notes = [f"left out {sentence}" for sentence in structure.skipped]
    for name in wanted:
        if name in PRODUCERS and PRODUCERS[name].needs_pairs and not structure.pairs:
            notes.append(f"no {name}: no layer feeds another one")
    if structure.unconnected and "interlayer_cushion" in wanted:
        pairs = [f"{i}→{j}" for i, j in structure.unconnected]
        notes.append(f"pairs of layers that are not connected are left out: {listed(pairs, 5)}")
    if "margin" in wanted and not run.sample.has_labels:
        notes.append("no margin: the sample has no labels")
    limits = {"smoothness": run.settings.smoothness_samples, "noise_sensitivity": run.settings.sensitivity_samples}
    for name, limit in limits.items():
        if name in run.wanted and limit is not None and limit < len(run.sample):
            notes.append(f"{name} on {limit} of {len(run.sample)} examples, spread evenly")
    return (*notes, *run.network.report.notes)


def network_hash(network: Network) -> str:
    """SHA-256 of a network's architecture and parameters, as a profile states it in ``network["content_hash"]``."""
    digest = hashlib.sha256(network.architecture.content_hash.encode())
    for name in sorted(network.parameters):
        value = network.parameters[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _identity(run: _Run) -> str:
    """Hash of everything that determines the stored numbers, the sizes of batches (rounding) included."""
    preprocessing = [run.preprocessing.scale, list(run.preprocessing.mean), list(run.preprocessing.std)]
    parts = [
        *(_FORMAT, version("bitcert"), torch.__version__, np.__version__),
        *(network_hash(run.network), run.sample.content_hash, preprocessing, run.settings.identity()),
        *(run.plan.batch_size, run.plan.shard_size),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
