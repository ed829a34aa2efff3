"""ONNX operators with weights, windows or statistics in terms of torch: convolutions, pooling, norms, resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bitcert.network.onnx_call import Call, Unreadable, reads

_LOWEST = -1e38


def _windows(call: Call, kernel: Sequence[int], x: Tensor) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations and the padding before and after, on each axis."""
    dims = len(kernel)
    strides = list(call.attribute("strides", (1,) * dims))
    dilations = list(call.attribute("dilations", (1,) * dims))
    auto = call.attribute("auto_pad", "NOTSET")
    pads = list(call.attribute("pads", (0,) * (2 * dims)))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * dims)
        for k, size in enumerate(int(n) for n in x.shape[2:]):
            span = dilations[k] * (kernel[k] - 1) + 1
            total = max(0, (math.ceil(size / strides[k]) - 1) * strides[k] + span - size)
            less, more = total // 2, total - total // 2
            pads[k], pads[k + dims] = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        pads = [0] * (2 * dims)
    if not len(strides) == len(dilations) == dims == x.dim() - 2 or len(pads) != 2 * dims:
        raise Unreadable("settings for another number of axes than the input has")
    return strides, dilations, pads[:dims], pads[dims:]


def _of_axes(name: str, dims: int) -> Callable[..., Tensor]:
    """The function of torch for so many axes."""
    if not 1 <= dims <= 3:
        raise Unreadable(f"{dims} axes")
    function: Callable[..., Tensor] = getattr(F, f"{name}{dims}d")
    return function


def _even(x: Tensor, before: list[int], after: list[int], value: float) -> tuple[Tensor, list[int]]:
    """The input and padding that is the same on both sides; uneven padding is added first."""
    if before == after:
        return x, before
    both = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    return F.pad(x, both, value=value), [0] * len(before)


@reads("Conv")
def _conv(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    strides, dilations, before, after = _windows(call, [int(n) for n in weight.shape[2:]], x)
    x, padding = _even(x, before, after, 0.0)
    function = _of_axes("conv", len(strides))
    return function(x, weight, call.input(2), strides, padding, dilations, call.attribute("group", 1))


@reads("ConvTranspose")
def _transposed(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    strides, dilations, before, after = _windows(call, [int(n) for n in weight.shape[2:]], x)
    same = call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if same or call.attribute("output_shape") is not None or before != after:
        raise Unreadable("a transposed convolution with uneven padding or a stated size")
    more = list(call.attribute("output_padding", (0,) * len(strides)))
    function = _of_axes("conv_transpose", len(strides))
    return function(x, weight, call.input(2), strides, before, more, call.attribute("group", 1), dilations)


def _pool(call: Call) -> tuple[Tensor, list[int], tuple[list[int], list[int], list[int], list[int]], bool]:
    """Input, kernel, windows, and whether a last window may reach over the end."""
    x, kernel = call.tensor(0), list(call.attribute("kernel_shape"))
    strides, dilations, before, after = windows = _windows(call, kernel, x)
    ceil = bool(call.attribute("ceil_mode", 0))
    if ceil and before != after:
        for k, size in enumerate(int(n) for n in x.shape[2:]):
            room = size + before[k] + after[k] - dilations[k] * (kernel[k] - 1) - 1
            if -(-room // strides[k]) * strides[k] >= size + before[k]:
                raise Unreadable("a last window beyond the input, with uneven padding")
    return x, kernel, windows, ceil


@reads("MaxPool")
def _max_pool(call: Call) -> Tensor:
    x, kernel, (strides, dilations, before, after), ceil = _pool(call)
    if call.outputs > 1:
        raise Unreadable("the places of the largest entries")
    x, padding = _even(x, before, after, _LOWEST)
    return _of_axes("max_pool", len(kernel))(x, kernel, strides, padding, dilations, ceil)


@reads("AveragePool")
def _average_pool(call: Call) -> Tensor:
    x, kernel, (strides, dilations, before, after), ceil = _pool(call)
    if any(gap != 1 for gap in dilations):
        raise Unreadable("an average with gaps")
    function, counted = _of_axes("avg_pool", len(kernel)), bool(call.attribute("count_include_pad", 0))
    if before == after and all(2 * pad <= size for pad, size in zip(before, kernel, strict=True)):
        return function(x, kernel, strides, before, ceil, counted)
    padded, padding = _even(x, before, after, 0.0)
    total = function(padded, kernel, strides, padding, ceil, True)
    if counted:
        return total
    ones = torch.ones((1, 1, *(int(n) for n in x.shape[2:])), device=x.device)
    inside, _ = _even(ones, before, after, 0.0)
    return total / function(inside, kernel, strides, padding, ceil, True)


@reads("BatchNormalization")
def _batch_norm(call: Call) -> Tensor:
    call.only(training_mode=0, spatial=1)
    gain, shift, mean, variance = (call.tensor(k) for k in range(1, 5))
    return F.batch_norm(call.tensor(0), mean, variance, gain, shift, False, 0.0, call.attribute("epsilon", 1e-5))


@reads("InstanceNormalization")
def _instance_norm(call: Call) -> Tensor:
    gain, shift = call.tensor(1), call.tensor(2)
    return F.group_norm(call.tensor(0), gain.shape[0], gain, shift, call.attribute("epsilon", 1e-5))


@reads("GroupNormalization")
def _group_norm(call: Call) -> Tensor:
    x, groups, eps = call.tensor(0), call.attribute("num_groups"), call.attribute("epsilon", 1e-5)
    gain, shift = call.tensor(1), call.tensor(2)
    if call.opset < 21:  # one gain for each group
        times = x.shape[1] // groups
        gain, shift = (each.reshape(-1, 1).expand(groups, times).reshape(-1) for each in (gain, shift))
    return F.group_norm(x, groups, gain, shift, eps)


@reads("LayerNormalization", "RMSNormalization")
def _layer_norm(call: Call) -> Tensor:
    x, gain, eps = call.tensor(0), call.input(1), call.attribute("epsilon", 1e-5)
    shape = [int(n) for n in x.shape[call.attribute("axis", -1) % x.dim() :]]
    gain = None if gain is None else gain.reshape(shape)
    if call.op == "RMSNormalization":
        return F.rms_norm(x, shape, gain, eps)
    shift = call.input(2)
    return F.layer_norm(x, shape, gain, None if shift is None else shift.reshape(shape), eps)


@reads("LRN")
def _local_response(call: Call) -> Tensor:
    x, size = call.tensor(0), call.attribute("size")
    if not 1 <= size <= 1 << 10:
        raise Unreadable(f"a sum over {size} channels")
    squares = (x * x).unsqueeze(1)
    before, after = (size - 1) // 2, size // 2
    padded = F.pad(squares, [0, 0] * (x.dim() - 2) + [before, after])
    total = sum(padded[:, 0, k : k + x.shape[1]] for k in range(size))
    alpha, beta, bias = (
        call.attribute(name, value) for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    return x / torch.pow(bias + alpha / size * total, beta)


@reads("LpNormalization")
def _unit(call: Call) -> Tensor:
    x, axis = call.tensor(0), call.attribute("axis", -1)
    return torch.div(x, torch.linalg.vector_norm(x, call.attribute("p", 2), axis, keepdim=True))


@reads("Gemm")
def _gemm(call: Call) -> Tensor:
    a, b, c = call.tensor(0), call.tensor(1), call.input(2)
    a = a.t() if call.attribute("transA", 0) else a
    alpha, beta = call.attribute("alpha", 1.0), call.attribute("beta", 1.0)
    if call.attribute("transB", 0) and alpha == 1.0 and (c is None or (beta == 1.0 and c.dim() == 1)):
        return F.linear(a, b, c)
    found = torch.matmul(a, b.t() if call.attribute("transB", 0) else b)
    found = found if alpha == 1.0 else alpha * found
    return found if c is None else found + (c if isinstance(c, float) or beta == 1.0 else beta * c)


@reads("MatMul")
def _matmul(call: Call) -> Tensor:
    return torch.matmul(call.tensor(0), call.tensor(1))


@reads("Einsum")
def _einsum(call: Call) -> Tensor:
    return torch.einsum(call.attribute("equation"), *(call.tensor(k) for k in range(len(call.inputs))))


@reads("Resize", "Upsample")
def _resize(call: Call) -> Tensor:
    x = call.tensor(0)
    after, scales = _target(call, x)
    old = call.op == "Upsample" or call.opset < 11
    mode, place = call.attribute("mode", "nearest"), call.attribute("coordinate_transformation_mode", "half_pixel")
    rounded = call.attribute("nearest_mode", "round_prefer_floor")
    call.only(antialias=0, exclude_outside=0, keep_aspect_ratio_policy="stretch")
    if old:
        place, rounded = "asymmetric", "floor"
    half = place in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
    if mode == "nearest":
        call.attribute("cubic_coeff_a")
        whole = all(scale == round(scale) and scale >= 1 for scale in scales)
        floors = rounded == "floor" or (rounded == "round_prefer_floor" and set(scales) <= {1, 2})
        middle = half and rounded.startswith("round_prefer")
        if not whole or not ((place == "asymmetric" and floors) or middle):
            raise Unreadable(f"nearest entries, {rounded}, for {place} places and factors {scales}")
        return F.interpolate(x, after, mode="nearest")
    names = {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}
    found = names.get((mode, x.dim()))
    if found is None or place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise Unreadable(f"resizing {mode} with {place} places")
    if mode == "cubic":
        call.only(cubic_coeff_a=-0.75)
    call.attribute("cubic_coeff_a")
    if any(size == 1 for size in after) and place != "half_pixel":
        raise Unreadable("resizing to one entry")
    return F.interpolate(x, after, mode=found, align_corners=place == "align_corners")


def _target(call: Call, x: Tensor) -> tuple[list[int], list[float]]:
    """Sizes of the map after resizing, and the factors, which must lead to just these sizes."""
    before, axes = [int(size) for size in x.shape[2:]], call.attribute("axes")
    if axes is not None and list(axes) not in (list(range(2, x.dim())), list(range(x.dim()))):
        raise Unreadable("axes other than those of the map")
    count = len(before) if axes is not None and len(axes) < x.dim() else x.dim()
    sizes = call.numbers(3) if call.op == "Resize" and call.input(3) is not None else None
    if sizes is not None:
        if len(sizes) != count or (count == x.dim() and int(sizes[1]) != int(x.shape[1])):
            raise Unreadable("sizes for other axes than those of the map")
        after = [int(size) for size in sizes[-len(before) :]]
        return after, [new / old for new, old in zip(after, before, strict=True)]
    place = 1 if call.op == "Upsample" or (call.op == "Resize" and call.opset < 11) else 2
    given = call.attribute("scales") if call.opset < 9 else call.constant(place)
    if given is None or len(given) != count or any(scale != 1 for scale in given[: -len(before)]):
        raise Unreadable("factors that are not known, or for other axes than those of the map")
    scales = [float(scale) for scale in given[-len(before) :]]
    after = [round(old * scale) for old, scale in zip(before, scales, strict=True)]
    if any(abs(old * scale - new) > 1e-5 for old, scale, new in zip(before, scales, after, strict=True)):
        raise Unreadable(f"factors {scales}, which lead to no whole sizes")
    return after, [new / old for new, old in zip(after, before, strict=True)]


@reads(
    "Scaler",
    "Normalizer",
    "LinearClassifier",
    "ArrayFeatureExtractor",
    "FeatureVectorizer",
    "ZipMap",
    "Imputer",
    "Binarizer",
)
def _classic(call: Call) -> Any:
    """Operators of ai.onnx.ml."""
    x = call.tensor(0).to(torch.float32)

    def numbers(name: str) -> Tensor:
        return torch.tensor(call.attribute(name, ()), dtype=torch.float32, device=call.device)

    if call.op == "Scaler":
        return (x - numbers("offset")) * numbers("scale")
    if call.op == "Binarizer":
        return (x > call.attribute("threshold", 0.0)).to(torch.float32)
    if call.op == "Normalizer":
        order = {"MAX": math.inf, "L1": 1, "L2": 2}[call.attribute("norm", "MAX")]
        return x / torch.linalg.vector_norm(x, order, 1, keepdim=True)
    if call.op == "LinearClassifier":
        return [None, _linear_classifier(call, x, numbers("coefficients"), numbers("intercepts"))]
    if call.op == "ArrayFeatureExtractor":
        return x.index_select(-1, torch.tensor(call.numbers(1), device=call.device))
    raise Unreadable("a use of it that changes the logits")


def _linear_classifier(call: Call, x: Tensor, coefficients: Tensor, intercepts: Tensor) -> Tensor:
    classes = len(call.attribute("classlabels_ints", ()) or call.attribute("classlabels_strings", ()))
    scores = F.linear(x, coefficients.reshape(-1, x.shape[1]), intercepts)
    kind = call.attribute("post_transform", "NONE")
    if kind not in ("NONE", "LOGISTIC", "SOFTMAX"):
        raise Unreadable(f"scores after {kind}")
    if scores.shape[1] == 1 and classes == 2:
        scores = torch.cat([-scores, scores], 1)
    # in the same order as the probabilities are, which is all that a class depends on
    if kind == "LOGISTIC":
        return torch.sigmoid(scores)
    return scores if kind == "NONE" else torch.softmax(scores, 1)
