"""The untrained twin: the same architecture before training, measured beside the trained network (Arora 2018, Fig. 2).

Either the user's own initial state, or a He-normal draw (He et al. 2015): every weight ``N(0, 2 / fan_in)``, biases
and shifts 0, gains of norms 1, slopes of PReLU 0.25; other parameters (tables, constants) are kept. Where capture
folded a batch norm into the layer before, the twin's folded layer is drawn directly: it stands for a network whose
fresh norms leave their input as it is. It is NOT the initial state the network was trained from, unless that is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bitcert.errors import InputError
from bitcert.network import Architecture, CaptureReport, Network
from bitcert.network.operations import WEIGHT_OPERATIONS
from bitcert.random import torch_stream

STREAM = "measure/untrained twin"
_PRELU_SLOPE = 0.25


def random_twin(network: Network, seed: int) -> Network:
    """The network with He-normal weights; the same for every network of this architecture and seed.

    Args:
        network: whose architecture, and whose tables and constants, are taken.
        seed: of the named random stream; each parameter has a stream of its own.
    """
    slopes = {node.inputs[1] for node in network.architecture.nodes if node.op == "prelu"}
    values: dict[str, Tensor] = {}
    for spec in network.architecture.parameters:
        old = network.parameters[spec.name]
        if spec.kind == "weight":
            deviation = math.sqrt(2 / _fan_in(network.architecture, spec.name, spec.shape))
            generator = torch_stream(seed, f"{STREAM}/{spec.name}")
            drawn = torch.randn(spec.shape, generator=generator, dtype=torch.float32)
            values[spec.name] = (drawn * deviation).to(old.dtype)
        elif spec.kind == "bias":
            values[spec.name] = torch.zeros_like(old)
        elif spec.kind == "scale":
            values[spec.name] = torch.full_like(old, _PRELU_SLOPE if spec.name in slopes else 1.0)
        else:
            values[spec.name] = old
    note = f"untrained twin: He-normal weights of seed {seed}, biases 0"
    return Network(network.architecture, values, CaptureReport(notes=(note,)))


def _fan_in(architecture: Architecture, name: str, shape: tuple[int, ...]) -> int:
    """Inputs that one output sums over: ``[out, in, *kernel]`` in a layer, ``[.., in, out]`` in a bare product."""
    layered = any(node.op in WEIGHT_OPERATIONS and node.inputs[1] == name for node in architecture.nodes)
    if layered or len(shape) < 2:
        return max(1, math.prod(shape[1:]))
    return max(1, shape[-2])


def initial_network(network: Network, init: Mapping[str, Tensor] | Network) -> Network:
    """The network with the user's initial state.

    Args:
        network: the trained network.
        init: the initial weights captured the same way (so that batch norms are folded alike), or the parameters of
            such a capture by name.

    Raises:
        InputError: another architecture, missing or unknown names, wrong shapes, NaN or infinite values.
    """
    if isinstance(init, Network):
        if init.architecture != network.architecture:
            expected, got = "initial weights of the same architecture", "a network of another one"
            raise InputError(expected, got, "capture the same factory with the initial weights")
        init = init.parameters
    wanted = {spec.name: spec.shape for spec in network.architecture.parameters}
    missing, unknown = sorted(set(wanted) - set(init)), sorted(set(init) - set(wanted))
    if missing or unknown:
        got = "; ".join(
            f"{len(names)} {what} ({names[0]!r}{', ..' if names[1:] else ''})"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        )
        do = "capture the model with its initial weights, so that batch norms are folded alike"
        raise InputError("initial weights with the names of the captured network", got, do)
    for name, shape in wanted.items():
        if tuple(init[name].shape) != shape:
            got = f"shape {list(init[name].shape)}"
            raise InputError(f"initial value of {name!r} of shape {list(shape)}", got, "use the same model")
        if not bool(torch.isfinite(init[name]).all()):
            raise InputError("finite initial weights", f"NaN or infinity in {name!r}", "check the file")
    values = {name: init[name].detach().cpu().to(network.parameters[name].dtype) for name in wanted}
    return Network(network.architecture, values, CaptureReport(notes=("initial weights given by the user",)))
