"""What the table says an operation takes: compared with what torch really allocates, and with counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from bitcert.data import Role, Sample
from bitcert.decoder import Helper
from bitcert.decoder.helper import MAX_BATCH_ELEMENTS, MAX_BATCH_PEAK
from bitcert.network import capture, estimate_plan
from bitcert.network.decode import decode_architecture
from bitcert.network.operations import OPERATIONS
from bitcert.network.plan import SLOWER, operations_per_sample
from bitcert.stability import plan_measure

CONVOLUTION = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
POOL = {"kernel_size": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil_mode": False}
POOL_1D = {"kernel_size": (2,), "stride": (2,), "padding": (0,), "ceil_mode": False}
ATTENTION = {"is_causal": False, "scale": None}
ROWS = 6

CASES = {
    "attention": ("attention", [(ROWS, 2, 64, 8), (ROWS, 2, 96, 8), (ROWS, 2, 96, 16)], ATTENTION),
    "causal attention": ("attention", [(ROWS, 2, 64, 8)] * 3, {**ATTENTION, "is_causal": True}),
    "masked attention": ("attention", [(ROWS, 2, 64, 8)] * 3 + [(64, 64)], ATTENTION),
    "attention, one key for all": ("attention", [(ROWS, 4, 64, 8), (1, 1, 64, 8), (1, 1, 64, 8)], ATTENTION),
    "attention of three axes": ("attention", [(ROWS, 64, 8)] * 3, ATTENTION),
    "product": ("matmul", [(ROWS, 40, 30), (ROWS, 30, 20)], {}),
    "product that spreads its left factor": ("matmul", [(ROWS, 1, 40, 30), (1, 9, 30, 20)], {}),
    "product with a matrix": ("matmul", [(ROWS, 9, 40, 30), (30, 20)], {}),
    "convolution": ("conv2d", [(ROWS, 3, 20, 20), (8, 3, 3, 3), (8,)], CONVOLUTION),
    "grouped convolution": ("conv2d", [(ROWS, 8, 20, 20), (8, 1, 3, 3)], {**CONVOLUTION, "groups": 8}),
    "locally connected": ("local_conv2d", [(ROWS, 3, 9, 9), (81, 4, 3, 3, 3), (4,)], CONVOLUTION),
    "linear": ("linear", [(ROWS, 50, 40), (20, 40), (20,)], {}),
    "maximum pooling": ("max_pool2d", [(ROWS, 4, 20, 20)], {**POOL, "dilation": (1, 1)}),
    "average pooling": ("avg_pool2d", [(ROWS, 4, 20, 20)], {**POOL, "count_include_pad": True}),
    "softmax": ("softmax", [(ROWS, 50, 40)], {"dim": 1}),
    "layer norm": ("layer_norm", [(ROWS, 50, 40), (40,), (40,)], {"normalized_shape": (40,), "eps": 1e-5}),
    "group norm": ("group_norm", [(ROWS, 8, 20, 20), (8,), (8,)], {"num_groups": 2, "eps": 1e-5}),
    "affine channel": ("affine_channel", [(ROWS, 8, 20, 20), (8,), (8,)], {}),
    "repetition": ("repeat", [(ROWS, 8, 20)], {"repeats": (1, 4, 3)}),
    "padding": ("pad", [(ROWS, 8, 20)], {"padding": (3, 4), "value": 0.0}),
    "joining": ("cat", [(ROWS, 8, 20), (ROWS, 9, 20)], {"dim": 1}),
    "reshaping": ("reshape", [(ROWS, 8, 20)], {"shape": (-1, 160)}),
    "sum": ("sum", [(ROWS, 50, 40)], {"dim": (1,), "keepdim": False}),
    "mean": ("mean", [(ROWS, 50, 40)], {"dim": (1, 2), "keepdim": True}),
    "largest": ("amax", [(ROWS, 50, 40)], {"dim": (2,), "keepdim": False}),
    "log softmax": ("log_softmax", [(ROWS, 50, 40)], {"dim": 2}),
    "gelu": ("gelu", [(ROWS, 50, 40)], {"tanh": False}),
    "elu": ("elu", [(ROWS, 50, 40)], {"alpha": 0.5}),
    "leaky": ("leaky_relu", [(ROWS, 50, 40)], {"negative_slope": 0.1}),
    "prelu": ("prelu", [(ROWS, 8, 20), (8,)], {}),
    "softplus": ("softplus", [(ROWS, 50, 40)], {"beta": 1.0, "threshold": 20.0}),
    "clamp": ("clamp", [(ROWS, 50, 40)], {"min": 0.0, "max": 6.0}),
    "power": ("pow_scalar", [(ROWS, 50, 40)], {"value": 2.5}),
    "conv1d": (
        "conv1d",
        [(ROWS, 3, 50), (8, 3, 5)],
        {k: v[:1] if k != "groups" else 1 for k, v in CONVOLUTION.items()},
    ),
    "max pool 1d": ("max_pool1d", [(ROWS, 4, 50)], {**POOL_1D, "dilation": (1,)}),
    "average pool 1d": ("avg_pool1d", [(ROWS, 4, 50)], {**POOL_1D, "count_include_pad": True}),
    "adaptive 1d": ("adaptive_avg_pool1d", [(ROWS, 4, 50)], {"output_size": (7,)}),
    "adaptive 2d": ("adaptive_avg_pool2d", [(ROWS, 4, 20, 20)], {"output_size": (7, 7)}),
    "permutation": ("permute", [(ROWS, 8, 20)], {"dims": (0, 2, 1)}),
    "expansion": ("expand", [(ROWS, 1, 20)], {"shape": (0, 9, 20)}),
    "selection": ("select", [(ROWS, 8, 20)], {"dim": 1, "index": 3}),
    "slice": ("slice", [(ROWS, 8, 20)], {"dim": 1, "start": 0, "end": 8, "step": 2}),
    "range": ("arange", [], {"start": 0, "end": 2000, "step": 1}),
    "addition with spreading": ("add", [(ROWS, 50, 1), (1, 40)], {}),
}
CUBE = {"stride": (1, 1, 1), "padding": (1, 1, 1), "dilation": (1, 1, 1), "groups": 1}
POOL_3D = {"kernel_size": (2, 2, 2), "stride": (2, 2, 2), "padding": (0, 0, 0), "ceil_mode": False}
CASES |= {
    "running sum": ("cumsum", [(ROWS, 50, 40)], {"dim": 1}),
    "place of the largest": ("argmax", [(ROWS, 50, 40)], {"dim": 2}),
    "smallest": ("amin", [(ROWS, 50, 40)], {"dim": (2,), "keepdim": False}),
    "product of entries": ("prod", [(ROWS, 50, 40)], {"dim": 1}),
    "constant": ("full", [], {"shape": (1, 500), "value": 1.5}),
    "conv3d": ("conv3d", [(ROWS, 3, 8, 8, 8), (4, 3, 3, 3, 3), (4,)], CUBE),
    "max pool 3d": ("max_pool3d", [(ROWS, 4, 8, 8, 8)], {**POOL_3D, "dilation": (1, 1, 1)}),
    "average pool 3d": ("avg_pool3d", [(ROWS, 4, 8, 8, 8)], {**POOL_3D, "count_include_pad": True}),
    "adaptive 3d": ("adaptive_avg_pool3d", [(ROWS, 4, 8, 8, 8)], {"output_size": (3, 3, 3)}),
    "nearest": ("upsample_nearest", [(ROWS, 3, 9, 9)], {"output_size": (18, 18)}),
    "nearest, exact": ("upsample_nearest_exact", [(ROWS, 3, 9, 9)], {"output_size": (18, 18)}),
    "linear between": ("upsample_linear", [(ROWS, 3, 9, 9)], {"output_size": (20, 13), "align_corners": False}),
    "cubic between": ("upsample_cubic", [(ROWS, 3, 9, 9)], {"output_size": (20, 13), "align_corners": True}),
    "reflected": ("pad_reflect", [(ROWS, 3, 9, 9)], {"padding": (2, 2, 2, 2)}),
    "replicated": ("pad_replicate", [(ROWS, 3, 9, 9)], {"padding": (2, 2, 2, 2)}),
    **{
        f"transposed {dims}d": (
            f"conv_transpose{dims}d",
            [(ROWS, 4, *(7,) * dims), (4, 3, *(3,) * dims), (3,)],
            {
                **dict.fromkeys(("padding", "dilation"), (1,) * dims),
                **{"stride": (2,) * dims, "output_padding": (0,) * dims, "groups": 1},
            },
        )
        for dims in (1, 2, 3)
    },
}
PICKING = {"embedding", "gather", "take", "where"}
"""Operations that take indices or conditions."""
for name in OPERATIONS:
    if name not in {op for op, _, _ in CASES.values()} and name not in PICKING:
        kinds = OPERATIONS[name].attributes
        CASES[name] = (name, [(ROWS, 50, 40)] * OPERATIONS[name].arity[0], {"value": 1.5} if kinds else {})
SMALL = 4096
"""Bytes that kernels take for tables of strides and sums of rows, whatever the sizes."""


def allocated(function) -> int:
    """Most bytes that torch holds more than before, while a function runs."""
    function()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        kept = function()
    held = most = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    del kept
    return most


@pytest.mark.parametrize("turned", [False, True], ids=["contiguous", "turned"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_no_operation_takes_more_than_the_table_says(name, turned):
    op, shapes, attributes = CASES[name]
    operation = OPERATIONS[op]
    tensors = [torch.rand(shape) for shape in shapes]
    if turned and tensors:  # the same values in another order of memory
        tensors[0] = tensors[0].transpose(0, -1).contiguous().transpose(0, -1)
    with torch.no_grad():
        result = operation.run(tensors, attributes, ROWS)
        most = allocated(lambda: operation.run(tensors, attributes, ROWS))
    scratch = operation.scratch(shapes, tuple(result.shape), attributes)
    assert most <= result.numel() * result.element_size() + 4 * scratch + SMALL


def test_picking_takes_no_more_than_its_result():
    x, index = torch.rand(ROWS, 30, 8), torch.arange(ROWS * 20 * 8).reshape(ROWS, 20, 8) % 30
    calls = {
        "gather": lambda: OPERATIONS["gather"].run([x, index], {"dim": 1}, ROWS),
        "take": lambda: OPERATIONS["take"].run([x, index[0, :, 0]], {"dim": 1}, ROWS),
        "where": lambda: OPERATIONS["where"].run([x > 0.5, x, x], {}, ROWS),
    }
    for name, call in calls.items():
        assert allocated(call) <= 4 * x.numel() + x.numel() + SMALL, name


def test_looking_up_takes_no_more_than_its_result():
    operation, table = OPERATIONS["embedding"], torch.rand(30, 8)
    tokens = torch.arange(600).reshape(ROWS, 100) % 30
    most = allocated(lambda: operation.run([tokens, table], {}, ROWS))
    assert most <= 4 * 600 * 8 + SMALL


def test_scores_of_attention_are_counted():
    """What was missed: they are far larger than queries, keys and values."""
    operation, shapes = OPERATIONS["attention"], [(1, 1, 1000, 2)] * 3
    assert operation.scratch(shapes, (1, 1, 1000, 2), ATTENTION) >= 3 * 1000 * 1000
    wide = [(1, 1, 100, 500), (1, 1, 100, 500), (1, 1, 100, 1)]
    assert operation.cost(wide, (1, 1, 100, 1), ATTENTION) >= 2 * 100 * 100 * 500, "also where values are narrow"


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(nn.functional.scaled_dot_product_attention(x, x, x).mean(1))


def test_the_peak_is_what_is_alive_at_once():
    architecture = capture(Attention(), torch.rand(2, 50, 4)).architecture
    scores, values = 50 * 50, 50 * 4
    scratch = 3 * scores + 3 * values
    assert architecture.propagation.peak == values + values + scratch
    plan = estimate_plan(capture(Attention(), torch.rand(2, 50, 4)), num_samples=7, batch_size=5)
    assert plan.activation_bytes == 4 * 5 * architecture.propagation.peak


def test_operations_weigh_what_is_no_product():
    network = capture(nn.Sequential(nn.Linear(5, 7), nn.ReLU()), torch.rand(2, 5))
    assert operations_per_sample(network.architecture) == 2 * 35 + SLOWER * (7 + 7 + 7)
    assert estimate_plan(network, 10, 4).operations == 10 * operations_per_sample(network.architecture)


def batch_size(module: nn.Module, *shape: int) -> int:
    architecture = capture(module, torch.zeros(2, *shape)).architecture
    return Helper(shape, architecture.num_outputs, predictor=architecture).batch_size


def test_a_batch_of_long_sequences_is_as_small_as_its_scores_ask_for():
    architecture = capture(Attention(), torch.rand(2, 1500, 4)).architecture
    size = Helper((1500, 4), 3, predictor=architecture).batch_size
    assert size == MAX_BATCH_PEAK // architecture.propagation.peak < 200
    assert max(architecture.propagation.elements.values()) * 1000 < MAX_BATCH_ELEMENTS, "by its values alone, 1000"


def convolutions(channels: int, width: int) -> nn.Module:
    first, second = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("module", "shape", "size"),
    [
        (nn.Linear(784, 10), (784,), 1000),
        (convolutions(1, 32), (1, 28, 28), 1000),
        (convolutions(3, 16), (3, 32, 32), 1000),
        (convolutions(3, 64), (3, 32, 32), 1000),
        (convolutions(3, 128), (3, 32, 32), 512),
        (convolutions(3, 64), (3, 224, 224), 20),
    ],
    ids=["dense", "LeNet-like", "ResNet-20", "VGG on 32", "wide", "VGG on 224"],
)
def test_ordinary_networks_keep_the_batch_size_of_their_certificates(module, shape, size):
    assert batch_size(module, *shape) == size


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 8, 8), 1000), ((1, 28, 28), 1000), ((3, 32, 32), 1000), ((3, 224, 224), 20), ((500,), 1000)],
)
def test_built_in_families_take_fewer_large_images_at_a_time(shape, size):
    """Their maps are not in the shape of the data: thirty-two of them for edges of second order alone."""
    assert Helper(shape, 10).batch_size == size


def test_measuring_counts_the_scores_too():
    network = capture(Attention(), torch.rand(2, 600, 4))
    labels = torch.arange(40).numpy() % 3
    sample = Sample(torch.rand(40, 600, 4).numpy(), labels, 3, Role.TRAIN, "sequences")
    plan = plan_measure(network, sample)
    assert plan.batch_size * 8 * max(network.architecture.propagation.scratch.values()) <= 1 << 28


def test_architectures_say_their_costs_after_a_round_trip():
    architecture = capture(Attention(), torch.rand(2, 50, 4)).architecture
    again = decode_architecture(architecture.to_json())
    assert again.propagation.peak == architecture.propagation.peak
    assert math.isfinite(operations_per_sample(again))
