"""A stability profile made by hand: any depth, with or without an untrained twin, with any names."""

from typing import Any

import numpy as np

from bitcert.stability.profile import Hypothesis, LayerRow, LayerSpectrum, Reduced, StabilityProfile, TailSummary
from bitcert.stability.reduction import AttenuationCurve, Distribution, SmoothnessSummary, reduce_values
from bitcert.stability.settings import MeasureSettings

HYPOTHESES = (
    Hypothesis("bias_free", False, "3 layers have a bias."),
    Hypothesis("smoothness", True, "rho = 50 and 3d = 9"),
    Hypothesis("dead inputs", None, "0 of 60 examples were skipped"),
)


def _distributions(depth: int, pairs: list[tuple[int, int]], rng: np.random.Generator, shift: float) -> dict:
    def several(quantity: str, labels: list[str], low: float, high: float) -> tuple[Distribution, ...]:
        return tuple(
            reduce_values(rng.uniform(low, high, 60) * shift, quantity, label=label, zeta=0.05) for label in labels
        )

    layers = [f"layer {i}" for i in range(1, depth + 1)]
    arrows = [f"{i}→{j}" for i, j in pairs]
    single = {"margin": (-1, 9), "margin_normalised": (-0.1, 0.8)}
    single |= {"margin_spectral": (-0.001, 0.01), "output_norm": (2, 20), "input_norm": (5, 12)}
    return {
        "layer_cushion": several("layer_cushion", layers, 0.2, 0.6),
        "minimal_interlayer_cushion": several("minimal_interlayer_cushion", layers, 0.1, 0.2),
        "minimal_interlayer_cushion_unclipped": several("minimal_interlayer_cushion_unclipped", layers, 0.1, 0.9),
        "interlayer_cushion": several("interlayer_cushion", arrows, 0.1, 0.9),
        "jacobian_spread": several("jacobian_spread", arrows, 1, 3),
        "contraction": several("contraction", layers, 1.1, 2.1),
        "smoothness": several("smoothness", arrows, 0.01, 0.3),
        "smoothness_gaussian": several("smoothness_gaussian", arrows, 0.01, 0.2),
        "noise_sensitivity": several("noise_sensitivity", ["input", *layers], 1, 3),
        **{name: several(name, [""], low, high) for name, (low, high) in single.items()},
    }


def _row(index: int, distributions: dict, last: bool) -> LayerRow:
    def reduced(quantity: str, place: int = index) -> Reduced:
        found = distributions[quantity][place - 1]
        return Reduced(found.worst, found.zeta_value)

    return LayerRow(
        index=index,
        node=f"linear_{index}",
        op="linear",
        shape=(20, 30),
        channels=20,
        positions=1,
        kernel_size=1,
        stride=1,
        parameters=620,
        frobenius=5.0,
        spectral_reshaped=2.0,
        spectral_operator=2.0,
        norm_21=6.5,
        norm_1inf=7.5,
        stable_rank=6.25,
        weight_tail=TailSummary(2.5 + index, 0.1, 0.04, 120, {"lognormal": (-1.0, 0.2)}),
        eigen_tail=None,
        layer_cushion=reduced("layer_cushion"),
        minimal_cushion=reduced("minimal_interlayer_cushion"),
        minimal_cushion_unclipped=reduced("minimal_interlayer_cushion_unclipped"),
        beta=Reduced(1.0, 1.0),
        contraction=reduced("contraction"),
        contraction_after=Reduced(1.0, 1.0) if last else reduced("contraction", index + 1),
        distance_frobenius=None,
        distance_21=None,
        effective_parameters=Reduced(450.0 * index, 400.0 * index),
        effective_parameters_after=Reduced(500.0 * index, 425.0 * index),
        compression_percent=Reduced(75.0 * index, 66.0 * index),
    )


def _curves(depth: int, levels: tuple[float, ...]) -> tuple[AttenuationCurve, ...]:
    curves = []
    for level in levels:
        for injection in range(depth + 1):
            targets = tuple(range(max(injection, 1), depth + 1))
            mean = tuple(level * 0.8 ** (target - injection) for target in targets)
            low, high = tuple(0.7 * value for value in mean), tuple(1.4 * value for value in mean)
            curves.append(AttenuationCurve(level, injection, targets, mean, low, mean, high, (0,) * len(targets)))
    return tuple(curves)


def make_profile(depth: int = 3, *, twin: bool = False, name: str = "leaves", **changes: Any) -> StabilityProfile:
    """A profile of a chain of ``depth`` dense layers."""
    rng = np.random.default_rng(depth + 100 * twin)
    # of a deep network only neighbours, so that it is quickly made
    pairs = [(i, j) for j in range(1, depth + 1) for i in range(1 if depth < 30 else max(1, j - 1), j)]
    distributions = _distributions(depth, pairs, rng, 1.0)
    fields: dict[str, Any] = {
        "network": {
            "name": name,
            "content_hash": "ab" * 32,
            "num_parameters": 620 * depth,
            "chain": True,
            "bias_free": False,
            "relu_only": True,
        },
        "sample": {"name": name, "content_hash": "cd" * 32, "num_samples": 60, "measured": 60},
        "settings": MeasureSettings(zeta=0.05, noise_levels=(0.1, 0.5)).describe(),
        "layers": tuple(_row(i, distributions, i == depth) for i in range(1, depth + 1)),
        "pairs": tuple(pairs),
        "distributions": distributions,
        "attenuation": _curves(depth, (0.1, 0.5)),
        "spectra": tuple(
            LayerSpectrum(i, tuple(2.0 / (1 + k * i / 4) for k in range(20))) for i in range(1, depth + 1)
        ),
        "smoothness": SmoothnessSummary(0.05, 3, 3, (100,) * depth, 0.02, 0.015, 0.02, 0.01, (0.01, 0.02, 0.015), 0.4),
        "hypotheses": HYPOTHESES,
        "notes": ("Estimated norms are within 0.8 % of the exact ones (median standard error).",),
        "twin": None,
        "arrays": None,
    }
    fields |= changes
    if twin:
        fields["twin"] = make_profile(depth, name=name)
    return StabilityProfile(**fields)
