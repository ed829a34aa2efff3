"""Operations added since the first release: equal to torch at another batch size and in float64, and decodable."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bitcert.decoder.description import architecture_bits, read_architecture
from bitcert.errors import DecodeError
from bitcert.network import capture
from bitcert.network.decode import decode_architecture
from bitcert.network.later_operations import LATER_OPERATIONS
from bitcert.network.operations import FIRST_OPERATIONS


class Net(nn.Module):
    """A function of some layers and the input."""

    def __init__(self, function, *layers):
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), function

    def forward(self, x):
        return self.function(self.layers, x)


def flat(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))


def causal(layers, x):
    mask = torch.triu(torch.ones(6, 6, dtype=torch.bool), 1)
    scores = (x @ x.transpose(1, 2)).masked_fill(mask, float("-inf"))
    return layers[0](scores.softmax(-1) @ x)[:, -1]


def rotary(layers, x):
    angle = torch.outer(torch.arange(6).float(), torch.tensor([1.0, 0.1]))
    turn = torch.cat([angle, angle], 1)
    half = torch.cat([-x[..., 2:], x[..., :2]], -1)
    return layers[0]((x * turn.cos() + half * turn.sin()).mean(1))


def picked(layers, x):
    """Entries at places that each sample has its own, in four ways."""
    place = x.argmax(2, keepdim=True)
    one = torch.gather(x, 1, place.expand(-1, -1, 4))[:, 0]
    two = x[torch.arange(x.shape[0]), x[:, :, 0].argmax(1) - 1]
    return layers[0](one + two + x[:, torch.tensor([2, 0])].sum(1) + x.max(2)[1])


def compared(layers, x):
    y = layers[0](x)
    chosen = torch.where((y > 0.1) & ~(y >= 1) | (y == 0), y, -y)
    return chosen + (x.abs().floor() % 2).sum(1, keepdim=True) + torch.cumsum(y, 1)


def rare(layers, x):
    parts = (
        F.logsigmoid(x),
        F.softsign(x),
        F.hardshrink(x),
        F.celu(x),
        x.square(),
        F.tanhshrink(x),
        x.flip(1).roll(1, 1),
    )
    return layers[0](sum(parts) / x.norm(p=1, dim=1, keepdim=True))


def products(layers, x):
    scores = torch.einsum("bij,bkj->bik", x, x).logsumexp(1)
    return layers[1](layers[0](scores, scores))


def last(layers, x):
    return layers[1](layers[0](x)[0][:, -1])


def end(layers, x):
    return layers[1](layers[0](x.transpose(0, 1))[1][-1])


weight_norm = torch.nn.utils.parametrizations.weight_norm
NETWORKS = {
    "causal": (lambda: Net(causal, nn.Linear(4, 3)), (3, 6, 4)),
    "rotary": (lambda: Net(rotary, nn.Linear(4, 3)), (3, 6, 4)),
    "picked": (lambda: Net(picked, nn.Linear(4, 3)), (5, 4, 4)),
    "compared": (lambda: Net(compared, nn.Linear(4, 3)), (5, 4)),
    "rare": (lambda: Net(rare, nn.Linear(4, 3)), (5, 4)),
    "products": (lambda: Net(products, nn.Bilinear(6, 6, 4), nn.Linear(4, 3)), (3, 6, 4)),
    "lstm": (lambda: Net(last, nn.LSTM(4, 5, batch_first=True, bidirectional=True), nn.Linear(10, 3)), (3, 2, 4)),
    "gru": (lambda: Net(end, nn.GRU(4, 5), nn.Linear(5, 3)), (3, 2, 4)),
    "rnn": (lambda: Net(last, nn.RNN(4, 5, batch_first=True), nn.Linear(5, 3)), (3, 4, 4)),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(4, 3))), (3, 4)),
    "responses": (lambda: flat(nn.Conv2d(1, 4, 3), nn.LocalResponseNorm(3)), (3, 1, 8, 8)),
    "resized": (
        lambda: flat(
            nn.Upsample(scale_factor=2),
            nn.Upsample(size=(7, 9), mode="bilinear"),
            nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True),
        ),
        (3, 2, 4, 4),
    ),
    "transposed": (
        lambda: flat(nn.ConvTranspose2d(2, 4, 3, 2, 1, 1, groups=2, dilation=1), nn.BatchNorm2d(4), nn.ReLU()),
        (3, 2, 5, 5),
    ),
    "volumes": (
        lambda: flat(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.MaxPool3d(2), nn.AvgPool3d(2)),
        (3, 2, 6, 6, 6),
    ),
    "borders": (
        lambda: flat(
            nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
            nn.ReplicationPad2d(1),
            nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        ),
        (3, 1, 6, 6),
    ),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_equal_to_torch_and_decodable(name):
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net, x = make().eval(), torch.randn(*shape)
        net(x)
        other = torch.randn(7, *shape[1:])
    network = capture(net, x)
    expected = net(other).detach()
    scale = float(expected.abs().max())
    assert torch.allclose(network(other), expected, rtol=0, atol=1e-5 * scale)
    double = {key: value.double() for key, value in network.parameters.items()}
    wide = network.architecture.forward(other.double(), double)
    assert wide.dtype == torch.float64
    assert torch.allclose(wide, expected.double(), rtol=0, atol=1e-5 * scale)
    assert decode_architecture(network.architecture.to_json()) == network.architecture
    described = read_architecture(np.packbits(architecture_bits(network.architecture)).tobytes(), shape[1:])
    assert [node.op for node in described.nodes] == [node.op for node in network.architecture.nodes]


def test_later_operations_have_numbers_of_their_own():
    assert len(FIRST_OPERATIONS) == 63
    assert not set(FIRST_OPERATIONS) & set(LATER_OPERATIONS)
    # appended to, never changed: a certificate's helper bits depend on the order
    assert list(LATER_OPERATIONS)[:3] == ["equal", "not_equal", "less"]
    assert list(LATER_OPERATIONS)[-1] == "pad_replicate"


def node(op, inputs, name="n", **attributes):
    return f'{{"attributes":{str(attributes).replace(chr(39), chr(34))},"inputs":{inputs},"name":"{name}","op":"{op}"}}'


MALFORMED = {
    "gather of a wrong axis": [("gather", '["input","input"]', {"dim": 7})],
    "where of two": [("where", '["input","input"]', {})],
    "full of nothing": [("full", "[]", {"shape": [0], "value": 1.0})],
    "full of a huge size": [("full", "[]", {"shape": [134217728, 134217728], "value": 1.0})],
    "full without a value": [("full", "[]", {"shape": [2]})],
    "resized beyond the limit": [("upsample_nearest", '["input"]', {"output_size": [134217728]})],
    "cumulated over the batch": [("cumsum", '["input"]', {"dim": 0})],
    "picked from other samples": [("take", '["input","input"]', {"dim": 0})],
    "filters that are none": [
        (
            "conv_transpose1d",
            '["input","w"]',
            {"stride": [1], "padding": [0], "output_padding": [0], "dilation": [1], "groups": 1},
        )
    ],
    "an operation of the future": [("not_yet", '["input"]', {})],
}


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_malformed_architectures_are_refused(name):
    nodes = ",".join(
        node(op, inputs, f"n{k}", **attributes) for k, (op, inputs, attributes) in enumerate(MALFORMED[name])
    )
    text = (
        '{"format":"bitcert-architecture/1","input_dtype":"float32","input_shape":[4],'
        f'"nodes":[{nodes}],"num_outputs":4,"parameters":[{{"kind":"weight","name":"w","shape":[3,2]}}]}}'
    )
    with pytest.raises(DecodeError) as caught:
        decode_architecture(text)
    assert "\n" not in str(caught.value)


class Padded(nn.Module):
    """A mask as older text models add it: the lowest float32 times one minus the mask."""

    def forward(self, x):
        return torch.softmax(x + (1.0 - (x > -0.5).float()) * torch.finfo(torch.float32).min, 1)


def test_a_mask_of_the_lowest_number_is_captured():
    x = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    network = capture(Padded(), x[:2])
    assert torch.allclose(network.architecture.forward(x, network.parameters), Padded()(x), atol=1e-6)
