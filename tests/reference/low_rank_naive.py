"""The message of ``bitcert.theory.formulas.low_rank_code``, written and read bit by bit, and its search by force."""

import math

import numpy as np

from bitcert.coding import BitWriter
from bitcert.coding.bitstream import BitReader


def write_layer(bits, matrix, form):
    """Append ``matrix`` in this form; an entry that does not fit in its width is a ValueError."""
    bits.elias_delta(1 if form.rank is None else 2 + form.rank)
    if form.rank == 0:
        return
    bits.signed(form.exponent)
    bits.elias_gamma(form.width)
    for part in _parts(matrix, form.rank):
        for value in part.ravel():
            number = int(np.rint(value / 2.0**form.exponent))
            bits.binary(number + 2 ** (form.width - 1), form.width)


def _parts(matrix, rank):
    if rank is None:
        return [matrix]
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank])
    return [u[:, :rank] * root, root[:, None] * v[:rank]]


def read_layer(bits, shape):
    """The decoder: shapes are all that it knows."""
    tag = bits.elias_delta()
    if tag == 2:
        return np.zeros(shape)
    exponent, width = bits.signed(), bits.elias_gamma()

    def part(rows, columns):
        numbers = [bits.binary(width) - 2 ** (width - 1) for _ in range(rows * columns)]
        return np.array(numbers, np.float64).reshape(rows, columns) * 2.0**exponent

    if tag == 1:
        return part(*shape)
    left = part(shape[0], tag - 2)
    return left @ part(tag - 2, shape[1])


def message(matrices, forms):
    """The bits of a network without parameters that are sent exactly."""
    bits = BitWriter()
    for matrix, form in zip(matrices, forms, strict=True):
        write_layer(bits, matrix, form)
    return bits


def decoded(bits, shapes):
    """The matrices, and the position after the last bit that was read."""
    reader = BitReader(bits.to_bytes())
    return [read_layer(reader, shape) for shape in shapes], reader.position


def fewest_bits(matrix, error):
    """Over every rank and the largest step that the error bound allows, by trying."""
    rows, columns = matrix.shape
    sigma = np.linalg.svd(matrix, compute_uv=False)
    if sigma[0] <= error:
        return delta(2)
    lengths = []
    for exponent in range(-60, 10):
        step = 2.0**exponent
        if step / 2 * math.sqrt(rows * columns) <= error:
            lengths.append(delta(1) + entries(exponent, np.abs(matrix).max(), rows * columns))
        for rank in range(1, len(sigma) + 1):
            left, right = step / 2 * math.sqrt(rows * rank), step / 2 * math.sqrt(rank * columns)
            root = math.sqrt(sigma[0])
            cut = sigma[rank] if rank < len(sigma) else 0.0
            if cut + left * (root + right) + root * right <= error:
                lengths.append(delta(2 + rank) + entries(exponent, root, rank * (rows + columns)))
    return min(lengths)


def entries(exponent, limit, count):
    """Length of exponent, width and ``count`` entries of size at most ``limit``."""
    width = 1 + math.floor(limit / 2.0**exponent + 0.5).bit_length()
    header = BitWriter()
    header.signed(exponent)
    header.elias_gamma(width)
    return len(header) + count * width


def delta(value):
    """Length of an Elias delta code, by writing it."""
    bits = BitWriter()
    bits.elias_delta(value)
    return len(bits)
