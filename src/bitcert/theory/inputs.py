"""Everything the bounds are computed from: norms, margins, stability, structure of one network on one sample.

The bounds are pure functions of :class:`BoundInputs`; :mod:`bitcert.theory.gathering` makes it from a network and a
sample, tests make it by hand. What was not given or does not exist is an :class:`~bitcert.theory.value.Absent`, never a
0 or NaN. Indices of layers run from 0 here; ``x^i`` of the papers is the output of ``layers[i - 1]`` before activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bitcert.linear import TailSummary
from bitcert.stability import Reduced
from bitcert.theory.value import Absent, Condition, Ingredient, LayerValue, Status, need, outside

NO_INIT = Absent(Status.NEEDS, "needs --init: the initial weights of the network")
NO_PROFILE = Absent(Status.NEEDS, "needs a profile: leave out --no-profile or pass --profile FILE")
NO_HOLDOUT = Absent(Status.NEEDS, "needs --holdout: labels that were never used")
_NOT_MEASURED = Reduced(None, None)
_NO_TAIL = Absent(Status.OUTSIDE, "no power law was fitted")


@dataclass(frozen=True)
class WeightNorms:
    """Norms of ``A``, or of ``A - A_init``, as the matrix ``[out, in * kernel]``; conventions of :mod:`bitcert.linear`.

    Attributes:
        frobenius: ``||A||_F``.
        spectral: ``||A||_2`` of the reshaped matrix.
        operator: ``||A||_2`` of the linear map at the real input size; equal to ``spectral`` for a dense layer.
        norm_21: sum over output units of the l2 norm of their weights (Bartlett's ``||A^T||_{2,1}``).
        norm_1inf: largest l1 norm of an output unit's weights.
        norm_3_15: ``(sum over output units of (l3 norm of their weights)^1.5)^(1/1.5)``.
        singular_values: of the reshaped matrix, descending, float64.
    """

    frobenius: float
    spectral: float
    operator: float
    norm_21: float
    norm_1inf: float
    norm_3_15: float
    singular_values: NDArray[np.float64]

    def schatten(self, p: float) -> float:
        """``(sum_i sigma_i^p)^(1/p)``; ``p = 1`` is the trace norm."""
        top = float(self.singular_values.max(initial=0.0))
        if top == 0:
            return 0.0
        return float(top * float(((self.singular_values / top) ** p).sum()) ** (1 / p))


@dataclass(frozen=True)
class LayerStability:
    """A layer's row of a stability profile (docs/theory.md section 3.1): worst over the sample, and after zeta
    outliers.

    Attributes:
        cushion: ``mu_i``.
        minimal_cushion: ``mu_{i->}``.
        contraction: ``c_i`` of what lies between the layers before and this one, pooling included.
        beta: spread of the Jacobians from this layer; 1 where it has a single position.
        contraction_after: the largest of the layers that this one feeds; 1 if it feeds none.
        largest_cushion, largest_minimal_cushion: with the maximum over the sample in place of the minimum and ``sqrt
            h`` in place of ``1/sqrt h``, as Zhang 2020 prints them; ``None`` where they were not measured.
    """

    cushion: Reduced
    minimal_cushion: Reduced
    contraction: Reduced
    beta: Reduced
    contraction_after: Reduced = _NOT_MEASURED
    largest_cushion: float | None = None
    largest_minimal_cushion: float | None = None


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """One weight layer.

    Attributes:
        name: of the weight.
        op: ``"linear"``, ``"conv1d"`` or ``"conv2d"``.
        weight: the tensor ``[out, in, *kernel]`` as stored; ``matrix()`` gives it in float64.
        has_bias: whether a bias that is not all zero follows.
        channels: ``h_i``: output units, or channels of a convolution.
        positions: ``n1 n2`` of the output map; 1 for a dense layer.
        num_inputs: entries of the layer's input at the real input size.
        window: product of ``ceil(kappa/s)``, kernel side over stride, over the axes.
        norms: of the weight.
        distance: of ``A - A_init``.
        tail: power law of ``|w|``, or why there is none.
        stability: from a profile.
        bias: entries of the bias, ``[out]``, where one follows.
        bias_norm: ``||b||_2``, or ``None`` where it was not gathered; 0 without a bias.
    """

    name: str
    op: str
    weight: Tensor
    has_bias: bool
    channels: int
    positions: int
    num_inputs: int
    window: int
    norms: WeightNorms
    distance: WeightNorms | Absent = NO_INIT
    tail: TailSummary | Absent = _NO_TAIL
    stability: LayerStability | Absent = NO_PROFILE
    bias: Tensor | None = None
    bias_norm: float | None = None

    @property
    def num_weights(self) -> int:
        """Entries of the weight."""
        return self.weight.numel()

    @property
    def fan_in(self) -> int:
        """Weights of one output unit: columns of the reshaped matrix."""
        return self.weight[0].numel()

    def matrix(self) -> NDArray[np.float64]:
        """The weight as ``[out, in * kernel]`` in float64."""
        return np.asarray(self.weight.detach().cpu().double().flatten(1).numpy())


@dataclass(frozen=True, eq=False)
class SampleFacts:
    """What one pass over the sample gives.

    Attributes:
        name: of the sample.
        num_samples: ``m``.
        num_classes: ``k``.
        errors: training errors of the network; a tie is an error.
        margins: ``f(x)[y] - max f(x)[j]`` of every example, float64, ascending.
        largest_input: ``max ||x||_2`` over the sample, after preprocessing.
        largest_output: ``max ||f(x)||_2``.
        largest_pixel: ``max over positions of sum over examples of ||x[:, position]||^2`` (channels together).
        input_shape: of one example.
        norm_limit: a limit on ``||x||_2`` known without the data (8-bit pixels), or ``None``.
        total_square: sum over the examples of ``||x||_2^2``; ``None`` where it was not summed.
    """

    name: str
    num_samples: int
    num_classes: int
    errors: int
    margins: NDArray[np.float64]
    largest_input: float
    largest_output: float
    largest_pixel: float
    input_shape: tuple[int, ...]
    norm_limit: float | None = None
    total_square: float | None = None

    @property
    def input_size(self) -> int:
        """Entries of one example."""
        return math.prod(self.input_shape)

    def margin_loss(self, gamma: float) -> float:
        """Fraction of the examples with a margin ``<= gamma``.

        >>> facts = SampleFacts("s", 4, 2, 1, np.array([-1.0, 0.5, 1.0, 2.0]), 1.0, 1.0, 1.0, (1,))
        >>> facts.margin_loss(0.5)
        0.5
        """
        return int(np.searchsorted(self.margins, gamma, side="right")) / self.num_samples


@dataclass(frozen=True)
class Lipschitz:
    """Worst-case growth through the graph, from operator norms at the real input size (the recursion of Zhang 6.1).

    Attributes:
        log_total: ``ln L`` from the input to the logits: ``L_out = sum over the inputs of an add, factor * L_in``.
        log_before: ``ln L`` from the input to the input of each layer.
        double_skips: whether the graph is exactly the printed one (``x^i`` from ``x^{i-1}`` and ``x^{i-2}``).
        depth: weight layers on the longest path from the input to the logits; ``None``: all layers.
    """

    log_total: float
    log_before: tuple[float, ...]
    double_skips: bool = False
    depth: int | None = None


@dataclass(frozen=True)
class Flatness:
    """How much Gaussian noise on the weights costs ``drop`` of the training accuracy (Jiang 2020).

    Attributes:
        sigma: standard deviation of the noise.
        magnitude_sigma: of noise ``N(0, sigma^2 w^2 + epsilon^2)``; 0 where ``epsilon`` alone costs more than ``drop``.
        epsilon: floor of that noise.
        drop: accuracy given up, e.g. 0.1.
        draws: noise draws averaged.
        examples: of the sample that were evaluated.
        accuracy: of the network on them without noise.
        reached, magnitude_reached: drops measured at the two values.
    """

    sigma: float
    magnitude_sigma: float
    epsilon: float
    drop: float
    draws: int
    examples: int
    accuracy: float
    reached: float
    magnitude_reached: float


@dataclass(frozen=True)
class MessageFacts:
    """A message found next to the model, recounted here.

    Attributes:
        name: folder or file it came from.
        bits: its length.
        errors: of the decoded network on this sample.
        deviation: largest entrywise ``|f(x)[y] - g(x)[y]|`` over the sample.
        deviation_l2: largest ``||f(x) - g(x)||_2``.
        disagreements: examples that the decoded network labels otherwise than this one.
        basis: the public weights that the message refers to, in words; empty if there are none.
    """

    name: str
    bits: int
    errors: int
    deviation: float
    deviation_l2: float
    disagreements: int = 0
    basis: str = ""


@dataclass(frozen=True)
class HoldoutFacts:
    """Errors of the network on held-out labels.

    Attributes:
        name: of the held-out data.
        errors: of the network on them.
        samples: how many there are.
    """

    name: str
    errors: int
    samples: int

    @property
    def rate(self) -> float:
        """Fraction of errors."""
        return self.errors / self.samples


_NOT_GATHERED = Absent(Status.NEEDS, "needs a captured network: it was not gathered")


@dataclass(frozen=True, eq=False)
class BoundInputs:
    """All ingredients.

    Attributes:
        layers: weight layers in order of computation.
        sample: of the training set.
        gamma: margin, above 0 and below the largest margin, or why there is none.
        gamma_rule: how it was chosen, in words.
        delta: failure probability of guarantees, in (0, 1).
        structure: hypotheses on the graph by name, as :mod:`bitcert.stability.hypotheses` states them.
        num_parameters: entries of all parameters, biases and shifts included.
        constants: unusual numbers outside the parameters: scalars of the graph, and of the preprocessing.
        smoothness: ``rho_delta >= 3 d``, from a profile.
        zeta: fraction of outliers of the profile's ``zeta`` values; 0 where there is no profile.
        measured_samples: examples that the profile was measured on.
        lipschitz: worst-case growth, or why there is none.
        path_norms: ``ln`` of the path norm by ``p``: ``(sum over paths of prod |w|^p)^(1/p)``, biases left out.
        path_norms_with_biases: the same with biases as paths from a constant 1.
        flatness: see :class:`Flatness`.
        messages: found next to the model; ``messages_note`` says where it was looked.
        holdout: held-out labels.
        parameters, initial: weights by name, for measures over single entries; ``initial`` needs ``--init``.
        seed: of the named random streams.
    """

    layers: tuple[LayerInputs, ...]
    sample: SampleFacts
    gamma: float | Absent
    gamma_rule: str
    delta: float = 0.05
    structure: Mapping[str, Condition] = field(default_factory=dict)
    num_parameters: int = 0
    constants: int = 0
    smoothness: Condition | Absent = NO_PROFILE
    zeta: float = 0.0
    measured_samples: int | None = None
    lipschitz: Lipschitz | Absent = _NOT_GATHERED
    path_norms: Mapping[float, float] | Absent = _NOT_GATHERED
    path_norms_with_biases: Mapping[float, float] | Absent = _NOT_GATHERED
    flatness: Flatness | Absent = _NOT_GATHERED
    messages: tuple[MessageFacts, ...] = ()
    messages_note: str = ""
    holdout: HoldoutFacts | Absent = NO_HOLDOUT
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    initial: Mapping[str, Tensor] | Absent = NO_INIT
    seed: int = 0

    @property
    def m(self) -> int:
        """Training examples."""
        return self.sample.num_samples

    @property
    def margin(self) -> float:
        """``gamma``.

        Raises:
            NotComputed: there is no margin to be taken.
        """
        return need(self.gamma)

    @property
    def depth(self) -> int:
        """``d``: weight layers."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """``h``: largest number of units (channels) of a layer."""
        return max(layer.channels for layer in self.layers)

    def facts(self, *names: str) -> dict[str, Ingredient]:
        """Ingredients that many rows share, under the names that rows give them.

        >>> sample = SampleFacts("s", 2, 2, 1, np.array([-1.0, 0.5]), 1.0, 1.0, 1.0, (1,))
        >>> BoundInputs((), sample, 0.1, "given").facts("gamma", "m")
        {'gamma': 0.1, 'm': 2}
        """
        known: dict[str, Callable[[], Ingredient]] = {
            "m": lambda: self.m,
            "d": lambda: self.depth,
            "h": lambda: self.width,
            "W": lambda: self.num_parameters,
            "gamma": lambda: self.margin,
            "delta": lambda: self.delta,
            "margin_loss": lambda: self.sample.margin_loss(self.margin),
            "input_size": lambda: self.sample.input_size,
            "largest_output": lambda: self.sample.largest_output,
            **dict.fromkeys(("largest_input", "max_input_norm"), lambda: self.sample.largest_input),
        }
        return {name: known[name]() for name in names}

    def parts(self, logs: Iterable[float]) -> tuple[LayerValue, ...]:
        """The parts of the layers in a sum over layers."""
        return tuple(LayerValue(own.name, log, own.num_weights) for own, log in zip(self.layers, logs, strict=True))

    def hypotheses(self, *names: str) -> tuple[Condition, ...]:
        """Several of :meth:`hypothesis`."""
        return tuple(self.hypothesis(name) for name in names)

    def hypothesis(self, name: str) -> Condition:
        """A hypothesis on the graph: ``"bias-free"``, ``"ReLU activations only"``, ``"activations 1-Lipschitz"``,
        ``"positively homogeneous apart from biases"``, ``"chain of layers"``, ``"every weight layer measured"``.

        One that was not gathered is unknown.
        """
        return self.structure.get(name, Condition(name, None, "not gathered"))

    @property
    def fully_connected(self) -> Condition:
        """Whether the network is one of dense layers."""
        others = [layer.name for layer in self.layers if layer.op != "linear" or layer.positions != 1]
        detail = f"{len(others)} other layers, e.g. {others[0]}" if others else f"{self.depth} dense layers"
        return Condition("fully connected", not others, detail)

    def require_dense(self, theorem: str) -> None:
        """Refuse a network with convolutions or dense layers applied at several places.

        Raises:
            NotComputed: naming the first layer that is not dense.
        """
        found = self.fully_connected
        if not found.holds:
            raise outside(f"does not apply: {theorem} is for fully connected layers; {found.detail}")
