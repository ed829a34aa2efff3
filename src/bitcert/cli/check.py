"""``bitcert check``: what was captured of a network, what is unsupported and why, and what a run will cost."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bitcert.cli.common import progress_bar
from bitcert.cli.options import NetworkOptions
from bitcert.decoder.helper import examples_at_a_time
from bitcert.network import Network, estimate_plan, operations_in_words


def check(options: NetworkOptions) -> None:
    """Say what of a network is understood, and plan memory and time."""
    console = Console(highlight=False)
    with progress_bar() as progress:
        sample = options.load_sample(progress)
        loaded = options.load_network(sample)
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
