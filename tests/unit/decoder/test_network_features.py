"""Features of helper networks: which values of a graph are sources, in which order, and what is made of them."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from bitcert.decoder.features import network as module
from bitcert.decoder.features.network import (
    FeatureSource,
    feature_sources,
    network_features,
    part_sizes,
    pooled,
    scaled,
)
from bitcert.network import capture


class Tokens(nn.Module):
    """An activation of sequences, whose batch is the second axis of a value on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.table(x).transpose(0, 1)).transpose(0, 1).mean(1))


class Counted(nn.Module):
    """A linear layer of whole numbers, as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.float())


class Turned(nn.Module):
    """An activation of vectors whose batch is the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x).transpose(0, 1)).transpose(0, 1))


class Sequences(nn.Module):
    """A last layer whose input has its batch on the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)).transpose(0, 1)).transpose(0, 1).mean(1)


class Summed(nn.Module):
    """An activation of one number an example, and one of no batch at all, before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 2)
        self.gain = nn.Parameter(torch.ones(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x)) * torch.tanh(self.gain)
        return self.last(y) * torch.relu(y.sum(1)).unsqueeze(1)


@functools.cache
def architecture_of(net: nn.Module, *shape: int):
    """Captured once for each network."""
    example = torch.zeros(2, *shape, dtype=torch.int64) if isinstance(net, Tokens | Counted) else torch.rand(2, *shape)
    return capture(net.eval(), example).architecture


def sources_of(net: nn.Module, *shape: int) -> list[tuple[tuple[str, ...], int]]:
    return [(source.nodes, source.grid) for source in feature_sources(architecture_of(net, *shape))]


IMAGES = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AvgPool2d(2),
    nn.Flatten(), nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3),
)  # fmt: skip


SAME_SIZE = nn.Sequential(
    nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2),
)  # fmt: skip
DEEP = nn.Sequential(*(each for _ in range(34) for each in (nn.Linear(3, 3), nn.ReLU())), nn.Linear(3, 2))
HALVED = nn.Sequential(
    nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, (2, 1), (2, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
)
AVERAGED = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2))
SOFTMAX, SUMMED, TURNED, COUNTED, SEQUENCES = nn.Softmax(1), Summed(), Turned(), Counted(), Sequences()


@functools.cache
def with_activation(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(3, 3), nn.Linear(3, 2))


@functools.cache
def convolution(entries: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(entries, 2))


def test_sources_of_a_network_of_images() -> None:
    """The last layer's input; the last stages together; every activation alone. A map of one pixel is none."""
    together = [
        ("relu_1", "tanh"),
        ("max_pool2d", "relu_1", "tanh"),
        ("relu", "max_pool2d", "relu_1", "tanh"),
    ]
    alone = [("relu_1",), ("max_pool2d",), ("relu",)]
    grids = [(nodes, grid) for entries in (together, alone) for grid in (1, 2, 4) for nodes in entries]
    assert sources_of(IMAGES, 1, 8, 8) == [(("tanh",), 1), *grids]


def test_a_stage_ends_with_the_last_activation_of_its_size() -> None:
    assert sources_of(SAME_SIZE, 1, 4, 4) == [
        (("flatten",), 1),
        *((("relu_1",), grid) for grid in (1, 2, 4)),
        *((("relu",), grid) for grid in (1, 2, 4)),
    ]


def test_maps_of_two_pixels_are_sources_and_those_of_one_are_not() -> None:
    for sides in ((1, 2), (2, 1)):
        assert [nodes for nodes, _ in sources_of(convolution(4), 1, *sides)][1:] == [("relu",)] * 3
    assert sources_of(convolution(2), 1, 1, 1) == [(("flatten",), 1)]


def test_maps_of_one_width_and_other_heights_are_stages_of_their_own() -> None:
    assert [nodes for nodes, _ in sources_of(HALVED, 1, 4, 3)] == [
        ("flatten",),
        *[("relu_1",), ("relu", "relu_1")] * 3,
        *[("relu",)] * 3,
    ]


def test_an_average_pooling_ends_a_stage() -> None:
    assert sources_of(AVERAGED, 1, 4, 4) == [(("flatten",), 1), *((("avg_pool2d",), grid) for grid in (1, 2, 4))]


def test_an_input_of_the_last_layer_whose_batch_is_not_the_first_axis_is_no_source() -> None:
    """The layer before it is taken: its input is the network's own."""
    architecture = architecture_of(SEQUENCES, 3, 4)
    assert architecture.weight_layers[-1].source == "transpose"
    assert feature_sources(architecture)[0].nodes == ("input",)


@pytest.mark.parametrize(
    ("net", "shape", "first"),
    [
        (nn.Linear(4, 3), (4,), "input"),
        (Tokens(), (5,), "mean"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (1, 6, 6), "flatten"),
    ],
)
def test_the_only_source_is_what_the_last_layer_sees_or_the_output(net, shape, first) -> None:
    assert sources_of(net, *shape) == [((first,), 1)]


def test_the_tokens_themselves_are_no_features() -> None:
    architecture = architecture_of(COUNTED, 5)
    assert architecture.input_dtype == "int64"
    assert "input" not in feature_sources(architecture)[0].nodes


def test_numbers_and_values_without_a_batch_are_no_features() -> None:
    architecture = architecture_of(SUMMED, 4)
    found = [source.nodes for source in feature_sources(architecture)]
    assert found == [("mul",), ("relu",)]
    assert [node.name for node in architecture.nodes if node.op in ("relu", "tanh")] == ["relu", "tanh", "relu_1"]


def test_values_whose_batch_is_not_the_first_axis_are_no_features() -> None:
    architecture = architecture_of(TURNED, 4)
    assert "relu" in {node.name for node in architecture.nodes}
    assert "relu" not in {name for source in feature_sources(architecture) for name in source.nodes}


def test_six_stages_and_thirty_two_single_activations_at_most() -> None:
    names = ["relu", *(f"relu_{k}" for k in range(1, 34))]
    together = [tuple(names[-count:]) for count in range(2, 7)]
    alone = [(name,) for name in names[-2:-33:-1]]
    expected = [("relu_33",), *together, *alone]
    assert [nodes for nodes, _ in sources_of(DEEP, 3)] == expected
    assert expected[-1] == ("relu_2",)


@pytest.mark.parametrize(
    "activation",
    [
        nn.SiLU(), nn.Tanh(), nn.Sigmoid(), nn.Hardswish(), nn.Mish(), nn.SELU(), nn.LeakyReLU(), nn.ELU(), nn.GELU(),
        nn.Softplus(), nn.PReLU(), nn.ReLU6(), nn.ReLU(),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_every_activation_ends_a_stage(activation) -> None:
    assert [len(nodes) for nodes, _ in sources_of(with_activation(activation), 4)] == [1, 1]


def test_a_softmax_ends_no_stage() -> None:
    assert len(sources_of(with_activation(SOFTMAX), 4)) == 1


def test_sizes_of_parts() -> None:
    architecture = architecture_of(IMAGES, 1, 8, 8)
    source = FeatureSource(("relu", "relu_1", "tanh"), 4)
    assert part_sizes(architecture, source, False) == (4 * 4 * 4, 5 * 2 * 2, 7)
    assert part_sizes(architecture, source, True) == (64, 20, 7, 3)
    assert part_sizes(architecture, FeatureSource((architecture.output,), 1), False) == (3,)
    narrow = architecture_of(convolution(18), 1, 3, 3)
    assert part_sizes(narrow, FeatureSource(("relu",), 4), False) == (18,)
    wide = architecture_of(convolution(24), 1, 2, 6)
    assert part_sizes(wide, FeatureSource(("relu",), 4), False) == (2 * 2 * 4,)
    high = architecture_of(convolution(24), 1, 6, 2)
    assert part_sizes(high, FeatureSource(("relu",), 4), False) == (2 * 4 * 2,)


def test_maps_are_averaged_on_a_lattice_of_their_size_at_most() -> None:
    value = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pooled(value, 2).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    assert pooled(value, 1).tolist() == [[7.5]]
    assert pooled(value[:, :, :2], 4).tolist() == [list(range(8))]
    assert pooled(value[..., :1], 4).tolist() == [[0, 4, 8, 12]]
    assert pooled(torch.arange(6.0).reshape(1, 2, 3), 1).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert pooled(value.double(), 2).dtype == torch.float64
    assert pooled(value.half(), 2).dtype == torch.float32


def test_parts_have_the_norm_of_a_vector_of_ones() -> None:
    vectors = torch.tensor([[3.0, -4.0], [0.0, 0.0], [3e-6, 4e-6]], dtype=torch.float64)
    found = scaled(vectors, False)
    expected = vectors / (vectors.norm(dim=1, keepdim=True) + 1e-6) * math.sqrt(2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    roots = scaled(vectors * vectors.abs(), True)
    torch.testing.assert_close(roots, expected, rtol=1e-12, atol=0)


def test_logits_are_a_part_without_roots_and_a_one_ends_the_vector() -> None:
    values = {"a": torch.tensor([[1.0, 4.0]]), "b": torch.tensor([[9.0]])}
    logits = torch.tensor([[3.0, 4.0]])
    found = network_features(FeatureSource(("b", "a"), 1), True, values, logits)
    expected = [[1.0, (2 / 5) ** 0.5, 2 * (2 / 5) ** 0.5, 0.6 * 2**0.5, 0.8 * 2**0.5, 1.0]]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert network_features(FeatureSource(("b", "a"), 1), True, values, None).shape == (1, 4)


def test_what_people_read_of_a_source() -> None:
    assert FeatureSource(("a",), 2).label == "a, 2x2"
    assert FeatureSource(("a", "b", "c"), 1).label == "a .. c, 1x1"
    assert module.GRIDS == (1, 2, 4)
