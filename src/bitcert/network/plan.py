"""What evaluating a network will cost, before anything is evaluated.

Memory counts parameters, the intermediate results alive at the same time and what the operations take beside them
(:mod:`bitcert.network.costs`), from shapes alone; it does NOT include the data set. Operations count the arithmetic of
matrix products as it is, and all other work, which is slower, as :data:`SLOWER` times as many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitcert.network.architecture import Architecture
from bitcert.network.costs import PRODUCTS
from bitcert.network.network import Network

SLOWER = 16
"""Multiply-adds of a matrix product in the time of one other operation, or of moving one entry."""
OPERATIONS_PER_SECOND = 2e10
"""Of a modest pair of CPU cores."""
_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """Costs of one pass over a sample.

    Attributes:
        parameter_bytes: parameters in float32.
        activation_bytes: peak of intermediate results of one batch without gradients.
        gradient_bytes: all intermediate results of one batch, as training keeps them.
        operations: of one pass, from which time is estimated.
    """

    parameter_bytes: int
    activation_bytes: int
    gradient_bytes: int
    operations: int

    @property
    def memory_bytes(self) -> int:
        """Parameters and peak activations together."""
        return self.parameter_bytes + self.activation_bytes

    def estimate_seconds(self) -> float:
        """Seconds of one pass."""
        return self.operations / OPERATIONS_PER_SECOND


def operations_per_sample(architecture: Architecture) -> int:
    """Operations of one input: products of matrices, and everything else, weighed as slower."""
    propagation = architecture.propagation
    products = {node.name for node in architecture.nodes if node.op in PRODUCTS}
    fast = sum(flops for name, flops in propagation.flops.items() if name in products)
    slow = sum(propagation.flops.values()) - fast + sum(propagation.elements.values())
    return fast + SLOWER * slow


def operations_in_words(operations: int) -> str:
    """How many operations, and how long they take on a modest pair of cores.

    >>> operations_in_words(4_900_000_000_000)
    'about 4.9e+12 operations, 4 minutes on two cores'
    """
    seconds = operations / OPERATIONS_PER_SECOND
    units = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0))
    name, size = next((unit for unit in units if seconds >= 2 * unit[1]), ("s", 1.0))
    return f"about {operations:.2g} operations, {max(1.0, seconds / size):,.0f} {name} on two cores"


def estimate_plan(network: Network, num_samples: int, batch_size: int) -> Plan:
    """Memory and arithmetic of one pass of ``num_samples`` inputs in batches of ``batch_size``.

    >>> import torch
    >>> from bitcert.network import capture
    >>> net = capture(torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.ones(2, 4))
    >>> plan = estimate_plan(net, num_samples=10, batch_size=5)
    >>> plan.parameter_bytes, plan.activation_bytes
    (60, 220)
    """
    architecture = network.architecture
    total = sum(architecture.propagation.elements.values()) + math.prod(architecture.input_shape)
    return Plan(
        parameter_bytes=_BYTES * architecture.num_parameters,
        activation_bytes=_BYTES * batch_size * architecture.propagation.peak,
        gradient_bytes=_BYTES * batch_size * total,
        operations=operations_per_sample(architecture) * num_samples,
    )
