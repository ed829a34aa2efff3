"""``bitcert plan``: what counting takes on data and workers that are not at hand, from the measured cost of an example.

With ``c`` seconds an example on one core (in float32 and float64, as a certificate counts), ``h`` seconds a byte for
the content hash, ``n`` examples of ``b`` bytes in ``s`` shards, and ``N`` workers, a pass takes about::

    start + h b n + ceil(s / N) / s * c n

The hash and the start stay in one process, and no more than ``s`` workers have something to do: there it stops being
linear. NOT in it: disks slower than the hash, a network between machines, and cores that share a cache.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from rich.console import Console
from rich.table import Table
from typer import Option

from bitcert import clock
from bitcert.certificates.original import RawClassifier
from bitcert.cli.common import duration, progress_bar
from bitcert.cli.options import NetworkOptions, split_commas
from bitcert.counting import DecisionRule, count_losses
from bitcert.data import Role, Sample
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import InputError
from bitcert.network import Network, estimate_plan
from bitcert.shards import LocalWorkers, plan_shards

LINEAR = 0.8
"""Below this part of N times the speed of one worker, N workers no longer pay."""
_HASHED = 1 << 24
_REPEATS = 2


@dataclass(frozen=True, kw_only=True)
class PlanOptions(NetworkOptions):
    """The options of the verb."""

    data: Annotated[str, Option(help="A few examples like those of the real data: a name or path.")] = "digits"
    examples: Annotated[float | None, Option(help="How many the real data have; else as many as --data.")] = None
    tokens: Annotated[float | None, Option(help="Of sequences: numbers in all real examples together.")] = None
    workers: Annotated[str, Option(help="Numbers of workers to plan for, with commas.")] = "1,2,8,32,128"
    measured: Annotated[int, Option(help="Examples that the cost is measured on.")] = 32
    json_output: Annotated[bool, Option("--json", help="Print the plan as JSON.")] = False


@dataclass(frozen=True)
class Cost:
    """What a pass over the examples costs.

    Attributes:
        examples: how many there are.
        seconds_each: of counting one, on one core.
        serial_seconds: of what stays in one process, for all of them.
        shards: how many workers can have something to do.
        worker_bytes: memory of one worker beside the program.
        data_bytes: of all inputs: on the disk where they are mapped, in the object store of Ray.
    """

    examples: int
    seconds_each: float
    serial_seconds: float
    shards: int
    worker_bytes: int
    data_bytes: int

    def seconds(self, workers: int) -> float:
        """Of a pass on so many workers.

        >>> [Cost(100, 1.0, 10.0, 50, 0, 0).seconds(workers) for workers in (1, 10, 50, 1000)]
        [110.0, 20.0, 12.0, 12.0]
        """
        return self.serial_seconds + self.examples * self.seconds_each * math.ceil(self.shards / workers) / self.shards

    @property
    def linear_until(self) -> int:
        """The largest number of workers, each with :data:`LINEAR` of a lone one's speed.

        >>> Cost(100, 1.0, 10.0, 50, 0, 0).linear_until
        3
        """
        fits = (n for n in range(1, self.shards + 1) if self.seconds(1) >= LINEAR * n * self.seconds(n))
        return max(fits)


def plan_counting(options: PlanOptions) -> None:
    """Plan time and memory of counting on more data and workers than are at hand, from a measured cost."""
    numbers = _workers(options.workers)
    if options.measured < 2:
        raise InputError("at least 2 examples for --measured", str(options.measured), "leave it out")
    with progress_bar() as progress:
        began = clock.processor_seconds()
        sample = options.load_sample(progress)
        loading = clock.processor_seconds() - began
        cost = _cost(options, sample, _examples(options, sample), loading)
    rows = {n: cost.seconds(n) for n in numbers}
    if options.json_output:
        print(json.dumps({**asdict(cost), "seconds": rows, "linear_until": cost.linear_until}, indent=1))
        return
    title = f"Counting {cost.examples:,} examples like those of {sample.name}: {cost.seconds_each:.3g} s each"
    table = Table("workers", "time", "times as fast", "memory", title=title, title_justify="left")
    for n, seconds in rows.items():
        faster = f"{cost.seconds(1) / seconds:.1f}"
        table.add_row(f"{n:,}", duration(seconds), faster, _size(n * cost.worker_bytes))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"Linear up to {cost.linear_until:,} workers: the content hash and the start stay in one process, "
        f"{duration(cost.serial_seconds)}, and there are {cost.shards:,} shards. The inputs take "
        f"{_size(cost.data_bytes)}: on the disk where they are mapped, and in Ray's object store with --ray."
    )


def _workers(text: str) -> tuple[int, ...]:
    names = split_commas(text)
    if not names or not all(name.isdecimal() and int(name) > 0 for name in names):
        raise InputError("numbers of workers with commas for --workers", repr(text[:100]), "write e.g. 1,8,64")
    return tuple(map(int, names))


def _examples(options: PlanOptions, sample: Sample) -> int:
    """How many the real data have."""
    if options.tokens is not None and options.examples is not None:
        raise InputError("--examples or --tokens", "both", "leave out one of them")
    count = len(sample) if options.examples is None else options.examples
    if options.tokens is not None:
        count = options.tokens / math.prod(sample.input_shape)
    if not 0 < count < math.inf:
        raise InputError("at least one example to plan for", f"{count:g}", "give --examples or --tokens")
    return math.ceil(count)


def _cost(options: PlanOptions, sample: Sample, examples: int, loading: float) -> Cost:
    """Measured on a few examples of any classes by one worker; loading these data (seconds) is no part of the start."""
    loaded = options.load_network(sample)
    part = sample.with_role(Role.UNLABELLED).take(np.arange(options.measured) % len(sample))
    classifier = RawClassifier(loaded.described, loaded.values, options.preprocessing(sample))
    batch_size = examples_at_a_time(loaded.described, sample.input_shape, sample.num_classes)
    start = clock.processor_seconds() - loading
    rule = DecisionRule(batch_size)
    (counting,) = LocalWorkers(1).map(
        lambda first, stop: min(_seconds(lambda: count_losses(classifier, part, rule)) for _ in range(first, stop)),
        [(0, _REPEATS)],
        lambda index, seconds: seconds,
    )
    content = bytes(_HASHED)
    hashing = min(_seconds(lambda: hashlib.sha256(content)) for _ in range(_REPEATS)) / _HASHED
    data_bytes = examples * (sample.inputs.nbytes // len(sample))
    # float64 takes twice the memory of the estimate, which is of float32
    memory = 0
    if isinstance(loaded.predictor, Network):
        memory = 2 * estimate_plan(loaded.predictor, examples, min(batch_size, examples)).memory_bytes
    return Cost(
        examples=examples,
        seconds_each=counting / len(part),
        serial_seconds=start + hashing * data_bytes,
        shards=len(plan_shards(examples, batch_size)),
        worker_bytes=memory,
        data_bytes=data_bytes,
    )


def _seconds(work: Callable[[], object]) -> float:
    started = clock.processor_seconds()
    work()
    return clock.processor_seconds() - started


def _size(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
