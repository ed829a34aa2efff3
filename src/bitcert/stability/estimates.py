"""How many probes estimate the Jacobian norms to a tolerance, found on a pilot of a few examples.

For every ``j`` the pilot measures the relative variance of one probe's square, without a basis and with one (leading
left singular directions of the pilot's Jacobians ``J^{i,j}``, from random tangents). Probes are then shared out over
the ``j`` so that the root mean square, over examples and pairs, of the relative standard error of ``‖J‖_F``
meets the tolerance at the least cost: with ``a_j`` the sum over ``i`` of a quarter of the relative variances and
``c_j`` the arithmetic of one row, ``P_j ∝ √(a_j / c_j)``. A ``j`` with few units is taken exactly instead. Examples
that turn out harder get further blocks of probes. The standard errors, not the pilot, say what was reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bitcert.random import stream
from bitcert.stability.jacobians import JacobianPlan, SweepPlan, row_squares
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.settings import MeasureSettings

BASIS_SIZE = 16
PILOT_PROBES = 32
LEAST_PROBES = 12
MORE_BLOCKS = 4
SLACK = 2.0
"""An example whose squared relative error exceeds this many times the planned mean gets more probes."""
SAFETY = 1.05
"""Probes beyond what the pilot asks for, since the pilot is a sample too."""


@dataclass(frozen=True, eq=False)
class _Trial:
    """One way to estimate one ``j``: the basis, the relative variance of a probe for every ``i``, cost of a row."""

    basis: Tensor
    spread: Mapping[int, float]
    cost: float

    @property
    def variance(self) -> float:
        return sum(self.spread.values())

    @property
    def num_pairs(self) -> int:
        return len(self.spread)


def prepare_jacobians(pilot: Linearisation, structure: Structure, settings: MeasureSettings) -> JacobianPlan:
    """Which rows are swept, the same for all batches: all of them, or as the pilot examples suggest."""
    if settings.exact:
        return JacobianPlan.exact(pilot.architecture, structure, next(iter(pilot.parameters.values())))
    return plan_jacobians(pilot, structure, settings.tolerance, settings.seed)


def plan_jacobians(pilot: Linearisation, structure: Structure, tolerance: float, seed: int) -> JacobianPlan:
    """Basis and probes for every ``j``.

    Args:
        pilot: the network at a few typical examples.
        structure: layers and pairs.
        tolerance: root-mean-square relative standard error wanted of the norms, over all pairs (0 where exact).
        seed: of the probes.
    """
    exact = JacobianPlan.exact(pilot.architecture, structure, next(iter(pilot.values.values())))
    sweeps, layers = dict(exact.sweeps), structure.layers
    trials = {
        j: _trials(pilot, layers[j - 1], exact.low_layers(j, adjacent=False), structure, seed)
        for j in sweeps
        if layers[j - 1].num_units > BASIS_SIZE + LEAST_PROBES
    }
    for j, (trial, count) in _share_out(trials, tolerance, len(structure.pairs)).items():
        if len(trial.basis) + count < layers[j - 1].num_units:
            limit = SLACK * trial.variance / (4 * count * trial.num_pairs)
            blocks = [_probes(layers[j - 1], trial.basis, count, seed, f"block {k}") for k in range(1 + MORE_BLOCKS)]
            sweeps[j] = SweepPlan(trial.basis, blocks[0], tuple(blocks[1:]), limit, trial.spread)
    return replace(exact, sweeps=sweeps)


def _share_out(
    trials: Mapping[int, tuple[_Trial, ...]], tolerance: float, num_pairs: int
) -> dict[int, tuple[_Trial, int]]:
    """For every ``j`` the cheaper trial and its number of probes."""
    chosen = {j: min(options, key=lambda t: t.variance * t.cost) for j, options in trials.items()}
    result: dict[int, tuple[_Trial, int]] = {}
    for _ in range(2):  # the basis is paid for in rows, so the choice depends on the number of probes
        total = sum(float(np.sqrt(t.variance / 4 * t.cost)) for t in chosen.values())
        scale = SAFETY * total / (tolerance**2 * max(1, num_pairs))
        counts = {
            j: [max(LEAST_PROBES, int(np.ceil(scale * np.sqrt(t.variance / 4 / t.cost)))) for t in options]
            for j, options in trials.items()
        }
        result = {}
        for j, options in trials.items():
            best = min(range(len(options)), key=lambda k: len(options[k].basis) + counts[j][k])
            result[j] = options[best], counts[j][best]
        chosen = {j: trial for j, (trial, _) in result.items()}
    return result


def _trials(
    pilot: Linearisation, layer: MeasuredLayer, low: Mapping[int, str], structure: Structure, seed: int
) -> tuple[_Trial, ...]:
    like = pilot.values[layer.node]
    cost = sum(pilot.architecture.propagation.flops[name] for name in _between(structure, layer, low)) + 1.0
    found = []
    for basis in (like.new_zeros(0, layer.num_units), _leading_directions(pilot, layer, low, seed)):
        rows = _probes(layer, basis, PILOT_PROBES, seed, "pilot")
        fixed = dict.fromkeys(low, torch.zeros(len(pilot), dtype=torch.float64, device=like.device))
        if len(basis):
            for squares in row_squares(pilot, layer, basis, low, structure.layers):
                fixed[squares.index] = squares.totals.sum(0)
        spread: dict[int, float] = {}
        for squares in row_squares(pilot, layer, rows, low, structure.layers):
            square = fixed[squares.index] + squares.totals.mean(0)
            relative = squares.totals.var(0) / square.square()
            spread[squares.index] = float(torch.nan_to_num(relative).mean())
        found.append(_Trial(basis, spread, cost))
    return tuple(found)


def _between(structure: Structure, layer: MeasuredLayer, low: Mapping[int, str]) -> list[str]:
    """Nodes that a sweep from ``layer`` crosses."""
    started = {name for node in low.values() for name in structure.reaches[node]}
    return [name for name in started if layer.node in structure.reaches[name] or name == layer.node]


def _leading_directions(pilot: Linearisation, layer: MeasuredLayer, low: Mapping[int, str], seed: int) -> Tensor:
    """``[BASIS_SIZE, units of x^j]``: orthonormal, spanning most of what random tangents at the ``x^i`` become."""
    images = []
    each = max(1, 4 * BASIS_SIZE // (len(pilot) * len(low)) + 1)
    for i, node in low.items():
        value = pilot.values[node]
        noise = stream(seed, f"tangents {i} to {layer.index}").standard_normal((each, *value.shape), dtype=np.float32)
        tangents = torch.from_numpy(noise).to(value)
        pushed = pilot.push(node, tangents, [layer.node]).get(layer.node)
        if pushed is not None:
            flat = pushed.expand(-1, len(pilot), *pushed.shape[2:]).reshape(-1, layer.num_units)
            images.append(flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True).clamp(min=1e-30))
    stacked = torch.cat(images)
    # Leading right singular vectors through the small Gram matrix of the images.
    _, vectors = torch.linalg.eigh((stacked @ stacked.T).double())
    top = vectors[:, -BASIS_SIZE:].to(stacked)
    basis, _ = torch.linalg.qr((stacked.T @ top).double())
    found: Tensor = basis.T.to(stacked).contiguous()
    return found


def _probes(layer: MeasuredLayer, basis: Tensor, count: int, seed: int, purpose: str) -> Tensor:
    """``[count, units]`` random signs without their part along ``basis``."""
    bits = stream(seed, f"probes of layer {layer.index}, {purpose}").integers(0, 2, (count, layer.num_units), np.int8)
    signs = (2 * torch.from_numpy(bits) - 1).to(basis)
    return signs - (signs @ basis.T) @ basis if len(basis) else signs
