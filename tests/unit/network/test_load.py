"""Weights files, factories and opaque modules."""

import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bitcert.errors import CaptureError, InputError
from bitcert.network import Predictor, capture, capture_opaque, load_model


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "nets_for_tests.py").write_text(
        "from torch.nn import BatchNorm1d, LazyLinear, Linear, ReLU, Sequential\n"
        "def lazy():\n    return Sequential(LazyLinear(4), ReLU(), LazyLinear(2))\n"
        "def normed():\n    return Sequential(Linear(3, 4), BatchNorm1d(4), Linear(4, 2))\n"
        "def small():\n    return Sequential(Linear(3, 4), ReLU(), Linear(4, 2))\n"
        "def broken():\n    raise KeyError('no such width')\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "nets_for_tests:small"
    sys.modules.pop("nets_for_tests", None)


def state():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()


def test_state_dicts_are_unwrapped(tmp_path, factory):
    weights = state()
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "w.pt")
    save_file(weights, tmp_path / "w.safetensors")
    wrapped = load_model(factory, tmp_path / "w.pt")
    assert len(wrapped.notes) == 2
    for loaded in (wrapped, load_model(factory, tmp_path / "w.safetensors")):
        assert torch.equal(loaded.model.state_dict()["2.weight"], weights["2.weight"])


def test_every_key_that_does_not_match_is_named(tmp_path, factory):
    weights = state()
    weights["spare"] = weights.pop("0.bias")
    weights["2.bias"] = torch.zeros(5)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"missing 0\.bias; unexpected spare; 2\.bias of shape \[5\] for \[2\]"):
        load_model(factory, tmp_path / "w.safetensors")


def test_weights_give_a_lazy_module_its_shapes(tmp_path, factory):
    save_file(state(), tmp_path / "w.safetensors")
    loaded = load_model("nets_for_tests:lazy", tmp_path / "w.safetensors").model
    assert capture(loaded, torch.zeros(2, 3)).num_parameters == 26


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_checkpoint_from_before_there_were_counters(tmp_path, factory, suffix):
    """Norms of PyTorch 0.4 had no num_batches_tracked; whatever else is missing is still named."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net[1].running_mean += 1.0
    weights = {key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    path = tmp_path / f"w.{suffix}"
    (torch.save if suffix == "pt" else save_file)(weights, path)
    loaded = load_model("nets_for_tests:normed", path).model
    assert torch.equal(loaded[1].running_mean, net[1].running_mean)
    assert int(loaded[1].num_batches_tracked) == 0
    del weights["1.running_var"]
    (torch.save if suffix == "pt" else save_file)(weights, path)
    with pytest.raises(InputError, match=r"got missing 1\.running_var;"):
        load_model("nets_for_tests:normed", path)


@pytest.mark.parametrize("spec", ["nets_for_tests:absent", "nets_for_tests:broken", "nets_for_tests:number", "resnet"])
def test_unusable_specifications_are_refused(factory, spec):
    with pytest.raises(InputError):
        load_model(spec)


class Hook:
    """Anything torch.load(weights_only=True) must not build."""


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pt", Hook()), ("b.pt", [1, 2]), ("c.pt", {"a": 1}), ("d.pt", b"junk"), ("e.safetensors", b"junk")],
)
def test_unusable_weights_are_refused(tmp_path, factory, name, content):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError):
        load_model(factory, path)
    with pytest.raises(InputError):
        load_model(factory, tmp_path / "missing.safetensors")


class Unexportable(nn.Module):
    """Python control flow on values; tied weights; an integer buffer."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("steps", torch.tensor(2))

    def forward(self, x):
        rows = []
        for row in x:
            for _ in range(int(row[0] > 0) + int(self.steps)):
                row = torch.tanh(self.b(self.a(row)))
            rows.append(row)
        return self.head(self.norm(torch.stack(rows)))


def example():
    return torch.linspace(-2, 2, 20).reshape(5, 4)


def test_a_module_that_cannot_be_exported_is_an_opaque_predictor():
    net = Unexportable()
    with pytest.raises(CaptureError, match="opaque"):
        capture(net, example())
    opaque, values = capture_opaque(net, "package.module:factory", example())
    assert isinstance(opaque, Predictor)
    assert opaque.aliases == {"b.weight": "a.weight"}
    assert opaque.dtypes == {"steps": torch.int64}
    assert "norm.num_batches_tracked" not in values
    assert {"norm.running_mean", "norm.running_var"} <= {spec.name for spec in opaque.parameters}
    assert torch.equal(opaque.forward(example(), values), net.eval()(example()))
    values["a.weight"] = values["a.weight"] + 1
    assert not torch.equal(opaque.forward(example(), values), net(example()))


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x - x.mean(0))


def test_opaque_modules_must_be_deterministic_finite_and_separate():
    with pytest.raises(CaptureError, match="rest of the batch"):
        capture_opaque(Mixing(), "m:f", example())
    net = Unexportable()
    with torch.no_grad():
        net.head.bias[0] = float("inf")
    with pytest.raises(CaptureError, match=r"head\.bias"):
        capture_opaque(net, "m:f", example())
    with pytest.raises(CaptureError, match="randomness"):
        capture_opaque(nn.Sequential(Unexportable(), AlwaysDropout()), "m:f", example())


class AlwaysDropout(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)


def test_compressed_weights_are_refused_before_they_unfold(tmp_path, factory):
    """torch would unfold them: a megabyte of zeros takes a gigabyte."""
    torch.save({**state(), "0.weight": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as old, zipfile.ZipFile(tmp_path / "w.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"a compressed one of .* bytes that unfolds to 4,19"):
        load_model(factory, tmp_path / "w.pt")
