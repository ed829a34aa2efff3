"""Rows 1 and 2: Matrix-Project of a 784 x 784 layer with k = 20,000, by i.i.d. signs and by a Hadamard transform.

The yardstick is the loop that Algorithm 1 describes: draw each ``M_j`` with ``torch.randint``, take the inner product,
add the product to the sum. It draws every array once for both, in float32 without a detour; ours draws the signs twice,
once to encode and once to decode. The loop is linear in ``k``: it is timed over ``LOOP`` arrays and scaled. Beside it
stands the same loop tuned to work in place (``ratio_in_place``), the fastest form of it that we know.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from codec_row import Row, peak_mebibytes

from bitcert.codecs.quantiser import Uniform
from bitcert.decoder.transforms.base import Draws, Settings, Target, Transform, Values
from bitcert.decoder.transforms.hadamard import Hadamard, hadamard_coefficients
from bitcert.decoder.transforms.signs import AVERAGE, Signs, inner_products

SIZE, COUNT, LOOP = 784, 20_000, 400
_SETTINGS: Settings = (COUNT, AVERAGE)
_TARGET = Target("layer", (SIZE, SIZE), "weight")


def _layer() -> Values:
    return np.random.default_rng(0).standard_normal((SIZE, SIZE))


def _loop_seconds(weight: Values, in_place: bool) -> float:
    layer, generator = torch.from_numpy(weight.astype(np.float32)), torch.Generator().manual_seed(0)
    total = torch.zeros_like(layer)
    started = time.perf_counter()
    for _ in range(LOOP):
        bits = torch.randint(0, 2, layer.shape, generator=generator, dtype=torch.float32)
        if in_place:
            signs = bits.mul_(2).sub_(1)
            total.add_(signs, alpha=float((layer * signs).sum()))
        else:
            signs = 2 * bits - 1
            total += (layer * signs).sum() * signs
    return (time.perf_counter() - started) * COUNT / LOOP


def _round_trip(transform: Transform, encode: Callable[[Draws], Values], seed: int) -> tuple[Values, float, float]:
    """The decoded layer, seconds to encode and to decode."""
    draws, started = Draws(seed, "layer"), time.perf_counter()
    code = Uniform()(encode(draws))
    encoded = time.perf_counter()
    decoded = transform.expand(_TARGET, _SETTINGS, (code,), draws)
    return decoded, encoded - started, time.perf_counter() - encoded


def _signs(weight: Values) -> tuple[Values, float, float]:
    return _round_trip(Signs(), lambda draws: inner_products(draws, weight, COUNT), 0)


def _relative_error(decoded: Values, weight: Values) -> float:
    return float(np.sum((decoded - weight) ** 2) / np.sum(weight**2))


def signs_row() -> Row:
    """I.i.d. signs against the loop; at least 15 times faster, within 256 MiB."""
    weight, before = _layer(), peak_mebibytes()
    _, encode, decode = _signs(weight)
    memory = peak_mebibytes() - before
    loop, in_place = _loop_seconds(weight, False), _loop_seconds(weight, True)
    details = {
        "encode_s": encode,
        "decode_s": decode,
        "loop_s": loop,
        "in_place_loop_s": in_place,
        "ratio_in_place": in_place / (encode + decode),
        "loop_timed_over": LOOP,
        "peak_memory_growth_mib": memory,
        "memory_target_mib": 256,
        "memory_reached": memory <= 256,
        "threads": torch.get_num_threads(),
    }
    return Row(
        "Matrix-Project 784x784 k 20,000: i.i.d. signs against the loop",
        loop / (encode + decode),
        15,
        "x",
        details=details,
    )


def hadamard_row() -> Row:
    """The Hadamard variant against our i.i.d. signs; at least 20 times faster, with the same error law."""
    weight, seconds, errors = _layer(), [], []
    for seed in range(5):
        decoded, encode, decode = _round_trip(
            Hadamard(), lambda draws: hadamard_coefficients(draws, weight, COUNT, AVERAGE), seed
        )
        seconds.append(encode + decode)
        errors.append(_relative_error(decoded, weight))
    decoded, encode, decode = _signs(weight)
    details = {
        "signs_s": encode + decode,
        "hadamard_s": min(seconds),
        "hadamard_all_s": seconds,
        "signs_relative_squared_error": _relative_error(decoded, weight),
        "hadamard_relative_squared_error": float(np.mean(errors)),
        "derived_relative_squared_error": (SIZE * SIZE - 1) / COUNT,
        "threads": torch.get_num_threads(),
    }
    ratio = (encode + decode) / min(seconds)
    return Row("Matrix-Project 784x784 k 20,000: Hadamard against i.i.d. signs", ratio, 20, "x", details=details)
