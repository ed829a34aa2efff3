"""Noise sensitivity (Arora 2018 Def. 3): how much more a map amplifies Gaussian noise than its own input.

``psi(M, x) = E ||M(x + eta ||x||) - M(x)||^2 / ||M(x)||^2`` with ``eta ~ N(0, I)``. For a matrix it is exactly
``||M||_F^2 ||x||^2 / ||M x||^2`` (Prop. 3.1); else it is the mean of a few draws, with the standard error of that mean.

``||M x|| / ||x|| <= sigma_max``, and ``||M eta|| / ||eta||`` concentrates at ``||M||_F / sqrt(n)``, ``n`` the input
width (the notes of 2019 print ``>=``: docs/theory.md erratum 5). The noise has norm about ``sqrt(n) ||x||``: it is far
larger than the input, so for a network this is NOT a statement about small perturbations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bitcert.errors import InputError
from bitcert.network.nodes import INPUT
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.noise import noise_like
from bitcert.stability.replay import norms, portions, replay
from bitcert.stability.settings import BatchContext, MeasureSettings


@dataclass(frozen=True, eq=False)
class SensitivityEstimate:
    """Monte Carlo noise sensitivity of each example: the mean over the draws and its standard error, both ``[B]``."""

    value: Tensor
    error: Tensor


def estimate_noise_sensitivity(function: Callable[[Tensor], Tensor], x: Tensor, noise: Tensor) -> SensitivityEstimate:
    """Noise sensitivity of ``function`` at every row of ``x``, by Monte Carlo.

    Args:
        function: maps ``[R, B, ...]`` to ``[R, B, ...]``, every example by itself.
        x: ``[B, ...]``.
        noise: ``[R, B, ...]`` draws of N(0, I), at least two; they are scaled by ``||x||`` here.

    Returns:
        Mean and standard error; NaN where ``x = 0``, infinity where only the image of ``x`` is 0.

    Raises:
        InputError: fewer than two draws, which have no standard error.
    """
    if len(noise) < 2:
        raise InputError("at least two draws of noise", str(len(noise)), "raise sensitivity_draws")
    clean = function(x[None])[0]
    length = norms(x, 1)
    scaled = noise * length.reshape(-1, *[1] * (x.dim() - 1))
    moved = [norms(function(x + scaled[part]) - clean, 2) for part in portions(len(noise), len(x))]
    squares, size = torch.cat(moved).square(), torch.where(length == 0, torch.nan, norms(clean, 1)).square()
    error = squares.std(0) / len(noise) ** 0.5 / size
    return SensitivityEstimate(squares.mean(0) / size, torch.where(size == 0, torch.nan, error))


def noise_sensitivity(context: BatchContext, settings: MeasureSettings) -> dict[str, Tensor]:
    """``noise_sensitivity`` and ``noise_sensitivity_error`` ``[B, d + 1]`` of the map to the output from ``x^i``.

    Column 0 is the network at its input, column ``i`` the map from layer ``i``'s value (for the last layer the
    identity, whose sensitivity is the number of classes). Only ``sensitivity_samples`` examples, spread evenly over
    the sample, are measured; NaN for the others, for token inputs and for layers that do not reach the output.
    """
    sources = (INPUT, *context.structure.nodes)
    output = context.architecture.output
    shape = (len(context.index), len(sources))
    value, error = (context.values[output].new_full(shape, torch.nan) for _ in range(2))
    rows = torch.nonzero(context.among(settings.sensitivity_samples))[:, 0]
    if len(rows):
        clean, index, rows = _chosen(context, rows), context.index[rows], rows.to(value.device)
        for column, source in enumerate(sources):
            x = clean.values[source]
            if not x.is_floating_point() or (source != output and output not in context.structure.reaches[source]):
                continue
            purpose = f"measure/sensitivity/{column}"
            noise = noise_like(x, settings.sensitivity_draws, settings.seed, purpose, index)
            found = estimate_noise_sensitivity(_map_from(clean, source), x, noise)
            value[rows, column], error[rows, column] = found.value, found.error
    return {"noise_sensitivity": value, "noise_sensitivity_error": error}


def _map_from(clean: Linearisation, source: str) -> Callable[[Tensor], Tensor]:
    output = clean.architecture.output
    return lambda perturbed: dict(replay(clean, source, perturbed, (output,)))[output]


def _chosen(context: BatchContext, rows: Tensor) -> Linearisation:
    """The clean pass of some examples of the batch."""
    if len(rows) == len(context.index):
        return context.linearisation
    x = context.values[INPUT]
    return Linearisation(context.architecture, context.parameters, x[rows.to(x.device)], innermost=False)
