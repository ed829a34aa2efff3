"""What evaluating a network will cost, before anything is evaluated.

Memory counts parameters and the intermediate results alive at the same time, float32, from shapes alone; it does
NOT include workspaces of torch's kernels or the data set.
"""

from __future__ import annotations

from dataclasses import dataclass

from bitcert.network.architecture import Architecture
from bitcert.network.network import Network
from bitcert.network.shapes import INPUT

_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """Costs of one pass over a sample.

    Attributes:
        parameter_bytes: parameters in float32.
        activation_bytes: peak of intermediate results of one batch without gradients.
        gradient_bytes: all intermediate results of one batch, as training keeps them.
        flops_per_sample: floating-point operations of one forward pass of one input.
        total_flops: the same for the whole sample.
        num_batches: passes needed.
    """

    parameter_bytes: int
    activation_bytes: int
    gradient_bytes: int
    flops_per_sample: int
    total_flops: int
    num_batches: int

    @property
    def memory_bytes(self) -> int:
        """Parameters and peak activations together."""
        return self.parameter_bytes + self.activation_bytes

    def estimate_seconds(self, flops_per_second: float = 2e10) -> float:
        """Seconds of one pass at a given speed; the default is a modest pair of CPU cores."""
        return self.total_flops / flops_per_second


def _peak_elements(architecture: Architecture) -> int:
    elements = {INPUT: _size(architecture.input_shape), **architecture.propagation.elements}
    last_use = {name: k for k, node in enumerate(architecture.nodes) for name in node.inputs}
    alive = peak = elements[INPUT]
    for k, node in enumerate(architecture.nodes):
        alive += elements[node.name]
        peak = max(peak, alive)
        alive -= sum(elements.get(name, 0) for name in set(node.inputs) if last_use[name] == k)
    return peak


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def estimate_plan(network: Network, num_samples: int, batch_size: int) -> Plan:
    """Memory and arithmetic of one pass of ``num_samples`` inputs in batches of ``batch_size``.

    >>> import torch
    >>> from bitcert.network import capture
    >>> net = capture(torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.ones(2, 4))
    >>> plan = estimate_plan(net, num_samples=10, batch_size=5)
    >>> plan.parameter_bytes, plan.flops_per_sample, plan.num_batches
    (60, 24, 2)
    """
    architecture = network.architecture
    flops = sum(architecture.propagation.flops.values())
    total = sum(architecture.propagation.elements.values()) + _size(architecture.input_shape)
    return Plan(
        parameter_bytes=_BYTES * architecture.num_parameters,
        activation_bytes=_BYTES * batch_size * _peak_elements(architecture),
        gradient_bytes=_BYTES * batch_size * total,
        flops_per_sample=flops,
        total_flops=flops * num_samples,
        num_batches=-(-num_samples // batch_size),
    )
