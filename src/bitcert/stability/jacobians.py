"""``‖J^{i,j}‖_F`` of every connected pair of layers, for every example; interlayer cushion and spread with it.

For each ``j`` one backward sweep of rows from ``x^j`` serves all ``i < j`` (shared reverse accumulation): exactly, with
every unit of ``x^j`` as a row; or estimated (:mod:`bitcert.stability.estimates`), with

    ``‖J‖_F² = ‖V J‖_F² + E‖z (I − VᵀV) J‖²``,

``V`` an orthonormal basis shared by all examples and ``z`` random signs. The first term is exact, the second a mean
over probes: unbiased for every example, with a standard error from the spread of the probes. Pairs of neighbours need
no sweep at all (:mod:`bitcert.stability.adjacent`). Estimates explain; no certificate depends on them.

Interlayer cushion ``μ_{i,j} = √(n1 n2) ‖J x^i‖ / (‖J‖_F ‖x^i‖)`` (Arora 2018, Def. 5; Def. 8 with the number of
positions ``n1 n2``, 1 for a dense layer) takes ``J x^i`` from one forward sweep per ``i``. The error of an estimated
norm carries over: the relative standard error of a cushion is that of its norm. Examples share their probes, so their
errors are correlated. A dead ``x^i`` or a Jacobian that is zero at an example gives NaN. The spread
``√(n1 n2) max_{a,b} ‖J_{:,a,b,…}‖_F / ‖J‖_F`` is the ``β`` of Def. 9; when estimated it is the largest of several noisy
values and errs upwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from scipy.special import stdtrit
from torch import Tensor

from bitcert.network import Architecture
from bitcert.stability.adjacent import adjacent_columns, adjacent_pairs
from bitcert.stability.layers import MeasuredLayer, Structure
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.replay import norms
from bitcert.stability.settings import BatchContext, MeasureSettings

CHUNK_ELEMENTS = 1 << 22
"""Entries of the largest tensor of one sweep; rows are taken in chunks of that size."""

PILOT_FREEDOM = 16
"""Degrees of freedom that the pilot's spread of a probe counts for beside the example's own."""

COVERAGE = 0.9545
"""How often two standard errors are to hold: as for a normal variable, however few the probes."""


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """How the rows of one ``j`` are taken.

    Attributes:
        basis: ``[k, units of x^j]`` orthonormal rows ``V``, the part taken exactly.
        probes: ``[P, units of x^j]`` random signs with their part along ``V`` removed.
        more: further blocks of probes for examples whose error stays above ``limit``.
        limit: largest mean (over ``i``) squared relative standard error of an example's norms.
        spread: for every ``i`` the variance of one probe's square relative to ``‖J‖_F⁴``, as the pilot saw it.
        exact: all units instead; the others are then empty.
    """

    basis: Tensor
    probes: Tensor
    more: tuple[Tensor, ...] = ()
    limit: float = float("inf")
    spread: Mapping[int, float] = field(default_factory=dict)
    exact: bool = False


@dataclass(frozen=True, eq=False)
class JacobianPlan:
    """What is swept for every ``j``, and which pairs need no sweep.

    Attributes:
        adjacent: pairs taken from column norms.
        sweeps: plan for every ``j`` that has other pairs.
    """

    structure: Structure
    adjacent: frozenset[tuple[int, int]]
    sweeps: Mapping[int, SweepPlan]

    @classmethod
    def exact(cls, architecture: Architecture, structure: Structure, like: Tensor) -> JacobianPlan:
        """Every unit of every layer as a row; ``like`` gives dtype and device."""
        adjacent = adjacent_pairs(architecture, structure)
        needed = {j for i, j in structure.pairs if (i, j) not in adjacent}
        empty = like.new_zeros(0, 0)
        return cls(structure, adjacent, {j: SweepPlan(empty, empty, exact=True) for j in sorted(needed)})

    def low_layers(self, j: int, adjacent: bool) -> dict[int, str]:
        """Node of every ``i`` whose pair with ``j`` is (or is not) adjacent."""
        chosen = [i for i, high in self.structure.pairs if high == j and ((i, j) in self.adjacent) == adjacent]
        return {i: self.structure.layers[i - 1].node for i in chosen}


@dataclass(frozen=True)
class JacobianNorms:
    """Norms of one batch; columns in the order of ``structure.pairs``.

    Attributes:
        norm: ``‖J‖_F``, ``[B, pairs]``.
        error: its standard error, 0 where exact, ``[B, pairs]``.
        spread: ``β`` of Def. 9, ``[B, pairs]``; 1 where ``x^i`` has one position.
    """

    norm: Tensor
    error: Tensor
    spread: Tensor


@dataclass
class _Sums:
    """Squared norms of one pair: the exact part, and first and second moments of the probes."""

    fixed: Tensor
    places: Tensor
    prior: float = 0.0
    probe_sum: Tensor = field(init=False)
    probe_squares: Tensor = field(init=False)
    probe_places: Tensor = field(init=False)
    count: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.probe_sum, self.probe_squares = torch.zeros_like(self.fixed), torch.zeros_like(self.fixed)
        self.probe_places, self.count = torch.zeros_like(self.places), torch.zeros_like(self.fixed)

    def square(self) -> Tensor:
        return self.fixed + self.probe_sum / self.count.clamp(min=1)

    def error(self) -> Tensor:
        """Standard error of :meth:`square`.

        The spread of a probe is told by the example's own probes and by the pilot, weighed by degrees of freedom (few
        probes alone say too little, and what they say is low where the mean is low), and enlarged by Student's factor.
        """
        n = self.count.clamp(min=1)
        own = (self.probe_squares - self.probe_sum.square() / n).clamp(min=0)
        freedom = n - 1 + PILOT_FREEDOM
        variance = (own + PILOT_FREEDOM * self.prior * self.square().square()) / freedom
        factor = torch.from_numpy(stdtrit(freedom.cpu().numpy(), COVERAGE / 2 + 0.5) / 2).to(n)
        return torch.where(self.count > 0, factor * (variance / n).sqrt(), torch.zeros_like(n))

    def relative_variance(self) -> Tensor:
        """Squared relative standard error of the norm, ``[B]``: half the relative error of the square, squared."""
        return (self.error() / (2 * self.square()).clamp(min=torch.finfo(torch.float64).tiny)).square()

    def spread(self) -> Tensor:
        places = self.places + self.probe_places / self.count.clamp(min=1)[:, None]
        total = places.sum(1)
        return (places.shape[1] * places.amax(1) / total).sqrt()


def jacobian_norms(linearisation: Linearisation, plan: JacobianPlan) -> JacobianNorms:
    """Norms, standard errors and spreads of every pair at this batch."""
    columns: dict[tuple[int, int], _Sums] = {}
    for layer in plan.structure.layers:
        near = plan.low_layers(layer.index, adjacent=True)
        if near:
            for i, columns_of in adjacent_columns(layer, near, linearisation).items():
                squares = _squares(columns_of[None], plan.structure.layers[i - 1], len(linearisation))
                columns[i, layer.index] = _Sums(squares.totals[0], squares.places)
        far = plan.low_layers(layer.index, adjacent=False)
        if far:
            found = _sweep_sums(linearisation, layer, far, plan)
            columns |= {(i, layer.index): sums for i, sums in found.items()}
    ordered = [columns[pair] for pair in plan.structure.pairs]
    if not ordered:
        empty = torch.zeros(len(linearisation), 0, dtype=torch.float64)
        return JacobianNorms(empty, empty, empty)
    total = torch.stack([sums.square() for sums in ordered], 1).sqrt()
    errors = torch.stack([sums.error() for sums in ordered], 1) / (2 * total)
    return JacobianNorms(total, torch.nan_to_num(errors), torch.stack([sums.spread() for sums in ordered], 1))


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


@dataclass(frozen=True)
class RowSquares:
    """Squared norms of some rows of ``J^{i,j}``.

    Attributes:
        index: ``i``.
        totals: ``‖row J‖²`` for every row and example, ``[R, B]`` float64.
        places: summed over rows and channels, by position of ``x^i``, ``[B, positions]`` float64.
    """

    index: int
    totals: Tensor
    places: Tensor


def _rows_innermost(moved: Tensor) -> Tensor:
    """``[R, B, *shape]`` -> ``[R, B, units]`` in the order of memory, so that nothing is copied."""
    if moved.dim() == 5 and moved.shape[2] > 1 and moved.stride(2) == 1:
        moved = moved.permute(0, 1, 3, 4, 2)
    return moved.flatten(2)


def _squares(moved: Tensor, layer: MeasuredLayer, batch: int) -> RowSquares:
    totals = torch.linalg.vector_norm(_rows_innermost(moved), dim=2).double().square().expand(-1, batch)
    if layer.positions == 1:
        return RowSquares(layer.index, totals, totals.sum(0)[:, None])
    summed = torch.zeros_like(moved[0])
    for row in moved:
        summed.addcmul_(row, row)
    places = summed.sum(layer.channel_axis).double().flatten(1).expand(batch, -1)
    return RowSquares(layer.index, totals, places)


def row_squares(
    linearisation: Linearisation,
    layer: MeasuredLayer,
    rows: Tensor,
    low: Mapping[int, str],
    layers: tuple[MeasuredLayer, ...],
) -> Iterator[RowSquares]:
    """Squared norms of ``rows J^{i,j}`` for every ``i``, from one sweep.

    Args:
        linearisation: the batch.
        layer: layer ``j``.
        rows: ``[R, units of x^j]``, the same for every example.
        low: node of every ``i`` by its index.
        layers: all layers of the structure.
    """
    names = {node: i for i, node in low.items()}
    cotangents = rows.reshape(len(rows), 1, *linearisation.values[layer.node].shape[1:])
    for name, moved in linearisation.sweep(layer.node, cotangents, names):
        yield _squares(moved, layers[names[name] - 1], len(linearisation))


def _chunk_size(linearisation: Linearisation) -> int:
    largest = max(value[0].numel() for value in linearisation.values.values())
    return max(1, CHUNK_ELEMENTS // (largest * len(linearisation)))


def _all_units(layer: MeasuredLayer, like: Tensor, size: int) -> Iterator[Tensor]:
    """Rows of the identity, ``size`` at a time."""
    for start in range(0, layer.num_units, size):
        count = min(size, layer.num_units - start)
        rows = like.new_zeros(count, layer.num_units)
        rows[torch.arange(count), start + torch.arange(count)] = 1.0
        yield rows


def _sweep_sums(
    linearisation: Linearisation, layer: MeasuredLayer, low: Mapping[int, str], plan: JacobianPlan
) -> dict[int, _Sums]:
    layers, sweep = plan.structure.layers, plan.sweeps[layer.index]
    like = linearisation.values[layer.node]
    batch = len(linearisation)
    sums = {
        i: _Sums(
            torch.zeros(batch, dtype=torch.float64, device=like.device),
            torch.zeros(batch, layers[i - 1].positions, dtype=torch.float64, device=like.device),
            sweep.spread.get(i, 0.0),
        )
        for i in low
    }
    size = _chunk_size(linearisation)
    fixed = _all_units(layer, like, size) if sweep.exact else torch.split(sweep.basis, size)
    for rows in fixed if sweep.exact or len(sweep.basis) else ():
        for squares in row_squares(linearisation, layer, rows, low, layers):
            sums[squares.index].fixed += squares.totals.sum(0)
            sums[squares.index].places += squares.places
    if sweep.exact:
        return sums
    everyone = torch.arange(batch)
    _add_probes(linearisation, layer, sweep.probes, low, (sums, everyone, layers))
    for block in sweep.more:
        variance = torch.stack([one.relative_variance() for one in sums.values()]).mean(0)
        unsure = torch.nonzero(variance > sweep.limit).flatten()
        if not len(unsure):
            break
        _add_probes(linearisation.take(unsure), layer, block, low, (sums, unsure, layers))
    return sums


def _add_probes(
    linearisation: Linearisation,
    layer: MeasuredLayer,
    probes: Tensor,
    low: Mapping[int, str],
    into: tuple[dict[int, _Sums], Tensor, tuple[MeasuredLayer, ...]],
) -> None:
    sums, where, layers = into
    for rows in torch.split(probes, _chunk_size(linearisation)):
        for squares in row_squares(linearisation, layer, rows, low, layers):
            one = sums[squares.index]
            one.probe_sum[where] += squares.totals.sum(0)
            one.probe_squares[where] += squares.totals.square().sum(0)
            one.probe_places[where] += squares.places
            one.count[where] += len(rows)
