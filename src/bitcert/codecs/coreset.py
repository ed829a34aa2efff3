"""Coreset pruning: few sampled inputs of every unit, weighted so that the unit's output is unbiased.

Mussay et al. 2019 ("Data-independent neural pruning via coresets") prune a neuron by sampling its inputs with
probabilities proportional to their sensitivity. Without the data the sensitivity of input ``j`` of a unit with weights
``w`` is ``|w_j| / sum |w|``, so with ``k`` draws

    w_hat_j = sign(w_j) (sum |w| / k) n_j,        (n_j) multinomial of k and |w_j| / sum |w|,

and ``E w_hat = w``. What is left is ``k`` small whole numbers a unit times one scale, which is rounded with the rest.
The draws are the encoder's (a named stream of the selection's seed) and the support is coded, so the decoder needs no
randomness. NOT promised: any error of the network; an unbiased layer under a nonlinearity is no unbiased network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitcert.codecs.base import Layer, LayerCodec
from bitcert.codecs.magnitude_pruning import exact_row
from bitcert.data import Sample
from bitcert.decoder.tensors import TensorCode
from bitcert.decoder.transforms.base import Values
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.random import stream
from bitcert.theory.value import Theory


@dataclass(frozen=True, kw_only=True)
class Coreset(LayerCodec):
    """Sampled weights of every output unit.

    Args:
        keep: draws of a unit, as a share of its inputs, above 0 and at most 1; fewer weights are left, since some are
            drawn twice.

    >>> Coreset(keep=0.1).label
    'coreset 0.1'
    """

    name: ClassVar[str] = "coreset"

    keep: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError("a share to keep above 0 and at most 1", repr(self.keep), "use e.g. 0.1")

    @property
    def label(self) -> str:
        """The share."""
        return f"{self.name} {self.keep:g}"

    def code_layer(self, layer: Layer) -> TensorCode:
        """Sample each output unit of a layer."""
        rng = stream(self.selection.seed, f"coreset/{layer.target.name}")
        return layer.code("identity", (), self.quantiser(sample_units(layer.values, self.keep, rng)))

    def theory(self, network: Network, sample: Sample | None = None) -> Theory:
        """The numbers that are left, and how far each layer moves."""
        del sample
        rows = tuple(exact_row(own, self.code_layer(own).coefficients[0]) for own in self.compressed_layers(network))
        return Theory(
            source="Mussay et al. 2019 (named by Guha 2023, section 8)",
            statement="E w_hat = w for every unit; Guha's Lemma D.1 counts the bits of what is left",
            parameters=sum(row.parameters for row in rows),
            error_means="none is given for the network",
            layers=rows,
            notes=("sensitivities are those without data: |w_j| / sum |w|",),
        )


def sample_units(values: Values, keep: float, rng: np.random.Generator) -> Values:
    """``w_hat`` of every output unit (first axis); a unit of zeros stays.

    >>> kept = sample_units(np.array([[1.0, -1.0, 0.0, 2.0]]), 1.0, np.random.default_rng(0))
    >>> float(np.abs(kept).sum())
    4.0
    """
    rows = values.reshape(len(values), -1)
    found = np.zeros_like(rows)
    draws = max(1, round(keep * rows.shape[1]))
    for row, out in zip(rows, found, strict=True):
        total = float(np.abs(row).sum())
        if total > 0:
            counts = rng.multinomial(draws, np.abs(row) / total)
            out[:] = np.sign(row) * counts * (total / draws)
    return found.reshape(values.shape)
