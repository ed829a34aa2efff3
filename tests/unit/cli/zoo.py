"""Small networks as tutorials and course notes write them, each with what becomes of it; torch alone is imported.

The file is copied into a user's folder as it is, so that ``zoo:lenet`` is a factory there. A test takes names and kinds
of data from :data:`ZOO`: ``image`` is ``[1, 8, 8]``, ``vector`` ``[10]``, ``sequence`` ``[20]`` for five
steps of four numbers, ``tokens`` ``[6]``
whole numbers below :data:`VOCABULARY`; there are three classes. What is stated of a network: ``captured`` (its layers
are seen), ``opaque`` (it can be certified as code only), or the words of the sentence that refuses it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = 3
VOCABULARY = 12
ZOO: dict[str, tuple[str, str]] = {}
"""Name of a factory -> kind of data, and ``captured``, ``opaque`` or words of a refusal."""


def animal(data: str, becomes: str = "captured"):
    """Enter a class into :data:`ZOO`."""

    def enter(kind):
        ZOO[kind.__name__] = data, becomes
        return kind

    return enter


@animal("vector")
class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(10, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


@animal("image")
class LeNetView(nn.Module):
    """``view`` with the batch size in it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2 = nn.Linear(24, 8), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 1)
        x = x.view(x.size(0), -1)[:, :24]
        return self.fc2(F.relu(self.fc1(x)))


@animal("image")
class LeNetFlat(nn.Module):
    """``view`` with a number of features in it, and dropout."""

    def __init__(self):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(1, 4, 3), nn.Dropout2d(0.2)
        self.fc = nn.Linear(4 * 3 * 3, CLASSES)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.drop(self.conv(x)), 2))
        x = x.view(-1, self.num_flat_features(x))
        return F.dropout(self.fc(x), training=self.training)

    def num_flat_features(self, x):
        size = 1
        for length in x.size()[1:]:
            size *= length
        return size


@animal("image")
class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AvgPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


@animal("image")
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.layers = nn.Conv2d(1, 4, 3, 1, 1), nn.Sequential(Block(4, 4), Block(4, 6, 2))
        self.linear = nn.Linear(6, CLASSES)

    def forward(self, x):
        out = self.layers(F.relu(self.conv(x)))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


@animal("image")
class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, 2, 1)
        self.depthwise, self.pointwise = nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = F.relu6(self.pointwise(F.hardswish(self.depthwise(self.stem(x)))))
        return self.head(F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1))


@animal("image")
class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.three = nn.Conv2d(1, 3, 1), nn.Conv2d(1, 3, 3, padding=1)
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(1, 2, 1))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = torch.cat([self.one(x), self.three(x), self.pool(x)], 1)
        return self.fc(F.relu(x).mean([2, 3]))


@animal("image")
class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)
        self.fc1, self.fc2, self.head = nn.Linear(6, 3), nn.Linear(3, 6), nn.Linear(6, CLASSES)

    def forward(self, x):
        x = F.silu(self.conv(x))
        b, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        y = torch.sigmoid(self.fc2(F.relu(self.fc1(y)))).view(b, c, 1, 1)
        return self.head((x * y.expand_as(x)).amax((2, 3)))


@animal("sequence")
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 5, 4))
        layer = nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.encoder(x.view(-1, 5, 4) + self.position)[:, 0])


@animal("sequence")
class Attention(nn.Module):
    """Written out, with a mask made of ``torch.tril`` in a buffer."""

    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, CLASSES)
        self.register_buffer("mask", torch.zeros(5, 5) - 1e9 * torch.triu(torch.ones(5, 5), 1))

    def forward(self, x):
        x = x.view(x.size(0), 5, 4)
        b, t, c = x.shape
        q, k, v = (part.view(b, t, 2, c // 2).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        scores = q @ k.transpose(-2, -1) / 2**0.5 + self.mask
        x = (scores.softmax(dim=-1) @ v).transpose(1, 2).contiguous().view(b, t, c)
        return self.head(x.mean(dim=1))


@animal("sequence")
class Recurrent(nn.Module):
    def __init__(self, cell=nn.RNN):
        super().__init__()
        self.cell, self.head = cell(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x):
        out, _ = self.cell(x.view(-1, 5, 4))
        return self.head(out[:, -1, :])


@animal("sequence")
class Lstm(Recurrent):
    """With a first state that is made for the batch."""

    def __init__(self):
        super().__init__(nn.LSTM)

    def forward(self, x):
        h0 = torch.zeros(1, x.size(0), 5).to(x.device)
        out, _ = self.cell(x.view(x.size(0), 5, 4), (h0, torch.zeros_like(h0)))
        return self.head(out[:, -1, :])


@animal("sequence")
class Gru(Recurrent):
    def __init__(self):
        super().__init__(nn.GRU)


@animal("tokens")
class TextClassifier(nn.Module):
    """Tokens come as numbers and are turned into indices."""

    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.Embedding(VOCABULARY, 5, padding_idx=0), nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.fc(self.embedding(x.long()).mean(dim=1))


@animal("vector")
class Functional(nn.Module):
    """Parameters of its own, used by functions."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(10, 6) * 0.3), nn.Parameter(torch.zeros(6))
        self.w2 = nn.Parameter(torch.randn(6, CLASSES) * 0.3)

    def forward(self, x):
        return torch.tanh(x @ self.w1 + self.b1).matmul(self.w2)


@animal("vector")
class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(10, 10) for _ in range(2)])
        self.heads = nn.ModuleDict({"main": nn.Linear(10, CLASSES)})
        self.activations = nn.ModuleDict(OrderedDict(relu=nn.ReLU(), elu=nn.ELU()))

    def forward(self, x):
        for layer, name in zip(self.layers, ("relu", "elu"), strict=True):
            x = x + self.activations[name](layer(x))
        return self.heads["main"](x)


@animal("vector")
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(10, 10), nn.Linear(10, 10), nn.Linear(10, CLASSES)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x)))))


@animal("sequence", "opaque")
class MadeInForward(nn.Module):
    """Constants that ``forward`` makes."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, CLASSES)

    def forward(self, x):
        x = x.unflatten(1, (5, 4))
        x = x + self.table(torch.arange(x.shape[1]))
        return self.head(torch.eye(5)[0] @ x)


@animal("vector")
class WeightNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.utils.parametrizations.weight_norm(nn.Linear(10, 6))
        self.fc2 = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.fc2(F.leaky_relu(self.fc1(x), 0.1))


@animal("vector")
class SpectralNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.utils.parametrizations.spectral_norm(nn.Linear(10, 6))
        self.fc2 = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


@animal("sequence", "opaque")
class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(4), nn.LayerNorm(4)
        self.tokens = nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 5))
        self.channels = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = x.reshape(len(x), 5, 4)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norm2(x))
        return self.head(x.mean(1))


@animal("sequence")
class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(5, 4, 6) * 0.3), nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.head(F.relu(torch.einsum("btc,tcd->bd", x.view(-1, 5, 4), self.weight)))


@animal("image", "opaque")
class LooksAtShape(nn.Module):
    """Python that decides by the shape of its input."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, x):
        if x.dim() == 4 and x.shape[1] == 1:
            x = x.squeeze(1)
        if x.shape[-1] != 8:
            x = F.interpolate(x[:, None], (8, 8))[:, 0]
        return self.fc(x.reshape(len(x), -1))


@animal("vector", "opaque")
class LooksAtValues(Mlp):
    """Python that decides by the numbers in its input."""

    def forward(self, x):
        if x.abs().max() > 1e6:
            x = x / 1e6
        return super().forward(x)


@animal("vector")
class Double(Mlp):
    def __init__(self):
        super().__init__()
        self.double()

    def forward(self, x):
        return super().forward(x.to(self.fc1.weight.dtype))


@animal("image")
class NeedsContiguous(nn.Module):
    """``view`` on its input as it comes."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(1, 4, 3), nn.Linear(4 * 62, CLASSES)

    def forward(self, x):
        if not x.is_contiguous():
            raise RuntimeError("the input must be contiguous")
        x = F.relu(self.conv(x.view(-1, 1, 64)))
        return self.fc(x.view(x.shape[0], -1))


@animal("vector", "return the logits only")
class DictOutput(Mlp):
    def forward(self, x):
        return {"logits": super().forward(x)}


@animal("vector", "return the logits only")
class TupleOutput(Mlp):
    def forward(self, x):
        return super().forward(x), x


@animal("vector", "batch of even size")
class EvenBatches(Mlp):
    def forward(self, x):
        if len(x) % 2:
            raise ValueError("expected a batch of even size")
        return super().forward(x)


@animal("vector", "more than one value")
class NoSingles(Mlp):
    """Fails for a single input, as batch norm does in training."""

    def forward(self, x):
        if float(x[0, 0]) > 1e6 or len(x) == 1:
            raise ValueError("expected more than one value per channel")
        return super().forward(x)


@animal("vector", "at most 20")
class SmallBatches(Mlp):
    """Works on the example and fails where errors are counted."""

    def forward(self, x):
        if float(x[0, 0]) > 1e6 or len(x) > 20:
            raise ValueError("expected a batch of at most 20")
        return super().forward(x)


@animal("vector")
class Truncating(Mlp):
    """A batch size in a branch that export settles for good."""

    def forward(self, x):
        if x.shape[0] == 0:
            return x.new_zeros(0, CLASSES)
        return super().forward(x)


@animal("vector", "No module named")
class ImportsLate(Mlp):
    def forward(self, x):
        import a_neighbour_of_the_zoo  # noqa: F401

        return super().forward(x)


@animal("vector", "needs a licence")
class Refuses(Mlp):
    def __init__(self):
        raise RuntimeError("this network needs a licence\nof two lines")


@animal("vector", "ends the program")
class Exits(Mlp):
    def __init__(self):
        raise SystemExit(0)


@animal("vector")
class OnlyEvaluates(Mlp):
    """Raises in training mode only."""

    def forward(self, x):
        if self.training:
            raise NotImplementedError("no training here")
        return super().forward(x)


@animal("vector", "uninitialized parameter")
class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.LazyLinear(6), nn.LazyLinear(CLASSES)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))


@animal("vector")
class NoParameters(nn.Module):
    def forward(self, x):
        return x[:, :CLASSES] * 2.0


@animal("vector")
class Frozen(Mlp):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)
