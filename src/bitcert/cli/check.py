"""``bitcert check``: what was captured of a network, what is unsupported and why, and what a run will cost."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bitcert.cli.common import load_network, preprocessing_for, progress_bar
from bitcert.data import Role, load_sample
from bitcert.decoder.helper import examples_at_a_time
from bitcert.network import Network, estimate_plan, operations_in_words


def check_command(
    model: Annotated[str, typer.Argument(help="FILE.pt2 or package.module:factory.")],
    data: Annotated[str, typer.Option(help="Data the network is for: name or path.")] = "digits",
    weights: Annotated[str | None, typer.Option(help="Weights of the factory.")] = None,
    scale: Annotated[float | None, typer.Option(help="Divide inputs by this.")] = None,
    mean: Annotated[str, typer.Option(help="Per-channel means.")] = "",
    std: Annotated[str, typer.Option(help="Per-channel deviations.")] = "",
) -> None:
    """Say what of a network is understood, and plan memory and time."""
    console = Console(highlight=False)
    with progress_bar(Console(stderr=True)) as progress:
        sample = load_sample(data, Role.TRAIN, progress=progress)
        loaded = load_network(model, weights, sample, preprocessing_for(sample, scale, mean, std))
    for note in loaded.notes:
        console.print(f"note: {note}", markup=False)
    if not isinstance(loaded.predictor, Network):
        console.print(f"Not captured: {loaded.refusal}", markup=False)
        count = sum(value.numel() for value in loaded.values.values())
        console.print(f"It can be certified as an opaque module ({count:,} numbers coded), but not measured.")
        return
    network = loaded.predictor
    table = Table("layer", "operation", "weight", "bias", title="Weight layers")
    shapes = {spec.name: list(spec.shape) for spec in network.architecture.parameters}
    for layer in network.weight_layers:
        bias = "–" if layer.bias is None else str(shapes[layer.bias])
        table.add_row(layer.node, layer.op, f"{layer.weight} {shapes[layer.weight]}", bias)
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
