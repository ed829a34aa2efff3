"""Tiny captured networks of every class the measures speak of, with inputs and labels; shared by the tests here.

::

    from tests.unit.stability import nets

    net = nets.build("residual")            # float64 parameters and inputs
    values = net.architecture.activations(net.x, net.parameters)

``nets.NAMES`` lists all of them, ``nets.CHAINS`` those without branches, ``nets.HOMOGENEOUS`` the bias-free
chains of ReLU, max and average pooling, in which J^{i,j} x^i = x^j exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitcert.network import Architecture, Network, capture
from bitcert.stability.forward import contractions, layer_cushions, margins
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.settings import BatchContext, MeasureSettings

BATCH = 5


@dataclass(frozen=True, eq=False)
class Net:
    """A captured network in float64 with a batch of inputs ``x`` and labels; ``network`` is the float32 original."""

    name: str
    network: Network
    parameters: dict[str, Tensor]
    x: Tensor
    labels: Tensor

    @property
    def architecture(self) -> Architecture:
        return self.network.architecture

    def values(self) -> dict[str, Tensor]:
        """Values of every node and of ``"input"``."""
        return {**self.architecture.activations(self.x, self.parameters), "input": self.x}

    def context(self, rows: slice = slice(None), index: Tensor | None = None) -> BatchContext:
        """What producers get, for some of the inputs; ``index`` is their position in the whole sample."""
        x, labels = self.x[rows], self.labels[rows]
        index = torch.arange(len(self.x))[rows] if index is None else index
        linearisation = Linearisation(self.architecture, self.parameters, x)
        structure = Structure.of(self.architecture)
        return BatchContext(structure, self.architecture, self.parameters, linearisation, labels, index, len(self.x))


def _mlp(bias: bool, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8, bias=bias),
        activation(),
        nn.Linear(8, 7, bias=bias),
        activation(),
        nn.Linear(7, 5, bias=bias),
        activation(),
        nn.Linear(5, 4, bias=bias),
    )


def _lenet(bias: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2, bias=bias),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 6, bias=bias),
        nn.ReLU(),
        nn.Linear(6, 3, bias=bias),
    )


def _strided() -> nn.Module:
    """Strides, padding, groups, dilation and an uneven padding of the pool."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=(2, 1), padding=(1, 2), groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


class Block(nn.Module):
    """Basic residual block with batch norm; a grown block has a shortcut of its own."""

    def __init__(self, planes_in: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or planes != planes_in:
            self.shortcut = nn.Sequential(nn.Conv2d(planes_in, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def _residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        Block(3, 3, 1),
        Block(3, 4, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


class Concat(nn.Module):
    """Two branches joined on the channels, and the input's features reused later (dense connectivity)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.left, self.right = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 2, 1)
        self.join = nn.Conv2d(7, 3, 3, stride=2)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([x, F.relu(self.left(x)), self.right(x)], 1)
        return self.head(F.relu(self.join(x)).flatten(1))


class Tokens(nn.Module):
    """A linear layer with positions, [batch, positions, features], and products of two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.mix = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(3, 3)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x)) * torch.sigmoid(self.gate(x))
        x = x + F.relu(self.mix(x.transpose(1, 2)).transpose(1, 2))
        return self.head(x.mean(1))


class Windows(nn.Module):
    """Positions are folded into the batch axis for one layer: [batch * 4, features]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.head = nn.Linear(8, 8), nn.Linear(2, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        y = F.relu(self.inner(x.reshape(-1, 2)))
        return self.head(x + y.reshape(-1, 8))


class Words(nn.Module):
    """Tokens 0 to 6, three of them, as int64 inputs (not in ``NAMES``: use ``from_module``)."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.table, self.hidden, self.head = nn.Embedding(7, 4), nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(self.table(tokens).flatten(1))))


def _signal() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(4, 3, 3, stride=2),
        nn.LeakyReLU(0.3),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(3, 3),
    )


_BUILDERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: _mlp(bias=True), (6,)),
    "mlp_no_bias": (lambda: _mlp(bias=False), (6,)),
    "linear_net": (lambda: _mlp(bias=True, activation=nn.Identity), (6,)),
    "single": (lambda: nn.Linear(6, 4), (6,)),
    "leaky": (lambda: _mlp(bias=True, activation=lambda: nn.LeakyReLU(0.2)), (6,)),
    "gelu": (lambda: _mlp(bias=True, activation=nn.GELU), (6,)),
    "lenet": (lambda: _lenet(bias=True), (1, 8, 8)),
    "lenet_no_bias": (lambda: _lenet(bias=False), (1, 8, 8)),
    "strided": (_strided, (2, 9, 9)),
    "residual": (_residual, (1, 6, 6)),
    "concat": (Concat, (1, 6, 6)),
    "tokens": (Tokens, (3, 4)),
    "windows": (Windows, (8,)),
    "signal": (_signal, (2, 12)),
}
NAMES = tuple(_BUILDERS)
CHAINS = ("mlp", "mlp_no_bias", "linear_net", "single", "leaky", "gelu", "lenet", "lenet_no_bias", "strided", "signal")
HOMOGENEOUS = ("mlp_no_bias", "lenet_no_bias")


def one_pass(context: BatchContext) -> dict[str, Tensor]:
    """Every measure of one forward pass."""
    settings = MeasureSettings()
    return {**layer_cushions(context, settings), **contractions(context, settings), **margins(context, settings)}


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normals, float32."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _settle(module: nn.Module, example: Tensor) -> None:
    """Biases and statistics of batch norm that are far from zero and one, so that a test can see them ignored."""
    with torch.no_grad():
        module.train()
        module(2 * example + 1)
        for number, (name, parameter) in enumerate(module.named_parameters()):
            if name.endswith("bias"):
                parameter.copy_(0.3 * normal(*parameter.shape, seed=100 + number))
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.copy_(1 + 0.5 * normal(norm.num_features, seed=9))
    module.eval()


@functools.cache
def build(name: str) -> Net:
    """The network of that name: random weights, non-zero biases; the tensors are shared, do not write into them."""
    builder, shape = _BUILDERS[name]
    x = normal(BATCH, *shape, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = builder()
        module(x)
        _settle(module, x)
        network = capture(module, x)
    return wrap(name, network, x)


def wrap(name: str, network: Network, x: Tensor) -> Net:
    """A network and inputs of the caller's own as a :class:`Net` in float64."""
    parameters = {key: value.double() for key, value in network.parameters.items()}
    labels = torch.arange(len(x)) % network.architecture.num_outputs
    return Net(name, network, parameters, x.double() if x.is_floating_point() else x, labels)


def from_module(module: nn.Module, x: Tensor) -> Net:
    """Captures a module for one test (closed forms with chosen weights)."""
    x = x.float() if x.is_floating_point() else x
    return wrap("custom", capture(module, x), x)


def close(got, expected):
    torch.testing.assert_close(got, torch.tensor(expected, dtype=got.dtype), rtol=1e-6, atol=1e-12, equal_nan=True)
