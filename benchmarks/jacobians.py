"""All pairs ``||J^{i,j}||_F``: bitcert's exact and estimated modes against ``vmap(jacrev)`` of every pair, in one run.

The naive twin differentiates the part of the network between ``x^i`` and ``x^j`` by ``torch.func.jacrev`` under
``vmap``, one pair at a time, in chunks of rows that fit into memory. Prints seconds an image, ratios, and the
root-mean-square relative error of the estimate against the exact norms. Usage::

    python benchmarks/jacobians.py [mlp lenet5 resnet20 vgg19] [--json]
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from networks import mlp, preprocessing, train_sample, trained_network
from torch import Tensor

from bitcert import Network, capture
from bitcert.certificates.certification import versions
from bitcert.network.operations import OPERATIONS
from bitcert.stability.estimates import plan_jacobians
from bitcert.stability.jacobians import JacobianPlan, jacobian_norms
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation

PILOT = 16
TOLERANCE = 0.006
"""Asked of the estimate: over all pairs, so that the pairs that are really estimated stay within 1 % too."""
RESULTS = Path(__file__).parents[1] / "docs" / "results-measure.jsonl"


@dataclass(frozen=True)
class Case:
    """One network: images for the estimate, for the exact mode and for the naive twin, and the pairs compared."""

    estimated: int
    exact: int
    naive: int
    first_layer: int = 1


CASES = {
    "mlp": Case(estimated=256, exact=32, naive=4),
    "lenet5": Case(estimated=256, exact=16, naive=2),
    # Rows of the early layers, 16,384 of them, would take the naive twin hours: the last stage is compared, 15 pairs.
    "resnet20": Case(estimated=32, exact=2, naive=1, first_layer=14),
}


def load(name: str, count: int) -> tuple[Network, Tensor]:
    """The network and inputs, ready to be measured."""
    if name == "mlp":
        sample, process = train_sample("mnist", count), preprocessing("mnist")
        return capture(mlp(), process(sample.inputs[:2])), process(sample.inputs)
    network, sample, process = trained_network(name, count)
    return network, process(sample.inputs)


def restrict(structure: Structure, first: int) -> Structure:
    """The structure with the pairs of the layers from ``first`` on only."""
    pairs = tuple(pair for pair in structure.pairs if pair[0] >= first)
    return Structure(
        structure.layers, pairs, *(getattr(structure, f) for f in ("activations", "reaches", "chain", "skipped"))
    )


def naive_norm(network: Network, low: str, high: str, x: Tensor) -> Tensor:
    """``||dx^high/dx^low||_F`` of one image by jacrev of the part between them, the rest constant."""
    values = {"input": x[None], **network.architecture.activations(x[None], network.parameters)}

    def part(value: Tensor) -> Tensor:
        known = {**values, **network.parameters, low: value[None]}
        moved = {low}
        for node in network.architecture.nodes:
            if node.name != low and moved.intersection(node.inputs):
                known[node.name] = OPERATIONS[node.op].run([known[n] for n in node.inputs], node.attributes, 1)
                moved.add(node.name)
                if node.name == high:
                    break
        return known[high][0].flatten()

    value = values[low][0]
    chunk = max(1, (1 << 24) // value.numel())
    jacobian = torch.func.jacrev(part, chunk_size=chunk)(value)
    return torch.linalg.vector_norm(jacobian)


def naive(network: Network, structure: Structure, x: Tensor) -> Tensor:
    """Norms of every pair, ``[B, pairs]``; under ``vmap`` over the images where their Jacobians fit into memory."""
    columns = []
    for i, j in structure.pairs:
        low, high = structure.layers[i - 1], structure.layers[j - 1]
        single = functools.partial(naive_norm, network, low.node, high.node)
        small = len(x) * low.num_units * high.num_units < 1 << 27
        columns.append(torch.func.vmap(single)(x) if small else torch.stack([single(one) for one in x]))
    return torch.stack(columns, 1).double()


def timed(function) -> tuple[float, Tensor]:
    """Seconds and result of the second of two calls: the first warms caches up."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def run(name: str) -> dict[str, object]:
    """Times and errors of one network."""
    case = CASES[name]
    network, x = load(name, case.estimated + PILOT)
    structure = restrict(Structure.of(network.architecture), case.first_layer)
    with torch.no_grad():
        parameters = network.parameters
        linear = functools.partial(Linearisation, network.architecture, parameters)
        plan = JacobianPlan.exact(network.architecture, structure, x)
        jacobian_norms(linear(x[:1]), plan)  # warms up
        exact_seconds, exact = timed(lambda: jacobian_norms(linear(x[: case.exact]), plan))
        start = time.perf_counter()
        estimate_plan = plan_jacobians(linear(x[-PILOT:]), structure, TOLERANCE, 0)
        plan_seconds = time.perf_counter() - start
        estimated_seconds, estimated = timed(lambda: jacobian_norms(linear(x[: case.estimated]), estimate_plan))
    naive_seconds, reference = timed(lambda: naive(network, structure, x[: case.naive]))
    agree = float((exact.norm[: case.naive] / reference - 1).abs().max())
    error = estimated.norm[: case.exact] / exact.norm - 1
    per_image = {
        "naive": naive_seconds / case.naive,
        "exact": exact_seconds / case.exact,
        "estimated": estimated_seconds / case.estimated,
    }
    return {
        "network": name,
        "pairs": len(structure.pairs),
        "seconds_per_image": {key: round(value, 5) for key, value in per_image.items()},
        "plan_seconds": round(plan_seconds, 2),
        "exact_ratio": round(per_image["naive"] / per_image["exact"], 1),
        "estimated_ratio": round(per_image["naive"] / per_image["estimated"], 1),
        "exact_deviation": agree,
        "rms_relative_error": float(error.square().mean().sqrt()),
        "rms_relative_error_of_estimated_pairs": float(error[estimated.error[: case.exact] > 0].square().mean().sqrt()),
        "images": [case.naive, case.exact, case.estimated],
    }


def main() -> None:
    """Run the networks named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"some of {', '.join(CASES)}; all of them by default")
    parser.add_argument("--json", action="store_true", help="append the lines to docs/results-measure.jsonl")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(CASES)
    if unknown:
        parser.error(f"no network named {', '.join(sorted(unknown))}")
    for name in arguments.networks or CASES:
        line = {"benchmark": "jacobians", "seed": 0, "tolerance": TOLERANCE, **run(name), "versions": versions()}
        print(json.dumps(line), flush=True)
        if arguments.json:
            with open(RESULTS, "a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
