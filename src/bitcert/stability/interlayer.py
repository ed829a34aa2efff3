"""Interlayer cushion of every connected pair of layers and every example, with what it is made of.

``mu_{i,j} = sqrt(n1_i n2_i) ||J^{i,j} x^i|| / (||J^{i,j}||_F ||x^i||)`` (Arora 2018 Def. 5; Def. 8 with the number of
positions ``n1 n2``, 1 for a dense layer). ``J x^i`` comes from one forward sweep per ``i``, the Frobenius norms from
:mod:`bitcert.stability.jacobians`. The error of an estimated norm carries over: the relative standard error of a
cushion is that of its norm. Examples share their probes, so their errors are correlated. A dead ``x^i`` or a Jacobian
that is zero at an example gives NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bitcert.stability.estimates import plan_jacobians
from bitcert.stability.jacobians import JacobianPlan, jacobian_norms
from bitcert.stability.layers import Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.replay import norms

if TYPE_CHECKING:
    from bitcert.stability.settings import BatchContext, MeasureSettings


def prepare_jacobians(pilot: Linearisation, structure: Structure, settings: MeasureSettings) -> JacobianPlan:
    """Which rows are swept, the same for all batches: all of them, or as the pilot examples suggest."""
    if settings.exact:
        return JacobianPlan.exact(pilot.architecture, structure, next(iter(pilot.parameters.values())))
    return plan_jacobians(pilot, structure, settings.tolerance, settings.seed)


def interlayer(context: BatchContext, settings: MeasureSettings, plan: JacobianPlan) -> dict[str, Tensor]:
    """``jacobian_norm``, ``jacobian_error``, ``interlayer_cushion`` and ``jacobian_spread``, each ``[B, pairs]``."""
    found = jacobian_norms(context.linearisation, plan)
    images = _images(context)
    places = torch.tensor([context.structure.layers[i - 1].positions for i, _ in context.structure.pairs])
    cushion = places.to(found.norm).sqrt() * images / found.norm
    return {
        "jacobian_norm": found.norm,
        "jacobian_error": found.error,
        "interlayer_cushion": torch.where(found.norm > 0, cushion, torch.nan),
        "jacobian_spread": found.spread,
    }


def _images(context: BatchContext) -> Tensor:
    """``||J^{i,j} x^i|| / ||x^i||``, ``[B, pairs]`` float64."""
    structure, linearisation = context.structure, context.linearisation
    columns: dict[tuple[int, int], Tensor] = {}
    for layer in structure.layers:
        above = {structure.layers[j - 1].node: j for i, j in structure.pairs if i == layer.index}
        if not above:
            continue
        value = linearisation.values[layer.node]
        size = norms(value, 1).double()
        for node, pushed in linearisation.push(layer.node, value[None], above).items():
            columns[layer.index, above[node]] = norms(pushed[0], 1).double() / size
    if not columns:
        return torch.zeros(len(linearisation), 0, dtype=torch.float64)
    zero = torch.zeros(len(linearisation), dtype=torch.float64, device=next(iter(columns.values())).device)
    return torch.stack([columns.get(pair, zero) for pair in structure.pairs], 1)
