"""Ingredients of bounds made by hand from explicit matrices, so that values can be worked out on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bitcert.stability import Reduced
from bitcert.theory.inputs import BoundInputs, LayerInputs, LayerStability, Lipschitz, SampleFacts, WeightNorms
from bitcert.theory.value import Condition

HYPOTHESES = (
    "bias-free",
    "ReLU activations only",
    "activations 1-Lipschitz",
    "pooling 1-Lipschitz",
    "positively homogeneous apart from biases",
    "chain of layers",
    "every weight layer measured",
    "only weight layers, ReLU and flattening",
)


def norms(matrix: np.ndarray) -> WeightNorms:
    """Norms of a dense matrix ``[out, in]``, written out independently of the package."""
    rows = np.asarray(matrix, np.float64)
    sigma = np.linalg.svd(rows, compute_uv=False)
    l3 = (np.abs(rows) ** 3).sum(1) ** (1 / 3)
    return WeightNorms(
        frobenius=math.sqrt((rows**2).sum()),
        spectral=float(sigma.max()),
        operator=float(sigma.max()),
        norm_21=float(np.sqrt((rows**2).sum(1)).sum()),
        norm_1inf=float(np.abs(rows).sum(1).max()),
        norm_3_15=float((l3**1.5).sum() ** (1 / 1.5)),
        singular_values=sigma,
    )


def reduced(value: float, zeta: float | None = None) -> Reduced:
    """The same value with and without outliers, unless another is given."""
    return Reduced(value, value if zeta is None else zeta)


def stability(
    cushion: float = 0.5, minimal: float = 0.25, contraction: float = 2.0, beta: float = 1.0
) -> LayerStability:
    """A layer's stability with the same values after outliers, and with one example: its largest cushions are these."""
    return LayerStability(
        reduced(cushion),
        reduced(minimal),
        reduced(contraction),
        reduced(beta),
        contraction_after=reduced(contraction),
        largest_cushion=cushion,
        largest_minimal_cushion=minimal,
    )


def layer(matrix: Any, name: str = "layer", init: Any = None, **changes: Any) -> LayerInputs:
    """A dense layer of this matrix; ``changes`` replace fields of :class:`LayerInputs`."""
    rows = np.asarray(matrix, np.float64)
    settings: dict[str, Any] = {
        "name": name,
        "op": "linear",
        "weight": torch.from_numpy(rows),
        "has_bias": False,
        "channels": rows.shape[0],
        "positions": 1,
        "num_inputs": rows.shape[1],
        "window": 1,
        "norms": norms(rows),
        **changes,
    }
    if init is not None:
        settings["distance"] = norms(rows - np.asarray(init, np.float64))
    return LayerInputs(**settings)


def sample(margins: Sequence[float] = (0.5, 1.0, 2.0, 4.0), **changes: Any) -> SampleFacts:
    """A sample with these margins; ``changes`` replace fields of :class:`SampleFacts`."""
    ordered = np.sort(np.asarray(margins, np.float64))
    settings: dict[str, Any] = {
        "name": "by hand",
        "num_samples": len(ordered),
        "num_classes": 2,
        "errors": int((ordered <= 0).sum()),
        "margins": ordered,
        "largest_input": 3.0,
        "largest_output": 5.0,
        "largest_pixel": 7.0,
        "input_shape": (2,),
        **changes,
    }
    return SampleFacts(**settings)


def inputs(
    matrices: Sequence[Any], *, gamma: float = 1.0, init: Sequence[Any] | None = None, **changes: Any
) -> BoundInputs:
    """Ingredients of a bias-free chain of dense ReLU layers; ``changes`` replace fields of :class:`BoundInputs`."""
    starts: Sequence[Any] = [None] * len(matrices) if init is None else init
    layers = tuple(
        layer(matrix, f"layer{k}", start, stability=stability())
        for k, (matrix, start) in enumerate(zip(matrices, starts, strict=True), start=1)
    )
    logs = [math.log(own.norms.operator) if own.norms.operator else -math.inf for own in layers]
    growth = Lipschitz(
        math.fsum(logs),
        tuple(math.fsum(logs[:k]) for k in range(len(logs))),
    )
    weights = {own.name: own.weight for own in layers}
    settings: dict[str, Any] = {
        "layers": layers,
        "sample": sample(),
        "gamma": gamma,
        "gamma_rule": "by hand",
        "structure": {name: Condition(name, True, "by hand") for name in HYPOTHESES},
        "num_parameters": sum(own.num_weights for own in layers),
        "lipschitz": growth,
        "parameters": weights,
        **changes,
    }
    if init is not None:
        settings["initial"] = {f"layer{k}": torch.tensor(np.asarray(v)) for k, v in enumerate(init, start=1)}
    return BoundInputs(**settings)


def rounding(matrices: Sequence[Any], radius: float) -> float:
    """How far float32 logits of a bias-free chain can be from the exact ones on ``||x|| <= radius``, written out."""
    size, error = radius, 0.0
    for matrix in matrices:
        rows = np.asarray(matrix, np.float64)
        terms = (rows.shape[1] + 1) * 2.0**-24
        spectral = np.linalg.norm(rows, 2)
        change = terms / (1 - terms) * np.linalg.norm(rows)
        error = (spectral + change) * error + change * size
        size *= spectral
    return float(error)
