"""``bitcert check``: what was captured of a network, what is unsupported and why, and what could be certified of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from bitcert.cli.common import LoadedNetwork, progress_bar
from bitcert.cli.options import NetworkOptions, note_buckets
from bitcert.counting import DecisionRule, count_errors
from bitcert.data import Sample
from bitcert.decoder.helper import examples_at_a_time
from bitcert.errors import BitcertError
from bitcert.network import Network, estimate_plan, operations_in_words
from bitcert.network.architecture import WeightLayer
from bitcert.report.text import percent
from bitcert.search.forecast import Facts, forecasts
from bitcert.search.request import CertifyRequest

NEAR_GUESSING = 0.75
"""Of the errors of always naming the most frequent class: from here on the user is warned."""
COUNTED = 2000
"""Training examples on which the network's errors are counted for the forecast, evenly spread over the sample."""


def check(options: NetworkOptions) -> None:
    """Say what of a network is understood, plan memory and time, and what could be certified of it."""
    console = Console(highlight=False)
    with progress_bar() as progress:
        sample = options.load_sample(progress)
    note_buckets(sample)
    with progress_bar() as progress:
        loaded = options.load_network(sample)
    for note in loaded.notes:
        console.print(f"note: {note}", markup=False)
    if not isinstance(loaded.predictor, Network):
        console.print(f"Not captured: {loaded.refusal}", markup=False)
        count = sum(value.numel() for value in loaded.values.values())
        console.print(f"It can be certified as an opaque module ({count:,} numbers coded), but not measured.")
        _print_options(console, options, sample, loaded, 0.0)
        return
    network = loaded.predictor
    table = Table("layer", "operation", "weight", "bias", title="Weight layers")
    shapes = {spec.name: list(spec.shape) for spec in network.architecture.parameters}
    for layer, nodes in _by_weight(network).items():
        bias = "–" if layer.bias is None else str(shapes[layer.bias])
        others = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        table.add_row(nodes[0] + others, layer.op, f"{layer.weight} {shapes[layer.weight]}", bias)
    console.print(table)
    report = network.report
    for kind, entries in (("folded", report.folded), ("tied", report.tied), ("dropped", report.dropped)):
        for entry in entries:
            console.print(f"{kind}: {entry}", markup=False)
    console.print(f"Captured: {network.num_parameters:,} parameters, replay within {report.deviation:.1e} of eager.")
    batch_size = examples_at_a_time(network.architecture, sample.input_shape, sample.num_classes)
    plan = estimate_plan(network, len(sample), batch_size)
    console.print(
        f"Plan for {len(sample):,} samples: one pass {operations_in_words(plan.operations)}, and "
        f"{plan.memory_bytes / 2**20:.0f} MiB; fine-tuning about {plan.gradient_bytes / 2**20:.0f} MiB a batch."
    )
    _print_options(console, options, sample, loaded, plan.estimate_seconds())


def _by_weight(network: Network) -> dict[WeightLayer, list[str]]:
    """One layer for each weight, bias and operation, with the nodes that use it: a recurrent layer has one a step."""
    found: dict[WeightLayer, list[str]] = {}
    for layer in network.weight_layers:
        found.setdefault(replace(layer, node="", source=""), []).append(layer.node)
    return found


def _facts(options: NetworkOptions, sample: Sample, loaded: LoadedNetwork, seconds: float) -> Facts:
    part = sample.take(np.arange(0, len(sample), max(1, len(sample) // COUNTED))[:COUNTED])
    request = CertifyRequest(part, loaded.predictor, loaded.values, options.preprocessing(sample))
    batch_size = examples_at_a_time(loaded.described, sample.input_shape, sample.num_classes)
    rate = count_errors(request.classifier(), part, DecisionRule(batch_size)).rate
    weights = sum(value.numel() for value in loaded.values.values())
    captured = isinstance(loaded.predictor, Network)
    return Facts(len(sample), sample.num_classes, weights, rate, seconds, captured)


def _print_accuracy(console: Console, sample: Sample, error_rate: float) -> None:
    """The training accuracy, and a warning where always naming the most frequent class does about as well."""
    counted = min(len(sample), COUNTED)
    console.print(f"Training accuracy: {percent(1 - error_rate)} on {counted:,} of {len(sample):,} examples.")
    majority = sample.most_frequent_errors
    if error_rate >= NEAR_GUESSING * majority:
        console.print(
            f"Warning: that is near guessing (the most frequent class alone: {percent(1 - majority)}). Are these the "
            "trained weights, and --scale, --mean and --std those that the network was trained with?",
            style="yellow",
        )


def _print_options(
    console: Console, options: NetworkOptions, sample: Sample, loaded: LoadedNetwork, seconds: float
) -> None:
    """What could be certified; ``bitcert certify`` tries the first three, the others need another option or data."""
    try:
        facts = _facts(options, sample, loaded, seconds)
    except BitcertError as error:
        console.print(f"No forecast, because the network's errors cannot be counted: {error}", markup=False)
        return
    _print_accuracy(console, sample, facts.error_rate)
    title = f"What could be certified: it errs on {percent(facts.error_rate)} of (a part of) the training sample"
    table = Table("what", "needs", "time", "forecast", title=title, title_justify="left")
    for row in forecasts(facts):
        says = row.words if row.bound is None else f"about {percent(row.bound)}, {row.words}"
        minutes = f"{row.minutes:.0f} min" if row.minutes else "–"
        table.add_row(row.option, row.needs, minutes, says)
    console.print(table)
    console.print("Forecasts are rules of thumb: only a certificate counts.")
