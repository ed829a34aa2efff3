"""Small architectures written node by node, and modules, for the tests of what the bounds read off a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bitcert.network import Architecture, Network, Node, ParameterSpec, capture


def chain(weights: Sequence[Tensor], biases: Sequence[Tensor] = ()) -> tuple[Architecture, dict[str, Tensor]]:
    """Dense ReLU layers ``w1``, ``w2``, ... with optional biases."""
    nodes: list[Node] = []
    parameters: dict[str, Tensor] = {}
    last = "input"
    for k, weight in enumerate(weights, start=1):
        inputs = [last, f"w{k}"]
        parameters[f"w{k}"] = weight
        if biases:
            parameters[f"b{k}"] = biases[k - 1]
            inputs.append(f"b{k}")
        nodes.append(Node(f"layer{k}", "linear", tuple(inputs)))
        last = f"layer{k}"
        if k < len(weights):
            nodes.append(Node(f"relu{k}", "relu", (last,)))
            last = f"relu{k}"
    specs = tuple(
        ParameterSpec(name, tuple(value.shape), "weight" if name[0] == "w" else "bias")
        for name, value in parameters.items()
    )
    return Architecture((weights[0].shape[1],), weights[-1].shape[0], tuple(nodes), specs), parameters


def one_node(
    op: str, shape: tuple[int, ...], attributes: Mapping[str, object] | None = None, constants: Sequence[Tensor] = ()
) -> tuple[Architecture, dict[str, Tensor]]:
    """A network that is this operation on ``[batch, *shape]``, flattened."""
    parameters = {f"c{k}": value for k, value in enumerate(constants)}
    specs = tuple(ParameterSpec(name, tuple(value.shape), "weight") for name, value in parameters.items())
    node = Node("node", op, ("input", *parameters), dict(attributes or {}))
    entries = _entries(shape, node, specs)
    flat = Node("flat", "reshape", ("node",), {"shape": (-1, entries)})
    return Architecture(shape, entries, (node, flat), specs), parameters


def _entries(shape: tuple[int, ...], node: Node, specs: tuple[ParameterSpec, ...]) -> int:
    from bitcert.network.operations import OPERATIONS

    tensors = [torch.ones(2, *shape), *(torch.ones(spec.shape) for spec in specs)]
    return OPERATIONS[node.op].run(tensors, node.attributes, 2)[0].numel()


class DoubleSkips(nn.Module):
    """Zhang 2020, section 6: ``x^i = A^i phi(x^{i-1}) + B^i phi(x^{i-2})``, with ``B^i`` at the levels in ``skips``."""

    def __init__(self, widths: Sequence[int], skips: Sequence[int], bias: bool = False) -> None:
        super().__init__()
        levels = range(1, len(widths))
        self.a = nn.ModuleDict({str(i): nn.Linear(widths[i - 1], widths[i], bias=bias) for i in levels})
        self.b = nn.ModuleDict({str(i): nn.Linear(widths[i - 2], widths[i], bias=False) for i in skips})

    def forward(self, x: Tensor) -> Tensor:
        before, now = x, self.a["1"](x)
        for i in range(2, len(self.a) + 1):
            inner = before if i == 2 else torch.relu(before)
            following = self.a[str(i)](torch.relu(now))
            if str(i) in self.b:
                following = following + self.b[str(i)](inner)
            before, now = now, following
        return now


def captured(module: nn.Module, *shape: int, seed: int = 0) -> Network:
    """The module with fresh default weights, captured at inputs of this shape."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in module.modules():
            if part is not module and hasattr(part, "reset_parameters"):
                part.reset_parameters()
        return capture(module.eval(), torch.randn(3, *shape))
