"""Matrix-Project as the papers write it: every sign array stored, sums and solutions in float64."""

import numpy as np
from scipy.linalg import hadamard

from bitcert.decoder.transforms.hadamard import diagonal, distinct_rows, padded_size, rows_with_replacement
from bitcert.decoder.transforms.normal import UNIT, variance
from bitcert.decoder.transforms.signs import BLOCK, block_indices


def sign_array(draws, number, size):
    """One array ``M_number`` (from 0), ``[size]`` of ±1."""
    bits = block_indices(draws, number // BLOCK, size) >> (number % BLOCK) & 1
    return 2 * bits.astype(np.int64) - 1


def sign_arrays(draws, count, size):
    return np.stack([sign_array(draws, j, size) for j in range(count)]).astype(np.float64)


def hadamard_arrays(draws, count, size, distinct):
    full = padded_size(size)
    rows = (distinct_rows if distinct else rows_with_replacement)(draws, count, full)
    return hadamard(full)[rows] * diagonal(draws, full), full


def average(arrays, coefficients):
    return arrays.T @ coefficients / len(arrays)


def least_norm(arrays, coefficients):
    return np.linalg.lstsq(arrays, coefficients, rcond=None)[0]


def location_filters(draws, count, copies, size, positions, coefficients):
    """Alg. 4: an orthonormal basis of the subspace, Gaussian tensors in it, one estimate for each location."""
    arrays, full = hadamard_arrays(draws, count * copies, size, distinct=True)
    basis = arrays / np.sqrt(full)
    coordinates = coefficients / np.sqrt(full)
    found = []
    for location in range(positions):
        numbers = draws.normal(f"location/{location}", count * count * copies).reshape(count, -1) * UNIT
        tensors = numbers / np.sqrt(variance()) @ basis
        products = tensors @ (basis.T @ coordinates)
        found.append(full / (count * copies) * (tensors.T @ products / count)[:size])
    return np.stack(found)
