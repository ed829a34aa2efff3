"""What a measurement will cost, on which examples, and the sizes of batches and shards, before anything is computed.

Seconds come from counted floating-point operations at the speed of modest CPU cores; memory from the sizes of the
values a batch keeps, of the noise copies a producer makes of them, and of what the operations take meanwhile. Both are
estimates, NOT limits: speed depends on the machine. The rule for the sizes depends on the network, the settings and the
number of examples only, so that an interrupted run finds its shards again.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
import torch

from bitcert.data import Role, Sample
from bitcert.errors import InputError
from bitcert.network import Architecture, Network
from bitcert.network.nodes import INPUT
from bitcert.random import stream
from bitcert.stability.layers import Structure
from bitcert.stability.settings import MeasureSettings

FLOPS_PER_SECOND = 2.5e10
"""Of one thread; what a core without wide vector units reaches on these networks."""
MAX_BATCH_SIZE = 1024
MAX_SHARD_SIZE = 8192
SHARD_SECONDS = 5.0
"""Work of about so many seconds is lost when a run is interrupted."""

START_SECONDS = 8.0
"""Norms and spectra of the weights, preparation and figures."""

SMOOTHNESS_FLOPS = 3e12
LEAST_SMOOTHNESS_SAMPLES = 100

_ROW_CHUNK = 1 << 22
_ROWS_ESTIMATED = 12
"""Rows of a sweep at a tolerance of 1 %, as seen on residual networks; dense networks need more, but are cheap."""
_PILOT_ROWS = 2_000
"""Rows that finding the number of probes costs for each layer, over all pilot examples."""
_PROJECTION_FLOPS = 2 << 30


@dataclass(frozen=True)
class MeasurePlan:
    """Estimated cost of a run.

    Attributes:
        seconds: of all examples, one network (an untrained twin costs the same again).
        memory_bytes: working memory, without the sample.
        batch_size: examples computed at a time.
        shard_size: examples whose results are written together, a multiple of the batch size.
        num_samples: examples in all.
        flops: floating-point operations of all examples.
    """

    seconds: float
    memory_bytes: int
    batch_size: int
    shard_size: int
    num_samples: int
    flops: float = 0.0


def plan_measure(network: Network, sample: Sample, settings: MeasureSettings | None = None) -> MeasurePlan:
    """Estimate time and memory of :func:`bitcert.stability.measure`, and fix the sizes of batches and shards.

    Raises:
        InputError: when the batch size asked for needs more memory than the machine has; a size that fits is named.
    """
    settings = settings or MeasureSettings()
    architecture = network.architecture
    structure = Structure.of(architecture)
    each, fixed = _memory(architecture, structure, settings)
    fitting = max(1, min(MAX_BATCH_SIZE, settings.memory_bytes // each))
    batch_size = min(len(sample), settings.batch_size or fitting)
    needed = fixed + batch_size * each
    _check_memory(needed, fixed, each, batch_size, settings.device)
    flops = _flops(architecture, structure, settings, len(sample))
    # not the threads at hand: a run that goes on with other threads must find its shards
    per_shard = int(min(MAX_SHARD_SIZE, SHARD_SECONDS * FLOPS_PER_SECOND * len(sample) / max(flops, 1.0)))
    seconds = START_SECONDS + flops / (FLOPS_PER_SECOND * torch.get_num_threads())
    shard_size = min(len(sample), max(1, per_shard // batch_size) * batch_size)
    return MeasurePlan(seconds, needed, batch_size, max(shard_size, batch_size), len(sample), flops)


def drawn(sample: Sample, count: int, seed: int, purpose: str = "measure/subset") -> Sample:
    """``count`` examples to measure on, drawn without replacement, in the order of the data; all if it has no more.

    Args:
        sample: all examples.
        count: how many are drawn.
        seed, purpose: name of the random stream; another purpose draws others.

    >>> data = Sample(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), 2, Role.TRAIN, "toy")
    >>> len(drawn(data, 3, 0)), drawn(data, 9, 0) is data
    (3, True)
    """
    if count >= len(sample):
        return sample
    chosen = np.sort(stream(seed, purpose).choice(len(sample), count, replace=False))
    name = f"{sample.name} (drawn from {len(sample):,} with seed {seed})"
    # Nothing is proved from it, so it may be of one class only, which a training sample may not.
    return sample.with_role(Role.UNLABELLED).take(chosen, name)


def memory_limit(device: str) -> int | None:
    """Bytes of memory of the device, or ``None`` when it cannot be told."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1]) if torch.cuda.is_available() else None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _check_memory(needed: int, fixed: int, each: int, batch_size: int, device: str) -> None:
    limit = memory_limit(device)
    if limit is None or needed <= limit:
        return
    got = f"a need of about {needed / 2**30:.3g} GiB for batches of {batch_size}"
    expected = f"work that fits the {limit / 2**30:.3g} GiB of memory"
    if fixed + each > limit:
        raise InputError(expected, got, "measure fewer quantities, e.g. quantities=('margin',), or a smaller network")
    fitting = (limit - fixed) // each
    raise InputError(expected, got, f"set batch_size to {fitting} (--batch-size {fitting})")


def _memory(architecture: Architecture, structure: Structure, settings: MeasureSettings) -> tuple[int, int]:
    """Bytes for each example of a batch, and bytes whatever the batch."""
    itemsize = settings.torch_dtype.itemsize
    elements = architecture.propagation.elements
    wanted = set(settings.wanted)
    noises = {
        "attenuation": len(settings.noise_levels),
        "smoothness": settings.draws,
        "noise_sensitivity": settings.sensitivity_draws,
    }
    copies = max([2, *(count for name, count in noises.items() if name in wanted)])
    largest, scratch = max(elements.values()), max(architecture.propagation.scratch.values())
    each = itemsize * (3 * sum(elements.values()) + copies * (4 * largest + scratch))
    projected = settings.draws if "smoothness" in wanted else 0
    fixed = itemsize * (architecture.num_parameters * (3 + projected) + 6 * _ROW_CHUNK) + (1 << 27)
    return each, fixed


def _flops(architecture: Architecture, structure: Structure, settings: MeasureSettings, num_samples: int) -> float:
    flops = architecture.propagation.flops
    whole = float(sum(flops.values()))
    after = {name: float(sum(flops[n] for n in structure.reaches[name])) for name in (INPUT, *structure.nodes)}
    down = sum(after.values())
    wanted = set(settings.wanted)
    each, fixed = whole, 0.0
    if "attenuation" in wanted:
        each += len(settings.noise_levels) * down
    if "smoothness" in wanted:
        count = affordable_smoothness(architecture, structure, settings, num_samples)
        fixed += count * _smoothness_flops(architecture, structure, settings) + settings.draws * _PROJECTION_FLOPS
    if "interlayer_cushion" in wanted:
        # layers next to each other in a chain need no sweep
        swept = structure.layers[2 if structure.chain else 1 :]
        rows = math.ceil(_ROWS_ESTIMATED * max(1.0, (0.01 / settings.tolerance) ** 2))
        each += down
        for layer in swept:
            below = whole - after[layer.node]
            each += (layer.num_units if settings.exact else min(layer.num_units, rows)) * below
            fixed += 0 if settings.exact or layer.num_units <= rows else _PILOT_ROWS * below
    if "noise_sensitivity" in wanted:
        fixed += min(num_samples, settings.sensitivity_samples) * settings.sensitivity_draws * down
    return fixed + num_samples * each


def _smoothness_flops(architecture: Architecture, structure: Structure, settings: MeasureSettings) -> float:
    """Of one example: a substituted pass a draw, and from every layer a replay and a derivative of two noises."""
    flops = architecture.propagation.flops
    down = sum(float(sum(flops[n] for n in structure.reaches[name])) for name in structure.nodes)
    return settings.draws * (float(sum(flops.values())) + 4 * down)


def affordable_smoothness(
    architecture: Architecture, structure: Structure, settings: MeasureSettings, num_samples: int
) -> int:
    """How many examples the smoothness is measured on: as asked for, or all that ``SMOOTHNESS_FLOPS`` allow."""
    if settings.smoothness_samples is not None:
        return min(num_samples, settings.smoothness_samples)
    each = max(1.0, _smoothness_flops(architecture, structure, settings))
    return min(num_samples, max(LEAST_SMOOTHNESS_SAMPLES, int(SMOOTHNESS_FLOPS / each)))


def out_of_memory(batch_size: int) -> InputError:
    """The error that says which batch size to try after one of ``batch_size`` examples did not fit."""
    got = f"no more of it in a batch of {batch_size}"
    if batch_size > 1:
        fitting = max(1, batch_size // 4)
        do = f"set batch_size to {fitting} (--batch-size {fitting})"
    else:
        do = "leave out exact, or measure fewer quantities"
    return InputError("enough memory", got, do)
