"""Replaying a part of the graph equals running the whole network, one example and one perturbation at a time."""

import pytest
import torch

from bitcert.errors import InputError
from bitcert.network import Architecture, Node, ParameterSpec
from bitcert.network.layouts import Layout
from bitcert.stability.layers import needed_nodes
from bitcert.stability.linearisation import Linearisation
from bitcert.stability.replay import portions, samples_first, substituted
from bitcert.stability.replay import replay as one_by_one
from tests.reference import measure_naive as naive
from tests.unit.stability import nets


def replay(*call):
    return dict(one_by_one(*call))


def clean_pass(net):
    return Linearisation(net.architecture, net.parameters, net.x)


def noisy(clean, source, copies=3):
    value = clean.values[source]
    return value + torch.randn(copies, *value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(1))


def names(net):
    return ["input", *(node.name for node in net.architecture.nodes)]


@pytest.mark.parametrize("name", nets.NAMES)
def test_equal_to_the_whole_network_for_every_source(name):
    net = nets.build(name)
    clean = clean_pass(net)
    values = net.architecture.propagation.values
    for source in names(net):
        perturbed = noisy(clean, source)
        found = replay(clean, source, perturbed, names(net))
        assert set(found) == {n for n in names(net) if n == source or naive.depends(net.architecture, source, n)}
        parts = [samples_first(p, values[source].layout, nets.BATCH) for p in perturbed]
        for target, value in found.items():
            assert value.shape[1:] == clean.values[target].shape
            for copy, b in ((0, 1), (2, 3)):
                put = {source: one_example(parts[copy][b], values[source], nets.BATCH)}
                expected = naive.run(net.architecture, net.parameters, net.x[b : b + 1], put)[target]
                got = samples_first(value[copy], values[target].layout, nets.BATCH)[b]
                torch.testing.assert_close(got.flatten(), expected.flatten(), rtol=1e-9, atol=1e-11)


def one_example(part, value, batch):
    """A node's value for one example in a batch of one: the axis of the batch, fused with its neighbours or not."""
    layout = value.layout
    if layout == Layout(0):
        return part[None]
    shape = list(part.shape)
    return part.reshape(*shape[: layout.axis], layout.outer * layout.inner, *shape[layout.axis + 2 :])


def test_batch_in_the_middle_of_an_axis():
    """[B, 2, 3] -> [2, B, 3] -> [2 B, 3], a layer, and back: the batch is on axis 1, then inside axis 0."""
    nodes = (
        Node("turned", "permute", ("input",), {"dims": (1, 0, 2)}),
        Node("flat", "reshape", ("turned",), {"shape": (-1, 3)}),
        Node("layer", "linear", ("flat", "w")),
        Node("bent", "relu", ("layer",)),
        Node("back", "reshape", ("bent",), {"shape": (2, -1, 3)}),
        Node("sum", "add", ("back", "turned")),
        Node("home", "permute", ("sum",), {"dims": (1, 0, 2)}),
        Node("out", "mean", ("home",), {"dim": (1,), "keepdim": False}),
    )
    architecture = Architecture((2, 3), 3, nodes, (ParameterSpec("w", (3, 3), "weight"),))
    assert architecture.propagation.values["flat"].layout == Layout(0, 2, 1)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, 2, 3, dtype=torch.float64, generator=generator)
    clean = Linearisation(architecture, {"w": torch.randn(3, 3, dtype=torch.float64, generator=generator)}, x)
    for source in ("input", "turned", "flat", "layer", "back"):
        perturbed = noisy(clean, source)
        together = replay(clean, source, perturbed, ("out", "layer", "sum"))
        for copy in range(3):
            alone = replay(clean, source, perturbed[copy : copy + 1], ("out", "layer", "sum"))
            for target in together:
                torch.testing.assert_close(together[target][copy], alone[target][0])
    # without a shortcut the whole network on the perturbed input is the definition
    moved = replay(clean, "input", noisy(clean, "input"), ("out",))["out"]
    for copy, value in enumerate(noisy(clean, "input")):
        torch.testing.assert_close(moved[copy], architecture.forward(value, clean.parameters))


def test_the_shortcut_stays_clean():
    net = nets.build("residual")
    clean = clean_pass(net)
    first = net.network.weight_layers[1]
    blocked = torch.zeros_like(clean.values[first.node])[None]
    moved = replay(clean, first.node, blocked, [n.name for n in net.architecture.nodes])
    assert "relu" not in moved
    second = net.network.weight_layers[2]
    total = next(n.name for n in net.architecture.nodes if n.op == "add")
    torch.testing.assert_close(moved[total][0], moved[second.node][0] + clean.values["relu"])


def test_only_what_is_needed_is_computed():
    net = nets.build("concat")
    layers = net.network.weight_layers
    computed = [node.name for node in needed_nodes(net.architecture, {layers[1].node}, {layers[3].node})]
    assert layers[2].node not in computed
    assert layers[4].node not in computed
    assert computed[-1] == layers[3].node


def test_targets_come_in_order_and_one_at_a_time():
    net = nets.build("mlp")
    clean = clean_pass(net)
    nodes = [layer.node for layer in net.network.weight_layers]
    found = [name for name, _ in one_by_one(clean, nodes[0], noisy(clean, nodes[0]), nodes[::-1])]
    assert found == nodes


@pytest.mark.parametrize("name", ["mlp", "residual", "concat", "windows", "tokens"])
def test_substituted_weights(name):
    net = nets.build(name)
    nodes = [layer.node for layer in net.network.weight_layers]
    changed = {layer.weight: 1.5 * net.parameters[layer.weight] for layer in net.network.weight_layers[1:]}
    found = dict(substituted(clean_pass(net), changed, nodes))
    expected = net.architecture.activations(net.x, {**net.parameters, **changed})
    unchanged = [n for n in nodes if n not in found]
    assert nodes[0] in unchanged
    for node in nodes:
        torch.testing.assert_close(found.get(node, clean_pass(net).values[node]), expected[node])


def test_images_keep_their_channels_innermost():
    net = nets.build("lenet")
    clean = Linearisation(net.architecture, net.network.parameters, net.x.float())
    name = net.network.weight_layers[1].node
    moved = replay(clean, "input", noisy(clean, "input"), (name,))[name]
    assert moved.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_wrong_shape_and_constant_source_are_refused():
    net = nets.build("mlp")
    clean = clean_pass(net)
    with pytest.raises(InputError, match=r"values of shape \[R, 5, 6\]"):
        replay(clean, "input", torch.zeros(5, 6), ("linear",))
    node = Node("places", "arange", (), {"start": 0, "end": 3, "step": 1})
    nodes = (Node("layer", "linear", ("input", "w")), node, Node("out", "add", ("layer", "places")))
    architecture = Architecture((2,), 3, nodes, (ParameterSpec("w", (3, 2), "weight"),))
    clean = Linearisation(architecture, {"w": torch.ones(3, 2)}, torch.ones(4, 2))
    assert replay(clean, "layer", torch.ones(2, 4, 3), ("out",))["out"][1, 3].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match="constant"):
        replay(clean, "places", torch.zeros(2, 3), ("out",))


def test_portions_cover_everything_once():
    for copies, batch in ((7, 100), (1, 1000), (300, 1), (0, 4)):
        covered = [k for part in portions(copies, batch) for k in range(copies)[part]]
        assert covered == list(range(copies))
        assert all(len(range(copies)[part]) * batch <= max(256, batch) for part in portions(copies, batch))
