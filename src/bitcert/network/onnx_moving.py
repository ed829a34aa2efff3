"""ONNX operators that move, cut, join or repeat entries in terms of torch; known whole numbers stay in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.network.onnx_call import Call, Unreadable, reads


def _sizes(call: Call, place: int, name: str = "shape") -> list[Any]:
    found = call.numbers(place, name)
    if found is None or len(found) > 8:
        raise Unreadable(f"no {name}")
    return found


@reads("Reshape")
def _reshape(call: Call) -> Any:
    value, shape, empty = call.input(0), _sizes(call, 1), call.attribute("allowzero", 0)
    if isinstance(value, np.ndarray):
        return value.reshape([int(size) for size in shape])
    if not empty:
        shape = [value.shape[k] if type(size) is int and size == 0 else size for k, size in enumerate(shape)]
    if call.batch is not None and shape and type(shape[0]) is int and shape[0] == call.batch[0]:
        shape[0] = call.batch[1]  # the batch size that the file was written for
    return value.reshape(shape)


@reads("Flatten")
def _flatten(call: Call) -> Tensor:
    x = call.tensor(0)
    axis = call.attribute("axis", 1)
    axis = axis % x.dim() if axis < 0 else axis
    if axis == 0 and call.batch is not None and call.batch[0] == 1:
        axis = 1  # the same in a file for single samples
    if axis != 1:
        raise Unreadable("flattening that joins the batch with other axes")
    return x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)


@reads("Transpose")
def _transpose(call: Call) -> Tensor:
    x = call.tensor(0)
    return x.permute(call.attribute("perm", tuple(reversed(range(x.dim())))))


@reads("Squeeze", "Unsqueeze")
def _squeeze(call: Call) -> Any:
    value = call.input(0)
    more = call.op == "Unsqueeze"
    given = call.numbers(1, "axes")
    if given is None:
        axes = [k for k, size in enumerate(value.shape) if type(size) is int and size == 1]
    else:
        ndim = len(value.shape) + (len(given) if more else 0)
        axes = sorted(int(axis) % max(1, ndim) for axis in given)
    for axis in axes if more else reversed(axes):
        if isinstance(value, np.ndarray):
            value = np.expand_dims(value, axis) if more else np.squeeze(value, axis)
        else:
            value = value.unsqueeze(axis) if more else value.squeeze(axis)
    return value


@reads("Concat")
def _concat(call: Call) -> Any:
    axis = call.attribute("axis", 1)
    if all(isinstance(value, np.ndarray) for value in call.inputs):
        return np.concatenate([np.atleast_1d(value) for value in call.inputs], axis)
    parts = [call.tensor(k) for k in range(len(call.inputs))]
    if axis % parts[0].dim():  # a part of one row, in a file for single samples
        single = [type(part.shape[0]) is int and part.shape[0] == 1 for part in parts]
        rows = next((part.shape[0] for part, one in zip(parts, single, strict=True) if not one), 1)
        parts = [part.expand(rows, *part.shape[1:]) if one else part for part, one in zip(parts, single, strict=True)]
    return torch.cat(parts, axis)


@reads("Split")
def _split(call: Call) -> list[Any]:
    x, axis = call.tensor(0), call.attribute("axis", 0)
    sizes = call.numbers(1, "split")
    if sizes is None:
        call.only(num_outputs=call.outputs)
        count, length = call.outputs, x.shape[axis]
        part = -(-length // count)
        sizes = [min(part, length - k * part) for k in range(count)]
    return list(torch.split(x, [int(size) for size in sizes], axis))


@reads("Slice")
def _slice(call: Call) -> Any:
    value = call.input(0)
    starts, ends = call.numbers(1, "starts") or [], call.numbers(2, "ends") or []
    axes = call.numbers(3, "axes")
    axes, steps = list(range(len(starts))) if axes is None else axes, call.numbers(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis, step = int(axis) % len(value.shape), int(step)
        if step < 0:
            if isinstance(value, np.ndarray):
                value = value[
                    (slice(None),) * axis + (slice(int(start), int(end) if end > -(1 << 40) else None, step),)
                ]
                continue
            if step == -1 and start in (-1, value.shape[axis] - 1) and end < -value.shape[axis]:
                value = value.flip(axis)
                continue
            raise Unreadable("a slice that runs backwards")
        far = type(end) is int and end >= 1 << 30
        value = value[(slice(None),) * axis + (slice(start, None if far else end, step),)]
    return value


@reads("Gather")
def _gather(call: Call) -> Any:
    value, index, axis = call.input(0), call.input(1), call.attribute("axis", 0)
    if isinstance(value, np.ndarray) and isinstance(index, np.ndarray):
        return np.asarray(np.take(value, index.astype(np.int64), axis), dtype=object)
    if isinstance(value, np.ndarray):
        value = call.tensor(0)
    axis = axis % value.dim()
    if isinstance(index, np.ndarray) and index.ndim == 0:
        return value.select(axis, int(index))
    if isinstance(index, np.ndarray):
        size = int(value.shape[axis])
        if any(not -size <= k < size for k in index.reshape(-1)):
            raise Unreadable(f"places beyond {size} entries")
        places = torch.tensor([int(k) % size for k in index.reshape(-1)], device=call.device)
        found = torch.index_select(value, axis, places)
        return found.reshape(*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])
    if axis == 0 and value.dim() == 2:
        return F.embedding(index, value)
    raise Unreadable("entries chosen by values along an inner axis")


@reads("GatherElements")
def _gather_elements(call: Call) -> Tensor:
    return torch.gather(call.tensor(0), call.attribute("axis", 0), call.tensor(1))


@reads("Expand")
def _expand(call: Call) -> Tensor:
    x, shape = call.tensor(0), _sizes(call, 1)
    if call.batch is not None and len(shape) == x.dim() and type(shape[0]) is int and shape[0] == call.batch[0]:
        shape[0] = x.shape[0]
    more = len(shape) - x.dim()
    own = [1] * more + list(x.shape) if more >= 0 else list(x.shape)
    shape = [1] * -more + shape if more < 0 else shape
    sizes = [size if type(wanted) is int and wanted == 1 else wanted for size, wanted in zip(own, shape, strict=True)]
    return x.expand(sizes)


@reads("Tile")
def _tile(call: Call) -> Tensor:
    return call.tensor(0).repeat([int(times) for times in _sizes(call, 1, "repeats")])


@reads("Pad")
def _pad(call: Call) -> Tensor:
    x, mode = call.tensor(0), call.attribute("mode", "constant")
    pads = call.numbers(1, "pads") or []
    axes = call.numbers(3) if call.opset >= 18 else None
    axes = list(range(x.dim())) if axes is None else [int(axis) % x.dim() for axis in axes]
    before, after = dict.fromkeys(range(x.dim()), 0), dict.fromkeys(range(x.dim()), 0)
    for k, axis in enumerate(axes):
        before[axis], after[axis] = int(pads[k]), int(pads[k + len(axes)])
    flat = [side for axis in reversed(range(x.dim())) for side in (before[axis], after[axis])]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if mode == "constant":
        value = call.constant(2) or [call.attribute("value", 0.0)]
        return F.pad(x, flat, value=max(-1e38, min(1e38, float(value[0]))))
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names or len(flat) > 2 * (x.dim() - 2):
        raise Unreadable(f"padding mode {mode} of the batch or the channels")
    flat += [0] * (2 * (x.dim() - 2) - len(flat))
    return F.pad(x, flat, mode=names[mode])


@reads("DepthToSpace")
def _depth_to_space(call: Call) -> Tensor:
    x, size = call.tensor(0), call.attribute("blocksize")
    channels, height, width = (int(n) for n in x.shape[1:])
    if call.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    split = x.reshape(-1, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return split.reshape(-1, channels // size**2, height * size, width * size)


@reads("SpaceToDepth")
def _space_to_depth(call: Call) -> Tensor:
    x, size = call.tensor(0), call.attribute("blocksize")
    channels, height, width = (int(n) for n in x.shape[1:])
    split = x.reshape(-1, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return split.reshape(-1, channels * size**2, height // size, width // size)
