"""Random subspace: ``theta = theta_0 + scale * P w`` with D learned integers ``w``, trained for the certificate.

Li et al. 2018 trained networks in a random subspace of D dimensions; Lotfi et al. 2022 coded quantised coordinates as
a certificate, the strongest published one (MNIST, LeNet-5: 11.6 %). Here ``w = round(v)`` and ``v``, with a scale per
tensor, is trained by Adam on

    cross-entropy + price * bits * ln 2 / m,

roundings passing gradients through (Bengio et al. 2013) and the gradient of ``bits`` being the marginal cost of the
present integers under the adaptive code. The learned codebook is which integers occur: the coder finds their
frequencies, and a dear bit makes most of them 0 or ±1. From half time on the integers that waver least are fixed, more
and more of them (Zhou et al. 2017), and the others adapt. ``theta_0`` is the helper's random network (or its file).

It learns from the sample: of the network given it uses the structure, and the values of its buffers. Not guaranteed:
the same message twice (the schedule follows the clock), nor a bound below one; no theorem says which D suffices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from bitcert.codecs.base import Selection, code_rest, network_layers
from bitcert.codecs.best import Search
from bitcert.codecs.integer_training import IntegerCodec, LatentIntegers, MessageModel
from bitcert.codecs.training import Tensors
from bitcert.coding.steps import MAX_EXPONENT, STEPS_PER_OCTAVE
from bitcert.data import Sample
from bitcert.decoder.tensors import Base, ComposedMessage, SubspaceCode, TensorCode, base_values, targets
from bitcert.decoder.transforms import subspace
from bitcert.decoder.transforms.base import Coefficients, Draws, Settings, Target
from bitcert.decoder.transforms.registry import MEMBER
from bitcert.decoder.transforms.subspace import Allocation, Block, Kind
from bitcert.errors import DecodeError, InputError
from bitcert.network import Network
from bitcert.theory.value import Condition, Theory

FIRST_SPREAD = 0.6
"""Entries of ``scale * P w`` for coordinates of root mean square 1, in units of the layer's He deviation."""
MAX_DENSE_ENTRIES = 1 << 28
"""A dense P is held whole in training (one GiB); the others are not."""
_SCALE_STEP = -12
_Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class RandomSubspace(IntegerCodec):
    """The codec.

    Args:
        dimension: D, the number of coordinates.
        kind: of P, see :mod:`bitcert.decoder.transforms.subspace`.
        allocation: one P for all tensors, or one for each.
        price: of a bit, in multiples of ``ln 2 / m`` nats of cross-entropy.
        rate: peak learning rate of the coordinates, in steps.
        batch_size: examples of a training step.
        num_steps: training steps, or ``None`` to use the time of the run.
        selection: base (``Base.RANDOM``, ``FILE`` or ``NEUTRAL``) and seed of the helper's numbers; ``layers`` must be
            empty, because all tensors are trained together; ``rest`` is for buffers.

    Raises:
        InputError: options out of range.
    """

    name: ClassVar[str] = "subspace"
    untrained: ClassVar[str] = "untrained, because training diverged"

    dimension: int = 1800
    kind: Kind = Kind.SPARSE
    allocation: Allocation = Allocation.SHARED
    price: float = 4.0
    rate: float = 0.06
    batch_size: int = 64
    num_steps: int | None = None
    selection: Selection = field(default_factory=lambda: Selection(base=Base.RANDOM))

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise InputError("a subspace of at least one dimension", str(self.dimension), "use e.g. 2000")
        if self.selection.layers:
            do = "leave the layers out: a subspace trains all tensors together"
            raise InputError("no choice of layers for a subspace", ", ".join(self.selection.layers), do)
        self.check_training()

    @property
    def label(self) -> str:
        """For tables."""
        return f"subspace {self.dimension} {self.kind.name.lower()}"

    @classmethod
    def strengths(cls) -> tuple[RandomSubspace, ...]:
        """From few to many dimensions."""
        return tuple(cls(dimension=d) for d in (300, 1000, 1800, 5000))

    def model(self, network: Network, search: Search) -> SubspaceModel:
        """What is trained: coordinates, and the scale of each tensor.

        Raises:
            InputError: more dimensions than the network has weights.
        """
        return SubspaceModel(self, network, search)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """What is known: a count of numbers, and the bits they would take at a few levels; no approximation claim."""
        total = sum(target.size for target in targets(network.architecture))
        dimension = min(self.dimension, total)
        ternary = dimension * math.log2(3)
        enough = Condition(
            "the network is trainable in D dimensions",
            None,
            f"D = {dimension} against {total} weights; Li et al. 2018 report 90 % of the accuracy of LeNet on MNIST "
            "at D = 290, found by training",
        )
        return Theory(
            source="Li et al. 2018; Lotfi et al. 2022 (not in the papers of this program)",
            statement=f"D = {dimension} numbers; with three levels at most D log2 3 = {ternary:.0f} bits, and "
            f"{32 * dimension} bits as float32; theta_0 and P are in the helper and cost nothing",
            parameters=float(dimension),
            error_means="none: nothing is claimed about the distance to a given network",
            conditions=(enough,),
            notes=("Scales (one integer a tensor) and the step are counted in the message, not here.",),
        )


class SubspaceModel(MessageModel):
    """What is trained: coordinates in steps, and the scale of each tensor in quarter octaves."""

    def __init__(self, codec: RandomSubspace, network: Network, search: Search) -> None:
        super().__init__()
        self.codec, helper, device = codec, search.helper, search.device
        layers = network_layers(network, helper, codec.selection)
        self.members = tuple(layer.target for layer in layers if layer.target.kind != "buffer" and layer.target.size)
        member_names = {target.name for target in self.members}
        self.codes: dict[str, TensorCode] = {
            layer.target.name: TensorCode(MEMBER, base=layer.base)
            if layer.target.name in member_names
            else code_rest(layer, codec.selection.rest)
            for layer in layers
        }
        self.sizes = tuple(target.size for target in self.members)
        self.settings = (int(codec.kind), codec.dimension, int(codec.allocation))
        seed = codec.selection.seed
        try:
            self.map = SubspaceMap(self.sizes, self.settings, Draws(seed, MEMBER), device)
        except DecodeError as error:
            raise InputError(error.expected, error.got, "change the dimension or the kind of the subspace") from None
        self.base = {
            layer.target.name: torch.tensor(
                base_values(layer.base, layer.target, layer.draws, helper), dtype=torch.float32, device=device
            )
            for layer in layers
            if layer.target.name in member_names
        }
        self.coordinates = LatentIntegers(
            torch.zeros(self.map.dimension, device=device), codec.price, len(search.sample)
        )
        self.scale = torch.tensor(self._first_scales(), device=device, requires_grad=True)
        self.integers, self.scales = [self.coordinates], [self.scale]
        self.fixed = self.fixed_values([name for name in self.codes if name not in self.base], search)

    def _first_scales(self) -> list[float]:
        gains = self.map.gains()
        each = gains if len(gains) == len(self.members) else gains * len(self.members)
        spreads, spread = [], 1.0
        for target in self.members:
            spread = he_deviation(target, spread)
            spreads.append(spread)
        return [STEPS_PER_OCTAVE * math.log2(FIRST_SPREAD * s / g) for s, g in zip(spreads, each, strict=True)]

    def weights(self) -> Tensors:
        """Every tensor of the architecture, differentiable in coordinates and scales."""
        parts = torch.split(self.map(self.coordinates.rounded()), list(self.sizes))
        steps = torch.exp2(self.scale / STEPS_PER_OCTAVE)
        members = {
            target.name: self.base[target.name] + (part * step).reshape(target.shape)
            for target, part, step in zip(self.members, parts, steps, strict=True)
        }
        return {**self.fixed, **members}

    def untrained(self) -> ComposedMessage:
        """The message of all zeros: the base."""
        zeros = np.zeros(self.map.dimension, dtype=np.int64)
        scales = Coefficients(np.zeros(len(self.sizes), dtype=np.int64), _SCALE_STEP)
        code = SubspaceCode(self.settings, (Coefficients(zeros, _SCALE_STEP), scales))
        return ComposedMessage(self.codes, self.codec.selection.seed, code)

    def message(self) -> ComposedMessage:
        """The message of the present integers; the middle scale goes into the step, which is coded once."""
        scales = np.rint(self.scale.detach().cpu().numpy()).astype(np.int64)
        scales = np.clip(scales, -MAX_EXPONENT, MAX_EXPONENT)
        middle = int(np.sort(scales)[len(scales) // 2])
        coordinates = Coefficients(self.coordinates.values(), middle)
        code = SubspaceCode(self.settings, (coordinates, Coefficients(scales - middle, _SCALE_STEP)))
        return ComposedMessage(self.codes, self.codec.selection.seed, code)


def he_deviation(target: Target, before: float) -> float:
    """Deviation of He's initial weights; a bias or gain moves like the weights before it (``before``)."""
    if target.kind == "weight" and target.size:
        return math.sqrt(2.0 / max(target.matrix_shape[1], 1))
    return before


class SubspaceMap:
    """``w [D] -> P w [N]``, linear and differentiable: the float32 twin of the subspace transform, for training only.

    The same signs, columns and order as :mod:`bitcert.decoder.transforms.subspace` draws; for integers below 2^24 in
    size and in sum the two are equal (tested). The decoder never uses this one.

    Args:
        sizes, settings, draws: as for :func:`bitcert.decoder.transforms.subspace.expand`.
        device: where to train.

    Raises:
        InputError: a dense P too large to be held.
        DecodeError: settings that the transform does not take.
    """

    def __init__(self, sizes: tuple[int, ...], settings: Settings, draws: Draws, device: str = "cpu") -> None:
        self.blocks = subspace.blocks(sizes, settings)
        self.dimension = sum(block.dimension for block in self.blocks)
        self._maps = [_block_map(block, draws, device) for block in self.blocks]

    def __call__(self, coordinates: torch.Tensor) -> torch.Tensor:
        """``P w``, float32 ``[N]``."""
        parts = torch.split(coordinates, [block.dimension for block in self.blocks])
        return torch.cat([one(part) for one, part in zip(self._maps, parts, strict=True)])

    def gains(self) -> list[float]:
        """Root mean square of an entry of each block's ``P_b w`` for coordinates of root mean square 1."""
        return [math.sqrt(1 if b.kind is Kind.SPARSE else max(1, b.dimension)) for b in self.blocks]


def _block_map(block: Block, draws: Draws, device: str) -> _Map:
    if not block.dimension or not block.size:
        return lambda w: torch.zeros(block.size, device=device) + w.sum()
    if block.kind is Kind.DENSE:
        return _dense(block, draws, device)
    if block.kind is Kind.KRONECKER:
        left, right = (_tensor(factor, device) for factor in subspace.kronecker_factors(block, draws))
        missing = math.prod(block.columns) - block.dimension
        return lambda w: (left @ torch.nn.functional.pad(w, (0, missing)).reshape(block.columns) @ right.T).reshape(-1)[
            : block.size
        ]
    if block.kind is Kind.HADAMARD:
        columns, flips = subspace.hadamard_parts(block, draws)
        return _hadamard(block, torch.from_numpy(columns).to(device), _tensor(flips, device))
    columns, flips = subspace.sparse_parts(block, draws)
    where, signs = torch.from_numpy(columns).to(device), _tensor(flips, device)
    return lambda w: w.index_select(0, where) * signs


def _tensor(values: NDArray[np.generic], device: str) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _dense(block: Block, draws: Draws, device: str) -> _Map:
    if block.size * block.dimension > MAX_DENSE_ENTRIES:
        got = f"{block.size:,} x {block.dimension:,}"
        do = "use another kind of subspace, or fewer dimensions"
        raise InputError(f"a dense subspace of at most {MAX_DENSE_ENTRIES:,} entries to train in", got, do)
    signs = torch.cat([_tensor(rows, device) for rows in subspace.dense_rows(block, draws)])
    return lambda w: signs @ w


def _hadamard(block: Block, columns: torch.Tensor, flips: torch.Tensor) -> _Map:
    def expand(w: torch.Tensor) -> torch.Tensor:
        padded = torch.zeros(block.order, dtype=w.dtype, device=w.device).index_put((columns,), w)
        transformed: torch.Tensor = _WalshHadamard.apply(padded)  # type: ignore[no-untyped-call]
        return transformed[: block.size] * flips

    return expand


class _WalshHadamard(torch.autograd.Function):
    """``H v``; H is symmetric, so that the gradient is ``H`` times the gradient."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return _walsh_hadamard(values)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return _walsh_hadamard(gradient)


def _walsh_hadamard(values: torch.Tensor) -> torch.Tensor:
    result, half = values, 1
    while half < result.numel():
        pairs = result.reshape(-1, 2, half)
        result = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).reshape(-1)
        half *= 2
    return result
