"""Masks over a random network: the strong form of a lottery ticket, the message being the mask.

Every weight is ``scale * mask * sign`` with signs (or normal numbers) that the helper draws; only the mask, and one
scale a tensor, is in the message (docs/theory.md 3.2; Guha 2023, section 6; Zhou et al. 2019; Ramanujan et al. 2020).
Each entry has a score ``v`` in [0, 1] and is kept where ``v > 1/2``; scores are trained straight-through under

    cross-entropy + price * bits * ln 2 / m,

``bits`` being the code length of the present masks (rows and columns without entries cost next to nothing). Biases
stay at zero; gains of norms at one. It learns from the sample: of the network given it uses the structure, and the
values of its buffers. Not guaranteed: a good subnetwork, or the same message twice (the schedule follows the clock).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from bitcert.codecs.base import Layer, Rest, Selection, code_rest, network_layers
from bitcert.codecs.best import Search
from bitcert.codecs.integer_training import IntegerCodec, LatentIntegers, MessageModel
from bitcert.codecs.training import Tensors
from bitcert.coding.steps import MAX_EXPONENT, STEPS_PER_OCTAVE
from bitcert.data import Sample
from bitcert.decoder.tensors import Base, ComposedMessage, TensorCode, targets
from bitcert.decoder.transforms.base import Coefficients
from bitcert.decoder.transforms.mask import UNITS, Distribution, random_integers
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import torch_stream
from bitcert.theory.formulas.pruning_theory import naive_bits
from bitcert.theory.value import Condition, LayerTheory, Theory


@dataclass(frozen=True, kw_only=True)
class RandomNetworkMask(IntegerCodec):
    """The codec.

    Args:
        density: fraction of each tensor that is kept in the beginning.
        signed: whether the mask may turn signs (-1, 0, 1).
        distribution: of the random weights.
        price: of a bit, in multiples of ``ln 2 / m`` nats of cross-entropy.
        rate: peak learning rate of the scores.
        batch_size: examples of a training step.
        num_steps: training steps, or ``None`` to use the time of the run.
        selection: seed of the helper's numbers; ``layers`` must be empty, the base neutral, ``rest`` is for buffers.

    Raises:
        InputError: options out of range.
    """

    name: ClassVar[str] = "mask"
    untrained: ClassVar[str] = "empty mask, because training diverged"

    density: float = 0.1
    signed: bool = False
    distribution: Distribution = Distribution.SIGNS
    price: float = 3.0
    rate: float = 0.03
    batch_size: int = 64
    num_steps: int | None = None
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        if not 0 < self.density < 1:
            raise InputError("a density between 0 and 1", str(self.density), "use e.g. 0.1")
        if self.selection.layers or self.selection.base is not Base.NEUTRAL:
            got = f"layers {', '.join(self.selection.layers) or 'none'}, base {self.selection.base.name.lower()}"
            raise InputError("a mask over all layers on the neutral base", got, "leave both options out")
        self.check_training()

    @property
    def label(self) -> str:
        """For tables."""
        return f"mask price {self.price:g}"

    @classmethod
    def strengths(cls) -> tuple[RandomNetworkMask, ...]:
        """From cheap bits (large masks) to dear ones."""
        return tuple(cls(price=price) for price in (0.1, 0.5, 1.5, 3.0, 10.0))

    def model(self, network: Network, search: Search) -> MaskModel:
        """What is trained: a score for each weight, and the scale of each tensor."""
        return MaskModel(self, network, search)

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """``log2 C(N, n)`` bits a layer at this density: the count of Guha's Theorem 6.2 for the mask alone."""
        rows = []
        for target in targets(network.architecture):
            if target.kind == "weight" and target.size:
                kept = max(1, round(self.density * target.size))
                bits = naive_bits(target.size, kept, 2 if self.signed else 1)
                details = {"kept": float(kept), "mask_bits": bits}
                rows.append(LayerTheory(target.name, target.size, float(kept), None, details))
        total = sum(row.details["mask_bits"] for row in rows)
        dense = Condition(
            "a subnetwork of the random network approximates the target",
            None,
            "Guha's section 6 takes it from the strong lottery ticket theorems, for random networks wider than the "
            "target by a logarithmic factor; here it is found by training, or not",
        )
        return Theory(
            source="Guha 2023, section 6 (Thm 6.2); Ramanujan et al. 2020",
            statement=f"log2 C(N, n) summed over layers at density {self.density:g}: {total:.0f} bits; the random "
            "weights are in the helper and cost nothing",
            parameters=sum(row.parameters for row in rows),
            error_means="none: the mask is trained, not derived from given weights",
            conditions=(dense,),
            layers=tuple(rows),
            notes=("The density is where training starts; the price of a bit decides where it ends.",),
        )


class _MaskedTensor:
    """Scores of one tensor under its random weights, and its scale in quarter octaves."""

    def __init__(self, layer: Layer, codec: RandomNetworkMask, search: Search) -> None:
        target, device = layer.target, search.device
        self.target = target
        random = random_integers(target, codec.distribution, layer.draws) * UNITS[codec.distribution]
        self.random = torch.from_numpy(random.astype(np.float32)).to(device)
        generator = torch_stream(search.run.seed, f"mask/scores/{target.name}")
        scores = torch.rand(target.shape, generator=generator) * (0.5 / (1 - codec.density))
        if codec.signed:
            scores *= 1 - 2 * torch.randint(0, 2, target.shape, generator=generator)
        bounds = (-1 if codec.signed else 0, 1)
        self.mask = LatentIntegers(scores.clamp(*bounds).to(device), codec.price, len(search.sample), bounds)
        deviation = math.sqrt(2.0 / (max(target.matrix_shape[1], 1) * codec.density))
        self.scale = torch.tensor(STEPS_PER_OCTAVE * math.log2(deviation), device=device, requires_grad=True)

    def value(self) -> torch.Tensor:
        return self.mask.rounded() * self.random * torch.exp2(self.scale / STEPS_PER_OCTAVE)

    def exponent(self) -> int:
        return max(-MAX_EXPONENT, min(MAX_EXPONENT, round(float(self.scale.detach()))))


class MaskModel(MessageModel):
    """What is trained: a score for each weight, and the scale of each tensor."""

    scale_factor = 2.0  # quarter octaves, where scores lie in 0 .. 1

    def __init__(self, codec: RandomNetworkMask, network: Network, search: Search) -> None:
        super().__init__()
        self.codec = codec
        layers = network_layers(network, search.helper, codec.selection)
        self.tensors = [_MaskedTensor(layer, codec, search) for layer in layers if _is_masked(layer)]
        self.integers = [tensor.mask for tensor in self.tensors]
        self.scales = [tensor.scale for tensor in self.tensors]
        self.rest: dict[str, TensorCode] = {
            layer.target.name: code_rest(layer, Rest.HELPER if layer.target.kind != "buffer" else codec.selection.rest)
            for layer in layers
            if not _is_masked(layer)
        }
        self.fixed = self.fixed_values(self.rest, search)

    def weights(self) -> Tensors:
        """Every tensor of the architecture, differentiable in scores and scales."""
        return {**self.fixed, **{tensor.target.name: tensor.value() for tensor in self.tensors}}

    def message(self) -> ComposedMessage:
        """The message of the present masks."""
        return self._message([Coefficients(tensor.mask.values(), tensor.exponent()) for tensor in self.tensors])

    def untrained(self) -> ComposedMessage:
        """The message of masks that keep nothing."""
        zeros = [np.zeros(tensor.target.shape, dtype=np.int64) for tensor in self.tensors]
        return self._message([Coefficients(zero, 0) for zero in zeros])

    def _message(self, masks: list[Coefficients]) -> ComposedMessage:
        settings = (int(self.codec.distribution),)
        codes = {
            tensor.target.name: TensorCode("mask", settings, (mask,))
            for tensor, mask in zip(self.tensors, masks, strict=True)
        }
        return ComposedMessage({**self.rest, **codes}, self.codec.selection.seed)


def _is_masked(layer: Layer) -> bool:
    return layer.target.kind in ("weight", "table") and layer.target.size > 0
