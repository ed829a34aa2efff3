"""What the theories of pruning share: exact rows of coded layers, and the conditions of Guha's perturbation lemmas.

Lemma B.2 (after Neyshabur et al. 2017) needs ``||A^l - A~^l||_2 <= ||A^l||_2 / L`` in every layer of a chain of dense
layers without biases and with 1-Lipschitz activations that map 0 to 0. Norms here are exact (largest singular value of
the matrix ``[out, in * kernel]``); for a convolution that is not the norm of the map on images. Measures, no guarantee.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bitcert.codecs.base import Layer, LayerCodec, network_layers
from bitcert.data import Sample
from bitcert.decoder import Helper
from bitcert.decoder.tensors import Base
from bitcert.decoder.transforms.base import Coefficients
from bitcert.errors import InputError
from bitcert.network import Network
from bitcert.theory.formulas.pruning_theory import naive_bits, output_bound
from bitcert.theory.prediction import Condition, LayerTheory

_TRANSPARENT = frozenset({"linear", "relu", "reshape", "max_pool1d", "max_pool2d", "abs", "tanh", "dropout"})
"""1-Lipschitz in the l2 norm with 0 -> 0 (max pooling without overlap), or linear layers themselves."""

NOTES = (
    "errata 7 (d^(3/2); eq. 9-11 is the keep-probability), 8 (max ||x||_2 for the input's dimension) and 10 (alpha is "
    "the number kept)",
    "C of Lemma 4.2 is Latala's unknown constant; 1 is used unless given",
    "with C = 1 and epsilon > L, Gaussian layers meet ||Delta|| <= ||A|| / L only for d < 2 / (L^(8/3) - 1)",
    "the norm of a convolution is that of its kernel as a matrix [out, in * kernel], not of the map on images",
    "Lemma 4.1's moments are those of entries off the diagonal, which is never pruned",
)


def layer_matrix(layer: Layer) -> NDArray[np.float64]:
    """The layer's values as a matrix ``[out, rest]``."""
    return layer.values.reshape(layer.target.matrix_shape)


def spectral_norm(matrix: NDArray[np.float64]) -> float:
    """The largest singular value; 0 without entries."""
    return float(np.linalg.norm(matrix, 2)) if matrix.size else 0.0


def bare_helper(network: Network, codec: LayerCodec) -> Helper:
    """A helper for reading a network's layers.

    Raises:
        InputError: the codec's base is a file, which only a helper of one's own holds.
    """
    if codec.selection.base is Base.FILE:
        raise InputError("a base without a file", "initial weights of a helper", "ask for the theory of another base")
    architecture = network.architecture
    return Helper(architecture.input_shape, architecture.num_outputs, predictor=architecture)


def compressed_layers(network: Network, helper: Helper, codec: LayerCodec) -> tuple[Layer, ...]:
    """The weight layers that a codec compresses, in order."""
    chosen = codec.selection.layers
    layers = network_layers(network, helper, codec.selection)
    return tuple(layer for layer in layers if layer.index and (not chosen or layer.target.name in chosen))


def exact_row(layer: Layer, coefficients: Coefficients) -> LayerTheory:
    """The counts and exact norms of one coded layer."""
    matrix, integers = layer_matrix(layer), coefficients.integers
    num_kept = int(np.count_nonzero(integers))
    num_values = int(integers.max(initial=0)) - int(integers.min(initial=0)) + 1
    change = spectral_norm(matrix - coefficients.values.reshape(matrix.shape))
    details = {
        "nnz": float(num_kept),
        "alphabet": float(num_values),
        "naive_bits": naive_bits(integers.size, num_kept, num_values),
        "norm": spectral_norm(matrix),
        "change": change,
    }
    return LayerTheory(layer.target.name, integers.size, float(num_kept), change, details)


def output_error(network: Network, sample: Sample | None, rows: tuple[LayerTheory, ...], change: str) -> float | None:
    """Lemma B.2's bound with the changes that the rows call ``change``; ``None`` without a sample or all layers."""
    if sample is None or not rows or len(rows) != len(network.weight_layers):
        return None
    largest = max(float(np.linalg.norm(x.reshape(len(x), -1), axis=1).max()) for x, _ in sample.batches(1024))
    norms = tuple(row.details["norm"] for row in rows)
    return output_bound(largest, norms, tuple(row.details[change] for row in rows))


def small_changes(rows: tuple[LayerTheory, ...], change: str, depth: int) -> Condition:
    """Whether every ``||Delta^l||`` (the rows' ``change``) is at most ``||A^l|| / L``, but for rounding."""
    failing = [row.layer for row in rows if row.details[change] * depth > row.details["norm"] * (1 + 1e-9)]
    detail = f"not in {', '.join(failing)}" if failing else f"L = {depth}"
    return Condition("||A^l - A~^l||_2 <= ||A^l||_2 / L in every layer", not failing, detail)


def gaussian_entries(rows: tuple[LayerTheory, ...]) -> Condition:
    """Assumption 3.1, as far as the kurtosis can refuse it."""
    far = [f"{row.layer} {row.details['kurtosis']:.1f}" for row in rows if abs(row.details["kurtosis"] - 3) > 0.5]
    detail = f"kurtosis 3 is normal; {', '.join(far)}" if far else "every kurtosis is within 0.5 of 3"
    return Condition("entries are N(0, Psi)", False if far else None, detail)


def structure_conditions(network: Network) -> tuple[Condition, ...]:
    """What the perturbation lemma asks of the network: dense layers in a chain, no biases, 1-Lipschitz activations."""
    operations = {node.op for node in network.architecture.nodes}
    biases = sum(layer.bias is not None for layer in network.weight_layers)
    others = sorted(operations - _TRANSPARENT - {"parameter", "input"})
    return (
        Condition("dense layers and 1-Lipschitz activations only", not others, ", ".join(others) or "yes"),
        Condition("no biases", biases == 0, f"{biases} layers have one"),
    )
