"""Replay equals eager for every kind of network; everything that is not understood is named."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from bitcert.errors import CaptureError
from bitcert.network import capture, estimate_plan
from bitcert.network.decode import decode_architecture
from bitcert.network.recapture import Recapture


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return build()


def normal(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """Basic block with BN and the parameter-free shortcut (subsample, pad channels)."""

    def __init__(self, planes_in, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(planes_in, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.grow = planes - planes_in

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grow:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grow // 2, self.grow // 2))
        y += x
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    def __init__(self, planes=(4, 8), blocks=1, classes=5, side=8):
        super().__init__()
        self.conv1 = nn.Conv2d(3, planes[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        before = planes[0]
        for k, width in enumerate(planes, start=1):
            stages = [Block(before if j == 0 else width, width, 1 + (j == 0 and k > 1)) for j in range(blocks)]
            setattr(self, f"layer{k}", nn.Sequential(*stages))
            before = width
        self.depth, self.linear = len(planes), nn.Linear(before, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for k in range(1, self.depth + 1):
            x = getattr(self, f"layer{k}")(x)
        x = F.avg_pool2d(x, x.size()[3])
        return self.linear(x.view(x.size(0), -1))


def trained_statistics():
    net = seeded(ResNet)
    with torch.no_grad():
        for _ in range(3):
            net(2 * normal(8, 3, 8, 8) + 1)
        for norm in net.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight.copy_(1 + 0.5 * normal(norm.num_features, seed=9))
                norm.bias.copy_(normal(norm.num_features, seed=5))
    return net


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(1, 6, 2, 2)
        self.norm, self.group = nn.LayerNorm(6), nn.GroupNorm(2, 16)
        self.tokens, self.channels = nn.Linear(16, 16), nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = x + F.gelu(self.tokens(self.norm(x).transpose(1, 2))).transpose(1, 2)
        x = self.group(x + F.silu(self.channels(x)))
        return self.head(x.mean(1))


class TextClassifier(nn.Module):
    """Embedding, positions as integer buffer, class token, self-attention written by hand and by module."""

    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(11, 8), nn.Embedding(6, 8)
        self.register_buffer("position_ids", torch.arange(6))
        self.cls = nn.Parameter(torch.zeros(1, 1, 8))
        self.qkv, self.attention = nn.Linear(8, 24), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        x = self.embed(tokens) + self.places(self.position_ids)
        x = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), x], dim=1)
        q, k, v = self.qkv(x).view(x.shape[0], 7, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape[0], 7, 8)
        x = x + self.attention(x, x, x)[0]
        return self.head(x[:, 0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Branches(nn.Module):
    """Concatenation, constants in the code, arithmetic with numbers, chunks, a shared input of a batch norm."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(8, 3)
        self.bn = nn.BatchNorm1d(4, affine=False)
        self.bn.running_mean += 0.3
        self.bn.running_var *= 2.5

    def forward(self, x):
        a, b = self.a(x), self.b(x).clamp(min=-1)
        left, right = torch.cat([self.bn(a), a * torch.tensor([1.0, 2.0, 0.5, -1.0])], 1).chunk(2, dim=-1)
        joined = torch.cat([left - 2 * b, 1 - right / 3], dim=1)
        return self.c(F.leaky_relu(joined, 0.2)) ** 2


class Largest(nn.Module):
    def forward(self, x):
        return x.max(1, keepdim=True)[0]


class Spread(nn.Module):
    """Statistics of each example by itself, and inputs of length 1."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        unit = F.normalize(x, dim=2) + x.norm(dim=(1, 2), keepdim=True)
        parts = [
            x.std(1),
            x.var(1, unbiased=False),
            torch.var(x, 1, correction=2),
            unit.std((1, 2), keepdim=True)[:, 0],
        ]
        return self.linear(sum(parts[:3]) + parts[3])


NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 3)), (4, 5)),
    "lenet": (LeNet5, (2, 1, 28, 28)),
    "resnet": (trained_statistics, (3, 3, 8, 8)),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, stride=2, padding=(2, 1), dilation=2, groups=2),
            nn.Hardswish(),
            nn.Conv2d(8, 8, 4, padding="same", groups=8),
            nn.ReLU6(),
            nn.InstanceNorm2d(8, affine=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LogSoftmax(1),
        ),
        (2, 4, 9, 9),
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3, bias=False),
            nn.BatchNorm1d(4),
            nn.ELU(),
            nn.MaxPool1d(2, ceil_mode=True),
            nn.AvgPool1d(2, padding=1),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        (3, 2, 13),
    ),
    "largest": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.AdaptiveMaxPool2d((4, 2)),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        ),
        (3, 2, 8, 10),
    ),
    "largest of sequences": (
        lambda: nn.Sequential(Largest(), nn.Conv1d(1, 4, 3), nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(8, 3)),
        (3, 5, 12),
    ),
    "gated": (
        lambda: nn.Sequential(nn.Conv1d(3, 8, 3), nn.GLU(1), nn.Flatten(), nn.Linear(24, 6), nn.GLU()),
        (3, 3, 8),
    ),
    "rms": (
        lambda: nn.Sequential(nn.RMSNorm((2, 6)), nn.RMSNorm(6, 1e-3, False), nn.Flatten(), nn.Linear(12, 3)),
        (3, 2, 6),
    ),
    "shuffled": (lambda: nn.Sequential(nn.Conv2d(2, 12, 3), nn.PixelShuffle(2), nn.Flatten()), (2, 2, 4, 6)),
    "spread": (Spread, (4, 5, 6)),
    "mixer": (Mixer, (2, 1, 8, 8)),
    "tied": (Tied, (4, 6)),
    "branches": (Branches, (4, 6)),
}


def build(name):
    factory, shape = NETWORKS[name]
    example = normal(*shape)
    net = seeded(factory)
    if any(isinstance(m, nn.LazyLinear) for m in net.modules()):
        net.eval()(example)
    return net, example


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_replay_equals_eager_at_another_batch_size(name):
    net, example = build(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    training = net.training
    network = capture(net, example)
    assert net.training == training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    x = normal(9, *example.shape[1:], seed=11)
    expected = net.eval()(x)
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))
    again = decode_architecture(network.architecture.to_json())
    assert again == network.architecture
    assert again.content_hash == network.architecture.content_hash
    assert torch.equal(again.forward(x, network.parameters), network(x))


def test_integer_tokens_embedding_and_attention():
    net = seeded(TextClassifier).eval()
    with torch.no_grad():
        net.cls.normal_(generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(2))
    network = capture(net, tokens)
    other = torch.randint(0, 11, (7, 6), generator=torch.Generator().manual_seed(3))
    assert torch.allclose(network(other), net(other), atol=1e-6)
    kinds = {spec.name: spec.kind for spec in network.architecture.parameters}
    assert kinds["embed.weight"] == "table"
    assert kinds["position_ids"] == "buffer"
    assert all(value.dtype == torch.float32 for name, value in network.parameters.items() if name != "position_ids")


def test_batch_norms_fold_and_weight_layers_are_named():
    network = capture(trained_statistics(), normal(3, 3, 8, 8))
    ops = {node.op for node in network.architecture.nodes}
    assert "affine_channel" not in ops
    layers = network.weight_layers
    assert [layer.weight for layer in layers][:2] == ["conv1.weight", "layer1.0.conv1.weight"]
    assert all(layer.bias is not None for layer in layers)
    assert len(network.report.folded) == 5


def test_batch_norm_with_a_shared_input_becomes_an_affine_channel():
    net, example = build("branches")
    network = capture(net, example)
    assert [node.op for node in network.architecture.nodes].count("affine_channel") == 1
    assert {"bn.scale", "bn.shift"} <= set(network.parameters)


def test_tied_weights_are_one_parameter():
    net, example = build("tied")
    network = capture(net, example)
    assert network.report.tied == ("b.weight = a.weight",)
    assert network.num_parameters == 36 + 6 + 6 + 18 + 3


def test_constants_in_the_code_become_parameters():
    net, example = build("branches")
    kinds = [spec.kind for spec in capture(net, example).architecture.parameters]
    assert kinds.count("buffer") == 1


def test_gradients_reach_input_and_parameters():
    net, example = build("mlp")
    network = capture(net, example)
    parameters = {name: value.clone().requires_grad_() for name, value in network.parameters.items()}
    x = example.clone().requires_grad_()
    network.architecture.forward(x, parameters).square().sum().backward()
    net.eval()(example).square().sum().backward()
    assert torch.allclose(parameters["0.weight"].grad, net[0].weight.grad, atol=1e-5)
    assert x.grad.abs().max() > 0


def test_activations_are_named_by_node():
    net, example = build("mlp")
    network = capture(net, example)
    values = network.architecture.activations(example, network.parameters)
    assert torch.allclose(values[network.weight_layers[0].node], net[0](example))
    assert list(values) == [node.name for node in network.architecture.nodes]


def test_plan_counts_bytes_and_operations():
    net, example = build("mlp")
    network = capture(net, example)
    plan = estimate_plan(network, num_samples=10, batch_size=4)
    assert plan.parameter_bytes == 4 * (5 * 7 + 7 + 7 * 3 + 3)
    # two linear maps (2 per multiply-add) and one activation of 7 entries
    assert sum(network.architecture.propagation.flops.values()) == 2 * 35 + 7 + 2 * 21
    assert plan.gradient_bytes == 4 * 4 * (5 + 7 + 7 + 3)


class Named(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 3), function

    def forward(self, x):
        return self.function(self, x)


def cumulated(self, x):
    return torch.sort(torch.fft.rfft(self.linear(x)).real, 1)[0]


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Named(cumulated)

    def forward(self, x):
        return self.inner(x)


def test_all_unsupported_operations_are_named_with_their_module():
    with pytest.raises(CaptureError) as caught:
        capture(Outer(), normal(2, 4))
    text = str(caught.value)
    assert "aten.fft_rfft.default in inner" in text
    assert "aten.sort.default in inner" in text


def raising(self, x):
    raise ValueError("my own complaint\nwith a second line")


REFUSALS = {
    "noise": (lambda self, x: self.linear(x) + torch.rand(3), "randomness left in eval mode"),
    "dropout": (lambda self, x: self.linear(F.dropout(x)), "randomness left in eval mode"),
    "shape": (lambda self, x: self.linear(x).sum(1), r"output \[batch, classes\]"),
    "raises": (raising, "my own complaint"),
    "batch mean": (lambda self, x: self.linear(x - x.mean(0)), "mixes samples"),
    "batch softmax": (lambda self, x: torch.softmax(self.linear(x), 0), "mixes samples"),
    "batch reshape": (lambda self, x: self.linear(x.t().reshape(-1, 4)), "mixes samples"),
    "fixed batch": (lambda self, x: self.linear(x.reshape(len(x), 4)), "batch size"),
    "one sample": (lambda self, x: self.linear(x) + self.linear(x[:1]), "part of the batch"),
    "gram": (lambda self, x: self.linear(x @ x.t() @ x), "mixes samples"),
    "cubic norm": (lambda self, x: self.linear(x / x.norm(p=3, dim=1, keepdim=True)), "a norm other than"),
    "batch variance": (lambda self, x: self.linear(x) / x.var(0)[:3], "depends on the batch size"),
    "variance of one": (
        lambda self, x: self.linear(x) + torch.nan_to_num(x[:, :1].var(1, keepdim=True)),
        "a variance of 1 numbers with a correction of 1",
    ),
    "places": (lambda self, x: self.linear(x) + x.sort(1)[1][:, :3], "one of several results"),
    "other samples": (lambda self, x: self.linear(x[x[:, 0].argsort()]), "indices|supported"),
    "running batch": (lambda self, x: self.linear(x.cumsum(0)), "mixes samples"),
    "turned batch": (lambda self, x: self.linear(x.flip(0)), "samples of a batch change places"),
    "sample numbers": (lambda self, x: self.linear(x) + torch.arange(x.shape[0])[:, None], "numbers of the samples"),
    "by a mask": (lambda self, x: self.linear(x[x[:, 0] > -9]), "chosen by a mask|supported"),
    "batch max": (lambda self, x: self.linear(x - x.max(0)[0]), "mixes samples"),
    "windows": (lambda self, x: F.adaptive_max_pool1d(self.linear(x)[:, None], 2)[:, 0], "windows of different sizes"),
    "statistics": (
        lambda self, x: F.batch_norm(self.linear(x), None, None, training=True),
        "samples see each other",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_refusals_say_why(name):
    function, words = REFUSALS[name]
    with pytest.raises(CaptureError, match=words) as caught:
        capture(Named(function), normal(5, 4))
    assert "\n" not in str(caught.value)


def test_one_score_for_two_classes_is_refused_with_what_to_return():
    with pytest.raises(CaptureError, match=r"torch\.stack\(\(torch\.zeros_like\(s\), s\), 1\)"):
        capture(Named(lambda self, x: self.linear(x)[:, 0]), normal(5, 4))


class Added(nn.Module):
    """A parametrization: a low-rank change of a full weight, or of one number."""

    def __init__(self, low_rank):
        super().__init__()
        self.first, self.second = (nn.Parameter(normal(*shape)) for shape in ((6, 1), (1, 4)))
        self.low_rank = low_rank

    def forward(self, weight):
        change = self.first @ self.second
        return weight + change if self.low_rank else weight * change

    def right_inverse(self, weight):
        return weight if self.low_rank else weight[:1, :1]


def parametrized(low_rank):
    return lambda layer: parametrize.register_parametrization(layer, "weight", Added(low_rank), unsafe=True)


PLAIN = {
    "pruned": lambda layer: prune.l1_unstructured(prune.random_unstructured(layer, "weight", 0.3), "weight", 5),
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "old weight norm": lambda layer: nn.utils.weight_norm(layer),
    "old spectral norm": nn.utils.spectral_norm,
    "low-rank change": parametrized(True),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", sorted(PLAIN))
def test_weights_that_are_computed_of_others_become_plain_ones(name):
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    seeded(lambda: PLAIN[name](net[0]))
    x, before = normal(5, 4), sorted(name for name, _ in net.named_parameters())
    net(x).sum().backward()  # what hooks compute now has gradients
    again = Recapture(net, x)
    for network in (capture(net, x), again(), again()):
        assert {key: tuple(value.shape) for key, value in network.parameters.items()} == {
            "0.weight": (6, 4), "0.bias": (6,), "2.weight": (3, 6), "2.bias": (3,)
        }  # fmt: skip
        assert torch.allclose(network(x), net.eval()(x), atol=1e-6)
    assert sorted(name for name, _ in net.named_parameters()) == before
    assert net[0].weight.shape == (6, 4)


def test_a_weight_of_fewer_numbers_stays_computed():
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)))
    parametrized(False)(net[0])
    assert "0.weight" not in capture(net, normal(5, 4)).parameters


def test_unused_parameters_are_named():
    net = Named(lambda self, x: self.linear(x))
    net.spare = nn.Linear(2, 2)
    with pytest.raises(CaptureError, match=r"spare\.weight, spare\.bias"):
        capture(net, normal(2, 4))


def test_weights_that_are_not_finite_are_named():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[2].bias[1] = float("nan")
    with pytest.raises(CaptureError, match=r"2\.bias"):
        capture(net, normal(2, 4))


def test_random_model_leaves_the_callers_generator_alone():
    net = Named(REFUSALS["noise"][0])
    state = torch.get_rng_state()
    with pytest.raises(CaptureError):
        capture(net, normal(4, 4))
    assert torch.equal(state, torch.get_rng_state())


def pretrained(*parts):
    root = os.environ.get("BITCERT_DATA")
    path = Path(root or "/nonexistent", "pretrained", *parts)
    if not path.exists():
        pytest.skip("set BITCERT_DATA to a folder with pretrained networks")
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "resnet56-4bfd9763.th"])
def test_pretrained_resnet_agrees_with_eager(name):
    state = pretrained("resnet_cifar10", name)["state_dict"]
    net = ResNet((16, 32, 64), 3 if "resnet20" in name else 9, 10)
    net.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    network = capture(net, normal(2, 3, 32, 32))
    x = normal(5, 3, 32, 32, seed=4)
    expected = net.eval()(x)
    assert torch.allclose(network(x), expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


def test_pretrained_lenet_agrees_with_eager():
    loaded = pretrained("lenet_mnist", "lenet5_sparse.pt")
    state = loaded.get("state_dict", loaded)
    net = LeNet5()
    net.load_state_dict(dict(zip(net.state_dict(), state.values(), strict=True)))
    network = capture(net, normal(2, 1, 28, 28).abs())
    x = normal(3, 1, 28, 28, seed=4).abs()
    assert torch.allclose(network(x), net(x), rtol=0, atol=1e-5 * float(net(x).detach().abs().max()))
    assert network.num_parameters == 431_080


@pytest.mark.parametrize("name", [*sorted(NETWORKS), "text"])
def test_every_network_also_computes_in_float64(name):
    if name == "text":
        net, example = seeded(TextClassifier), torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(2))
    else:
        net, example = build(name)
    network = capture(net, example)
    values = {key: value.double() for key, value in network.parameters.items()}
    x = example if name == "text" else example.double()
    double = network.architecture.forward(x, values)
    single = network(example)
    assert double.dtype == torch.float64
    assert torch.allclose(double, single.double(), rtol=0, atol=1e-5 * float(single.detach().abs().max()))
    assert not torch.equal(double, single.double()), "more digits than float32 has"
